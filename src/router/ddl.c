/*
 * ddl.c - runs definitions (CREATE TABLE, ALTER TABLE …) on a virtual database: parses them, and hands each to its file.
 *
 * Called by a67.database_ddl and a67.table_create, which have checked whose database it is. All statements of one call are one
 * piece of the local transaction, and of the transactions on the shards that end with it: all or none. What cannot be part
 * of a transaction, or has no meaning for a table whose rows are on many shards, is refused with 0A000.
 *
 * The user's text is untrusted. Everything local runs as the owner of the virtual schema, with that schema alone in the search path,
 * and so that SET ROLE does nothing.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

void
a67_ddl_local(const A67Ddl *ddl, Node *statement)
{
	PlannedStmt *wrapper = makeNode(PlannedStmt);

	wrapper->commandType = CMD_UTILITY;
	wrapper->canSetTag = false;
	wrapper->utilityStmt = statement;
	wrapper->stmt_location = ddl->text->tokens[ddl->start].start;
	wrapper->stmt_len = ddl->text->tokens[ddl->end].start - wrapper->stmt_location;
	ProcessUtility(wrapper, ddl->text->source, false, PROCESS_UTILITY_QUERY, NULL, NULL,
				   None_Receiver, NULL);
	CommandCounterIncrement();
}

int
a67_ddl_position(const A67Ddl *ddl, int location)
{
	return location < 0 ? 0 : errposition(pg_mbstrlen_with_len(ddl->text->source, location) + 1);
}

void
a67_ddl_refuse(const A67Ddl *ddl, int location, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s", what),
					hint != NULL ? errhint("%s", hint) : 0, a67_ddl_position(ddl, location)));
	pg_unreachable();
}

void
a67_ddl_check_schema(const A67Ddl *ddl, const char *schema, int location)
{
	if (schema == NULL || strcmp(schema, ddl->database->name) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_SCHEMA_NAME),
			 errmsg("schema \"%s\" is not that of database \"%s\"", schema, ddl->database->name),
			 errhint("Leave the schema out: all of a database is in one."),
			 a67_ddl_position(ddl, location)));
}

const A67Table *
a67_ddl_table(const A67Ddl *ddl, const RangeVar *name, LOCKMODE lock, bool missing_ok)
{
	RangeVar *full = makeRangeVar(ddl->database->name, name->relname, name->location);
	const A67Table *table;
	Oid relid;

	if (name->catalogname != NULL &&
		strcmp(name->catalogname, get_database_name(MyDatabaseId)) != 0)
		a67_ddl_refuse(ddl, name->location, "cross-database references are not supported", NULL);
	a67_ddl_check_schema(ddl, name->schemaname, name->location);
	relid = RangeVarGetRelid(full, lock, true);
	if (!OidIsValid(relid))
	{
		if (missing_ok)
			return NULL;
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" does not exist", name->relname),
						a67_ddl_position(ddl, name->location)));
	}
	table = a67_table(relid);
	if (table == NULL || table->database->server_oid != ddl->database->server_oid)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a virtual table", name->relname),
						a67_ddl_position(ddl, name->location)));
	return table;
}

static void
truncate_tables(A67Ddl *ddl, TruncateStmt *statement)
{
	ListCell *cell;

	foreach(cell, statement->relations)
	{
		RangeVar *name = lfirst_node(RangeVar, cell);

		a67_ddl_table(ddl, name, AccessExclusiveLock, false);
		name->schemaname = ddl->database->name;
	}
	a67_ddl_local(ddl, (Node *) statement);
}

static void
alter_table(A67Ddl *ddl, AlterTableStmt *statement)
{
	if (statement->objtype != OBJECT_TABLE && statement->objtype != OBJECT_FOREIGN_TABLE)
		a67_ddl_refuse(ddl, -1,
					   psprintf("%s is not supported for virtual databases",
								CreateCommandName((Node *) statement)),
					   NULL);
	a67_ddl_alter_table(ddl, statement);
}

static const char *
refusal_hint(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateTableAsStmt:
			return "Create the table with its columns, then fill it with INSERT … SELECT.";
		case T_TransactionStmt:
			return "All statements of one call are one transaction already.";
		case T_CreateForeignTableStmt:
			return "Use CREATE TABLE.";
		case T_GrantStmt:
		case T_GrantRoleStmt:
		case T_CreateRoleStmt:
			return "Use a67.database_role_create.";
		case T_CreateSchemaStmt:
			return "All of a database is in one schema.";
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
			return "Use a67.database_query, or the virtual tables themselves.";
		default:
			return "Tables, indexes, views, sequences, enums and domains can be defined.";
	}
}

static void
run_statement(A67Ddl *ddl, Node *statement, bool only_create)
{
	if (only_create && !IsA(statement, CreateStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("definition must be CREATE TABLE"), errdetail("Field: definition.")));
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			a67_ddl_create_table(ddl, (CreateStmt *) statement);
			break;
		case T_AlterTableStmt:
			alter_table(ddl, (AlterTableStmt *) statement);
			break;
		case T_DropStmt:
			a67_ddl_drop(ddl, (DropStmt *) statement);
			break;
		case T_RenameStmt:
			a67_ddl_rename(ddl, (RenameStmt *) statement);
			break;
		case T_IndexStmt:
			a67_ddl_index(ddl, (IndexStmt *) statement);
			break;
		case T_TruncateStmt:
			truncate_tables(ddl, (TruncateStmt *) statement);
			break;
		case T_CreateEnumStmt:
		case T_AlterEnumStmt:
		case T_CreateDomainStmt:
		case T_AlterDomainStmt:
			a67_ddl_type(ddl, statement);
			break;
		case T_ViewStmt:
			a67_ddl_view(ddl, (ViewStmt *) statement);
			break;
		case T_CreateSeqStmt:
		case T_AlterSeqStmt:
			a67_ddl_sequence(ddl, statement);
			break;
		case T_CommentStmt:
			a67_ddl_comment(ddl, (CommentStmt *) statement);
			break;
		default:
			a67_ddl_refuse(ddl, -1,
						   psprintf("%s is not supported for virtual databases",
									CreateCommandName(statement)),
						   refusal_hint(statement));
	}
}

/* Positions are those in the text that the user gave to the function, not in the call of it. */
static void
place_error(void *sql)
{
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(sql);
	}
}

static Oid
schema_owner(Oid schema)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", schema);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The frame of the local half; ends with restore_frame, or with the (sub)transaction when something is raised. */
typedef struct Frame
{
	Oid user;
	int security;
	int nest_level;
} Frame;

static Frame
enter_frame(const A67Database *database)
{
	Frame frame;

	GetUserIdAndSecContext(&frame.user, &frame.security);
	frame.nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path",
							 psprintf("%s, pg_temp", quote_identifier(database->name)), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(schema_owner(database->schema_oid),
						   frame.security | SECURITY_LOCAL_USERID_CHANGE);
	return frame;
}

static void
leave_frame(const Frame *frame)
{
	AtEOXact_GUC(false, frame->nest_level);
	SetUserIdAndSecContext(frame->user, frame->security);
}

static void
run_all(A67Ddl *ddl, bool only_create, ReturnSetInfo *result)
{
	List *statements = raw_parser(ddl->text->source, RAW_PARSE_DEFAULT);
	ListCell *cell;

	if (statements == NIL || (only_create && list_length(statements) != 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						only_create ? errmsg("definition must be one statement")
									: errmsg("there is no statement in the text"),
						errdetail("Field: %s.", only_create ? "definition" : "sql")));
	foreach(cell, statements)
	{
		RawStmt *raw = lfirst_node(RawStmt, cell);
		Datum tag = CStringGetTextDatum(CreateCommandName(raw->stmt));
		bool null = false;

		ddl->start = a67_text_at(ddl->text, raw->stmt_location);
		ddl->end = raw->stmt_len == 0 ? ddl->text->count
									  : a67_text_at(ddl->text, raw->stmt_location + raw->stmt_len);
		ddl->primary = NIL;
		ddl->like = InvalidOid;
		run_statement(ddl, raw->stmt, only_create);
		tuplestore_putvalues(result->setResult, result->setDesc, &tag, &null);
	}
}

static const char *
optional_text(FunctionCallInfo fcinfo, int at)
{
	return PG_ARGISNULL(at) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(at));
}

PG_FUNCTION_INFO_V1(a67_sql_ddl_run);

/*
 * _ddl_run(server, sql, mode, strategy, key, mapping, shard, default_strategy, default_key) returns setof text: the command of
 * each statement. Mode "any"; "create": exactly one CREATE TABLE is allowed; "adopt": the same, for a table that the shards have.
 */
Datum
a67_sql_ddl_run(PG_FUNCTION_ARGS)
{
	char *server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *sql = text_to_cstring(PG_GETARG_TEXT_PP(1));
	A67DdlSpread spread = {
		.strategy = optional_text(fcinfo, 3),
		.key = optional_text(fcinfo, 4),
		.mapping = optional_text(fcinfo, 5),
		.shard = optional_text(fcinfo, 6),
		.default_strategy = optional_text(fcinfo, 7),
		.default_key = optional_text(fcinfo, 8),
	};
	A67Ddl ddl = {0};
	ErrorContextCallback context = {.previous = error_context_stack,
									.callback = place_error,
									.arg = sql};
	char *mode = text_to_cstring(PG_GETARG_TEXT_PP(2));
	Frame frame;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	ddl.database = a67_database_of_server(get_foreign_server_oid(server, false));
	ddl.spread = &spread;
	ddl.adopt = strcmp(mode, "adopt") == 0;
	frame = enter_frame(ddl.database);
	error_context_stack = &context;
	ddl.text = a67_text(sql);
	run_all(&ddl, strcmp(mode, "any") != 0, (ReturnSetInfo *) fcinfo->resultinfo);
	error_context_stack = context.previous;
	leave_frame(&frame);
	return (Datum) 0;
}
