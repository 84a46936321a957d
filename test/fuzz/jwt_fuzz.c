/*
 * jwt_fuzz.c - tokens of arbitrary bytes, genuine tokens of arbitrary contents, and signing.
 *
 * The first byte chooses what the rest is: t a token as a stranger sends it, g the header and (after a line
 * feed) the payload of a token that is then signed with a key of the ring, s claims to be signed by us.
 * Beyond "does not crash": what is accepted bears the MAC of a key of the ring, is current and for the
 * audience, and what we sign with a good header is refused for its claims alone.
 */
#include "crypto/jwt.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/encode.h"

#define NOW		  1900000000
#define INPUT_MAX 8192
#define TOKEN_MAX (2 * INPUT_MAX)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                           \
	do                                                            \
	{                                                             \
		if (!(condition))                                         \
		{                                                         \
			fprintf(stderr, "broken property: %s\n", #condition); \
			abort();                                              \
		}                                                         \
	} while (0)

static A67Keyring ring;

/* Key k0 is all zeros; k1, the one that signs, counts from 0 to 31. */
static void
prepare(void)
{
	int ready = sodium_init();

	MUST(ready >= 0);
	if (ring.count != 0)
		return;
	ring.count = 2;
	memcpy(ring.keys[0].kid, "k0", sizeof("k0"));
	memcpy(ring.keys[1].kid, "k1", sizeof("k1"));
	for (size_t i = 0; i < A67_JWT_KEY_BYTES; i++)
		ring.keys[1].key[i] = (uint8_t) i;
}

static void
mac_of(const uint8_t *key, const char *text, size_t len, uint8_t mac[32])
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, key, A67_JWT_KEY_BYTES);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *) text, len);
	crypto_auth_hmacsha256_final(&state, mac);
}

/* Whether the last part of a token is the MAC of the others by some key of the ring. */
static bool
is_genuine(const char *token, size_t len)
{
	uint8_t given[32];
	uint8_t mac[32];
	size_t given_len = 0;
	size_t dot = len;

	while (dot > 0 && token[dot - 1] != '.')
		dot--;
	if (dot == 0 || !a67_base64url_decode(token + dot, len - dot, given, sizeof(given), &given_len))
		return false;
	for (size_t i = 0; i < ring.count; i++)
	{
		mac_of(ring.keys[i].key, token, dot - 1, mac);
		if (given_len == sizeof(mac) && memcmp(given, mac, sizeof(mac)) == 0)
			return true;
	}
	return false;
}

/* Verifies, and checks what must hold of the answer; NULL when the token was accepted. */
static const char *
verify(const char *token, size_t len, const char *audience, A67JwtClaims *claims)
{
	A67JwtCheck check = {&ring, audience, NOW};
	bool ok;

	memset(claims, 0xee, sizeof(*claims));
	ok = a67_jwt_verify_hs256(token, len, &check, claims);
	MUST(ok == (claims->refusal == NULL));
	if (ok)
	{
		MUST(len <= A67_JWT_MAX && is_genuine(token, len));
		MUST(claims->exp > NOW);
		MUST(claims->json_len >= 2 && claims->json_len <= A67_JWT_CLAIMS_MAX);
		MUST(strlen(claims->json) == claims->json_len);
		MUST(memchr(claims->sub, '\0', sizeof(claims->sub)) != NULL);
		MUST(memchr(claims->role, '\0', sizeof(claims->role)) != NULL);
	}
	else
		MUST(claims->json_len == 0 && claims->sub[0] == '\0' && claims->role[0] == '\0');
	return claims->refusal;
}

static void
fuzz_token(const char *text, size_t len)
{
	A67JwtClaims claims;

	(void) verify(text, len, "a67", &claims);
	(void) verify(text, len, "a67-refresh", &claims);
}

static void
fuzz_genuine(const char *text, size_t len)
{
	static char token[TOKEN_MAX];
	const char *feed = memchr(text, '\n', len);
	const char *payload = feed == NULL ? text + len : feed + 1;
	size_t header_len = feed == NULL ? len : (size_t) (feed - text);
	size_t payload_len = len - (size_t) (payload - text);
	A67JwtClaims claims;
	uint8_t mac[32];
	size_t at;

	if (!a67_base64url_encode(text, header_len, token, sizeof(token)))
		return;
	at = strlen(token);
	token[at++] = '.';
	if (!a67_base64url_encode(payload, payload_len, token + at, sizeof(token) - at))
		return;
	at += strlen(token + at);
	mac_of(ring.keys[1].key, token, at, mac);
	if (sizeof(token) - at < 1 + A67_BASE64URL_SIZE(sizeof(mac)))
		return;
	token[at++] = '.';
	MUST(a67_base64url_encode(mac, sizeof(mac), token + at, sizeof(token) - at));
	if (verify(token, at + strlen(token + at), "a67", &claims) == NULL)
		MUST(claims.json_len == payload_len && memcmp(claims.json, payload, payload_len) == 0);
}

static void
fuzz_sign(const char *text, size_t len)
{
	static char token[A67_JWT_MAX + 1];
	A67JwtSigner hs256 = {A67_JWT_HS256, "k1", ring.keys[1].key};
	A67JwtSigner eddsa = {A67_JWT_EDDSA, "k1", ring.keys[1].key};
	A67JwtClaims claims;
	size_t made;
	char *tight;

	if (!a67_jwt_sign(&hs256, text, len, token, sizeof(token)))
	{
		MUST(!a67_jwt_sign(&eddsa, text, len, token, sizeof(token)));
		return;
	}
	made = strlen(token);
	MUST(made <= A67_JWT_MAX && is_genuine(token, made));
	(void) verify(token, made, "a67", &claims);
	/* Exactly the room it needs will do, and one less will not. */
	tight = malloc(made + 1);
	MUST(tight != NULL);
	MUST(a67_jwt_sign(&hs256, text, len, tight, made + 1) && strcmp(tight, token) == 0);
	MUST(!a67_jwt_sign(&hs256, text, len, tight, made));
	free(tight);
	/* A signature of the other algorithm never passes for ours. */
	MUST(a67_jwt_sign(&eddsa, text, len, token, sizeof(token)));
	MUST(verify(token, strlen(token), "a67", &claims) != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data + 1;

	if (size < 1 || size > INPUT_MAX)
		return 0;
	prepare();
	if (data[0] == 't')
		fuzz_token(text, size - 1);
	else if (data[0] == 'g')
		fuzz_genuine(text, size - 1);
	else if (data[0] == 's')
		fuzz_sign(text, size - 1);
	return 0;
}
