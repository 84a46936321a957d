/*
 * combine_aggregate.c - aggregates in two steps: what shards compute of their rows, and what makes the answer of that.
 *
 * The answer is PostgreSQL's own to the last digit where its arithmetic is exact (integers, numeric, intervals); sums of floats depend on the
 * order of rows, here as there. Averages are divided here; variances of exact types come from sums and sums of squares (_variance), those of floats from
 * PostgreSQL's own states (count, sum, squared deviations), which _combine_float8 puts together with float8_combine.
 */
#include "postgres.h"

#include "router/combine_part.h"

#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/* ---- small expressions */

static Expr *
call(Oid function, Oid result, List *args)
{
	return (Expr *) makeFuncExpr(function, result, args, InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

static Expr *
cast(Oid function, Oid result, Expr *arg)
{
	return (Expr *) makeFuncExpr(function, result, list_make1(arg), InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CAST);
}

static Expr *
coalesce(Expr *expr, Const *otherwise)
{
	CoalesceExpr *result = makeNode(CoalesceExpr);

	result->coalescetype = exprType((Node *) expr);
	result->args = list_make2(expr, otherwise);
	result->location = -1;
	return (Expr *) result;
}

static Const *
zero_of(Oid type)
{
	Datum zero = type == NUMERICOID ? DirectFunctionCall1(int8_numeric, Int64GetDatum(0))
									: Float8GetDatum(0);

	return makeConst(type, -1, InvalidOid, type == NUMERICOID ? -1 : (int) sizeof(float8), zero,
					 false, type != NUMERICOID);
}

static Expr *
to_type(Expr *expr, Oid type)
{
	Oid from = exprType((Node *) expr);
	Oid function = InvalidOid;

	if (from == type)
		return expr;
	if (type == NUMERICOID)
		function = from == INT2OID	 ? F_NUMERIC_INT2
				   : from == INT4OID ? F_NUMERIC_INT4
									 : F_NUMERIC_INT8;
	else
		function = from == FLOAT4OID ? F_FLOAT8_FLOAT4 : F_FLOAT8_INT8;
	return cast(function, type, expr);
}

/* An aggregate over other arguments, with what is said of rows (FILTER) as in `like`, which may be NULL. */
static Aggref *
aggregate_of(Oid function, Oid result, List *args, const Aggref *like)
{
	Aggref *aggregate = makeNode(Aggref);
	ListCell *lc;

	aggregate->aggfnoid = function;
	aggregate->aggtype = result;
	aggregate->aggkind = AGGKIND_NORMAL;
	aggregate->aggsplit = AGGSPLIT_SIMPLE;
	aggregate->aggstar = args == NIL;
	aggregate->aggno = aggregate->aggtransno = -1;
	aggregate->location = -1;
	if (like != NULL)
		aggregate->aggfilter = copyObject(like->aggfilter);
	foreach(lc, args)
	{
		Expr *arg = lfirst(lc);

		aggregate->args = lappend(aggregate->args,
								  makeTargetEntry(arg, foreach_current_index(lc) + 1, NULL, false));
		aggregate->aggargtypes = lappend_oid(aggregate->aggargtypes, exprType((Node *) arg));
	}
	return aggregate;
}

/* A column of the shards' answers that is an aggregate there. */
static Expr *
partial(A67Split *split, Oid function, Oid result, List *args, const Aggref *like)
{
	return a67_split_column(split, (Expr *) aggregate_of(function, result, args, like), NULL);
}

/* A sum here of what shards have summed or counted there. */
static Expr *
total(Oid function, Oid result, Expr *column)
{
	return (Expr *) aggregate_of(function, result, list_make1(column), NULL);
}

static Expr *
argument(const Aggref *aggregate, int which)
{
	return copyObject(((TargetEntry *) list_nth(aggregate->args, which))->expr);
}

/* ---- counts, sums, averages */

static Expr *
total_count(Expr *column)
{
	Expr *sum = coalesce(total(F_SUM_INT8, NUMERICOID, column), zero_of(NUMERICOID));

	return cast(F_INT8_NUMERIC, INT8OID, sum);
}

static Expr *
combine_count(A67Split *split, Aggref *aggregate)
{
	return total_count(a67_split_column(split, (Expr *) copyObject(aggregate), NULL));
}

static Expr *
combine_sum(A67Split *split, Aggref *aggregate)
{
	Expr *column = a67_split_column(split, (Expr *) copyObject(aggregate), NULL);

	switch (aggregate->aggtype)
	{
		case INT8OID:
			return cast(F_INT8_NUMERIC, INT8OID, total(F_SUM_INT8, NUMERICOID, column));
		case NUMERICOID:
			return total(F_SUM_NUMERIC, NUMERICOID, column);
		case FLOAT4OID:
			return total(F_SUM_FLOAT4, FLOAT4OID, column);
		case FLOAT8OID:
			return total(F_SUM_FLOAT8, FLOAT8OID, column);
		case MONEYOID:
			return total(F_SUM_MONEY, MONEYOID, column);
		case INTERVALOID:
			return total(F_SUM_INTERVAL, INTERVALOID, column);
		default:
			return NULL;
	}
}

/* Squares of int2 and int4 fit into int8. */
static Expr *
square_of(Expr *arg)
{
	Oid type = exprType((Node *) arg);

	if (type == INT2OID || type == INT4OID)
	{
		arg = cast(type == INT2OID ? F_INT8_INT2 : F_INT8_INT4, INT8OID, arg);
		return call(F_INT8MUL, INT8OID, list_make2(arg, copyObject(arg)));
	}
	arg = to_type(arg, NUMERICOID);
	return call(F_NUMERIC_MUL, NUMERICOID, list_make2(arg, copyObject(arg)));
}

/* A sum over all shards, as numeric, of an exact number. */
static Expr *
exact_sum(A67Split *split, Aggref *aggregate, Expr *arg)
{
	Oid type = exprType((Node *) arg);
	bool small = type == INT2OID || type == INT4OID;
	Oid function = type == INT2OID	 ? F_SUM_INT2
				   : type == INT4OID ? F_SUM_INT4
				   : type == INT8OID ? F_SUM_INT8
									 : F_SUM_NUMERIC;
	Expr *sum = partial(split, function, small ? INT8OID : NUMERICOID, list_make1(arg), aggregate);

	return total(small ? F_SUM_INT8 : F_SUM_NUMERIC, NUMERICOID, sum);
}

static Expr *
combine_average(A67Split *split, Aggref *aggregate)
{
	Expr *arg = argument(aggregate, 0);
	Expr *count = partial(split, F_COUNT_ANY, INT8OID, list_make1(arg), aggregate);
	Expr *sum;

	count = total(F_SUM_INT8, NUMERICOID, count);
	switch (exprType((Node *) arg))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
			return call(F_NUMERIC_DIV, NUMERICOID,
						list_make2(exact_sum(split, aggregate, arg), count));
		case FLOAT4OID:
		case FLOAT8OID:
			sum = partial(split, F_SUM_FLOAT8, FLOAT8OID, list_make1(to_type(arg, FLOAT8OID)),
						  aggregate);
			return call(F_FLOAT8DIV, FLOAT8OID,
						list_make2(total(F_SUM_FLOAT8, FLOAT8OID, sum),
								   cast(F_FLOAT8_NUMERIC, FLOAT8OID, count)));
		case INTERVALOID:
			sum = partial(split, F_SUM_INTERVAL, INTERVALOID, list_make1(arg), aggregate);
			return call(F_INTERVAL_DIV, INTERVALOID,
						list_make2(total(F_SUM_INTERVAL, INTERVALOID, sum),
								   cast(F_FLOAT8_NUMERIC, FLOAT8OID, count)));
		default:
			return NULL;
	}
}

/* ---- variances */

static Expr *
combine_exact_variance(A67Split *split, Aggref *aggregate, bool sample, bool root)
{
	static const Oid types[] = {NUMERICOID, NUMERICOID, NUMERICOID, BOOLOID, BOOLOID};
	Expr *arg = argument(aggregate, 0);
	Expr *count = partial(split, F_COUNT_ANY, INT8OID, list_make1(arg), aggregate);

	return call(a67_own_function("_variance", lengthof(types), types), NUMERICOID,
				list_make5(total(F_SUM_INT8, NUMERICOID, count), exact_sum(split, aggregate, arg),
						   exact_sum(split, aggregate, square_of(copyObject(arg))),
						   makeBoolConst(sample, false), makeBoolConst(root, false)));
}

/* Puts states of shards together: arrays of float8, made here of columns of theirs that are null when there were no rows. */
static Expr *
combine_states(const char *name, List *columns)
{
	static const Oid types[] = {FLOAT8ARRAYOID};
	ArrayExpr *state = makeNode(ArrayExpr);
	ListCell *lc;

	state->array_typeid = FLOAT8ARRAYOID;
	state->element_typeid = FLOAT8OID;
	state->location = -1;
	foreach(lc, columns)
		state->elements =
			lappend(state->elements, coalesce(to_type(lfirst(lc), FLOAT8OID), zero_of(FLOAT8OID)));
	return (Expr *) aggregate_of(a67_own_function(name, 1, types), FLOAT8ARRAYOID,
								 list_make1(state), NULL);
}

static Expr *
combine_float_variance(A67Split *split, Aggref *aggregate, bool sample, bool root)
{
	Expr *arg = to_type(argument(aggregate, 0), FLOAT8OID);
	Expr *count = partial(split, F_COUNT_ANY, INT8OID, list_make1(arg), aggregate);
	Expr *sum = partial(split, F_SUM_FLOAT8, FLOAT8OID, list_make1(copyObject(arg)), aggregate);
	Expr *deviation = partial(split, F_REGR_SXX, FLOAT8OID,
							  list_make2(copyObject(arg), copyObject(arg)), aggregate);
	Expr *state = combine_states("_combine_float8", list_make3(count, sum, deviation));
	Oid final = sample ? (root ? F_FLOAT8_STDDEV_SAMP : F_FLOAT8_VAR_SAMP)
					   : (root ? F_FLOAT8_STDDEV_POP : F_FLOAT8_VAR_POP);

	return call(final, FLOAT8OID, list_make1(state));
}

static Expr *
combine_variance(A67Split *split, Aggref *aggregate, bool sample, bool root)
{
	Oid type = exprType((Node *) argument(aggregate, 0));

	if (type == FLOAT4OID || type == FLOAT8OID)
		return combine_float_variance(split, aggregate, sample, root);
	return combine_exact_variance(split, aggregate, sample, root);
}

/* ---- regression */

static const struct
{
	Oid aggregate;
	Oid final;
} regressions[] = {
	{F_REGR_SXX, F_FLOAT8_REGR_SXX},
	{F_REGR_SYY, F_FLOAT8_REGR_SYY},
	{F_REGR_SXY, F_FLOAT8_REGR_SXY},
	{F_REGR_AVGX, F_FLOAT8_REGR_AVGX},
	{F_REGR_AVGY, F_FLOAT8_REGR_AVGY},
	{F_REGR_R2, F_FLOAT8_REGR_R2},
	{F_REGR_SLOPE, F_FLOAT8_REGR_SLOPE},
	{F_REGR_INTERCEPT, F_FLOAT8_REGR_INTERCEPT},
	{F_COVAR_POP, F_FLOAT8_COVAR_POP},
	{F_COVAR_SAMP, F_FLOAT8_COVAR_SAMP},
	{F_CORR, F_FLOAT8_CORR},
};

/* A sum over the pairs that regressions count: both are there. */
static Expr *
sum_of_pairs(A67Split *split, const Aggref *aggregate, int which)
{
	Aggref *sum =
		aggregate_of(F_SUM_FLOAT8, FLOAT8OID, list_make1(argument(aggregate, which)), aggregate);
	NullTest *other = makeNode(NullTest);

	other->arg = argument(aggregate, 1 - which);
	other->nulltesttype = IS_NOT_NULL;
	other->location = -1;
	sum->aggfilter =
		sum->aggfilter == NULL ? (Expr *) other : make_andclause(list_make2(sum->aggfilter, other));
	return a67_split_column(split, (Expr *) sum, NULL);
}

static Expr *
combine_regression(A67Split *split, Aggref *aggregate, Oid final)
{
	static const Oid parts[] = {F_REGR_COUNT, InvalidOid, F_REGR_SXX,
								InvalidOid,	  F_REGR_SYY, F_REGR_SXY};
	List *columns = NIL;

	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		Expr *column;

		if (OidIsValid(parts[i]))
			column = partial(split, parts[i], parts[i] == F_REGR_COUNT ? INT8OID : FLOAT8OID,
							 list_make2(argument(aggregate, 0), argument(aggregate, 1)), aggregate);
		else
			column = sum_of_pairs(split, aggregate, i == 1 ? 1 : 0); /* arguments are y, x */
		columns = lappend(columns, column);
	}
	return call(final, FLOAT8OID, list_make1(combine_states("_combine_regr", columns)));
}

/* ---- which */

/* The same aggregate over the parts' results: least, greatest, and those of bits and booleans. */
static Expr *
combine_same(A67Split *split, Aggref *aggregate)
{
	Expr *column = a67_split_column(split, (Expr *) copyObject(aggregate), NULL);
	Aggref *result =
		aggregate_of(aggregate->aggfnoid, aggregate->aggtype, list_make1(column), NULL);

	result->aggargtypes = list_copy(aggregate->aggargtypes);
	result->aggcollid = aggregate->aggcollid;
	result->inputcollid = aggregate->inputcollid;
	return (Expr *) result;
}

static bool
is_one_of(const char *name, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		if (strcmp(name, *names) == 0)
			return true;
	}
	return false;
}

/* Rows that are equal in the arguments count once: shards find the different ones, and the aggregate is computed here. */
static Expr *
combine_distinct(A67Split *split, Aggref *aggregate)
{
	Aggref *result = copyObject(aggregate);
	ListCell *lc;

	foreach(lc, result->args)
	{
		TargetEntry *entry = lfirst(lc);
		SortGroupClause *clause = NULL;

		if (entry->ressortgroupref > 0)
			clause = get_sortgroupref_clause_noerr(entry->ressortgroupref, result->aggdistinct);
		entry->expr = a67_split_group(split, entry->expr, clause);
	}
	if (result->aggfilter != NULL)
		result->aggfilter = a67_split_group(split, result->aggfilter, NULL);
	return (Expr *) result;
}

/* Different keys of one shard are different from those of others: counts and sums of them add up. */
static bool
is_of_key(A67Split *split, Aggref *aggregate, const char *name)
{
	return list_length(aggregate->args) == 1 && list_member(split->keys, argument(aggregate, 0)) &&
		   (strcmp(name, "count") == 0 || strcmp(name, "sum") == 0);
}

/* Whether shards have to find the different arguments, as more groups. */
static bool
is_distinct(A67Split *split, Aggref *aggregate)
{
	const char *name = get_func_name(aggregate->aggfnoid);

	return aggregate->aggdistinct != NIL && name != NULL && strcmp(name, "min") != 0 &&
		   strcmp(name, "max") != 0 && !is_of_key(split, aggregate, name);
}

bool
a67_adds_groups(Node *node, A67Split *split)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && is_distinct(split, (Aggref *) node))
		return true;
	return expression_tree_walker(node, a67_adds_groups, split);
}

Expr *
a67_combine_aggregate(A67Split *split, Aggref *aggregate)
{
	static const char *const same[] = {"min",	  "max",	"bool_and", "bool_or", "every",
									   "bit_and", "bit_or", "bit_xor",	NULL};
	static const char *const samples[] = {"variance", "var_samp", "stddev", "stddev_samp", NULL};
	static const char *const populations[] = {"var_pop", "stddev_pop", NULL};
	const char *name = get_func_name(aggregate->aggfnoid);

	if (aggregate->aggfnoid >= FirstUnpinnedObjectId || aggregate->agglevelsup > 0 ||
		aggregate->aggkind != AGGKIND_NORMAL || aggregate->aggvariadic || name == NULL)
		return NULL;
	if (is_distinct(split, aggregate))
		return combine_distinct(split, aggregate);
	if (aggregate->aggorder != NIL)
		return NULL;
	for (int i = 0; i < (int) lengthof(regressions); i++)
	{
		if (aggregate->aggfnoid == regressions[i].aggregate)
			return combine_regression(split, aggregate, regressions[i].final);
	}
	if (is_one_of(name, same))
		return combine_same(split, aggregate);
	if (strcmp(name, "count") == 0 || strcmp(name, "regr_count") == 0)
		return combine_count(split, aggregate);
	if (strcmp(name, "sum") == 0)
		return combine_sum(split, aggregate);
	if (strcmp(name, "avg") == 0)
		return combine_average(split, aggregate);
	if (is_one_of(name, samples) || is_one_of(name, populations))
		return combine_variance(split, aggregate, is_one_of(name, samples),
								strncmp(name, "stddev", 6) == 0);
	return NULL;
}
