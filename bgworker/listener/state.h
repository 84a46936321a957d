/*
 * state.h: what the files of one listener process share: its state, its queue and its pool.
 *
 * service.c answers the engine's callbacks and makes jobs; dispatch.c moves jobs through the queue and
 * the pool's slots; pool.c starts, watches and ends api workers; listener.c owns the process.
 *
 * Rules: the engine's callbacks run inside a67_http_server_run and neither throw nor block, so they use
 * malloc only and touch no queue of shared memory: what must go there waits for a67_dispatch_run. A job
 * is in exactly one of: its connection's body phase, the waiting list, a slot. Its connection points to
 * it (user pointer) until the answer is complete or the client has gone.
 */
#ifndef A67_LISTENER_STATE_H
#define A67_LISTENER_STATE_H

#include "postgres.h"

#include "lib/ilist.h"

#include "core/buf.h"
#include "core/http/server.h"
#include "core/pace.h"
#include "crypto/jwt.h"
#include "listener/exchange.h"
#include "listener/job.h"
#include "listener/token_cache.h"
#include "listener/tls_pair.h"
#include "worker.h"

#define A67_HIGH_WATER	(256 * 1024)	   /* unsent bytes of one answer: stop reading its queue */
#define A67_BODY_BUDGET (64 * 1024 * 1024) /* of all buffered bodies together: then 503 */
#define A67_WATCH_GRACE 5000			   /* ms after its time until a worker is terminated */
#define A67_NOTES_MAX	256				   /* refusals waiting to be put on record */

typedef enum A67SlotState
{
	A67_SLOT_EMPTY,	   /* no worker until retry_at */
	A67_SLOT_STARTING, /* not READY yet */
	A67_SLOT_IDLE,
	A67_SLOT_BUSY,
	A67_SLOT_ENDING, /* its worker was terminated and has not ended yet */
} A67SlotState;

/* One place of the pool: a worker process, its queues, and the job it has. */
struct A67Slot
{
	A67SlotState state;
	A67Exchange exchange;
	BackgroundWorkerHandle *handle;
	pid_t pid;
	int64 retry_at;
	int64 ready_at;
	A67Backoff backoff;
	A67Job *job;
	A67Buf out;		  /* the message being sent; empty: none */
	bool body_done;	  /* LAST or ABORT is sent or in out */
	bool head_passed; /* the client has the head of the answer */
	bool discard;	  /* nobody wants the rest of the answer */
	bool paused;	  /* the client is slow: the answers wait in the queue */
	int status;		  /* of the answer, once it has passed */
	int64 watch;	  /* the worker must show progress, or have ended, by then */
	int64 cancel_at;  /* when to cancel an abandoned call again */
};

struct A67Listener
{
	A67Worker *worker;
	A67HttpServer *server;
	A67TlsPair pair; /* context NULL: plain HTTP */
	uint16 port;
	A67Keyring keys;
	A67TokenCache tokens; /* of nodes, verified with these keys */
	uint64 random;
	A67Slot *slots;
	int nslots;
	BackgroundWorkerHandle **strays; /* workers that were given up and have not ended yet */
	int nstrays;
	dlist_head waiting;
	int nwaiting; /* without notes, which wait in the same line */
	int nnotes;
	uint64 lost_notes;
	char stamp[A67_REQUEST_ID_SIZE];
	A67HttpField stamp_field;
	struct A67Sockets *sockets; /* of /ws */
	struct A67Tails *tails;		/* followers of output */
	size_t body_reserved;
	bool stirred;		 /* a callback has left something for a67_dispatch_run */
	bool launch_failing; /* said so in the log already */
};

/* dispatch.c */
/* Puts a job in the queue; false when the queue is full: the caller answers. */
extern bool a67_dispatch_enqueue(A67Job *job);
/* The client has gone. Frees the job now, or when its worker has finished with it. */
extern void a67_dispatch_abandon(A67Job *job);
/* Moves everything that can move. May throw for want of memory only. */
extern void a67_dispatch_run(A67Listener *listener);
/* When a67_dispatch_run has something to do on its own. */
extern int64 a67_dispatch_deadline(A67Listener *listener);
/* Ends the slot's job without an answer of its worker. */
extern void a67_dispatch_fail(A67Slot *slot, int status, const char *message);

/* note.c */
/* Puts the refusal of a request on record, in a while. claims NULL: nobody knows who sent it. */
extern void a67_note_refusal(const A67Visit *visit, const A67JwtClaims *claims);
/* A note cannot be recorded and is about to be freed. */
extern void a67_note_lost(const A67Job *note);

/* pool.c */
extern void a67_pool_init(A67Listener *listener);
/* Starts workers, notices ended ones. */
extern void a67_pool_tend(A67Listener *listener);
/* The worker of this slot is of no use any more: ends it, or notices its end. */
extern void a67_pool_drop(A67Slot *slot, bool terminate);
extern int a67_pool_ready(const A67Listener *listener);
/* Whether the job may have a slot now: some are kept from streams, and from queries of one caller and of all. */
extern bool a67_pool_may_start(const A67Listener *listener, const A67Job *job);
extern void a67_pool_leave(A67Listener *listener);

/* service.c */
extern const A67HttpCallbacks a67_service_callbacks;

#endif
