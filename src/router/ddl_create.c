/*
 * ddl_create.c - CREATE TABLE on a virtual database; see ddl.h.
 *
 * Here it becomes a foreign table with the columns, and with sequences for those that draw from one; constraints other than NOT NULL
 * are the shards' to enforce, after it was made sure that each shard can do so alone.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "router/ddl_rule.h"
#include "router/key.h"

static void
refuse_kinds(const A67Ddl *ddl, const CreateStmt *statement)
{
	int at = statement->relation->location;

	if (statement->relation->relpersistence == RELPERSISTENCE_TEMP)
		a67_ddl_refuse(ddl, at, "virtual tables cannot be temporary",
					   "Temporary tables of the session itself can be joined with virtual ones.");
	if (statement->partspec != NULL || statement->partbound != NULL)
		a67_ddl_refuse(
			ddl, at, "virtual tables cannot be partitioned",
			"Their rows are spread over shards already; strategy range does so by ranges.");
	if (statement->inhRelations != NIL)
		a67_ddl_refuse(ddl, at, "virtual tables cannot inherit", NULL);
	if (statement->ofTypename != NULL)
		a67_ddl_refuse(ddl, at, "virtual tables cannot be of a composite type", NULL);
}

/* NOT NULL of primary keys is the only part of a table's constraints that is known here too. */
static void
note_not_null(List *columns, const List *names)
{
	ListCell *outer;
	ListCell *inner;

	foreach(outer, columns)
	{
		ColumnDef *column = lfirst_node(ColumnDef, outer);

		foreach(inner, names)
		{
			if (strcmp(strVal(lfirst(inner)), column->colname) == 0)
				column->is_not_null = true;
		}
	}
}

/* Splits the elements; returns what is done here, and in *constraints what is not. */
static List *
split_elements(A67Ddl *ddl, CreateStmt *statement, int at, List **constraints)
{
	A67Text *text = ddl->text;
	int close = a67_text_close(text, at, ddl->end) - 1;
	List *columns = NIL;
	ListCell *cell;

	at++;
	foreach(cell, statement->tableElts)
	{
		Node *element = lfirst(cell);
		int end = a67_text_find(text, at, close, ",");

		if (IsA(element, ColumnDef))
		{
			a67_ddl_column(ddl, (ColumnDef *) element, end, constraints);
			columns = lappend(columns, element);
		}
		else if (IsA(element, Constraint))
		{
			a67_ddl_strip_constraint(ddl, (Constraint *) element);
			*constraints = lappend(*constraints, element);
		}
		else
			columns = list_concat(columns, a67_ddl_like(ddl, castNode(TableLikeClause, element)));
		at = end + 1;
	}
	foreach(cell, *constraints)
	{
		const Constraint *constraint = lfirst_node(Constraint, cell);

		if (constraint->contype != CONSTR_PRIMARY)
			continue;
		note_not_null(columns, constraint->keys);
		ddl->primary = constraint->keys;
	}
	return columns;
}

static List *
option(List *options, const char *name, const char *value)
{
	if (value == NULL)
		return options;
	return lappend(options, makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
}

static Oid
create_local(const A67Ddl *ddl, const CreateStmt *statement, List *columns,
			 const A67DdlSpread *chosen)
{
	CreateForeignTableStmt *foreign = makeNode(CreateForeignTableStmt);
	RangeVar *name = makeRangeVar(ddl->database->name, statement->relation->relname,
								  statement->relation->location);

	foreign->base.type = T_CreateForeignTableStmt;
	foreign->base.relation = name;
	foreign->base.tableElts = columns;
	foreign->servername = psprintf("a67_%s", ddl->database->name);
	foreign->options = option(foreign->options, "strategy", chosen->strategy);
	foreign->options = option(foreign->options, "key", chosen->key);
	foreign->options = option(foreign->options, "mapping", chosen->mapping);
	foreign->options = option(foreign->options, "shard", chosen->shard);
	a67_ddl_local(ddl, (Node *) foreign);
	return RangeVarGetRelid(name, NoLock, false);
}

/* Before anybody takes the table for a virtual one that is well. */
static void
check_key(const A67Ddl *ddl, Oid relid, const A67DdlSpread *chosen)
{
	const char *why = NULL;
	int32 typmod;
	Oid type;
	Oid collation;

	if (chosen->key == NULL)
		return;
	get_atttypetypmodcoll(relid, get_attnum(relid, chosen->key), &type, &typmod, &collation);
	if (get_attgenerated(relid, get_attnum(relid, chosen->key)) != '\0')
		why = "It is computed from other columns.";
	else if (a67_key_supported(type, collation, &why) &&
			 (strcmp(chosen->strategy, "range") != 0 || a67_key_orderable(type, collation, &why)))
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("column \"%s\" of table \"%s\" cannot be a shard key", chosen->key,
						   get_rel_name(relid)),
					errdetail("%s", why)));
}

static void
create_remote(const A67Ddl *ddl, const A67Table *table, const CreateStmt *statement, int after,
			  bool key_not_null)
{
	Bitmapset *places = a67_ddl_places(table);
	const char *name = quote_identifier(statement->relation->relname);
	bool unlogged = statement->relation->relpersistence == RELPERSISTENCE_UNLOGGED;

	a67_ddl_send(table->database, places,
				 psprintf("CREATE %sTABLE %s %s", unlogged ? "UNLOGGED " : "", name,
						  a67_text_result(ddl->text, after, ddl->end)));
	if (table->key != 0 && !key_not_null)
		a67_ddl_send(table->database, places,
					 psprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", name,
							  quote_identifier(get_attname(table->relid, table->key, false))));
}

/* Whether the column is declared NOT NULL; if not, it is so here from now on. */
static bool
make_not_null(List *columns, const char *name)
{
	ListCell *cell;
	ListCell *inner;

	foreach(cell, columns)
	{
		ColumnDef *column = lfirst_node(ColumnDef, cell);

		if (name == NULL || strcmp(column->colname, name) != 0)
			continue;
		foreach(inner, column->constraints)
		{
			if (lfirst_node(Constraint, inner)->contype == CONSTR_NOTNULL)
				return true;
		}
		if (column->is_not_null)
			return true;
		column->is_not_null = true;
	}
	return false;
}

void
a67_ddl_create_table(A67Ddl *ddl, CreateStmt *statement)
{
	A67DdlSpread chosen;
	List *constraints = NIL;
	List *columns;
	ListCell *cell;
	const A67Table *table;
	bool key_not_null;
	Oid relid;
	int after;

	refuse_kinds(ddl, statement);
	a67_ddl_check_schema(ddl, statement->relation->schemaname, statement->relation->location);
	if (statement->if_not_exists &&
		OidIsValid(get_relname_relid(statement->relation->relname, ddl->database->schema_oid)))
	{
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists, skipping", statement->relation->relname)));
		return;
	}
	after = a67_text_after_name(ddl->text, a67_text_at(ddl->text, statement->relation->location),
								ddl->end);
	columns = split_elements(ddl, statement, after, &constraints);
	a67_ddl_choose(ddl, statement->relation, columns, &chosen);
	key_not_null = make_not_null(columns, chosen.key);

	relid = create_local(ddl, statement, columns, &chosen);
	check_key(ddl, relid, &chosen);
	a67_ddl_judge_relation(relid);
	a67_ddl_check_mapping(ddl, relid, &chosen);
	table = a67_table(relid);
	a67_ddl_check_like(ddl, table);
	if (ddl->adopt)
		return;
	foreach(cell, constraints)
		a67_ddl_check_constraint(ddl, table, lfirst_node(Constraint, cell));
	create_remote(ddl, table, statement, after, key_not_null);
}
