/*
 * edge.h: what happens to a request at the edge, before anybody asks what it wants: where it comes from,
 * whether its sender is within the limits, and what pages of other origins may see.
 *
 * Decides by which bucket a request is counted; the limits themselves are settings. Header fields that
 * follow are given to the connection and appear on whatever answer the request gets. Called by
 * service.c inside the engine's callbacks: nothing here throws, waits or allocates.
 */
#ifndef A67_LISTENER_EDGE_H
#define A67_LISTENER_EDGE_H

#include "postgres.h"

#include "listener/job.h"

/* What a client over its limit is told, beside the fields that are on the connection already. */
extern const A67Refusal a67_edge_too_many;

/*
 * A head has come and its route is known: finds the client's address, adds the fields for other origins,
 * counts the request for its address. False: to be refused as a67_edge_too_many.
 */
extern bool a67_edge_arrive(A67Visit *visit);

/*
 * It is known who sends it: counts it for the owner of the token, or for the address where that may be
 * guessing at secrets. claims NULL: nobody. False as above.
 */
extern bool a67_edge_limit(A67HttpConn *conn, A67RouteClass class, const char *address,
						   const A67JwtClaims *claims);

/* A heartbeat of that node: what a67_edge_limit does for a token of its own. */
extern bool a67_edge_limit_beat(A67HttpConn *conn, const uint8 node_id[16]);

#endif
