/*
 * agent_chunk_range_test.c - conditional and range requests for a chunk.
 */
#include "chunk_range.h"

#include "unit.h"

#define TAG "\"ab12\""

/* What a request with these header lines gets of 100 bytes (or as many as size says). */
static A67ChunkSpan
ask_of(const char *method, const char *lines, uint64_t size)
{
	char text[512];
	A67HttpHead head;
	int len = snprintf(text, sizeof(text), "%s /x HTTP/1.1\r\nHost: a\r\n%s\r\n", method, lines);

	if (len < 0 || a67_http_parse_request(text, (size_t) len, 0, NULL, &head) != len)
		return (A67ChunkSpan){0};
	return a67_chunk_span(&head, TAG, size);
}

static A67ChunkSpan
ask(const char *lines)
{
	return ask_of("GET", lines, 100);
}

static void
check(const char *lines, int status, uint64_t offset, uint64_t length)
{
	A67ChunkSpan span = ask(lines);

	CHECK_INT(span.status, status);
	if (status == 200 || status == 206)
	{
		CHECK_UINT(span.offset, offset);
		CHECK_UINT(span.length, length);
	}
}

static void
without_conditions_it_is_the_whole(void)
{
	check("", 200, 0, 100);
	check("If-None-Match: \"ab13\"\r\n", 200, 0, 100);
	check("If-None-Match: ab12\r\n", 200, 0, 100);
	check("If-None-Match: \"ab12\r\n", 200, 0, 100);
	check("If-None-Match: \"ab12\"x\r\n", 200, 0, 100);
	check("If-None-Match: ,,\r\n", 200, 0, 100);
}

static void
what_is_known_is_not_sent(void)
{
	check("If-None-Match: " TAG "\r\n", 304, 0, 0);
	check("If-None-Match: *\r\n", 304, 0, 0);
	check("If-None-Match: W/" TAG "\r\n", 304, 0, 0);
	check("If-None-Match: \"x\", " TAG " , \"y\"\r\n", 304, 0, 0);
	check("If-None-Match: \"x\"," TAG "\r\n", 304, 0, 0);
	check("If-None-Match: " TAG "\r\nRange: bytes=0-0\r\n", 304, 0, 0);
	CHECK_INT(ask_of("HEAD", "If-None-Match: *\r\n", 5).status, 304);
}

static void
a_range_is_a_part(void)
{
	check("Range: bytes=0-0\r\n", 206, 0, 1);
	check("Range: bytes=10-19\r\n", 206, 10, 10);
	check("Range: bytes=90-\r\n", 206, 90, 10);
	check("Range: bytes=-10\r\n", 206, 90, 10);
	check("Range: bytes=-1000\r\n", 206, 0, 100);
	check("Range: bytes=0-1000\r\n", 206, 0, 100);
	check("Range: BYTES=99-99\r\n", 206, 99, 1);
	check("Range: bytes=5-18446744073709551615\r\n", 206, 5, 95);
	check("Range: bytes=5-99999999999999999999999\r\n", 206, 5, 95);
	check("Range: bytes=-99999999999999999999999\r\n", 206, 0, 100);
}

static void
a_range_behind_the_end_is_refused(void)
{
	check("Range: bytes=100-\r\n", 416, 0, 0);
	check("Range: bytes=100-200\r\n", 416, 0, 0);
	check("Range: bytes=-0\r\n", 416, 0, 0);
	check("Range: bytes=18446744073709551615-\r\n", 416, 0, 0);
	check("Range: bytes=99999999999999999999999-\r\n", 416, 0, 0);
	CHECK_INT(ask_of("GET", "Range: bytes=0-\r\n", 0).status, 416);
	CHECK_INT(ask_of("GET", "Range: bytes=-1\r\n", 0).status, 416);
}

static void
other_ranges_are_ignored(void)
{
	static const char *const texts[] = {
		"bytes=",
		"bytes=-",
		"bytes=1",
		"bytes=a-b",
		"bytes=1-2,4-5",
		"bytes=5-4",
		"bytes=1-2 ,",
		"bytes= 1-2",
		"chunks=0-1",
		"bytes",
		"bytes=1--2",
		"bytes=+1-2",
		"bytes=0x1-2",
		"0-1",
		"bytes=1-2-3",
		"bytes=-1-1",
		"",
		"bytes=1- 2",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		char line[64];

		(void) snprintf(line, sizeof(line), "Range: %s\r\n", texts[i]);
		check(line, 200, 0, 100);
	}
	CHECK_INT(ask_of("HEAD", "Range: bytes=0-1\r\n", 100).status, 200);
}

static void
a_range_of_another_entity_is_the_whole(void)
{
	check("Range: bytes=1-2\r\nIf-Range: " TAG "\r\n", 206, 1, 2);
	check("Range: bytes=1-2\r\nIf-Range: \"old\"\r\n", 200, 0, 100);
	check("Range: bytes=1-2\r\nIf-Range: W/" TAG "\r\n", 200, 0, 100);
	check("Range: bytes=1-2\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200, 0, 100);
}

UNIT_MAIN("agent_chunk_range", UNIT(without_conditions_it_is_the_whole),
		  UNIT(what_is_known_is_not_sent), UNIT(a_range_is_a_part),
		  UNIT(a_range_behind_the_end_is_refused), UNIT(other_ranges_are_ignored),
		  UNIT(a_range_of_another_entity_is_the_whole));
