/*
 * task.h - a request that goes on after its handler has returned: a body coming in, an answer going out.
 *
 * Hung on the connection (a67_http_conn_set_user) as the first member of its owner's struct; taken off by the owner
 * before the answer is complete.  serve.c passes the engine's callbacks on to it.
 */
#ifndef A67_AGENT_TASK_H
#define A67_AGENT_TASK_H

#include "core/http/server.h"

typedef struct A67Task A67Task;

/* What is NULL is not told. */
struct A67Task
{
	/* A piece of the body; non-zero: 500 unless it has answered. */
	int (*on_body)(A67Task *task, A67HttpConn *conn, const char *data, size_t len);
	/* The body is whole; without this the request goes to its route as any other. */
	void (*on_whole)(A67Task *task, A67HttpConn *conn);
	void (*on_drain)(A67Task *task, A67HttpConn *conn);
	/* The connection goes, and what the task holds with it. */
	void (*on_close)(A67Task *task, A67HttpConn *conn);
};

#endif /* A67_AGENT_TASK_H */
