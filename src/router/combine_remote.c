/*
 * combine_remote.c - the relation that stands for what shards compute.
 *
 * In the query it is a call of a67_internal._remote, whose arguments are a description of the statement and then the
 * expressions for its parameters and keys, so that the planner does with those what it does with expressions everywhere. When the planner
 * looks for ways to read the relation, the call is replaced by a custom scan; it is never executed.
 */
#include "postgres.h"

#include "router/combine_part.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "router/planner.h"
#include "router/remote.h"
#include "router/ship.h"

#define ROWS_UNKNOWN	100000.0 /* of a table that was not analysed */
#define GROUPS_SHARE	0.1		 /* of the rows, when nothing is known of groups */
#define ROUND_TRIP_COST 25.0	 /* of a message and its answer, in the planner's unit */
/* A place in a statement that no parser gives: calls that users wrote are none of ours. */
#define MADE_HERE		(-67)

PG_FUNCTION_INFO_V1(a67_sql_remote);

Datum
a67_sql_remote(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("function _remote cannot be called"),
			 errdetail("It exists in plans of queries on virtual tables alone.")));
	PG_RETURN_NULL();
}

Oid
a67_own_function(const char *name, int count, const Oid *types)
{
	Oid schema = get_namespace_oid("a67_internal", false);
	Oid function =
		GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
						PointerGetDatum(buildoidvector(types, count)), ObjectIdGetDatum(schema));

	if (!OidIsValid(function))
		elog(ERROR, "function a67_internal.%s does not exist", name);
	return function;
}

static Oid
remote_function(void)
{
	static const Oid types[] = {ANYOID};

	return a67_own_function("_remote", lengthof(types), types);
}

/* Also asked of functions in databases that do not have the extension. */
static bool
is_remote_function(Oid function)
{
	char *name = function < FirstNormalObjectId ? NULL : get_func_name(function);

	return name != NULL && strcmp(name, "_remote") == 0 &&
		   get_func_namespace(function) == get_namespace_oid("a67_internal", true);
}

/* ---- where */

static List *
shard_ids(const A67Database *database, Bitmapset *shards)
{
	List *ids = NIL;
	int shard = -1;

	while ((shard = bms_next_member(shards, shard)) >= 0)
		ids = lappend_int(ids, database->shards[shard].shard_id);
	return ids;
}

static Node *
known_value(Expr *expr, ParamListInfo params)
{
	PlannerInfo *root = makeNode(PlannerInfo);

	root->glob = makeNode(PlannerGlobal);
	root->glob->boundParams = params;
	root->parse = makeNode(Query);
	return eval_const_expressions(root, (Node *) copyObject(expr));
}

/* The shard that all pins have; false when it is not known, or there are several. */
static bool
known_shard(const A67Analysis *analysis, ParamListInfo params, int *shard)
{
	ListCell *lc;

	*shard = -1;
	foreach(lc, analysis->pins)
	{
		A67Pin *pin = lfirst(lc);
		int home = pin->home;

		if (pin->expr != NULL)
		{
			Const *value = (Const *) known_value(pin->expr, params);

			if (!IsA(value, Const))
				return false;
			home = value->constisnull
					   ? -1
					   : a67_shard_of_key(pin->table, value->constvalue, value->consttype);
		}
		if (home >= 0 && *shard >= 0 && home != *shard)
			return false;
		*shard = Max(*shard, home);
	}
	return true;
}

static bool
place_one(A67Remote *remote, const A67Analysis *analysis, ParamListInfo params, List **keys)
{
	A67Pin *pin = linitial(analysis->pins);
	int shard;

	remote->strategy = "one shard";
	if (known_shard(analysis, params, &shard))
	{
		remote->where = A67_WHERE_LIST;
		remote->shard_ids = list_make1_int(analysis->database->shards[Max(shard, 0)].shard_id);
		return true;
	}
	if (list_length(analysis->pins) > 1)
		return false;
	remote->where = A67_WHERE_KEY;
	remote->relid = pin->table->relid;
	remote->shard_ids = shard_ids(analysis->database, a67_shards_of_table(pin->table));
	*keys = list_make1(pin->expr);
	return true;
}

static bool
has_params_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, Param) || expression_tree_walker(node, has_params_walker, context);
}

static void
place_each(A67Remote *remote, const A67Analysis *analysis)
{
	remote->strategy = "parts";
	remote->where = A67_WHERE_LIST;
	remote->shard_ids = shard_ids(analysis->database, analysis->shards);
	/* A shard answers for those that have no rows: not every query has none of none. */
	if (remote->shard_ids == NIL)
		remote->shard_ids = list_make1_int(analysis->database->shards[0].shard_id);
	if (has_params_walker((Node *) analysis->quals, NULL))
	{
		remote->where = A67_WHERE_PRUNE;
		remote->quals = analysis->quals;
	}
}

static bool
place(A67Remote *remote, const A67Analysis *analysis, ParamListInfo params, List **keys)
{
	remote->relid = analysis->table->relid;
	*keys = NIL;
	switch (analysis->spread)
	{
		case A67_SPREAD_ONE:
			return place_one(remote, analysis, params, keys);
		case A67_SPREAD_EACH:
			place_each(remote, analysis);
			return true;
		case A67_SPREAD_COPIES:
			remote->strategy = "any shard";
			remote->where = A67_WHERE_ANY;
			remote->shard_ids = shard_ids(analysis->database, a67_shards_of_table(analysis->table));
			return true;
		default:
			return false;
	}
}

/* ---- how many rows */

/* What ANALYZE has counted; negative: nothing yet. */
static double
counted_rows(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double rows = -1;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

bool
a67_table_is_known(Oid relid)
{
	return counted_rows(relid) >= 0;
}

static double
table_rows(Oid relid)
{
	double rows = counted_rows(relid);

	return rows < 0 ? ROWS_UNKNOWN : Max(rows, 1);
}

static double
estimate_rows(const A67Analysis *analysis, const A67Remote *remote, Query *query)
{
	double shards = analysis->spread == A67_SPREAD_EACH ? list_length(remote->shard_ids) : 1;
	double rows = 1;
	ListCell *lc;

	foreach(lc, analysis->relids)
		rows = Max(rows, table_rows(lfirst_oid(lc)));
	if (query->hasAggs && query->groupClause == NIL && query->groupingSets == NIL)
		rows = shards;
	else if (query->groupClause != NIL || query->groupingSets != NIL ||
			 query->distinctClause != NIL)
		rows = Max(rows * GROUPS_SHARE, shards);
	if (query->limitCount != NULL && IsA(query->limitCount, Const))
		rows = Min(rows, shards * Max(DatumGetInt64(((Const *) query->limitCount)->constvalue), 1));
	return clamp_row_est(rows);
}

/* ---- the relation */

static RangeTblFunction *
function_of(List *args, List *columns)
{
	RangeTblFunction *function = makeNode(RangeTblFunction);
	FuncExpr *call = makeFuncExpr(remote_function(), RECORDOID, args, InvalidOid, InvalidOid,
								  COERCE_EXPLICIT_CALL);
	ListCell *lc;

	call->funcretset = true;
	call->location = MADE_HERE;
	function->funcexpr = (Node *) call;
	foreach(lc, columns)
	{
		TargetEntry *entry = lfirst(lc);
		Node *expr = (Node *) entry->expr;

		if (entry->resjunk)
			continue;
		function->funccolcount++;
		function->funccolnames =
			lappend(function->funccolnames,
					makeString(pstrdup(entry->resname != NULL ? entry->resname : "?column?")));
		function->funccoltypes = lappend_oid(function->funccoltypes, exprType(expr));
		function->funccoltypmods = lappend_int(function->funccoltypmods, exprTypmod(expr));
		function->funccolcollations = lappend_oid(function->funccolcollations, exprCollation(expr));
	}
	return function;
}

bool
a67_combine_describe(A67Remote *remote, const A67Analysis *analysis, Query *query,
					 ParamListInfo params, List **exprs)
{
	A67Shipment *shipment;
	List *keys;

	memset(remote, 0, sizeof(*remote));
	remote->command = CMD_SELECT;
	remote->effect = A67_EFFECT_READ;
	remote->returns = true;
	if (!place(remote, analysis, params, &keys))
		return false;
	shipment = a67_ship(analysis->database, query);
	remote->sql = shipment->sql;
	remote->param_count = list_length(shipment->params);
	remote->key_count = list_length(keys);
	remote->prepare = shipment->params != NIL;
	*exprs = list_concat_copy(shipment->params, keys);
	return true;
}

RangeTblEntry *
a67_remote_relation(const A67Analysis *analysis, Query *query, ParamListInfo params)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblFunction *function;
	A67Remote remote;
	List *exprs;
	List *description;
	double rows;
	Const *text;

	if (!a67_combine_describe(&remote, analysis, query, params, &exprs))
		return NULL;
	rows = estimate_rows(analysis, &remote, query);
	description = list_make2(a67_remote_pack(&remote), makeInteger((int) Min(rows, INT_MAX / 2)));
	text = makeConst(TEXTOID, -1, InvalidOid, -1, CStringGetTextDatum(nodeToString(description)),
					 false, false);
	function = function_of(lcons(text, exprs), query->targetList);
	rte->rtekind = RTE_FUNCTION;
	rte->functions = list_make1(function);
	rte->eref = makeAlias("remote", copyObject(function->funccolnames));
	rte->inFromCl = true;
	return rte;
}

/* ---- the path */

static Plan *
plan_path(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
		  List *custom_plans)
{
	CustomScan *scan = a67_custom_scan(a67_remote_unpack(linitial(path->custom_private)),
									   copyObject(lsecond(path->custom_private)),
									   copyObject(lthird(path->custom_private)));

	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->custom_relids = bms_copy(rel->relids);
	scan->flags = path->flags;
	return &scan->scan.plan;
}

static const CustomPathMethods path_methods = {
	.CustomName = "A67Remote",
	.PlanCustomPath = plan_path,
};

CustomPath *
a67_combine_path(RelOptInfo *rel, List *remote, List *exprs, List *columns)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.rows = rel->rows;
	path->path.startup_cost = ROUND_TRIP_COST;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_private = list_make3(remote, exprs, columns);
	path->methods = &path_methods;
	return path;
}

static List *
columns_of(RelOptInfo *rel, RangeTblFunction *function)
{
	List *columns = NIL;

	for (int i = 0; i < function->funccolcount; i++)
	{
		Var *var = makeVar(rel->relid, i + 1, list_nth_oid(function->funccoltypes, i),
						   list_nth_int(function->funccoltypmods, i),
						   list_nth_oid(function->funccolcollations, i), 0);

		columns =
			lappend(columns, makeTargetEntry((Expr *) var, i + 1,
											 strVal(list_nth(function->funccolnames, i)), false));
	}
	return columns;
}

void
a67_combine_paths(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	RangeTblFunction *function = linitial(rte->functions);
	FuncExpr *call = (FuncExpr *) function->funcexpr;
	List *description;
	CustomPath *path;
	double rows;

	if (list_length(rte->functions) != 1 || !IsA(call, FuncExpr) || call->args == NIL ||
		!IsA(linitial(call->args), Const) || call->location != MADE_HERE ||
		!is_remote_function(call->funcid))
		return;
	description = stringToNode(TextDatumGetCString(((Const *) linitial(call->args))->constvalue));
	rows = intVal(lsecond(description));
	rel->rows = clamp_row_est(
		rows * clauselist_selectivity(root, rel->baserestrictinfo, 0, JOIN_INNER, NULL));
	path = a67_combine_path(rel, linitial(description), list_copy_tail(call->args, 1),
							columns_of(rel, function));
	path->path.param_info = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	path->path.total_cost = ROUND_TRIP_COST + rows * A67_ROW_COST;
	rel->pathlist = rel->partial_pathlist = NIL;
	add_path(rel, (Path *) path);
}
