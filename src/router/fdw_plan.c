/*
 * fdw_plan.c - planning scans of virtual tables: sizes, paths, plans; see fdw.h.
 *
 * The scan of one table is what the planner falls back to where a statement cannot be pushed down
 * any further. Shards check what clauses they can; with parameters a scan fetches only the rows for
 * one row of another relation, which pays when that one has few.
 */
#include "postgres.h"

#include "router/fdw.h"

#include "access/sysattr.h"
#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "utils/rel.h"

#include "router/prune.h"

/* In the planner's unit: a message to shards and its answer in one network, and a row of it. */
#define ROUND_TRIP_COST		   25.0
#define ROW_COST			   0.02

/* What a table that was never analysed is taken for. */
#define ROWS_UNKNOWN		   100000.0
#define ROWS_UNKNOWN_REFERENCE 1000.0

/* Of RelOptInfo.fdw_private. */
typedef struct Rel
{
	const A67Table *table;
	List *pushed; /* RestrictInfos of baserestrictinfo that shards check */
	List *kept;	  /* the others */
} Rel;

/* ---- sizes */

/*
 * Clauses of users must not see rows, not even by an error, that those of row-level security hide.
 */
static bool
leaks(const RelOptInfo *rel, const RestrictInfo *info)
{
	return info->security_level > rel->baserestrict_min_security && !info->leakproof;
}

static void
rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	Rel *own = palloc0(sizeof(Rel));
	ListCell *cell;

	own->table = a67_table(relid);
	if (own->table == NULL)
		elog(ERROR, "relation %u is no virtual table", relid);
	rel->fdw_private = own;
	foreach(cell, rel->baserestrictinfo)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);

		if (!leaks(rel, info) && a67_fdw_shippable(rel, own->table, info->clause))
			own->pushed = lappend(own->pushed, info);
		else
			own->kept = lappend(own->kept, info);
	}
	if (rel->tuples < 0)
		rel->tuples = own->table->strategy == A67_REFERENCE ? ROWS_UNKNOWN_REFERENCE : ROWS_UNKNOWN;
	rel->pages = (BlockNumber) Max(1, rel->tuples / 50);
	set_baserel_size_estimates(root, rel);
}

/* ---- paths */

typedef struct Estimate
{
	double rows;
	Cost startup;
	Cost total;
} Estimate;

/*
 * `joins`: clauses beside the table's own that the path checks, remotely as far as they are
 * shippable.
 */
static Estimate
estimate(PlannerInfo *root, RelOptInfo *rel, List *joins)
{
	Rel *own = rel->fdw_private;
	List *remote = list_copy(own->pushed);
	double tuples = Max(rel->tuples, 1);
	double shards = own->table->database->shard_count;
	double fetched;
	bool by_key;
	QualCost local;
	Estimate result;
	ListCell *cell;

	foreach(cell, joins)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);

		if (a67_fdw_shippable(rel, own->table, info->clause))
			remote = lappend(remote, info);
	}
	by_key = own->table->key > 0 &&
			 a67_fdw_key_is_fixed(rel, own->table, extract_actual_clauses(remote, false));
	fetched = clamp_row_est(tuples * clauselist_selectivity(root, remote, 0, JOIN_INNER, NULL));
	cost_qual_eval(&local, own->kept, root);
	result.rows = rel->rows;
	if (joins != NIL)
		result.rows = Min(rel->rows, fetched);
	result.startup = ROUND_TRIP_COST + local.startup;
	result.total = result.startup + fetched * (ROW_COST + cpu_tuple_cost + local.per_tuple);
	/* Shards work side by side; a row whose key is known they find by an index. */
	if (!by_key)
		result.total += tuples / shards * cpu_tuple_cost;
	return result;
}

static void
add_scan(PlannerInfo *root, RelOptInfo *rel, ParamPathInfo *param)
{
	Estimate cost = estimate(root, rel, param != NULL ? param->ppi_clauses : NIL);
	Relids outer = param != NULL ? param->ppi_req_outer : rel->lateral_relids;

	if (param != NULL)
		param->ppi_rows = cost.rows;
	add_path(rel, (Path *) create_foreignscan_path(root, rel, NULL, cost.rows, cost.startup,
												   cost.total, NIL, outer, NULL, NIL));
}

/* Notes the relations that the clause would have to be parameterised by. */
static List *
add_outer(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *info, List *params)
{
	Rel *own = rel->fdw_private;
	Relids outer;

	if (!join_clause_is_movable_to(info, rel) || !a67_fdw_shippable(rel, own->table, info->clause))
		return params;
	outer = bms_del_member(bms_union(info->clause_relids, rel->lateral_relids), (int) rel->relid);
	if (bms_is_empty(outer))
		return params;
	return list_append_unique_ptr(params, get_baserel_parampathinfo(root, rel, outer));
}

/* For generate_implied_equalities_for_column: members that are of this relation, one at a time. */
typedef struct Members
{
	Expr *current;
	List *used;
} Members;

static bool
next_member(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *class, EquivalenceMember *member,
			void *arg)
{
	Members *members = arg;

	if (members->current != NULL)
		return equal(member->em_expr, members->current);
	if (list_member(members->used, member->em_expr))
		return false;
	members->current = member->em_expr;
	return true;
}

static List *
add_equalities(PlannerInfo *root, RelOptInfo *rel, List *params)
{
	Members members = {.current = NULL, .used = NIL};

	for (;;)
	{
		List *clauses;
		ListCell *cell;

		members.current = NULL;
		clauses = generate_implied_equalities_for_column(root, rel, next_member, &members,
														 rel->lateral_referencers);
		if (members.current == NULL)
			return params;
		foreach(cell, clauses)
			params = add_outer(root, rel, lfirst_node(RestrictInfo, cell), params);
		members.used = lappend(members.used, members.current);
	}
}

static void
add_scans(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	List *params = NIL;
	ListCell *cell;

	add_scan(root, rel, NULL);
	foreach(cell, rel->joininfo)
		params = add_outer(root, rel, lfirst_node(RestrictInfo, cell), params);
	if (rel->has_eclass_joins)
		params = add_equalities(root, rel, params);
	foreach(cell, params)
		add_scan(root, rel, lfirst(cell));
}

/* ---- plans */

static void
check_system_columns(PlannerInfo *root, const A67FdwScan *scan)
{
	for (int attno = FirstLowInvalidHeapAttributeNumber + 1; attno < 0; attno++)
	{
		if (attno == SelfItemPointerAttributeNumber || attno == TableOidAttributeNumber ||
			!bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, scan->attrs))
			continue;
		if (attno == A67_FDW_SHARD_ATTRIBUTE &&
			bms_is_member((int) scan->rel->relid, root->all_result_relids))
			continue;
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("system columns of virtual tables other than ctid and tableoid "
							   "cannot be read"),
						errdetail("They belong to the server that a row is on.")));
	}
}

static void
set_attrs(A67FdwScan *scan, List *local)
{
	pull_varattnos((Node *) scan->rel->reltarget->exprs, scan->rel->relid, &scan->attrs);
	pull_varattnos((Node *) local, scan->rel->relid, &scan->attrs);
}

/* Rows that are going to be changed, or that the statement locks, are locked where they are. */
static void
set_lock(PlannerInfo *root, A67FdwScan *scan)
{
	PlanRowMark *mark = get_plan_rowmark(root->rowMarks, scan->rel->relid);

	scan->lock = LCS_NONE;
	if (bms_is_member((int) scan->rel->relid, root->all_result_relids) &&
		(root->parse->commandType == CMD_UPDATE || root->parse->commandType == CMD_DELETE))
		scan->lock = LCS_FORUPDATE;
	else if (mark != NULL)
	{
		scan->lock = mark->strength;
		scan->wait = mark->waitPolicy;
	}
}

/* A LIMIT that nothing above the scan could need more rows for. */
static void
set_limit(PlannerInfo *root, A67FdwScan *scan, List *local)
{
	Query *parse = root->parse;

	scan->limit = -1;
	if (local != NIL || root->limit_tuples <= 0 || parse->commandType != CMD_SELECT ||
		!bms_equal(root->all_baserels, scan->rel->relids) || parse->sortClause != NIL ||
		parse->groupClause != NIL || parse->groupingSets != NIL || parse->distinctClause != NIL ||
		parse->hasAggs || parse->hasWindowFuncs || parse->hasTargetSRFs ||
		parse->havingQual != NULL || parse->setOperations != NULL || parse->rowMarks != NIL ||
		!IsA(parse->limitCount, Const) ||
		(parse->limitOffset != NULL && !IsA(parse->limitOffset, Const)))
		return;
	if (root->limit_tuples < 1e15)
		scan->limit = (int64) root->limit_tuples;
}

static ForeignScan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *tlist,
		  List *clauses, Plan *outer)
{
	Rel *own = rel->fdw_private;
	A67FdwScan scan = {.root = root, .rel = rel, .table = a67_table(relid)};
	List *local = NIL;
	List *exprs;
	List *attnums;
	A67Remote *remote;
	ListCell *cell;

	foreach(cell, clauses)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);

		if (info->pseudoconstant)
			continue;
		if (list_member_ptr(own->pushed, info) ||
			(!list_member_ptr(own->kept, info) && a67_fdw_shippable(rel, scan.table, info->clause)))
			scan.clauses = lappend(scan.clauses, info->clause);
		else
			local = lappend(local, info->clause);
	}
	set_attrs(&scan, local);
	check_system_columns(root, &scan);
	set_lock(root, &scan);
	set_limit(root, &scan, local);
	remote = a67_fdw_query(&scan, &exprs, &attnums);
	return make_foreignscan(tlist, local, rel->relid, exprs, A67_FDW_PRIVATE(remote, attnums), NIL,
							scan.clauses, outer);
}

void
a67_fdw_plan_routines(FdwRoutine *routine)
{
	routine->GetForeignRelSize = rel_size;
	routine->GetForeignPaths = add_scans;
	routine->GetForeignPlan = plan_scan;
}
