/*
 * live.h - the live node table: what rows and heartbeats say of each node, in shared memory.
 *
 * Facts (owner, status, capacity, promises) are published by the transactions that change the rows, at their
 * commit; selections scan them (live_view.h). The fast path knows a node whose beat SQL has accepted: as
 * long as boot_id and state_version stay those, later beats only overwrite metrics here, and the telemetry
 * worker writes them to rows in batches. The rows are the truth: the table can be lost at any time, and is
 * then read from them again: facts by a rebuild, the last beats by the telemetry worker.
 * Up to a67.max_nodes nodes under A67_LOCK_LIVE (shared for beats, plus a spinlock per node); further
 * nodes keep to the SQL path, and selections then read rows.
 */
#ifndef A67_LIVE_H
#define A67_LIVE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/beat.h"
#include "platform/shmem.h"

typedef enum A67LiveResult
{
	A67_LIVE_STORED, /* nothing but metrics is new: answer 204 */
	A67_LIVE_UNKNOWN /* SQL must see this beat */
} A67LiveResult;

/* One node's latest metrics on their way to a row. */
typedef struct A67LiveDirty
{
	uint8 node_id[16];
	uint32 generation; /* which write this is; a67_live_flushed compares it */
	TimestampTz at;
	A67NodeMetrics metrics;
} A67LiveDirty;

/* A node as SQL shows it. */
typedef struct A67LiveRow
{
	uint8 node_id[16];
	uint8 owner_id[16];
	TimestampTz last_seen_at; /* 0: no beat that the fast path knows */
	A67Beat beat;
	A67Candidate node;
	TimestampTz metrics_at; /* 0: never */
	double requests;		/* faded to the time of the copy */
	double failures;
} A67LiveRow;

extern const A67ShmemArea a67_live_area;

/* Takes a verified beat of the fast path. Never throws; UNKNOWN without shared memory. */
A67LiveResult a67_live_beat(const uint8 node_id[16], const A67Beat *beat, TimestampTz now);

/*
 * Notes that SQL has accepted the beat. `epoch` is what a67_live_epoch() said before the SQL call began: when
 * any node was forgotten since, nothing is stored, so a node that was just removed cannot come back.
 */
void a67_live_ack(const uint8 node_id[16], const A67Beat *beat, TimestampTz now, uint64 epoch);
uint64 a67_live_epoch(void);

/*
 * Makes the fast path know a node by what its row says of the last beat that SQL has accepted, unless it knows
 * one already; beat holds no metrics. `epoch` is from before the row was read. False: a node was forgotten
 * since, so what was read may be out of date, and nothing is stored.
 */
bool a67_live_restore(const uint8 node_id[16], const A67Beat *beat, TimestampTz seen_at,
					  uint64 epoch);

/* Drops the node's entry now, or when the current transaction commits. */
void a67_live_forget(const uint8 node_id[16]);
void a67_live_forget_at_commit(const uint8 node_id[16]);

/* Drops everything (the extension went away); the next selection builds it anew. */
void a67_live_clear(void);

/* What the ingress saw of a node: requests and failures since its last look, their mean latency (NaN: unknown). */
typedef struct A67LiveTraffic
{
	double requests;
	double failures;
	double latency_ms;
	int32 active; /* under way now; -1: it does not count for this node */
} A67LiveTraffic;

/*
 * Adds that to the node's history. While a67.ingress is on and active is known, the requests, failures and
 * active requests of the node's own beats are replaced by these: nothing is counted twice, and rows get them
 * with the next beat. False when the table has no such node. Never throws.
 */
bool a67_live_observe(const uint8 node_id[16], const A67LiveTraffic *traffic, TimestampTz now);

/* Works out anew what follows from a67.score_weights; for the one process that watches the settings. */
void a67_live_reweigh(void);

/* Copies up to max entries whose metrics are newer than the last flush; returns how many. */
int a67_live_drain(A67LiveDirty *out, int max);

/* Marks them as written to rows, except where a newer beat has come in meanwhile. */
void a67_live_flushed(const A67LiveDirty *entries, int count);

/* All nodes as of now, palloc'd. Throws when out of memory, before any lock is taken. */
A67LiveRow *a67_live_copy(TimestampTz now, int *count);

#endif /* A67_LIVE_H */
