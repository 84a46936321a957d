/*
 * exchange.h: the shared memory between one listener and one of its api workers.
 *
 * Owns the layout of the segment (a stamp, a queue of calls, a queue of answers) and the api worker's
 * way of waiting on them. What the messages mean is wire.h. One segment serves one worker process and
 * dies with it: a queue whose other end has left is never used again.
 */
#ifndef A67_LISTENER_EXCHANGE_H
#define A67_LISTENER_EXCHANGE_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/shm_mq.h"

#include "listener/wire.h"

typedef struct A67Exchange
{
	dsm_segment *segment;
	shm_mq_handle *calls;	/* listener → worker */
	shm_mq_handle *answers; /* worker → listener */
} A67Exchange;

/*
 * Listener: makes a segment and takes its ends of both queues. False when the server has no room for
 * another segment; throws when it is out of memory.
 */
extern bool a67_exchange_create(A67Exchange *exchange);

/* Listener: from now on a worker that dies before it attaches counts as gone. */
extern void a67_exchange_set_worker(A67Exchange *exchange, BackgroundWorkerHandle *worker);

/* Lets go of the segment; the other side sees its queues detached. Safe to repeat. */
extern void a67_exchange_leave(A67Exchange *exchange);

/* Worker: takes its ends. False when the listener is gone already. */
extern bool a67_exchange_open(A67Exchange *exchange, dsm_handle handle);

/*
 * Worker: waits for the next message, which stays valid until the next call. Ends the process when the
 * listener has gone. Query cancels are held back, a reload is obeyed.
 */
extern A67Frame a67_exchange_receive(A67Exchange *exchange, const void **message, Size *len);

/*
 * Worker: sends frame byte and payload as one message, waiting for room. flush wakes the listener even
 * when little has gathered. Ends the process when the listener has gone. Query cancels are held back,
 * because half a message cannot be taken back.
 */
extern void a67_exchange_send(A67Exchange *exchange, A67Frame frame, const void *data, Size len,
							  bool flush);

/* Worker: the same for a message that carries its frame byte. */
extern void a67_exchange_send_whole(A67Exchange *exchange, const void *message, Size len,
									bool flush);

#endif
