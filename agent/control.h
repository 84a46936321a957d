/*
 * control.h - the link to the controller: registration, heartbeats, renewal of the node token.
 *
 * Owns one keep-alive connection with at most one request in flight, and the rules of when the next
 * one is sent.  A beat goes out every interval ± 10 % and at once when a replica changed.  After a
 * failure the delay is decorrelated jitter up to 5 minutes, but with intervals under 30 s at most ten
 * of them and never more than 30 s, so that a controller that is back is seen soon.  Called by main.
 */
#ifndef A67_AGENT_CONTROL_H
#define A67_AGENT_CONTROL_H

#include "chunk.h"
#include "core/http/client.h"
#include "metrics.h"
#include "options.h"
#include "supervisor.h"

typedef enum A67ControlState
{
	A67_CONTROL_JOINING,
	A67_CONTROL_JOINED,
	A67_CONTROL_REFUSED, /* registration is final: a67_control_problem says why */
	A67_CONTROL_GONE,	 /* 410: the node was removed */
	A67_CONTROL_SILENT	 /* after the goodbye, or when its time is over */
} A67ControlState;

typedef enum A67Request
{
	A67_REQUEST_NONE,
	A67_REQUEST_REGISTER,
	A67_REQUEST_BEAT,
	A67_REQUEST_RENEW,
	A67_REQUEST_GOODBYE
} A67Request;

typedef struct A67Control
{
	A67Options *options;
	const A67StateDir *dir;
	A67Identity *identity;
	A67Supervisor *supervisor;
	const A67Metrics *metrics;
	const A67ChunkStore *chunks;
	char endpoint[A67_OPTION_SIZE + 32];
	char boot_id[33];
	A67ControlState state;
	A67HttpClient *client;
	A67Request request; /* in flight */
	char *body;			/* of it */
	A67Request next;	/* what is sent at due_ms */
	int64_t due_ms;
	int64_t deadline_ms; /* of the goodbye */
	bool backing_off;
	A67Backoff backoff;
	uint64_t seed;
	uint64_t seq;
	uint64_t sent_version;
	uint64_t stored_version; /* what the controller has acknowledged */
	int64_t renew_at_ms;
	uint64_t beats_ok;
	uint64_t beats_failed;
	int64_t sent_us;	/* when the request in flight went out */
	int64_t latency_us; /* round trip of the last heartbeat that was taken; -1: none was */
	A67Why problem;		/* empty while all is well */
	int poll_at;
} A67Control;

typedef struct A67ControlSetup
{
	A67Options *options;
	const A67StateDir *dir;
	A67Identity *identity;
	A67Supervisor *supervisor;
	const A67Metrics *metrics;
	const A67ChunkStore *chunks;
	struct ssl_ctx_st *tls; /* NULL for http */
	const char *endpoint;	/* under which the controller reaches us */
} A67ControlSetup;

/* 0 or -errno.  Registers first unless the identity is registered. */
int a67_control_init(A67Control *control, const A67ControlSetup *setup, int64_t now_ms);
void a67_control_free(A67Control *control);

void a67_control_prepare(A67Control *control, A67PollSet *set, int64_t now_ms);
void a67_control_step(A67Control *control, const A67PollSet *set, int64_t now_ms);

/* Drops what is under way and sends a last beat; SILENT at its answer or after patience_ms. */
void a67_control_goodbye(A67Control *control, int64_t patience_ms, int64_t now_ms);

/* Heartbeat interval in force. */
int64_t a67_control_interval_ms(const A67Control *control);
/* Longest delay after failures, by the rule above. */
int64_t a67_control_patience_ms(int64_t interval_ms);

#endif /* A67_AGENT_CONTROL_H */
