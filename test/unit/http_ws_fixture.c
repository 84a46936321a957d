/*
 * http_ws_fixture.c - a server that speaks WebSocket at "/ws", and a client of a few functions that mask.
 *
 * It echoes: "close N" closes with that code, "flood N" sends N messages of 1,000 bytes, "quiet" is only
 * noted. Frames of the server are told apart by their headers. Included, as source, by the tests of
 * WebSockets: one program each, hence the static state.
 */
#include "http_fixture.c"

#include "core/http/ws.h"

#define KEY		 "dGhlIHNhbXBsZSBub25jZQ=="
#define SHAKE	 SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "")
#define MESSAGES 64

#define SHAKE_TO(version, more)                                                            \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" version \
	"Sec-WebSocket-Key: " KEY "\r\n" more "\r\n"

static struct
{
	int opened, closed, sent;
	int code;
	int count;
	char texts[MESSAGES][A67_WS_MESSAGE_BYTES + 1];
	size_t lens[MESSAGES];
	A67HttpHandle handle;
	const char *protocol; /* to be taken when offered */
	int accept_rc;
	int send_rc;
} ws;

static void
on_message(A67HttpConn *conn, const char *text, size_t len)
{
	int n;

	CHECK(text[len] == '\0');
	if (ws.count < MESSAGES)
	{
		memcpy(ws.texts[ws.count], text, len + 1);
		ws.lens[ws.count++] = len;
	}
	if (sscanf(text, "close %d", &n) == 1)
		CHECK_INT(a67_ws_close(conn, n, "as told"), 0);
	else if (sscanf(text, "flood %d", &n) == 1)
	{
		char piece[1000];

		memset(piece, 'f', sizeof(piece));
		while (n-- > 0 && ws.send_rc == 0)
			ws.send_rc = a67_ws_send(conn, piece, sizeof(piece));
	}
	else if (strcmp(text, "quiet") != 0)
		ws.send_rc = a67_ws_send(conn, text, len);
}

static void
on_sent(A67HttpConn *conn)
{
	ws.sent++;
}

static void
on_ws_close(A67HttpConn *conn, int code)
{
	ws.closed++;
	ws.code = code;
	CHECK_INT(a67_ws_send(conn, "x", 1), -EPIPE);
	CHECK_INT(a67_ws_close(conn, 1000, ""), -EPIPE);
	app.closes++;
}

static A67HttpDecision
ws_head(A67HttpConn *conn, const A67HttpHead *req)
{
	static const A67WsHandler handler = {on_message, on_sent, on_ws_close};
	static const A67HttpField fields[] = {{"X-A", "b"}, {NULL, NULL}};
	A67HttpDecision decision = {.verdict = A67_HTTP_ANSWERED};
	A67HttpStr protocol = {NULL, 0};
	A67HttpStr offered;
	const char *why = NULL;
	size_t cursor = 0;
	int status;

	if (!a67_http_str_is(req->path, "/ws"))
		return app_head(conn, req);
	status = a67_ws_check(req, &why);
	while (ws.protocol != NULL && a67_ws_next_protocol(req, &cursor, &offered))
		if (a67_http_str_is(offered, ws.protocol))
			protocol = offered;
	ws.accept_rc = a67_ws_accept(conn, protocol, fields, &handler);
	if (status != 0)
	{
		CHECK_INT(ws.accept_rc, -EINVAL);
		(void) a67_http_respond_error(conn, status, NULL, why);
		return decision;
	}
	CHECK_INT(ws.accept_rc, 0);
	CHECK_INT(a67_ws_accept(conn, protocol, NULL, &handler), -EPROTO);
	CHECK_INT(a67_http_respond(conn, 200, NULL, "x", 1), -EPROTO);
	ws.opened++;
	ws.handle = a67_http_conn_handle(conn);
	CHECK(a67_http_conn_find(app.server, ws.handle) == conn);
	return decision;
}

static void
ws_init(void)
{
	memset(&ws, 0, sizeof(ws));
	app_init();
	app.config.callbacks.on_head = ws_head;
}

static bool
ws_start(void)
{
	ws_init();
	return app_listen();
}

static void
ws_stop(void)
{
	app_stop();
	CHECK_INT(ws.closed, ws.opened);
}

static int
ws_dial(void)
{
	int fd = dial();

	CHECK(ask(fd, SHAKE, "\r\n\r\n"));
	CHECK(strstr(heard, "HTTP/1.1 101 ") == heard);
	forget();
	return fd;
}

/* A masked frame; first is the first byte. Returns its length. */
static size_t
frame(char *out, int first, const char *payload, size_t len)
{
	static const unsigned char mask[] = {0x5a, 0x00, 0xff, 0x33};
	size_t at = 0;
	size_t i;

	out[at++] = (char) first;
	out[at++] = (char) (0x80 | (len < 126 ? len : len < 65536 ? 126 : 127));
	for (i = len < 126 ? 0 : len < 65536 ? 2 : 8; i > 0; i--)
		out[at++] = (char) ((uint64_t) len >> (8 * (i - 1)));
	memcpy(out + at, mask, 4);
	at += 4;
	for (i = 0; i < len; i++)
		out[at++] = (char) (payload[i] ^ mask[i % 4]);
	return at;
}

static char wire[400000];

static void
tell(int fd, int first, const char *payload, size_t len)
{
	say_bytes(fd, wire, frame(wire, first, payload, len));
}

static void
tell_text(int fd, const char *text)
{
	tell(fd, 0x81, text, strlen(text));
}

/* Runs the server until the client has heard n bytes, or the end. */
static bool
hear_bytes(int fd, size_t n)
{
	int64_t cap = real_ms() + CAP_MS;

	while (heard_len < n && !heard_end && real_ms() < cap)
	{
		settle();
		(void) listen_once(fd);
	}
	return heard_len >= n;
}

/* The client hears exactly this text message. */
static bool
hear_text(int fd, const char *text)
{
	size_t len = strlen(text);
	bool ok = hear_bytes(fd, 2 + len) && heard[0] == (char) 0x81 && heard[1] == (char) len &&
			  memcmp(heard + 2, text, len) == 0;

	memmove(heard, heard + 2 + len, ok ? heard_len - 2 - len : 0);
	heard_len = ok ? heard_len - 2 - len : heard_len;
	return ok;
}

/* The close code that the server sends before anything else; 0: none, -1: the connection just ended. */
static int
hear_close(int fd)
{
	if (!hear_bytes(fd, 2))
		return -1;
	if (heard[0] != (char) 0x88 || (heard[1] & 0x80) != 0)
		return -2;
	if (heard[1] == 0)
		return 0;
	return hear_bytes(fd, 2 + (size_t) heard[1])
			   ? (unsigned char) heard[2] << 8 | (unsigned char) heard[3]
			   : -3;
}

static bool
ends(int fd)
{
	int64_t cap = real_ms() + CAP_MS;

	while (!heard_end && real_ms() < cap)
	{
		settle();
		(void) listen_once(fd);
	}
	return heard_end;
}
