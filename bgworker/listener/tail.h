/*
 * tail.h: followers of output: GET /api/v1/deployments/{deployment}/logs?follow=true, as server-sent events.
 *
 * A follower is an answer that goes on; it costs memory and a connection, and an api worker only while a page of
 * it is being read. One question tells which followed deployments have something new, so that those which have
 * nothing cost nothing. Each page is asked for by the follower's own token: whoever may not read it any more is
 * told so and leaves. Lives in the listener's one thread; a67_tails_admit runs inside the engine's callbacks.
 */
#ifndef A67_LISTENER_TAIL_H
#define A67_LISTENER_TAIL_H

#include "postgres.h"

#include "listener/state.h"

extern void a67_tails_init(A67Listener *listener);
/* Whether the request is one to follow. */
extern bool a67_tails_wants(const A67Visit *visit);
/* A request to follow, of a user whose token is good and who is within the limits: to be answered later. */
extern A67HttpDecision a67_tails_admit(const A67Visit *visit, const A67JwtClaims *claims);
/* Everything that is due; before a67_dispatch_run. */
extern void a67_tails_run(A67Listener *listener);
extern int64 a67_tails_deadline(const A67Listener *listener);

#endif
