/*
 * whole_plan.c - the plan of a statement that is sent whole.
 *
 * One custom scan; above it, for rows of several shards that are locked in an order, a sort and a
 * limit; above that a materialisation for cursors that scroll. The plan is finished here, as
 * setrefs.c would leave it. It hides nothing from the executor: all relations of the query are in
 * the plan's range table for permissions and locks, and everything that the text depends on
 * invalidates it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planmain.h"

#include "router/planner.h"
#include "router/ship.h"
#include "router/whole.h"
#include "router/wire.h"

/*
 * Less than any plan that takes rows apart, and the same however many shards: a generic plan is as
 * good as one for these values.
 */
#define WHOLE_COST 50.0

static bool
entries_walker(Node *node, List **entries)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION)
		{
			RangeTblEntry *copy = makeNode(RangeTblEntry);

			memcpy(copy, rte, sizeof(*copy));
			copy->securityQuals = NIL;
			*entries = lappend(*entries, copy);
		}
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, entries_walker, entries,
								 QTW_EXAMINE_RTES_BEFORE | QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, entries_walker, entries);
}

/*
 * The rows as shards return them: columns of a range table entry that exists for their names in
 * EXPLAIN. Those that only the order needs are among them when it is made here.
 */
static List *
returned_columns(A67Whole *whole, List **rtable)
{
	Query *query = whole->query;
	List *output = query->commandType == CMD_SELECT ? query->targetList : query->returningList;
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List *columns = NIL;
	ListCell *cell;

	rte->rtekind = RTE_SUBQUERY;
	rte->eref = makeAlias("remote", NIL);
	*rtable = lappend(*rtable, rte);
	foreach(cell, output)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);
		AttrNumber resno = list_length(columns) + 1;
		TargetEntry *column = flatCopyTargetEntry(tle);

		if (tle->resjunk && !whole->ordered)
			continue;
		rte->eref->colnames =
			lappend(rte->eref->colnames, makeString(tle->resname ? tle->resname : "?column?"));
		column->expr =
			(Expr *) makeVar(list_length(*rtable), resno, exprType((Node *) tle->expr),
							 exprTypmod((Node *) tle->expr), exprCollation((Node *) tle->expr), 0);
		column->resno = resno;
		columns = lappend(columns, column);
	}
	return columns;
}

static List *
planned_exprs(List *exprs)
{
	List *planned = NIL;
	ListCell *cell;

	foreach(cell, exprs)
		planned = lappend(planned, expression_planner(copyObject(lfirst(cell))));
	return planned;
}

/* A node above the scan passes on what comes from below. */
static Plan *
above(Plan *plan)
{
	Plan *below = plan->lefttree;
	List *columns = NIL;
	ListCell *cell;

	foreach(cell, below->targetlist)
	{
		TargetEntry *column = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		column->expr = (Expr *) makeVar(OUTER_VAR, column->resno, exprType((Node *) column->expr),
										exprTypmod((Node *) column->expr),
										exprCollation((Node *) column->expr), 0);
		columns = lappend(columns, column);
	}
	plan->targetlist = columns;
	plan->startup_cost = below->startup_cost;
	plan->total_cost = below->total_cost;
	plan->plan_rows = below->plan_rows;
	plan->plan_width = below->plan_width;
	return plan;
}

static Plan *
put_in_order(Query *query, Plan *plan)
{
	if (query->sortClause != NIL)
		plan = above((Plan *) make_sort_from_sortclauses(query->sortClause, plan));
	if (query->limitCount != NULL || query->limitOffset != NULL)
	{
		Expr *offset = expression_planner((Expr *) copyObject(query->limitOffset));
		Expr *count = expression_planner((Expr *) copyObject(query->limitCount));

		plan = above((Plan *) make_limit(plan, (Node *) offset, (Node *) count, query->limitOption,
										 0, NULL, NULL, NULL));
	}
	return plan;
}

/* ---- the statement that is sent ---- */

bool
a67_has_param(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, Param) || expression_tree_walker(node, a67_has_param, context);
}

/*
 * Keys that are constants, of the types that keys mostly have. Without them in it, the text of a
 * statement comes again, though a client writes its values into it.
 */
static List *
constant_keys(const A67Whole *whole)
{
	List *values = NIL;
	ListCell *cell;

	foreach(cell, whole->analysis->pins)
	{
		Expr *expr = ((A67Pin *) lfirst(cell))->expr;

		if (expr != NULL && IsA(expr, Const) && !((Const *) expr)->constisnull &&
			a67_wire_builtin(((Const *) expr)->consttype))
			values = lappend(values, expr);
	}
	return values;
}

/*
 * Whether this process has sent the text lately; what comes again is worth preparing. Two texts may
 * share a place: then one of them is prepared a little later.
 */
static bool
seen_before(const char *sql)
{
	static uint32 seen[256];
	uint32 hash = hash_bytes((const unsigned char *) sql, (int) strlen(sql));
	uint32 *place = &seen[hash % lengthof(seen)];
	bool again = *place == hash;

	*place = hash;
	return again;
}

static Plan *
remote_plan(A67Whole *whole, List **rtable)
{
	A67Shipment *shipment =
		a67_ship_with(whole->analysis->database, whole->part, constant_keys(whole));
	A67Remote *remote = &whole->remote;
	List *exprs = list_concat(planned_exprs(shipment->params), planned_exprs(whole->keys));
	List *columns = returned_columns(whole, rtable);
	CustomScan *scan;

	remote->sql = shipment->sql;
	remote->param_count = list_length(shipment->params);
	remote->key_count = list_length(whole->keys);
	remote->prepare = a67_has_param((Node *) exprs, NULL) || seen_before(remote->sql);
	scan = a67_custom_scan(remote, exprs, columns);
	scan->custom_relids = bms_make_singleton(list_length(*rtable));
	scan->scan.plan.startup_cost = WHOLE_COST / 2;
	scan->scan.plan.total_cost = WHOLE_COST;
	scan->scan.plan.plan_rows = remote->returns ? 1 : 0;
	scan->scan.plan.plan_width = 8 * list_length(columns);
	return &scan->scan.plan;
}

PlannedStmt *
a67_whole_plan(A67Whole *whole, int cursor_options)
{
	Query *query = whole->query;
	PlannedStmt *result = makeNode(PlannedStmt);
	bool row_security;

	entries_walker((Node *) query, &result->rtable);
	result->planTree = remote_plan(whole, &result->rtable);
	if (whole->ordered)
		result->planTree = put_in_order(query, result->planTree);
	if ((cursor_options & CURSOR_OPT_SCROLL) != 0)
		result->planTree = above(materialize_finished_plan(result->planTree));
	result->commandType = query->commandType;
	result->queryId = query->queryId;
	result->hasReturning = query->returningList != NIL;
	result->hasModifyingCTE = query->hasModifyingCTE;
	result->canSetTag = query->canSetTag;
	result->stmt_location = query->stmt_location;
	result->stmt_len = query->stmt_len;
	extract_query_dependencies((Node *) query, &result->relationOids, &result->invalItems,
							   &row_security);
	result->dependsOnRole = row_security;
	return result;
}
