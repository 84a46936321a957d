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

#define A67_UPLOAD_MAX (128 * 1024) /* of one streamed upload in memory: pause it */

typedef struct A67Slot A67Slot;
typedef struct A67Listener A67Listener;

/* A heartbeat that went to SQL, to be noted in the live table once SQL has accepted it. */
typedef struct A67BeatNote
{
	uint8 node_id[16];
	A67Beat beat;
	uint64 epoch;
} A67BeatNote;

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
	A67HttpHandle handle;
	A67Slot *slot;
	bool gone;		/* the client has left: what comes is discarded */
	int64 deadline; /* to be answered by, unless it streams */
	int64 began;
	char request_id[A67_REQUEST_ID_SIZE];
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
extern A67Job *a67_job_new(A67Listener *listener, A67HttpConn *conn, const A67Route *route);
/* Packs its CALL message. claims NULL: anonymous. False when it does not fit. */
extern bool a67_job_write_call(A67Job *job, const A67HttpHead *head, const A67RouteMatch *match,
							   const A67JwtClaims *claims);
/* Whether the query can become arguments of that route. */
extern bool a67_job_query_ok(const A67HttpHead *head, const A67Route *route);
/* Frees a job that nothing points to. */
extern void a67_job_free(A67Job *job);
/* Ends a job that is in no list and no slot: frees it now, or leaves that to on_close. */
extern void a67_job_part(A67Job *job);
extern void a67_access_log(const A67HttpHead *head, const char *request_id, int status, int64 ms);

#endif
