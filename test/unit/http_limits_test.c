/*
 * http_limits_test.c - the limits of the connection engine: time, size, memory, number of clients.
 *
 * Real sockets and a chosen clock: each limit is met from both sides, one millisecond or one byte
 * before it and at it.
 */
#include "http_fixture.c"

#include <malloc.h>
#include <sys/resource.h>

#define GET(path)		  "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path, extra) "POST " path " HTTP/1.1\r\nHost: a\r\n" extra "\r\n"

/* AddressSanitizer brings its own allocator, and its own count. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* Bytes that malloc has handed out and not got back. */
static size_t
allocated(void)
{
	if (__sanitizer_get_current_allocated_bytes != NULL)
		return __sanitizer_get_current_allocated_bytes();
	return mallinfo2().uordblks;
}

/* While an answer is pending nothing more is read: the client's own buffers fill up. */
static void
pipelining_behind_a_pending_answer_is_held_back(void)
{
	char text[32768];
	A67HttpStats stats;
	size_t sent = 0;
	int fd;
	int i;

	REQUIRE(app_start());
	fd = dial();
	say(fd, GET("/async"));
	REQUIRE(app.asked.generation != 0);
	memset(text, 'x', sizeof(text));
	for (i = 0; i < 10000; i++)
	{
		ssize_t n = send(fd, text, sizeof(text), MSG_DONTWAIT | MSG_NOSIGNAL);

		settle();
		if (n < 0)
			break;
		sent += (size_t) n;
	}
	CHECK(i < 10000);
	a67_http_server_stats(app.server, &stats);
	CHECK(stats.bytes_in < 32768);
	CHECK(sent > stats.bytes_in);
	/* A full socket must not make the loop spin either. */
	CHECK_INT(a67_http_server_run(app.server, app.now, 64), 0);
	close(fd);
	app_stop();
}

static void
a_dripping_head_is_cut_at_its_deadline(void)
{
	int fd;
	int i;

	REQUIRE(app_start());
	fd = dial();
	forget();
	say(fd, "GET / HTTP/1.1\r\n");
	for (i = 0; i < 9; i++)
	{
		pass(1000);
		say(fd, "X: y\r\n");
		(void) listen_once(fd);
		CHECK(heard_len == 0 && !heard_end);
	}
	pass(999);
	CHECK(!heard_end && clients() == 1);
	pass(1);
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "HTTP/1.1 408 Request Timeout\r\n") != NULL);
	CHECK_UINT(clients(), 0);
	close(fd);
	fd = dial();
	forget();
	pass(10000);
	CHECK(hear(fd, NULL));
	CHECK_UINT(heard_len, 0);
	close(fd);
	app_stop();
}

static void
idle_connections_end_after_their_pause(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, GET("/hello"), "hello"));
	pass(59999);
	CHECK(ask(fd, GET("/hello"), "hello"));
	CHECK_INT(a67_http_server_next_deadline(app.server, app.now) >= 0, 1);
	CHECK(a67_http_server_next_deadline(app.server, app.now) <= 60000);
	pass(59999);
	CHECK_UINT(clients(), 1);
	pass(1);
	CHECK_UINT(clients(), 0);
	/* The next head has its own deadline, from its first byte on. */
	close(fd);
	fd = dial();
	CHECK(ask(fd, GET("/hello"), "hello"));
	pass(50000);
	say(fd, "GET");
	pass(9999);
	CHECK_UINT(clients(), 1);
	pass(1);
	CHECK_UINT(clients(), 0);
	CHECK_INT(a67_http_server_next_deadline(app.server, app.now), -1);
	close(fd);
	app_stop();
}

static void
slow_bodies_are_cut_and_steady_ones_are_not(void)
{
	char kilo[2000];
	int fd;
	int i;

	REQUIRE(app_start());
	memset(kilo, 'x', sizeof(kilo));
	fd = dial();
	forget();
	say(fd, POST("/count", "Content-Length: 100000\r\n"));
	/* 1024 bytes/s in windows of 5 s: 5120 bytes are due per window. */
	for (i = 0; i < 20; i++)
	{
		say_bytes(fd, kilo, sizeof(kilo));
		pass(1000);
	}
	CHECK_UINT(clients(), 1);
	for (i = 0; i < 6; i++)
	{
		say(fd, "x");
		pass(1000);
	}
	pass(4000);
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "408 Request Timeout") != NULL);
	close(fd);
	app_stop();

	app_init();
	app.config.body_ms = 3000;
	REQUIRE(app_listen());
	fd = dial();
	forget();
	say(fd, POST("/count", "Content-Length: 100000\r\n"));
	for (i = 0; i < 3; i++)
	{
		say_bytes(fd, kilo, sizeof(kilo));
		pass(1000);
	}
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "request body did not arrive in time") != NULL);
	close(fd);
	app_stop();
}

static void
oversize_is_refused(void)
{
	static const char rest[] = "5\r\n01234\r\n";
	char head[20000];
	int fd;
	int i;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, POST("/echo", "Content-Length: 1001\r\n"), NULL));
	CHECK(strstr(heard, "HTTP/1.1 413 ") != NULL && strstr(heard, "Connection: close") != NULL);
	close(fd);
	fd = dial();
	forget();
	say(fd, POST("/echo", "Transfer-Encoding: chunked\r\n"));
	for (i = 0; i < 201; i++)
		say(fd, rest);
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "HTTP/1.1 413 ") != NULL);
	close(fd);
	memset(head, 'x', sizeof(head));
	head[sizeof(head) - 1] = '\0';
	memcpy(head, "GET /", 5);
	fd = dial();
	CHECK(ask(fd, head, NULL));
	CHECK(strstr(heard, "HTTP/1.1 414 ") != NULL);
	close(fd);
	memcpy(head, "GET / HTTP/1.1\r\nA: ", 19);
	fd = dial();
	CHECK(ask(fd, head, NULL));
	CHECK(strstr(heard, "HTTP/1.1 431 ") != NULL);
	close(fd);
	pass(5000);
	CHECK_UINT(clients(), 0);
	CHECK_INT(app.requests, 2);
	app_stop();
}

static void
big_streams_are_bounded_in_memory(void)
{
	const uint64_t total = UINT64_C(64) * 1024 * 1024;
	size_t before;
	size_t after;
	size_t stalled;
	int fd;

	app_init();
	REQUIRE(app_listen());
	app.to_stream = total;
	fd = dial_with_buffer(65536);
	before = allocated();
	say(fd, GET("/sized"));
	settle();
	/* The client does not read: the handler must have stopped at the high-water mark. */
	stalled = app.max_pending;
	CHECK(stalled >= app.config.high_water && stalled < app.config.high_water + 4096);
	CHECK(app.to_stream > total / 2);
	after = allocated();
	CHECK(after < before + 512 * 1024);
	CHECK_UINT(take_pattern(fd, false, total), total);
	CHECK_UINT(app.to_stream, 0);
	CHECK(app.drains > 100);
	CHECK(app.max_pending < app.config.high_water + 4096);
	app.to_stream = 1000 * 23;
	say(fd, GET("/stream"));
	CHECK_UINT(take_pattern(fd, true, 1000 * 23), 1000);
	close(fd);
	app_stop();
}

static void
a_missing_answer_becomes_504(void)
{
	A67HttpHandle asked;
	int fd;

	REQUIRE(app_start());
	fd = dial();
	forget();
	say(fd, GET("/async"));
	asked = app.asked;
	pass(59999);
	CHECK(a67_http_conn_find(app.server, asked) != NULL);
	pass(1);
	CHECK(a67_http_conn_find(app.server, asked) == NULL);
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "HTTP/1.1 504 ") != NULL);
	close(fd);
	app_stop();
}

static void
a_client_that_does_not_read_is_cut(void)
{
	int fd;

	REQUIRE(app_start());
	app.to_stream = UINT64_C(1) << 30;
	fd = dial_with_buffer(4096);
	say(fd, GET("/stream"));
	settle();
	/* The first window has seen bytes move into the socket's buffers, the next one sees none. */
	pass(5000);
	pass(4999);
	CHECK_UINT(clients(), 1);
	pass(1);
	CHECK_UINT(clients(), 0);
	close(fd);
	app_stop();
}

static const A67HttpField *
stamp(void *arg)
{
	static const A67HttpField field = {"X-Stamp", "1"};

	return arg == &app ? &field : NULL;
}

static const A67HttpField *
bad_stamp(void *arg)
{
	static const A67HttpField field = {"X-Stamp", "1\r\nX-Evil: 1"};

	return &field;
}

#define STAMPED "\r\nX-Stamp: 1\r\n"

static void
unseen_requests_are_stamped(void)
{
	int fds[4];

	app_init();
	app.config.max_clients = 3;
	app.config.callbacks.stamp = stamp;
	app.config.arg = &app;
	REQUIRE(app_listen());
	for (int i = 0; i < 4; i++)
		fds[i] = dial();
	forget();
	CHECK(hear(fds[3], NULL));
	CHECK(strstr(heard, "HTTP/1.1 503 ") == heard);
	CHECK_INT(count_heard(STAMPED), 1);
	CHECK(ask(fds[0], "nonsense\r\n\r\n", "\"hint\":null}"));
	CHECK_INT(count_heard(STAMPED), 1);
	/* The handler has seen this one: what it carries is the handler's business. */
	CHECK(ask(fds[1], GET("/hello"), "hello"));
	CHECK_INT(count_heard(STAMPED), 0);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	app_stop();
}

static void
malformed_stamps_are_left_out(void)
{
	int fd;

	app_init();
	app.config.callbacks.stamp = bad_stamp;
	REQUIRE(app_listen());
	fd = dial();
	CHECK(ask(fd, "nonsense\r\n\r\n", "\"hint\":null}"));
	CHECK(strstr(heard, "X-Evil") == NULL);
	close(fd);
	app_stop();
}

static void
a_drained_server_ends_in_order(void)
{
	int idle;
	int busy;
	int half;
	int stuck;

	REQUIRE(app_start());
	idle = dial();
	half = dial();
	busy = dial();
	stuck = dial();
	CHECK(ask(idle, GET("/hello"), "hello"));
	say(half, "GET /hello HTTP/1.1\r\n");
	say(stuck, GET("/async"));
	say(busy, GET("/async"));
	CHECK(!a67_http_server_drained(app.server));
	a67_http_server_drain(app.server, app.now + 5000);
	settle();
	CHECK_UINT(clients(), 3);
	CHECK_INT(dial(), -1);
	forget();
	CHECK(hear(idle, NULL));
	forget();
	say(half, "Host: a\r\n\r\n");
	CHECK(hear(half, NULL));
	CHECK(strstr(heard, "Connection: close") != NULL && strstr(heard, "hello") != NULL);
	CHECK_INT(a67_http_respond(a67_http_conn_find(app.server, app.asked), 200, NULL, "bye", 3), 0);
	forget();
	CHECK(hear(busy, NULL));
	CHECK(strstr(heard, "bye") != NULL);
	close(idle);
	close(half);
	close(busy);
	pass(4999);
	CHECK_UINT(clients(), 1);
	CHECK_INT(a67_http_server_next_deadline(app.server, app.now), 1);
	pass(1);
	CHECK(a67_http_server_drained(app.server));
	close(stuck);
	app_stop();
}

static void
idle_connections_are_cheap(void)
{
	size_t before;
	size_t after;
	int fds[100];
	int i;

	REQUIRE(app_start());
	before = allocated();
	for (i = 0; i < 100; i++)
	{
		fds[i] = dial();
		CHECK(ask(fds[i], GET("/hello"), "hello"));
	}
	after = allocated();
	CHECK(after <= before + 100 * 1024);
	for (i = 0; i < 100; i++)
		close(fds[i]);
	app_stop();
}

static void
wrong_use_is_refused(void)
{
	A67HttpServer *other;
	uint16_t port;

	app_init();
	app.config.max_clients = 0;
	CHECK(a67_http_server_new(&app.config) == NULL && errno == EINVAL);
	app.config.max_clients = 1;
	app.config.head.headers = A67_HTTP_MAX_HEADERS + 1;
	CHECK(a67_http_server_new(&app.config) == NULL && errno == EINVAL);
	REQUIRE(app_start());
	CHECK_INT(a67_http_server_listen(app.server, "localhost", 0, false, &port), -EINVAL);
	CHECK_INT(a67_http_server_listen(app.server, "127.0.0.1", app.port, false, &port), -EADDRINUSE);
	CHECK_INT(a67_http_server_adopt(app.server, -1, app.now), -EBADF);
	other = a67_http_server_new(&app.config);
	REQUIRE(other != NULL);
	CHECK_INT(a67_http_server_listen(other, "127.0.0.1", 0, true, &port), 0);
	CHECK_INT(a67_http_server_listen(app.server, "127.0.0.1", port, true, NULL), 0);
	a67_http_server_free(other);
	a67_http_server_free(NULL);
	app_stop();
}

static void
limits_can_be_changed_while_serving(void)
{
	A67HttpConfig next;
	int fds[3];
	int i;

	app_init();
	app.config.max_clients = 1;
	REQUIRE(app_listen());
	next = app.config;
	memset(&next.callbacks, 0, sizeof(next.callbacks));
	next.max_clients = 3;
	next.idle_ms = 1000;
	fds[0] = dial();
	say(fds[0], "GET /hello HTTP/1.1\r\n");
	CHECK_INT(a67_http_server_reconfigure(app.server, &next), 0);
	for (i = 1; i < 3; i++)
	{
		fds[i] = dial();
		CHECK(ask(fds[i], GET("/hello"), "hello"));
	}
	CHECK(ask(fds[0], "Host: a\r\n\r\n", "hello"));
	CHECK_UINT(clients(), 3);
	next.head.line_bytes = next.head.head_bytes + 1;
	CHECK_INT(a67_http_server_reconfigure(app.server, &next), -EINVAL);
	/* Clients beyond a lower limit stay until they leave. */
	next.head.line_bytes = 1024;
	next.max_clients = 1;
	CHECK_INT(a67_http_server_reconfigure(app.server, &next), 0);
	CHECK_UINT(clients(), 3);
	close(fds[2]);
	settle();
	fds[2] = dial();
	forget();
	CHECK(hear(fds[2], NULL));
	CHECK(strstr(heard, "HTTP/1.1 503 ") == heard);
	pass(1000);
	CHECK_UINT(clients(), 0);
	for (i = 0; i < 3; i++)
		close(fds[i]);
	app_stop();
}

/* Without descriptors the server pauses accepting, instead of spinning on a socket it cannot serve. */
static void
running_out_of_descriptors_is_survived(void)
{
	struct rlimit before;
	struct rlimit tight;
	int fd;
	int next;

	REQUIRE(app_start());
	fd = dial();
	next = dup(fd);
	REQUIRE(next >= 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
	close(next);
	/* Room for the client's end only. */
	tight = before;
	tight.rlim_cur = (rlim_t) next + 1;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
	next = dial();
	CHECK(next >= 0);
	CHECK_UINT(clients(), 1);
	CHECK_INT(a67_http_server_run(app.server, app.now, 64), 0);
	CHECK_INT(a67_http_server_next_deadline(app.server, app.now), 100);
	CHECK(ask(fd, GET("/hello"), "hello"));
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	pass(99);
	CHECK_UINT(clients(), 1);
	pass(1);
	settle();
	CHECK_UINT(clients(), 2);
	CHECK(ask(next, GET("/hello"), "hello"));
	close(fd);
	close(next);
	app_stop();
}

UNIT_MAIN("http_limits", UNIT(pipelining_behind_a_pending_answer_is_held_back),
		  UNIT(a_dripping_head_is_cut_at_its_deadline),
		  UNIT(idle_connections_end_after_their_pause),
		  UNIT(slow_bodies_are_cut_and_steady_ones_are_not), UNIT(oversize_is_refused),
		  UNIT(big_streams_are_bounded_in_memory), UNIT(a_missing_answer_becomes_504),
		  UNIT(a_client_that_does_not_read_is_cut), UNIT(unseen_requests_are_stamped),
		  UNIT(malformed_stamps_are_left_out), UNIT(a_drained_server_ends_in_order),
		  UNIT(idle_connections_are_cheap), UNIT(wrong_use_is_refused),
		  UNIT(limits_can_be_changed_while_serving), UNIT(running_out_of_descriptors_is_survived));
