/*
 * serve.h - what the agent answers: health and metrics to anyone, commands to its controller alone.
 *
 * Owns the HTTP server and the replay cache; a command is checked in full before its body is acted on,
 * and for all but the body before it is even read.  Called by main.
 */
#ifndef A67_AGENT_SERVE_H
#define A67_AGENT_SERVE_H

#include "chunk_serve.h"
#include "control.h"
#include "core/http/server.h"
#include "logs.h"
#include "usage.h"

typedef struct A67Serve
{
	A67HttpServer *server;
	uint16_t port;
	const A67StateDir *dir;
	A67Identity *identity; /* the next key of the controller is promoted here */
	A67Supervisor *supervisor;
	A67Control *control;
	const A67Metrics *metrics;
	const A67UsageTable *usage;
	A67Chunks *chunks;
	A67Logs *logs;
	A67Replay *replay;
	int64_t began_s; /* wall clock */
	uint64_t commands_ok;
	uint64_t commands_refused;
	int poll_at;
} A67Serve;

/*
 * Listens, over TLS unless tls is NULL (borrowed); port 0 takes any.  0 or -errno.  The other members are set by the caller before the first
 * step; until the identity is registered every command is refused.
 */
int a67_serve_open(A67Serve *serve, struct ssl_ctx_st *tls, const char *address, uint16_t port,
				   A67Why *why);
void a67_serve_close(A67Serve *serve);

void a67_serve_prepare(A67Serve *serve, A67PollSet *set, int64_t now_ms);
void a67_serve_step(A67Serve *serve, int64_t now_ms);

/* Text of GET /metrics; false when it does not fit. */
bool a67_exposition(const A67Serve *serve, A67Buf *out);

#endif /* A67_AGENT_SERVE_H */
