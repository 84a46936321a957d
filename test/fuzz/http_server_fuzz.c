/*
 * http_server_fuzz.c - the connection engine on the other end of a socket pair, driven by a script.
 *
 * The input is a script: one byte of settings, then steps of an operation byte, an argument byte and,
 * for sends, that many bytes. The operations send, advance the clock, answer or abort a pending
 * request, resume a body, read or close on the client's side. The path of a request chooses what its
 * handler does. Afterwards time runs out: every connection must end, each closed exactly once, and
 * what the client got must be a sequence of well-formed responses.
 */
#include "core/http/chunked.h"
#include "core/http/server.h"

#include <errno.h>
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

#define STEPS	   200
#define HEARD_MAX  (4 * 1024 * 1024)
#define STREAM_OUT 200000

typedef struct World
{
	A67HttpServer *server;
	int64_t now;
	A67HttpHandle pending;
	uint64_t to_stream;
	bool heads_only; /* a HEAD request was seen: its answers cannot be told apart */
	bool truncated;	 /* an answer was aborted on purpose, or time ran out */
	int closes;
} World;

static World world;
static char heard[HEARD_MAX];
static size_t heard_len;

static void
stream(A67HttpConn *conn)
{
	static const char piece[3000] = "streamed";

	while (world.to_stream > 0 && a67_http_respond_pending(conn) < 8192)
	{
		size_t n = world.to_stream < sizeof(piece) ? (size_t) world.to_stream : sizeof(piece);

		if (a67_http_respond_write(conn, piece, n) < 0)
			return;
		world.to_stream -= n;
	}
	if (world.to_stream == 0)
		(void) a67_http_respond_end(conn);
}

static char
kind_of(const A67HttpHead *req)
{
	return req->path.len > 1 ? req->path.at[1] : 'h';
}

static A67HttpDecision
on_head(A67HttpConn *conn, const A67HttpHead *req)
{
	A67HttpDecision d = {.verdict = A67_HTTP_BUFFER, .max_body = 600};

	MUST(a67_http_conn_request(conn) == req);
	MUST(a67_http_conn_find(world.server, a67_http_conn_handle(conn)) == conn);
	world.heads_only |= req->method == A67_HTTP_HEAD;
	switch (kind_of(req))
	{
		case 's':
		case 'p':
		case 'd':
			d.verdict = A67_HTTP_STREAM;
			d.max_body = 5000;
			break;
		case 'r':
			d.verdict = A67_HTTP_REJECT;
			d.status = 400 + (int) req->path.len;
			break;
		case 'w':
			d.verdict = A67_HTTP_ANSWERED;
			(void) a67_http_respond(conn, 200, NULL, "early", 5);
			break;
		case 'b':
			/* Answers while the body is still coming. */
			d.verdict = A67_HTTP_STREAM;
			d.max_body = 5000;
			(void) a67_http_respond_begin(conn, 200, NULL, -1);
			break;
		case 'x':
			d.verdict = A67_HTTP_ANSWERED;
			break;
		default:
			break;
	}
	return d;
}

static int
on_body(A67HttpConn *conn, const char *data, size_t len)
{
	const A67HttpHead *req = a67_http_conn_request(conn);
	static volatile char sink;

	MUST(req != NULL && len > 0);
	sink = (char) (sink ^ data[0] ^ data[len - 1]);
	switch (kind_of(req))
	{
		case 'p':
			world.pending = a67_http_conn_handle(conn);
			a67_http_body_pause(conn);
			return 0;
		case 'd':
			(void) a67_http_respond(conn, 200, NULL, data, len);
			return 0;
		case 'b':
			(void) a67_http_respond_write(conn, data, len);
			return 0;
		default:
			return data[0] == '!';
	}
}

static void
on_request(A67HttpConn *conn, const A67HttpHead *req, const char *body, size_t len)
{
	MUST(len == 0 || body != NULL);
	switch (kind_of(req))
	{
		case 'a':
		case 'p':
			world.pending = a67_http_conn_handle(conn);
			break;
		case 'e':
			(void) a67_http_respond(conn, 200, NULL, body, len);
			break;
		case 't':
			world.to_stream = STREAM_OUT;
			(void) a67_http_respond_begin(conn, 200, NULL, -1);
			stream(conn);
			break;
		case 'b':
			(void) a67_http_respond_end(conn);
			break;
		case 'f':
			world.pending = a67_http_conn_handle(conn);
			(void) a67_http_respond_begin(conn, 200, NULL, 10);
			break;
		case 'n':
			(void) a67_http_respond(conn, 204, NULL, "x", 1);
			break;
		default:
			(void) a67_http_respond_error(conn, 404, NULL, NULL);
			break;
	}
}

static void
on_drain(A67HttpConn *conn)
{
	stream(conn);
}

static void
on_close(A67HttpConn *conn)
{
	world.closes++;
	MUST(a67_http_respond(conn, 200, NULL, "x", 1) < 0);
	MUST(a67_http_conn_handle(conn).generation == 0);
}

static int64_t
wall(void *arg)
{
	return 1000000000 + world.now / 1000;
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

static void
answer(uint8_t how)
{
	A67HttpConn *conn = a67_http_conn_find(world.server, world.pending);
	static const A67HttpField fields[] = {{"X-A", "b"}, {NULL, NULL}};

	if (conn == NULL)
		return;
	a67_http_server_set_now(world.server, world.now);
	switch (how % 6)
	{
		case 0:
			(void) a67_http_respond(conn, 200, fields, "later", 5);
			break;
		case 1:
			world.truncated = true;
			a67_http_respond_abort(conn);
			break;
		case 2:
			(void) a67_http_respond_write(conn, "01234", 5);
			break;
		case 3:
			if (a67_http_respond_end(conn) == -EINVAL)
				world.truncated = true;
			break;
		case 4:
			(void) a67_http_respond_begin(conn, 201, fields, how > 128 ? -1 : 3);
			break;
		default:
			a67_http_body_resume(conn);
			break;
	}
}

/* Takes one response off `at`; false when what is left is not a whole one. */
static bool
take_response(const char **at, size_t *len)
{
	static A67HttpHead head;
	A67HttpChunked chunked = {0};
	A67HttpStr piece;
	size_t used;
	int rc = a67_http_parse_response(*at, *len, 0, NULL, &head);

	MUST(rc > 0 || rc == A67_HTTP_INCOMPLETE);
	if (rc < 0)
		return false;
	*at += rc;
	*len -= (size_t) rc;
	if (head.status < 200 || head.status == 204)
		return true;
	if (!head.chunked && head.content_length >= 0)
	{
		used = (uint64_t) head.content_length < *len ? (size_t) head.content_length : *len;
		*at += used;
		*len -= used;
		return used == (size_t) head.content_length;
	}
	MUST(head.chunked || !head.keep_alive);
	rc = head.chunked ? A67_HTTP_CHUNK_MORE : A67_HTTP_CHUNK_END;
	while (head.chunked && *len > 0 && rc >= 0 && rc != A67_HTTP_CHUNK_END)
	{
		rc = a67_http_chunked_next(&chunked, *at, *len, &piece, &used);
		*at += used;
		*len -= used;
	}
	MUST(rc >= 0);
	if (!head.chunked)
		*len = 0;
	return rc == A67_HTTP_CHUNK_END;
}

static void
check_heard(void)
{
	const char *at = heard;
	size_t len = heard_len;

	if (world.heads_only)
		return;
	while (len > 0 && take_response(&at, &len))
		;
	/* Only the last response may be cut off. */
	MUST(len == 0 || world.truncated);
}

/* Performs the script on the client's side of the pair. */
static void
play(int fd, const uint8_t *data, size_t size)
{
	int steps = 0;

	while (size >= 2 && steps++ < STEPS)
	{
		uint8_t op = data[0] & 7;
		uint8_t arg = data[1];
		size_t n = arg < size - 2 ? arg : size - 2;

		data += 2;
		size -= 2;
		switch (op)
		{
			case 4:
				world.now += (int64_t) arg * 50;
				break;
			case 5:
				answer(arg);
				break;
			case 6:
				hear(fd);
				/* A request that is never completed may have been half answered. */
				if (arg == 255 && shutdown(fd, SHUT_WR) == 0)
					world.truncated = true;
				break;
			case 7:
				if (arg != 254)
					break;
				a67_http_server_drain(world.server, world.now + 1000);
				world.truncated = true;
				break;
			default:
				(void) !send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
				data += n;
				size -= n;
				break;
		}
		run(op == 3 ? 3 : 1);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	A67HttpConfig config;
	A67HttpStats stats;
	int64_t start;
	int pair[2];
	int i;

	if (size < 3 || size > 65536)
		return 0;
	memset(&world, 0, sizeof(world));
	heard_len = 0;
	a67_http_config_defaults(&config);
	config.callbacks = (A67HttpCallbacks){
		.on_head = on_head,
		.on_body = on_body,
		.on_request = on_request,
		.on_drain = on_drain,
		.on_close = on_close,
		.wall_seconds = wall,
	};
	config.max_clients = 2;
	config.max_body = 500;
	config.high_water = 8192;
	config.body_ms = (data[0] & 1) != 0 ? 3000 : 0;
	config.head.head_bytes = (data[0] & 2) != 0 ? 300 : 16384;
	config.head.line_bytes = (data[0] & 2) != 0 ? 100 : 8192;
	world.server = a67_http_server_new(&config);
	MUST(world.server != NULL && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	MUST(a67_http_server_adopt(world.server, pair[0], world.now) == 0);
	play(pair[1], data + 1, size - 1);
	/* Pending work is finished as long as nobody has to be waited for. */
	for (i = 0; i < 1000 && a67_http_server_next_deadline(world.server, world.now) == 0; i++)
		run(1);
	MUST(i < 1000);
	for (i = 0; i < 50; i++)
	{
		run(2);
		hear(pair[1]);
	}
	start = world.now;
	a67_http_server_stats(world.server, &stats);
	world.truncated |= stats.timeouts > 0 || stats.client_errors > 0 ||
					   a67_http_conn_find(world.server, world.pending) != NULL;
	a67_http_server_drain(world.server, world.now + 100000);
	for (i = 0; i < 400 && !a67_http_server_drained(world.server); i++)
	{
		int64_t wait = a67_http_server_next_deadline(world.server, world.now);

		MUST(wait >= 0);
		world.now += wait;
		run(2);
		hear(pair[1]);
	}
	MUST(a67_http_server_drained(world.server) && world.now <= start + 100000);
	MUST(world.closes == 1);
	hear(pair[1]);
	check_heard();
	a67_http_server_free(world.server);
	(void) close(pair[1]);
	return 0;
}
