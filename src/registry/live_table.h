/*
 * live_table.h - the insides of the live node table, for the files live*.c of this folder alone.
 *
 * A node has a place: the number of its element in two parallel arrays, one with what a selection
 * scans (A67Candidate), one with the rest (A67LiveSlot). The arrays of the shared table have
 * a67.max_nodes elements; a private table, made for one selection, has the same shape in local memory.
 * Invariants: a place without A67_NODE_USED is free; facts of a node are those of the highest version
 * published. Locks: see live.c.
 */
#ifndef A67_LIVE_TABLE_H
#define A67_LIVE_TABLE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/s_lock.h"
#include "utils/hsearch.h"

#include "core/history.h"
#include "core/placement.h"
#include "registry/live.h"
#include "registry/live_facts.h"

#define A67_NO_PLACE UINT32_MAX

/* All of a node that a selection does not scan. */
typedef struct A67LiveSlot
{
	A67Traits traits; /* first: the core finds it by stride; has the node's id */
	slock_t lock;	  /* of beats among each other */
	uint32 written;	  /* counts writes of metrics; equal to flushed: the rows have them */
	uint32 flushed;
	TimestampTz last_seen_at; /* 0: no beat since the table was made */
	double latency_of;		  /* A67History */
	A67Beat beat;			  /* boot_id "": the fast path does not know the node */
	bool routed;			  /* the ingress counts what the node serves, not its beats */
	int32 routed_active;	  /* requests under way, as the ingress saw last */
	int64 routed_requests;	  /* what it has counted since the last beat */
	int64 routed_failures;
	uint8 owner_id[16];
	int64 memory_bytes; /* capacity */
	int64 disk_bytes;
	int64 reserved_memory_bytes;
	int64 reserved_disk_bytes;
	int32 cpu_milli;
	int32 reserved_cpu_milli;
	int64 versions[A67_FACTS_KINDS]; /* 0: nothing published yet */
	uint32 next_free;
	uint32 made; /* generation of the table in which the place was taken */
	uint32 seen; /* and in which a rebuild found its row */
	char name[A67_NODE_NAME_SIZE];
	char region[A67_NODE_NAME_SIZE];
	char provider[A67_NODE_NAME_SIZE];
} A67LiveSlot;

/* One of the hash from node to place. */
typedef struct A67LivePlace
{
	uint8 node_id[16]; /* key: first */
	uint32 place;
} A67LivePlace;

/* An owner of nodes: a number, so that a scan compares four bytes. Numbers are never used again. */
typedef struct A67LiveOwner
{
	uint8 owner_id[16]; /* key: first */
	uint32 number;		/* from 1 */
	uint32 nodes;
	pg_atomic_uint32 turn; /* of round robin: the place to look at first */
} A67LiveOwner;

typedef struct A67LiveHeader
{
	pg_atomic_uint64 epoch; /* counts nodes forgotten */
	TimestampTz base;		/* zero of the clock of tenths */
	Oid database;			/* whose nodes these are */
	uint32 used;			/* places from here on were never taken */
	uint32 free;			/* list of free ones below; A67_NO_PLACE ends it */
	uint32 next_owner;
	uint32 generation;		 /* counts rebuilds */
	uint64 missed;			 /* counts facts of nodes that had no place */
	uint64 published;		 /* counts facts that were new, and nodes removed */
	A67ScoreWeights weights; /* of the bounds */
	bool built;				 /* every committed node is here; else selections read rows */
	bool overflowed;		 /* except for nodes that found no place */
	bool complained;		 /* about that, in the log */
} A67LiveHeader;

/* The shared table; all NULL without shared memory. */
extern A67LiveHeader *a67_live_header;
extern A67Candidate *a67_live_nodes;
extern A67LiveSlot *a67_live_slots;
extern float *a67_live_bounds; /* a67_score_bound() of each place by header->weights */

/* Tenths of a second since base, at least 1: 0 stands for never. */
uint32 a67_live_tenths(TimestampTz base, TimestampTz at);

/* Adds to the fading history of a place; its spinlock or the exclusive lock is held. */
void a67_live_add_history(uint32 place, TimestampTz now, const A67History *seen);

/* live_traffic.c: puts what the ingress has counted into a beat's metrics, likewise; whether it counts at all. */
bool a67_live_take_traffic(A67LiveSlot *slot, A67NodeMetrics *metrics);

/* Both need A67_LOCK_LIVE. The place of a node, and an owner; A67_NO_PLACE and NULL when unknown. */
uint32 a67_live_place(const uint8 node_id[16]);
A67LiveOwner *a67_live_owner(const uint8 owner_id[16]);

/* Makes an unused element ready for the node. */
void a67_live_slot_init(A67Candidate *node, A67LiveSlot *slot, const uint8 node_id[16]);

/* live_facts.c: puts facts into a place that is not newer. The owner's number is the caller's. */
void a67_facts_apply(A67Candidate *node, A67LiveSlot *slot, const A67NodeFacts *facts,
					 TimestampTz base);

/* Publishes facts to the shared table, exclusive lock held; never throws. */
void a67_live_publish(const A67NodeFacts *facts);

/* Drops a node from it, exclusive lock held. */
void a67_live_remove(const uint8 node_id[16]);

#endif /* A67_LIVE_TABLE_H */
