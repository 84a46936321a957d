/*
 * http_fixture.c - a server of the engine with a small application, driven by a chosen clock.
 *
 * Everything runs in one thread: waiting for a client's bytes means running the server meanwhile.
 * Real time is used only as a cap, so that a hanging test fails instead of hanging. Included, as
 * source, by the tests of server and client: one program each, hence the static state.
 */
#include "unit.h"

#include "core/http/server.h"
#include "core/http/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CAP_MS 10000 /* of real time, for one wait */

typedef struct App
{
	A67HttpServer *server;
	A67HttpConfig config;
	int64_t now;
	uint16_t port;
	A67HttpHandle asked; /* of the last request to /async or /feed */
	uint64_t body_bytes; /* streamed in */
	uint64_t to_stream;	 /* still to be streamed out */
	size_t max_pending;
	int max_pieces; /* on_body calls of /pause before it pauses */
	int requests;
	int closes;
	int drains;
	int last_error;
	const char *file;
} App;

static App app;

static int64_t
real_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Byte i of every generated body. */
static inline char
pattern(uint64_t i)
{
	return (char) ('a' + i % 23);
}

static inline bool
at_path(A67HttpConn *conn, const char *path)
{
	return a67_http_str_is(a67_http_conn_request(conn)->path, path);
}

/* Fills the connection up to its high-water mark. */
static void
app_stream(A67HttpConn *conn)
{
	char piece[4096];
	size_t i;

	while (app.to_stream > 0 && a67_http_respond_pending(conn) < app.config.high_water)
	{
		size_t n = app.to_stream < sizeof(piece) ? (size_t) app.to_stream : sizeof(piece);

		for (i = 0; i < n; i++)
			piece[i] = pattern(app.to_stream - i);
		app.last_error = a67_http_respond_write(conn, piece, n);
		if (app.last_error < 0)
			return;
		app.to_stream -= n;
		if (a67_http_respond_pending(conn) > app.max_pending)
			app.max_pending = a67_http_respond_pending(conn);
	}
	if (app.to_stream == 0)
		app.last_error = a67_http_respond_end(conn);
}

static A67HttpDecision
app_head(A67HttpConn *conn, const A67HttpHead *req)
{
	A67HttpDecision decision = {.verdict = A67_HTTP_BUFFER, .max_body = 1000};

	static const A67HttpField also[] = {{"X-Also", "yes"}, {NULL, NULL}};
	static const A67HttpField split[] = {{"X-Ok", "yes"}, {"X-A", "b\r\nX-C: d"}, {NULL, NULL}};

	app.requests++;
	if (a67_http_header(req, "X-Want") != NULL)
	{
		app.last_error = a67_http_respond_also(conn, also);
		if (a67_http_respond_also(conn, split) != -EINVAL)
			app.last_error = -EILSEQ;
	}
	if (at_path(conn, "/count") || at_path(conn, "/pause") || at_path(conn, "/refuse-body"))
	{
		decision.verdict = A67_HTTP_STREAM;
		decision.max_body = UINT64_C(1) << 32;
	}
	else if (at_path(conn, "/reject"))
	{
		decision.verdict = A67_HTTP_REJECT;
		decision.status = 401;
		decision.message = "who are \"you\"?";
	}
	else if (at_path(conn, "/answered"))
	{
		decision.verdict = A67_HTTP_ANSWERED;
		(void) a67_http_respond(conn, 202, NULL, "early", 5);
	}
	else if (at_path(conn, "/forgotten"))
		decision.verdict = A67_HTTP_ANSWERED;
	return decision;
}

static int
app_body(A67HttpConn *conn, const char *data, size_t len)
{
	size_t i;

	if (at_path(conn, "/refuse-body"))
		return -1;
	for (i = 0; i < len; i++)
		if (data[i] != pattern(app.body_bytes + i))
			app.last_error = -EILSEQ;
	app.body_bytes += len;
	if (at_path(conn, "/pause"))
	{
		app.asked = a67_http_conn_handle(conn);
		a67_http_body_pause(conn);
	}
	return 0;
}

static void
app_request_file(A67HttpConn *conn)
{
	A67HttpFile file = {open(app.file, O_RDONLY | O_CLOEXEC), 10, app.to_stream};

	app.last_error = a67_http_respond_file(conn, 200, NULL, file);
}

static void
app_request(A67HttpConn *conn, const A67HttpHead *req, const char *body, size_t len)
{
	static const A67HttpField text[] = {{"Content-Type", "text/plain"}, {NULL, NULL}};
	static const A67HttpField split[] = {{"X-A", "b\r\nX-C: d"}, {NULL, NULL}};
	static const A67HttpField own[] = {{"content-length", "7"}, {NULL, NULL}};
	char number[32];

	if (at_path(conn, "/hello"))
		app.last_error = a67_http_respond(conn, 200, text, "hello", 5);
	else if (at_path(conn, "/echo"))
		app.last_error = a67_http_respond(conn, 200, text, body, len);
	else if (at_path(conn, "/count"))
	{
		snprintf(number, sizeof(number), "%llu", (unsigned long long) app.body_bytes);
		app.last_error = a67_http_respond(conn, 200, text, number, strlen(number));
	}
	else if (at_path(conn, "/async") || at_path(conn, "/pause"))
		app.asked = a67_http_conn_handle(conn);
	else if (at_path(conn, "/stream") || at_path(conn, "/sized"))
	{
		app.last_error =
			a67_http_respond_begin(conn, 200, text,
								   at_path(conn, "/sized") ? (int64_t) app.to_stream : -1);
		app_stream(conn);
	}
	else if (at_path(conn, "/feed"))
	{
		app.asked = a67_http_conn_handle(conn);
		app.last_error = a67_http_respond_begin(conn, 200, text, -1);
	}
	else if (at_path(conn, "/short"))
	{
		(void) a67_http_respond_begin(conn, 200, text, 100);
		(void) a67_http_respond_write(conn, "abc", 3);
		app.last_error = a67_http_respond_end(conn);
	}
	else if (at_path(conn, "/empty"))
		app.last_error = a67_http_respond(conn, 204, NULL, "not sent", 8);
	else if (at_path(conn, "/file"))
		app_request_file(conn);
	else if (at_path(conn, "/split"))
	{
		app.last_error = a67_http_respond(conn, 200, split, "", 0);
		if (a67_http_respond(conn, 200, own, "", 0) != -EINVAL)
			app.last_error = 0;
		(void) a67_http_respond_error(conn, 500, "67000", "split");
	}
	else
		(void) a67_http_respond_error(conn, 404, NULL, NULL);
}

static void
app_drain(A67HttpConn *conn)
{
	app.drains++;
	app_stream(conn);
}

static void
app_close(A67HttpConn *conn)
{
	app.closes++;
	/* Too late for an answer: must be refused, not crash. */
	if (a67_http_respond(conn, 200, NULL, "x", 1) != -EPIPE)
		app.last_error = -EISCONN;
}

static int64_t
app_wall(void *arg)
{
	return 784111777; /* the example of RFC 9110 */
}

/* Defaults for tests; change app.config, then call app_listen. */
static void
app_init(void)
{
	memset(&app, 0, sizeof(app));
	a67_http_config_defaults(&app.config);
	app.config.callbacks.on_head = app_head;
	app.config.callbacks.on_body = app_body;
	app.config.callbacks.on_request = app_request;
	app.config.callbacks.on_drain = app_drain;
	app.config.callbacks.on_close = app_close;
	app.config.callbacks.wall_seconds = app_wall;
	app.now = 1000000;
}

static bool
app_listen(void)
{
	app.server = a67_http_server_new(&app.config);
	return app.server != NULL &&
		   a67_http_server_listen(app.server, "127.0.0.1", 0, false, &app.port) == 0;
}

static inline bool
app_start(void)
{
	app_init();
	return app_listen();
}

/* Every accepted connection must have been closed exactly once. */
static void
app_stop(void)
{
	A67HttpStats stats;

	a67_http_server_stats(app.server, &stats);
	CHECK(app.last_error != -EISCONN);
	a67_http_server_free(app.server);
	CHECK_UINT((uint64_t) app.closes, stats.accepted);
}

/* Lets the server do all it can do now. */
static void
settle(void)
{
	int idle = 0;
	int i;

	for (i = 0; i < 100000 && idle < 3; i++)
	{
		int n = a67_http_server_run(app.server, app.now, 64);

		idle = n == 0 && a67_http_server_next_deadline(app.server, app.now) != 0 ? idle + 1 : 0;
	}
}

static inline void
pass(int64_t ms)
{
	app.now += ms;
	settle();
}

static inline uint32_t
clients(void)
{
	A67HttpStats stats;

	a67_http_server_stats(app.server, &stats);
	return stats.clients;
}

static int
dial_with_buffer(int bytes)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(app.port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* Or small pieces would wait for the acknowledgement of earlier ones. */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bytes > 0)
		(void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (connect(fd, (struct sockaddr *) &sa, sizeof(sa)) < 0)
	{
		(void) close(fd);
		return -1;
	}
	settle();
	return fd;
}

static inline int
dial(void)
{
	return dial_with_buffer(0);
}

/* Sends all of it, running the server when the socket is full. */
static void
say_bytes(int fd, const char *data, size_t len)
{
	int64_t cap = real_ms() + CAP_MS;

	while (len > 0 && real_ms() < cap)
	{
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0)
		{
			data += n;
			len -= (size_t) n;
		}
		settle();
	}
}

static inline void
say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

static char heard[1024 * 1024];
static size_t heard_len;
static bool heard_end;

/* Takes what has come; true when something has. */
static bool
listen_once(int fd)
{
	ssize_t n = recv(fd, heard + heard_len, sizeof(heard) - 1 - heard_len, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		heard_end = true;
	if (n <= 0)
		return false;
	heard_len += (size_t) n;
	heard[heard_len] = '\0';
	return true;
}

static void
forget(void)
{
	heard_len = 0;
	heard[0] = '\0';
	heard_end = false;
}

/* Runs the server until the client has got `mark` (NULL: the end of the connection). */
static bool
hear(int fd, const char *mark)
{
	int64_t cap = real_ms() + CAP_MS;

	for (;;)
	{
		struct pollfd p[2] = {{.fd = fd, .events = POLLIN},
							  {.fd = a67_http_server_fd(app.server), .events = POLLIN}};

		settle();
		while (listen_once(fd))
			;
		if (mark != NULL && strstr(heard, mark) != NULL)
			return true;
		if (heard_end || real_ms() >= cap)
			return mark == NULL && heard_end;
		(void) poll(p, 2, 10);
	}
}

/* Sends a request and waits for that mark in the answer. */
static inline bool
ask(int fd, const char *request, const char *mark)
{
	forget();
	say(fd, request);
	if (hear(fd, mark))
		return true;
	printf("# heard: %.300s\n", heard);
	return false;
}

/* How often the mark occurs in what was heard. */
static inline int
count_heard(const char *mark)
{
	const char *at = heard;
	int n = 0;

	while ((at = strstr(at, mark)) != NULL)
	{
		at += strlen(mark);
		n++;
	}
	return n;
}

/* Reads a chunked or sized answer of the pattern to its end; returns the bytes of body. */
static inline uint64_t
take_pattern(int fd, bool chunked, uint64_t total)
{
	uint64_t body = 0;
	int64_t cap = real_ms() + 60000;
	size_t head = 0;

	forget();
	while (body < total && real_ms() < cap && !heard_end)
	{
		size_t i;

		settle();
		if (!listen_once(fd))
			continue;
		if (head == 0)
		{
			if (strstr(heard, "\r\n\r\n") == NULL)
				continue;
			head = (size_t) (strstr(heard, "\r\n\r\n") - heard) + 4;
		}
		/* Chunk lines hold digits, a to f and line ends; the pattern is counted by its rarest letter. */
		for (i = head; i < heard_len; i++)
			body += chunked ? heard[i] == 'w' : 1;
		head = 0;
		forget();
		heard[0] = '\0';
		strncat(heard, "\r\n\r\n", 5);
		heard_len = 4;
		if (chunked && body * 23 + 23 > total)
			break;
	}
	return body;
}
