/*
 * fdw.h - what the parts of wrapper a67_fdw share: scans (fdw_plan.c, fdw_query.c, fdw.c), samples
 * (fdw_sample.c).
 */
#ifndef A67_ROUTER_FDW_H
#define A67_ROUTER_FDW_H

#include "postgres.h"

#include "access/sysattr.h"
#include "foreign/fdwapi.h"
#include "nodes/pathnodes.h"

#include "router/catalog.h"
#include "router/remote.h"

/* A scan of one virtual table, to be made into a remote statement. */
typedef struct A67FdwScan
{
	PlannerInfo *root;
	RelOptInfo *rel;
	const A67Table *table;
	List *clauses;	  /* implicitly ANDed: what shards check; other relations may be in it */
	Bitmapset *attrs; /* columns wanted, offset by FirstLowInvalidHeapAttributeNumber; 0: all */
	LockClauseStrength lock;
	LockWaitPolicy wait;
	int64 limit; /* rows wanted at most; negative: all */
} A67FdwScan;

/* fdw_plan.c */
void a67_fdw_plan_routines(FdwRoutine *routine);

/*
 * fdw_query.c: whether a shard can check the clause, with what it says of other relations as
 * parameters; whether clauses leave one key. Then the scan's remote statement; *exprs for
 * a67_remote_begin; *attnums of the columns of its rows, in their order.
 */
bool a67_fdw_shippable(RelOptInfo *rel, const A67Table *table, Expr *clause);
bool a67_fdw_key_is_fixed(RelOptInfo *rel, const A67Table *table, List *clauses);
A67Remote *a67_fdw_query(const A67FdwScan *scan, List **exprs, List **attnums);

/* fdw_sample.c: ANALYZE. */
bool a67_fdw_analyze(Relation relation, AcquireSampleRowsFunc *sample, BlockNumber *pages);

/* fdw_truncate.c */
void a67_fdw_truncate(List *relations, DropBehavior behavior, bool restart_sequences);

/* The system column that carries the id of a row's shard to the node that changes rows. */
#define A67_FDW_SHARD_ATTRIBUTE			 MinCommandIdAttributeNumber

/* What a ForeignScan's fdw_private holds. */
#define A67_FDW_PRIVATE(remote, attnums) list_make2(a67_remote_pack(remote), attnums)

#endif /* A67_ROUTER_FDW_H */
