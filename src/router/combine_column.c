/*
 * combine_column.c - columns of the shards' answers, and expressions over them.
 *
 * Columns are asked for as expressions that stay here need them. What belongs to a level and is computed by shards (groups, aggregates, columns of
 * its tables) is replaced by columns of their answers, in subqueries too.
 */
#include "postgres.h"

#include "router/combine_part.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_oper.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"

/* ---- columns */

static Expr *
column_of(const TargetEntry *entry)
{
	return (Expr *) makeVarFromTargetEntry(A67_REMOTE_RTI, (TargetEntry *) entry);
}

TargetEntry *
a67_split_find(A67Split *split, Expr *expr)
{
	ListCell *lc;

	foreach(lc, split->remote->targetList)
	{
		TargetEntry *entry = lfirst(lc);

		if (equal(entry->expr, expr))
			return entry;
	}
	return NULL;
}

static TargetEntry *
add_column(A67Split *split, Expr *expr, const char *name)
{
	int resno = list_length(split->remote->targetList) + 1;
	TargetEntry *entry =
		makeTargetEntry(copyObject(expr), resno,
						name != NULL ? pstrdup(name) : psprintf("c%d", resno), false);

	split->remote->targetList = lappend(split->remote->targetList, entry);
	return entry;
}

Expr *
a67_split_column(A67Split *split, Expr *expr, const char *name)
{
	TargetEntry *entry = a67_split_find(split, expr);

	return column_of(entry != NULL ? entry : add_column(split, expr, name));
}

Expr *
a67_split_group(A67Split *split, Expr *expr, SortGroupClause *clause)
{
	TargetEntry *entry = a67_split_find(split, expr);
	SortGroupClause *group;

	if (entry != NULL && entry->ressortgroupref > 0)
		return column_of(entry);
	if (entry == NULL)
		entry = add_column(split, expr, NULL);
	group = makeNode(SortGroupClause);
	if (clause != NULL)
		*group = *clause;
	else
		get_sort_group_operators(exprType((Node *) expr), false, true, false, &group->sortop,
								 &group->eqop, NULL, &group->hashable);
	entry->ressortgroupref = group->tleSortGroupRef = ++split->last_ref;
	split->remote->groupClause = lappend(split->remote->groupClause, group);
	return column_of(entry);
}

/* ---- expressions that stay here */

typedef struct Localize
{
	A67Split *split;
	int depth; /* of subqueries around */
} Localize;

static Node *
localize_var(Localize *localize, Var *var)
{
	A67Split *split = localize->split;
	Expr *column;

	if ((int) var->varlevelsup != localize->depth)
		return (Node *) copyObject(var);
	var = copyObject(var);
	var->varlevelsup = 0;
	if (var->varattno <= 0 || (split->groups && a67_split_find(split, (Expr *) var) == NULL))
	{
		split->failed = true;
		return (Node *) var;
	}
	column = a67_split_column(split, (Expr *) var,
							  get_rte_attribute_name(rt_fetch(var->varno, split->remote->rtable),
													 var->varattno));
	((Var *) column)->varlevelsup = localize->depth;
	return (Node *) column;
}

/* Replaces what shards compute (groups, aggregates, else columns) by columns of their answers. */
static Node *
localize_mutator(Node *node, Localize *localize)
{
	TargetEntry *entry;

	if (node == NULL)
		return NULL;
	if (localize->split->groups && localize->depth == 0 && !IsA(node, List) &&
		(entry = a67_split_find(localize->split, (Expr *) node)) != NULL &&
		entry->ressortgroupref > 0)
		return (Node *) column_of(entry);
	if (IsA(node, Var))
		return localize_var(localize, (Var *) node);
	if (IsA(node, Aggref) && (int) ((Aggref *) node)->agglevelsup == localize->depth)
	{
		Expr *combined = localize->depth > 0 || !localize->split->groups
							 ? NULL
							 : a67_combine_aggregate(localize->split, (Aggref *) node);

		localize->split->failed |= combined == NULL;
		return (Node *) combined;
	}
	if (IsA(node, Query))
	{
		Query *query;

		localize->depth++;
		query = query_tree_mutator((Query *) node, localize_mutator, localize, 0);
		localize->depth--;
		return (Node *) query;
	}
	return expression_tree_mutator(node, localize_mutator, localize);
}

Node *
a67_split_localize(A67Split *split, void *node)
{
	Localize localize = {.split = split, .depth = 0};

	return localize_mutator((Node *) node, &localize);
}

/* ---- CTEs go where they are used */

typedef struct Uses
{
	const char *name;
	Index depth;
} Uses;

static bool
uses_walker(Node *node, Uses *uses)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_CTE && rte->ctelevelsup == uses->depth &&
			   strcmp(rte->ctename, uses->name) == 0;
	}
	if (IsA(node, Query))
	{
		bool found;

		uses->depth++;
		found = query_tree_walker((Query *) node, uses_walker, uses, QTW_EXAMINE_RTES_BEFORE);
		uses->depth--;
		return found;
	}
	return expression_tree_walker(node, uses_walker, uses);
}

/* The last ones first: they may be all that uses others. */
void
a67_drop_unused_ctes(Query *query)
{
	for (int i = list_length(query->cteList) - 1; i >= 0; i--)
	{
		CommonTableExpr *cte = list_nth(query->cteList, i);
		Uses uses = {.name = cte->ctename, .depth = 0};
		List *all = query->cteList;

		if (((Query *) cte->ctequery)->commandType != CMD_SELECT)
			continue;
		query->cteList = list_delete_nth_cell(list_copy(all), i);
		if (query_tree_walker(query, uses_walker, &uses, QTW_EXAMINE_RTES_BEFORE))
			query->cteList = all;
	}
}
