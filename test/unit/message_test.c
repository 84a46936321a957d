/*
 * message_test.c - what is said over the listener's WebSockets: client messages, names of event types,
 * pages of events, positions.
 */
#include "listener/message.h"

#include "unit.h"

static A67Message message;

static A67MessageKind
parse(const char *text)
{
	return a67_message_parse(text, strlen(text), &message);
}

static void
subscriptions_are_read(void)
{
	CHECK_INT(parse("{\"subscribe\":[\"node.metrics\",\"alert.raised\",\"node.metrics\"]}"),
			  A67_MESSAGE_CHANGE);
	CHECK_UINT(message.subscribe, A67_TOPIC_METRICS | a67_topic("alert.raised"));
	CHECK(!message.has_since && message.unsubscribe == 0);
	CHECK_INT(parse("{\"since\":9007199254740993,\"subscribe\":[\"*\"]}"), A67_MESSAGE_CHANGE);
	CHECK_UINT(message.subscribe, A67_TOPICS_ALL);
	CHECK(message.has_since);
	CHECK_INT(message.since, INT64_C(9007199254740993));
	CHECK_INT(parse("{\"unsubscribe\":[\"*\"],\"subscribe\":[\"file.changed\"]}"),
			  A67_MESSAGE_CHANGE);
	CHECK_UINT(message.unsubscribe, A67_TOPICS_ALL);
	CHECK_INT(parse("{\"token\":\"a.b.c\"}"), A67_MESSAGE_TOKEN);
	CHECK_STR(message.token, "a.b.c");
}

static void
refusals_name_what_is_wrong(void)
{
	static const struct
	{
		const char *text;
		const char *error;
	} cases[] = {
		{"{}", "field \"subscribe\" or \"unsubscribe\" is missing"},
		{"{\"subscribe\":[]}", "field \"subscribe\" must be an array of event types"},
		{"{\"subscribe\":{}}", "field \"subscribe\" must be an array of event types"},
		{"{\"subscribe\":[null]}", "field \"subscribe\" must be an array of event types"},
		{"{\"unsubscribe\":[\"node\"]}", "unknown event type \"node\""},
		{"{\"subscribe\":[\"of.another\"]}", "unknown event type \"of.another\""},
		{"{\"Subscribe\":[\"*\"]}", "unknown field \"Subscribe\""},
		{"{\"since\":1}", "field \"since\" goes with \"subscribe\""},
		{"{\"subscribe\":[\"*\"],\"since\":-1}", "field \"since\" must be the id of an event"},
		{"{\"subscribe\":[\"*\"],\"since\":1.5}", "field \"since\" must be the id of an event"},
		{"{\"subscribe\":[\"*\"],\"since\":null}", "field \"since\" must be the id of an event"},
		{"{\"token\":\"\"}", "field \"token\" must be a token"},
		{"{\"token\":1}", "field \"token\" must be a token"},
		{"{\"token\":\"x\",\"since\":1}", "a message with \"token\" has no other field"},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CHECK_INT(parse(cases[i].text), A67_MESSAGE_REFUSED);
		CHECK_STR(message.error, cases[i].error);
	}
}

/* A long name is cut, but not in the middle of a character. */
static void
long_names_stay_text(void)
{
	char text[400] = "{\"subscribe\":[\"";
	size_t len = strlen(text);
	int i;

	text[len++] = 'x';
	for (i = 0; i < 60; i++)
	{
		text[len++] = '\xc3';
		text[len++] = '\xa9';
	}
	snprintf(text + len, sizeof(text) - len, "\"]}");
	CHECK_INT(parse(text), A67_MESSAGE_REFUSED);
	CHECK(a67_utf8_is_valid(message.error, strlen(message.error)));
	CHECK(strncmp(message.error, "unknown event type \"x\xc3\xa9", 23) == 0);
}

static void
what_is_no_object_is_broken(void)
{
	static const char *const texts[] = {"",
										"{",
										"[]",
										"1",
										"\"x\"",
										"null",
										"{} {}",
										"nonsense",
										"{\"since\":99999999999999999999}",
										"{\"a\":1,\"a\":2}"};
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK_INT(parse(texts[i]), A67_MESSAGE_BROKEN);
	CHECK_INT(a67_message_parse("{\"a\":\"\0\"}", 9, &message), A67_MESSAGE_BROKEN);
}

static void
names_and_bits_agree(void)
{
	static const char all[] = "node.metrics,node.status.changed,deployment.changed,replica.changed,"
							  "rollout.step,alert.raised,alert.acked,alert.resolved,file.changed,"
							  "database.changed,node.registered,node.updated,node.quota.warned,"
							  "node.desired.changed,node.drained,node.restart,credential.changed,"
							  "vault.sealed,vault.unsealed,vault.rotating,vault.rotated,"
							  "run.changed";
	A67Buf out;

	a67_buf_init(&out, 1000);
	a67_topics_list(A67_TOPICS_ALL, &out);
	CHECK_STR(a67_buf_text(&out), all);
	a67_buf_reset(&out);
	a67_topics_json(A67_TOPICS_ALL, &out);
	CHECK_STR(a67_buf_text(&out), "[\"*\"]");
	a67_buf_reset(&out);
	a67_topics_json(a67_topic("alert.raised") | a67_topic("rollout.step"), &out);
	CHECK_STR(a67_buf_text(&out), "[\"rollout.step\",\"alert.raised\"]");
	a67_buf_reset(&out);
	a67_topics_json(0, &out);
	CHECK_STR(a67_buf_text(&out), "[]");
	a67_buf_free(&out);
	CHECK_UINT(a67_topic("node.sneezed"), A67_TOPIC_OTHER);
	CHECK_UINT(a67_topic(""), A67_TOPIC_OTHER);
}

static void
pages_are_read(void)
{
	static const char body[] =
		"{\"xid\":\"18446744073709551615\",\"id\":7,\"more\":true,\"held\":false,\"events\":["
		"{\"owner\":\"00000000-0000-4000-8000-0000000000ff\",\"type\":\"alert.raised\","
		"\"message\":\"{}\"},"
		"{\"owner\":\"nobody\",\"type\":\"alert.raised\",\"message\":\"{}\"},"
		"{\"owner\":\"00000000-0000-4000-8000-0000000000ff\",\"type\":5,\"message\":\"{}\"},"
		"{\"owner\":\"00000000-0000-4000-8000-0000000000ff\",\"type\":\"x\"}, 1]}";
	A67PageEvent event;
	A67Page page;
	size_t i;

	REQUIRE(a67_page_open(&page, body, sizeof(body) - 1));
	CHECK_INT((int64_t) page.count, 5);
	CHECK_UINT(page.reached.xid, UINT64_MAX);
	CHECK_INT(page.reached.id, 7);
	CHECK(page.more && !page.held);
	CHECK(a67_page_event(&page, 0, &event));
	CHECK_UINT(event.topic, a67_topic("alert.raised"));
	CHECK_UINT(event.owner[15], 0xff);
	CHECK_STR(event.message, "{}");
	CHECK_INT((int64_t) event.len, 2);
	for (i = 1; i < 6; i++)
		CHECK(!a67_page_event(&page, i, &event));
	a67_page_close(&page);
	CHECK(a67_page_open(&page, "{\"events\":[]}", 13));
	CHECK_INT((int64_t) page.count, 0);
	a67_page_close(&page);
	CHECK(!a67_page_open(&page, "[]", 2));
	CHECK(!a67_page_open(&page, "{\"events\":5}", 12));
	CHECK(!a67_page_open(&page, "", 0));
}

static void
positions_are_ordered(void)
{
	const A67Position places[] = {{0, 0}, {0, 5},			{3, 0},
								  {3, 1}, {UINT64_MAX, -1}, {UINT64_MAX, 0}};
	int i;
	int k;

	for (i = 0; i < 6; i++)
		for (k = 0; k < 6; k++)
			CHECK_INT((i > k) - (i < k), a67_position_compare(places[i], places[k]));
}

UNIT_MAIN("message", UNIT(subscriptions_are_read), UNIT(refusals_name_what_is_wrong),
		  UNIT(long_names_stay_text), UNIT(what_is_no_object_is_broken), UNIT(names_and_bits_agree),
		  UNIT(pages_are_read), UNIT(positions_are_ordered));
