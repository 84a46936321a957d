/*
 * ddl_name.c - DROP and RENAME on a virtual database; see ddl.h.
 *
 * The text for the shards is made from the parse tree: all there is in it are names. Indexes are known to the shards only, which
 * are asked who has one of the name, as a local table's are on one shard.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_type.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static const char *
quoted_last(const List *name)
{
	return quote_identifier(strVal(llast(name)));
}

static const char *
drop_tail(const DropStmt *statement)
{
	return statement->behavior == DROP_CASCADE ? " CASCADE" : "";
}

/*
 * Tables of all shards in one statement, as they may depend on each other; those of one shard in another. One that somebody
 * dropped on a shard by hand can still be dropped.
 */
static void
drop_tables(A67Ddl *ddl, DropStmt *statement)
{
	const A67Database *database = ddl->database;
	StringInfoData sql[A67_SHARDS_MAX];
	List *objects = NIL;
	ListCell *cell;
	int shard;

	for (shard = 0; shard < database->shard_count; shard++)
		initStringInfo(&sql[shard]);
	foreach(cell, statement->objects)
	{
		List *name = a67_ddl_full_name(ddl, lfirst_node(List, cell));
		const A67Table *table =
			a67_ddl_table(ddl, makeRangeVar(strVal(linitial(name)), strVal(lsecond(name)), -1),
						  AccessExclusiveLock, statement->missing_ok);
		Bitmapset *places = table == NULL ? NULL : a67_ddl_places(table);

		for (shard = -1; (shard = bms_next_member(places, shard)) >= 0;)
			appendStringInfo(&sql[shard], "%s %s",
							 sql[shard].len == 0 ? "DROP TABLE IF EXISTS" : ",", quoted_last(name));
		objects = lappend(objects, name);
	}
	statement->removeType = OBJECT_FOREIGN_TABLE;
	statement->objects = objects;
	a67_ddl_local(ddl, (Node *) statement);

	for (shard = 0; shard < database->shard_count; shard++)
	{
		Bitmapset *same = NULL;

		for (int other = shard; other < database->shard_count; other++)
		{
			if (sql[other].len > 0 && strcmp(sql[other].data, sql[shard].data) == 0)
				same = bms_add_member(same, other);
		}
		if (same == NULL)
			continue;
		a67_ddl_send(database, same, psprintf("%s%s", sql[shard].data, drop_tail(statement)));
		for (int other = -1; (other = bms_next_member(same, other)) >= 0;)
			if (other != shard)
				resetStringInfo(&sql[other]);
	}
}

typedef struct IndexPlaces
{
	Bitmapset *shards;
	char *table;
} IndexPlaces;

static void
note_shard(void *state, int shard, const char *value)
{
	IndexPlaces *places = state;

	places->shards = bms_add_member(places->shards, shard);
	places->table = pstrdup(value);
}

/*
 * Shards with an index of that name in the database's schema there; NULL when missing_ok and there is none. The virtual table is
 * locked first: who writes it holds locks on several shards, and would be waited for on one while he waits on another.
 */
static Bitmapset *
index_places(const A67Ddl *ddl, const char *name, LOCKMODE lock, bool missing_ok)
{
	IndexPlaces places = {NULL, NULL};
	char *sql =
		psprintf("SELECT t.relname::pg_catalog.text FROM pg_catalog.pg_class c, "
				 "pg_catalog.pg_namespace n, pg_catalog.pg_index i, pg_catalog.pg_class t WHERE "
				 "n.oid = c.relnamespace AND i.indexrelid = c.oid AND t.oid = i.indrelid AND "
				 "c.relname = %s AND n.nspname = %s",
				 quote_literal_cstr(name), quote_literal_cstr(ddl->database->remote_schema));

	a67_ddl_ask(ddl->database, a67_ddl_all(ddl->database), sql, note_shard, &places);
	if (places.shards == NULL)
		ereport(missing_ok ? NOTICE : ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg(missing_ok ? "index \"%s\" does not exist, skipping"
								   : "index \"%s\" does not exist",
						name)));
	else
		(void) RangeVarGetRelid(makeRangeVar(ddl->database->name, places.table, -1), lock, true);
	return places.shards;
}

static void
drop_indexes(A67Ddl *ddl, const DropStmt *statement)
{
	ListCell *cell;

	if (statement->concurrent)
		a67_ddl_refuse(ddl, -1, "DROP INDEX CONCURRENTLY is not supported for virtual tables",
					   "It cannot be part of a transaction; leave CONCURRENTLY out.");
	foreach(cell, statement->objects)
	{
		List *name = a67_ddl_full_name(ddl, lfirst_node(List, cell));
		Bitmapset *places =
			index_places(ddl, strVal(llast(name)), AccessExclusiveLock, statement->missing_ok);

		if (places != NULL)
			a67_ddl_send(ddl->database, places,
						 psprintf("DROP INDEX %s%s", quoted_last(name), drop_tail(statement)));
	}
}

/* CASCADE drops columns of the type: not shard keys. */
static void
check_key_type(const A67Ddl *ddl, const TypeName *name)
{
	Oid type = LookupTypeNameOid(NULL, name, true);
	Oid relid;

	if (OidIsValid(type) && a67_ddl_is_key_type(ddl->database, type, &relid))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop type \"%s\"", strVal(llast(name->names))),
				 errdetail("It is the type of the shard key of table \"%s\".", get_rel_name(relid)),
				 errhint("Drop the table first.")));
}

static void
drop_types(A67Ddl *ddl, DropStmt *statement)
{
	StringInfoData sql;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfo(&sql, "DROP %s %s", statement->removeType == OBJECT_TYPE ? "TYPE" : "DOMAIN",
					 statement->missing_ok ? "IF EXISTS " : "");
	foreach(cell, statement->objects)
	{
		TypeName *type = lfirst_node(TypeName, cell);

		type->names = a67_ddl_full_name(ddl, type->names);
		check_key_type(ddl, type);
		appendStringInfo(&sql, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 quoted_last(type->names));
	}
	a67_ddl_local(ddl, (Node *) statement);
	appendStringInfoString(&sql, drop_tail(statement));
	a67_ddl_send(ddl->database, a67_ddl_all(ddl->database), sql.data);
}

void
a67_ddl_drop(A67Ddl *ddl, DropStmt *statement)
{
	ListCell *cell;

	switch (statement->removeType)
	{
		case OBJECT_TABLE:
		case OBJECT_FOREIGN_TABLE:
			drop_tables(ddl, statement);
			break;
		case OBJECT_INDEX:
			drop_indexes(ddl, statement);
			break;
		case OBJECT_TYPE:
		case OBJECT_DOMAIN:
			drop_types(ddl, statement);
			break;
		case OBJECT_VIEW:
		case OBJECT_SEQUENCE:
			foreach(cell, statement->objects)
				lfirst(cell) = a67_ddl_full_name(ddl, lfirst_node(List, cell));
			a67_ddl_local(ddl, (Node *) statement);
			break;
		default:
			a67_ddl_refuse(ddl, -1,
						   psprintf("%s is not supported for virtual databases",
									CreateCommandName((Node *) statement)),
						   "Tables, indexes, views, sequences, enums and domains can be dropped.");
	}
}

/* The option follows the column. */
static void
rename_key_option(const A67Ddl *ddl, const RenameStmt *statement)
{
	AlterTableStmt *alter = makeNode(AlterTableStmt);
	AlterTableCmd *command = makeNode(AlterTableCmd);
	DefElem *option = makeDefElem(pstrdup("key"), (Node *) makeString(statement->newname), -1);

	option->defaction = DEFELEM_SET;
	command->subtype = AT_GenericOptions;
	command->def = (Node *) list_make1(option);
	alter->relation = copyObject(statement->relation);
	alter->cmds = list_make1(command);
	alter->objtype = OBJECT_FOREIGN_TABLE;
	a67_ddl_local(ddl, (Node *) alter);
}

static void
rename_in_table(A67Ddl *ddl, RenameStmt *statement)
{
	const A67Table *table =
		a67_ddl_table(ddl, statement->relation, AccessExclusiveLock, statement->missing_ok);
	const char *name = quote_identifier(statement->relation->relname);
	const char *to = quote_identifier(statement->newname);
	bool key;
	char *sql;

	if (table == NULL)
	{
		ereport(NOTICE,
				(errmsg("relation \"%s\" does not exist, skipping", statement->relation->relname)));
		return;
	}
	statement->relation->schemaname = ddl->database->name;
	if (statement->renameType == OBJECT_TABCONSTRAINT)
		sql = psprintf("ALTER TABLE %s RENAME CONSTRAINT %s TO %s", name,
					   quote_identifier(statement->subname), to);
	else if (statement->renameType == OBJECT_COLUMN)
	{
		key = table->key != 0 &&
			  strcmp(get_attname(table->relid, table->key, false), statement->subname) == 0;
		statement->relationType = OBJECT_FOREIGN_TABLE;
		a67_ddl_local(ddl, (Node *) statement);
		if (key)
			rename_key_option(ddl, statement);
		sql = psprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", name,
					   quote_identifier(statement->subname), to);
	}
	else
	{
		statement->renameType = OBJECT_FOREIGN_TABLE;
		a67_ddl_local(ddl, (Node *) statement);
		sql = psprintf("ALTER TABLE %s RENAME TO %s", name, to);
	}
	a67_ddl_send(ddl->database, a67_ddl_places(table), sql);
}

static void
rename_index(A67Ddl *ddl, const RenameStmt *statement)
{
	Bitmapset *places;

	a67_ddl_check_schema(ddl, statement->relation->schemaname, statement->relation->location);
	places = index_places(ddl, statement->relation->relname, ShareUpdateExclusiveLock,
						  statement->missing_ok);
	if (places != NULL)
		a67_ddl_send(ddl->database, places,
					 psprintf("ALTER INDEX %s RENAME TO %s",
							  quote_identifier(statement->relation->relname),
							  quote_identifier(statement->newname)));
}

static void
rename_type(A67Ddl *ddl, RenameStmt *statement)
{
	List *name = a67_ddl_full_name(ddl, castNode(List, statement->object));
	const char *what = statement->renameType == OBJECT_TYPE ? "TYPE" : "DOMAIN";
	const char *to = quote_identifier(statement->newname);

	statement->object = (Node *) name;
	a67_ddl_local(ddl, (Node *) statement);
	if (statement->renameType == OBJECT_DOMCONSTRAINT)
		to = psprintf("CONSTRAINT %s TO %s", quote_identifier(statement->subname), to);
	else
		to = psprintf("TO %s", to);
	a67_ddl_send(ddl->database, a67_ddl_all(ddl->database),
				 psprintf("ALTER %s %s RENAME %s", what, quoted_last(name), to));
}

void
a67_ddl_rename(A67Ddl *ddl, RenameStmt *statement)
{
	bool view = statement->renameType == OBJECT_VIEW || statement->renameType == OBJECT_SEQUENCE ||
				(statement->renameType == OBJECT_COLUMN && statement->relationType == OBJECT_VIEW);

	if (view)
	{
		a67_ddl_full_relation(ddl, statement->relation);
		a67_ddl_local(ddl, (Node *) statement);
		return;
	}
	switch (statement->renameType)
	{
		case OBJECT_TABLE:
		case OBJECT_FOREIGN_TABLE:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_COLUMN:
			rename_in_table(ddl, statement);
			break;
		case OBJECT_INDEX:
			rename_index(ddl, statement);
			break;
		case OBJECT_TYPE:
		case OBJECT_DOMAIN:
		case OBJECT_DOMCONSTRAINT:
			rename_type(ddl, statement);
			break;
		default:
			a67_ddl_refuse(ddl, -1, "this form of RENAME is not supported for virtual databases",
						   NULL);
	}
}
