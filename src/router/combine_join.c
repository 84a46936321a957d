/*
 * combine_join.c - joins of virtual tables that shards can compute, in a query that as a whole they cannot.
 *
 * The planner asks for every set of tables that it considers joining. From the conditions that it has for them a query is made,
 * and analysed like any other; when each shard can answer its part, a custom scan is one more path, which wins when it brings fewer rows here
 * than scans of the tables do. Inner joins only. Of every set the conditions are kept (fdw_private of the join's relation), as larger ones are made of them.
 */
#include "postgres.h"

#include "router/combine_join.h"

#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"

#include "router/combine_part.h"
#include "router/ship.h"

/* fdw_private of a join's relation. */
typedef struct JoinSet
{
	bool possible; /* the conditions are known, and could be sent */
	bool linked;   /* some of them tie the two sides */
	List *clauses;
} JoinSet;

/* ---- conditions */

/* Appends conditions; false when one of them has to stay here. */
static bool
add_clauses(List **clauses, List *infos)
{
	ListCell *lc;

	foreach(lc, infos)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, lc);

		if (info->pseudoconstant || info->security_level > 0 ||
			contain_subplans((Node *) info->clause) ||
			contain_volatile_functions((Node *) info->clause))
			return false;
		*clauses = list_append_unique(*clauses, info->clause);
	}
	return true;
}

/* The conditions on the rows of one side. */
static bool
add_side(List **clauses, RelOptInfo *rel)
{
	JoinSet *set = rel->fdw_private;

	if (rel->reloptkind == RELOPT_BASEREL)
		return rel->rtekind == RTE_RELATION && add_clauses(clauses, rel->baserestrictinfo);
	if (rel->reloptkind != RELOPT_JOINREL || set == NULL || !set->possible)
		return false;
	*clauses = list_union(*clauses, set->clauses);
	return true;
}

/* Whether an outer, semi or anti join has members on both of its sides in the set. */
static bool
has_special_join(PlannerInfo *root, Relids relids)
{
	ListCell *lc;

	foreach(lc, root->join_info_list)
	{
		SpecialJoinInfo *special = lfirst(lc);

		if (bms_overlap(special->syn_lefthand, relids) &&
			bms_overlap(special->syn_righthand, relids))
			return true;
	}
	return false;
}

/* ---- the query */

static bool
only_columns(List *exprs)
{
	ListCell *lc;

	foreach(lc, exprs)
	{
		Var *var = lfirst(lc);

		if (!IsA(var, Var) || var->varattno <= 0 || var->varlevelsup > 0)
			return false;
	}
	return true;
}

/* Places of relations that do not take part stay empty, so that columns keep their numbers. */
static RangeTblEntry *
entry_for(PlannerInfo *root, Relids relids, int rti)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	if (bms_is_member(rti, relids))
	{
		*rte = *planner_rt_fetch(rti, root);
		rte->securityQuals = NIL;
		rte->inFromCl = rte->inh = true;
		return rte;
	}
	rte->rtekind = RTE_RESULT;
	rte->eref = makeAlias("*RESULT*", NIL);
	return rte;
}

static Query *
query_of(PlannerInfo *root, RelOptInfo *joinrel, List *clauses)
{
	Query *query = makeNode(Query);
	List *from = NIL;
	ListCell *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	for (int rti = 1; rti < root->simple_rel_array_size; rti++)
	{
		query->rtable = lappend(query->rtable, entry_for(root, joinrel->relids, rti));
		if (bms_is_member(rti, joinrel->relids))
		{
			RangeTblRef *ref = makeNode(RangeTblRef);

			ref->rtindex = rti;
			from = lappend(from, ref);
		}
	}
	query->jointree =
		makeFromExpr(from, clauses == NIL ? NULL : (Node *) make_ands_explicit(clauses));
	foreach(lc, joinrel->reltarget->exprs)
		query->targetList =
			lappend(query->targetList,
					makeTargetEntry(lfirst(lc), foreach_current_index(lc) + 1,
									psprintf("c%d", foreach_current_index(lc) + 1), false));
	if (query->targetList == NIL)
		query->targetList = list_make1(
			makeTargetEntry((Expr *) makeBoolConst(true, false), 1, pstrdup("c1"), false));
	return copyObject(query);
}

/* ---- the path */

/* Whether all tables of the set were analysed. */
static bool
is_known(PlannerInfo *root, Relids relids)
{
	int rti = -1;

	while ((rti = bms_next_member(relids, rti)) >= 0)
	{
		if (!a67_table_is_known(planner_rt_fetch(rti, root)->relid))
			return false;
	}
	return true;
}

static void
add_join_path(PlannerInfo *root, RelOptInfo *joinrel, RelOptInfo *outerrel, RelOptInfo *innerrel,
			  const JoinSet *set)
{
	Query *query = query_of(root, joinrel, set->clauses);
	A67Analysis *analysis = a67_analyse(query, root->glob->boundParams);
	double rows = joinrel->rows;
	CustomPath *path;
	A67Remote remote;
	List *exprs;

	if (analysis->spread == A67_SPREAD_MIXED || analysis->spread == A67_SPREAD_NONE ||
		a67_ship_obstacle(analysis->database, query) != NULL ||
		!a67_combine_describe(&remote, analysis, query, root->glob->boundParams, &exprs))
		return;
	/* Of tables that nobody analysed the planner thinks that they join with almost everything. */
	if (set->linked && !is_known(root, joinrel->relids))
		rows = Min(rows, Max(outerrel->rows, innerrel->rows));
	path = a67_combine_path(joinrel, a67_remote_pack(&remote), exprs, query->targetList);
	path->path.total_cost =
		path->path.startup_cost + rows * A67_ROW_COST +
		(outerrel->rows + innerrel->rows) * cpu_tuple_cost / analysis->database->shard_count;
	add_path(joinrel, (Path *) path);
}

void
a67_join_paths(PlannerInfo *root, RelOptInfo *joinrel, RelOptInfo *outerrel, RelOptInfo *innerrel,
			   JoinType jointype, JoinPathExtraData *extra)
{
	JoinSet *set = joinrel->fdw_private;
	List *clauses = NIL;

	/* Rows that are locked or changed are looked at again one by one, which only scans can do. */
	if ((set != NULL && set->possible) || root->parse->commandType != CMD_SELECT ||
		root->parse->rowMarks != NIL || root->rowMarks != NIL)
		return;
	joinrel->fdw_private = set = palloc0(sizeof(*set));
	if (jointype != JOIN_INNER || !bms_is_empty(joinrel->lateral_relids) ||
		has_special_join(root, joinrel->relids) || !add_side(&clauses, outerrel) ||
		!add_side(&clauses, innerrel) || !add_clauses(&clauses, extra->restrictlist))
		return;
	set->possible = true;
	set->linked = extra->restrictlist != NIL;
	set->clauses = clauses;
	if (only_columns(joinrel->reltarget->exprs))
		add_join_path(root, joinrel, outerrel, innerrel, set);
}
