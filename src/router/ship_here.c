/*
 * ship_here.c - which expressions are computed here, once, and sent to shards as values.
 *
 * Those that touch no row, call nothing volatile and have a value that can be sent: whatever else is
 * in them (parameters, functions of users, the session) does not matter then.
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

#include "router/ship_part.h"

static bool
volatile_function(Oid function, void *context)
{
	return func_volatile(function) == PROVOLATILE_VOLATILE;
}

/* True at what only has a meaning among rows, or inside the expression around it. */
static bool
rows_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Aggref:
		case T_WindowFunc:
		case T_GroupingFunc:
		case T_SubLink:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_PlaceHolderVar:
		case T_CaseTestExpr:
		case T_CoerceToDomainValue:
		case T_SetToDefault:
		case T_CurrentOfExpr:
		case T_NextValueExpr:
		case T_InferenceElem:
		case T_Query:
			return true;
		case T_Param:
			return ((Param *) node)->paramkind != PARAM_EXTERN &&
				   ((Param *) node)->paramkind != PARAM_EXEC;
		default:
			break;
	}
	if (check_functions_in_node(node, volatile_function, NULL))
		return true;
	return expression_tree_walker(node, rows_walker, context);
}

bool
a67_ship_computed_here(const A67Database *database, Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_TargetEntry:
		case T_RangeTblRef:
		case T_RangeTblEntry:
		case T_RangeTblFunction:
		case T_FromExpr:
		case T_JoinExpr:
		case T_CommonTableExpr:
		case T_CTESearchClause:
		case T_CTECycleClause:
		case T_SortGroupClause:
		case T_GroupingSet:
		case T_WindowClause:
		case T_RowMarkClause:
		case T_SetOperationStmt:
		case T_OnConflictExpr:
		case T_TableFunc:
		case T_TableSampleClause:
		case T_MergeAction:
		case T_WithCheckOption:
		case T_CaseWhen:
		case T_CollateExpr: /* a parameter has no explicit collation */
		case T_Query:
			return false;
		default:
			break;
	}
	return !rows_walker(node, NULL) && !expression_returns_set(node) &&
		   a67_ship_type_sent(exprType(node)) &&
		   a67_ship_type_obstacle(database, exprType(node)) == NULL;
}
