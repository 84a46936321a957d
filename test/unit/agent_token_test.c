/*
 * agent_token_test.c - join tokens, times of node tokens, and the judgement of commands: what is
 * accepted, and each way in which a token can be wrong.
 */
#include "token.h"

#include <errno.h>

#include <sodium.h>

#include "core/encode.h"
#include "unit.h"

#define NODE  "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
#define NOW_S 1800000000
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static unsigned char public_key[crypto_sign_PUBLICKEYBYTES];
static unsigned char secret_key[crypto_sign_SECRETKEYBYTES];
static A67Replay replay;

static void
make_keys(void)
{
	static const unsigned char seed[crypto_sign_SEEDBYTES] = {1, 2, 3};

	if (sodium_init() < 0)
		abort();
	(void) crypto_sign_seed_keypair(public_key, secret_key, seed);
	a67_replay_init(&replay);
}

/* A token of the two JSON texts, signed whatever they say. */
static void
make_token(const char *header, const char *claims, char *out, size_t size)
{
	unsigned char signature[crypto_sign_BYTES];
	size_t used;

	REQUIRE(a67_base64url_encode(header, strlen(header), out, size));
	used = strlen(out);
	out[used++] = '.';
	REQUIRE(a67_base64url_encode(claims, strlen(claims), out + used, size - used));
	used += strlen(out + used);
	(void) crypto_sign_detached(signature, NULL, (const unsigned char *) out, used, secret_key);
	out[used++] = '.';
	REQUIRE(a67_base64url_encode(signature, sizeof(signature), out + used, size - used));
}

static A67CommandCheck
check_of(void)
{
	A67CommandCheck check = {
		.controller_key = public_key,
		.node_id = NODE,
		.method = "GET",
		.method_len = 3,
		.target = "/v1/replicas",
		.target_len = 12,
		.now_s = NOW_S,
	};

	return check;
}

static int
judge(const char *header, const char *claims, const A67CommandCheck *check, A67Why *why)
{
	char token[A67_BEARER_MAX_BYTES];

	make_token(header, claims, token, sizeof(token));
	return a67_command_verify(check, token, strlen(token), &replay, why);
}

#define HEADER "{\"alg\":\"EdDSA\",\"typ\":\"JWT\"}"

static void
claims_text(char *out, size_t size, const char *jti, int64_t iat, int64_t exp)
{
	(void) snprintf(out, size,
					"{\"aud\":\"" NODE "\",\"iat\":%" PRId64 ",\"exp\":%" PRId64
					",\"jti\":\"%s\",\"method\":\"GET\",\"path\":\"/v1/replicas\","
					"\"body_sha256\":\"" EMPTY "\"}",
					iat, exp, jti);
}

static void
good_command_is_taken_once(void)
{
	A67CommandCheck check = check_of();
	char claims[512];
	A67Why why;

	make_keys();
	claims_text(claims, sizeof(claims), "once", NOW_S, NOW_S + 60);
	check.head_only = true;
	CHECK_INT(judge(HEADER, claims, &check, &why), 0);
	check.head_only = false;
	CHECK_INT(judge(HEADER, claims, &check, &why), 0);
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	CHECK_STR(why.text, "command token has been used already");
}

static void
clocks_may_differ_by_thirty_seconds(void)
{
	static const struct
	{
		int64_t iat, exp;
		int want;
	} cases[] = {
		{NOW_S - 90, NOW_S - 30, 0},  {NOW_S - 91, NOW_S - 31, -EACCES},
		{NOW_S + 30, NOW_S + 90, 0},  {NOW_S + 31, NOW_S + 91, -EACCES},
		{NOW_S, NOW_S + 61, -EACCES}, {NOW_S, NOW_S, -EACCES},
		{NOW_S + 5, NOW_S, -EACCES},  {-5, 5, -EACCES},
		{NOW_S, INT64_MAX, -EACCES},
	};
	char claims[512];
	char jti[16];
	A67Why why;

	make_keys();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		A67CommandCheck check = check_of();

		(void) snprintf(jti, sizeof(jti), "t%zu", i);
		claims_text(claims, sizeof(claims), jti, cases[i].iat, cases[i].exp);
		CHECK_INT(judge(HEADER, claims, &check, &why), cases[i].want);
	}
}

static void
each_claim_binds(void)
{
	A67CommandCheck check;
	char claims[512];
	A67Why why;

	make_keys();
	claims_text(claims, sizeof(claims), "bound", NOW_S, NOW_S + 30);
	check = check_of();
	check.node_id = "00000000-0000-0000-0000-000000000000";
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	CHECK_STR(why.text, "command token is for another node");
	check = check_of();
	check.method = "PUT";
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	check = check_of();
	check.target_len = 11;
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	CHECK_STR(why.text, "command token is for another request");
	check = check_of();
	check.body = "x";
	check.body_len = 1;
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	CHECK_STR(why.text, "command token is for another body");
	/* None of these spent the jti. */
	check = check_of();
	CHECK_INT(judge(HEADER, claims, &check, &why), 0);
}

static void
algorithm_is_never_taken_from_the_token(void)
{
	static const char *const headers[] = {
		"{\"alg\":\"none\"}",
		"{\"alg\":\"HS256\"}",
		"{\"alg\":\"eddsa\"}",
		"{}",
		"[]",
		"",
		"{\"alg\":\"EdDSA\",\"crit\":[\"exp\"]}",
		"{\"alg\":\"EdDSA\",\"alg\":\"EdDSA\"}",
		"{\"alg\":[\"EdDSA\"]}",
	};
	A67CommandCheck check = check_of();
	char claims[512];
	A67Why why;

	make_keys();
	claims_text(claims, sizeof(claims), "alg", NOW_S, NOW_S + 30);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		CHECK_INT(judge(headers[i], claims, &check, &why), -EACCES);
}

static void
claims_of_wrong_kinds_are_refused(void)
{
	static const char *const texts[] = {
		"",
		"null",
		"[]",
		"\"x\"",
		"{",
		"{}",
		"{\"aud\":\"" NODE "\"}",
		"{\"aud\":[\"" NODE "\"],\"iat\":1800000000,\"exp\":1800000030,\"jti\":\"a\","
		"\"method\":\"GET\",\"path\":\"/v1/replicas\",\"body_sha256\":\"" EMPTY "\"}",
		"{\"aud\":\"" NODE "\",\"iat\":1800000000,\"exp\":1800000030,\"jti\":7,"
		"\"method\":\"GET\",\"path\":\"/v1/replicas\",\"body_sha256\":\"" EMPTY "\"}",
		"{\"aud\":\"" NODE "\",\"iat\":1800000000,\"exp\":1800000030,\"jti\":\"\","
		"\"method\":\"GET\",\"path\":\"/v1/replicas\",\"body_sha256\":\"" EMPTY "\"}",
		"{\"aud\":\"" NODE "\",\"iat\":1800000000,\"exp\":1e300,\"jti\":\"b\","
		"\"method\":\"GET\",\"path\":\"/v1/replicas\",\"body_sha256\":\"" EMPTY "\"}",
		"{\"aud\":\"" NODE "\",\"iat\":1800000000,\"exp\":1800000030,\"jti\":\"c\","
		"\"method\":\"GET\",\"path\":\"/v1/replicas\",\"body_sha256\":null}",
	};
	A67CommandCheck check = check_of();
	A67Why why;

	make_keys();
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK_INT(judge(HEADER, texts[i], &check, &why), -EACCES);
}

/* Every token that differs in one bit from a good one is refused. */
static void
no_flipped_bit_passes(void)
{
	A67CommandCheck check = check_of();
	char claims[512];
	char token[A67_BEARER_MAX_BYTES];
	size_t len;
	A67Why why;
	int taken = 0;

	make_keys();
	claims_text(claims, sizeof(claims), "bits", NOW_S, NOW_S + 30);
	make_token(HEADER, claims, token, sizeof(token));
	len = strlen(token);
	check.head_only = true;
	REQUIRE(a67_command_verify(&check, token, len, &replay, &why) == 0);
	for (size_t i = 0; i < len; i++)
	{
		char kept = token[i];

		token[i] = (char) (kept ^ (1 << (i % 7)));
		taken += a67_command_verify(&check, token, len, &replay, &why) == 0;
		token[i] = kept;
		taken += a67_command_verify(&check, token, i, &replay, &why) == 0;
	}
	CHECK_INT(taken, 0);
}

static void
replay_cache_is_bounded_and_forgets_what_expired(void)
{
	A67CommandCheck check = check_of();
	char claims[512];
	char jti[32];
	A67Why why;

	make_keys();
	for (int i = 0; i < A67_REPLAY_MAX; i++)
	{
		replay.seen[i].hash = (uint64_t) i;
		replay.seen[i].until_s = NOW_S + (i % 16 == 0 ? 1 : 60);
	}
	claims_text(claims, sizeof(claims), "full", NOW_S, NOW_S + 30);
	CHECK_INT(judge(HEADER, claims, &check, &why), -EBUSY);
	check.now_s = NOW_S + 2;
	for (int i = 0; i < 10; i++)
	{
		(void) snprintf(jti, sizeof(jti), "late%d", i);
		claims_text(claims, sizeof(claims), jti, NOW_S, NOW_S + 30);
		CHECK_INT(judge(HEADER, claims, &check, &why), 0);
		CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	}
	for (int i = 0; i < A67_REPLAY_MAX; i++)
		replay.seen[i].until_s = NOW_S + 60;
	claims_text(claims, sizeof(claims), "full again", NOW_S, NOW_S + 30);
	CHECK_INT(judge(HEADER, claims, &check, &why), -EBUSY);
}

/* Between others, and in places that others have left. */
static void
many_commands_are_told_apart(void)
{
	A67CommandCheck check = check_of();
	char claims[512];
	char jti[32];
	A67Why why;

	make_keys();
	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < 1000; i++)
		{
			(void) snprintf(jti, sizeof(jti), "many%d", i);
			claims_text(claims, sizeof(claims), jti, NOW_S, NOW_S + 1 + i % 30);
			CHECK_INT(judge(HEADER, claims, &check, &why), round == 0 ? 0 : -EACCES);
		}
	}
}

/* A body that is streamed is known by its digest before it is here. */
static void
a_digest_stands_for_the_body(void)
{
	static const char empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	A67CommandCheck check = check_of();
	char claims[512];
	A67Why why;

	make_keys();
	check.body = "not looked at";
	check.body_len = 13;
	check.body_sha256 = empty;
	claims_text(claims, sizeof(claims), "digest", NOW_S, NOW_S + 30);
	CHECK_INT(judge(HEADER, claims, &check, &why), 0);
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	check.body_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85";
	claims_text(claims, sizeof(claims), "other digest", NOW_S, NOW_S + 30);
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	CHECK_STR(why.text, "command token is for another body");
}

/* Where a command that is repeated to a later agent would do harm. */
static void
tokens_older_than_the_agent_are_refused(void)
{
	A67CommandCheck check = check_of();
	char claims[512];
	A67Why why;

	make_keys();
	check.not_before_s = NOW_S;
	claims_text(claims, sizeof(claims), "older", NOW_S - 1, NOW_S + 30);
	CHECK_INT(judge(HEADER, claims, &check, &why), -EACCES);
	claims_text(claims, sizeof(claims), "as old", NOW_S, NOW_S + 30);
	CHECK_INT(judge(HEADER, claims, &check, &why), 0);
}

static void
join_tokens(void)
{
	static const char *const bad[] = {
		"",
		"a67j.",
		"a67j..",
		"a67j.AAAA.AAAA",
		"b67j.x.y",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAA",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA."
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.",
		"a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA."
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	};
	A67JoinKeys keys;
	A67Why why;

	make_keys();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_INT(a67_join_token_parse(bad[i], &keys, &why), -EINVAL);
	CHECK_INT(a67_join_token_parse("a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA."
								   "_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
								   &keys, &why),
			  0);
	CHECK_INT(keys.controller[0], 0xff);
	CHECK_INT(keys.controller[31], 0);
	CHECK(!keys.pinned);
	CHECK_INT(a67_join_token_parse("a67j.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA."
								   "_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA."
								   "_gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
								   &keys, &why),
			  0);
	CHECK(keys.pinned);
	CHECK_INT(keys.controller[0], 0xff);
	CHECK_INT(keys.tls_pin[0], 0xfe);
}

static void
times_of_a_node_token(void)
{
	int64_t iat = 0;
	int64_t exp = 0;

	/* {"iat":5,"exp":9} */
	CHECK(a67_jwt_times("e30.eyJpYXQiOjUsImV4cCI6OX0.c2ln", &iat, &exp));
	CHECK_INT(iat, 5);
	CHECK_INT(exp, 9);
	CHECK(!a67_jwt_times("e30.e30.c2ln", &iat, &exp));
	CHECK(!a67_jwt_times("e30.eyJpYXQiOjUsImV4cCI6OX0", &iat, &exp));
	CHECK(!a67_jwt_times("", &iat, &exp));
}

static int
judge_as(const char *jti, const A67CommandCheck *check)
{
	char claims[512];
	A67Why why;

	claims_text(claims, sizeof(claims), jti, NOW_S, NOW_S + 60);
	return judge(HEADER, claims, check, &why);
}

static void
next_key_is_obeyed_too(void)
{
	static const unsigned char seed[crypto_sign_SEEDBYTES] = {4, 5, 6};
	unsigned char other_secret[crypto_sign_SECRETKEYBYTES];
	unsigned char other[crypto_sign_PUBLICKEYBYTES];
	A67CommandCheck check = check_of();
	bool by_next = true;

	make_keys();
	(void) crypto_sign_seed_keypair(other, other_secret, seed);
	check.next_key = other;
	check.by_next = &by_next;
	CHECK_INT(judge_as("one", &check), 0);
	CHECK(!by_next);
	check.controller_key = other;
	check.next_key = public_key;
	CHECK_INT(judge_as("two", &check), 0);
	CHECK(by_next);
	check.next_key = other;
	CHECK_INT(judge_as("three", &check), -EACCES);
	CHECK(!by_next);
}

static void
handovers_are_signed_by_the_key_before(void)
{
	static const char header[] = "{\"alg\":\"EdDSA\"}";
	static const char good[] = "{\"sub\":\"controller-key\",\"next\":"
							   "\"_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"iat\":1}";
	static const char *const bad[] = {
		"{}",
		"{\"sub\":\"controller-key\"}",
		"{\"sub\":\"controller-key\",\"next\":5}",
		"{\"sub\":\"controller-key\",\"next\":\"_w\"}",
		"{\"sub\":\"controller-key\",\"next\":\"_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
		"{\"sub\":\"node\",\"next\":\"_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
		"{\"next\":\"_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
	};
	uint8_t next[A67_KEY_BYTES] = {0};
	uint8_t stranger[A67_KEY_BYTES] = {1};
	char token[2048];

	make_keys();
	make_token(header, good, token, sizeof(token));
	CHECK(a67_handover_read(token, public_key, next));
	CHECK_INT(next[0], 0xff);
	CHECK(!a67_handover_read(token, stranger, next));
	token[strlen(token) - 3] ^= 1;
	CHECK(!a67_handover_read(token, public_key, next));
	make_token("{\"alg\":\"none\"}", good, token, sizeof(token));
	CHECK(!a67_handover_read(token, public_key, next));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		make_token(header, bad[i], token, sizeof(token));
		CHECK(!a67_handover_read(token, public_key, next));
	}
	CHECK(!a67_handover_read("", public_key, next));
	CHECK(!a67_handover_read("a.b.c", public_key, next));
}

UNIT_MAIN("agent_token", UNIT(next_key_is_obeyed_too), UNIT(handovers_are_signed_by_the_key_before),
		  UNIT(good_command_is_taken_once), UNIT(clocks_may_differ_by_thirty_seconds),
		  UNIT(each_claim_binds), UNIT(algorithm_is_never_taken_from_the_token),
		  UNIT(claims_of_wrong_kinds_are_refused), UNIT(no_flipped_bit_passes),
		  UNIT(replay_cache_is_bounded_and_forgets_what_expired),
		  UNIT(many_commands_are_told_apart), UNIT(a_digest_stands_for_the_body),
		  UNIT(tokens_older_than_the_agent_are_refused), UNIT(join_tokens),
		  UNIT(times_of_a_node_token));
