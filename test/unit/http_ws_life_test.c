/*
 * http_ws_life_test.c - WebSocket: every way to close, clients that say nothing, that do not read, and
 * many of them.
 */
#include "http_ws_fixture.c"

#include <sys/resource.h>

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

UNIT_MAIN("http_ws_life", UNIT(closes_of_the_client_are_answered),
		  UNIT(closes_of_the_handler_wait_for_the_client), UNIT(stopping_server_says_so),
		  UNIT(handle_names_the_socket_until_its_end),
		  UNIT(silent_client_is_pinged_and_then_dropped),
		  UNIT(client_that_does_not_read_is_given_up),
		  UNIT(message_larger_than_the_queue_is_not_sent),
		  UNIT(pings_without_reading_the_pongs_end), UNIT(two_thousand_sit_idle));
