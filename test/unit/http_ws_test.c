/*
 * http_ws_test.c - WebSocket: handshakes good and bad, frames however they are cut, every way to close,
 * clients that do not read, many that say nothing.
 *
 * A client is a socket and a few functions that mask; the server's frames are told apart by their
 * headers. "/ws" echoes: "close N" closes with that code, "flood N" sends N messages of 1,000 bytes.
 */
#include "http_fixture.c"

#include "core/http/ws.h"

#include <sys/resource.h>

#define KEY		 "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT	 "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* of that key, from RFC 6455 */
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

/* ---- handshake --------------------------------------------------------------------------------- */

static void
handshake_of_the_rfc(void)
{
	int fd;

	REQUIRE(ws_start());
	fd = dial();
	CHECK(ask(fd, SHAKE, "\r\n\r\n"));
	CHECK(strstr(heard, "\r\nSec-WebSocket-Accept: " ACCEPT "\r\n") != NULL);
	CHECK(strstr(heard, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n") != NULL);
	CHECK(strstr(heard, "\r\nX-A: b\r\n") != NULL);
	CHECK(strstr(heard, "Sec-WebSocket-Protocol") == NULL);
	CHECK(strstr(heard, "Content-Length") == NULL);
	forget();
	tell_text(fd, "hello");
	CHECK(hear_text(fd, "hello"));
	CHECK_INT(ws.sent, 1);
	(void) close(fd);
	settle();
	CHECK_INT(ws.code, A67_WS_ABNORMAL);
	ws_stop();
}

static void
handshake_names_the_protocol(void)
{
	static const char *const offers[] = {
		"Sec-WebSocket-Protocol: a, bearer.x ,c\r\n",
		"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol:bearer.x\r\n",
		"Sec-WebSocket-Protocol: ,, bearer.x\r\n",
	};
	char request[1000];
	size_t i;

	REQUIRE(ws_start());
	ws.protocol = "bearer.x";
	for (i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
	{
		int fd = dial();

		snprintf(request, sizeof(request), SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "%s"),
				 offers[i]);
		CHECK(ask(fd, request, "\r\n\r\n"));
		CHECK(strstr(heard, "\r\nSec-WebSocket-Protocol: bearer.x\r\n") != NULL);
		(void) close(fd);
		settle();
	}
	ws_stop();
}

static void
handshakes_that_are_refused(void)
{
#define WITHOUT_KEY                                                                \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
	"Sec-WebSocket-Version: 13\r\n"
	static const struct
	{
		const char *request;
		const char *status;
	} cases[] = {
		{SHAKE_TO("Sec-WebSocket-Version: 8\r\n", ""), "HTTP/1.1 426 "},
		{SHAKE_TO("", ""), "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		 "Sec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 426 "},
		{"POST /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 405 "},
		{WITHOUT_KEY "\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: short\r\n\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi\r\n\r\n", "HTTP/1.1 400 "},
		{SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: " KEY "\r\n"),
		 "HTTP/1.1 400 "},
		{SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "Content-Length: 2\r\n") "ab", "HTTP/1.1 400 "},
	};
	size_t i;

	REQUIRE(ws_start());
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int fd = dial();

		CHECK(ask(fd, cases[i].request, "\r\n\r\n"));
		if (strstr(heard, cases[i].status) != heard)
			printf("# case %zu: %.60s\n", i, heard);
		CHECK(strstr(heard, cases[i].status) == heard);
		(void) close(fd);
		settle();
	}
	CHECK_INT(ws.opened, 0);
	ws_stop();
}

static void
first_frame_may_come_with_the_request(void)
{
	char both[1000];
	size_t len = strlen(SHAKE);
	int fd;

	REQUIRE(ws_start());
	fd = dial();
	memcpy(both, SHAKE, len);
	len += frame(both + len, 0x81, "early", 5);
	len += frame(both + len, 0x81, "bird", 4);
	say_bytes(fd, both, len);
	CHECK(hear(fd, "bird"));
	CHECK_INT(ws.count, 2);
	CHECK_STR(ws.texts[0], "early");
	(void) close(fd);
	ws_stop();
}

/* ---- frames ------------------------------------------------------------------------------------ */

static void
frames_cut_at_every_byte(void)
{
	char script[2000];
	char text[300];
	size_t len = 0;
	size_t cut;
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	memset(text, 't', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	len += frame(script + len, 0x01, "quie", 4);
	len += frame(script + len, 0x89, "ping", 4);
	len += frame(script + len, 0x00, "", 0);
	len += frame(script + len, 0x8a, "", 0);
	len += frame(script + len, 0x80, "t", 1);
	len += frame(script + len, 0x81, text, sizeof(text) - 1);
	len += frame(script + len, 0x81, "", 0);
	for (cut = 0; cut <= len; cut++)
	{
		forget();
		ws.count = 0;
		say_bytes(fd, script, cut);
		settle();
		say_bytes(fd, script + cut, len - cut);
		/* The pong, the echo, the empty echo. */
		REQUIRE(hear_bytes(fd, 6 + 4 + 299 + 2));
		CHECK_INT(ws.count, 3);
		CHECK_STR(ws.texts[0], "quiet");
		CHECK_STR(ws.texts[1], text);
		CHECK_STR(ws.texts[2], "");
		CHECK_MEM(heard, "\x8a\x04ping", 6);
		CHECK_INT((int64_t) heard_len, 6 + 4 + 299 + 2);
	}
	(void) close(fd);
	ws_stop();
}

static void
one_byte_at_a_time(void)
{
	char script[500];
	size_t len = frame(script, 0x81, "slowly", 6);
	size_t i;
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	len += frame(script + len, 0x81, "but surely", 10);
	for (i = 0; i < len; i++)
		say_bytes(fd, script + i, 1);
	CHECK(hear_text(fd, "slowly"));
	CHECK(hear_text(fd, "but surely"));
	(void) close(fd);
	ws_stop();
}

static void
largest_message_passes_and_one_byte_more_does_not(void)
{
	static char big[A67_WS_MESSAGE_BYTES + 2];
	int fd;

	REQUIRE(ws_start());
	memset(big, 'b', sizeof(big));
	fd = ws_dial();
	tell(fd, 0x81, big, A67_WS_MESSAGE_BYTES);
	CHECK(hear_bytes(fd, 4 + A67_WS_MESSAGE_BYTES));
	CHECK_MEM(heard, "\x81\x7e\x40\x00", 4);
	CHECK_INT((int64_t) ws.lens[0], A67_WS_MESSAGE_BYTES);
	forget();
	tell(fd, 0x81, big, A67_WS_MESSAGE_BYTES + 1);
	CHECK_INT(hear_close(fd), A67_WS_TOO_BIG);
	CHECK(ends(fd));
	(void) close(fd);

	/* In fragments, and by its announced length alone. */
	fd = ws_dial();
	tell(fd, 0x01, big, A67_WS_MESSAGE_BYTES);
	tell(fd, 0x80, big, 1);
	CHECK_INT(hear_close(fd), A67_WS_TOO_BIG);
	(void) close(fd);
	fd = ws_dial();
	say_bytes(fd, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0x", 15);
	CHECK_INT(hear_close(fd), A67_WS_TOO_BIG);
	(void) close(fd);
	settle();
	CHECK_INT(ws.code, A67_WS_TOO_BIG);
	CHECK_INT(ws.count, 1);
	ws_stop();
}

/* Raw bytes and the code that the server must close with. */
static const struct Wrong
{
	const char *what;
	const char *bytes;
	size_t len;
	int code;
} wrongs[] = {
#define RAW(text) text, sizeof(text) - 1
	{"not masked", RAW("\x81\x01x"), 1002},
	{"reserved bit 1", RAW("\xc1\x81\0\0\0\0x"), 1002},
	{"reserved bit 2", RAW("\xa1\x81\0\0\0\0x"), 1002},
	{"reserved bit 3", RAW("\x91\x81\0\0\0\0x"), 1002},
	{"opcode 3", RAW("\x83\x81\0\0\0\0x"), 1002},
	{"opcode 11", RAW("\x8b\x81\0\0\0\0x"), 1002},
	{"binary", RAW("\x82\x81\0\0\0\0x"), 1003},
	{"continuation of nothing", RAW("\x80\x81\0\0\0\0x"), 1002},
	{"text inside a message", RAW("\x01\x81\0\0\0\0x\x81\x81\0\0\0\0x"), 1002},
	{"fragmented ping", RAW("\x09\x80\0\0\0\0"), 1002},
	{"long ping", RAW("\x89\xfe\0\x7e\0\0\0\0"), 1002},
	{"longer length than needed", RAW("\x81\xfe\0\x01\0\0\0\0x"), 1002},
	{"far longer length than needed", RAW("\x81\xff\0\0\0\0\0\0\0\x01\0\0\0\0x"), 1002},
	{"negative length", RAW("\x81\xff\xff\0\0\0\0\0\0\0\0\0\0\0x"), 1002},
	{"bad UTF-8", RAW("\x81\x82\0\0\0\0\xc0\x80"), 1007},
	{"half a character", RAW("\x81\x82\0\0\0\0\xe2\x82"), 1007},
	{"surrogate", RAW("\x81\x83\0\0\0\0\xed\xa0\x80"), 1007},
	{"above U+10FFFF", RAW("\x81\x84\0\0\0\0\xf4\x90\x80\x80"), 1007},
	{"close of one byte", RAW("\x88\x81\0\0\0\0\x03"), 1002},
	{"close 0", RAW("\x88\x82\0\0\0\0\0\0"), 1002},
	{"close 999", RAW("\x88\x82\0\0\0\0\x03\xe7"), 1002},
	{"close 1004", RAW("\x88\x82\0\0\0\0\x03\xec"), 1002},
	{"close 1005", RAW("\x88\x82\0\0\0\0\x03\xed"), 1002},
	{"close 1006", RAW("\x88\x82\0\0\0\0\x03\xee"), 1002},
	{"close 1015", RAW("\x88\x82\0\0\0\0\x03\xf7"), 1002},
	{"close 2999", RAW("\x88\x82\0\0\0\0\x0b\xb7"), 1002},
	{"close 5000", RAW("\x88\x82\0\0\0\0\x13\x88"), 1002},
	{"close with a bad reason", RAW("\x88\x83\0\0\0\0\x03\xe8\xff"), 1007},
};

static void
broken_frames_close_with_their_code(void)
{
	size_t i;

	REQUIRE(ws_start());
	for (i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
	{
		int fd = ws_dial();
		int code;

		say_bytes(fd, wrongs[i].bytes, wrongs[i].len);
		/* What follows is not looked at. */
		tell_text(fd, "later");
		code = hear_close(fd);
		if (code != wrongs[i].code)
			printf("# %s: %d\n", wrongs[i].what, code);
		CHECK_INT(code, wrongs[i].code);
		CHECK(ends(fd));
		(void) close(fd);
		settle();
		CHECK_INT(ws.code, wrongs[i].code);
	}
	CHECK_INT(ws.count, 0);
	ws_stop();
}

static void
characters_may_be_cut_by_fragments(void)
{
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	tell(fd, 0x01, "\xe2", 1);
	tell(fd, 0x00, "\x82", 1);
	tell(fd, 0x80, "\xac", 1);
	CHECK(hear_text(fd, "\xe2\x82\xac"));
	tell(fd, 0x01, "\xe2", 1);
	tell(fd, 0x80, "\x82", 1);
	CHECK_INT(hear_close(fd), A67_WS_BAD_DATA);
	(void) close(fd);
	ws_stop();
}

/* ---- closing ----------------------------------------------------------------------------------- */

static void
closes_of_the_client_are_answered(void)
{
	static const int codes[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
								1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
	size_t i;
	int fd;

	REQUIRE(ws_start());
	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
	{
		char payload[] = {(char) (codes[i] >> 8), (char) codes[i], 'b', 'y', 'e'};

		fd = ws_dial();
		tell(fd, 0x88, payload, sizeof(payload));
		CHECK_INT(hear_close(fd), codes[i]);
		CHECK(ends(fd));
		(void) close(fd);
		settle();
		CHECK_INT(ws.code, codes[i]);
	}
	fd = ws_dial();
	tell(fd, 0x88, "", 0);
	CHECK_INT(hear_close(fd), 0);
	CHECK(ends(fd));
	(void) close(fd);
	settle();
	CHECK_INT(ws.code, A67_WS_NO_CODE);
	ws_stop();
}

static void
closes_of_the_handler_wait_for_the_client(void)
{
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	tell_text(fd, "close 4401");
	CHECK_INT(hear_close(fd), 4401);
	CHECK_MEM(heard + 4, "as told", 7);
	/* Too late to be heard, and the end is not there yet. */
	tell_text(fd, "quiet");
	tell(fd, 0x89, "", 0);
	CHECK_INT(ws.count, 1);
	CHECK_INT((int64_t) clients(), 1);
	tell(fd, 0x88, "\x11\x31", 2);
	CHECK(ends(fd));
	(void) close(fd);
	settle();
	CHECK_INT(ws.code, 4401);
	CHECK_INT((int64_t) clients(), 0);

	/* A client that does not answer is not waited for. */
	fd = ws_dial();
	tell_text(fd, "close 1008");
	CHECK_INT(hear_close(fd), 1008);
	pass(A67_WS_CLOSE_MS - 1);
	CHECK_INT((int64_t) clients(), 1);
	pass(2);
	CHECK_INT((int64_t) clients(), 0);
	CHECK_INT(ws.code, 1008);
	(void) close(fd);
	ws_stop();
}

static void
stopping_server_says_so(void)
{
	int fd;
	int other;

	REQUIRE(ws_start());
	fd = ws_dial();
	a67_http_server_drain(app.server, app.now + 60000);
	CHECK_INT(hear_close(fd), A67_WS_GOING_AWAY);
	tell(fd, 0x88, "\x03\xe9", 2);
	CHECK(ends(fd));
	settle();
	(void) close(fd);
	settle();
	CHECK(a67_http_server_drained(app.server));
	ws_stop();

	/* Also when there is no time for more. */
	REQUIRE(ws_start());
	other = ws_dial();
	ws_stop();
	CHECK(listen_once(other));
	CHECK_INT((unsigned char) heard[2] << 8 | (unsigned char) heard[3], A67_WS_GOING_AWAY);
	(void) close(other);
}

static void
handle_names_the_socket_until_its_end(void)
{
	A67HttpConn *conn;
	A67HttpHandle handle;
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	handle = ws.handle;
	conn = a67_http_conn_find(app.server, handle);
	REQUIRE(conn != NULL);
	CHECK(a67_http_conn_request(conn) == NULL);
	CHECK_INT(a67_http_respond(conn, 200, NULL, "x", 1), -EPROTO);
	CHECK_INT(a67_ws_send(conn, "later", 5), 0);
	CHECK_INT((int64_t) a67_ws_pending(conn), 7);
	CHECK(hear_text(fd, "later"));
	CHECK_INT((int64_t) a67_ws_pending(conn), 0);
	(void) close(fd);
	settle();
	CHECK(a67_http_conn_find(app.server, handle) == NULL);
	fd = ws_dial();
	CHECK(a67_http_conn_find(app.server, handle) == NULL);
	(void) close(fd);
	ws_stop();
}

/* ---- time and room ----------------------------------------------------------------------------- */

static void
silent_client_is_pinged_and_then_dropped(void)
{
	int fd;
	int i;

	REQUIRE(ws_start());
	fd = ws_dial();
	for (i = 0; i < 3; i++)
	{
		pass(A67_WS_PING_MS - 1);
		CHECK(!listen_once(fd));
		pass(2);
		CHECK(hear_bytes(fd, 2));
		CHECK_MEM(heard, "\x89\x00", 2);
		forget();
		pass(A67_WS_PONG_MS - 2);
		tell(fd, 0x8a, "", 0);
		settle();
	}
	pass(A67_WS_PING_MS + 1);
	CHECK(hear_bytes(fd, 2));
	/* Half a frame is no sign of life. */
	say_bytes(fd, "\x81", 1);
	pass(A67_WS_PONG_MS + 1);
	CHECK_INT((int64_t) clients(), 0);
	CHECK_INT(ws.code, A67_WS_ABNORMAL);
	(void) close(fd);
	ws_stop();
}

static void
client_that_does_not_read_is_given_up(void)
{
	int slow;
	int good;
	int i;

	REQUIRE(ws_start());
	slow = dial_with_buffer(4096);
	CHECK(ask(slow, SHAKE, "\r\n\r\n"));
	forget();
	good = ws_dial();
	for (i = 0; i < 2000 && ws.send_rc == 0; i++)
		tell_text(slow, "flood 10");
	CHECK_INT(ws.send_rc, -ENOBUFS);
	ws.send_rc = 0;
	tell_text(good, "still here");
	CHECK(hear_text(good, "still here"));
	/* It gets the frame that had begun, then the reason, if it reads at last. */
	forget();
	CHECK(hear(slow, "too slow"));
	CHECK_INT((unsigned char) heard[heard_len - 10] << 8 | (unsigned char) heard[heard_len - 9],
			  A67_WS_OVERLOAD);
	CHECK_INT((int64_t) ((heard_len - 12) % 1004), 0);
	CHECK(heard_len < 2 * A67_WS_QUEUE_BYTES);
	pass(A67_WS_CLOSE_MS + 1);
	CHECK_INT((int64_t) clients(), 1);
	CHECK_INT(ws.code, A67_WS_OVERLOAD);
	(void) close(slow);
	(void) close(good);
	ws_stop();
}

static void
message_larger_than_the_queue_is_not_sent(void)
{
	static char big[A67_WS_QUEUE_BYTES + 1];
	A67HttpConn *conn;
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	conn = a67_http_conn_find(app.server, ws.handle);
	memset(big, 'b', sizeof(big));
	CHECK_INT(a67_ws_send(conn, big, A67_WS_QUEUE_BYTES), 0);
	CHECK(hear_bytes(fd, 10 + A67_WS_QUEUE_BYTES));
	CHECK_MEM(heard, "\x81\x7f\0\0\0\0\0\x04\0\0", 10);
	forget();
	CHECK_INT(a67_ws_send(conn, big, sizeof(big)), -ENOBUFS);
	CHECK_INT(hear_close(fd), A67_WS_OVERLOAD);
	(void) close(fd);
	ws_stop();
}

static void
pings_without_reading_the_pongs_end(void)
{
	char many[131 * 100];
	size_t len = 0;
	int fd;
	int i;

	REQUIRE(ws_start());
	fd = dial_with_buffer(4096);
	CHECK(ask(fd, SHAKE, "\r\n\r\n"));
	for (i = 0; i < 100; i++)
	{
		char payload[125] = {0};

		len += frame(many + len, 0x89, payload, sizeof(payload));
	}
	for (i = 0; i < 2000 && ws.closed == 0; i++)
	{
		(void) send(fd, many, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		settle();
		if (i % 100 == 99)
			pass(A67_WS_CLOSE_MS);
	}
	CHECK_INT(ws.closed, 1);
	CHECK_INT(ws.code, A67_WS_OVERLOAD);
	(void) close(fd);
	ws_stop();
}

static void
two_thousand_sit_idle(void)
{
	enum
	{
		SOCKETS = 2000
	};
	static int fds[SOCKETS];
	struct rlimit limit;
	int i;

	REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max < 2 * SOCKETS + 100 ? limit.rlim_max : 2 * SOCKETS + 100;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 2 * SOCKETS);
	ws_init();
	app.config.max_clients = SOCKETS;
	REQUIRE(app_listen());
	for (i = 0; i < SOCKETS; i++)
		fds[i] = ws_dial();
	CHECK_INT(ws.opened, SOCKETS);
	/* Each is pinged and answers, twice. */
	for (i = 0; i < 2; i++)
	{
		int k;

		pass(A67_WS_PING_MS + 1);
		for (k = 0; k < SOCKETS; k++)
		{
			char ping[16];

			CHECK_INT(recv(fds[k], ping, sizeof(ping), MSG_DONTWAIT), 2);
			CHECK_INT(send(fds[k], "\x8a\x80\0\0\0\0", 6, MSG_NOSIGNAL), 6);
		}
		settle();
		CHECK_INT((int64_t) clients(), SOCKETS);
	}
	tell_text(fds[SOCKETS / 2], "awake");
	CHECK(hear_text(fds[SOCKETS / 2], "awake"));
	for (i = 0; i < SOCKETS; i++)
		(void) close(fds[i]);
	settle();
	CHECK_INT((int64_t) clients(), 0);
	ws_stop();
}

UNIT_MAIN("http_ws", UNIT(handshake_of_the_rfc), UNIT(handshake_names_the_protocol),
		  UNIT(handshakes_that_are_refused), UNIT(first_frame_may_come_with_the_request),
		  UNIT(frames_cut_at_every_byte), UNIT(one_byte_at_a_time),
		  UNIT(largest_message_passes_and_one_byte_more_does_not),
		  UNIT(broken_frames_close_with_their_code), UNIT(characters_may_be_cut_by_fragments),
		  UNIT(closes_of_the_client_are_answered), UNIT(closes_of_the_handler_wait_for_the_client),
		  UNIT(stopping_server_says_so), UNIT(handle_names_the_socket_until_its_end),
		  UNIT(silent_client_is_pinged_and_then_dropped),
		  UNIT(client_that_does_not_read_is_given_up),
		  UNIT(message_larger_than_the_queue_is_not_sent),
		  UNIT(pings_without_reading_the_pongs_end), UNIT(two_thousand_sit_idle));
