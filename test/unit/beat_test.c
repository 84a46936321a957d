/*
 * beat_test.c - the two readers of heartbeats: the quick one for usual beats, jansson for all others.
 *
 * What the quick one takes, the complete one takes with the same result, whatever the text: usual beats,
 * texts made to be wrong, and mutations of both.
 */
#include "listener/beat.h"

#include "core/pace.h"

#include "unit.h"

#define METRICS                                                                                  \
	"\"metrics\":{\"cpu_percent\":12.5,\"memory_percent\":40.1,\"memory_free_bytes\":300000000," \
	"\"memory_total_bytes\":512000000,\"disk_percent\":10.2,\"load1\":0.4,\"uptime_s\":4242,"    \
	"\"active_requests\":3,\"latency_ms\":1.25,\"network_bytes\":9007199254740993}"
#define REPLICA                                                                                \
	"{\"id\":\"b3f0a1de-5d0c-4d6e-9c3e-8a4c3f3d2b11\",\"generation\":3,\"state\":\"running\"," \
	"\"port\":43121,\"pid\":77,\"restarts\":0,\"error\":null,"                                 \
	"\"log_tail\":\"a \\\"b\\\"\\n\\u001b[0m \\u00e4 \xc3\xa4\",\"since\":\"2026-01-01T00:00:00Z\"}"
#define BEGIN	 "{\"boot_id\":\"0123456789abcdef\",\"seq\":12,\"state_version\":17,\"status\":\"ok\","
#define USUAL	 BEGIN METRICS ",\"replicas\":[]}"
#define WITH(m)	 BEGIN "\"metrics\":{" m "},\"replicas\":[]}"
#define CARRY(r) BEGIN "\"metrics\":{},\"replicas\":[" r "]}"

/* Taken by the quick reader. */
static const char *const usual[] = {
	USUAL,
	BEGIN METRICS ",\"replicas\":[" REPLICA "," REPLICA "]}",
	CARRY("{},{\"a\":-1.5e"
		  "3,\"b\":true,\"c\":\"\xf0\x9f\x98\x80\"}"),
	" {\n\t\"replicas\" : [ { } ] , \"metrics\" : { } ,\r\n \"status\" : \"ok\", \"state_version\" : "
	"0, \"seq\" : -1 , \"boot_id\" : \"\" } \n",
	WITH("\"cpu_percent\":null,\"active_requests\":null"),
	WITH("\"cpu_percent\":-0.0,\"memory_percent\":-0,\"load1\":1e-3,\"latency_ms\":2E+2"),
	WITH("\"cpu_percent\":40.100000000000001,\"memory_percent\":33.333333333333336"),
	WITH("\"cpu_percent\":0.000000000000001,\"memory_percent\":123456789012345,\"disk_percent\":"
		 "-12345678901234.5"),
	WITH("\"cpu_percent\":1e-45,\"memory_percent\":1e-400,\"disk_percent\":3.4e38"),
	WITH("\"active_requests\":2147483647,\"requests\":999999999999999999,\"failures\":-0"),
};

/* Left to the complete reader, which takes them. */
static const char *const unusual[] = {
	WITH("\"gpu_percent\":1"),
	WITH("\"temperatures\":[1,{\"a\":2}]"),
	WITH("\"cpu\\u005fpercent\":1"),
	WITH("\"requests\":9223372036854775807"),
	CARRY("1"),
	CARRY("[]"),
	CARRY("{\"a\":{\"b\":1}}"),
	CARRY("{\"a\":\"\\ud83d\\ude00\"}"),
	CARRY("{\"a\\u0062\":1}"),
	CARRY("{\"a\":9223372036854775807}"),
	CARRY(
		"{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,"
		"\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1}"),
	"{\"boot_id\":\"\\u0061bcdefgh\",\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":{},"
	"\"replicas\":[]}",
};

/* Taken by neither: SQL says what is wrong with them, or takes a farewell. */
static const char *const wrong[] = {
	"",
	" ",
	"{}",
	"[]",
	"null",
	"{",
	"{\"",
	"{\"seq\"",
	"{\"seq\":",
	"{\"seq\":1",
	"{\"seq\":1,",
	"{\"seq\":1,}",
	USUAL "x",
	USUAL USUAL,
	"\xef\xbb\xbf" USUAL,
	"{\"boot_id\":\"a\",\"seq\":1,\"state_version\":1,\"status\":\"stopping\",\"metrics\":{},\"replicas\":[]}",
	"{\"boot_id\":\"a\",\"seq\":1,\"state_version\":1,\"status\":null,\"metrics\":{},\"replicas\":[]}",
	"{\"boot_id\":1,\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	"{\"boot_id\":\"a\",\"seq\":1.0,\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	"{\"boot_id\":\"a\",\"seq\":1,\"state_version\":\"1\",\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	"{\"boot_id\":\"a\",\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":[],\"replicas\":[]}",
	"{\"boot_id\":\"a\",\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":{}}",
	"{\"boot_id\":\"a\",\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":{}}",
	"{\"boot_id\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0\",\"seq\":1,"
	"\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	"{\"x\":1,\"boot_id\":\"a\",\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	"{\"seq\":1,\"seq\":1,\"boot_id\":\"a\",\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	"{\"boot_id\":\"a\\u0000\",\"seq\":1,\"state_version\":1,\"status\":\"ok\",\"metrics\":{},\"replicas\":[]}",
	WITH("\"cpu_percent\":\"1\""),
	WITH("\"cpu_percent\":true"),
	WITH("\"cpu_percent\":-null"),
	WITH("\"cpu_percent\":1.null"),
	WITH("\"cpu_percent\":01"),
	WITH("\"cpu_percent\":+1"),
	WITH("\"cpu_percent\":.5"),
	WITH("\"cpu_percent\":1."),
	WITH("\"cpu_percent\":1e"),
	WITH("\"cpu_percent\":0x10"),
	WITH("\"cpu_percent\":NaN"),
	WITH("\"cpu_percent\":1e39"),
	WITH("\"cpu_percent\":-1e39"),
	WITH("\"cpu_percent\":1e999"),
	WITH("\"cpu_percent\":1,\"cpu_percent\":2"),
	WITH("\"cpu_percent\":1,\"cpu\\u005fpercent\":2"),
	WITH("\"active_requests\":2147483648"),
	WITH("\"active_requests\":-1"),
	WITH("\"active_requests\":1.0"),
	WITH("\"requests\":9223372036854775808"),
	WITH("\"cpu_percent\":1 \"load1\":1"),
	WITH("\"cpu_percent\":1,"),
	CARRY("{\"a\":1,\"a\":1}"),
	CARRY("{\"ab\":1,\"a\\u0062\":1}"),
	CARRY("{\"a\":\"\x01\"}"),
	CARRY("{\"a\":\"\\x\"}"),
	CARRY("{\"a\":\"\\u00\"}"),
	CARRY("{\"a\":\"\\u0000\"}"),
	CARRY("{\"a\":\"\\ud800\"}"),
	CARRY("{\"a\":\"\xc3\"}"),
	CARRY("{\"a\":\"\xed\xa0\x80\"}"),
	CARRY("{\"a\":nul}"),
	CARRY("{\"a\":1}{}"),
	CARRY("{\"a\"}"),
	CARRY("{1:1}"),
	CARRY("{},"),
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* In memory of exactly its size, so that a byte read too far is noticed. */
static bool
scan(const char *text, size_t len, A67Beat *beat)
{
	char *exact = malloc(len > 0 ? len : 1);
	bool taken;

	memcpy(exact, text, len);
	taken = a67_beat_scan(exact, len, beat);
	free(exact);
	return taken;
}

/* Whether the quick reader took it; then the complete one must say the same. */
static bool
agree(const char *text, size_t len)
{
	A67Beat quick;
	A67Beat complete;

	if (!scan(text, len, &quick))
		return false;
	if (!a67_beat_read(text, len, &complete))
		printf("# only the quick reader takes: %.*s\n", (int) len, text);
	else if (memcmp(&quick, &complete, sizeof(quick)) != 0)
		printf("# read differently: %.*s\n", (int) len, text);
	else
		return true;
	CHECK(false);
	return true;
}

static void
usual_beats_are_quick(void)
{
	for (size_t i = 0; i < COUNT(usual); i++)
		if (!agree(usual[i], strlen(usual[i])))
			printf("# not taken: %s\n", usual[i]), CHECK(false);
}

static void
unusual_beats_are_read(void)
{
	A67Beat beat;

	for (size_t i = 0; i < COUNT(unusual); i++)
	{
		CHECK(!scan(unusual[i], strlen(unusual[i]), &beat));
		if (!a67_beat_parse(unusual[i], strlen(unusual[i]), &beat))
			printf("# not taken: %s\n", unusual[i]), CHECK(false);
	}
}

static void
wrong_beats_are_sqls(void)
{
	A67Beat beat;

	for (size_t i = 0; i < COUNT(wrong); i++)
	{
		CHECK(!scan(wrong[i], strlen(wrong[i]), &beat));
		if (a67_beat_parse(wrong[i], strlen(wrong[i]), &beat))
			printf("# taken: %s\n", wrong[i]), CHECK(false);
	}
	/* A NUL ends neither the text nor the check of what follows. */
	CHECK(!a67_beat_parse(USUAL, sizeof(USUAL), &beat));
}

static void
values_arrive(void)
{
	A67Beat beat;

	REQUIRE(scan(USUAL, strlen(USUAL), &beat));
	CHECK_STR(beat.boot_id, "0123456789abcdef");
	CHECK_INT(beat.seq, 12);
	CHECK_INT(beat.state_version, 17);
	CHECK(beat.metrics.cpu_percent == 12.5f && beat.metrics.memory_percent == 40.1f);
	CHECK(beat.metrics.disk_percent == 10.2f && beat.metrics.load1 == 0.4f);
	CHECK(beat.metrics.latency_ms == 1.25f);
	CHECK_INT(beat.metrics.memory_free_bytes, 300000000);
	CHECK_INT(beat.metrics.memory_total_bytes, 512000000);
	CHECK_INT(beat.metrics.uptime_s, 4242);
	CHECK_INT(beat.metrics.network_bytes, INT64_C(9007199254740993));
	CHECK_INT(beat.metrics.active_requests, 3);
	CHECK_INT(beat.metrics.requests, -1);
	CHECK_INT(beat.metrics.failures, -1);
}

static void
what_is_missing_stays_so(void)
{
	static const char text[] = WITH("\"load1\":null");
	A67Beat beat;

	REQUIRE(scan(text, strlen(text), &beat));
	CHECK(isnan(beat.metrics.cpu_percent) && isnan(beat.metrics.load1));
	CHECK(isnan(beat.metrics.latency_ms));
	CHECK_INT(beat.metrics.memory_free_bytes, -1);
	CHECK_INT(beat.metrics.active_requests, -1);
}

static void
counts_of_several_beats_add_up(void)
{
	A67Beat first;
	A67Beat second;

	a67_beat_init(&first);
	a67_beat_init(&second);
	a67_counts_add(&second.metrics, &first.metrics);
	CHECK_INT(second.metrics.requests, -1);
	first.metrics.requests = 7;
	a67_counts_add(&second.metrics, &first.metrics);
	CHECK_INT(second.metrics.requests, 7);
	CHECK_INT(second.metrics.failures, -1);
	second.metrics.failures = 1;
	second.metrics.requests = INT64_MAX;
	a67_counts_add(&second.metrics, &first.metrics);
	CHECK_INT(second.metrics.requests, INT64_MAX);
	second.metrics.requests = 3 + 7;
	a67_counts_subtract(&second.metrics, &first.metrics);
	CHECK_INT(second.metrics.requests, 3);
	CHECK_INT(second.metrics.failures, 1);
	a67_counts_subtract(&second.metrics, &first.metrics);
	CHECK_INT(second.metrics.requests, 0);
}

static void
every_prefix_agrees(void)
{
	for (size_t i = 0; i < COUNT(usual); i++)
		for (size_t len = 0; len < strlen(usual[i]); len++)
			(void) agree(usual[i], len);
}

/* One or two bytes changed, dropped or doubled: by what means something in JSON, or by anything. */
static size_t
mutate(char *text, size_t len, uint64_t *random)
{
	static const char meaning[] = "{}[]\":,0123456789.-+eE\\u tfn\0\x80\xc3\x7f";

	for (uint64_t left = 1 + a67_random_next(random) % 2; left > 0 && len > 0; left--)
	{
		size_t at = a67_random_next(random) % len;

		switch (a67_random_next(random) % 4)
		{
			case 0:
				text[at] = (char) a67_random_next(random);
				break;
			case 1:
				text[at] = meaning[a67_random_next(random) % sizeof(meaning)];
				break;
			case 2:
				memmove(text + at, text + at + 1, len - at - 1);
				len--;
				break;
			default:
				memmove(text + at + 1, text + at, len - at);
				len++;
		}
	}
	return len;
}

static void
mutations_agree(void)
{
	static char text[4096];
	uint64_t random = 67;
	unsigned taken = 0;

	for (int i = 0; i < 300000; i++)
	{
		size_t which = a67_random_next(&random) % (COUNT(usual) + COUNT(unusual));
		const char *from = which < COUNT(usual) ? usual[which] : unusual[which - COUNT(usual)];
		size_t len = strlen(from);

		memcpy(text, from, len);
		len = mutate(text, len, &random);
		taken += agree(text, len);
	}
	/* Otherwise this test says nothing. */
	CHECK(taken > 10000);
}

UNIT_MAIN("beat", UNIT(usual_beats_are_quick), UNIT(unusual_beats_are_read),
		  UNIT(wrong_beats_are_sqls), UNIT(values_arrive), UNIT(what_is_missing_stays_so),
		  UNIT(counts_of_several_beats_add_up), UNIT(every_prefix_agrees), UNIT(mutations_agree));
