/*
 * agent_desired_test.c - desired states: what is taken, defaults, which field a complaint names, and
 * what counts as the same content.
 */
#include "desired.h"

#include <signal.h>

#include "unit.h"

#define DIGEST	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PACKAGE "\"package\":{\"digest\":\"" DIGEST "\",\"path\":\"/p\"}"
#define REST                                                                   \
	"\"deployment\":\"d\",\"release\":1,\"app_type\":\"backend\"," PACKAGE "," \
	"\"entrypoint\":[\"a\",\"\"]"

/* A good text but for these fields, which come first. */
#define WITH(fields) "{\"generation\":1," fields "," REST "}"
#define BARE(app_type, fields)                                                                    \
	"{\"generation\":1,\"deployment\":\"d\",\"release\":1,\"app_type\":\"" app_type "\"," PACKAGE \
	"," fields "}"

#define SEALED(sealed, version, change)                                          \
	"{\"generation\":1,\"sealed_env\":\"" sealed "\",\"env_version\":\"" version \
	"\",\"on_secret_change\":\"" change "\"," REST "}"

static A67Desired *
parse(const char *text, A67Why *why)
{
	why->text[0] = '\0';
	return a67_desired_parse(text, strlen(text), why);
}

static void
least_gets_defaults(void)
{
	A67Why why;
	A67Desired *desired = parse("{\"generation\":9223372036854775807," REST "}", &why);

	REQUIRE(desired != NULL);
	CHECK_INT(desired->generation, INT64_MAX);
	CHECK_STR(desired->digest, DIGEST);
	CHECK_STR(desired->package_path, "/p");
	CHECK(desired->sealed_env == NULL && desired->env_version == NULL &&
		  desired->health_path == NULL);
	CHECK_INT(desired->change_signal, A67_CHANGE_RESTART);
	CHECK_INT(desired->health_interval_ms, 10000);
	CHECK_INT(desired->health_timeout_ms, 2000);
	CHECK_INT(desired->health_retries, 3);
	CHECK_INT(desired->stop_grace_ms, 10000);
	CHECK_INT(desired->memory_bytes, 0);
	CHECK_INT(json_array_size(desired->entrypoint), 2);
	CHECK_INT(desired->runner, A67_RUNNER_PROCESS);
	CHECK_INT(desired->runtime, A67_RUNTIME_EXECUTABLE);
	CHECK_INT(desired->health, A67_HEALTH_TCP);
	CHECK_INT(desired->on_partition, A67_PARTITION_CONTINUE);
	CHECK(desired->health_command == NULL);
	CHECK_INT(desired->partition_deadline_ms, 60000);
	CHECK_INT(desired->disk_bytes + desired->pids + desired->run_timeout_ms, 0);
	a67_desired_free(desired);
}

static void
every_field_is_taken(void)
{
	A67Why why;
	A67Desired *desired = parse(
		BARE("cron",
			 "\"entrypoint\":[\"x.py\",\"-v\"],\"runner\":\"container\",\"runtime\":\"python\","
			 "\"on_partition\":\"stop\",\"partition_deadline_ms\":5000,\"run_timeout_ms\":7000,"
			 "\"resources\":{\"memory_bytes\":1,\"cpu\":0.5,\"disk_bytes\":2,\"pids\":3},"
			 "\"health_check\":{\"command\":[\"true\",\"\"],\"interval_ms\":86400000,"
			 "\"timeout_ms\":100,\"retries\":99}"),
		&why);

	REQUIRE(desired != NULL);
	CHECK_INT(desired->app_type, A67_APP_CRON);
	CHECK_INT(desired->runner, A67_RUNNER_CONTAINER);
	CHECK_INT(desired->runtime, A67_RUNTIME_PYTHON);
	CHECK_INT(desired->on_partition, A67_PARTITION_STOP);
	CHECK_INT(desired->partition_deadline_ms, 5000);
	CHECK_INT(desired->run_timeout_ms, 7000);
	CHECK_INT(desired->memory_bytes, 1);
	CHECK(desired->cpu > 0.49 && desired->cpu < 0.51);
	CHECK_INT(desired->disk_bytes, 2);
	CHECK_INT(desired->pids, 3);
	CHECK_INT(desired->health, A67_HEALTH_COMMAND);
	CHECK_STR(json_string_value(json_array_get(desired->health_command, 0)), "true");
	CHECK_INT(desired->health_interval_ms, 86400000);
	CHECK_INT(desired->health_timeout_ms, 100);
	CHECK_INT(desired->health_retries, 99);
	a67_desired_free(desired);
}

/* What is asked for wins; else a backend is asked for a connection, and a worker needs to live. */
static void
health_check_follows_the_app(void)
{
	static const struct
	{
		const char *text;
		A67HealthKind kind;
	} cases[] = {
		{BARE("backend", "\"entrypoint\":[\"a\"]"), A67_HEALTH_TCP},
		{BARE("worker", "\"entrypoint\":[\"a\"]"), A67_HEALTH_ALIVE},
		{BARE("worker", "\"entrypoint\":[\"a\"],\"health_check\":{\"retries\":1}"),
		 A67_HEALTH_ALIVE},
		{BARE("worker", "\"entrypoint\":[\"a\"],\"health_check\":{\"tcp\":false}"),
		 A67_HEALTH_ALIVE},
		{BARE("worker", "\"entrypoint\":[\"a\"],\"health_check\":{\"tcp\":true}"), A67_HEALTH_TCP},
		{BARE("worker", "\"entrypoint\":[\"a\"],\"health_check\":{\"path\":\"/\"}"),
		 A67_HEALTH_HTTP},
		{BARE("backend", "\"entrypoint\":[\"a\"],\"health_check\":{\"command\":[\"a\"]}"),
		 A67_HEALTH_COMMAND},
		{BARE("backend", "\"runtime\":\"static\""), A67_HEALTH_TCP},
		{BARE("backend", "\"runtime\":\"static\",\"entrypoint\":[]"), A67_HEALTH_TCP},
		{BARE("backend", "\"runtime\":\"static\",\"entrypoint\":[\"public\"]"), A67_HEALTH_TCP},
	};
	A67Why why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		A67Desired *desired = parse(cases[i].text, &why);

		REQUIRE(desired != NULL);
		CHECK_INT(desired->health, cases[i].kind);
		a67_desired_free(desired);
	}
}

static void
null_stands_for_absent_only_where_a_field_may_be_absent(void)
{
	A67Why why;
	A67Desired *desired =
		parse("{\"generation\":1,\"sealed_env\":null,\"health_check\":null,\"resources\":null,"
			  "\"stop_grace_ms\":null," REST "}",
			  &why);

	CHECK(desired != NULL);
	a67_desired_free(desired);
	CHECK(parse("{\"generation\":null," REST "}", &why) == NULL);
	CHECK_STR(why.text, "field \"generation\" must be an integer from 0");
}

typedef struct Complaint
{
	const char *text;
	const char *why;
} Complaint;

static void
complain(const Complaint *cases, size_t count)
{
	A67Why why;

	for (size_t i = 0; i < count; i++)
	{
		CHECK(parse(cases[i].text, &why) == NULL);
		CHECK_STR(why.text, cases[i].why);
	}
}

static void
complaints_name_the_field(void)
{
	static const Complaint cases[] = {
		{"[]", "the body must be a JSON object"},
		{"{" REST "}", "field \"generation\" is missing"},
		{"{\"generation\":1.0," REST "}", "field \"generation\" must be an integer from 0"},
		{"{\"generation\":1,\"colour\":1," REST "}", "unknown field \"colour\""},
		{"{\"generation\":1,\"health_check\":{\"port\":1}," REST "}",
		 "unknown field \"health_check.port\""},
		{"{\"generation\":1,\"health_check\":{\"path\":\"/a b\"}," REST "}",
		 "field \"health_check.path\" must be an absolute path without blanks"},
		{"{\"generation\":1,\"health_check\":{\"path\":\"/a\\u000d\\u000aX: y\"}," REST "}",
		 "field \"health_check.path\" must be an absolute path without blanks"},
		{"{\"generation\":1,\"env\":{\"A\":\"x\"}," REST "}", "unknown field \"env\""},
		{"{\"generation\":1,\"sealed_env\":{}," REST "}",
		 "field \"sealed_env\" must be a string in base64"},
		{"{\"generation\":1,\"sealed_env\":\"\"," REST "}",
		 "field \"sealed_env\" must be a string in base64"},
		{"{\"generation\":1,\"env_version\":\"1\"," REST "}", "field \"sealed_env\" is missing"},
		{"{\"generation\":1,\"sealed_env\":\"x\",\"env_version\":1," REST "}",
		 "field \"env_version\" must be a version"},
		{"{\"generation\":1,\"on_secret_change\":\"SIGKILL\"," REST "}",
		 "field \"on_secret_change\" must be \"restart\", \"SIGHUP\", \"SIGUSR1\", "
		 "\"SIGUSR2\" or \"none\""},
		{"{\"generation\":1,\"resources\":{\"memory_bytes\":1e3}," REST "}",
		 "field \"resources.memory_bytes\" must be an integer from 0"},
	};

	complain(cases, sizeof(cases) / sizeof(cases[0]));
}

static void
complaints_about_how_it_runs_name_the_field(void)
{
	static const Complaint cases[] = {
		{WITH("\"runner\":\"docker\""), "field \"runner\" must be \"process\" or \"container\""},
		{WITH("\"runner\":1"), "field \"runner\" must be \"process\" or \"container\""},
		{WITH("\"runtime\":\"ruby\""),
		 "field \"runtime\" must be \"executable\", \"python\", \"node\" or \"static\""},
		{BARE("daemon", "\"entrypoint\":[\"a\"]"),
		 "field \"app_type\" must be \"backend\", \"worker\" or \"cron\""},
		{BARE("backend", "\"runtime\":\"node\""), "field \"entrypoint\" is missing"},
		{BARE("backend", "\"entrypoint\":[]"), "field \"entrypoint\" must not be empty"},
		{BARE("backend", "\"entrypoint\":[\"\"]"),
		 "field \"entrypoint\" must be an array of at most 64 strings, the first not empty"},
		{BARE("backend", "\"entrypoint\":\"a\""),
		 "field \"entrypoint\" must be an array of at most 64 strings, the first not empty"},
		{BARE("backend", "\"runtime\":\"static\",\"entrypoint\":[\"a\",\"b\"]"),
		 "field \"entrypoint\" must name one directory at most"},
		{BARE("cron", "\"runtime\":\"static\""),
		 "field \"app_type\" must be \"backend\" for static files"},
		{WITH("\"health_check\":{\"tcp\":1}"), "field \"health_check.tcp\" must be true"},
		{WITH("\"health_check\":{\"command\":[]}"),
		 "field \"health_check.command\" must be an array of 1 to 64 strings, the first not empty"},
		{WITH("\"health_check\":{\"command\":[\"a\",1]}"),
		 "field \"health_check.command\" must be an array of 1 to 64 strings, the first not empty"},
		{WITH("\"health_check\":{\"path\":\"/\",\"tcp\":true}"),
		 "field \"health_check\" must have one of path, tcp and command"},
		{WITH("\"health_check\":{\"path\":\"/\",\"command\":[\"a\"]}"),
		 "field \"health_check\" must have one of path, tcp and command"},
		{WITH("\"health_check\":{\"retries\":100}"),
		 "field \"health_check.retries\" must be an integer from 1 to 99"},
		{WITH("\"health_check\":{\"timeout_ms\":99}"),
		 "field \"health_check.timeout_ms\" must be an integer from 100 to 86400000"},
		{WITH("\"resources\":{\"pids\":-1}"),
		 "field \"resources.pids\" must be an integer from 0 to 4194304"},
		{WITH("\"resources\":{\"disk_bytes\":\"1GB\"}"),
		 "field \"resources.disk_bytes\" must be an integer from 0"},
		{WITH("\"on_partition\":\"pause\""),
		 "field \"on_partition\" must be \"continue\" or \"stop\""},
		{WITH("\"partition_deadline_ms\":99"),
		 "field \"partition_deadline_ms\" must be an integer from 100 to 604800000"},
		{WITH("\"run_timeout_ms\":604800001"),
		 "field \"run_timeout_ms\" must be an integer from 0 to 604800000"},
	};

	complain(cases, sizeof(cases) / sizeof(cases[0]));
}

static void
what_is_no_json_is_refused(void)
{
	static const char *const texts[] = {"",
										"{",
										"nul",
										"{\"a\":1,\"a\":2}",
										"{\"a\":\"\\u0000\"}",
										"\xff",
										"{} {}",
										"{\"a\":99999999999999999999}"};
	A67Why why;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		CHECK(parse(texts[i], &why) == NULL);
		CHECK(strlen(why.text) > 0 && strchr(why.text, '\n') == NULL);
	}
}

/* No prefix of a good text is taken, and none is read past its end. */
static void
no_prefix_is_taken(void)
{
	static const char text[] = "{\"generation\":1,\"sealed_env\":\"AAAA\"," REST "}";
	A67Why why;

	for (size_t len = 0; len < sizeof(text) - 1; len++)
	{
		char *copy = malloc(len + 1);

		REQUIRE(copy != NULL);
		memcpy(copy, text, len);
		CHECK(a67_desired_parse(copy, len, &why) == NULL);
		free(copy);
	}
}

static void
bounds_are_kept(void)
{
	A67Why why;
	char *big = malloc(A67_DESIRED_MAX_BYTES + 2);

	REQUIRE(big != NULL);
	memset(big, ' ', A67_DESIRED_MAX_BYTES + 1);
	CHECK(a67_desired_parse(big, A67_DESIRED_MAX_BYTES + 1, &why) == NULL);
	CHECK_STR(why.text, "the body is longer than 1048576 bytes");
	free(big);
}

static void
sameness_ignores_generation_and_order(void)
{
	A67Why why;
	A67Desired *one =
		parse("{\"generation\":1,\"resources\":{\"cpu\":1,\"memory_bytes\":2}," REST "}", &why);
	A67Desired *two =
		parse("{" REST ",\"resources\":{\"memory_bytes\":2,\"cpu\":1},\"generation\":2}", &why);
	A67Desired *other = parse("{\"generation\":1,\"resources\":{\"cpu\":1}," REST "}", &why);

	REQUIRE(one != NULL && two != NULL && other != NULL);
	CHECK(a67_desired_same(one, two));
	CHECK(!a67_desired_same(one, other));
	a67_desired_free(one);
	a67_desired_free(two);
	a67_desired_free(other);
}

/* Sealing gives other bytes each time; what was sealed has a version. */
static void
sameness_goes_by_the_version_of_what_is_sealed(void)
{
	A67Why why;
	A67Desired *one = parse(SEALED("AAAA", "v1", "SIGHUP"), &why);
	A67Desired *again = parse(SEALED("BBBB", "v1", "SIGHUP"), &why);
	A67Desired *newer = parse(SEALED("CCCC", "v2", "SIGHUP"), &why);
	A67Desired *other = parse(SEALED("DDDD", "v2", "none"), &why);
	A67Desired *bare = parse("{\"generation\":1,\"on_secret_change\":\"SIGHUP\"," REST "}", &why);

	REQUIRE(one != NULL && again != NULL && newer != NULL && other != NULL && bare != NULL);
	CHECK_INT(one->change_signal, SIGHUP);
	CHECK_INT(other->change_signal, A67_CHANGE_NONE);
	CHECK(a67_desired_same(one, again) && a67_desired_same_but_secrets(one, again));
	CHECK(!a67_desired_same(one, newer) && a67_desired_same_but_secrets(one, newer));
	CHECK(!a67_desired_same_but_secrets(one, other));
	CHECK(!a67_desired_same_but_secrets(one, bare));
	a67_desired_free(one);
	a67_desired_free(again);
	a67_desired_free(newer);
	a67_desired_free(other);
	a67_desired_free(bare);
}

/* The document can be stored and read again, sealed environment and all. */
static void
whole_document_comes_back(void)
{
	A67Why why;
	A67Desired *one = parse(SEALED("AAAA", "v1", "restart"), &why);
	A67Desired *again;
	json_t *doc;

	REQUIRE(one != NULL);
	CHECK(json_object_get(one->doc, "sealed_env") == NULL);
	doc = a67_desired_json(one);
	REQUIRE(doc != NULL && json_object_set_new(doc, "generation", json_integer(4)) == 0);
	again = a67_desired_from_json(doc, &why);
	json_decref(doc);
	REQUIRE(again != NULL);
	CHECK_STR(json_string_value(again->sealed_env), "AAAA");
	CHECK(a67_desired_same(one, again));
	a67_desired_free(one);
	a67_desired_free(again);
}

UNIT_MAIN("agent_desired", UNIT(least_gets_defaults), UNIT(every_field_is_taken),
		  UNIT(health_check_follows_the_app),
		  UNIT(null_stands_for_absent_only_where_a_field_may_be_absent),
		  UNIT(complaints_name_the_field), UNIT(complaints_about_how_it_runs_name_the_field),
		  UNIT(what_is_no_json_is_refused), UNIT(no_prefix_is_taken), UNIT(bounds_are_kept),
		  UNIT(sameness_ignores_generation_and_order),
		  UNIT(sameness_goes_by_the_version_of_what_is_sealed), UNIT(whole_document_comes_back));
