/*
 * http_admission_test.c - who gets in when a server has as many clients as it may have.
 */
#include "http_fixture.c"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static void
too_many_clients_are_turned_away(void)
{
	A67HttpStats stats;
	int fds[4];
	int i;

	app_init();
	app.config.max_clients = 3;
	REQUIRE(app_listen());
	for (i = 0; i < 4; i++)
		fds[i] = dial();
	CHECK_UINT(clients(), 3);
	forget();
	CHECK(hear(fds[3], NULL));
	CHECK(strstr(heard, "HTTP/1.1 503 Service Unavailable\r\n") == heard);
	CHECK(strstr(heard, "\"message\":\"too many clients\"") != NULL);
	CHECK(strstr(heard, "\r\n\r\n") != NULL &&
		  strlen(strstr(heard, "\r\n\r\n") + 4) ==
			  (size_t) strtol(strstr(heard, "Content-Length: ") + 16, NULL, 10));
	for (i = 0; i < 3; i++)
		CHECK(ask(fds[i], GET("/hello"), "hello"));
	close(fds[3]);
	close(fds[0]);
	settle();
	fds[0] = dial();
	CHECK(ask(fds[0], GET("/hello"), "hello"));
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.refused, 1);
	for (i = 0; i < 3; i++)
		close(fds[i]);
	app_stop();
}

/* Whether the server has closed this end without a word. */
static bool
dropped(int fd)
{
	char byte;

	settle();
	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static void
stalled_clients_make_room(void)
{
	A67HttpStats stats;
	int busy;
	int kept;
	int half;
	int mute;
	int more;

	app_init();
	app.config.max_clients = 4;
	app.config.makes_room = true;
	REQUIRE(app_listen());
	busy = dial();
	say(busy, GET("/async"));
	settle();
	app.now += 10;
	half = dial();
	say(half, "GET /hello HTTP/1.1\r\n");
	settle();
	app.now += 10;
	mute = dial();
	settle();
	app.now += 10;
	kept = dial();
	CHECK(ask(kept, GET("/hello"), "hello"));
	CHECK_UINT(clients(), 4);
	/* One at a time, longest wait first; the one whose request is under way stays. */
	more = dial();
	CHECK(dropped(half) && !dropped(mute) && !dropped(kept));
	CHECK(ask(more, GET("/hello"), "hello"));
	app.now += 10;
	CHECK(ask(kept, GET("/hello"), "hello"));
	close(half);
	half = dial();
	CHECK(dropped(mute) && !dropped(kept));
	close(mute);
	app.now += 10;
	mute = dial();
	CHECK(dropped(more) && !dropped(half) && !dropped(kept) && !dropped(busy));
	CHECK_UINT(clients(), 4);
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.refused, 3);
	close(busy);
	close(kept);
	close(half);
	close(mute);
	close(more);
	app_stop();
}

static void
nobody_makes_room_with_a_request_under_way(void)
{
	int busy;
	int late;

	app_init();
	app.config.max_clients = 1;
	app.config.makes_room = true;
	REQUIRE(app_listen());
	busy = dial();
	say(busy, GET("/async"));
	settle();
	late = dial();
	forget();
	CHECK(hear(late, NULL));
	CHECK(strstr(heard, "HTTP/1.1 503 ") == heard);
	CHECK_UINT(clients(), 1);
	close(busy);
	close(late);
	app_stop();
}

UNIT_MAIN("http_admission", UNIT(too_many_clients_are_turned_away), UNIT(stalled_clients_make_room),
		  UNIT(nobody_makes_room_with_a_request_under_way));
