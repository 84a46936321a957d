/*
 * beat.h - what a heartbeat says, and the quick reading of its usual form.
 *
 * Pure: libc only. The slow and complete reader is listener/beat.c; this one takes only what it understands
 * to the last byte and leaves all else to the other, so that both always agree.
 */
#ifndef A67_CORE_BEAT_H
#define A67_CORE_BEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_BOOT_ID_SIZE 65

/* Metrics of one heartbeat; NaN or -1 (counts) where the agent sent nothing. */
typedef struct A67NodeMetrics
{
	float cpu_percent;
	float memory_percent;
	float disk_percent;
	float load1;
	float latency_ms; /* round trip of the node's last heartbeat, as the agent measured it */
	int64_t memory_free_bytes;
	int64_t memory_total_bytes;
	int64_t uptime_s;
	int64_t requests; /* served by its apps since the last heartbeat, where somebody counts them */
	int64_t failures; /* of these */
	int64_t network_bytes; /* sent and received since boot */
	int32_t active_requests;
} A67NodeMetrics;

typedef struct A67Beat
{
	char boot_id[A67_BOOT_ID_SIZE]; /* longer ones do not fit the fast path: use SQL */
	int64_t seq;
	int64_t state_version;
	A67NodeMetrics metrics;
} A67Beat;

/* A beat that says nothing. */
void a67_beat_init(A67Beat *beat);

/*
 * Several beats on their way to one row: to->requests and failures, which count from beat to beat, get those
 * of an earlier beat that the row does not have yet; and lose them again once it has. Unknown counts stay so.
 */
void a67_counts_add(A67NodeMetrics *to, const A67NodeMetrics *earlier);
void a67_counts_subtract(A67NodeMetrics *to, const A67NodeMetrics *earlier);

/*
 * Fills *beat from the JSON text of an everyday heartbeat. False says nothing about the text, only that
 * this reader is not the one to judge it; *beat is then undefined. True is never wrong: the complete reader
 * finds the same.
 */
bool a67_beat_scan(const char *text, size_t len, A67Beat *beat);

#endif /* A67_CORE_BEAT_H */
