/*
 * http_client_test.c - the client against the engine, and against servers that err.
 */
#include "http_client_fixture.c"

static int
status(void)
{
	const A67HttpHead *head = a67_http_client_response(client);

	return head != NULL ? head->status : -1;
}

static bool
begin(void)
{
	A67HttpClientConfig config;

	a67_http_client_defaults(&config);
	config.max_body = 1000;
	memset(&url, 0, sizeof(url));
	client = a67_http_client_new(&config);
	return app_start() && client != NULL;
}

static void
requests_are_made_and_connections_reused(void)
{
	A67HttpStats stats;
	size_t len;

	REQUIRE(begin());
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 200);
	CHECK_STR(a67_http_client_body(client, &len), "hello");
	CHECK_UINT(len, 5);
	REQUIRE(a67_http_client_response(client) != NULL);
	CHECK(a67_http_header(a67_http_client_response(client), "content-type") != NULL);
	CHECK_INT(request("POST", "/echo", "some text"), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "some text");
	CHECK_INT(request("HEAD", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "");
	CHECK_INT(request("DELETE", "/nowhere", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 404);
	CHECK_INT(request("GET", "/empty", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 204);
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.accepted, 1);
	/* The server ends its side of the pause: the next request notices and connects anew. */
	pass(60000);
	CHECK_UINT(clients(), 0);
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.accepted, 2);
	CHECK_INT(a67_http_client_fd(client) >= 0, 1);
	a67_http_client_cancel(client);
	CHECK_INT(a67_http_client_fd(client), -1);
	CHECK_INT(a67_http_client_next_deadline(client, app.now), -1);
	end();
}

static void
bodies_are_streamed_or_bounded(void)
{
	static uint64_t total = 20 * 1024 * 1024;
	A67HttpClientRequest r = {.url = &url, .on_body = stream_body, .arg = &total};

	REQUIRE(begin());
	REQUIRE(aim("http", "/stream"));
	streamed = 0;
	stream_limit = UINT64_MAX;
	app.to_stream = total;
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, total);
	streamed = 0;
	app.to_stream = total;
	REQUIRE(aim("http", "/sized"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, total);
	/* An error is not a package: it is buffered, whatever was asked for. */
	streamed = 0;
	REQUIRE(aim("http", "/nowhere"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, 0);
	CHECK(strstr(a67_http_client_body(client, NULL), "HTTP404") != NULL);
	/* The callback gives up. */
	stream_limit = 100000;
	app.to_stream = total;
	REQUIRE(aim("http", "/stream"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_FAILED);
	CHECK_STR(a67_http_client_error(client), "response body was not taken");
	CHECK(streamed < total);
	app.to_stream = 1001;
	CHECK_INT(request("GET", "/stream", NULL), A67_HTTP_CLIENT_FAILED);
	CHECK_STR(a67_http_client_error(client), "response body is larger than 1000 bytes");
	app.to_stream = 1000;
	CHECK_INT(request("GET", "/stream", NULL), A67_HTTP_CLIENT_DONE);
	end();
}

static void
an_early_answer_is_read(void)
{
	size_t len = 8 * 1024 * 1024;
	char *big = malloc(len + 1);

	REQUIRE(begin() && big != NULL);
	memset(big, 'x', len);
	big[len] = '\0';
	CHECK_INT(request("POST", "/reject", big), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 401);
	CHECK_INT(a67_http_client_fd(client), -1);
	end();
	free(big);
}

static void
time_runs_out(void)
{
	A67HttpClientRequest r = {.url = &url};

	REQUIRE(begin());
	REQUIRE(aim("http", "/async"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(a67_http_client_next_deadline(client, app.now), 10000);
	while (app.asked.generation == 0)
	{
		CHECK_INT(a67_http_client_step(client, app.now), A67_HTTP_CLIENT_BUSY);
		settle();
	}
	CHECK_INT(a67_http_client_step(client, app.now + 9999), A67_HTTP_CLIENT_BUSY);
	CHECK_INT(a67_http_client_step(client, app.now + 10000), A67_HTTP_CLIENT_FAILED);
	CHECK(strstr(a67_http_client_error(client), "no progress with 127.0.0.1:") != NULL);
	/* Progress does not help against the total. */
	app.asked.generation = 0;
	REQUIRE(aim("http", "/feed"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	while (app.asked.generation == 0)
	{
		(void) a67_http_client_step(client, app.now);
		settle();
	}
	while (a67_http_client_state(client) == A67_HTTP_CLIENT_BUSY && app.now < 2000000)
	{
		A67HttpConn *conn = a67_http_conn_find(app.server, app.asked);

		REQUIRE(conn != NULL);
		CHECK_INT(a67_http_respond_write(conn, "x", 1), 0);
		pass(5000);
		(void) a67_http_client_step(client, app.now);
	}
	CHECK_INT(app.now, 1030000);
	CHECK(strstr(a67_http_client_error(client), "no complete response from") != NULL);
	end();
}

static void
malformed_requests_are_not_sent(void)
{
	static const A67HttpField split[] = {{"X-A", "b\r\nC: d"}, {NULL, NULL}};
	static const A67HttpField host[] = {{"Host", "b"}, {NULL, NULL}};
	A67HttpClientRequest r = {.url = &url, .headers = split};

	REQUIRE(begin());
	REQUIRE(aim("http", "/"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	r.headers = host;
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	r.headers = NULL;
	r.method = "GET /";
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	r.method = "GET";
	r.path.at = "/a b";
	r.path.len = 4;
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	CHECK_INT(a67_http_client_state(client), A67_HTTP_CLIENT_FAILED);
	CHECK_STR(a67_http_client_error(client), "cannot send a malformed request");
	REQUIRE(aim("https", "/"));
	r.path.at = NULL;
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	CHECK_STR(a67_http_client_error(client), "cannot use https without a TLS context");
	end();
}

static void
unreachable_servers_are_named(void)
{
	A67HttpClientRequest r = {.url = &url};
	uint16_t port;

	REQUIRE(begin());
	port = app.port;
	a67_http_server_drain(app.server, app.now);
	settle();
	REQUIRE(aim("http", "/"));
	if (a67_http_client_start(client, &r, app.now) == 0)
		(void) finish();
	CHECK_INT(a67_http_client_state(client), A67_HTTP_CLIENT_FAILED);
	CHECK(strstr(a67_http_client_error(client), "could not connect to 127.0.0.1:") != NULL);
	CHECK(strstr(a67_http_client_error(client), "Connection refused") != NULL);
	CHECK(port != 0);
	end();
}

/* Answers the next connection with this text, then ends it. */
static A67HttpClientState
against(const char *answer)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	A67HttpClientRequest r = {.url = &url};
	A67HttpClientState state;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *) &sa, sizeof(sa)) < 0 || listen(listener, 1) < 0 ||
		getsockname(listener, (struct sockaddr *) &sa, &len) < 0)
		return A67_HTTP_CLIENT_IDLE;
	app.port = ntohs(sa.sin_port);
	(void) aim("http", "/");
	(void) a67_http_client_start(client, &r, app.now);
	fd = accept(listener, NULL, NULL);
	(void) a67_http_client_step(client, app.now);
	(void) !recv(fd, heard, sizeof(heard), 0);
	(void) send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	(void) close(fd);
	(void) close(listener);
	state = finish();
	return state;
}

static void
strange_responses_are_refused(void)
{
	static const char *const refused[] = {
		"",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"HTTP/1.1 100 a\r\n\r\nHTTP/1.1 100 b\r\n\r\nHTTP/1.1 100 c\r\n\r\nHTTP/1.1 100 d\r\n\r\n"
		"HTTP/1.1 100 e\r\n\r\nHTTP/1.1 100 f\r\n\r\nHTTP/1.1 100 g\r\n\r\nHTTP/1.1 100 h\r\n\r\n"
		"HTTP/1.1 100 i\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	};
	size_t i;

	REQUIRE(begin());
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		CHECK_INT(against(refused[i]), A67_HTTP_CLIENT_FAILED);
		CHECK(a67_http_client_error(client)[0] != '\0');
		CHECK_INT(a67_http_client_fd(client), -1);
	}
	CHECK_INT(against("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end"),
			  A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "until the end");
	CHECK_INT(a67_http_client_fd(client), -1);
	/* More than was promised: the answer counts, the connection does not. */
	CHECK_INT(against("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200"),
			  A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "ok");
	CHECK_INT(a67_http_client_fd(client), -1);
	end();
}

UNIT_MAIN("http_client", UNIT(requests_are_made_and_connections_reused),
		  UNIT(bodies_are_streamed_or_bounded), UNIT(an_early_answer_is_read), UNIT(time_runs_out),
		  UNIT(malformed_requests_are_not_sent), UNIT(unreachable_servers_are_named),
		  UNIT(strange_responses_are_refused));
