/*
 * planner.c - the hooks of the planner: in which order the ways to run a statement are tried.
 *
 * Nothing is decided here but that order. A statement that reads or changes no virtual table goes
 * straight to the planner that was there before.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"

#include "router/modify.h"
#include "router/planner.h"

static planner_hook_type previous_planner;
static set_rel_pathlist_hook_type previous_pathlist;

static bool concerns_entries(List *rtable);

static bool
concerns_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;

		return concerns_entries(query->rtable) ||
			   query_tree_walker(query, concerns_walker, NULL, QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, concerns_walker, NULL);
}

static bool
concerns_entries(List *rtable)
{
	ListCell *cell;

	foreach(cell, rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			a67_table(rte->relid) != NULL)
			return true;
	}
	return false;
}

/*
 * Whether a virtual table is in the query at any depth. Expressions are looked through only when
 * they can hold queries.
 */
static bool
concerns(Query *query)
{
	ListCell *cell;

	if (concerns_entries(query->rtable))
		return true;
	if (query->hasSubLinks)
		return concerns_walker((Node *) query, NULL);
	foreach(cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind == RTE_SUBQUERY && concerns(rte->subquery))
			return true;
	}
	foreach(cell, query->cteList)
		if (concerns((Query *) lfirst_node(CommonTableExpr, cell)->ctequery))
			return true;
	return false;
}

static PlannedStmt *
plan_before(Query *query, const char *query_string, int cursor_options, ParamListInfo params)
{
	if (previous_planner != NULL)
		return previous_planner(query, query_string, cursor_options, params);
	return standard_planner(query, query_string, cursor_options, params);
}

PlannedStmt *
a67_plan_query(Query *query, const char *query_string, int cursor_options, ParamListInfo params)
{
	PlannedStmt *plan;
	Query *original;

	if (!concerns(query))
		return plan_before(query, query_string, cursor_options, params);
	plan = a67_plan_whole(query, cursor_options, params);
	if (plan == NULL && query->hasModifyingCTE)
		a67_modify_check(query);
	if (plan == NULL && query->commandType == CMD_INSERT)
		plan = a67_plan_insert(query, query_string, cursor_options, params);
	if (plan != NULL)
		return plan;
	original = copyObject(query);
	if (!a67_combine(query, params))
		return plan_before(query, query_string, cursor_options, params);
	plan = plan_before(query, query_string, cursor_options, params);
	a67_combine_finish(plan, original);
	return plan;
}

static void
add_paths(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	if (previous_pathlist != NULL)
		previous_pathlist(root, rel, rti, rte);
	if (rte->rtekind == RTE_FUNCTION)
		a67_combine_paths(root, rel, rti, rte);
}

void
a67_router_install(void)
{
	a67_custom_register();
	previous_planner = planner_hook;
	planner_hook = a67_plan_query;
	previous_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_paths;
	a67_utility_install();
}
