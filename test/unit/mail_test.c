/*
 * mail_test.c - method MAIL of the workers' client against a scripted mail server on the loopback.
 *
 * Server and client share one thread and one poll loop. The server answers each command by a table that a
 * case may change; what it must not answer it leaves. STARTTLS and logins are tested end to end.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/fetch.h"
#include "unit.h"

#define CASE_LIMIT_MS 5000
#define MESSAGE		  "Subject: hi\r\n\r\n.text\r\n"

static A67Fetch *fetch;
static int listener = -1;
static int peer = -1;
static int port;
static const char *greeting;
static const char *on_ehlo;
static const char *on_rcpt;
static const char *on_text; /* NULL: never answered */
static bool close_at_data;
static bool in_text;
static char heard[8192]; /* all of it */
static char unread[8192];
static int64_t longest_turn_ms;

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
begin(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	REQUIRE(listener >= 0);
	REQUIRE(bind(listener, (struct sockaddr *) &address, len) == 0);
	REQUIRE(listen(listener, 4) == 0);
	REQUIRE(getsockname(listener, (struct sockaddr *) &address, &len) == 0);
	port = ntohs(address.sin_port);
	greeting = "220 test\r\n";
	on_ehlo = "250-test\r\n250 SIZE 1000000\r\n";
	on_rcpt = "250 ok\r\n";
	on_text = "250 queued\r\n";
	close_at_data = in_text = false;
	heard[0] = unread[0] = '\0';
	longest_turn_ms = 0;
	fetch = a67_fetch_create(4, now_ms());
	REQUIRE(fetch != NULL);
}

static void
hang_up(void)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
}

static void
finish(void)
{
	a67_fetch_free(fetch);
	hang_up();
	close(listener);
	listener = -1;
}

static void
reply(const char *text)
{
	if (text != NULL && peer >= 0)
		(void) !send(peer, text, strlen(text), MSG_NOSIGNAL);
}

static void
obey(const char *line)
{
	if (in_text)
	{
		in_text = strcmp(line, ".") != 0;
		if (!in_text)
			reply(on_text);
	}
	else if (strncmp(line, "EHLO ", 5) == 0)
		reply(on_ehlo);
	else if (strncmp(line, "RCPT ", 5) == 0)
		reply(on_rcpt);
	else if (strcmp(line, "DATA") == 0 && close_at_data)
		hang_up();
	else if (strcmp(line, "DATA") == 0)
	{
		in_text = true;
		reply("354 go on\r\n");
	}
	else if (strncmp(line, "MAIL ", 5) == 0)
		reply("250 ok\r\n");
	/* QUIT is never answered. */
}

static void
serve(void)
{
	size_t have = strlen(unread);
	ssize_t count = recv(peer, unread + have, sizeof(unread) - have - 1, 0);
	char *end;

	if (count <= 0)
	{
		hang_up();
		return;
	}
	unread[have + (size_t) count] = '\0';
	while ((end = strstr(unread, "\r\n")) != NULL)
	{
		*end = '\0';
		(void) strncat(heard, unread, sizeof(heard) - strlen(heard) - 1);
		(void) strncat(heard, "\n", sizeof(heard) - strlen(heard) - 1);
		obey(unread);
		memmove(unread, end + 2, strlen(end + 2) + 1);
	}
}

/* One turn of the loop, at most 20 ms long; notes how long the client kept it. */
static void
turn(void)
{
	struct pollfd fds[3];
	int64_t left = a67_fetch_deadline_ms(fetch) - now_ms();
	int64_t start;

	fds[0] = (struct pollfd){.fd = a67_fetch_fd(fetch), .events = POLLIN};
	fds[1] = (struct pollfd){.fd = peer < 0 ? listener : -1, .events = POLLIN};
	fds[2] = (struct pollfd){.fd = peer, .events = POLLIN};
	(void) poll(fds, 3, left < 0 ? 0 : left > 20 ? 20 : (int) left);
	if (fds[1].revents != 0)
	{
		peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		reply(greeting);
	}
	if (fds[2].revents != 0)
		serve();
	start = now_ms();
	a67_fetch_run(fetch, start);
	if (now_ms() - start > longest_turn_ms)
		longest_turn_ms = now_ms() - start;
}

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

static A67FetchSubmit
submit(int timeout_ms)
{
	static const char *const fields[] = {"From: a@x.example", "To: b@y.example", "To: c@y.example"};
	A67FetchRequest request = {"m", "MAIL", NULL, NULL, MESSAGE, 0, fields, 3, NULL};
	char url[64];

	(void) snprintf(url, sizeof(url), "smtp://127.0.0.1:%d", port);
	request.url = url;
	request.timeout_ms = timeout_ms;
	return a67_fetch_submit(fetch, &request, now_ms());
}

/* Sends the mail and checks how it ends. */
static void
expect(int timeout_ms, int status, const char *error)
{
	A67FetchResult *result;

	REQUIRE(submit(timeout_ms) == A67_FETCH_QUEUED);
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(result->status, status);
	CHECK_STR(result->error, error);
	CHECK(result->body == NULL);
	a67_fetch_release(fetch, result);
	CHECK_UINT(a67_fetch_open(fetch), 0);
	CHECK(longest_turn_ms < 200);
}

static void
mail_is_handed_over(void)
{
	begin();
	expect(2000, 250, NULL);
	CHECK(strstr(heard, "\nMAIL FROM:<a@x.example>\nRCPT TO:<b@y.example>\nRCPT TO:<c@y.example>\n"
						"DATA\nSubject: hi\n\n..text\n.\n") != NULL);
	CHECK(strstr(heard, "AUTH") == NULL);
	hang_up();
	expect(2000, 250, NULL); /* on a connection of its own */
	finish();
}

static void
refusals_are_statuses(void)
{
	begin();
	on_rcpt = "550-no\r\n550 such user\r\n";
	expect(2000, 550, NULL);
	hang_up();
	on_rcpt = "250 ok\r\n";
	on_text = "452 no room\r\n";
	expect(2000, 452, NULL);
	hang_up();
	greeting = "554 go away\r\n";
	expect(2000, 554, NULL);
	finish();
}

static void
silence_holds_up_nobody(void)
{
	begin();
	on_text = NULL;
	expect(120, 0, "timeout");
	hang_up();
	on_rcpt = NULL;
	expect(120, 0, "timeout");
	hang_up();
	on_ehlo = NULL;
	expect(120, 0, "timeout");
	hang_up();
	greeting = NULL;
	expect(120, 0, "timeout");
	finish();
}

static void
broken_servers_are_errors(void)
{
	begin();
	close_at_data = true;
	expect(2000, 0, "connection lost");
	hang_up();
	close_at_data = false;
	on_text = "yes\r\n";
	expect(2000, 0, "malformed answer");
	hang_up();
	on_rcpt = "354 what?\r\n";
	expect(2000, 0, "malformed answer");
	finish();
}

static void
open_mails_are_freed(void)
{
	begin();
	on_text = NULL;
	REQUIRE(submit(4000) == A67_FETCH_QUEUED);
	for (int64_t limit = now_ms() + CASE_LIMIT_MS; strstr(heard, "\n.\n") == NULL;)
	{
		REQUIRE(now_ms() < limit);
		turn();
	}
	CHECK_UINT(a67_fetch_open(fetch), 1);
	CHECK(a67_fetch_deadline_ms(fetch) <= now_ms() + 4000);
	finish();
}

static void
tls_is_not_given_up(void)
{
	static const char *const fields[] = {"From: a@x", "To: b@y", "TLS: required", "Username: u",
										 "Password: p"};
	A67FetchRequest request = {"m", "MAIL", NULL, NULL, MESSAGE, 2000, fields, 5, NULL};
	A67FetchResult *result;
	char url[64];

	begin();
	(void) snprintf(url, sizeof(url), "smtp://127.0.0.1:%d", port);
	request.url = url;
	REQUIRE(a67_fetch_submit(fetch, &request, now_ms()) == A67_FETCH_QUEUED);
	result = await();
	REQUIRE(result != NULL);
	CHECK_INT(result->status, 0);
	CHECK_STR(result->error, "server offers no tls");
	CHECK(strstr(heard, "AUTH") == NULL && strstr(heard, "MAIL") == NULL);
	a67_fetch_release(fetch, result);
	finish();
}

static void
guard_is_for_mail_too(void)
{
	begin();
	a67_fetch_set_guard(fetch, true);
	expect(2000, 0, "address not allowed");
	CHECK_INT(peer, -1);
	finish();
}

static void
impossible_mails_are_results(void)
{
	static const char *const ok[] = {"From: a@x", "To: b@y"};
	static const char *const twice[] = {"From: a@x", "From: c@x", "To: b@y"};
	static const char *const nobody[] = {"From: a@x"};
	static const char *const unknown[] = {"From: a@x", "To: b@y", "Bcc: c@y"};
	static const char *const open[] = {"From: a@x", "To: b@y", "Username: u", "Password: p"};
	static const char *const half[] = {"From: a@x", "To: b@y", "TLS: required", "Username: u"};
	static const char *const maybe[] = {"From: a@x", "To: b@y", "TLS: maybe"};
	static const char *const injected[] = {"From: a@x", "To: b@y>\r\nDATA"};
	static const A67FetchRequest bad[] = {
		{"m", "MAIL", "http://127.0.0.1/", NULL, MESSAGE, 1000, ok, 2, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", "token", MESSAGE, 1000, ok, 2, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, NULL, 1000, ok, 2, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, "x\n", 1000, ok, 2, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 0, ok, 2, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, NULL, 0, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, twice, 3, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, nobody, 1, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, unknown, 3, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, open, 4, NULL},
		{"m", "MAIL", "smtps://127.0.0.1", NULL, MESSAGE, 1000, half, 4, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, maybe, 3, NULL},
		{"m", "MAIL", "smtp://127.0.0.1", NULL, MESSAGE, 1000, injected, 2, NULL},
		{"m", "POST", "smtp://127.0.0.1", NULL, "{}", 1000, NULL, 0, NULL},
		{"m", "MAIL", "smtps://127.0.0.1", NULL, MESSAGE, 1000, ok, 2, "sha256//"},
	};

	begin();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		A67FetchResult *result;

		CHECK_INT(a67_fetch_submit(fetch, &bad[i], now_ms()), A67_FETCH_QUEUED);
		result = a67_fetch_take(fetch);
		REQUIRE(result != NULL);
		CHECK_STR(result->error, "invalid request");
		a67_fetch_release(fetch, result);
	}
	finish();
}

UNIT_MAIN("mail", UNIT(mail_is_handed_over), UNIT(refusals_are_statuses),
		  UNIT(silence_holds_up_nobody), UNIT(broken_servers_are_errors),
		  UNIT(open_mails_are_freed), UNIT(tls_is_not_given_up), UNIT(guard_is_for_mail_too),
		  UNIT(impossible_mails_are_results));
