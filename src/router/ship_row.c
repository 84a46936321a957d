/*
 * ship_row.c - makes a copy of a query say in text what it means as a tree.
 *
 * pg_get_querydef is made for what a user wrote. After rewriting, a query has subqueries without
 * names (they were views), whole rows of tables whose row type shards do not share, defaults in the
 * target list of INSERT … SELECT, and perhaps a CTE named like a table, for which the table would
 * be written with the name of the local schema. All of it is changed in place.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "router/ship_part.h"

bool
a67_ship_has_dropped(Oid relid)
{
	Relation relation = table_open(relid, NoLock);
	TupleDesc desc = RelationGetDescr(relation);
	bool dropped = false;

	for (int i = 0; i < desc->natts && !dropped; i++)
		dropped = TupleDescAttr(desc, i)->attisdropped;
	table_close(relation, NoLock);
	return dropped;
}

/* ---- whole rows ---- */

typedef struct WholeRows
{
	Query *query;
	int depth;
	Bitmapset *found;
} WholeRows;

static bool
whole_rows_walker(Node *node, WholeRows *rows)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if ((int) var->varlevelsup == rows->depth && var->varattno == InvalidAttrNumber &&
			rt_fetch(var->varno, rows->query->rtable)->rtekind == RTE_RELATION)
		{
			var->vartype = RECORDOID;
			rows->found = bms_add_member(rows->found, var->varno);
		}
		return false;
	}
	if (IsA(node, OnConflictExpr))
	{
		/* Its list of what "excluded" can give has the whole row, wanted or not. */
		OnConflictExpr *conflict = (OnConflictExpr *) node;

		return whole_rows_walker((Node *) conflict->onConflictSet, rows) ||
			   whole_rows_walker(conflict->onConflictWhere, rows);
	}
	if (IsA(node, Query))
	{
		rows->depth++;
		query_tree_walker((Query *) node, whole_rows_walker, rows, 0);
		rows->depth--;
		return false;
	}
	return expression_tree_walker(node, whole_rows_walker, rows);
}

/*
 * The entry becomes a subquery of all its columns, which have the names and the order that they
 * have here.
 */
static void
columns_of_table(RangeTblEntry *rte)
{
	Query *inner = makeNode(Query);
	RangeTblEntry *table = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	Relation relation = table_open(rte->relid, NoLock);
	TupleDesc desc = RelationGetDescr(relation);

	memcpy(table, rte, sizeof(*table));
	table->alias = NULL;
	table->eref = makeAlias(RelationGetRelationName(relation), NIL);
	table->lateral = false;
	ref->rtindex = 1;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		Var *var = makeVar(1, i + 1, column->atttypid, column->atttypmod, column->attcollation, 0);

		inner->targetList =
			lappend(inner->targetList,
					makeTargetEntry((Expr *) var, i + 1, pstrdup(NameStr(column->attname)), false));
		table->eref->colnames =
			lappend(table->eref->colnames, makeString(pstrdup(NameStr(column->attname))));
	}
	table_close(relation, NoLock);
	inner->commandType = CMD_SELECT;
	inner->canSetTag = true;
	inner->rtable = list_make1(table);
	inner->jointree = makeFromExpr(list_make1(ref), NULL);
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = inner;
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->inh = false;
	rte->requiredPerms = 0;
}

static void
write_out_whole_rows(Query *query)
{
	WholeRows rows = {.query = query, .depth = 0, .found = NULL};
	int varno = -1;

	query_tree_walker(query, whole_rows_walker, &rows, 0);
	while ((varno = bms_next_member(rows.found, varno)) >= 0)
		columns_of_table(rt_fetch(varno, query->rtable));
}

/* ---- INSERT … SELECT ---- */

/* Whether the target list is just what the SELECT gives. */
static bool
insert_is_plain(Query *query, int varno, RangeTblEntry *source)
{
	AttrNumber next = 1;
	ListCell *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);
		Var *var = (Var *) tle->expr;

		if (tle->resjunk)
			continue;
		if (!IsA(var, Var) || (int) var->varno != varno || var->varattno != next++)
			return false;
	}
	if (source->rtekind == RTE_VALUES)
		return next - 1 == list_length(linitial_node(List, source->values_lists));
	return next - 1 == ExecCleanTargetListLength(source->subquery->targetList);
}

static bool
renumber_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		((Var *) node)->varno = 1;
		((Var *) node)->varnosyn = 1;
	}
	return expression_tree_walker(node, renumber_walker, context);
}

static Alias *
numbered_columns(const char *name, int count)
{
	List *names = NIL;

	for (int i = 1; i <= count; i++)
		names = lappend(names, makeString(psprintf("column%d", i)));
	return makeAlias(name, names);
}

/*
 * INSERT INTO t SELECT … with defaults beside it becomes INSERT INTO t SELECT s.a, default, … FROM
 * (SELECT …) s.
 */
static void
wrap_insert_source(Query *query)
{
	RangeTblRef *ref;
	RangeTblEntry *source;
	RangeTblEntry *inner;
	Query *outer;
	AttrNumber resno = 0;
	ListCell *cell;

	if (list_length(query->jointree->fromlist) != 1)
		return;
	ref = linitial_node(RangeTblRef, query->jointree->fromlist);
	source = rt_fetch(ref->rtindex, query->rtable);
	if ((source->rtekind != RTE_SUBQUERY && source->rtekind != RTE_VALUES) ||
		insert_is_plain(query, ref->rtindex, source))
		return;
	outer = makeNode(Query);
	outer->commandType = CMD_SELECT;
	outer->canSetTag = true;
	foreach(cell, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);
		Expr *expr = copyObject(tle->expr);
		char *name = psprintf("column%d", ++resno);

		renumber_walker((Node *) expr, NULL);
		outer->targetList = lappend(outer->targetList, makeTargetEntry(expr, resno, name, false));
		tle->expr = (Expr *) makeVar(ref->rtindex, resno, exprType((Node *) expr),
									 exprTypmod((Node *) expr), exprCollation((Node *) expr), 0);
	}
	inner = copyObject(source);
	IncrementVarSublevelsUp((Node *) inner->subquery, 1, 1);
	IncrementVarSublevelsUp((Node *) inner->values_lists, 1, 0);
	inner->inFromCl = true;
	inner->alias = NULL;
	inner->eref = numbered_columns("s", list_length(source->eref->colnames));
	outer->rtable = list_make1(inner);
	source->eref = numbered_columns("source", resno);
	ref = makeNode(RangeTblRef);
	ref->rtindex = 1;
	outer->jointree = makeFromExpr(list_make1(ref), NULL);
	source->rtekind = RTE_SUBQUERY;
	source->subquery = outer;
	source->values_lists = NIL;
}

/* ---- names ---- */

static List *
output_names(Query *query)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);

		if (!tle->resjunk)
			names = lappend(names, makeString(tle->resname ? tle->resname : "?column?"));
	}
	return names;
}

static void
name_subqueries(Query *query)
{
	ListCell *cell;

	foreach(cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		/* Not the same object as in the query that was given. */
		rte->alias =
			rte->alias != NULL ? copyObject(rte->alias) : makeAlias(rte->eref->aliasname, NIL);
		if (!equal(output_names(rte->subquery), rte->eref->colnames))
			rte->alias->colnames = copyObject(rte->eref->colnames);
	}
}

typedef struct Rename
{
	const char *from;
	char *to;
	int depth;
} Rename;

static bool
rename_walker(Node *node, Rename *rename)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE && (int) rte->ctelevelsup == rename->depth &&
			strcmp(rte->ctename, rename->from) == 0)
		{
			rte->ctename = rename->to;
			if (rte->alias == NULL)
				rte->alias = makeAlias(rename->from, NIL);
		}
		return false;
	}
	if (IsA(node, Query))
	{
		rename->depth++;
		query_tree_walker((Query *) node, rename_walker, rename, QTW_EXAMINE_RTES_BEFORE);
		rename->depth--;
		return false;
	}
	return expression_tree_walker(node, rename_walker, rename);
}

/* No CTE keeps the name of a virtual table. */
static void
rename_ctes(Query *query, Oid schema)
{
	ListCell *cell;

	foreach(cell, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);
		Rename rename = {.from = cte->ctename, .to = cte->ctename, .depth = 0};

		while (OidIsValid(get_relname_relid(rename.to, schema)))
			rename.to = psprintf("%s_", rename.to);
		if (rename.to == rename.from)
			continue;
		query_tree_walker(query, rename_walker, &rename, QTW_EXAMINE_RTES_BEFORE);
		cte->ctename = rename.to;
	}
}

/* ---- all of it ---- */

typedef struct Prepare
{
	Oid schema;
} Prepare;

static bool
prepare_walker(Node *node, Prepare *prepare)
{
	Query *query = (Query *) node;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, prepare_walker, prepare);
	if (query->commandType == CMD_INSERT)
		wrap_insert_source(query);
	/* The target is not in FROM; that of a view was, in the view. */
	if (query->resultRelation > 0)
		rt_fetch(query->resultRelation, query->rtable)->inFromCl = false;
	write_out_whole_rows(query);
	rename_ctes(query, prepare->schema);
	name_subqueries(query);
	return query_tree_walker(query, prepare_walker, prepare, QTW_IGNORE_JOINALIASES);
}

void
a67_ship_prepare(const A67Database *database, Query *query)
{
	Prepare prepare = {.schema = database->schema_oid};

	prepare_walker((Node *) query, &prepare);
}
