/*
 * http_ws_fuzz.c - a WebSocket, driven by a script: what arrives, when, and what the handler does.
 *
 * The first byte says how to begin, then come steps of an opcode and an argument: bytes as they are,
 * masked frames of a chosen first byte, time, reading, messages of the handler's. Whatever is sent,
 * the socket must end, closed exactly once; messages must be UTF-8 and within their limit, the queue
 * within its own; and what the client got after the 101 must be whole, unmasked frames, the last one
 * perhaps cut off, nothing behind a close.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/buf.h"
#include "core/http/ws.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                           \
	do                                                            \
	{                                                             \
		if (!(condition))                                         \
		{                                                         \
			fprintf(stderr, "broken property: %s\n", #condition); \
			abort();                                              \
		}                                                         \
	} while (0)

#define STEPS	  300
#define HEARD_MAX (4 * 1024 * 1024)

typedef struct World
{
	A67HttpServer *server;
	int64_t now;
	A67HttpHandle socket;
	int opened;
	int closes;
} World;

static World world;
static char heard[HEARD_MAX];
static size_t heard_len;

static void
check_queue(A67HttpConn *conn)
{
	MUST(a67_ws_pending(conn) <= A67_WS_QUEUE_BYTES + 300);
}

static void
send_some(A67HttpConn *conn, uint8_t how)
{
	static char text[70000];
	size_t len = how < 128 ? how : (size_t) (how - 127) * 540;

	memset(text, 't', len);
	(void) a67_ws_send(conn, text, len);
	check_queue(conn);
}

static void
on_message(A67HttpConn *conn, const char *text, size_t len)
{
	MUST(len <= A67_WS_MESSAGE_BYTES && text[len] == '\0' && a67_utf8_is_valid(text, len));
	MUST(a67_http_conn_find(world.server, world.socket) == conn);
	if (len > 1 && text[0] == 'c')
		(void) a67_ws_close(conn, 4000 + (text[1] & 127), text);
	else if (len > 1 && text[0] == 's')
		send_some(conn, (uint8_t) text[1]);
	else
		(void) a67_ws_send(conn, text, len);
	check_queue(conn);
}

static void
on_sent(A67HttpConn *conn)
{
	MUST(a67_ws_pending(conn) == 0);
}

static void
on_ws_close(A67HttpConn *conn, int code)
{
	world.closes++;
	MUST(code >= 1000 && code <= 4999);
	MUST(a67_ws_send(conn, "x", 1) < 0 && a67_ws_close(conn, 1000, "") < 0);
}

static A67HttpDecision
on_head(A67HttpConn *conn, const A67HttpHead *req)
{
	static const A67WsHandler handler = {on_message, on_sent, on_ws_close};
	A67HttpDecision decision = {.verdict = A67_HTTP_ANSWERED};
	A67HttpStr protocol = {NULL, 0};
	A67HttpStr offered;
	size_t cursor = 0;
	const char *why;
	int status = a67_ws_check(req, &why);
	int count = 0;

	while (a67_ws_next_protocol(req, &cursor, &offered) && offered.len > 0 && count++ < 100000)
		protocol = offered;
	MUST(count < 100000);
	if (status == 0)
	{
		MUST(a67_ws_accept(conn, protocol, NULL, &handler) == 0);
		world.socket = a67_http_conn_handle(conn);
		world.opened++;
		return decision;
	}
	MUST(a67_ws_accept(conn, protocol, NULL, &handler) < 0);
	(void) a67_http_respond_error(conn, status, NULL, why);
	return decision;
}

static void
on_request(A67HttpConn *conn, const A67HttpHead *req, const char *body, size_t len)
{
	(void) a67_http_respond(conn, 200, NULL, "", 0);
}

static void
on_close(A67HttpConn *conn)
{
	world.closes++;
}

static void
run(int times)
{
	while (times-- > 0)
		MUST(a67_http_server_run(world.server, world.now, 8) >= 0);
}

static void
hear(int fd)
{
	ssize_t n;

	while (heard_len < sizeof(heard) &&
		   (n = recv(fd, heard + heard_len, sizeof(heard) - heard_len, MSG_DONTWAIT)) > 0)
		heard_len += (size_t) n;
}

/* What came behind the 101. */
static void
check_heard(void)
{
	char *end = heard_len > 0 ? memmem(heard, heard_len, "\r\n\r\n", 4) : NULL;
	const unsigned char *at;
	size_t left;
	bool closed = false;

	if (world.opened == 0 || end == NULL || heard_len == sizeof(heard))
		return;
	MUST(memcmp(heard, "HTTP/1.1 101 ", 13) == 0);
	at = (const unsigned char *) end + 4;
	left = heard_len - (size_t) (end + 4 - heard);
	while (left >= 10 || (left >= 2 && at[1] < 126))
	{
		size_t header = at[1] < 126 ? 2 : at[1] == 126 ? 4 : 10;
		uint64_t len = at[1] < 126 ? at[1] : 0;
		size_t i;

		MUST(!closed && (at[0] == 0x81 || at[0] == 0x88 || at[0] == 0x89 || at[0] == 0x8a));
		MUST((at[1] & 0x80) == 0 && (at[0] == 0x81 || at[1] <= 125));
		for (i = 2; i < header; i++)
			len = len << 8 | at[i];
		closed = at[0] == 0x88;
		if (header + len > left)
			return;
		at += header + len;
		left -= header + (size_t) len;
	}
}

/* Sends a masked frame; the masking key comes from its own argument. */
static void
send_frame(int fd, uint8_t first, const uint8_t *data, size_t n)
{
	uint8_t out[300];
	size_t at = 0;
	size_t i;

	out[at++] = first;
	out[at++] = (uint8_t) (0x80 | (n < 126 ? n : 126));
	if (n >= 126)
	{
		out[at++] = 0;
		out[at++] = (uint8_t) n;
	}
	for (i = 0; i < 4; i++)
		out[at++] = (uint8_t) (first + 57 * i);
	for (i = 0; i < n; i++)
		out[at++] = data[i] ^ (uint8_t) (first + 57 * (i % 4));
	(void) !send(fd, out, at, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Performs the script on the client's side of the pair. */
static void
play(int fd, const uint8_t *data, size_t size)
{
	A67HttpConn *conn;
	int steps = 0;

	while (size >= 2 && steps++ < STEPS)
	{
		uint8_t op = data[0];
		uint8_t arg = data[1];
		size_t n = arg < size - 2 ? arg : size - 2;

		data += 2;
		size -= 2;
		conn = a67_http_conn_find(world.server, world.socket);
		switch (op & 7)
		{
			case 0:
			case 1:
				/* The upper bits of op choose among the usual first bytes. */
				send_frame(fd, (uint8_t) ((op & 8) << 4 | op >> 4), data, n);
				data += n;
				size -= n;
				break;
			case 2:
				(void) !send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
				data += n;
				size -= n;
				break;
			case 3:
				world.now += (int64_t) arg * 300;
				break;
			case 4:
				if (conn != NULL)
					send_some(conn, arg);
				break;
			case 5:
				if (conn != NULL && arg > 200)
					(void) a67_ws_close(conn, 3000 + arg, "fuzz");
				break;
			case 6:
				hear(fd);
				if (arg == 255)
					(void) shutdown(fd, SHUT_WR);
				break;
			default:
				if (arg == 254)
					a67_http_server_drain(world.server, world.now + 10000);
				break;
		}
		run(op > 127 ? 2 : 1);
	}
}

static void
begin(int fd, uint8_t how)
{
	static const char shake[] =
		"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

	(void) !send(fd, shake, sizeof(shake) - 1, MSG_NOSIGNAL);
	if ((how & 2) != 0)
		(void) !send(fd, "Sec-WebSocket-Protocol: a, b\r\n", 30, MSG_NOSIGNAL);
	(void) !send(fd, "\r\n", 2, MSG_NOSIGNAL);
	if ((how & 4) == 0)
		run(2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	A67HttpConfig config;
	int pair[2];
	int small = 4096;
	int i;

	if (size < 3 || size > 65536)
		return 0;
	memset(&world, 0, sizeof(world));
	heard_len = 0;
	a67_http_config_defaults(&config);
	config.callbacks =
		(A67HttpCallbacks){.on_head = on_head, .on_request = on_request, .on_close = on_close};
	config.max_clients = 2;
	world.server = a67_http_server_new(&config);
	MUST(world.server != NULL && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	if ((data[0] & 8) != 0)
		(void) setsockopt(pair[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	MUST(a67_http_server_adopt(world.server, pair[0], world.now) == 0);
	/* Mostly the handshake is done already; else it is part of the script. */
	if ((data[0] & 1) == 0)
		begin(pair[1], data[0]);
	play(pair[1], data + 1, size - 1);
	for (i = 0; i < 1000 && a67_http_server_next_deadline(world.server, world.now) == 0; i++)
		run(1);
	MUST(i < 1000);
	a67_http_server_drain(world.server, world.now + 200000);
	for (i = 0; i < 400 && !a67_http_server_drained(world.server); i++)
	{
		int64_t wait = a67_http_server_next_deadline(world.server, world.now);

		MUST(wait >= 0);
		world.now += wait;
		run(2);
		hear(pair[1]);
	}
	MUST(a67_http_server_drained(world.server));
	MUST(world.closes == 1);
	hear(pair[1]);
	check_heard();
	a67_http_server_free(world.server);
	(void) close(pair[1]);
	return 0;
}
