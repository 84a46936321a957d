/*
 * agent_desired_test.c - desired states: what is taken, defaults, which field a complaint names, and
 * what counts as the same content.
 */
#include "desired.h"

#include "unit.h"

#define DIGEST	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PACKAGE "\"package\":{\"digest\":\"" DIGEST "\",\"path\":\"/p\"}"
#define REST                                                                   \
	"\"deployment\":\"d\",\"release\":1,\"app_type\":\"backend\"," PACKAGE "," \
	"\"entrypoint\":[\"a\",\"\"]"

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
	CHECK(desired->env == NULL && desired->health_path == NULL);
	CHECK_INT(desired->health_interval_ms, 10000);
	CHECK_INT(desired->health_timeout_ms, 2000);
	CHECK_INT(desired->health_retries, 3);
	CHECK_INT(desired->stop_grace_ms, 10000);
	CHECK_INT(desired->memory_bytes, 0);
	CHECK_INT(json_array_size(desired->entrypoint), 2);
	a67_desired_free(desired);
}

static void
null_stands_for_absent_only_where_a_field_may_be_absent(void)
{
	A67Why why;
	A67Desired *desired =
		parse("{\"generation\":1,\"env\":null,\"health_check\":null,\"resources\":null,"
			  "\"stop_grace_ms\":null," REST "}",
			  &why);

	CHECK(desired != NULL);
	a67_desired_free(desired);
	CHECK(parse("{\"generation\":null," REST "}", &why) == NULL);
	CHECK_STR(why.text, "field \"generation\" must be an integer from 0");
}

static void
complaints_name_the_field(void)
{
	static const struct
	{
		const char *text;
		const char *why;
	} cases[] = {
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
		{"{\"generation\":1,\"env\":{\"A67_NODE\":\"x\"}," REST "}",
		 "field \"env\" must be free of PORT and A67_ names, which the agent sets"},
		{"{\"generation\":1,\"env\":{\"A=B\":\"x\"}," REST "}",
		 "field \"env\" must be made of names like A_NAME"},
		{"{\"generation\":1,\"resources\":{\"memory_bytes\":1e3}," REST "}",
		 "field \"resources.memory_bytes\" must be an integer from 0"},
	};
	A67Why why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CHECK(parse(cases[i].text, &why) == NULL);
		CHECK_STR(why.text, cases[i].why);
	}
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
	static const char text[] = "{\"generation\":1,\"env\":{\"A\":\"b\"}," REST "}";
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
	CHECK_STR(why.text, "the body is longer than 131072 bytes");
	free(big);
}

static void
sameness_ignores_generation_and_order(void)
{
	A67Why why;
	A67Desired *one = parse("{\"generation\":1,\"env\":{\"A\":\"1\",\"B\":\"2\"}," REST "}", &why);
	A67Desired *two = parse("{" REST ",\"env\":{\"B\":\"2\",\"A\":\"1\"},\"generation\":2}", &why);
	A67Desired *other = parse("{\"generation\":1,\"env\":{\"A\":\"1\"}," REST "}", &why);

	REQUIRE(one != NULL && two != NULL && other != NULL);
	CHECK(a67_desired_same(one, two));
	CHECK(!a67_desired_same(one, other));
	a67_desired_free(one);
	a67_desired_free(two);
	a67_desired_free(other);
}

UNIT_MAIN("agent_desired", UNIT(least_gets_defaults),
		  UNIT(null_stands_for_absent_only_where_a_field_may_be_absent),
		  UNIT(complaints_name_the_field), UNIT(what_is_no_json_is_refused),
		  UNIT(no_prefix_is_taken), UNIT(bounds_are_kept),
		  UNIT(sameness_ignores_generation_and_order));
