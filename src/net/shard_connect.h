/*
 * shard_connect.h - connections for links that have none, many at once.
 *
 * Knows places, breakers, retries and replicas; not what the connections are for. Nothing is sent to a shard here, so
 * trying again is always safe. Private to net.
 */
#ifndef A67_SHARD_CONNECT_H
#define A67_SHARD_CONNECT_H

#include "postgres.h"

#include "net/shard_link.h"

typedef struct A67Want
{
	const A67ShardTarget *target;
	bool replica_ok; /* a replica will do */
	A67Link *link;	 /* out: connected and taken; NULL: failed, see below */
	int sqlstate;	 /* of the failure */
	const char *why; /* detail of the failure: a full sentence without secrets */
	int attempts;	 /* connections tried, those before included */
} A67Want;

/* Connects all of them at once, with retries. Throws only for interrupts and what is wrong here. */
void a67_link_connect(A67Want *wants, int count);

/* Raises what a67_link_connect says of a failure. */
void a67_link_connect_error(const A67Want *want) pg_attribute_noreturn();

#endif /* A67_SHARD_CONNECT_H */
