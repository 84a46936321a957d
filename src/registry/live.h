/*
 * live.h - the live node table: what heartbeats said last, in shared memory, without SQL.
 *
 * An entry exists for a node whose beat SQL has accepted. As long as boot_id and state_version stay those,
 * later beats only overwrite metrics here, and the telemetry worker writes them to rows in batches. The rows
 * are the truth: every entry can be lost at any time, and the next beat goes through SQL and makes it again.
 * Up to a67.max_nodes entries under A67_LOCK_LIVE (shared for beats, plus a spinlock per entry); when full,
 * further nodes simply keep to the SQL path.
 */
#ifndef A67_LIVE_H
#define A67_LIVE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "platform/shmem.h"

#define A67_BOOT_ID_SIZE 65

/* Metrics of one heartbeat; NaN or -1 (counts) where the agent sent nothing. */
typedef struct A67NodeMetrics
{
	float cpu_percent;
	float memory_percent;
	float disk_percent;
	float load1;
	int64 memory_free_bytes;
	int64 memory_total_bytes;
	int64 uptime_s;
	int32 active_requests;
} A67NodeMetrics;

typedef struct A67Beat
{
	char boot_id[A67_BOOT_ID_SIZE]; /* longer ones do not fit the fast path: use SQL */
	int64 seq;
	int64 state_version;
	A67NodeMetrics metrics;
} A67Beat;

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

/* An entry as SQL shows it. */
typedef struct A67LiveRow
{
	uint8 node_id[16];
	TimestampTz last_seen_at;
	A67Beat beat;
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

/* Drops the node's entry now, or when the current transaction commits. */
void a67_live_forget(const uint8 node_id[16]);
void a67_live_forget_at_commit(const uint8 node_id[16]);

/* Drops all entries (the extension went away). */
void a67_live_clear(void);

/* Copies up to max entries whose metrics are newer than the last flush; returns how many. */
int a67_live_drain(A67LiveDirty *out, int max);

/* Marks them as written to rows, except where a newer beat has come in meanwhile. */
void a67_live_flushed(const A67LiveDirty *entries, int count);

/* All entries, palloc'd. Throws when out of memory, before any lock is taken. */
A67LiveRow *a67_live_copy(int *count);

#endif /* A67_LIVE_H */
