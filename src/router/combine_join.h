/*
 * combine_join.h - joins that shards can compute, as a choice for the planner beside scans of each table.
 */
#ifndef A67_ROUTER_COMBINE_JOIN_H
#define A67_ROUTER_COMBINE_JOIN_H

#include "postgres.h"

#include "nodes/pathnodes.h"

/* GetForeignJoinPaths of a67_fdw: adds a path for an inner join whose pairs of rows are all on one shard each. */
void a67_join_paths(PlannerInfo *root, RelOptInfo *joinrel, RelOptInfo *outerrel,
					RelOptInfo *innerrel, JoinType jointype, JoinPathExtraData *extra);

#endif /* A67_ROUTER_COMBINE_JOIN_H */
