/*
 * engine.h: what the files of the connection engine share; private to them.
 *
 * server.c owns the sockets, slots, deadlines and the batch; conn.c drives one connection through its
 * states; request.c is its reading half, output.c its writing half, respond.c the answers; upgrade.c
 * and ws.c take over a connection that becomes a WebSocket.
 *
 * Invariants: a conn is in exactly one slot until close_conn, then in the graveyard until the batch
 * ends. `ex` exists while a request is being read or answered and is freed when the connection goes
 * idle. Nothing outside of conn.c closes a connection: others set `doomed` and wake it.
 */
#ifndef A67_CORE_HTTP_ENGINE_H
#define A67_CORE_HTTP_ENGINE_H

#include "../pace.h"
#include "connection.h"

#define ENGINE_LISTENERS	4
#define ENGINE_ACCEPTS		64	  /* accepted in one event */
#define ENGINE_ACCEPT_PAUSE 100	  /* ms without accepting after running out of descriptors */
#define ENGINE_SPARE_BYTES	8192  /* a buffer larger than this is not kept for another request */
#define ENGINE_FIRST_READ	4096  /* input buffer of a new request */
#define ENGINE_BODY_READ	65536 /* input buffer behind the head while a body comes in */
#define ENGINE_FILE_STEP	(1024 * 1024) /* sendfile bytes in one turn */
#define ENGINE_TLS_STEP		16384		  /* file bytes copied at once into a TLS connection */
#define ENGINE_TURN_STEPS	32			  /* reads, parses and dispatches of one conn in one turn */
#define ENGINE_LINGER_BYTES (1024 * 1024) /* unread input discarded after an early close */
#define ENGINE_ERROR_BYTES	65536		  /* body of an error answer */
#define ENGINE_HEAD_ROOM	32768		  /* response head, beside max_response */
#define ENGINE_EXTRA_BYTES	4096		  /* of it, header lines given beforehand */

typedef struct Listener
{
	WatchKind watch;
	int fd;
} Listener;

typedef struct Slot
{
	A67HttpConn *conn; /* NULL: free */
	uint32_t generation;
	uint32_t next_free;
} Slot;

struct A67HttpServer
{
	A67HttpConfig config;
	int epoll_fd;
	Listener listeners[ENGINE_LISTENERS];
	int nlisteners;
	bool accepting;
	int64_t accept_again; /* A67_NEVER: not paused */
	bool draining;
	int64_t drain_due;
	int64_t now;
	Slot *slots;
	uint32_t nslots;	/* as many as max_clients has ever been */
	uint32_t free_slot; /* index + 1; 0: none */
	A67HttpDeadlines deadlines;
	A67HttpConn *current; /* whose turn it is */
	A67HttpConn *ready;
	A67HttpConn *graveyard;
	Exchange *spare; /* the one freed last, for the next request; or NULL */
	A67HttpStats stats;
	int64_t date_second;
	char date[32];
};

/* server.c */
extern void a67_engine_release_slot(A67HttpServer *server, A67HttpConn *conn);
/* Gives the conn a turn soon; no effect while it has one. */
extern void a67_engine_wake(A67HttpConn *conn);
/* Makes handles of the current request invalid. */
extern void a67_engine_expire_handle(A67HttpConn *conn);

/* conn.c */
extern A67HttpConn *a67_engine_conn_new(A67HttpServer *server, int fd, uint32_t slot);
extern void a67_engine_conn_close(A67HttpConn *conn);
extern void a67_engine_conn_events(A67HttpConn *conn, uint32_t events);
extern void a67_engine_conn_timeout(A67HttpConn *conn);
extern void a67_engine_conn_turn(A67HttpConn *conn);

/* request.c: each returns whether it got on; false means "wait for the socket or the handler". */
extern bool a67_engine_read_head(A67HttpConn *conn);
/* Prepares for the next request, whose beginning may have come already. */
extern void a67_engine_next_request(A67HttpConn *conn);
extern bool a67_engine_read_body(A67HttpConn *conn);
extern bool a67_engine_discard(A67HttpConn *conn);
extern void a67_engine_exchange_free(A67HttpConn *conn);
/* Frees what exchange_free keeps. */
extern void a67_engine_spare_free(A67HttpServer *server);

/* ws.c: called by upgrade.c, then by conn.c. */
extern A67Ws *a67_engine_ws_new(const A67WsHandler *handler);
/* The 101 is out; early is what came behind the request. False when out of memory. */
extern bool a67_engine_ws_begin(A67HttpConn *conn, const char *early, size_t len);
extern bool a67_engine_ws_step(A67HttpConn *conn);
extern void a67_engine_ws_timeout(A67HttpConn *conn);
/* Tells the handler that the connection ends, and frees what is the socket's. */
extern void a67_engine_ws_free(A67HttpConn *conn);

/* output.c */
extern bool a67_engine_out_pending(const A67HttpConn *conn);
extern void a67_engine_flush(A67HttpConn *conn);

/* respond.c */
/* An error of the engine itself: answers in JSON and closes; or just closes when it is too late. */
extern void a67_engine_fail(A67HttpConn *conn, int status, const char *message, bool linger);
/* The header for a request that no handler has seen; NULL: none. */
extern const A67HttpField *a67_engine_stamp(A67HttpServer *server);

#endif
