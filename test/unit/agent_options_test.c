/*
 * agent_options_test.c - flags and variables: defaults, which of the two wins, lists, and each way in
 * which a value can be wrong.
 */
#include "options.h"

#include <errno.h>

#include "unit.h"

#define MAX_WORDS 40

static const char *const variables[] = {"A67_STATE_DIR",
										"A67_LISTEN",
										"A67_ADVERTISE",
										"A67_NAME",
										"A67_REGION",
										"A67_PROVIDER",
										"A67_TIER",
										"A67_SERVICE",
										"A67_LABEL",
										"A67_CA_FILE",
										"A67_LOG_LEVEL",
										"A67_STOP_APPS",
										"A67_HEARTBEAT_INTERVAL",
										"A67_INSECURE_LOOPBACK",
										"A67_ONCE",
										"A67_CHUNK_QUOTA",
										"A67_SCRUB_INTERVAL",
										"A67_URL",
										"A67_TOKEN"};

static A67Options options;
static A67Why why;

static void
forget_variables(void)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		(void) unsetenv(variables[i]);
}

/* Parses "a67-agent" and the words, which end with NULL. */
static int
parse_words(const char *const *words)
{
	static char copies[MAX_WORDS][512];
	char *argv[MAX_WORDS + 1] = {copies[0]};
	int argc = 1;

	(void) snprintf(copies[0], sizeof(copies[0]), "a67-agent");
	for (; words[argc - 1] != NULL && argc < MAX_WORDS; argc++)
	{
		(void) snprintf(copies[argc], sizeof(copies[argc]), "%s", words[argc - 1]);
		argv[argc] = copies[argc];
	}
	memset(&why, 0, sizeof(why));
	return a67_options_parse(argc, argv, &options, &why);
}

#define PARSE(...) parse_words((const char *const[]){__VA_ARGS__, NULL})

/* A refusal: -EINVAL, and its words name what was wrong. */
#define CHECK_REFUSED(words, ...)                 \
	do                                            \
	{                                             \
		CHECK_INT(PARSE(__VA_ARGS__), -EINVAL);   \
		CHECK(strstr(why.text, (words)) != NULL); \
	} while (0)

static void
nothing_said_leaves_it_to_the_token(void)
{
	forget_variables();
	CHECK_INT(PARSE("run"), 0);
	CHECK_STR(options.listen, "127.0.0.1");
	CHECK_INT(options.port, 0);
	CHECK(options.name[0] != '\0');
	CHECK_STR(options.region, "");
	CHECK_STR(options.provider, "");
	CHECK_STR(options.tier, "");
	CHECK_UINT(options.service_count, 0);
	CHECK_UINT(options.label_count, 0);
}

static void
lists_add_up(void)
{
	forget_variables();
	CHECK_INT(PARSE("join", "http://h:1", "token", "--service", "storage", "--tier", "free",
					"--service=compute", "--service", "storage", "--label", "gpu=no",
					"--label=rack/row=a=b, c", "--label", "empty="),
			  0);
	CHECK_STR(options.tier, "free");
	REQUIRE(options.service_count == 2);
	CHECK_STR(options.services[0], "storage");
	CHECK_STR(options.services[1], "compute");
	REQUIRE(options.label_count == 3);
	CHECK_STR(options.labels[0], "gpu=no");
	CHECK_STR(options.labels[1], "rack/row=a=b, c");
	CHECK_STR(options.labels[2], "empty=");
}

static void
a_label_that_comes_again_counts(void)
{
	forget_variables();
	CHECK_INT(PARSE("run", "--label", "a=1", "--label", "ab=2", "--label", "a=3"), 0);
	REQUIRE(options.label_count == 2);
	CHECK_STR(options.labels[0], "a=3");
	CHECK_STR(options.labels[1], "ab=2");
}

static void
variables_hold_lists(void)
{
	forget_variables();
	(void) setenv("A67_SERVICE", "cache,database", 1);
	(void) setenv("A67_LABEL", "gpu=no,rack=1", 1);
	(void) setenv("A67_TIER", "hobby", 1);
	CHECK_INT(PARSE("run"), 0);
	REQUIRE(options.service_count == 2);
	CHECK_STR(options.services[0], "cache");
	CHECK_STR(options.services[1], "database");
	REQUIRE(options.label_count == 2);
	CHECK_STR(options.labels[1], "rack=1");
	CHECK_STR(options.tier, "hobby");
}

static void
flags_win_over_variables(void)
{
	forget_variables();
	(void) setenv("A67_SERVICE", "cache,database", 1);
	(void) setenv("A67_LABEL", "gpu=no", 1);
	(void) setenv("A67_REGION", "fra", 1);
	CHECK_INT(PARSE("run", "--service", "storage", "--region", "ams"), 0);
	CHECK_STR(options.region, "ams");
	REQUIRE(options.service_count == 1);
	CHECK_STR(options.services[0], "storage");
	REQUIRE(options.label_count == 1);
	CHECK_STR(options.labels[0], "gpu=no");
}

static void
an_empty_variable_says_nothing(void)
{
	forget_variables();
	(void) setenv("A67_SERVICE", "", 1);
	(void) setenv("A67_LABEL", "", 1);
	CHECK_INT(PARSE("run"), 0);
	CHECK_UINT(options.service_count + options.label_count, 0);
}

static void
wrong_services_are_refused(void)
{
	forget_variables();
	CHECK_REFUSED("gpu", "run", "--service", "gpu");
	CHECK_REFUSED("--service", "run", "--service", "");
	CHECK_REFUSED("--service", "run", "--service", "compute,storage");
	CHECK_REFUSED("--service", "run", "--service");
	(void) setenv("A67_SERVICE", "compute,,storage", 1);
	CHECK_REFUSED("A67_SERVICE", "run");
	(void) setenv("A67_SERVICE", "compute,", 1);
	CHECK_REFUSED("A67_SERVICE", "run");
	(void) setenv("A67_SERVICE", "Compute", 1);
	CHECK_REFUSED("Compute", "run");
}

static void
wrong_labels_are_refused(void)
{
	static const char *const wrong[] = {"",		"gpu",	  "=x",		"-a=x",	 "a-=x",
										"/a=x", "Gpu=x",  "g pu=x", "gpü=x", "a=\x01",
										"a=\n", "a=\xff", "a=\xc3"};
	char long_key[80] = {0};
	char long_value[300] = {'a', '='};

	forget_variables();
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK_REFUSED("--label", "run", "--label", wrong[i]);
	memset(long_key, 'k', 64);
	long_key[64] = '=';
	CHECK_REFUSED("--label", "run", "--label", long_key);
	memset(long_value + 2, 'v', sizeof(long_value) - 3);
	CHECK_REFUSED("--label", "run", "--label", long_value);
	CHECK_INT(PARSE("run", "--label", long_key + 1), 0);
	CHECK_INT(PARSE("run", "--label", "a=Zürich"), 0);
}

static void
too_many_labels_are_refused(void)
{
	char list[A67_LABELS_MAX * 8 + 16] = {0};
	size_t used = 0;

	forget_variables();
	for (int i = 0; i < A67_LABELS_MAX; i++)
		used += (size_t) snprintf(list + used, sizeof(list) - used, "%sk%d=v", i > 0 ? "," : "", i);
	(void) setenv("A67_LABEL", list, 1);
	CHECK_INT(PARSE("run"), 0);
	CHECK_UINT(options.label_count, A67_LABELS_MAX);
	(void) snprintf(list + used, sizeof(list) - used, ",k0=w");
	(void) setenv("A67_LABEL", list, 1);
	CHECK_INT(PARSE("run"), 0);
	CHECK_STR(options.labels[0], "k0=w");
	(void) snprintf(list + used, sizeof(list) - used, ",more=v");
	(void) setenv("A67_LABEL", list, 1);
	CHECK_REFUSED("more than 16", "run");
}

static void
other_wrong_values_are_refused(void)
{
	forget_variables();
	CHECK_REFUSED("command", "--nothing");
	CHECK_REFUSED("--tier", "run", "--tier=");
	CHECK_REFUSED("--tier", "run", "--tier");
	CHECK_REFUSED("UTF-8", "run", "--region", "\xff");
	CHECK_REFUSED("unknown flag", "run", "--services", "compute");
	CHECK_REFUSED("--stop-apps", "run", "--stop-apps=1");
	CHECK_REFUSED("--listen", "run", "--listen", "localhost:1");
	CHECK_REFUSED("--heartbeat-interval", "run", "--heartbeat-interval", "nan");
	CHECK_REFUSED("URL and TOKEN", "join", "http://h:1");
	CHECK_REFUSED("too many", "run", "word");
}

static void
hosts_are_found_in_front_of_ports(void)
{
	static const struct
	{
		const char *text;
		size_t len;
	} cases[] = {{"h", 1},		 {"h:1", 1},	   {"[::1]:80", 5}, {"[::1]", 5},
				 {"fe80::1", 7}, {"a.b:65535", 3}, {"", 0},			{":1", 0}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_UINT(a67_host_length(cases[i].text), cases[i].len);
}

static void
plain_http_is_for_loopback_alone(void)
{
	forget_variables();
	CHECK_INT(PARSE("run"), 0);
	CHECK(!options.insecure_loopback);
	CHECK_INT(PARSE("run", "--insecure-loopback"), 0);
	CHECK(options.insecure_loopback);
	CHECK_INT(PARSE("run", "--insecure-loopback", "--listen", "[::1]:0"), 0);
	CHECK_INT(PARSE("run", "--insecure-loopback", "--advertise", "localhost:80"), 0);
	CHECK_REFUSED("0.0.0.0", "run", "--insecure-loopback", "--listen", "0.0.0.0:80");
	CHECK_REFUSED("loopback", "run", "--listen", "10.0.0.1:80", "--insecure-loopback");
	CHECK_REFUSED("loopback", "run", "--insecure-loopback", "--listen", "10.0.0.1:80",
				  "--advertise", "127.0.0.1");
	CHECK_REFUSED("pine", "run", "--insecure-loopback", "--advertise", "pine.example.org:80");
	CHECK_REFUSED("[fd00::1]", "run", "--insecure-loopback", "--advertise", "[fd00::1]");
	(void) setenv("A67_INSECURE_LOOPBACK", "1", 1);
	CHECK_REFUSED("loopback", "run", "--listen", "[::]:80");
	(void) setenv("A67_INSECURE_LOOPBACK", "0", 1);
	CHECK_INT(PARSE("run", "--listen", "[::]:80"), 0);
	(void) setenv("A67_INSECURE_LOOPBACK", "yes", 1);
	CHECK_REFUSED("A67_INSECURE_LOOPBACK", "run");
}

static void
url_and_token_may_be_variables(void)
{
	forget_variables();
	CHECK_REFUSED("A67_URL", "join");
	(void) setenv("A67_URL", "https://h:1", 1);
	CHECK_REFUSED("A67_TOKEN", "join", "--once");
	(void) setenv("A67_TOKEN", "secret", 1);
	CHECK_REFUSED("URL and TOKEN", "join", "https://h:2");
	CHECK_INT(PARSE("join"), 0);
	CHECK_STR(options.url, "https://h:1");
	CHECK_STR(options.token, "secret");
	/* It is not left where it was. */
	CHECK_STR(getenv("A67_TOKEN"), "");
	(void) setenv("A67_TOKEN", "secret", 1);
	CHECK_INT(PARSE("join", "https://h:2", "word", "--once"), 0);
	CHECK_STR(options.url, "https://h:2");
	CHECK_STR(options.token, "word");
	CHECK(options.once);
	CHECK_INT(PARSE("run"), 0);
	CHECK_STR(options.url, "");
}

static void
room_for_chunks_is_a_size_or_a_share(void)
{
	static const char *const wrong[] = {"",
										"x",
										"-1",
										"101%",
										"0%",
										"5%%",
										"1.5G",
										"10g",
										"10GB",
										"G",
										"%",
										" 1",
										"+1",
										"1 ",
										"0x5",
										"9G%",
										"10Z",
										"1e9",
										"9999999999999999999",
										"99999999T"};
	static const struct
	{
		const char *text;
		int64_t value;
	} good[] = {{"0", 0},
				{"1048576", 1048576},
				{"3K", 3072},
				{"500M", 500 << 20},
				{"10G", INT64_C(10) << 30},
				{"2T", INT64_C(2) << 40},
				{"1%", -1},
				{"100%", -100}};

	forget_variables();
	CHECK_INT(PARSE("run"), 0);
	CHECK_INT(options.chunk_quota, -50);
	CHECK_INT(options.scrub_ms, INT64_C(7) * 86400000);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		CHECK_INT(PARSE("run", "--chunk-quota", good[i].text), 0);
		CHECK_INT(options.chunk_quota, good[i].value);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK_REFUSED("--chunk-quota", "run", "--chunk-quota", wrong[i]);
	(void) setenv("A67_CHUNK_QUOTA", "1K", 1);
	(void) setenv("A67_SCRUB_INTERVAL", "0.5", 1);
	CHECK_INT(PARSE("run", "--chunk-quota=2K"), 0);
	CHECK_INT(options.chunk_quota, 2048);
	CHECK_INT(options.scrub_ms, 1800000);
	CHECK_REFUSED("--scrub-interval", "run", "--scrub-interval", "0");
	CHECK_REFUSED("--scrub-interval", "run", "--scrub-interval", "nan");
	CHECK_REFUSED("--scrub-interval", "run", "--scrub-interval", "7d");
	CHECK_REFUSED("--scrub-interval", "run", "--scrub-interval", "1e99");
}

UNIT_MAIN("agent_options", UNIT(nothing_said_leaves_it_to_the_token), UNIT(lists_add_up),
		  UNIT(a_label_that_comes_again_counts), UNIT(variables_hold_lists),
		  UNIT(flags_win_over_variables), UNIT(an_empty_variable_says_nothing),
		  UNIT(wrong_services_are_refused), UNIT(wrong_labels_are_refused),
		  UNIT(too_many_labels_are_refused), UNIT(other_wrong_values_are_refused),
		  UNIT(hosts_are_found_in_front_of_ports), UNIT(plain_http_is_for_loopback_alone),
		  UNIT(url_and_token_may_be_variables), UNIT(room_for_chunks_is_a_size_or_a_share));
