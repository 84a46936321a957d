/*
 * shard_wait.h - waiting for sockets of links, together with this process's latch. Private to net.
 *
 * Decides nothing about what is read; keeps wait event sets for as long as they are good.
 */
#ifndef A67_SHARD_WAIT_H
#define A67_SHARD_WAIT_H

#include "postgres.h"

#include "net/shard_link.h"

/*
 * Waits until a link's socket is readable (or writable, if asked), the latch is set or the time is up: false then. After the
 * deadline it still looks once. Calls CHECK_FOR_INTERRUPTS if `interruptible`. At most A67_SHARDS_MAX links, connected, each once.
 */
typedef struct A67Wait
{
	A67Link *link;
	bool write; /* there is something to send too */
	bool ready; /* out: the socket can be read or written */
} A67Wait;

bool a67_link_wait(A67Wait *waits, int count, int64 deadline_ms, bool interruptible);

/* Its connection is about to be closed. */
void a67_link_wait_forget(A67Link *link);

#endif /* A67_SHARD_WAIT_H */
