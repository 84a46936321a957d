/*
 * jwt.c - verifies and signs compact JSON Web Tokens.
 *
 * Decides whether a token is genuine, current and meant for us; what its bearer may do is decided by the
 * role in it. The algorithm is fixed by the caller, never by the token: a header that names another one is
 * refused. The signature is checked before the claims are even parsed, so strangers reach jansson only with
 * a header of a few hundred bytes. Refusals say which kind they are and nothing about keys.
 * No PostgreSQL header here: jansson and the server both have a json_object(). Called by the listener, by
 * SQL functions through keys.c, and by unit tests.
 */
#include "crypto/jwt.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/encode.h"

#define SIGNATURE_TEXT_MAX 86 /* EdDSA: 64 bytes */
#define HEADER_MAX		   512
#define CLOCK_SKEW_S	   30	/* for nbf; exp is exact */
#define TIME_MAX_S		   1e15 /* beyond any date, within any integer */

/* A JWT split at its dots. */
typedef struct Parts
{
	const char *header;
	size_t header_len;
	const char *payload;
	size_t payload_len;
	const char *signature;
	size_t signature_len;
	size_t signed_len; /* header, dot and payload */
} Parts;

static bool
split(const char *token, size_t len, Parts *parts)
{
	const char *first = memchr(token, '.', len);
	const char *second = NULL;

	if (first == NULL)
		return false;
	parts->header = token;
	parts->header_len = (size_t) (first - token);
	parts->payload = first + 1;
	second = memchr(parts->payload, '.', len - parts->header_len - 1);
	if (second == NULL)
		return false;
	parts->payload_len = (size_t) (second - parts->payload);
	parts->signature = second + 1;
	parts->signed_len = (size_t) (second - token);
	parts->signature_len = len - parts->signed_len - 1;
	return parts->header_len > 0 && parts->payload_len > 0 && parts->signature_len > 0;
}

/* A JSON object from base64url text of at most max decoded bytes; also its bytes, when raw is given. */
static json_t *
parse_object(const char *text, size_t len, char *raw, size_t raw_size, size_t *raw_len)
{
	json_t *object;

	if (!a67_base64url_decode(text, len, raw, raw_size - 1, raw_len))
		return NULL;
	raw[*raw_len] = '\0';
	object = json_loadb(raw, *raw_len, JSON_REJECT_DUPLICATES, NULL);
	if (object != NULL && !json_is_object(object))
	{
		json_decref(object);
		object = NULL;
	}
	return object;
}

/* The key that the header names, provided that the header asks for HS256 and nothing that we do not know. */
static const uint8_t *
key_for_header(const Parts *parts, const A67Keyring *keys)
{
	char raw[HEADER_MAX + 1];
	size_t raw_len;
	json_t *header = parse_object(parts->header, parts->header_len, raw, sizeof(raw), &raw_len);
	const char *alg = json_string_value(json_object_get(header, "alg"));
	const char *kid = json_string_value(json_object_get(header, "kid"));
	const json_t *typ = json_object_get(header, "typ");
	const uint8_t *key = NULL;

	if (alg != NULL && strcmp(alg, "HS256") == 0 && kid != NULL && kid[0] != '\0' &&
		json_object_get(header, "crit") == NULL &&
		(typ == NULL || (json_is_string(typ) && strcmp(json_string_value(typ), "JWT") == 0)))
	{
		for (uint32_t i = 0; i < keys->count && i < A67_KEYRING_MAX && key == NULL; i++)
		{
			if (strncmp(keys->keys[i].kid, kid, A67_JWT_KID_SIZE) == 0)
				key = keys->keys[i].key;
		}
	}
	json_decref(header);
	return key;
}

static void
hmac_sha256(const uint8_t *key, const char *text, size_t len, uint8_t mac[32])
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, key, A67_JWT_KEY_BYTES);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *) text, len);
	crypto_auth_hmacsha256_final(&state, mac);
	sodium_memzero(&state, sizeof(state));
}

static bool
signature_matches(const Parts *parts, const uint8_t *key)
{
	uint8_t given[32];
	uint8_t expected[32];
	size_t given_len;
	bool same;

	if (!a67_base64url_decode(parts->signature, parts->signature_len, given, sizeof(given),
							  &given_len) ||
		given_len != sizeof(given))
		return false;
	hmac_sha256(key, parts->header, parts->signed_len, expected);
	same = sodium_memcmp(given, expected, sizeof(expected)) == 0;
	sodium_memzero(expected, sizeof(expected));
	return same;
}

static bool
audience_is(const json_t *aud, const char *audience)
{
	const char *one = json_string_value(aud);

	if (one != NULL)
		return strcmp(one, audience) == 0;
	for (size_t i = 0; i < json_array_size(aud); i++)
	{
		one = json_string_value(json_array_get(aud, i));
		if (one != NULL && strcmp(one, audience) == 0)
			return true;
	}
	return false;
}

/* Copies an optional text claim; false when it is no text or too long. */
static bool
take_text(const json_t *claim, char *out, size_t out_size)
{
	const char *text = json_string_value(claim);

	out[0] = '\0';
	if (claim == NULL)
		return true;
	if (text == NULL || strlen(text) >= out_size)
		return false;
	memcpy(out, text, strlen(text) + 1);
	return true;
}

/* A point in time, in whole seconds; RFC 7519 allows fractions. False for anything else. */
static bool
take_time(const json_t *claim, int64_t *out)
{
	double seconds = json_number_value(claim);

	if (!json_is_number(claim) || !(seconds > -TIME_MAX_S && seconds < TIME_MAX_S))
		return false;
	*out = json_is_integer(claim) ? json_integer_value(claim) : (int64_t) seconds;
	return true;
}

/* Judges the claims of a genuine token; NULL when all is well. */
static const char *
judge(const json_t *claims, const A67JwtCheck *check, A67JwtClaims *out)
{
	const json_t *nbf = json_object_get(claims, "nbf");
	int64_t not_before = 0;

	if (!take_time(json_object_get(claims, "exp"), &out->exp) ||
		(nbf != NULL && !take_time(nbf, &not_before)) ||
		!take_text(json_object_get(claims, "sub"), out->sub, sizeof(out->sub)) ||
		!take_text(json_object_get(claims, "role"), out->role, sizeof(out->role)))
		return "token is invalid";
	if (out->exp <= check->now_s)
		return "token has expired";
	if (nbf != NULL && not_before - CLOCK_SKEW_S > check->now_s)
		return "token is not valid yet";
	if (!audience_is(json_object_get(claims, "aud"), check->audience))
		return "token is for another audience";
	return NULL;
}

static const char *
verify(const char *token, size_t len, const A67JwtCheck *check, A67JwtClaims *out)
{
	Parts parts;
	const uint8_t *key;
	json_t *claims;
	const char *refusal;

	if (len > A67_JWT_MAX || !split(token, len, &parts))
		return "token is invalid";
	key = key_for_header(&parts, check->keys);
	if (key == NULL || !signature_matches(&parts, key))
		return "token is invalid";
	claims = parse_object(parts.payload, parts.payload_len, out->json, sizeof(out->json),
						  &out->json_len);
	if (claims == NULL)
		return "token is invalid";
	refusal = judge(claims, check, out);
	json_decref(claims);
	return refusal;
}

bool
a67_jwt_verify_hs256(const char *token, size_t len, const A67JwtCheck *check, A67JwtClaims *out)
{
	const char *refusal = verify(token, len, check, out);

	if (refusal != NULL)
		memset(out, 0, sizeof(*out));
	out->refusal = refusal;
	return refusal == NULL;
}

/* The claims in their shortest form, malloc'd; NULL unless they are one object within the limit. */
static char *
compact(const char *claims, size_t len, size_t *compact_len)
{
	json_t *object = json_loadb(claims, len, JSON_REJECT_DUPLICATES, NULL);
	char *text = NULL;

	if (json_is_object(object))
		text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	if (text == NULL)
		return NULL;
	*compact_len = strlen(text);
	if (*compact_len <= A67_JWT_CLAIMS_MAX)
		return text;
	sodium_memzero(text, *compact_len);
	free(text);
	return NULL;
}

static void
sign(const A67JwtSigner *signer, const char *text, size_t len, char *signature)
{
	uint8_t bytes[crypto_sign_BYTES];
	size_t count;

	if (signer->alg == A67_JWT_HS256)
	{
		hmac_sha256(signer->key, text, len, bytes);
		count = 32;
	}
	else
	{
		uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
		uint8_t secret_key[crypto_sign_SECRETKEYBYTES];

		crypto_sign_seed_keypair(public_key, secret_key, signer->key);
		crypto_sign_detached(bytes, NULL, (const unsigned char *) text, len, secret_key);
		sodium_memzero(secret_key, sizeof(secret_key));
		count = crypto_sign_BYTES;
	}
	(void) a67_base64url_encode(bytes, count, signature, SIGNATURE_TEXT_MAX + 1);
}

/* Writes one encoded part at *at and moves it on; false when it does not fit. */
static bool
put_part(char **at, const char *end, const char *bytes, size_t count)
{
	if (!a67_base64url_encode(bytes, count, *at, (size_t) (end - *at)))
		return false;
	*at += strlen(*at);
	return true;
}

/* A key id is chosen by us: letters, digits and a few marks, which need no escaping. */
static bool
plain_kid(const char *kid)
{
	size_t len = strlen(kid);

	return len > 0 && len < A67_JWT_KID_SIZE &&
		   strspn(kid, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:") == len;
}

bool
a67_jwt_sign(const A67JwtSigner *signer, const char *claims, size_t claims_len, char *out,
			 size_t out_size)
{
	char header[HEADER_MAX];
	char signature[SIGNATURE_TEXT_MAX + 1];
	const char *end = out + out_size;
	char *at = out;
	size_t payload_len = 0;
	char *payload;
	bool ok;

	if (!plain_kid(signer->kid) || out_size < 2)
		return false;
	payload = compact(claims, claims_len, &payload_len);
	if (payload == NULL)
		return false;
	(void) snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\",\"typ\":\"JWT\"}",
					signer->alg == A67_JWT_HS256 ? "HS256" : "EdDSA", signer->kid);
	ok = put_part(&at, end - 1, header, strlen(header));
	if (ok)
	{
		*at++ = '.';
		ok = put_part(&at, end, payload, payload_len);
	}
	free(payload);
	if (!ok)
		return false;

	sign(signer, out, (size_t) (at - out), signature);
	if ((size_t) (end - at) < strlen(signature) + 2)
		return false;
	*at++ = '.';
	memcpy(at, signature, strlen(signature) + 1);
	return true;
}
