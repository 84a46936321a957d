/*
 * http_ws_test.c - WebSocket: handshakes good and bad, frames however they are cut, and broken ones.
 */
#include "http_ws_fixture.c"

#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* of KEY, from RFC 6455 */

/* ---- handshake --------------------------------------------------------------------------------- */

static void
handshake_of_the_rfc(void)
{
	int fd;

	REQUIRE(ws_start());
	fd = dial();
	CHECK(ask(fd, SHAKE, "\r\n\r\n"));
	CHECK(strstr(heard, "\r\nSec-WebSocket-Accept: " ACCEPT "\r\n") != NULL);
	CHECK(strstr(heard, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n") != NULL);
	CHECK(strstr(heard, "\r\nX-A: b\r\n") != NULL);
	CHECK(strstr(heard, "Sec-WebSocket-Protocol") == NULL);
	CHECK(strstr(heard, "Content-Length") == NULL);
	forget();
	tell_text(fd, "hello");
	CHECK(hear_text(fd, "hello"));
	CHECK_INT(ws.sent, 1);
	(void) close(fd);
	settle();
	CHECK_INT(ws.code, A67_WS_ABNORMAL);
	ws_stop();
}

static void
handshake_names_the_protocol(void)
{
	static const char *const offers[] = {
		"Sec-WebSocket-Protocol: a, bearer.x ,c\r\n",
		"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol:bearer.x\r\n",
		"Sec-WebSocket-Protocol: ,, bearer.x\r\n",
	};
	char request[1000];
	size_t i;

	REQUIRE(ws_start());
	ws.protocol = "bearer.x";
	for (i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
	{
		int fd = dial();

		snprintf(request, sizeof(request), SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "%s"),
				 offers[i]);
		CHECK(ask(fd, request, "\r\n\r\n"));
		CHECK(strstr(heard, "\r\nSec-WebSocket-Protocol: bearer.x\r\n") != NULL);
		(void) close(fd);
		settle();
	}
	ws_stop();
}

static void
handshakes_that_are_refused(void)
{
#define WITHOUT_KEY                                                                \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
	"Sec-WebSocket-Version: 13\r\n"
	static const struct
	{
		const char *request;
		const char *status;
	} cases[] = {
		{SHAKE_TO("Sec-WebSocket-Version: 8\r\n", ""), "HTTP/1.1 426 "},
		{SHAKE_TO("", ""), "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		 "Sec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 426 "},
		{"GET /ws HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 426 "},
		{"POST /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n",
		 "HTTP/1.1 405 "},
		{WITHOUT_KEY "\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: short\r\n\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n\r\n", "HTTP/1.1 400 "},
		{WITHOUT_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi\r\n\r\n", "HTTP/1.1 400 "},
		{SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: " KEY "\r\n"),
		 "HTTP/1.1 400 "},
		{SHAKE_TO("Sec-WebSocket-Version: 13\r\n", "Content-Length: 2\r\n") "ab", "HTTP/1.1 400 "},
	};
	size_t i;

	REQUIRE(ws_start());
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int fd = dial();

		CHECK(ask(fd, cases[i].request, "\r\n\r\n"));
		if (strstr(heard, cases[i].status) != heard)
			printf("# case %zu: %.60s\n", i, heard);
		CHECK(strstr(heard, cases[i].status) == heard);
		(void) close(fd);
		settle();
	}
	CHECK_INT(ws.opened, 0);
	ws_stop();
}

static void
first_frame_may_come_with_the_request(void)
{
	char both[1000];
	size_t len = strlen(SHAKE);
	int fd;

	REQUIRE(ws_start());
	fd = dial();
	memcpy(both, SHAKE, len);
	len += frame(both + len, 0x81, "early", 5);
	len += frame(both + len, 0x81, "bird", 4);
	say_bytes(fd, both, len);
	CHECK(hear(fd, "bird"));
	CHECK_INT(ws.count, 2);
	CHECK_STR(ws.texts[0], "early");
	(void) close(fd);
	ws_stop();
}

/* ---- frames ------------------------------------------------------------------------------------ */

static void
frames_cut_at_every_byte(void)
{
	char script[2000];
	char text[300];
	size_t len = 0;
	size_t cut;
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	memset(text, 't', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	len += frame(script + len, 0x01, "quie", 4);
	len += frame(script + len, 0x89, "ping", 4);
	len += frame(script + len, 0x00, "", 0);
	len += frame(script + len, 0x8a, "", 0);
	len += frame(script + len, 0x80, "t", 1);
	len += frame(script + len, 0x81, text, sizeof(text) - 1);
	len += frame(script + len, 0x81, "", 0);
	for (cut = 0; cut <= len; cut++)
	{
		forget();
		ws.count = 0;
		say_bytes(fd, script, cut);
		settle();
		say_bytes(fd, script + cut, len - cut);
		/* The pong, the echo, the empty echo. */
		REQUIRE(hear_bytes(fd, 6 + 4 + 299 + 2));
		CHECK_INT(ws.count, 3);
		CHECK_STR(ws.texts[0], "quiet");
		CHECK_STR(ws.texts[1], text);
		CHECK_STR(ws.texts[2], "");
		CHECK_MEM(heard, "\x8a\x04ping", 6);
		CHECK_INT((int64_t) heard_len, 6 + 4 + 299 + 2);
	}
	(void) close(fd);
	ws_stop();
}

static void
one_byte_at_a_time(void)
{
	char script[500];
	size_t len = frame(script, 0x81, "slowly", 6);
	size_t i;
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	len += frame(script + len, 0x81, "but surely", 10);
	for (i = 0; i < len; i++)
		say_bytes(fd, script + i, 1);
	CHECK(hear_text(fd, "slowly"));
	CHECK(hear_text(fd, "but surely"));
	(void) close(fd);
	ws_stop();
}

static void
largest_message_passes_and_one_byte_more_does_not(void)
{
	static char big[A67_WS_MESSAGE_BYTES + 2];
	int fd;

	REQUIRE(ws_start());
	memset(big, 'b', sizeof(big));
	fd = ws_dial();
	tell(fd, 0x81, big, A67_WS_MESSAGE_BYTES);
	CHECK(hear_bytes(fd, 4 + A67_WS_MESSAGE_BYTES));
	CHECK_MEM(heard, "\x81\x7e\x40\x00", 4);
	CHECK_INT((int64_t) ws.lens[0], A67_WS_MESSAGE_BYTES);
	forget();
	tell(fd, 0x81, big, A67_WS_MESSAGE_BYTES + 1);
	CHECK_INT(hear_close(fd), A67_WS_TOO_BIG);
	CHECK(ends(fd));
	(void) close(fd);

	/* In fragments, and by its announced length alone. */
	fd = ws_dial();
	tell(fd, 0x01, big, A67_WS_MESSAGE_BYTES);
	tell(fd, 0x80, big, 1);
	CHECK_INT(hear_close(fd), A67_WS_TOO_BIG);
	(void) close(fd);
	fd = ws_dial();
	say_bytes(fd, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0x", 15);
	CHECK_INT(hear_close(fd), A67_WS_TOO_BIG);
	(void) close(fd);
	settle();
	CHECK_INT(ws.code, A67_WS_TOO_BIG);
	CHECK_INT(ws.count, 1);
	ws_stop();
}

/* Raw bytes and the code that the server must close with. */
static const struct Wrong
{
	const char *what;
	const char *bytes;
	size_t len;
	int code;
} wrongs[] = {
#define RAW(text) text, sizeof(text) - 1
	{"not masked", RAW("\x81\x01x"), 1002},
	{"reserved bit 1", RAW("\xc1\x81\0\0\0\0x"), 1002},
	{"reserved bit 2", RAW("\xa1\x81\0\0\0\0x"), 1002},
	{"reserved bit 3", RAW("\x91\x81\0\0\0\0x"), 1002},
	{"opcode 3", RAW("\x83\x81\0\0\0\0x"), 1002},
	{"opcode 11", RAW("\x8b\x81\0\0\0\0x"), 1002},
	{"binary", RAW("\x82\x81\0\0\0\0x"), 1003},
	{"continuation of nothing", RAW("\x80\x81\0\0\0\0x"), 1002},
	{"text inside a message", RAW("\x01\x81\0\0\0\0x\x81\x81\0\0\0\0x"), 1002},
	{"fragmented ping", RAW("\x09\x80\0\0\0\0"), 1002},
	{"long ping", RAW("\x89\xfe\0\x7e\0\0\0\0"), 1002},
	{"longer length than needed", RAW("\x81\xfe\0\x01\0\0\0\0x"), 1002},
	{"far longer length than needed", RAW("\x81\xff\0\0\0\0\0\0\0\x01\0\0\0\0x"), 1002},
	{"negative length", RAW("\x81\xff\xff\0\0\0\0\0\0\0\0\0\0\0x"), 1002},
	{"bad UTF-8", RAW("\x81\x82\0\0\0\0\xc0\x80"), 1007},
	{"half a character", RAW("\x81\x82\0\0\0\0\xe2\x82"), 1007},
	{"surrogate", RAW("\x81\x83\0\0\0\0\xed\xa0\x80"), 1007},
	{"above U+10FFFF", RAW("\x81\x84\0\0\0\0\xf4\x90\x80\x80"), 1007},
	{"close of one byte", RAW("\x88\x81\0\0\0\0\x03"), 1002},
	{"close 0", RAW("\x88\x82\0\0\0\0\0\0"), 1002},
	{"close 999", RAW("\x88\x82\0\0\0\0\x03\xe7"), 1002},
	{"close 1004", RAW("\x88\x82\0\0\0\0\x03\xec"), 1002},
	{"close 1005", RAW("\x88\x82\0\0\0\0\x03\xed"), 1002},
	{"close 1006", RAW("\x88\x82\0\0\0\0\x03\xee"), 1002},
	{"close 1015", RAW("\x88\x82\0\0\0\0\x03\xf7"), 1002},
	{"close 2999", RAW("\x88\x82\0\0\0\0\x0b\xb7"), 1002},
	{"close 5000", RAW("\x88\x82\0\0\0\0\x13\x88"), 1002},
	{"close with a bad reason", RAW("\x88\x83\0\0\0\0\x03\xe8\xff"), 1007},
};

static void
broken_frames_close_with_their_code(void)
{
	size_t i;

	REQUIRE(ws_start());
	for (i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
	{
		int fd = ws_dial();
		int code;

		say_bytes(fd, wrongs[i].bytes, wrongs[i].len);
		/* What follows is not looked at. */
		tell_text(fd, "later");
		code = hear_close(fd);
		if (code != wrongs[i].code)
			printf("# %s: %d\n", wrongs[i].what, code);
		CHECK_INT(code, wrongs[i].code);
		CHECK(ends(fd));
		(void) close(fd);
		settle();
		CHECK_INT(ws.code, wrongs[i].code);
	}
	CHECK_INT(ws.count, 0);
	ws_stop();
}

static void
characters_may_be_cut_by_fragments(void)
{
	int fd;

	REQUIRE(ws_start());
	fd = ws_dial();
	tell(fd, 0x01, "\xe2", 1);
	tell(fd, 0x00, "\x82", 1);
	tell(fd, 0x80, "\xac", 1);
	CHECK(hear_text(fd, "\xe2\x82\xac"));
	tell(fd, 0x01, "\xe2", 1);
	tell(fd, 0x80, "\x82", 1);
	CHECK_INT(hear_close(fd), A67_WS_BAD_DATA);
	(void) close(fd);
	ws_stop();
}

UNIT_MAIN("http_ws", UNIT(handshake_of_the_rfc), UNIT(handshake_names_the_protocol),
		  UNIT(handshakes_that_are_refused), UNIT(first_frame_may_come_with_the_request),
		  UNIT(frames_cut_at_every_byte), UNIT(one_byte_at_a_time),
		  UNIT(largest_message_passes_and_one_byte_more_does_not),
		  UNIT(broken_frames_close_with_their_code), UNIT(characters_may_be_cut_by_fragments));
