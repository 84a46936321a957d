/*
 * combine_lift.c - subqueries whose value does not depend on rows, while the level around them is looked at.
 *
 * PostgreSQL computes such a subquery once, here. So it may be sent to shards as a parameter: it is replaced by one of a number that no plan uses, and
 * put back in the expressions that compute parameters and in what stays here.
 */
#include "postgres.h"

#include "router/combine_part.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#define FIRST_LIFTED 1000000

/* Whether something in a query belongs to a query outside of it. */
static bool
reaches_out_walker(Node *node, int *depth)
{
	bool found;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
			return (int) ((Var *) node)->varlevelsup > *depth;
		case T_Aggref:
			if ((int) ((Aggref *) node)->agglevelsup > *depth)
				return true;
			break;
		case T_GroupingFunc:
			if ((int) ((GroupingFunc *) node)->agglevelsup > *depth)
				return true;
			break;
		case T_RangeTblEntry:
			return ((RangeTblEntry *) node)->rtekind == RTE_CTE &&
				   (int) ((RangeTblEntry *) node)->ctelevelsup > *depth;
		case T_Query:
			(*depth)++;
			found = query_tree_walker((Query *) node, reaches_out_walker, depth,
									  QTW_EXAMINE_RTES_BEFORE | QTW_IGNORE_JOINALIASES);
			(*depth)--;
			return found;
		default:
			break;
	}
	return expression_tree_walker(node, reaches_out_walker, depth);
}

bool
a67_is_independent(Query *query)
{
	int depth = -1;

	return !reaches_out_walker((Node *) query, &depth);
}

static Node *
lift_mutator(Node *node, List **lifted)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) copyObject(node);
	if (IsA(node, SubLink))
	{
		SubLink *sublink = (SubLink *) node;
		Param *param;

		if ((sublink->subLinkType == EXPR_SUBLINK || sublink->subLinkType == ARRAY_SUBLINK ||
			 sublink->subLinkType == EXISTS_SUBLINK) &&
			a67_is_independent((Query *) sublink->subselect))
		{
			param = makeNode(Param);
			param->paramkind = PARAM_EXEC;
			param->paramid = FIRST_LIFTED + list_length(*lifted);
			param->paramtype = exprType(node);
			param->paramtypmod = exprTypmod(node);
			param->paramcollid = exprCollation(node);
			param->location = -1;
			*lifted = lappend(*lifted, copyObject(sublink));
			return (Node *) param;
		}
	}
	return expression_tree_mutator(node, lift_mutator, lifted);
}

Query *
a67_lift(Query *query, List **lifted)
{
	return query_tree_mutator(query, lift_mutator, lifted,
							  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES |
								  QTW_IGNORE_JOINALIASES);
}

static Node *
lower_mutator(Node *node, List *lifted)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC &&
		((Param *) node)->paramid >= FIRST_LIFTED)
		return (Node *) copyObject(list_nth(lifted, ((Param *) node)->paramid - FIRST_LIFTED));
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, lower_mutator, lifted, 0);
	return expression_tree_mutator(node, lower_mutator, lifted);
}

Node *
a67_lower(Node *node, List *lifted)
{
	return lower_mutator(node, lifted);
}
