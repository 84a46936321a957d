/*
 * ship_check.c - whether an expression or a query means on a shard what it means here.
 *
 * Two questions about a node. "Computed here": it touches no row, so its value can be found here
 * and sent as a parameter, whatever is in it. Otherwise every part of it must exist on the shards
 * and depend on nothing but its arguments and the settings that are kept equal there. What is not
 * known to be so is an obstacle. ship.c asks both, so text and check agree. Which functions and
 * types are fit: ship_catalog.c.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "router/ship_part.h"

typedef struct Check
{
	const A67Database *database;
	const char *obstacle;
	List *queries; /* the query that is looked at, then those around it */
	bool literal;  /* a67_ship_literal asks: nothing is computed here */
} Check;

static bool check_walker(Node *node, Check *check);

static bool
stop(Check *check, const char *why)
{
	check->obstacle = why;
	return true;
}

/* ---- what is written out ---- */

bool
a67_ship_literal(const A67Database *database, Node *node)
{
	Check check = {.database = database, .obstacle = NULL, .queries = NIL, .literal = true};

	return !check_walker(node, &check);
}

/* ---- what exists on shards ---- */

static bool
check_function(Oid function, void *context)
{
	Check *check = context;

	check->obstacle = a67_ship_function_obstacle(function, check->literal);
	return check->obstacle != NULL;
}

/* The collation that a node compares or converts text under, and the function that does it. */
static bool
check_collation(Node *node, Check *check)
{
	Oid function = InvalidOid;
	Oid collation = exprInputCollation(node);

	switch (nodeTag(node))
	{
		case T_FuncExpr:
			function = ((FuncExpr *) node)->funcid;
			break;
		case T_Aggref:
			function = ((Aggref *) node)->aggfnoid;
			break;
		case T_WindowFunc:
			function = ((WindowFunc *) node)->winfnoid;
			break;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			function = ((OpExpr *) node)->opfuncid;
			break;
		case T_ScalarArrayOpExpr:
			function = ((ScalarArrayOpExpr *) node)->opfuncid;
			break;
		default: /* MinMaxExpr and the like: they order */
			break;
	}
	check->obstacle = a67_ship_collation_obstacle(check->database, collation, function);
	return check->obstacle != NULL;
}

static bool
check_operator(Oid operator, Check * check)
{
	if (OidIsValid(operator) && operator>= FirstGenbkiObjectId)
		return stop(check, gettext_noop("Operators that users made do not exist on shards."));
	return false;
}

static bool
check_row_compare(RowCompareExpr *compare, Check *check)
{
	ListCell *cell;

	foreach(cell, compare->opnos)
		if (check_operator(lfirst_oid(cell), check))
			return true;
	foreach(cell, compare->inputcollids)
	{
		check->obstacle =
			a67_ship_collation_obstacle(check->database, lfirst_oid(cell), InvalidOid);
		if (check->obstacle != NULL)
			return true;
	}
	return false;
}

/*
 * System columns differ between shards; whole rows are written out column by column, see
 * ship_row.c.
 */
static bool
check_var(Var *var, Check *check)
{
	Query *query;
	RangeTblEntry *rte;

	if (var->varattno < 0)
		return stop(check, gettext_noop("System columns mean something else on every shard."));
	if (var->varattno > 0)
		return false;
	if (check->queries == NIL || (int) var->varlevelsup >= list_length(check->queries))
		return stop(check, gettext_noop("A whole row is read."));
	query = list_nth(check->queries, var->varlevelsup);
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind != RTE_RELATION)
		return false;
	if ((int) var->varno == query->resultRelation ||
		(query->onConflict != NULL && (int) var->varno == query->onConflict->exclRelIndex) ||
		a67_ship_has_dropped(rte->relid))
		return stop(check, gettext_noop("A whole row of a table is read."));
	return false;
}

static bool
check_const(Const *constant, Check *check)
{
	if (constant->constisnull || a67_ship_type_literal(check->database, constant->consttype))
		return false;
	/* Text search configurations come with the server. */
	if ((constant->consttype == REGCONFIGOID || constant->consttype == REGDICTIONARYOID) &&
		DatumGetObjectId(constant->constvalue) < FirstNormalObjectId)
		return false;
	return stop(check, gettext_noop("A constant names something of this server."));
}

static bool
check_type(Node *node, Check *check)
{
	if (IsA(node, Var))
		return false; /* its type is written nowhere */
	check->obstacle = a67_ship_type_obstacle(check->database, exprType(node));
	return check->obstacle != NULL;
}

/* Nodes that are more than a function; true: stopped. */
static bool
check_node(Node *node, Check *check)
{
	switch (nodeTag(node))
	{
		case T_Var:
			return check_var((Var *) node, check);
		case T_Const:
			return check_const((Const *) node, check);
		case T_Param:
			/* What a sublink beside it gives. */
			if (((Param *) node)->paramkind == PARAM_MULTIEXPR ||
				((Param *) node)->paramkind == PARAM_SUBLINK)
				return false;
			return stop(check, gettext_noop("A value is known only while the statement runs."));
		case T_FuncExpr:
			check->obstacle = a67_ship_format_obstacle((FuncExpr *) node);
			return check->obstacle != NULL;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			return check_operator(((OpExpr *) node)->opno, check);
		case T_ScalarArrayOpExpr:
			return check_operator(((ScalarArrayOpExpr *) node)->opno, check);
		case T_RowCompareExpr:
			return check_row_compare((RowCompareExpr *) node, check);
		case T_CollateExpr:
			check->obstacle =
				a67_ship_collation_obstacle(check->database, ((CollateExpr *) node)->collOid,
											InvalidOid);
			return check->obstacle != NULL;
		case T_SQLValueFunction:
			return stop(check, gettext_noop("Session information differs on shards."));
		default:
			return false;
	}
}

/* Nodes whose meaning is in their parts, which are looked at. */
static bool
known_expression(Node *node)
{
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_Param:
		case T_FuncExpr:
		case T_NamedArgExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_RowCompareExpr:
		case T_CollateExpr:
		case T_SQLValueFunction:
		case T_BoolExpr:
		case T_Aggref:
		case T_WindowFunc:
		case T_GroupingFunc:
		case T_SubscriptingRef:
		case T_SubLink:
		case T_FieldSelect:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_CaseExpr:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_CoerceToDomain:
		case T_SetToDefault:
			return true;
		default:
			return false;
	}
}

/* Parts of a query that are no expressions, but hold some. */
static bool
structure(Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_TargetEntry:
		case T_RangeTblRef:
		case T_RangeTblFunction:
		case T_FromExpr:
		case T_JoinExpr:
		case T_CommonTableExpr:
		case T_CTESearchClause:
		case T_CTECycleClause:
		case T_SortGroupClause:
		case T_GroupingSet:
		case T_WindowClause:
		case T_SetOperationStmt:
		case T_InferenceElem:
		case T_MergeAction:
		case T_CaseWhen:
			return true;
		default:
			return false;
	}
}

/* ---- relations and clauses of one query ---- */

static bool
check_relation(RangeTblEntry *rte, Check *check)
{
	const A67Table *table = NULL;

	if (rte->relkind == RELKIND_FOREIGN_TABLE)
		table = a67_table(rte->relid);
	if (table == NULL)
		return stop(check, gettext_noop("A relation is not part of the virtual database."));
	if (table->database->server_oid != check->database->server_oid)
		return stop(check, gettext_noop("Relations belong to different virtual databases."));
	if (rte->tablesample != NULL)
		return stop(check, gettext_noop("Every shard would draw a sample of its own."));
	if (rte->inh && has_subclass(rte->relid))
		return stop(check, gettext_noop("Tables inherit from one of the relations."));
	return false;
}

static bool
check_entry(RangeTblEntry *rte, Check *check)
{
	if (rte->securityQuals != NIL || (rte->rtekind == RTE_SUBQUERY && rte->security_barrier))
		return stop(check, gettext_noop("A security barrier view keeps its conditions here."));
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return check_relation(rte, check);
		case RTE_SUBQUERY:
		case RTE_JOIN:
		case RTE_FUNCTION:
		case RTE_VALUES:
		case RTE_CTE:
		case RTE_RESULT:
			return false;
		default:
			return stop(check, gettext_noop("A source of rows exists only here."));
	}
}

/* Only what is read or changed: views leave entries that exist for the check of permissions. */
static bool
check_from(Node *node, Check *check)
{
	Query *query = linitial(check->queries);

	if (node == NULL)
		return false;
	if (IsA(node, RangeTblRef))
		return check_entry(rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable), check);
	if (IsA(node, FromExpr) || IsA(node, JoinExpr) || IsA(node, List))
		return expression_tree_walker(node, check_from, check);
	return false;
}

static bool
check_order(List *clauses, List *tlist, bool sorts, Check *check)
{
	ListCell *cell;

	foreach(cell, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
		Node *expr = get_sortgroupclause_expr(clause, tlist);

		if (check_operator(clause->eqop, check) || check_operator(clause->sortop, check))
			return true;
		check->obstacle =
			a67_ship_collation_obstacle(check->database, exprCollation(expr),
										sorts ? InvalidOid : get_opcode(clause->eqop));
		if (check->obstacle != NULL)
			return true;
	}
	return false;
}

/* UNION, INTERSECT and EXCEPT tell rows apart by the equality of their columns. */
static bool
check_set_operation(SetOperationStmt *operation, Check *check)
{
	ListCell *clause;
	ListCell *collation;

	if (operation->groupClauses == NIL)
		return false;
	forboth(clause, operation->groupClauses, collation, operation->colCollations)
	{
		Oid equality = lfirst_node(SortGroupClause, clause)->eqop;

		if (check_operator(equality, check))
			return true;
		check->obstacle = a67_ship_collation_obstacle(check->database, lfirst_oid(collation),
													  get_opcode(equality));
		if (check->obstacle != NULL)
			return true;
	}
	return false;
}

/* INSERT INTO t (a[1]) SELECT …: what is assigned is not just what the SELECT gives. */
static bool
assigns_part(Query *query)
{
	ListCell *cell;

	if (query->commandType != CMD_INSERT)
		return false;
	foreach(cell, query->targetList)
	{
		Expr *expr = lfirst_node(TargetEntry, cell)->expr;

		if (IsA(expr, SubscriptingRef) && ((SubscriptingRef *) expr)->refassgnexpr != NULL)
			return true;
	}
	return false;
}

static bool
check_clauses(Query *query, Check *check)
{
	ListCell *cell;

	if (query->commandType == CMD_UTILITY)
		return stop(check, gettext_noop("Such a command is not sent to shards."));
	if (query->commandType == CMD_MERGE && check->database->min_server_version < 150000)
		return stop(check,
					gettext_noop("A shard is older than PostgreSQL 15, the first with MERGE."));
	if (assigns_part(query))
		return stop(check, gettext_noop("Parts of a column are inserted."));
	if (query->withCheckOptions != NIL)
		return stop(check, gettext_noop("A view checks the rows that are written through it."));
	if (check_order(query->sortClause, query->targetList, true, check) ||
		check_order(query->groupClause, query->targetList, false, check) ||
		check_order(query->distinctClause, query->targetList, query->hasDistinctOn, check))
		return true;
	foreach(cell, query->windowClause)
	{
		WindowClause *window = lfirst_node(WindowClause, cell);

		if (check_order(window->partitionClause, query->targetList, false, check) ||
			check_order(window->orderClause, query->targetList, true, check))
			return true;
	}
	return false;
}

/* Without exclRelTlist, which lists all that "excluded" can give, wanted or not. */
static bool
check_conflict(OnConflictExpr *conflict, Check *check)
{
	return check_walker((Node *) conflict->arbiterElems, check) ||
		   check_walker(conflict->arbiterWhere, check) ||
		   check_walker((Node *) conflict->onConflictSet, check) ||
		   check_walker(conflict->onConflictWhere, check);
}

static bool
check_query(Query *query, Check *check)
{
	List *outer = check->queries;
	bool stopped;

	check->queries = lcons(query, list_copy(outer));
	stopped = check_clauses(query, check) || check_from((Node *) query->jointree, check) ||
			  (query->resultRelation > 0 &&
			   check_entry(rt_fetch(query->resultRelation, query->rtable), check)) ||
			  query_tree_walker(query, check_walker, check, QTW_IGNORE_JOINALIASES);
	list_free(check->queries);
	check->queries = outer;
	return stopped;
}

static bool
check_walker(Node *node, Check *check)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return check_query((Query *) node, check);
	if (IsA(node, OnConflictExpr))
		return check_conflict((OnConflictExpr *) node, check);
	if (IsA(node, SetOperationStmt) && check_set_operation((SetOperationStmt *) node, check))
		return true;
	if (structure(node))
		return expression_tree_walker(node, check_walker, check);
	if (!known_expression(node))
		return stop(check, gettext_noop("An expression cannot be written for shards."));
	if (!check->literal && a67_ship_computed_here(check->database, node))
		return false;
	if (check_node(node, check) || check_type(node, check) ||
		check_functions_in_node(node, check_function, check) || check_collation(node, check))
		return true;
	if (IsA(node, Aggref))
	{
		Aggref *aggregate = (Aggref *) node;

		if (check_order(aggregate->aggorder, aggregate->args, true, check) ||
			check_order(aggregate->aggdistinct, aggregate->args, false, check))
			return true;
	}
	return expression_tree_walker(node, check_walker, check);
}

/* ---- the contract ---- */

const char *
a67_ship_obstacle_expr(const A67Database *database, Node *expr)
{
	Check check = {.database = database, .obstacle = NULL, .queries = NIL, .literal = false};

	check_walker(expr, &check);
	return check.obstacle;
}

const char *
a67_ship_obstacle(const A67Database *database, Query *query)
{
	Check check = {.database = database, .obstacle = NULL, .queries = NIL, .literal = false};
	List *output = query->commandType == CMD_SELECT ? query->targetList : query->returningList;
	ListCell *cell;

	foreach(cell, output)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);

		if (!tle->resjunk && !a67_ship_type_sent(exprType((Node *) tle->expr)))
			return gettext_noop("A row without a declared type cannot be read from shards.");
	}
	check_query(query, &check);
	return check.obstacle;
}
