/*
 * live_view.h - the nodes as a selection sees them.
 *
 * Usually the shared table itself, under its lock. A transaction that has changed nodes sees a copy with its
 * own changes in it; and where the shared table cannot answer (not preloaded, another database, a standby,
 * more nodes than a67.max_nodes, too many changes) the rows are read. So the answer is right everywhere, and
 * fast where it matters. Called by the SQL faces of selection.
 */
#ifndef A67_LIVE_VIEW_H
#define A67_LIVE_VIEW_H

#include "postgres.h"

#include "port/atomics.h"

#include "core/placement.h"
#include "registry/live_table.h"

/* A table in local memory; live_view.c. */
typedef struct A67PrivateTable A67PrivateTable;

typedef struct A67LiveView
{
	A67Candidates candidates;
	uint32 owner;			/* number of the owner asked for; of nobody when he has no nodes */
	TimestampTz base;		/* zero of the clock of tenths */
	pg_atomic_uint32 *turn; /* of the owner's round robin; NULL: nobody keeps it */
	bool locked;			/* the shared table, with A67_LOCK_LIVE held: no error may be raised */
	A67PrivateTable *table; /* NULL when locked */
} A67LiveView;

/*
 * The nodes, for a selection among those of one owner. May read tables and throw; when it returns with
 * view->locked, nothing may until a67_live_view_close. A private table lives as long as the context that is
 * current, or the transaction.
 */
void a67_live_view_open(A67LiveView *view, const uint8 owner_id[16]);
void a67_live_view_close(A67LiveView *view);

/* The index of a node; A67_NO_PLACE when the view has no such node. Never throws. */
uint32 a67_live_view_find(const A67LiveView *view, const uint8 node_id[16]);

/* What else is known of the node. */
static inline const A67LiveSlot *
a67_live_view_slot(const A67LiveView *view, uint32 index)
{
	return (const A67LiveSlot *) view->candidates.traits + index;
}

#endif /* A67_LIVE_VIEW_H */
