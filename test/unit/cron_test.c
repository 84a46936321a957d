/*
 * cron_test.c - schedules: what parses, what does not, and when they come due.
 *
 * The vectors were worked out by another program that knows calendars (Python's datetime).
 */
#include "core/cron.h"

#include <string.h>

#include "core/pace.h"
#include "unit.h"

static A67Cron
parsed(const char *text)
{
	char fault[A67_CRON_FAULT_SIZE] = "";
	A67Cron cron;

	if (!a67_cron_parse(text, &cron, fault))
		CHECK_STR(fault, text);
	return cron;
}

static const char *
fault_of(const char *text)
{
	static char fault[A67_CRON_FAULT_SIZE];
	A67Cron cron;

	fault[0] = '\0';
	return a67_cron_parse(text, &cron, fault) ? "none" : fault;
}

static void
known_times(void)
{
	static const struct
	{
		const char *schedule;
		int64_t at, next, previous;
	} vectors[] = {
		{"* * * * *", 29453760, 29453761, 29453760},	 /* 2026-01-01 00:00: itself, a minute on */
		{"*/5 * * * *", 29453818, 29453820, 29453815},	 /* 00:58: 01:00, 00:55 */
		{"59 23 31 12 *", 29453760, 29979359, 29453759}, /* the last minutes of years */
		{"0 0 29 2 *", 29538720, 30589920, 28486080},	 /* 2026-03-01: 2028, 2024 */
		{"0 0 29 2 *", 66356640, 70561440, 66355200},	 /* 2096-03-01: 2104, as 2100 has none */
		{"0 0 29 2 mon", 29538720, 30024000, 29530080},	 /* or Mondays of February */
		{"0 0 29 2 */7", 29538720, 32693760, 17966880},	 /* and a Sunday: 2032, 2004 */
		{"0 0 13 * 5", 29498400, 29505600, 29495520},	 /* the 13th, or a Friday */
		{"0 0 13 * 5", 29505600, 29515680, 29505600},
		{"0 0 */2 * 1", 29498400, 29509920, 29479680}, /* an odd day, and a Monday */
		{"0 0 1 1 *", -308160, 0, -525600},			   /* 1969-06-01: 1970, 1969 */
		{"30 4 1,15 * 5", 29583660, 29586510, 29583630},
		{"0 22 * * 1-5", 29889960, 29894280, 29889960}, /* over a weekend */
		{"23 0-20/2 * * *", 29889863, 29890103, 29889863},
		{"5 4 * * sun", 29457360, 29458325, 29448245},
		{"0 0 * * 7", 29457360, 29458080, 29448000},
		{"0 12 31 * *", 29497680, 29582640, 29497680}, /* from January to March */
		{"0 9-17/4 * JAN,jul Mon-Fri", 29496540, 29714940, 29496540},
		{"0 0 28-31 2 *", 30588480, 30589920, 30588480},
		{"15,45 */6 * * *", 29979359, 29979375, 29979045}, /* over the new year */
	};
	size_t i;

	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		A67Cron cron = parsed(vectors[i].schedule);

		CHECK_INT(a67_cron_next(&cron, vectors[i].at), vectors[i].next);
		CHECK_INT(a67_cron_previous(&cron, vectors[i].at), vectors[i].previous);
	}
}

static void
faults_name_the_field(void)
{
	CHECK_STR(fault_of("60 * * * *"), "has no minute (from 0 to 59) as field 1");
	CHECK_STR(fault_of("* 24 * * *"), "has no hour (from 0 to 23) as field 2");
	CHECK_STR(fault_of("* * 0 * *"), "has no day of the month (from 1 to 31) as field 3");
	CHECK_STR(fault_of("* * * 13 *"), "has no month (from 1 to 12) as field 4");
	CHECK_STR(fault_of("* * * * 8"), "has no day of the week (from 0 to 7) as field 5");
	CHECK_STR(fault_of(""), "has fewer than five fields");
	CHECK_STR(fault_of("   "), "has fewer than five fields");
	CHECK_STR(fault_of("* * * *"), "has fewer than five fields");
	CHECK_STR(fault_of("* * * * * *"), "has more than five fields");
	CHECK_STR(fault_of("* * * * * echo"), "has more than five fields");
	CHECK_STR(fault_of("@reboot"), "is none of the known names with \"@\"");
	CHECK_STR(fault_of("@Daily"), "is none of the known names with \"@\"");
	CHECK_STR(fault_of("0 0 30 2 *"), "never comes due");
	CHECK_STR(fault_of("0 0 31 4,6,9,11 *"), "never comes due");
}

static void
wrong_fields(void)
{
	static const char *const wrong[] = {
		"5-1 * * * *",		   "1/2 * * * *",	"*/0 * * * *",	 "*/60 * * * *",	"1- * * * *",
		"-1 * * * *",		   ", * * * *",		"1,, * * * *",	 "1, * * * *",		"** * * * *",
		"*5 * * * *",		   "1.5 * * * *",	"a * * * *",	 "* * $ * *",		"* * L * *",
		"* * * janu *",		   "* * * jan- *",	"* * * * mon#1", "* * * * sat-sun", "30 seconds",
		"99999999999 * * * *", "* * * */feb *", "\n* * * * *",
	};
	char longest[200];
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(strcmp(fault_of(wrong[i]), "none") != 0);
	memset(longest, ' ', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	CHECK_STR(fault_of(longest), "is too long");
}

static void
spellings(void)
{
	A67Cron a = parsed("  0\t0 *  * 0 ");
	A67Cron b = parsed("@weekly");
	A67Cron c = parsed("00 0 * * SUN");

	CHECK(memcmp(&a, &b, sizeof(a)) == 0);
	CHECK(memcmp(&a, &c, sizeof(a)) == 0);
	CHECK_STR(a67_cron_expand("@annually"), "0 0 1 1 *");
	CHECK_STR(a67_cron_expand("@midnight"), "0 0 * * *");
	CHECK_STR(a67_cron_expand("1 2 3 4 5"), "1 2 3 4 5");
	CHECK(parsed("* * * * *").minutes == UINT64_C(0xfffffffffffffff));
	CHECK_UINT(parsed("0 0 1-31 * 0-7").weekdays, 0x7f);
}

/* A schedule of random sets, as text. */
static void
any_field(uint64_t *seed, unsigned int low, unsigned int high, char *out, size_t size)
{
	unsigned int from = low + (unsigned int) a67_random_below(seed, high - low + 1);
	unsigned int to = from + (unsigned int) a67_random_below(seed, high - from + 1);

	switch (a67_random_below(seed, 5))
	{
		case 0:
			(void) snprintf(out, size, "%u", from);
			break;
		case 1:
			(void) snprintf(out, size, "%u-%u", from, to);
			break;
		case 2:
			(void) snprintf(out, size, "%u,%u", from, to);
			break;
		case 3:
			(void) snprintf(out, size, "*/%u", 1 + (unsigned int) a67_random_below(seed, high));
			break;
		default:
			(void) snprintf(out, size, "*");
	}
}

/* What is next is due, nothing between is, and the way back leads here. */
static void
next_and_previous_agree(void)
{
	uint64_t seed = 67;
	int i;

	for (i = 0; i < 3000; i++)
	{
		int64_t at = (int64_t) a67_random_below(&seed, 80000000) - 10000000;
		char part[5][20];
		char text[120];
		char fault[A67_CRON_FAULT_SIZE];
		A67Cron cron;
		int64_t next;
		int64_t between;

		any_field(&seed, 0, 59, part[0], sizeof(part[0]));
		any_field(&seed, 0, 23, part[1], sizeof(part[1]));
		any_field(&seed, 1, 31, part[2], sizeof(part[2]));
		any_field(&seed, 1, 12, part[3], sizeof(part[3]));
		any_field(&seed, 0, 7, part[4], sizeof(part[4]));
		(void) snprintf(text, sizeof(text), "%s %s %s %s %s", part[0], part[1], part[2], part[3],
						part[4]);
		if (!a67_cron_parse(text, &cron, fault))
		{
			CHECK_STR(fault, "never comes due");
			continue;
		}
		next = a67_cron_next(&cron, at);
		CHECK(next > at && a67_cron_matches(&cron, next));
		CHECK_INT(a67_cron_previous(&cron, next), next);
		for (between = at + 1; between < next && between < at + 3000; between++)
			CHECK(!a67_cron_matches(&cron, between));
		CHECK(a67_cron_previous(&cron, next - 1) <= at);
	}
}

UNIT_MAIN("cron", UNIT(known_times), UNIT(faults_name_the_field), UNIT(wrong_fields),
		  UNIT(spellings), UNIT(next_and_previous_agree));
