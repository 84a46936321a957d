/*
 * rate.h - the token buckets of all clients, in shared memory, for all listeners together.
 *
 * Owns the table and nothing else: what a bucket does is core/rate.h, what the limits are is the
 * setting a67.rate_limits, who counts for what is up to the listener. The table has a fixed size; when
 * there is no room, a bucket that is full (says nothing) gives way, else the one unused the longest.
 * So a flood of clients costs others at most a fresh burst, never memory.
 */
#ifndef A67_REGISTRY_RATE_H
#define A67_REGISTRY_RATE_H

#include "postgres.h"

#include "core/rate.h"
#include "platform/shmem.h"

#define A67_CLIENT_BYTES 16 /* an address or the id of a token's owner */

extern const A67ShmemArea a67_rate_area;

/*
 * Counts a request of that class for that client. Never throws, blocks for no longer than a spinlock.
 * Everything is allowed where the class has no limit, and without shared memory.
 */
void a67_rate_count(A67RateClass class, const uint8 client[A67_CLIENT_BYTES], int64 now_ms,
					A67RateAnswer *answer);

#endif /* A67_REGISTRY_RATE_H */
