/*
 * ws.h: WebSocket (RFC 6455) on a connection of the engine: server side, text messages, no extensions.
 *
 * upgrade.c decides who may switch and answers 101; ws.c reads frames, keeps the connection alive and
 * writes. A socket stays a client of its server (limits, slots, handles); after the switch its
 * handler's callbacks take the place of the server's, and its conn may be kept by handle like a
 * request's. Callbacks run inside run() and follow its rules. Nothing is kept for an idle socket but
 * its structs; what waits to be sent is bounded: a client that does not read is closed with 1013.
 */
#ifndef A67_CORE_HTTP_WS_H
#define A67_CORE_HTTP_WS_H

#include "conn.h"

#define A67_WS_MESSAGE_BYTES (16 * 1024)  /* of one message from the client; more is 1009 */
#define A67_WS_QUEUE_BYTES	 (256 * 1024) /* waiting to be sent; more is 1013 */
#define A67_WS_KERNEL_BYTES	 (64 * 1024)  /* asked of the kernel for its part of the queue */
#define A67_WS_REASON_BYTES	 123
#define A67_WS_PING_MS		 30000 /* nothing heard for that long: ping */
#define A67_WS_PONG_MS		 20000 /* and nothing after it either: dropped */
#define A67_WS_CLOSE_MS		 5000  /* for the client's part of the closing handshake */

/* Close codes used by the engine or of use to handlers; applications have 4000 to 4999. */
#define A67_WS_NORMAL		 1000
#define A67_WS_GOING_AWAY	 1001
#define A67_WS_PROTOCOL		 1002
#define A67_WS_UNSUPPORTED	 1003 /* a binary message */
#define A67_WS_NO_CODE		 1005 /* never sent: the peer gave none */
#define A67_WS_ABNORMAL		 1006 /* never sent: the connection broke */
#define A67_WS_BAD_DATA		 1007
#define A67_WS_POLICY		 1008
#define A67_WS_TOO_BIG		 1009
#define A67_WS_OVERLOAD		 1013

typedef struct A67WsHandler
{
	/* A whole message: valid UTF-8 with a NUL behind it, good during the call. */
	void (*on_message)(A67HttpConn *conn, const char *text, size_t len);
	/* May be NULL: all that was sent has left for the kernel. */
	void (*on_sent)(A67HttpConn *conn);
	/*
	 * The connection goes away; called once, for every accepted socket. code: the first one that either
	 * side gave, A67_WS_NO_CODE or A67_WS_ABNORMAL. Sending is over.
	 */
	void (*on_close)(A67HttpConn *conn, int code);
} A67WsHandler;

/* 0 when the request asks for a WebSocket as it should; else the status to refuse with, and why. */
extern int a67_ws_check(const A67HttpHead *req, const char **why);

/* Takes the next of the offered subprotocols; *cursor starts at 0. False when there is none left. */
extern bool a67_ws_next_protocol(const A67HttpHead *req, size_t *cursor, A67HttpStr *protocol);

/*
 * Answers the request of the conn with 101, in place of a respond: from on_head (then the verdict is
 * ANSWERED) or on_request. protocol: one of the offered, copied; at == NULL for none. headers as for
 * a67_http_respond. The user pointer stays. From here on a67_http_conn_handle names the socket, and
 * messages may be sent. 0, -EINVAL (a67_ws_check refuses, or a header), -EPROTO, -EPIPE, -ENOMEM.
 */
extern int a67_ws_accept(A67HttpConn *conn, A67HttpStr protocol, const A67HttpField *headers,
						 const A67WsHandler *handler);

/* Sends a text message, which must be UTF-8. -EPIPE: closing; -ENOBUFS: too slow, now closing. */
extern int a67_ws_send(A67HttpConn *conn, const char *text, size_t len);

/* Begins the closing handshake: nothing is received or sent any more. 0, or -EPIPE: it has begun. */
extern int a67_ws_close(A67HttpConn *conn, int code, const char *reason);

/* Bytes waiting to be sent. */
extern size_t a67_ws_pending(const A67HttpConn *conn);

#endif
