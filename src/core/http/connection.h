/*
 * connection.h: one connection of the engine, in all its states; private to the engine.
 *
 * Who may change what: conn.c the state and the deadlines, server.c the lists and the slot, request.c and
 * output.c what they read and write; everybody may set `doomed`. `ws` is ws.c's alone.
 */
#ifndef A67_CORE_HTTP_CONNECTION_H
#define A67_CORE_HTTP_CONNECTION_H

#include "deadlines.h"
#include "exchange.h"
#include "io.h"
#include "server.h"
#include "ws.h"

typedef enum ConnState
{
	CONN_HANDSHAKE, /* TLS */
	CONN_IDLE,		/* nothing of the next request has come */
	CONN_HEAD,
	CONN_BODY,
	CONN_ANSWER, /* request whole or given up: no reading until the answer is out */
	CONN_WS,	 /* switched to WebSocket: ws.c */
	CONN_LINGER, /* answer out, sending direction shut: discarding input */
	CONN_CLOSED
} ConnState;

typedef struct A67Ws A67Ws; /* ws.c */

/* Moved bytes are counted per window; too few when it ends is a time-out. */
typedef struct RateWindow
{
	int64_t due; /* A67_NEVER: not watched */
	uint64_t moved;
	uint64_t wanted;
} RateWindow;

typedef enum WatchKind
{
	WATCH_LISTENER,
	WATCH_CONN
} WatchKind;

struct A67HttpConn
{
	WatchKind watch; /* first: see Listener */
	uint8_t state;	 /* ConnState */
	bool doomed;
	bool ready;		   /* in the ready list */
	bool paused;	   /* body */
	bool fresh;		   /* no request has been completed */
	bool want_write;   /* the last send, or TLS, waits for EPOLLOUT */
	bool readable;	   /* recv has not said "wait" since the last event */
	uint32_t interest; /* epoll events asked for */
	uint32_t slot;
	A67Io io;
	A67HttpServer *server;
	A67HttpTimer timer;
	int64_t state_due; /* deadline of the state */
	RateWindow body_rate;
	RateWindow send_rate;
	uint64_t discarded;
	Exchange *ex;
	A67Ws *ws; /* from its acceptance to the end of the connection */
	void *user;
	A67Ip peer;
	bool peer_asked; /* peer is the answer of the system */
	bool peer_is_ip;
	A67HttpConn *next_ready;
	A67HttpConn *next_dead;
};

#endif
