/*
 * ship.h - output on its way to the controller: POST /api/v1/nodes/logs.
 *
 * Owns a connection of its own, so that heartbeats never wait behind output, with at most one batch in
 * flight.  Each batch goes round all logs that have something, with equal shares, within the rate that the
 * controller gave with its last answer; rate 0 means that it wants none, and it is asked again in a while.
 * At least once: an offset moves only when the controller has said what it has.  Called by main.
 */
#ifndef A67_AGENT_SHIP_H
#define A67_AGENT_SHIP_H

#include "control.h"
#include "logs.h"

typedef struct A67Ship
{
	A67Logs *logs;
	A67Control *control; /* identity and state; never its connection */
	struct ssl_ctx_st *tls;
	A67HttpClient *client; /* while there is something to send */
	char *body;			   /* in flight */
	size_t batch_bytes;	   /* of output in a batch; halved when the controller finds it too large */
	size_t turn;		   /* whose is the next batch's first share */
	int64_t rate;		   /* bytes a second; 0: none wanted */
	int64_t due_ms;		   /* not before */
	A67Backoff backoff;
	uint64_t batches;
	uint64_t failures;
	A67Why problem; /* empty while all is well */
	int poll_at;
} A67Ship;

void a67_ship_open(A67Ship *ship, A67Logs *logs, A67Control *control, struct ssl_ctx_st *tls);
void a67_ship_close(A67Ship *ship);
void a67_ship_prepare(A67Ship *ship, A67PollSet *set, int64_t now_ms);
void a67_ship_step(A67Ship *ship, const A67PollSet *set, int64_t now_ms);

#endif /* A67_AGENT_SHIP_H */
