/*
 * planner.h - the planner hook: statements on virtual tables become plans that run on shards.
 *
 * planner.c tries in this order: the whole statement to one shard, or a write to all shards it
 * concerns (whole.c); INSERT (insert.h); a SELECT split into what each shard computes and what
 * combines it here (combine.h), at every level of the query; and leaves the rest to PostgreSQL's
 * planner with the scans of fdw.c. Statements without virtual tables pass through at the cost of a
 * look at their range table.
 */
#ifndef A67_ROUTER_PLANNER_H
#define A67_ROUTER_PLANNER_H

#include "postgres.h"

#include "nodes/params.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "nodes/parsenodes.h"

#include "router/analyse.h"
#include "router/remote.h"

/*
 * Installs hooks of planner, relation paths and utility statements, and registers the custom scans.
 * Only from _PG_init.
 */
void a67_router_install(void);

/* What the planner hook does; also for the sources of INSERT and COPY. Changes the query. */
PlannedStmt *a67_plan_query(Query *query, const char *query_string, int cursor_options,
							ParamListInfo params);

/*
 * whole.c: a plan that is one remote statement, or NULL when the statement cannot be sent whole.
 * Throws 0A000 for what never can run. Does not change the query.
 */
PlannedStmt *a67_plan_whole(Query *query, int cursor_options, ParamListInfo params);

/*
 * insert_plan.c: a plan for INSERT into a virtual table whose rows are routed here, or NULL when it
 * is none.
 */
PlannedStmt *a67_plan_insert(Query *query, const char *query_string, int cursor_options,
							 ParamListInfo params);

/*
 * combine.c: replaces what shards can compute, at every level, by calls of a67_internal._remote.
 * Returns whether it did; changes the query.
 */
bool a67_combine(Query *query, ParamListInfo params);

/* Of set_rel_pathlist_hook: paths for range table entries that a67_combine made. */
void a67_combine_paths(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte);

/*
 * After planning: tables that were replaced are put (back) into the plan's range table and relation
 * list, for permissions, locks and invalidation.
 */
void a67_combine_finish(PlannedStmt *plan, Query *original);

/*
 * custom.c: the plan node that runs an A67Remote. `exprs` are its parameters, then its keys;
 * scan_tlist is the row that comes back. Costs and custom_relids are left to the caller.
 */
CustomScan *a67_custom_scan(const A67Remote *remote, List *exprs, List *scan_tlist);

/* Once, at installation. */
void a67_custom_register(void);

/* utility.c: the hook for statements that are not planned. Only from a67_router_install. */
void a67_utility_install(void);

#endif /* A67_ROUTER_PLANNER_H */
