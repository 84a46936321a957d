/*
 * prune.c - which shards conditions on the key leave; see prune.h.
 *
 * A condition is turned into the set of pieces of the table that can hold rows for which it is true: pieces are ranges for the
 * range strategy, so that bounds from two sides meet in the right one, and shards for the others. AND intersects, OR unites,
 * NOT is pushed down to comparisons; whatever is not understood leaves all pieces.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "router/key.h"
#include "router/prune.h"

typedef struct Pruner
{
	const A67Table *table;
	Index varno;
	ParamListInfo params;
	Bitmapset *all; /* pieces */
} Pruner;

/* key OPERATOR value, the key on the left. */
typedef struct Comparison
{
	StrategyNumber strategy; /* of a btree */
	Node *value;
} Comparison;

static Bitmapset *pieces_of(const Pruner *pruner, Node *node, bool negated);

/* ---- what is compared with what ------------------------------------------------------------------------------------- */

/* Casts that keep the canonical text. */
static bool
keeps_value(Oid function)
{
	switch (function)
	{
		case F_INT4_INT2:
		case F_INT8_INT2:
		case F_INT8_INT4:
		case F_NUMERIC_INT2:
		case F_NUMERIC_INT4:
		case F_NUMERIC_INT8:
		case F_FLOAT8_FLOAT4:
		case F_TEXT_BPCHAR:
		case F_TEXT_NAME:
			return true;
		default:
			return false;
	}
}

/* Whether the node is the key, or always has its canonical text; its type's family may then be another one. */
static bool
is_key(const Pruner *pruner, Node *node)
{
	for (;;)
	{
		/* text as bpchar is the same bytes, but trailing blanks count no more. */
		if (IsA(node, RelabelType) &&
			a67_key_family(exprType(node)) ==
				a67_key_family(exprType((Node *) castNode(RelabelType, node)->arg)))
			node = (Node *) castNode(RelabelType, node)->arg;
		else if (IsA(node, CollateExpr))
			node = (Node *) castNode(CollateExpr, node)->arg;
		else if (IsA(node, FuncExpr) && keeps_value(castNode(FuncExpr, node)->funcid))
			node = linitial(castNode(FuncExpr, node)->args);
		else
			break;
	}
	return IsA(node, Var) && pruner->table->key != 0 &&
		   castNode(Var, node)->varno == (int) pruner->varno &&
		   castNode(Var, node)->varattno == pruner->table->key &&
		   castNode(Var, node)->varlevelsup == 0;
}

/* The operator's place in the order that the type usually has; InvalidStrategy when it has none. */
static StrategyNumber
strategy_of(Oid opno, Oid type)
{
	TypeCacheEntry *entry =
		lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY | TYPECACHE_HASH_OPFAMILY);
	int strategy = InvalidStrategy;

	if (OidIsValid(entry->btree_opf))
		strategy = get_op_opfamily_strategy(opno, entry->btree_opf);
	if (strategy == InvalidStrategy && OidIsValid(entry->hash_opf) &&
		get_op_opfamily_strategy(opno, entry->hash_opf) == HTEqualStrategyNumber)
		strategy = BTEqualStrategyNumber;
	return (StrategyNumber) strategy;
}

/* Whether the comparison means, under its collation, what the table's key means. */
static bool
collation_fits(const Pruner *pruner, StrategyNumber strategy, Oid collation)
{
	if (strategy == BTEqualStrategyNumber)
		return !OidIsValid(collation) || get_collation_isdeterministic(collation);
	return collation == pruner->table->key_collation;
}

/* key OPERATOR value, of the operator or, negated, of its negator; the key may stand on the right. */
static bool
match_operator(const Pruner *pruner, const OpExpr *op, bool negated, Comparison *comparison)
{
	Oid opno = negated ? get_negator(op->opno) : op->opno;
	Node *left = linitial(op->args);
	Node *right = list_length(op->args) == 2 ? lsecond(op->args) : NULL;

	if (right != NULL && !is_key(pruner, left) && is_key(pruner, right))
	{
		opno = OidIsValid(opno) ? get_commutator(opno) : InvalidOid;
		left = right;
		right = linitial(op->args);
	}
	if (right == NULL || !OidIsValid(opno) || !is_key(pruner, left) ||
		a67_key_family(exprType(left)) != a67_key_family(exprType(right)))
		return false;
	comparison->value = right;
	comparison->strategy = strategy_of(opno, getBaseType(exprType(left)));
	return comparison->strategy != InvalidStrategy &&
		   collation_fits(pruner, comparison->strategy, op->inputcollid);
}

/* key OPERATOR ANY (array) or ALL (array); which of the two is the caller's to know. */
static bool
match_array(const Pruner *pruner, const ScalarArrayOpExpr *op, bool negated, Comparison *comparison)
{
	Oid opno = negated ? get_negator(op->opno) : op->opno;
	Node *left = linitial(op->args);
	Oid element = get_base_element_type(exprType(lsecond(op->args)));

	if (!OidIsValid(opno) || !is_key(pruner, left) || !OidIsValid(element) ||
		a67_key_family(exprType(left)) != a67_key_family(element))
		return false;
	comparison->value = lsecond(op->args);
	comparison->strategy = strategy_of(opno, getBaseType(exprType(left)));
	return comparison->strategy != InvalidStrategy &&
		   collation_fits(pruner, comparison->strategy, op->inputcollid);
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static Node *
put_parameters(Node *node, ParamListInfo params)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && castNode(Param, node)->paramkind == PARAM_EXTERN)
	{
		Param *param = castNode(Param, node);
		ParamExternData workspace;
		ParamExternData *given;
		int16 len;
		bool by_value;

		if (params == NULL || param->paramid <= 0 || param->paramid > params->numParams)
			return (Node *) copyObject(param);
		given = params->paramFetch != NULL
					? params->paramFetch(params, param->paramid, true, &workspace)
					: &params->params[param->paramid - 1];
		if (given->ptype != param->paramtype)
			return (Node *) copyObject(param);
		get_typlenbyval(param->paramtype, &len, &by_value);
		return (Node *) makeConst(param->paramtype, param->paramtypmod, param->paramcollid, len,
								  given->value, given->isnull, by_value);
	}
	return expression_tree_mutator(node, put_parameters, params);
}

/* The value of an expression that is immutable but for parameters; NULL when it is not known now. */
static Const *
value_of(const Pruner *pruner, Node *node)
{
	if (!IsA(node, Const))
	{
		if (contain_var_clause(node) || contain_subplans(node))
			return NULL;
		node = eval_const_expressions(NULL, put_parameters(node, pruner->params));
	}
	return IsA(node, Const) ? castNode(Const, node) : NULL;
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

/* Whether a range can hold a key that compares so with the value. */
static bool
range_meets(const A67Table *table, const A67Range *range, StrategyNumber strategy,
			const Const *value)
{
	int lower = -1; /* of the range's lower bound, compared with the value */
	int upper = 1;

	if (range->has_lower)
		lower = a67_key_compare(range->lower, table->key_type, value->constvalue, value->consttype,
								table->key_collation);
	if (range->has_upper)
		upper = a67_key_compare(range->upper, table->key_type, value->constvalue, value->consttype,
								table->key_collation);
	switch (strategy)
	{
		case BTLessStrategyNumber:
			return lower < 0;
		case BTLessEqualStrategyNumber:
			return lower <= 0;
		case BTEqualStrategyNumber:
			return lower <= 0 && upper > 0;
		default:
			return upper > 0;
	}
}

static Bitmapset *
ranges_that_meet(const A67Table *table, StrategyNumber strategy, const Const *value)
{
	Bitmapset *pieces = NULL;

	for (int i = 0; i < table->range_count; i++)
		if (range_meets(table, &table->ranges[i], strategy, value))
			pieces = bms_add_member(pieces, i);
	return pieces;
}

/* Pieces with keys that compare so with a known value; nothing does with null. */
static Bitmapset *
pieces_of_value(const Pruner *pruner, StrategyNumber strategy, const Const *value)
{
	int shard;

	if (value->constisnull)
		return NULL;
	if (pruner->table->strategy == A67_RANGE)
		return ranges_that_meet(pruner->table, strategy, value);
	if (strategy != BTEqualStrategyNumber)
		return bms_copy(pruner->all);
	shard = a67_shard_of_key(pruner->table, value->constvalue, value->consttype);
	return shard < 0 ? NULL : bms_make_singleton(shard);
}

static Bitmapset *
pieces_of_comparison(const Pruner *pruner, const OpExpr *op, bool negated)
{
	Comparison comparison;
	Const *value;

	if (!match_operator(pruner, op, negated, &comparison))
		return bms_copy(pruner->all);
	value = value_of(pruner, comparison.value);
	return value == NULL ? bms_copy(pruner->all)
						 : pieces_of_value(pruner, comparison.strategy, value);
}

/* key OPERATOR ANY (array), or ALL, of an array that is known and not null. */
static Bitmapset *
pieces_of_elements(const Pruner *pruner, StrategyNumber strategy, const Const *array, bool any)
{
	ArrayType *values = DatumGetArrayTypeP(array->constvalue);
	Const value = {.xpr.type = T_Const, .consttype = ARR_ELEMTYPE(values)};
	Bitmapset *pieces = any ? NULL : bms_copy(pruner->all);
	Datum *elements;
	bool *nulls;
	int count;
	int16 len;
	bool by_value;
	char align;

	get_typlenbyvalalign(value.consttype, &len, &by_value, &align);
	deconstruct_array(values, value.consttype, len, by_value, align, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		Bitmapset *one;

		value.constvalue = elements[i];
		value.constisnull = nulls[i];
		one = pieces_of_value(pruner, strategy, &value);
		if (any)
		{
			pieces = bms_join(pieces, one);
			if (bms_num_members(pieces) == bms_num_members(pruner->all))
				break;
		}
		else
			pieces = bms_int_members(pieces, one);
	}
	return pieces;
}

static Bitmapset *
pieces_of_array(const Pruner *pruner, const ScalarArrayOpExpr *op, bool negated)
{
	bool any = op->useOr != negated;
	Comparison comparison;
	Const *array;

	if (!match_array(pruner, op, negated, &comparison))
		return bms_copy(pruner->all);
	array = value_of(pruner, comparison.value);
	if (array == NULL)
		return bms_copy(pruner->all);
	return array->constisnull ? NULL : pieces_of_elements(pruner, comparison.strategy, array, any);
}

static Bitmapset *
pieces_of_list(const Pruner *pruner, List *nodes, bool all, bool negated)
{
	Bitmapset *pieces = all ? bms_copy(pruner->all) : NULL;
	ListCell *cell;

	foreach(cell, nodes)
	{
		Bitmapset *one = pieces_of(pruner, lfirst(cell), negated);

		pieces = all ? bms_int_members(pieces, one) : bms_join(pieces, one);
		if (all && bms_is_empty(pieces))
			break;
	}
	return pieces;
}

static Bitmapset *
pieces_of_boolean(const Pruner *pruner, BoolExpr *expr, bool negated)
{
	switch (expr->boolop)
	{
		case AND_EXPR:
			return pieces_of_list(pruner, expr->args, !negated, negated);
		case OR_EXPR:
			return pieces_of_list(pruner, expr->args, negated, negated);
		case NOT_EXPR:
			return pieces_of(pruner, linitial(expr->args), !negated);
	}
	return bms_copy(pruner->all);
}

/* A key is never null. */
static Bitmapset *
pieces_of_null_test(const Pruner *pruner, NullTest *test, bool negated)
{
	bool wants_null = (test->nulltesttype == IS_NULL) != negated;

	return wants_null && is_key(pruner, (Node *) test->arg) ? NULL : bms_copy(pruner->all);
}

static Bitmapset *
pieces_of_boolean_test(const Pruner *pruner, BooleanTest *test, bool negated)
{
	Node *arg = (Node *) test->arg;

	if (test->booltesttype == (negated ? IS_NOT_TRUE : IS_TRUE))
		return pieces_of(pruner, arg, false);
	if (test->booltesttype == (negated ? IS_NOT_FALSE : IS_FALSE))
		return pieces_of(pruner, arg, true);
	return bms_copy(pruner->all);
}

/* A condition that does not depend on rows, or a boolean key. */
static Bitmapset *
pieces_of_other(const Pruner *pruner, Node *node, bool negated)
{
	Const *value;

	if (exprType(node) == BOOLOID && is_key(pruner, node))
		return pieces_of_value(pruner, BTEqualStrategyNumber,
							   castNode(Const, makeBoolConst(!negated, false)));
	value = value_of(pruner, node);
	if (value == NULL || value->consttype != BOOLOID)
		return bms_copy(pruner->all);
	return value->constisnull || DatumGetBool(value->constvalue) == negated ? NULL
																			: bms_copy(pruner->all);
}

/* The pieces that can hold rows for which the condition, or its negation, is true; the caller's own. */
static Bitmapset *
pieces_of(const Pruner *pruner, Node *node, bool negated)
{
	switch (nodeTag(node))
	{
		case T_List:
			return pieces_of_list(pruner, (List *) node, !negated, negated);
		case T_BoolExpr:
			return pieces_of_boolean(pruner, castNode(BoolExpr, node), negated);
		case T_NullTest:
			return pieces_of_null_test(pruner, castNode(NullTest, node), negated);
		case T_BooleanTest:
			return pieces_of_boolean_test(pruner, castNode(BooleanTest, node), negated);
		case T_OpExpr:
			if (contain_var_clause(node))
				return pieces_of_comparison(pruner, (OpExpr *) node, negated);
			break;
		case T_DistinctExpr:
			/* IS NOT DISTINCT FROM: as =, since the key is not null. */
			if (negated && contain_var_clause(node))
				return pieces_of_comparison(pruner, (OpExpr *) node, false);
			break;
		case T_ScalarArrayOpExpr:
			if (contain_var_clause(node))
				return pieces_of_array(pruner, castNode(ScalarArrayOpExpr, node), negated);
			break;
		default:
			break;
	}
	return pieces_of_other(pruner, node, negated);
}

static Pruner
start(const A67Table *table, Index varno, ParamListInfo params)
{
	Pruner pruner = {.table = table, .varno = varno, .params = params};

	if (table->strategy != A67_RANGE)
		pruner.all = a67_shards_of_table(table);
	else if (table->range_count > 0)
		pruner.all = bms_add_range(NULL, 0, table->range_count - 1);
	return pruner;
}

Bitmapset *
a67_prune(const A67Table *table, List *quals, Index varno, ParamListInfo params)
{
	Pruner pruner = start(table, varno, params);
	Bitmapset *pieces = pieces_of_list(&pruner, quals, true, false);
	Bitmapset *shards = NULL;
	int piece = -1;

	if (table->strategy != A67_RANGE)
		return pieces;
	while ((piece = bms_next_member(pieces, piece)) >= 0)
		shards = bms_add_member(shards, table->ranges[piece].shard);
	return shards;
}

/* ---- the one key ---------------------------------------------------------------------------------------------------- */

/* Whether the value can differ from row to row, or cannot be computed by itself. */
static bool
depends_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_PlaceHolderVar:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_SubLink:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_Query:
		case T_CurrentOfExpr:
		case T_SetToDefault:
			return true;
		case T_Param:
			return castNode(Param, node)->paramkind != PARAM_EXTERN &&
				   castNode(Param, node)->paramkind != PARAM_EXEC;
		default:
			return expression_tree_walker(node, depends_walker, context);
	}
}

static Expr *
stable_value(Node *value)
{
	return depends_walker(value, NULL) || contain_volatile_functions(value) ? NULL : (Expr *) value;
}

/* The only element of key = ANY (ARRAY[value]). */
static Expr *
only_element(const Pruner *pruner, ScalarArrayOpExpr *op)
{
	Comparison comparison;
	ArrayExpr *array;

	if (!op->useOr || !IsA(lsecond(op->args), ArrayExpr) ||
		!match_array(pruner, op, false, &comparison) ||
		comparison.strategy != BTEqualStrategyNumber)
		return NULL;
	array = lsecond_node(ArrayExpr, op->args);
	if (array->multidims || list_length(array->elements) != 1)
		return NULL;
	return stable_value(linitial(array->elements));
}

static Expr *
equal_value(const Pruner *pruner, Node *node, bool negated)
{
	Comparison comparison;

	if (exprType(node) == BOOLOID && is_key(pruner, node))
		return (Expr *) makeBoolConst(!negated, false);
	if (IsA(node, BoolExpr) && castNode(BoolExpr, node)->boolop == NOT_EXPR)
		return equal_value(pruner, linitial(castNode(BoolExpr, node)->args), !negated);
	if (IsA(node, ScalarArrayOpExpr) && !negated)
		return only_element(pruner, castNode(ScalarArrayOpExpr, node));
	if (!(IsA(node, OpExpr) && !negated) && !(IsA(node, DistinctExpr) && negated))
		return NULL;
	if (!match_operator(pruner, (OpExpr *) node, false, &comparison) ||
		comparison.strategy != BTEqualStrategyNumber)
		return NULL;
	return stable_value(comparison.value);
}

static Expr *
equal_in_list(const Pruner *pruner, List *nodes)
{
	ListCell *cell;

	foreach(cell, nodes)
	{
		Node *node = lfirst(cell);
		Expr *value;

		if (IsA(node, List))
			value = equal_in_list(pruner, (List *) node);
		else if (is_andclause(node))
			value = equal_in_list(pruner, castNode(BoolExpr, node)->args);
		else
			value = equal_value(pruner, node, false);
		if (value != NULL)
			return value;
	}
	return NULL;
}

Expr *
a67_key_equals(const A67Table *table, List *quals, Index varno)
{
	Pruner pruner = start(table, varno, NULL);

	return table->key == 0 ? NULL : equal_in_list(&pruner, quals);
}
