/*
 * server.h: the HTTP/1.1 connection engine, on epoll.
 *
 * Owns the sockets, framing, deadlines and buffers of one listener; knows nothing of routes. One
 * thread; run() never blocks. Time comes in as now_ms (CLOCK_MONOTONIC). Callbacks must not throw,
 * longjmp or block; they may answer at once or keep a handle and answer later, between calls of
 * run(). A connection's memory is freed after the event batch, never inside it. Every wait has a
 * deadline and every buffer a limit: A67HttpConfig. Called by the listener worker and the agent.
 */
#ifndef A67_CORE_HTTP_SERVER_H
#define A67_CORE_HTTP_SERVER_H

#include "parser.h"

struct ssl_ctx_st; /* SSL_CTX, made by tls.h */

typedef struct A67HttpServer A67HttpServer;
typedef struct A67HttpConn A67HttpConn;

/* Names one request. Invalid once its answer is complete or its connection is gone. */
typedef struct A67HttpHandle
{
	uint32_t slot;
	uint32_t generation; /* never 0 in a valid handle */
} A67HttpHandle;

typedef enum A67HttpVerdict
{
	A67_HTTP_BUFFER,  /* collect up to max_body bytes, then on_request gets them whole */
	A67_HTTP_STREAM,  /* hand up to max_body bytes to on_body as they come, then on_request */
	A67_HTTP_REJECT,  /* answer status/message as JSON error; the body is not read */
	A67_HTTP_ANSWERED /* on_head has responded itself; an unread body closes the connection */
} A67HttpVerdict;

typedef struct A67HttpDecision
{
	A67HttpVerdict verdict;
	uint64_t max_body;	 /* a longer body is 413 */
	int status;			 /* REJECT: 400–599 */
	const char *message; /* REJECT: NULL means the reason phrase; copied */
	uint32_t body_ms;	 /* in place of the config's; 0: that one */
} A67HttpDecision;

typedef struct A67HttpCallbacks
{
	/* A head is whole. req lives until the answer is complete. NULL: BUFFER config.max_body. */
	A67HttpDecision (*on_head)(A67HttpConn *conn, const A67HttpHead *req);
	/* Body bytes in STREAM mode. Non-zero: the engine answers 500 unless on_body has answered. */
	int (*on_body)(A67HttpConn *conn, const char *data, size_t len);
	/* The request is whole; body is NULL in STREAM mode, else valid until the answer is complete. */
	void (*on_request)(A67HttpConn *conn, const A67HttpHead *req, const char *body, size_t len);
	/* A streamed answer fell below half its high-water mark after having reached it. */
	void (*on_drain)(A67HttpConn *conn);
	/* The connection goes away (any reason); release what the user pointer holds. */
	void (*on_close)(A67HttpConn *conn);
	/*
	 * One header for the answer to a request that no handler has seen, because it was malformed, late
	 * or one too many. Valid until the next call; may return NULL.
	 */
	const A67HttpField *(*stamp)(void *arg);
	/* Unix time for the Date header; NULL: no Date. */
	int64_t (*wall_seconds)(void *arg);
} A67HttpCallbacks;

typedef struct A67HttpConfig
{
	A67HttpCallbacks callbacks;
	void *arg;
	struct ssl_ctx_st *tls; /* NULL: plain; borrowed */
	uint32_t max_clients;	/* one more is answered 503 and closed */
	bool makes_room;		/* instead, whoever has been without a request for longest is closed */
	A67HttpLimits head;
	uint64_t max_body;		 /* ceiling of any buffered body */
	size_t max_response;	 /* unsent bytes one answer may hold in memory */
	size_t high_water;		 /* streamed answers: respond_write should pause here */
	uint32_t header_ms;		 /* first byte (or accept) → whole head, TLS handshake included */
	uint32_t idle_ms;		 /* keep-alive pause */
	uint32_t body_ms;		 /* whole body, absolute; 0: only the rate below */
	uint32_t answer_ms;		 /* whole request → answer begun, else 504; 0: no limit */
	uint32_t rate_window_ms; /* per window, body and send must move rate × window bytes */
	uint32_t body_min_rate;	 /* bytes/s */
	uint32_t send_min_rate;	 /* bytes/s, while something is waiting to be sent */
	uint32_t linger_ms;		 /* after an early close: how long unread input is discarded */
} A67HttpConfig;

typedef struct A67HttpStats
{
	uint32_t clients;
	uint64_t accepted, refused, requests, responses, timeouts, client_errors;
	uint64_t bytes_in, bytes_out;
} A67HttpStats;

/* Fills in the defaults; callbacks, arg and tls stay empty. */
extern void a67_http_config_defaults(A67HttpConfig *config);

/* NULL with errno on failure (EINVAL: a limit is out of range). The config is copied. */
extern A67HttpServer *a67_http_server_new(const A67HttpConfig *config);
/*
 * Takes over the limits of another config; callbacks, arg and tls stay as they are. What is under way
 * keeps the deadlines it has; clients beyond a lower max_clients stay until they leave. Not inside run.
 * Returns 0, -EINVAL or -ENOMEM: then nothing has changed.
 */
extern int a67_http_server_reconfigure(A67HttpServer *server, const A67HttpConfig *config);
/*
 * New connections use this context from now on; those that are there keep theirs. Only on a server that
 * was made with a context. Borrowed, until another one is set or the server is freed. 0 or -EINVAL.
 */
extern int a67_http_server_set_tls(A67HttpServer *server, struct ssl_ctx_st *tls);
/* Closes everything at once; on_close is called for each connection. Not inside a callback. */
extern void a67_http_server_free(A67HttpServer *server);

/*
 * Listens on a numeric address ("127.0.0.1", "::1"); port 0 takes a free one. *bound_port (may be
 * NULL) gets the real one. At most 4 sockets. Returns 0 or -errno.
 */
extern int a67_http_server_listen(A67HttpServer *server, const char *addr, uint16_t port,
								  bool reuse_port, uint16_t *bound_port);
/* Takes over a connected stream socket (tests, fuzzers, socket activation); on failure it stays the
 * caller's. 0 or -errno. */
extern int a67_http_server_adopt(A67HttpServer *server, int fd, int64_t now_ms);

/* The nested epoll: readable when run() has work. */
extern int a67_http_server_fd(const A67HttpServer *server);
/* Handles at most max_events socket events and all due deadlines. Returns events handled, -errno. */
extern int a67_http_server_run(A67HttpServer *server, int64_t now_ms, int max_events);
/* ms to wait at most before the next run(): 0 = work is waiting, -1 = no deadline. */
extern int64_t a67_http_server_next_deadline(const A67HttpServer *server, int64_t now_ms);
/* Tells the time after a wait; call it before answering outside of run(). */
extern void a67_http_server_set_now(A67HttpServer *server, int64_t now_ms);

/* Stops accepting, closes idle connections, lets running requests end until deadline_ms. */
extern void a67_http_server_drain(A67HttpServer *server, int64_t deadline_ms);
/* True once a drained server has no connection left. */
extern bool a67_http_server_drained(const A67HttpServer *server);
extern void a67_http_server_stats(const A67HttpServer *server, A67HttpStats *stats);
extern void *a67_http_server_arg(const A67HttpServer *server);

#include "conn.h"

#endif
