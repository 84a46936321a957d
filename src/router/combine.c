/*
 * combine.c - the levels of a query, of which shards compute what they can.
 *
 * Goes through a query from the outside in. A level that can be split (combine_split.c) becomes a query over the shards' answers; of any other,
 * the subqueries are looked at: in FROM, in CTEs, in expressions. Subqueries that refer to rows of outer ones stay as they are, but not
 * what is inside of them. What remains of virtual tables is scanned (fdw.c).
 */
#include "postgres.h"

#include "router/combine_part.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"

#include "router/planner.h"

typedef enum Place
{
	PLACE_TOP,
	PLACE_FROM, /* the planner can merge it with the level above */
	PLACE_CTE,
	PLACE_EXPRESSION,
} Place;

typedef struct Walk
{
	ParamListInfo params;
	bool changed;
} Walk;

static void combine_level(Walk *walk, Query *query, Place place);

/* Rows, and nothing done with them: the planner knows better how to join them with others. */
static bool
only_rows(Query *query)
{
	return !query->hasAggs && query->groupClause == NIL && query->groupingSets == NIL &&
		   query->distinctClause == NIL && query->windowClause == NIL &&
		   query->limitCount == NULL && query->limitOffset == NULL &&
		   query->setOperations == NULL && query->sortClause == NIL;
}

/* Of a subquery that is only asked whether it has rows. */
static void
ask_for_one(Query *query)
{
	if (query->commandType != CMD_SELECT || query->limitCount != NULL ||
		query->limitOffset != NULL || query->hasModifyingCTE || !a67_is_independent(query))
		return;
	query->limitCount = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(1),
										   false, FLOAT8PASSBYVAL);
	query->limitOption = LIMIT_OPTION_COUNT;
}

/* Subqueries in expressions of a level. */
static bool
sublinks_walker(Node *node, Walk *walk)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, SubLink))
	{
		SubLink *sublink = (SubLink *) node;

		if (sublink->subLinkType == EXISTS_SUBLINK)
			ask_for_one((Query *) sublink->subselect);
		combine_level(walk, (Query *) sublink->subselect, PLACE_EXPRESSION);
		return sublinks_walker(sublink->testexpr, walk);
	}
	return expression_tree_walker(node, sublinks_walker, walk);
}

/* The columns of a query as what DISTINCT compares. */
static List *
distinct_clause(Query *query)
{
	List *clauses = NIL;
	Index ref = 0;
	ListCell *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst(lc);
		SortGroupClause *clause = makeNode(SortGroupClause);

		get_sort_group_operators(exprType((Node *) entry->expr), false, true, false,
								 &clause->sortop, &clause->eqop, NULL, &clause->hashable);
		entry->ressortgroupref = clause->tleSortGroupRef = ++ref;
		clauses = lappend(clauses, clause);
	}
	return clauses;
}

/* Shards leave out what is in a branch twice; what comes from several of them is left to the operation. */
static void
split_once(Walk *walk, Query *branch)
{
	Query *copy = copyObject(branch);

	if (!only_rows(branch) || branch->commandType != CMD_SELECT || branch->hasModifyingCTE ||
		branch->targetList == NIL || !a67_is_independent(branch))
		return;
	copy->distinctClause = distinct_clause(copy);
	if (!a67_split_query(copy, walk->params))
		return;
	*branch = *copy;
	branch->distinctClause = NIL;
	walk->changed = true;
}

/* Branches of UNION, INTERSECT and EXCEPT need not send a row twice; `once` says so of all that is below. */
static void
combine_branches(Walk *walk, Query *query, Node *node, bool once)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;

	if (IsA(node, SetOperationStmt))
	{
		once = !operation->all || (once && operation->op == SETOP_UNION);
		combine_branches(walk, query, operation->larg, once);
		combine_branches(walk, query, operation->rarg, once);
	}
	else if (once)
		split_once(walk, rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable)->subquery);
}

static void
combine_parts(Walk *walk, Query *query)
{
	ListCell *lc;

	if (query->setOperations != NULL)
		combine_branches(walk, query, query->setOperations, false);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY && rte->subquery != NULL)
			combine_level(walk, rte->subquery, PLACE_FROM);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		combine_level(walk, (Query *) cte->ctequery, PLACE_CTE);
	}
	if (query->hasSubLinks)
		query_tree_walker(query, sublinks_walker, walk,
						  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES |
							  QTW_IGNORE_JOINALIASES);
}

static void
combine_level(Walk *walk, Query *query, Place place)
{
	check_stack_depth();
	if (query->commandType == CMD_SELECT && !query->hasModifyingCTE &&
		!(place == PLACE_FROM && only_rows(query)) && a67_is_independent(query) &&
		a67_split_query(query, walk->params))
	{
		walk->changed = true;
		/* What is left can have subqueries of its own. */
		if (!query->hasSubLinks && query->cteList == NIL)
			return;
	}
	if (query->commandType != CMD_UTILITY)
		combine_parts(walk, query);
}

static bool
locks_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return ((Query *) node)->rowMarks != NIL ||
			   query_tree_walker((Query *) node, locks_walker, context, QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, locks_walker, context);
}

/* Rows that are to be locked are found one by one, which scans do. */
bool
a67_combine(Query *query, ParamListInfo params)
{
	Walk walk = {.params = params, .changed = false};

	if (locks_walker((Node *) query, NULL))
		return false;
	combine_level(&walk, query, PLACE_TOP);
	return walk.changed;
}

/* ---- permissions, locks, invalidation */

static bool
is_listed(List *rtable, const RangeTblEntry *rte)
{
	ListCell *lc;

	foreach(lc, rtable)
	{
		RangeTblEntry *other = lfirst(lc);

		if (other->rtekind == RTE_RELATION && other->relid == rte->relid &&
			other->requiredPerms == rte->requiredPerms && other->checkAsUser == rte->checkAsUser &&
			bms_equal(other->selectedCols, rte->selectedCols))
			return true;
	}
	return false;
}

static bool
relations_walker(Node *node, PlannedStmt *plan)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind != RTE_RELATION || is_listed(plan->rtable, rte))
			return false;
		rte = copyObject(rte);
		rte->securityQuals = NIL;
		plan->rtable = lappend(plan->rtable, rte);
		plan->relationOids = list_append_unique_oid(plan->relationOids, rte->relid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, relations_walker, plan,
								 QTW_EXAMINE_RTES_BEFORE | QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, relations_walker, plan);
}

void
a67_combine_finish(PlannedStmt *plan, Query *original)
{
	relations_walker((Node *) original, plan);
}
