/*
 * log_page_test.c - answers about output: as server-sent events, and as numbers.
 */
#include <string.h>

#include "listener/log_page.h"
#include "unit.h"

#define ID "2f0a0c1e-7d2b-4a53-9a53-0e9c1f4a6b11"

/* The event that a text becomes; "?" when it is refused. */
static const char *
event_of(const char *text, A67Buf *event)
{
	char body[512];
	A67LogPage page;

	a67_buf_reset(event);
	(void) snprintf(body, sizeof(body),
					"{\"deployment\":\"" ID "\",\"reached\":7,\"more\":true,\"text\":\"%s\"}",
					text);
	if (!a67_log_page_read(body, strlen(body), &page, event))
		return "?";
	CHECK_STR(page.deployment, ID);
	CHECK_INT(page.reached, 7);
	CHECK(page.more);
	return a67_buf_text(event);
}

static void
lines_become_data(void)
{
	A67Buf event;

	a67_buf_init(&event, 4096);
	CHECK_STR(event_of("", &event), "");
	CHECK_STR(event_of("a\\n", &event), "id: 7\ndata: a\n\n");
	CHECK_STR(event_of("a\\n\\nb\\n", &event), "id: 7\ndata: a\ndata: \ndata: b\n\n");
	CHECK_STR(event_of("a\\r\\nb\\rc", &event), "id: 7\ndata: a\ndata: b\ndata: c\n\n");
	CHECK_STR(event_of("id: 9\\n\\u20ac", &event), "id: 7\ndata: id: 9\ndata: \xe2\x82\xac\n\n");
	a67_buf_free(&event);
}

static void
what_is_no_page_is_refused(void)
{
	static const char *const broken[] = {
		"",
		"[]",
		"{}",
		"{\"deployment\":\"" ID "\",\"reached\":7}",
		"{\"deployment\":\"" ID "\",\"reached\":\"7\",\"text\":\"\"}",
		"{\"deployment\":\"x\",\"reached\":7,\"text\":\"\"}",
		"{\"deployment\":\"" ID "\",\"reached\":7,\"text\":\"a\"",
	};
	A67LogPage page;
	A67Buf event;

	a67_buf_init(&event, 16);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		CHECK(!a67_log_page_read(broken[i], strlen(broken[i]), &page, &event));
	CHECK_STR(event_of("more than sixteen bytes", &event), "?");
	a67_buf_free(&event);
}

static void
heads(void)
{
	int64_t found[2] = {0, 0};

	CHECK_INT(a67_log_heads_read("[1,-1]", 6, found, 2), 2);
	CHECK_INT(found[0], 1);
	CHECK_INT(found[1], -1);
	CHECK_INT(a67_log_heads_read("[5,6,7]", 7, found, 2), 3);
	CHECK_INT(found[1], 6);
	CHECK_INT(a67_log_heads_read("[1,\"2\"]", 7, found, 2), -1);
	CHECK_INT(a67_log_heads_read("null", 4, found, 2), -1);
	CHECK_INT(a67_log_heads_read("{}", 2, found, 2), -1);
}

UNIT_MAIN("log_page", UNIT(lines_become_data), UNIT(what_is_no_page_is_refused), UNIT(heads));
