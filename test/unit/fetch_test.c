/*
 * fetch_test.c - the HTTP client of the workers against a scripted peer on the loopback.
 *
 * Peer and client share one thread and one poll loop, so nothing depends on scheduling. A case ends when
 * what it waits for has come, or fails after five seconds.
 */
#include "net/fetch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#define CONNECTIONS_MAX 16
#define CASE_LIMIT_MS	5000

static A67Fetch *fetch;
static int listener = -1;
static int port;
static int connections[CONNECTIONS_MAX];
static int accepted; /* connections ever */
static int answered; /* requests ever */
static bool holding; /* leave requests unanswered */
static bool closing; /* close after each answer */
static const char *answer;
static size_t answer_len;
static char seen[70000]; /* the last request */

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
say(const char *text)
{
	answer = text;
	answer_len = strlen(text);
}

static void
begin(int concurrency)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	REQUIRE(listener >= 0);
	REQUIRE(bind(listener, (struct sockaddr *) &address, len) == 0);
	REQUIRE(listen(listener, CONNECTIONS_MAX) == 0);
	REQUIRE(getsockname(listener, (struct sockaddr *) &address, &len) == 0);
	port = ntohs(address.sin_port);
	accepted = answered = 0;
	holding = closing = false;
	seen[0] = '\0';
	say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	fetch = a67_fetch_create(concurrency, now_ms());
	REQUIRE(fetch != NULL);
}

static void
hang_up(int i)
{
	close(connections[i] - 1);
	connections[i] = 0;
}

static void
finish(void)
{
	a67_fetch_free(fetch);
	fetch = NULL;
	for (int i = 0; i < CONNECTIONS_MAX; i++)
	{
		if (connections[i] > 0)
			hang_up(i);
	}
	if (listener >= 0)
		close(listener);
	listener = -1;
}

/* Connections are stored as descriptor + 1, so that 0 is a free place. */
static void
accept_one(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	for (int i = 0; i < CONNECTIONS_MAX && fd >= 0; i++)
	{
		if (connections[i] != 0)
			continue;
		connections[i] = fd + 1;
		accepted++;
		return;
	}
	if (fd >= 0)
		close(fd);
}

static void
serve(int i)
{
	char bytes[65536];
	ssize_t count = recv(connections[i] - 1, bytes, sizeof(bytes) - 1, 0);

	if (count <= 0)
	{
		hang_up(i);
		return;
	}
	memcpy(seen, bytes, (size_t) count);
	seen[count] = '\0';
	if (holding)
		return;
	(void) !send(connections[i] - 1, answer, answer_len, MSG_NOSIGNAL);
	answered++;
	if (closing)
		hang_up(i);
}

/* One turn of the loop, at most 20 ms long. */
static void
turn(void)
{
	struct pollfd fds[CONNECTIONS_MAX + 2];
	int64_t now = now_ms();
	int64_t left = a67_fetch_deadline_ms(fetch);

	left = left == INT64_MAX ? 20 : left - now;
	fds[0] = (struct pollfd){.fd = a67_fetch_fd(fetch), .events = POLLIN};
	fds[1] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		fds[i + 2] = (struct pollfd){.fd = connections[i] - 1, .events = POLLIN};
	(void) poll(fds, CONNECTIONS_MAX + 2, left < 0 ? 0 : left > 20 ? 20 : (int) left);
	if (fds[1].revents != 0)
		accept_one();
	for (int i = 0; i < CONNECTIONS_MAX; i++)
	{
		if (fds[i + 2].revents != 0)
			serve(i);
	}
	a67_fetch_run(fetch, now_ms());
}

static A67FetchSubmit
submit(const char *key, const char *method, const char *path, int timeout_ms)
{
	char url[128];
	A67FetchRequest request = {.key = key, .method = method, .timeout_ms = timeout_ms};

	(void) snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, path);
	request.url = url;
	return a67_fetch_submit(fetch, &request, now_ms());
}

/* The next result, or NULL after the limit. */
static A67FetchResult *
await(void)
{
	int64_t limit = now_ms() + CASE_LIMIT_MS;
	A67FetchResult *result = a67_fetch_take(fetch);

	while (result == NULL && now_ms() < limit)
	{
		turn();
		result = a67_fetch_take(fetch);
	}
	return result;
}

/* Sends a GET to the peer, under this scheme and name, and checks how it ends. */
static void
expect_at(const char *origin, int status, const char *error)
{
	A67FetchRequest request = {.key = "k", .method = "GET", .timeout_ms = 2000};
	A67FetchResult *result;
	char url[64];

	(void) snprintf(url, sizeof(url), "%s:%d/", origin, port);
	request.url = url;
	REQUIRE(a67_fetch_submit(fetch, &request, now_ms()) == A67_FETCH_QUEUED);
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(result->status, status);
	CHECK_STR(result->error, error);
	if (error != NULL)
		CHECK(result->body == NULL);
	a67_fetch_release(fetch, result);
}

static void
expect(int status, const char *error)
{
	expect_at("http://127.0.0.1", status, error);
}

static void
get_sends_little_and_returns_the_body(void)
{
	A67FetchResult *result;

	begin(4);
	REQUIRE(submit("a", "GET", "/x?y=1", 2000) == A67_FETCH_QUEUED);
	result = await();
	REQUIRE(result != NULL);
	CHECK_STR(result->key, "a");
	CHECK_INT(result->status, 200);
	CHECK_STR(result->error, NULL);
	CHECK_UINT(result->body_len, 2);
	CHECK_STR(result->body, "ok");
	CHECK(strncmp(seen, "GET /x?y=1 HTTP/1.1\r\n", 21) == 0);
	CHECK(strstr(seen, "Authorization") == NULL);
	CHECK(strstr(seen, "Content-Type") == NULL);
	CHECK(strstr(seen, "Expect") == NULL);
	a67_fetch_release(fetch, result);
	finish();
}

static void
put_sends_token_and_body(void)
{
	A67FetchRequest request = {.key = "p", .method = "PUT", .token = "a.b-c_d", .timeout_ms = 2000};
	A67FetchResult *result;
	char url[64];

	begin(4);
	(void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1", port);
	request.url = url;
	request.body = "{\"generation\":3}";
	REQUIRE(a67_fetch_submit(fetch, &request, now_ms()) == A67_FETCH_QUEUED);
	memset(url, 'x', sizeof(url) - 1); /* the request was copied */
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(result->status, 200);
	CHECK(strncmp(seen, "PUT /v1 HTTP/1.1\r\n", 18) == 0);
	CHECK(strstr(seen, "\r\nAuthorization: Bearer a.b-c_d\r\n") != NULL);
	CHECK(strstr(seen, "\r\nContent-Type: application/json\r\n") != NULL);
	CHECK(strstr(seen, "\r\n\r\n{\"generation\":3}") != NULL);
	a67_fetch_release(fetch, result);
	finish();
}

/* Sends these fields and checks how it ends. */
static void
expect_fields(const char *body, const char *const *fields, int count, const char *error)
{
	A67FetchRequest request = {"f", "POST", NULL, NULL, body, 2000, fields, count, NULL};
	A67FetchResult *result;
	char url[64];

	(void) snprintf(url, sizeof(url), "http://127.0.0.1:%d/f", port);
	request.url = url;
	REQUIRE(a67_fetch_submit(fetch, &request, now_ms()) == A67_FETCH_QUEUED);
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(result->status, error ? 0 : 200);
	CHECK_STR(result->error, error);
	a67_fetch_release(fetch, result);
}

static void
fields_are_sent_as_they_are(void)
{
	static const char *const fields[] = {"X-A67-Signature: t=1,v1=ab", "content-type: text/plain",
										 "Authorization: Basic eDp5", "X-Tab:\ta b"};

	begin(1);
	expect_fields("hello", fields, 4, NULL);
	for (int i = 0; i < 4; i++)
	{
		const char *at = strstr(seen, fields[i]);

		CHECK(at != NULL && at[-1] == '\n' && at[strlen(fields[i])] == '\r');
	}
	CHECK(strstr(seen, "application/json") == NULL);
	CHECK(strstr(seen, "\r\nContent-Length: 5\r\n") != NULL);
	CHECK(strstr(seen, "\r\n\r\nhello") != NULL);
	expect_fields(NULL, fields, 1, NULL);
	CHECK(strstr(seen, "Content-Type") == NULL);
	finish();
}

static void
fields_that_frame_or_break_are_refused(void)
{
	static char long_field[A67_FETCH_FIELD_SIZE_MAX + 2] = "X: ";
	static const char *const bad[] = {"Host: elsewhere",
									  "content-length: 3",
									  "Transfer-Encoding: chunked",
									  "Connection: close",
									  "TE: trailers",
									  "X: a\r\nY: b",
									  "X: a\nb",
									  "X: a\rb",
									  "X : a",
									  " X: a",
									  ": a",
									  "X",
									  "X;",
									  "",
									  "X:",
									  "X: ",
									  "X\xc3\xa4: a",
									  "X: \xc3\xa4",
									  "X: a\x7f",
									  NULL,
									  long_field};
	static const char *many[A67_FETCH_FIELDS_MAX + 1];
	A67FetchRequest request = {"t", "GET", "http://127.0.0.1/", "token", NULL, 1000, NULL, 1, NULL};
	static const char *const authorization[] = {"authorization: Basic eDp5"};

	memset(long_field + 3, 'x', A67_FETCH_FIELD_SIZE_MAX - 2);
	begin(1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_fields("", &bad[i], 1, "invalid request");
	for (int i = 0; i <= A67_FETCH_FIELDS_MAX; i++)
		many[i] = "X: y";
	expect_fields("", many, A67_FETCH_FIELDS_MAX + 1, "invalid request");
	expect_fields("", many, A67_FETCH_FIELDS_MAX, NULL);
	request.fields = authorization;
	CHECK_INT(a67_fetch_submit(fetch, &request, now_ms()), A67_FETCH_QUEUED);
	CHECK_STR(await()->error, "invalid request");
	finish();
}

static void
guard_judges_the_address(void)
{
	static const char *const origins[] = {"http://127.0.0.1",  "http://localhost",
										  "http://[::1]",	   "http://[::ffff:127.0.0.1]",
										  "http://2130706433", "http://0x7f.1",
										  "https://0.0.0.0"};

	begin(2);
	expect(200, NULL);
	a67_fetch_set_guard(fetch, true);
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
		expect_at(origins[i], 0, "address not allowed");
	CHECK_INT(accepted, 1); /* nor was the connection of before used */
	CHECK_INT(answered, 1);
	a67_fetch_set_guard(fetch, false);
	expect(200, NULL);
	finish();
}

static void
missing_ca_file_is_tls_failed(void)
{
	begin(1);
	CHECK(a67_fetch_set_ca_file(fetch, "/nonexistent/ca.pem"));
	expect_at("https://127.0.0.1", 0, "tls failed");
	CHECK(a67_fetch_set_ca_file(fetch, ""));
	expect(200, NULL);
	finish();
}

static void
connections_are_reused(void)
{
	begin(4);
	for (int i = 0; i < 5; i++)
		expect(200, NULL);
	CHECK_INT(accepted, 1);
	CHECK_INT(answered, 5);
	finish();
}

static void
statuses_are_passed_on(void)
{
	begin(1);
	say("HTTP/1.1 204 No Content\r\n\r\n");
	expect(204, NULL);
	say("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
	expect(302, NULL);
	say("HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\nx");
	expect(503, NULL);
	CHECK_INT(answered, 3);
	finish();
}

static void
broken_answers_are_errors(void)
{
	begin(1);
	closing = true;
	say("");
	expect(0, "connection lost");
	say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
	expect(0, "connection lost");
	say("SSH-2.0-OpenSSH\r\n");
	expect(0, "malformed answer");
	say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
	expect(0, "connection lost");
	finish();
}

static void
answers_have_limits(void)
{
	static char large[A67_FETCH_BODY_MAX + 200];
	static char header[100000];
	int head = snprintf(large, sizeof(large), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
						A67_FETCH_BODY_MAX);
	size_t len;

	begin(1);
	memset(large + head, 'x', A67_FETCH_BODY_MAX);
	answer = large;
	answer_len = (size_t) head + A67_FETCH_BODY_MAX;
	expect(200, NULL);

	closing = true;
	head = snprintf(large, sizeof(large), "HTTP/1.1 200 OK\r\n\r\n");
	memset(large + head, 'x', A67_FETCH_BODY_MAX + 1);
	answer_len = (size_t) head + A67_FETCH_BODY_MAX + 1;
	expect(0, "answer too large");

	len = (size_t) snprintf(header, sizeof(header), "HTTP/1.1 200 OK\r\n");
	while (len < A67_FETCH_HEADER_MAX + 100)
		len += (size_t) snprintf(header + len, sizeof(header) - len, "X: %0200d\r\n", 1);
	say(header);
	expect(0, "answer too large");
	finish();
}

static void
silence_is_a_timeout(void)
{
	A67FetchResult *result;
	int64_t start;

	begin(2);
	holding = true;
	start = now_ms();
	REQUIRE(submit("t", "GET", "/", 60) == A67_FETCH_QUEUED);
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(result->status, 0);
	CHECK_STR(result->error, "timeout");
	CHECK(now_ms() - start >= 59);
	a67_fetch_release(fetch, result);
	CHECK_UINT(a67_fetch_open(fetch), 0);
	finish();
}

static void
closed_port_is_refused(void)
{
	begin(1);
	close(listener);
	listener = -1;
	expect(0, "connection refused");
	finish();
}

static void
proxies_are_ignored(void)
{
	REQUIRE(setenv("http_proxy", "http://127.0.0.1:1", 1) == 0);
	REQUIRE(setenv("ALL_PROXY", "http://127.0.0.1:1", 1) == 0);
	begin(1);
	expect(200, NULL);
	finish();
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
}

static void
concurrency_is_bounded(void)
{
	char key[16];
	int64_t limit;

	begin(3);
	holding = true;
	for (int i = 0; i < 10; i++)
	{
		(void) snprintf(key, sizeof(key), "%d", i);
		REQUIRE(submit(key, "GET", "/", 4000) == A67_FETCH_QUEUED);
	}
	limit = now_ms() + CASE_LIMIT_MS;
	while (accepted < 3 && now_ms() < limit)
		turn();
	for (int i = 0; i < 5; i++)
		turn();
	CHECK_INT(accepted, 3);
	CHECK_UINT(a67_fetch_open(fetch), 3);
	CHECK_UINT(a67_fetch_waiting(fetch), 7);

	/* More room takes effect at once; the end frees what is open. */
	a67_fetch_set_concurrency(fetch, 5);
	while (accepted < 5 && now_ms() < limit)
		turn();
	CHECK_INT(accepted, 5);
	CHECK_UINT(a67_fetch_waiting(fetch), 5);
	finish();
}

static void
keys_are_under_way_until_released(void)
{
	A67FetchResult *result;

	begin(1);
	REQUIRE(submit("k", "GET", "/", 2000) == A67_FETCH_QUEUED);
	CHECK_INT(submit("k", "GET", "/", 2000), A67_FETCH_DUPLICATE);
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(submit("k", "GET", "/", 2000), A67_FETCH_DUPLICATE);
	CHECK_INT(submit("other", "GET", "/", 2000), A67_FETCH_QUEUED);
	a67_fetch_release(fetch, result);
	CHECK_INT(submit("k", "GET", "/", 2000), A67_FETCH_QUEUED);
	a67_fetch_release(fetch, NULL);
	finish();
}

static void
queue_is_bounded_and_expires(void)
{
	char key[16];

	begin(1);
	for (int i = 0; i < A67_FETCH_QUEUE_MAX; i++)
	{
		(void) snprintf(key, sizeof(key), "%d", i);
		REQUIRE(submit(key, "GET", "/", 2000) == A67_FETCH_QUEUED);
	}
	CHECK_INT(submit("one more", "GET", "/", 2000), A67_FETCH_FULL);
	CHECK_UINT(a67_fetch_waiting(fetch), A67_FETCH_QUEUE_MAX);
	CHECK_UINT(a67_fetch_expire(fetch, 10000, now_ms()), 0);
	CHECK_UINT(a67_fetch_expire(fetch, 10000, now_ms() + 20000), A67_FETCH_QUEUE_MAX);
	CHECK_UINT(a67_fetch_waiting(fetch), 0);
	CHECK_INT(submit("one more", "GET", "/", 2000), A67_FETCH_QUEUED);
	finish();
}

static void
impossible_requests_are_results(void)
{
	static char long_text[A67_FETCH_TOKEN_MAX + 2];
	static const A67FetchRequest good = {
		.key = "k", .method = "GET", .url = "http://127.0.0.1/", .timeout_ms = 1000};
	A67FetchRequest bad[12];

	memset(long_text, 'x', sizeof(long_text) - 1);
	for (size_t i = 0; i < 12; i++)
		bad[i] = good;
	bad[0].url = "ftp://127.0.0.1/";
	bad[1].url = "file:///etc/passwd";
	bad[2].url = "";
	bad[3].url = NULL;
	bad[4].url = "http://127.0.0.1/\r\nX: y";
	bad[5].method = "TRACE";
	bad[6].method = "GET / HTTP/1.1\r\n";
	bad[7].method = NULL;
	bad[8].token = "a\r\nX: y";
	bad[9].token = long_text;
	bad[10].timeout_ms = 0;
	bad[11].timeout_ms = 600001;

	begin(1);
	for (size_t i = 0; i < 12; i++)
	{
		A67FetchResult *result;

		CHECK_INT(a67_fetch_submit(fetch, &bad[i], now_ms()), A67_FETCH_QUEUED);
		result = a67_fetch_take(fetch);
		REQUIRE(result != NULL);
		CHECK_STR(result->key, "k");
		CHECK_INT(result->status, 0);
		CHECK_STR(result->error, "invalid request");
		a67_fetch_release(fetch, result);
	}
	bad[0].key = NULL;
	CHECK_INT(a67_fetch_submit(fetch, &bad[0], now_ms()), A67_FETCH_INVALID);
	CHECK(a67_fetch_take(fetch) == NULL);
	finish();
}

UNIT_MAIN("fetch", UNIT(get_sends_little_and_returns_the_body), UNIT(put_sends_token_and_body),
		  UNIT(fields_are_sent_as_they_are), UNIT(fields_that_frame_or_break_are_refused),
		  UNIT(guard_judges_the_address), UNIT(missing_ca_file_is_tls_failed),
		  UNIT(connections_are_reused), UNIT(statuses_are_passed_on),
		  UNIT(broken_answers_are_errors), UNIT(answers_have_limits), UNIT(silence_is_a_timeout),
		  UNIT(closed_port_is_refused), UNIT(proxies_are_ignored), UNIT(concurrency_is_bounded),
		  UNIT(keys_are_under_way_until_released), UNIT(queue_is_bounded_and_expires),
		  UNIT(impossible_requests_are_results));
