/*
 * shard_endpoint.h - what all processes of the server know about the servers behind shards: who is connected, who fails.
 *
 * An endpoint is a shard's primary (replica 0) or one of its replicas. Owns two things in shared memory. Places: at most
 * a67.shard_connections processes hold a connection to an endpoint; whoever finds none free asks the others to close idle ones. The
 * circuit breaker: after 3 failures in a row an endpoint is left alone for a jittered, growing time (open), then one
 * process tries (half-open), and its success closes the breaker. Everything starts empty when the server does.
 * The library must be preloaded.
 */
#ifndef A67_SHARD_ENDPOINT_H
#define A67_SHARD_ENDPOINT_H

#include "postgres.h"

#include "platform/shmem.h"

#define A67_ENDPOINTS_MAX 512

typedef struct A67Endpoint A67Endpoint;

extern const A67ShmemArea a67_endpoint_area;

/*
 * The entry of an endpoint of this database, made when there is none. It stays the same until the server restarts
 * for those that hold a place; others ask anew. 53000 when there is no room for another one.
 */
A67Endpoint *a67_endpoint(int32 shard_id, int32 replica_id);

/* The same without making one: NULL when nobody has used the endpoint. */
A67Endpoint *a67_endpoint_look(int32 shard_id, int32 replica_id);

/* Takes a place for this process, if one is free. Ask a67_endpoint_is afterwards: until then the entry may be given to another endpoint. */
bool a67_endpoint_enter(A67Endpoint *endpoint);
bool a67_endpoint_is(const A67Endpoint *endpoint, int32 shard_id, int32 replica_id);

/* Gives it back; repeating does no harm. Safe in a signal handler. */
void a67_endpoint_leave(A67Endpoint *endpoint);

/* Everything that this process holds or waits for, at its end. */
void a67_endpoint_leave_all(void);

/* Between these two, connections to the endpoint are given back as soon as they are idle; holders are told with SIGUSR2. */
void a67_endpoint_wait_begin(A67Endpoint *endpoint);
void a67_endpoint_wait_end(A67Endpoint *endpoint);
void a67_endpoint_wait_signal(A67Endpoint *endpoint);

/* Whether anybody waits for a place. Safe in a signal handler. */
bool a67_endpoint_is_wanted(const A67Endpoint *endpoint);

/* Whether the breaker lets this process try; when half-open, it then is the one that tries. */
bool a67_endpoint_may_try(A67Endpoint *endpoint, int64 now_ms);

/* Whether the breaker is open, without the right to try. Cheap: takes no lock. */
bool a67_endpoint_is_open(const A67Endpoint *endpoint);

/* How a try or a statement ended: whether the endpoint is alive. sqlstate is the class of the failure. */
void a67_endpoint_succeeded(A67Endpoint *endpoint);
void a67_endpoint_failed(A67Endpoint *endpoint, int sqlstate, int64 now_ms);

#endif /* A67_SHARD_ENDPOINT_H */
