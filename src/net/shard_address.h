/*
 * shard_address.h - connection strings of shards: where they are stored, what may be in them, how a connection starts.
 *
 * A string of the operator's (psql, a superuser) may be anything libpq takes. A user's may not: it would reach into the
 * server's network, read its files and use its credentials. Such a string may only name a server and how to log in there,
 * the address must be public unless a67.outbound_private is on, and the login must use the password that it holds.
 * Private to net.
 */
#ifndef A67_SHARD_ADDRESS_H
#define A67_SHARD_ADDRESS_H

#include "postgres.h"

#include "libpq-fe.h"
#include "nodes/pg_list.h"

typedef struct A67ShardAddress
{
	char *connection; /* secret: wiped by a67_address_wipe */
	bool trusted;	  /* it is the operator's */
	uint64 hash;	  /* of the string */
} A67ShardAddress;

/* The stored address of a shard, or of a replica (its own id, not 0). Throws PT404 when the row is gone. */
void a67_address_read(int32 shard_id, int32 replica_id, const char *name, A67ShardAddress *address);
void a67_address_wipe(A67ShardAddress *address);

/* The table whose invalidation says that stored addresses may have changed; InvalidOid before one was read. */
Oid a67_address_relation(void);

/* Ids of a shard's replicas: a List of integers. */
List *a67_address_replicas(int32 shard_id);

/*
 * Starts to connect. NULL with *why (a full sentence without secrets) when the string is none or not allowed.
 * Resolves names, which may block.
 */
PGconn *a67_address_start(const A67ShardAddress *address, const char **why);

/* Whether a connection that is established may be used: an untrusted one must have asked for the password. */
bool a67_address_login_ok(const A67ShardAddress *address, PGconn *conn);

/* Why connecting failed: this process is at fault; the server would let anybody in. */
#define A67_ADDRESS_NO_MEMORY "Memory is short here."
#define A67_ADDRESS_NO_LOGIN  "It let us in without asking for the password."

/* Why connecting failed, without the secrets of libpq's message; and the SQLSTATE, 0 if there is none. */
const char *a67_address_failure(const PGconn *conn, int *sqlstate);

#endif /* A67_SHARD_ADDRESS_H */
