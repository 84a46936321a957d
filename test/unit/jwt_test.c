/*
 * jwt_test.c - tokens accepted, and every kind that must be refused.
 *
 * The golden tokens were made by other implementations (Python's hmac, OpenSSL's Ed25519). Forged ones are
 * put together here with a correct signature, so that each is refused for the reason under test alone.
 */
#include "crypto/jwt.h"

#include <sodium.h>

#include "core/encode.h"
#include "unit.h"

#define NOW	   1900000000
#define HEADER "{\"alg\":\"HS256\",\"kid\":\"k1\",\"typ\":\"JWT\"}"
#define SUB	   "11111111-1111-1111-1111-111111111111"
#define CLAIMS "{\"sub\":\"" SUB "\",\"role\":\"a67_node\",\"aud\":\"a67\",\"exp\":2000000000}"

static const char golden_hs256[] =
	"eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0."
	"eyJzdWIiOiIxMTExMTExMS0xMTExLTExMTEtMTExMS0xMTExMTExMTExMTEiLCJyb2xlIjoiYTY3X25vZGUiLCJhdWQiOi"
	"JhNjciLCJleHAiOjIwMDAwMDAwMDB9.D0dhGecd5aZgHgHuBfLzXCN6wYG9fZIe24sFX7OKH_Y";

static const char golden_eddsa[] =
	"eyJhbGciOiJFZERTQSIsImtpZCI6ImUxIiwidHlwIjoiSldUIn0.eyJhdWQiOiJuIiwiZXhwIjoxfQ."
	"wrv3iY8OD5EWF-lZyliJGfuVAJvjyGrzHkhUl3TkxYR5o7558iwCixlN-cU-bGRoA6GAOfuJ044rePh7uVK0DA";

static A67Keyring ring;
static uint8_t seed[A67_JWT_KEY_BYTES];

static void
prepare(void)
{
	int ready = sodium_init();

	REQUIRE(ready >= 0);
	memset(&ring, 0, sizeof(ring));
	ring.count = 2;
	for (size_t i = 0; i < sizeof(seed); i++)
		seed[i] = (uint8_t) i;
	(void) snprintf(ring.keys[0].kid, A67_JWT_KID_SIZE, "k0");
	memset(ring.keys[0].key, 0x5a, A67_JWT_KEY_BYTES);
	(void) snprintf(ring.keys[1].kid, A67_JWT_KID_SIZE, "k1");
	memcpy(ring.keys[1].key, seed, sizeof(seed));
}

/* A token of any header and payload, signed with k1. */
static const char *
forge(const char *header, const char *payload)
{
	static char token[16384];
	crypto_auth_hmacsha256_state state;
	uint8_t mac[32];
	size_t len;

	(void) a67_base64url_encode(header, strlen(header), token, sizeof(token));
	len = strlen(token);
	token[len++] = '.';
	(void) a67_base64url_encode(payload, strlen(payload), token + len, sizeof(token) - len);
	len = strlen(token);
	crypto_auth_hmacsha256_init(&state, seed, sizeof(seed));
	crypto_auth_hmacsha256_update(&state, (const unsigned char *) token, len);
	crypto_auth_hmacsha256_final(&state, mac);
	token[len++] = '.';
	(void) a67_base64url_encode(mac, sizeof(mac), token + len, sizeof(token) - len);
	return token;
}

/* What verification says: NULL, or the refusal. The token is given in memory of exactly its size. */
static const char *
verdict_at(const char *token, size_t len, int64_t now_s)
{
	A67JwtCheck check = {&ring, A67_JWT_AUDIENCE, now_s};
	A67JwtClaims claims;
	char *exact = malloc(len + (len == 0));
	const char *refusal;
	bool ok;

	memcpy(exact, token, len);
	memset(&claims, 0xee, sizeof(claims));
	ok = a67_jwt_verify_hs256(exact, len, &check, &claims);
	free(exact);
	refusal = claims.refusal;
	CHECK(ok == (refusal == NULL));
	if (!ok)
	{
		CHECK_UINT(claims.json_len, 0);
		CHECK_STR(claims.sub, "");
		CHECK_STR(claims.role, "");
	}
	return refusal;
}

static const char *
verdict(const char *token)
{
	return verdict_at(token, strlen(token), NOW);
}

static void
golden_token_is_accepted(void)
{
	A67JwtCheck check = {&ring, A67_JWT_AUDIENCE, NOW};
	A67JwtClaims claims;

	prepare();
	REQUIRE(a67_jwt_verify_hs256(golden_hs256, strlen(golden_hs256), &check, &claims));
	CHECK(claims.refusal == NULL);
	CHECK_STR(claims.sub, SUB);
	CHECK_STR(claims.role, "a67_node");
	CHECK_INT(claims.exp, 2000000000);
	CHECK_STR(claims.json, CLAIMS);
	CHECK_UINT(claims.json_len, strlen(CLAIMS));
	CHECK_STR(forge(HEADER, CLAIMS), golden_hs256);
}

static void
variants_are_accepted(void)
{
	static const char *const headers[] = {
		"{\"alg\":\"HS256\",\"kid\":\"k1\"}",
		"{\"kid\":\"k1\",\"extra\":[1,2],\"alg\":\"HS256\"}",
	};
	static const char *const payloads[] = {
		"{\"aud\":[\"x\",\"a67\"],\"exp\":2000000000}",
		"{\"aud\":\"a67\",\"exp\":1900000001.5}",
		"{\"aud\":\"a67\",\"exp\":2000000000,\"nbf\":1900000030}",
		"{\"aud\":\"a67\",\"exp\":2000000000,\"iat\":\"anything\",\"own\":{\"a\":null}}",
	};

	prepare();
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		CHECK_STR(verdict(forge(headers[i], CLAIMS)), NULL);
	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
		CHECK_STR(verdict(forge(HEADER, payloads[i])), NULL);
}

static void
headers_are_refused(void)
{
	static const char *const headers[] = {
		"{\"alg\":\"none\",\"kid\":\"k1\"}",
		"{\"alg\":\"None\",\"kid\":\"k1\"}",
		"{\"alg\":\"hs256\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS512\",\"kid\":\"k1\"}",
		"{\"alg\":\"EdDSA\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS256\\u0000\",\"kid\":\"k1\"}",
		"{\"alg\":[\"HS256\"],\"kid\":\"k1\"}",
		"{\"alg\":256,\"kid\":\"k1\"}",
		"{\"kid\":\"k1\"}",
		"{\"alg\":\"HS256\"}",
		"{\"alg\":\"HS256\",\"kid\":\"\"}",
		"{\"alg\":\"HS256\",\"kid\":\"k2\"}",
		"{\"alg\":\"HS256\",\"kid\":\"k11\"}",
		"{\"alg\":\"HS256\",\"kid\":\"k\"}",
		"{\"alg\":\"HS256\",\"kid\":1}",
		"{\"alg\":\"HS256\",\"alg\":\"HS256\",\"kid\":\"k1\"}",
		"{\"alg\":\"none\",\"alg\":\"HS256\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS256\",\"kid\":\"k1\",\"crit\":[\"exp\"]}",
		"{\"alg\":\"HS256\",\"kid\":\"k1\",\"typ\":\"JWE\"}",
		"{\"alg\":\"HS256\",\"kid\":\"k1\",\"typ\":null}",
		"[\"HS256\"]",
		"\"HS256\"",
		"{\"alg\":\"HS256\",\"kid\":\"k1\"} x",
		"{",
		"",
	};

	prepare();
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		CHECK_STR(verdict(forge(headers[i], CLAIMS)), "token is invalid");
}

static void
claims_are_refused(void)
{
	static const struct
	{
		const char *payload;
		const char *refusal;
	} cases[] = {
		{"{\"aud\":\"a67\"}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":\"2000000000\"}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":null}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":1e300}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":9223372036854775807}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":99999999999999999999}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":1900000000}", "token has expired"},
		{"{\"aud\":\"a67\",\"exp\":-5}", "token has expired"},
		{"{\"aud\":\"a67\",\"exp\":1,\"exp\":2000000000}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"nbf\":1900000031}", "token is not valid yet"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"nbf\":\"1\"}", "token is invalid"},
		{"{\"exp\":2000000000}", "token is for another audience"},
		{"{\"aud\":\"other\",\"exp\":2000000000}", "token is for another audience"},
		{"{\"aud\":\"a67 \",\"exp\":2000000000}", "token is for another audience"},
		{"{\"aud\":[],\"exp\":2000000000}", "token is for another audience"},
		{"{\"aud\":[\"b\",67],\"exp\":2000000000}", "token is for another audience"},
		{"{\"aud\":{\"a67\":1},\"exp\":2000000000}", "token is for another audience"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"sub\":7}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"sub\":\"" SUB "1\"}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"role\":[\"a67_admin\"]}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"x\":\"\\u0000\"}", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":2000000000,\"x\":\"\xff\"}", "token is invalid"},
		{"[]", "token is invalid"},
		{"7", "token is invalid"},
		{"{\"aud\":\"a67\",\"exp\":2000000000}{}", "token is invalid"},
		{"", "token is invalid"},
	};

	prepare();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_STR(verdict(forge(HEADER, cases[i].payload)), cases[i].refusal);
}

/* Every single character changed, and every shorter token. */
static void
tampered_and_truncated_are_refused(void)
{
	static const char alphabet[] = "Aa0-._= ~\xff";
	char token[sizeof(golden_hs256)];
	size_t len = strlen(golden_hs256);

	prepare();
	for (size_t i = 0; i < len; i++)
	{
		for (size_t k = 0; k < sizeof(alphabet); k++)
		{
			memcpy(token, golden_hs256, sizeof(token));
			if (token[i] == alphabet[k])
				continue;
			token[i] = alphabet[k];
			CHECK(verdict_at(token, len, NOW) != NULL);
		}
		CHECK_STR(verdict_at(golden_hs256, i, NOW), "token is invalid");
	}
	CHECK_STR(verdict_at(golden_hs256, sizeof(golden_hs256), NOW), "token is invalid");
}

static void
shapes_are_refused(void)
{
	static const char *const tokens[] = {
		"", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d", "eyJhbGciOiJub25lIn0.e30.",
	};
	char doubled[sizeof(golden_hs256) + 2];

	prepare();
	for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
		CHECK_STR(verdict(tokens[i]), "token is invalid");
	(void) snprintf(doubled, sizeof(doubled), "%s.", golden_hs256);
	CHECK_STR(verdict(doubled), "token is invalid");
	(void) snprintf(doubled, sizeof(doubled), "%s=", golden_hs256);
	CHECK_STR(verdict(doubled), "token is invalid");
	CHECK_STR(verdict(golden_eddsa), "token is invalid");
}

static void
oversize_is_refused(void)
{
	static char payload[8192];
	static char header[2048];
	static char noise[A67_JWT_MAX + 1];
	int room = A67_JWT_CLAIMS_MAX - (int) strlen("{\"aud\":\"a67\",\"exp\":2000000000,\"x\":\"\"}");

	prepare();
	(void) snprintf(payload, sizeof(payload), "{\"aud\":\"a67\",\"exp\":2000000000,\"x\":\"%*s\"}",
					room, "");
	CHECK_STR(verdict(forge(HEADER, payload)), NULL);
	(void) snprintf(payload, sizeof(payload), "{\"aud\":\"a67\",\"exp\":2000000000,\"x\":\"%*s\"}",
					room + 1, "");
	CHECK_STR(verdict(forge(HEADER, payload)), "token is invalid");
	(void) snprintf(payload, sizeof(payload), "{\"aud\":\"a67\",\"exp\":2000000000,\"x\":\"%*s\"}",
					7000, "");
	CHECK_STR(verdict(forge(HEADER, payload)), "token is invalid");
	(void) snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"k1\",\"x\":\"%*s\"}", 600,
					"");
	CHECK_STR(verdict(forge(header, CLAIMS)), "token is invalid");
	memset(noise, '.', sizeof(noise));
	CHECK_STR(verdict_at(noise, sizeof(noise), NOW), "token is invalid");

	/* As deep as fits. */
	memset(payload, '[', A67_JWT_CLAIMS_MAX);
	payload[A67_JWT_CLAIMS_MAX] = '\0';
	CHECK_STR(verdict(forge(HEADER, payload)), "token is invalid");
}

static void
keys_are_told_apart(void)
{
	prepare();
	CHECK_STR(verdict(forge("{\"alg\":\"HS256\",\"kid\":\"k0\"}", CLAIMS)), "token is invalid");
	memcpy(ring.keys[0].key, seed, sizeof(seed));
	CHECK_STR(verdict(forge("{\"alg\":\"HS256\",\"kid\":\"k0\"}", CLAIMS)), NULL);
	ring.count = 1;
	CHECK_STR(verdict(golden_hs256), "token is invalid");
	ring.count = 0;
	CHECK_STR(verdict(golden_hs256), "token is invalid");
}

/* A token made by one key of a full ring. */
static const char *
sign_with(uint32_t key, char token[A67_JWT_MAX + 1])
{
	A67JwtSigner signer = {A67_JWT_HS256, ring.keys[key].kid, ring.keys[key].key};

	CHECK(a67_jwt_sign(&signer, CLAIMS, strlen(CLAIMS), token, A67_JWT_MAX + 1));
	return token;
}

/* Rotation: tokens of the old key stay good beside those of the new one, until the old key is gone. */
static void
rotated_keys_stay_good(void)
{
	char tokens[A67_KEYRING_MAX][A67_JWT_MAX + 1];

	prepare();
	ring.count = A67_KEYRING_MAX;
	for (uint32_t i = 0; i < ring.count; i++)
	{
		(void) snprintf(ring.keys[i].kid, A67_JWT_KID_SIZE, "key-%" PRIu32, i);
		memset(ring.keys[i].key, (int) i + 1, A67_JWT_KEY_BYTES);
		(void) sign_with(i, tokens[i]);
	}
	for (uint32_t i = 0; i < ring.count; i++)
		CHECK_STR(verdict(tokens[i]), NULL);

	/* The right key under another id, and the other way round. */
	memcpy(ring.keys[0].kid, "key-1", sizeof("key-1"));
	CHECK_STR(verdict(tokens[0]), "token is invalid");
	CHECK_STR(verdict(tokens[1]), "token is invalid");

	/* The last key retires. */
	ring.count--;
	CHECK_STR(verdict(tokens[A67_KEYRING_MAX - 1]), "token is invalid");
	CHECK_STR(verdict(tokens[A67_KEYRING_MAX - 2]), NULL);

	/* A count beyond the ring is not believed. */
	ring.count = A67_KEYRING_MAX + 100;
	CHECK_STR(verdict(forge("{\"alg\":\"HS256\",\"kid\":\"k1\"}", CLAIMS)), "token is invalid");
}

static void
audience_is_the_callers(void)
{
	static const struct
	{
		const char *audience;
		const char *refusal;
	} cases[] = {
		{"a67", NULL},
		{"a67-refresh", "token is for another audience"},
		{"a6", "token is for another audience"},
		{"A67", "token is for another audience"},
		{"", "token is for another audience"},
	};
	A67JwtClaims claims;

	prepare();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		A67JwtCheck check = {&ring, cases[i].audience, NOW};

		(void) a67_jwt_verify_hs256(golden_hs256, strlen(golden_hs256), &check, &claims);
		CHECK_STR(claims.refusal, cases[i].refusal);
	}
}

static void
expiry_is_exact(void)
{
	size_t len = strlen(golden_hs256);

	prepare();
	CHECK_STR(verdict_at(golden_hs256, len, 1999999999), NULL);
	CHECK_STR(verdict_at(golden_hs256, len, 2000000000), "token has expired");
	CHECK_STR(verdict_at(golden_hs256, len, INT64_MAX), "token has expired");
	CHECK_STR(verdict_at(golden_hs256, len, 0), NULL);
}

static void
signing_gives_golden_tokens(void)
{
	A67JwtSigner hs256 = {A67_JWT_HS256, "k1", seed};
	A67JwtSigner eddsa = {A67_JWT_EDDSA, "e1", seed};
	static const char spaced[] = " { \"aud\" : \"n\",\n\"exp\" : 1 } ";
	char token[A67_JWT_MAX + 1];

	prepare();
	CHECK(a67_jwt_sign(&hs256, CLAIMS, strlen(CLAIMS), token, sizeof(token)));
	CHECK_STR(token, golden_hs256);
	CHECK(a67_jwt_sign(&eddsa, spaced, strlen(spaced), token, sizeof(token)));
	CHECK_STR(token, golden_eddsa);
}

static void
signing_needs_exact_room(void)
{
	A67JwtSigner signer = {A67_JWT_HS256, "k1", seed};
	size_t need = strlen(golden_hs256) + 1;

	prepare();
	for (size_t room = 1; room <= need; room++)
	{
		char *out = malloc(room);
		bool ok = a67_jwt_sign(&signer, CLAIMS, strlen(CLAIMS), out, room);

		CHECK(ok == (room == need));
		free(out);
	}
}

static void
signing_refuses(void)
{
	static const char *const claims[] = {"", "[]", "7", "null", "{", "{}x", "{\"a\":1,\"a\":2}"};
	static const char *const kids[] = {
		"", "a b", "a\"b", "a\\b",
		"0123456789012345678901234567890123456789012345678901234567890123"};
	A67JwtSigner signer = {A67_JWT_HS256, "k1", seed};
	char token[A67_JWT_MAX + 1];
	char large[A67_JWT_CLAIMS_MAX + 64];

	prepare();
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++)
		CHECK(!a67_jwt_sign(&signer, claims[i], strlen(claims[i]), token, sizeof(token)));
	for (size_t i = 0; i < sizeof(kids) / sizeof(kids[0]); i++)
	{
		signer.kid = kids[i];
		CHECK(!a67_jwt_sign(&signer, "{}", 2, token, sizeof(token)));
	}
	signer.kid = "k1";
	(void) snprintf(large, sizeof(large), "{\"x\":\"%*s\"}", A67_JWT_CLAIMS_MAX - 8, "");
	CHECK(a67_jwt_sign(&signer, large, strlen(large), token, sizeof(token)));
	(void) snprintf(large, sizeof(large), "{\"x\":\"%*s\"}", A67_JWT_CLAIMS_MAX - 7, "");
	CHECK(!a67_jwt_sign(&signer, large, strlen(large), token, sizeof(token)));
}

UNIT_MAIN("jwt", UNIT(golden_token_is_accepted), UNIT(variants_are_accepted),
		  UNIT(headers_are_refused), UNIT(claims_are_refused),
		  UNIT(tampered_and_truncated_are_refused), UNIT(shapes_are_refused),
		  UNIT(oversize_is_refused), UNIT(keys_are_told_apart), UNIT(rotated_keys_stay_good),
		  UNIT(audience_is_the_callers), UNIT(expiry_is_exact), UNIT(signing_gives_golden_tokens),
		  UNIT(signing_needs_exact_room), UNIT(signing_refuses));
