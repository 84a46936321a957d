/*
 * buf_test.c - the bounded buffer: contents, the maximum, the sticky failure, consuming, JSON
 * strings. Running out of memory at every allocation is in alloc_test.c.
 */
#include "core/buf.h"

#include "unit.h"

static void
starts_empty(void)
{
	A67Buf buf;

	a67_buf_init(&buf, 10);
	CHECK_UINT(buf.len, 0);
	CHECK_STR(a67_buf_text(&buf), "");
	CHECK_UINT(a67_buf_room(&buf), 10);
	CHECK(!buf.failed);
	a67_buf_consume(&buf, 3);
	a67_buf_reset(&buf);
	a67_buf_free(&buf);
	a67_buf_free(&buf);
	CHECK_STR(a67_buf_text(&buf), "");
}

static void
appends_keep_a_closing_nul(void)
{
	A67Buf buf;
	int i;

	a67_buf_init(&buf, 100000);
	CHECK(a67_buf_append(&buf, "ab\0cd", 5));
	CHECK_UINT(buf.len, 5);
	CHECK_MEM(buf.data, "ab\0cd", 6);
	a67_buf_reset(&buf);
	for (i = 0; i < 10000; i++)
	{
		CHECK(a67_buf_append_fmt(&buf, "%04d,", i));
		CHECK_INT(buf.data[buf.len], 0);
	}
	CHECK_UINT(buf.len, 50000);
	CHECK_MEM(buf.data, "0000,0001,0002,", 15);
	CHECK_STR(buf.data + 49990, "9998,9999,");
	a67_buf_free(&buf);
}

static void
empty_appends_are_fine(void)
{
	A67Buf buf;

	a67_buf_init(&buf, 0);
	CHECK(a67_buf_append(&buf, NULL, 0));
	CHECK(a67_buf_append_str(&buf, ""));
	CHECK(a67_buf_append_fmt(&buf, "%s", ""));
	CHECK(a67_buf_reserve(&buf, 0));
	CHECK(!buf.failed);
	CHECK_STR(a67_buf_text(&buf), "");
	CHECK(!a67_buf_append_str(&buf, "x"));
	CHECK(buf.failed);
	a67_buf_free(&buf);
}

static void
holds_exactly_max(void)
{
	A67Buf buf;

	a67_buf_init(&buf, 8);
	CHECK(a67_buf_append_str(&buf, "12345678"));
	CHECK_UINT(a67_buf_room(&buf), 0);
	CHECK_STR(a67_buf_text(&buf), "12345678");
	CHECK(a67_buf_append_str(&buf, ""));
	CHECK(!a67_buf_append_str(&buf, "9"));
	CHECK_STR(a67_buf_text(&buf), "12345678");
	a67_buf_free(&buf);
}

static void
failure_is_sticky_and_all_or_nothing(void)
{
	A67Buf buf;

	a67_buf_init(&buf, 8);
	CHECK(a67_buf_append_str(&buf, "1234"));
	CHECK(!a67_buf_append_str(&buf, "56789"));
	CHECK(buf.failed);
	CHECK_STR(a67_buf_text(&buf), "1234");
	CHECK(!a67_buf_append_str(&buf, "5"));
	CHECK(!a67_buf_append_fmt(&buf, "%d", 5));
	CHECK(!a67_buf_append_json_string(&buf, "", 0));
	CHECK(!a67_buf_reserve(&buf, 0));
	CHECK_STR(a67_buf_text(&buf), "1234");
	a67_buf_consume(&buf, 4);
	CHECK(buf.failed);
	a67_buf_reset(&buf);
	CHECK(!buf.failed);
	CHECK(a67_buf_append_fmt(&buf, "%s-%d", "abc", 42));
	CHECK_STR(a67_buf_text(&buf), "abc-42");
	CHECK(!a67_buf_append_fmt(&buf, "%d", 1000));
	CHECK_STR(a67_buf_text(&buf), "abc-42");
	a67_buf_free(&buf);
	CHECK(!buf.failed);
	a67_buf_free(&buf);
}

static void
huge_requests_fail_without_wrapping(void)
{
	A67Buf buf;

	a67_buf_init(&buf, SIZE_MAX);
	CHECK(a67_buf_append_str(&buf, "x"));
	CHECK(!a67_buf_reserve(&buf, SIZE_MAX));
	CHECK(buf.failed);
	CHECK_STR(a67_buf_text(&buf), "x");
	a67_buf_reset(&buf);
	CHECK(!a67_buf_reserve(&buf, SIZE_MAX - 2));
	CHECK(buf.failed);
	a67_buf_free(&buf);
}

static void
reserve_then_commit(void)
{
	A67Buf buf;

	a67_buf_init(&buf, 1000);
	CHECK(a67_buf_append_str(&buf, "head "));
	REQUIRE(a67_buf_reserve(&buf, 500));
	memset(buf.data + buf.len, 'x', 500);
	a67_buf_commit(&buf, 3);
	CHECK_STR(a67_buf_text(&buf), "head xxx");
	a67_buf_commit(&buf, 0);
	CHECK_UINT(buf.len, 8);
	a67_buf_free(&buf);
}

static void
consume_drops_from_the_front(void)
{
	A67Buf buf;

	a67_buf_init(&buf, 10);
	a67_buf_append_str(&buf, "abcdefgh");
	a67_buf_consume(&buf, 0);
	CHECK_STR(a67_buf_text(&buf), "abcdefgh");
	a67_buf_consume(&buf, 3);
	CHECK_STR(a67_buf_text(&buf), "defgh");
	CHECK_UINT(a67_buf_room(&buf), 5);
	CHECK(a67_buf_append_str(&buf, "ijklm"));
	CHECK_STR(a67_buf_text(&buf), "defghijklm");
	a67_buf_consume(&buf, 100);
	CHECK_STR(a67_buf_text(&buf), "");
	CHECK_UINT(buf.len, 0);
	CHECK(a67_buf_append_str(&buf, "0123456789"));
	/* Making room moves the bytes, and their closing NUL with them. */
	a67_buf_consume(&buf, 7);
	CHECK(a67_buf_reserve(&buf, 7));
	CHECK_UINT(buf.head, 0);
	CHECK_STR(a67_buf_text(&buf), "789");
	a67_buf_free(&buf);
}

/* A stream through a small buffer: what comes out is what went in, and the memory stays bounded. */
static void
streams_through_a_small_buffer(void)
{
	A67Buf buf;
	unsigned written = 0;
	unsigned read = 0;
	unsigned step = 1;

	a67_buf_init(&buf, 256);
	while (read < 20000)
	{
		size_t take;
		size_t i;

		while (a67_buf_room(&buf) >= 7)
		{
			for (i = 0; i < 7; i++)
			{
				char byte = (char) (written++ % 251);

				REQUIRE(a67_buf_append(&buf, &byte, 1));
			}
		}
		step = step * 31 % 97;
		take = step < buf.len ? step : buf.len;
		for (i = 0; i < take; i++)
			CHECK_INT((unsigned char) buf.data[i], read++ % 251);
		a67_buf_consume(&buf, take);
		CHECK(buf.cap <= 257);
	}
	a67_buf_free(&buf);
}

static void
json_string(const char *text, size_t count, const char *want)
{
	A67Buf buf;

	a67_buf_init(&buf, 1000);
	CHECK(a67_buf_append_json_string(&buf, text, count));
	CHECK_STR(a67_buf_text(&buf), want);
	a67_buf_free(&buf);
}

static void
json_strings_are_escaped(void)
{
	json_string("", 0, "\"\"");
	json_string("plain", 5, "\"plain\"");
	json_string("\"\\/", 3, "\"\\\"\\\\/\"");
	json_string("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"");
	json_string("\x01\x1F\x7F", 3, "\"\\u0001\\u001f\x7F\"");
	json_string("a\0b", 3, "\"a\\u0000b\"");
	json_string("h\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10,
				"\"h\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
}

#define REPLACED "\xEF\xBF\xBD"

static void
json_strings_are_always_utf8(void)
{
	json_string("\x80", 1, "\"" REPLACED "\"");
	json_string("a\xFF"
				"b",
				3, "\"a" REPLACED "b\"");
	/* Overlong forms of '/'. */
	json_string("\xC0\xAF", 2, "\"" REPLACED REPLACED "\"");
	json_string("\xE0\x80\xAF", 3, "\"" REPLACED REPLACED REPLACED "\"");
	json_string("\xF0\x80\x80\xAF", 4, "\"" REPLACED REPLACED REPLACED REPLACED "\"");
	/* A surrogate, and the first number above U+10FFFF. */
	json_string("\xED\xA0\x80", 3, "\"" REPLACED REPLACED REPLACED "\"");
	json_string("\xF4\x90\x80\x80", 4, "\"" REPLACED REPLACED REPLACED REPLACED "\"");
	/* The edges that are valid. */
	json_string("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", 10,
				"\"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\"");
	/* Cut off at the end, and by a quote that must not be swallowed. */
	json_string("\xE2\x82", 2, "\"" REPLACED REPLACED "\"");
	json_string("\xC3\"", 2, "\"" REPLACED "\\\"\"");
	json_string("\xF5\xFE", 2, "\"" REPLACED REPLACED "\"");
}

/* A JSON string that does not fit leaves nothing behind, at whatever point it stops fitting. */
static void
json_string_is_all_or_nothing(void)
{
	static const char text[] = "ab\"cd\n\xFF\x01tail";
	A67Buf whole;
	size_t max;

	a67_buf_init(&whole, 1000);
	a67_buf_append_str(&whole, "x:");
	REQUIRE(a67_buf_append_json_string(&whole, text, sizeof(text) - 1));
	for (max = 2; max < whole.len; max++)
	{
		A67Buf buf;

		a67_buf_init(&buf, max);
		CHECK(a67_buf_append_str(&buf, "x:"));
		CHECK(!a67_buf_append_json_string(&buf, text, sizeof(text) - 1));
		CHECK(buf.failed);
		CHECK_UINT(buf.len, 2);
		CHECK_STR(a67_buf_text(&buf), "x:");
		a67_buf_free(&buf);
	}
	a67_buf_free(&whole);
}

UNIT_MAIN("buf", UNIT(starts_empty), UNIT(appends_keep_a_closing_nul), UNIT(empty_appends_are_fine),
		  UNIT(holds_exactly_max), UNIT(failure_is_sticky_and_all_or_nothing),
		  UNIT(huge_requests_fail_without_wrapping), UNIT(reserve_then_commit),
		  UNIT(consume_drops_from_the_front), UNIT(streams_through_a_small_buffer),
		  UNIT(json_strings_are_escaped), UNIT(json_strings_are_always_utf8),
		  UNIT(json_string_is_all_or_nothing));
