/*
 * http_server_test.c - the connection engine over real sockets: requests, bodies and answers.
 *
 * Clients are plain sockets of this process. Half of the cases are what a client, or a handler, must
 * not be able to do. Limits and deadlines are in http_limits_test.c.
 */
#include "http_fixture.c"

#define GET(path)		  "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path, extra) "POST " path " HTTP/1.1\r\nHost: a\r\n" extra "\r\n"

static void
a_request_is_answered(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, GET("/hello"), "\r\n\r\nhello"));
	CHECK_STR(heard, "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
					 "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
	CHECK(ask(fd, GET("/nowhere"), "}"));
	CHECK(strstr(heard, "HTTP/1.1 404 Not Found\r\n") != NULL);
	CHECK(strstr(heard, "{\"code\":\"HTTP404\",\"message\":\"Not Found\",\"details\":null,"
						"\"hint\":null}") != NULL);
	close(fd);
	settle();
	CHECK_UINT(clients(), 0);
	app_stop();
}

static void
connections_are_kept_as_the_client_asks(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, GET("/hello"), "hello"));
	CHECK(ask(fd, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "hello"));
	CHECK(strstr(heard, "Connection: keep-alive\r\n") != NULL);
	CHECK(ask(fd, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", NULL));
	CHECK(strstr(heard, "Connection: close\r\n") != NULL);
	close(fd);
	fd = dial();
	CHECK(ask(fd, "GET /hello HTTP/1.0\r\n\r\n", NULL));
	CHECK(strstr(heard, "hello") != NULL);
	close(fd);
	settle();
	CHECK_UINT(clients(), 0);
	app_stop();
}

static void
heads_arrive_byte_by_byte(void)
{
	static const char text[] = POST("/echo", "Content-Length: 3\r\n") "abc";
	size_t i;
	int fd;

	REQUIRE(app_start());
	fd = dial();
	forget();
	for (i = 0; i < sizeof(text) - 1; i++)
	{
		CHECK_UINT(heard_len, 0);
		say_bytes(fd, text + i, 1);
		settle();
		(void) listen_once(fd);
	}
	CHECK(hear(fd, "\r\n\r\nabc"));
	close(fd);
	app_stop();
}

static void
pipelined_requests_are_answered_in_order(void)
{
	char text[8192] = "";
	int fd;
	int i;

	REQUIRE(app_start());
	fd = dial();
	for (i = 0; i < 100; i++)
		strncat(text, i % 2 == 0 ? GET("/hello") : POST("/echo", "Content-Length: 2\r\n") "no",
				sizeof(text) - strlen(text) - 1);
	strncat(text, GET("/nowhere"), sizeof(text) - strlen(text) - 1);
	CHECK(ask(fd, text, "HTTP404"));
	CHECK_INT(count_heard("\r\n\r\nhelloHTTP/1.1 200 OK"), 50);
	CHECK_INT(count_heard("\r\n\r\nno"), 50);
	close(fd);
	app_stop();
}

static void
malformed_requests_end_the_connection(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	/* What follows a malformed request is not a request. */
	CHECK(ask(fd,
			  POST("/echo", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") GET("/hello"),
			  NULL));
	CHECK(strstr(heard, "HTTP/1.1 400 ") != NULL);
	CHECK(strstr(heard, "{\"code\":\"HTTP400\",\"message\":\"both Content-Length and "
						"Transfer-Encoding\",\"details\":null,\"hint\":null}") != NULL);
	CHECK_INT(count_heard("HTTP/1.1"), 1);
	close(fd);
	fd = dial();
	CHECK(ask(fd,
			  POST("/echo", "Transfer-Encoding: chunked\r\n") "5\nhello\r\n0\r\n\r\n" GET("/hello"),
			  NULL));
	CHECK(strstr(heard, "HTTP/1.1 400 ") != NULL);
	CHECK_INT(count_heard("HTTP/1.1"), 1);
	close(fd);
	CHECK_INT(app.requests, 1);
	app_stop();
}

static void
chunked_requests_are_decoded(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(
		fd,
		POST("/echo", "Transfer-Encoding: chunked\r\n") "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n" GET(
			"/hello"),
		"\r\n\r\nhello"));
	CHECK(strstr(heard, "Content-Length: 5\r\n\r\nabcdeHTTP/1.1 200 OK") != NULL);
	CHECK(ask(fd, POST("/echo", "Transfer-Encoding: chunked\r\n") "0\r\n\r\n",
			  "Content-Length: 0\r\n\r\n"));
	close(fd);
	app_stop();
}

static void
continue_is_sent_only_for_bodies_that_are_wanted(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, POST("/echo", "Content-Length: 3\r\nExpect: 100-continue\r\n"),
			  "HTTP/1.1 100 Continue\r\n\r\n"));
	CHECK_UINT(heard_len, 25);
	CHECK(ask(fd, "abc", "\r\n\r\nabc"));
	/* The body is here already: no need to ask for it. */
	CHECK(ask(fd, POST("/echo", "Content-Length: 3\r\nExpect: 100-continue\r\n") "abc",
			  "\r\n\r\nabc"));
	CHECK_INT(count_heard("100 Continue"), 0);
	CHECK(ask(fd, POST("/reject", "Content-Length: 3\r\nExpect: 100-continue\r\n"), NULL));
	CHECK_INT(count_heard("100 Continue"), 0);
	CHECK(strstr(heard, "HTTP/1.1 401 Unauthorized\r\n") != NULL);
	CHECK(strstr(heard, "\"message\":\"who are \\\"you\\\"?\"") != NULL);
	close(fd);
	fd = dial();
	CHECK(ask(fd, POST("/echo", "Content-Length: 2000\r\nExpect: 100-continue\r\n"), NULL));
	CHECK_INT(count_heard("100 Continue"), 0);
	CHECK(strstr(heard, "HTTP/1.1 413 ") != NULL);
	close(fd);
	app_stop();
}

static void
answers_before_the_body_end_the_connection(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	/* Without a body there is nothing to lose: the connection stays. */
	CHECK(ask(fd, GET("/reject"), "}"));
	CHECK(ask(fd, GET("/answered"), "early"));
	CHECK(ask(fd, GET("/hello"), "hello"));
	/* An unread body must never be taken for the next request. */
	CHECK(ask(fd, POST("/answered", "Content-Length: 36\r\n") GET("/hello"), NULL));
	CHECK_INT(count_heard("HTTP/1.1"), 1);
	CHECK(strstr(heard, "Connection: close") != NULL);
	close(fd);
	fd = dial();
	CHECK(ask(fd, POST("/reject", "Content-Length: 36\r\n") GET("/hello"), NULL));
	CHECK_INT(count_heard("HTTP/1.1"), 1);
	close(fd);
	fd = dial();
	CHECK(ask(fd, POST("/refuse-body", "Content-Length: 36\r\n") GET("/hello"), NULL));
	CHECK_INT(count_heard("HTTP/1.1"), 1);
	CHECK(strstr(heard, "HTTP/1.1 500 ") != NULL);
	close(fd);
	fd = dial();
	CHECK(ask(fd, GET("/forgotten"), NULL));
	CHECK(strstr(heard, "request was not answered") != NULL);
	close(fd);
	app_stop();
}

static void
bodiless_answers_have_no_body(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	app.to_stream = 1000;
	CHECK(ask(fd, "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n" GET("/nowhere"), "HTTP404"));
	CHECK(strstr(heard, "Content-Length: 5\r\n\r\nHTTP/1.1 404") != NULL);
	CHECK(ask(fd, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n" GET("/nowhere"), "HTTP404"));
	CHECK(strstr(heard, "Transfer-Encoding: chunked\r\n\r\nHTTP/1.1 404") != NULL);
	CHECK(ask(fd, GET("/empty") GET("/nowhere"), "HTTP404"));
	CHECK(
		strstr(
			heard,
			"HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nHTTP/1.1 404") !=
		NULL);
	close(fd);
	app_stop();
}

static void
handlers_cannot_split_responses(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, GET("/split"), "\"message\":\"split\""));
	CHECK_INT(app.last_error, -EINVAL);
	CHECK(strstr(heard, "X-C") == NULL);
	close(fd);
	app_stop();
}

static void
streams_are_framed(void)
{
	int fd;

	REQUIRE(app_start());
	fd = dial();
	app.to_stream = 5;
	CHECK(ask(fd, GET("/stream"), "0\r\n\r\n"));
	CHECK(strstr(heard, "Transfer-Encoding: chunked\r\n\r\n5\r\n") != NULL);
	app.to_stream = 5;
	CHECK(ask(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", NULL));
	CHECK(strstr(heard, "chunked") == NULL && strstr(heard, "Connection: close\r\n\r\n") != NULL);
	close(fd);
	fd = dial();
	/* A declared length that is not met is a truncated answer, and the client sees that. */
	CHECK(ask(fd, GET("/short"), NULL));
	CHECK_INT(app.last_error, -EINVAL);
	close(fd);
	app_stop();
}

static void
streams_may_be_fed_from_outside(void)
{
	A67HttpConn *conn;
	char *much;
	int fd;

	REQUIRE(app_start());
	fd = dial();
	CHECK(ask(fd, GET("/feed"), "\r\n\r\n"));
	/* A stream without anything to send has no deadline. */
	pass(1000000);
	conn = a67_http_conn_find(app.server, app.asked);
	REQUIRE(conn != NULL);
	CHECK_INT(a67_http_respond_write(conn, "one", 3), 0);
	CHECK_INT(a67_http_server_next_deadline(app.server, app.now), 0);
	CHECK(hear(fd, "3\r\none\r\n"));
	CHECK_INT(a67_http_respond_begin(conn, 200, NULL, -1), -EPROTO);
	much = malloc(app.config.max_response);
	REQUIRE(much != NULL);
	memset(much, 'x', app.config.max_response);
	CHECK_INT(a67_http_respond_write(conn, much, app.config.max_response), -ENOBUFS);
	free(much);
	CHECK_INT(a67_http_respond_end(conn), 0);
	CHECK(a67_http_conn_find(app.server, app.asked) == NULL);
	CHECK_INT(a67_http_respond_write(conn, "two", 3), -EPROTO);
	CHECK(hear(fd, "3\r\none\r\n0\r\n\r\n"));
	CHECK(ask(fd, GET("/feed"), "\r\n\r\n"));
	conn = a67_http_conn_find(app.server, app.asked);
	REQUIRE(conn != NULL);
	a67_http_respond_abort(conn);
	CHECK(a67_http_conn_find(app.server, app.asked) == NULL);
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "0\r\n\r\n") == NULL);
	close(fd);
	app_stop();
}

static void
answers_may_come_later_but_only_to_their_request(void)
{
	A67HttpHandle first;
	A67HttpHandle nonsense = {77777, 1};
	A67HttpHandle none = {0, 0};
	A67HttpConn *conn;
	int fd;
	int other;

	REQUIRE(app_start());
	fd = dial();
	forget();
	say(fd, GET("/async") GET("/async"));
	first = app.asked;
	conn = a67_http_conn_find(app.server, first);
	REQUIRE(conn != NULL);
	CHECK_INT(a67_http_respond(conn, 200, NULL, "first", 5), 0);
	CHECK(a67_http_conn_find(app.server, first) == NULL);
	CHECK_INT(a67_http_respond(conn, 200, NULL, "again", 5), -EPROTO);
	CHECK(hear(fd, "first"));
	/* The second request has got its own handle; the first one does not lead to it. */
	CHECK(app.asked.generation != first.generation && app.asked.slot == first.slot);
	CHECK(a67_http_conn_find(app.server, first) == NULL);
	CHECK(a67_http_conn_find(app.server, app.asked) != NULL);
	CHECK(a67_http_conn_find(app.server, nonsense) == NULL);
	CHECK(a67_http_conn_find(app.server, none) == NULL);
	/* The client goes, another one gets its slot. */
	first = app.asked;
	{
		struct linger reset = {1, 0};

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	close(fd);
	settle();
	CHECK_INT(app.closes, 1);
	CHECK(a67_http_conn_find(app.server, first) == NULL);
	other = dial();
	say(other, GET("/async"));
	CHECK(app.asked.slot == first.slot);
	CHECK(a67_http_conn_find(app.server, first) == NULL);
	conn = a67_http_conn_find(app.server, app.asked);
	REQUIRE(conn != NULL);
	CHECK_INT(a67_http_respond(conn, 200, NULL, "late", 4), 0);
	forget();
	CHECK(hear(other, "late"));
	close(other);
	app_stop();
}

static void
a_client_gone_in_mid_answer_is_noticed(void)
{
	int fd;

	REQUIRE(app_start());
	app.to_stream = UINT64_C(1) << 30;
	fd = dial_with_buffer(4096);
	say(fd, GET("/stream"));
	settle();
	CHECK_UINT(clients(), 1);
	close(fd);
	settle();
	CHECK_UINT(clients(), 0);
	CHECK_INT(app.closes, 1);
	CHECK(app.to_stream > 0);
	app_stop();
}

static void
bodies_are_streamed_and_can_be_paused(void)
{
	const size_t total = 8 * 1024 * 1024;
	char piece[8192];
	A67HttpConn *conn;
	size_t sent;
	size_t i;
	int pauses;
	int fd;

	REQUIRE(app_start());
	fd = dial();
	forget();
	say(fd, POST("/count", "Content-Length: 8388608\r\n"));
	for (sent = 0; sent < total; sent += sizeof(piece))
	{
		for (i = 0; i < sizeof(piece); i++)
			piece[i] = pattern(sent + i);
		say_bytes(fd, piece, sizeof(piece));
	}
	CHECK(hear(fd, "\r\n\r\n8388608"));
	CHECK_INT(app.last_error, 0);
	app.body_bytes = 0;
	for (i = 0; i < 3000; i++)
		piece[i] = pattern(i);
	say(fd, POST("/pause", "Content-Length: 3000\r\n"));
	say_bytes(fd, piece, 1000);
	CHECK_UINT(app.body_bytes, 1000);
	say_bytes(fd, piece + 1000, 2000);
	CHECK_UINT(app.body_bytes, 1000);
	pass(100000);
	for (pauses = 0; pauses < 10 && app.body_bytes < 3000; pauses++)
	{
		conn = a67_http_conn_find(app.server, app.asked);
		REQUIRE(conn != NULL);
		a67_http_body_resume(conn);
		settle();
	}
	conn = a67_http_conn_find(app.server, app.asked);
	REQUIRE(conn != NULL);
	CHECK_INT(a67_http_respond(conn, 200, NULL, "resumed", 7), 0);
	CHECK(hear(fd, "resumed"));
	CHECK_INT(app.last_error, 0);
	close(fd);
	app_stop();
}

static void
files_are_sent(void)
{
	char name[] = "/tmp/a67_http_XXXXXX";
	const size_t total = 5 * 1024 * 1024;
	int file = mkstemp(name);
	size_t i;
	int fd;

	REQUIRE(file >= 0);
	for (i = 0; i < total + 10; i += 64)
		REQUIRE(write(file, "0123456789012345678901234567890123456789012345678901234567890123",
					  64) == 64);
	close(file);
	REQUIRE(app_start());
	app.file = name;
	app.to_stream = total;
	fd = dial();
	say(fd, GET("/file"));
	CHECK_UINT(take_pattern(fd, false, total), total);
	app.to_stream = 3;
	CHECK(ask(fd, GET("/file"), "Content-Length: 3\r\n\r\n012"));
	CHECK(ask(fd, "HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n" GET("/hello"), "\r\n\r\nhello"));
	CHECK(strstr(heard, "Content-Length: 3\r\n\r\nHTTP/1.1") != NULL);
	app.to_stream = 0;
	CHECK(ask(fd, GET("/file"), "Content-Length: 0\r\n\r\n"));
	/* A file shorter than promised: the connection ends, nothing is made up. */
	app.to_stream = total * 2;
	say(fd, GET("/file"));
	CHECK(take_pattern(fd, false, total * 2) < total * 2);
	CHECK(heard_end);
	close(fd);
	fd = dial();
	app.file = "/nonexistent";
	forget();
	say(fd, GET("/file"));
	CHECK_INT(app.last_error, -EINVAL);
	close(fd);
	app_stop();
	unlink(name);
}

static void
fields_given_beforehand_are_on_every_answer(void)
{
	static const char *const paths[] = {"/hello", "/nowhere", "/reject", "/stream", "/empty"};
	char text[200];
	int fd;

	REQUIRE(app_start());
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
	{
		fd = dial();
		snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: a\r\nX-Want: x\r\n\r\n", paths[i]);
		CHECK(ask(fd, text, "\r\n\r\n"));
		CHECK(strstr(heard, "X-Also: yes\r\n") != NULL);
		CHECK(strstr(heard, "X-Ok") == NULL && strstr(heard, "X-C") == NULL);
		CHECK_INT(app.last_error, 0);
		close(fd);
	}
	/* An answer of the engine's own; and not the next request's. */
	fd = dial();
	CHECK(ask(fd, POST("/echo", "X-Want: x\r\nContent-Length: 2000\r\n"), "}"));
	CHECK(strstr(heard, " 413 ") != NULL && strstr(heard, "X-Also: yes\r\n") != NULL);
	close(fd);
	fd = dial();
	CHECK(ask(fd, "GET /hello HTTP/1.1\r\nHost: a\r\nX-Want: x\r\n\r\n", "hello"));
	CHECK(ask(fd, GET("/hello"), "hello"));
	CHECK(strstr(heard, "X-Also") == NULL);
	close(fd);
	app_stop();
}

UNIT_MAIN("http_server", UNIT(a_request_is_answered), UNIT(connections_are_kept_as_the_client_asks),
		  UNIT(heads_arrive_byte_by_byte), UNIT(pipelined_requests_are_answered_in_order),
		  UNIT(malformed_requests_end_the_connection), UNIT(chunked_requests_are_decoded),
		  UNIT(continue_is_sent_only_for_bodies_that_are_wanted),
		  UNIT(answers_before_the_body_end_the_connection), UNIT(bodiless_answers_have_no_body),
		  UNIT(handlers_cannot_split_responses), UNIT(streams_are_framed),
		  UNIT(streams_may_be_fed_from_outside),
		  UNIT(answers_may_come_later_but_only_to_their_request),
		  UNIT(a_client_gone_in_mid_answer_is_noticed), UNIT(bodies_are_streamed_and_can_be_paused),
		  UNIT(files_are_sent), UNIT(fields_given_beforehand_are_on_every_answer));
