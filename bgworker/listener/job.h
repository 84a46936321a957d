/*
 * job.h: one request on its way to an api worker and back.
 *
 * Owns making, packing and freeing a job. A job is in exactly one of: its connection's body phase, the
 * waiting list, a slot. Its connection points to it (user pointer) until the answer is complete or the
 * client has gone. Everything here is fit for the engine's callbacks: malloc only, nothing throws.
 */
#ifndef A67_LISTENER_JOB_H
#define A67_LISTENER_JOB_H

#include "postgres.h"

#include "lib/ilist.h"

#include "core/buf.h"
#include "core/http/server.h"
#include "crypto/jwt.h"
#include "listener/reply.h"
#include "listener/routes.h"
#include "registry/live.h"
#include "registry/rate.h"

#define A67_UPLOAD_MAX	(128 * 1024) /* of one streamed upload in memory: pause it */

#define A67_CLIENT_SIZE 48 /* a numeric address, NUL included */

typedef struct A67Slot A67Slot;
typedef struct A67Listener A67Listener;

/* A request whose head has come, before it is answered or becomes a job. */
typedef struct A67Visit
{
	A67Listener *listener;
	A67HttpConn *conn;
	const A67HttpHead *head;
	A67RouteMatch match;
	char request_id[A67_REQUEST_ID_SIZE];
	char address[A67_CLIENT_SIZE]; /* of the client; "" when it has none */
} A67Visit;

/* A heartbeat that went to SQL, to be noted in the live table once SQL has accepted it. */
typedef struct A67BeatNote
{
	uint8 node_id[16];
	A67Beat beat;
	uint64 epoch;
} A67BeatNote;

/* Called once with what became of a question; body is NULL unless the status is below 300. */
typedef void (*A67Answered)(void *asker, int status, const char *body, size_t len);

/* A call that the listener makes on its own account: a job without a connection. */
typedef struct A67Question
{
	const char *function;
	const char *params; /* as in A67Call */
	const char *role;	/* on whose behalf, in schema a67; NULL: its own, in a67_internal */
	const char *claims;
	A67Answered answered;
	void *asker;
} A67Question;

typedef enum A67JobState
{
	A67_JOB_BODY,	 /* the engine is still collecting its body */
	A67_JOB_WAITING, /* for a slot */
	A67_JOB_RUNNING, /* has one */
	A67_JOB_OVER,	 /* done with; its connection is about to be closed and frees it */
} A67JobState;

typedef struct A67Job
{
	dlist_node node; /* in `waiting` */
	A67Listener *listener;
	A67JobState state;
	const A67Route *route;
	A67RouteClass class;
	bool streams;		  /* takes as long as data keeps moving */
	bool note;			  /* nobody waits for it: a refusal to be put on record */
	A67Answered answered; /* of a question: gets the answer in place of a connection */
	void *asker;
	A67Buf answer;
	A67HttpHandle handle;
	A67Slot *slot;
	bool gone;						/* the client has left: what comes is discarded */
	uint8 caller[A67_CLIENT_BYTES]; /* whose token it is; zeros: nobody's */
	int64 deadline;					/* to be answered by, unless it streams */
	int64 began;
	char request_id[A67_REQUEST_ID_SIZE];
	char address[A67_CLIENT_SIZE];
	A67Buf call; /* the CALL message, until it goes to the slot */
	bool has_body;
	const char *body; /* BUFFER mode: the engine's memory, valid while the client is there */
	size_t body_len;
	size_t body_sent;
	A67Buf upload; /* STREAM mode: taken from the client, not yet sent to the worker */
	bool upload_whole;
	bool upload_paused;
	size_t reserved; /* of the body budget */
	A67BeatNote *beat;
} A67Job;

/* A job for the request at the connection, which points to it; NULL when out of memory. */
extern A67Job *a67_job_new(const A67Visit *visit);
/*
 * A job that only puts on record that the request was refused, with its CALL message; no connection
 * points to it. claims NULL: nobody knows who sent it. NULL when out of memory.
 */
extern A67Job *a67_job_new_note(const A67Visit *visit, const A67JwtClaims *claims);
/*
 * Puts a question in the queue, in front of all requests when it is the listener's own. Its askers bound
 * how many there are. False when out of memory: answered is not called.
 */
extern bool a67_job_ask(A67Listener *listener, const A67Question *question);
/* Hands the answer of a question to its asker and frees the job. */
extern void a67_job_answer(A67Job *job, int status);
/* Packs its CALL message. claims NULL: anonymous. False when it does not fit. */
extern bool a67_job_write_call(A67Job *job, const A67HttpHead *head, const A67RouteMatch *match,
							   const A67JwtClaims *claims);
/* Why the query cannot become arguments of that route; NULL when it can. */
extern const char *a67_job_check_query(const A67HttpHead *head, const A67Route *route);
/* Frees a job that nothing points to. */
extern void a67_job_free(A67Job *job);
/* Ends a job that is in no list and no slot: frees it now, or leaves that to on_close. */
extern void a67_job_part(A67Job *job);
extern void a67_access_log(const A67HttpHead *head, const char *request_id, const char *address,
						   int status, int64 ms);

#endif
