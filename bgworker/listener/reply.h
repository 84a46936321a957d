/*
 * reply.h: answers that the listener gives itself, and request ids.
 *
 * Every answer of the listener goes through here or through dispatch.c. None of them adds the X-Request-Id:
 * service.c has given it to the connection before, for any answer to the request. Uses malloc only and never throws: it runs inside the engine's callbacks.
 */
#ifndef A67_LISTENER_REPLY_H
#define A67_LISTENER_REPLY_H

#include "core/http/server.h"

#define A67_REQUEST_ID_SIZE 65
#define A67_REQUEST_ID		"X-Request-Id"

/* An error answer; extra is one more header or {NULL, NULL}. */
typedef struct A67Refusal
{
	int status;
	const char *code; /* NULL: "HTTPnnn" */
	const char *message;
	const char *details; /* NULL: null */
	A67HttpField extra;
} A67Refusal;

/* The client's X-Request-Id when it is sane, else a new one from the random sequence. */
extern void a67_request_id(const A67HttpHead *head, uint64_t *random, char id[A67_REQUEST_ID_SIZE]);

/* A new one, for a request of which nothing is known. */
extern void a67_request_id_new(uint64_t *random, char id[A67_REQUEST_ID_SIZE]);

extern void a67_reply_refuse(A67HttpConn *conn, const A67Refusal *refusal);
extern void a67_reply_json(A67HttpConn *conn, int status, const char *json);
/* No body; extra may be {NULL, NULL}. */
extern void a67_reply_empty(A67HttpConn *conn, int status, A67HttpField extra);

#endif
