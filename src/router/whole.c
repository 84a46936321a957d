/*
 * whole.c - statements that run on shards as they are, as plans that are one remote statement.
 *
 * A statement is sent whole when all its rows are on one shard; when every shard can answer or
 * change its part by itself and nothing is to be done with the parts together; when it reads
 * reference tables only (any shard); or when it changes the same rows of a reference table on all
 * shards. The shard of a key that is a parameter is found when the plan runs, so one generic plan
 * serves all keys. What the plan hides from the executor, it still checks and locks: all relations
 * of the query are in its range table.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "router/planner.h"
#include "router/ship.h"
#include "router/whole.h"

/* ---- which statements ---- */

/*
 * Whether an assignment leaves the row where it is: the key itself, or the value that the statement
 * finds the row by.
 */
static bool
keeps_key(Query *query, AttrNumber key, Expr *assigned, List *pins)
{
	Var *var;
	ListCell *cell;

	assigned = (Expr *) strip_implicit_coercions((Node *) assigned);
	var = (Var *) assigned;
	if (IsA(var, Var) && var->varlevelsup == 0 && var->varattno == key &&
		(int) var->varno == query->resultRelation)
		return true;
	foreach(cell, pins)
		if (equal(((A67Pin *) lfirst(cell))->expr, assigned))
			return true;
	return false;
}

static bool
moves_key(Query *query, List *targets, List *pins)
{
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	const A67Table *table = a67_table(rte->relid);
	ListCell *cell;

	foreach(cell, targets)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);

		if (table != NULL && table->key != 0 && !tle->resjunk && tle->resno == table->key &&
			!keeps_key(query, table->key, tle->expr, pins))
			return true;
	}
	return false;
}

static bool
has_triggers(Query *query)
{
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	Relation relation = table_open(rte->relid, NoLock);
	bool triggers = relation->trigdesc != NULL;

	table_close(relation, NoLock);
	return triggers;
}

/*
 * What only happens when rows pass through here, anywhere in the statement: triggers fire, rows
 * move.
 */
static bool
changed_here_walker(Node *node, List *pins)
{
	Query *query = (Query *) node;
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, changed_here_walker, pins);
	if (query->resultRelation > 0 && has_triggers(query))
		return true;
	if (query->commandType == CMD_UPDATE && moves_key(query, query->targetList, pins))
		return true;
	if (query->onConflict != NULL && moves_key(query, query->onConflict->onConflictSet, pins))
		return true;
	foreach(cell, query->mergeActionList)
	{
		MergeAction *action = lfirst_node(MergeAction, cell);

		if (action->commandType == CMD_UPDATE && moves_key(query, action->targetList, pins))
			return true;
	}
	return query_tree_walker(query, changed_here_walker, pins, QTW_IGNORE_JOINALIASES);
}

static bool
locks_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		if (((Query *) node)->rowMarks != NIL)
			return true;
		return query_tree_walker((Query *) node, locks_walker, context, QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, locks_walker, context);
}

/* The name of a reference table of which rows are locked against each other, or NULL. */
static bool
locks_copies_walker(Node *node, const char **name)
{
	Query *query = (Query *) node;
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, locks_copies_walker, name);
	foreach(cell, query->rowMarks)
	{
		RowMarkClause *mark = lfirst_node(RowMarkClause, cell);
		RangeTblEntry *rte = rt_fetch(mark->rti, query->rtable);
		const A67Table *table =
			rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE
				? a67_table(rte->relid)
				: NULL;

		if (table == NULL || table->strategy != A67_REFERENCE || mark->strength <= LCS_FORSHARE)
			continue;
		*name = rte->eref->aliasname;
		return true;
	}
	return query_tree_walker(query, locks_copies_walker, name, QTW_IGNORE_JOINALIASES);
}

/*
 * A row of a reference table is locked in one place for all (where_copies). A statement that reads
 * it beside other tables, wherever they are, would lock another copy, and two of them would not see
 * each other.
 */
static void
check_locks(Query *query)
{
	const char *name = NULL;

	if (locks_copies_walker((Node *) query, &name))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows of reference table \"%s\" cannot be locked together with those of "
						"other tables",
						name),
				 errhint(
					 "Name the tables to lock in FOR UPDATE OF, and lock the reference table in a "
					 "statement of its own; FOR SHARE is possible.")));
}

/* INSERT … VALUES has its own way, which computes defaults here and spreads rows. */
static bool
inserts_values(Query *query)
{
	ListCell *cell;

	if (query->commandType != CMD_INSERT)
		return false;
	foreach(cell, query->rtable)
		if (lfirst_node(RangeTblEntry, cell)->rtekind == RTE_SUBQUERY)
			return false;
	return true;
}

/* ---- where ---- */

/* The value of a pin, if planning can know it. */
static bool
pin_shard(const A67Pin *pin, ParamListInfo params, int *shard)
{
	PlannerInfo *root = makeNode(PlannerInfo);
	Node *value;

	*shard = pin->home;
	if (pin->expr == NULL)
		return true;
	root->glob = makeNode(PlannerGlobal);
	root->glob->boundParams = params;
	root->parse = makeNode(Query);
	value = eval_const_expressions(root, copyObject((Node *) pin->expr));
	if (!IsA(value, Const))
		return false;
	*shard = ((Const *) value)->constisnull
				 ? -1
				 : a67_shard_of_key(pin->table, ((Const *) value)->constvalue,
									((Const *) value)->consttype);
	return true;
}

static List *
shard_ids(const A67Database *database, Bitmapset *shards)
{
	List *ids = NIL;
	int shard = -1;

	while ((shard = bms_next_member(shards, shard)) >= 0)
		ids = lappend_int(ids, database->shards[shard].shard_id);
	return ids;
}

static void
on_shard(A67Whole *whole, int shard)
{
	whole->remote.where = A67_WHERE_LIST;
	whole->remote.shard_ids = list_make1_int(whole->analysis->database->shards[shard].shard_id);
	whole->remote.strategy = "one shard";
}

/* Whether rows are inserted into a table that has no shard for some keys, anywhere in the query. */
static bool
places_rows_walker(Node *node, void *context)
{
	Query *query = (Query *) node;
	const A67Table *table;
	bool inserts;
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, places_rows_walker, context);
	inserts = query->commandType == CMD_INSERT;
	foreach(cell, query->mergeActionList)
		inserts |= lfirst_node(MergeAction, cell)->commandType == CMD_INSERT;
	if (inserts)
	{
		table = a67_table(rt_fetch(query->resultRelation, query->rtable)->relid);
		if (table != NULL && (table->strategy == A67_RANGE || table->strategy == A67_DIRECTORY))
			return true;
	}
	return query_tree_walker(query, places_rows_walker, context, QTW_IGNORE_JOINALIASES);
}

/*
 * False when two keys are known to be on different shards, or cannot be compared before the plan
 * runs.
 */
static bool
where_one(A67Whole *whole)
{
	A67Analysis *analysis = whole->analysis;
	A67Pin *pin = linitial(analysis->pins);
	bool placed = places_rows_walker((Node *) whole->query, NULL);
	int all = -1;
	int shard;
	ListCell *cell;

	if (!placed && list_length(analysis->pins) == 1 && pin->expr != NULL && !IsA(pin->expr, Const))
	{
		whole->remote.where = A67_WHERE_KEY;
		whole->remote.relid = pin->table->relid;
		whole->remote.strategy = "one shard";
		whole->remote.shard_ids = shard_ids(analysis->database, a67_shards_of_table(pin->table));
		whole->keys = list_make1(pin->expr);
		return true;
	}
	foreach(cell, analysis->pins)
	{
		if (!pin_shard(lfirst(cell), whole->params, &shard))
			return false;
		if (shard < 0 && placed)
			return false;
		if (shard < 0)
			continue;
		if (all >= 0 && all != shard)
			return false;
		all = shard;
	}
	/* No row anywhere has such a key: any shard says so. */
	on_shard(whole, all < 0 ? 0 : all);
	return true;
}

/* Parts are put together in any order, so nothing may depend on one. */
static bool
where_each(A67Whole *whole)
{
	A67Analysis *analysis = whole->analysis;
	Query *query = whole->part;

	if (bms_num_members(analysis->shards) <= 1)
	{
		on_shard(whole,
				 bms_is_empty(analysis->shards) ? 0 : bms_singleton_member(analysis->shards));
		return true;
	}
	if (query->hasModifyingCTE || (query->sortClause != NIL && !whole->ordered))
		return false;
	whole->remote.strategy = "each shard";
	whole->remote.shard_ids = shard_ids(analysis->database, analysis->shards);
	whole->remote.where = A67_WHERE_LIST;
	if (a67_has_param((Node *) analysis->quals, NULL))
	{
		whole->remote.where = A67_WHERE_PRUNE;
		whole->remote.quals = analysis->quals;
	}
	return true;
}

static bool
uncertain_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) || IsA(node, WindowFunc))
		return true;
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;

		return query->limitCount != NULL || query->limitOffset != NULL || query->hasDistinctOn ||
			   query_tree_walker(query, uncertain_walker, context, QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, uncertain_walker, context);
}

/*
 * Copies must stay equal: what depends on the order that a shard finds rows in is not run on each
 * by itself.
 */
static bool
where_copies(A67Whole *whole)
{
	Query *query = whole->query;
	Bitmapset *shards = a67_shards_of_table(whole->analysis->table);

	if (query->hasModifyingCTE)
		return false;
	if (query->commandType == CMD_SELECT)
	{
		whole->remote.shard_ids = shard_ids(whole->analysis->database, shards);
		whole->remote.where = A67_WHERE_ANY;
		whole->remote.strategy = "any shard";
		/* Locks count only if everybody takes them in the same place. */
		if (whole->remote.effect == A67_EFFECT_LOCK)
			on_shard(whole, 0);
		return true;
	}
	if (uncertain_walker((Node *) query, NULL) ||
		(query->onConflict != NULL && query->onConflict->action == ONCONFLICT_NOTHING) ||
		(query->commandType == CMD_UPDATE && list_length(query->jointree->fromlist) > 1))
		return false;
	whole->remote.where = A67_WHERE_LIST;
	whole->remote.shard_ids = shard_ids(whole->analysis->database, shards);
	whole->remote.copies = true;
	whole->remote.strategy = "all copies";
	return true;
}

static bool
find_shards(A67Whole *whole)
{
	whole->remote.relid = whole->analysis->table != NULL ? whole->analysis->table->relid
														 : linitial_oid(whole->analysis->relids);
	switch (whole->analysis->spread)
	{
		case A67_SPREAD_ONE:
			return where_one(whole);
		case A67_SPREAD_EACH:
			return where_each(whole);
		case A67_SPREAD_COPIES:
			return where_copies(whole);
		case A67_SPREAD_NONE:
		case A67_SPREAD_MIXED:
			break;
	}
	return false;
}

/* ---- rows that are locked in an order ---- */

/* LIMIT and OFFSET as each shard must be told: what is skipped may all come from one. */
static Node *
limit_of_part(Query *query)
{
	FuncExpr *sum;

	if (query->limitOffset == NULL || query->limitCount == NULL)
		return query->limitCount;
	sum = makeFuncExpr(F_INT8PL, INT8OID, list_make2(query->limitCount, query->limitOffset),
					   InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return eval_const_expressions(NULL, (Node *) sum);
}

/*
 * SELECT … ORDER BY … LIMIT n FOR UPDATE on several shards: each locks its first n rows, the first
 * n of all are returned. Some rows are locked for nothing until the transaction ends; none that is
 * returned is not.
 */
static bool
lock_in_order(A67Whole *whole)
{
	Query *query = whole->query;
	Query *part = copyObject(query);
	ListCell *cell;

	if (whole->remote.effect != A67_EFFECT_LOCK || query->limitOption == LIMIT_OPTION_WITH_TIES ||
		(query->sortClause == NIL && query->limitCount == NULL && query->limitOffset == NULL) ||
		checkExprHasSubLink((Node *) list_make2(query->limitCount, query->limitOffset)))
		return false;
	part->limitCount = NULL;
	part->limitOffset = NULL;
	part->sortClause = NIL;
	whole->analysis = a67_analyse(part, whole->params);
	if (whole->analysis->spread != A67_SPREAD_EACH)
		return false;
	part = copyObject(query);
	part->limitCount = limit_of_part(part);
	part->limitOffset = NULL;
	if (part->limitCount == NULL)
		part->sortClause = NIL;
	foreach(cell, part->targetList)
		lfirst_node(TargetEntry, cell)->resjunk = false;
	whole->part = part;
	whole->ordered = true;
	return where_each(whole);
}

/* ---- all of it ---- */

static A67Effect
effect_of(Query *query)
{
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		return A67_EFFECT_WRITE;
	return locks_walker((Node *) query, NULL) ? A67_EFFECT_LOCK : A67_EFFECT_READ;
}

/* What is not sent whole is done otherwise; only MERGE cannot be. */
static PlannedStmt *
refused(Query *query, const char *why)
{
	if (query->commandType == CMD_MERGE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("MERGE cannot be sent to one shard"),
				 why != NULL ? errdetail_internal("%s", _(why)) : 0,
				 errhint("Join source and target on the shard key, and give its value; or use "
						 "INSERT … ON CONFLICT.")));
	return NULL;
}

PlannedStmt *
a67_plan_whole(Query *query, int cursor_options, ParamListInfo params)
{
	A67Whole whole = {.query = query, .params = params, .part = query};
	const char *obstacle;

	if (inserts_values(query) || query->commandType == CMD_UTILITY)
		return NULL;
	whole.remote.effect = effect_of(query);
	whole.remote.command = query->commandType;
	whole.remote.returns = query->commandType == CMD_SELECT || query->returningList != NIL;
	whole.remote.whole = true;
	whole.analysis = a67_analyse(query, params);
	if (whole.remote.effect == A67_EFFECT_LOCK && whole.analysis->spread != A67_SPREAD_COPIES)
		check_locks(query);
	if (whole.analysis->database == NULL || !(find_shards(&whole) || lock_in_order(&whole)))
		return refused(query, whole.analysis->reason);
	if (whole.remote.effect == A67_EFFECT_WRITE &&
		changed_here_walker((Node *) query, whole.analysis->pins))
		return refused(query, "A trigger of the table fires here, or its shard key is changed.");
	obstacle = a67_ship_obstacle(whole.analysis->database, whole.part);
	if (obstacle != NULL)
		return refused(query, obstacle);
	return a67_whole_plan(&whole, cursor_options);
}
