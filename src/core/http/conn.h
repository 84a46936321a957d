/*
 * conn.h: what a handler may do with one connection of the engine; included by server.h.
 *
 * A conn pointer is valid inside the callback that got it; keep a handle, not the pointer. Each
 * request gets exactly one answer: respond, respond_file, or begin … end. Answers may be given
 * inside any callback but on_close, or later between calls of run().
 *
 * Results are 0 or: -EINVAL (status outside 200–599, forbidden or malformed header), -EPROTO (no
 * request waits for this step), -EPIPE (connection is ending), -ENOBUFS (limit; nothing taken),
 * -ENOMEM. Date, Connection, Content-Length and Transfer-Encoding are set by the engine and refused
 * as headers. After a failed respond the request still waits for an answer unless it was -EPIPE.
 */
#ifndef A67_CORE_HTTP_CONN_H
#define A67_CORE_HTTP_CONN_H

#include "../address.h"
#include "server.h"

/* A slice of an open file. The engine closes fd in every case, also on errors. */
typedef struct A67HttpFile
{
	int fd;
	uint64_t offset;
	uint64_t length;
} A67HttpFile;

extern A67HttpServer *a67_http_conn_server(A67HttpConn *conn);
extern void *a67_http_conn_user(const A67HttpConn *conn);
extern void a67_http_conn_set_user(A67HttpConn *conn, void *user);
/* The request being handled, NULL between requests. */
extern const A67HttpHead *a67_http_conn_request(const A67HttpConn *conn);
/* Address of the peer; NULL for an adopted unix socket. Asks the system once. */
extern const A67Ip *a67_http_conn_peer(A67HttpConn *conn);

/* Handle of the current request, or of the WebSocket; {0, 0} when there is none. */
extern A67HttpHandle a67_http_conn_handle(const A67HttpConn *conn);
/* NULL when that request is answered or its connection is gone. */
extern A67HttpConn *a67_http_conn_find(A67HttpServer *server, A67HttpHandle handle);

/*
 * Header fields that the answer to the current request carries beside its own, whoever gives it and
 * whatever it is. Adds to those of earlier calls; 4 kB in all.
 */
extern int a67_http_respond_also(A67HttpConn *conn, const A67HttpField *headers);

/* A whole answer; body is copied. HEAD sends the headers only; 204 and 304 never have a body. */
extern int a67_http_respond(A67HttpConn *conn, int status, const A67HttpField *headers,
							const void *body, size_t len);
/* {"code","message","details":null,"hint":null}; the connection stays usable. code NULL: "HTTPnnn" */
extern int a67_http_respond_error(A67HttpConn *conn, int status, const char *code,
								  const char *message);
extern int a67_http_respond_file(A67HttpConn *conn, int status, const A67HttpField *headers,
								 A67HttpFile file);

/* A streamed answer: content_length, or -1 for chunked (HTTP/1.0: until close). */
extern int a67_http_respond_begin(A67HttpConn *conn, int status, const A67HttpField *headers,
								  int64_t content_length);
/* Copies data. Stop when pending reaches high_water, go on in on_drain. */
extern int a67_http_respond_write(A67HttpConn *conn, const void *data, size_t len);
extern size_t a67_http_respond_pending(const A67HttpConn *conn);
/* Completes the answer; short of its content_length this aborts instead and returns -EINVAL. */
extern int a67_http_respond_end(A67HttpConn *conn);
/* Gives the answer up: the connection is closed so that the client sees the truncation. */
extern void a67_http_respond_abort(A67HttpConn *conn);

/* STREAM mode: no further on_body until resumed; the body's rate is not watched meanwhile. */
extern void a67_http_body_pause(A67HttpConn *conn);
extern void a67_http_body_resume(A67HttpConn *conn);

#endif
