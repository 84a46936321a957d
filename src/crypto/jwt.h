/*
 * jwt.h - JSON Web Tokens, as little of them as a67 needs: HS256 signed and verified, EdDSA signed.
 *
 * Pure: libsodium and jansson, no PostgreSQL, so that the listener may call it on a request's bytes without
 * a transaction. Nothing throws; memory is bounded by A67_JWT_MAX and released before return. The caller
 * must have called sodium_init() once in the process (a67_crypto_init does in the server).
 */
#ifndef A67_JWT_H
#define A67_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_JWT_MAX		   4096 /* longest token accepted or made, in characters */
#define A67_JWT_CLAIMS_MAX 2048
#define A67_JWT_KID_SIZE   64
#define A67_JWT_KEY_BYTES  32
#define A67_JWT_AUDIENCE   "a67" /* of tokens that authorize requests */
#define A67_KEYRING_MAX	   8

/* HS256 keys by id. Holds secrets: wipe copies with sodium_memzero when done with them. */
typedef struct A67Keyring
{
	uint32_t count;
	uint32_t version; /* changes whenever the shared keyring does */
	struct
	{
		char kid[A67_JWT_KID_SIZE];
		uint8_t key[A67_JWT_KEY_BYTES];
	} keys[A67_KEYRING_MAX];
} A67Keyring;

typedef struct A67JwtClaims
{
	char sub[37];  /* as in the token; "" when absent */
	char role[64]; /* "" when absent */
	int64_t exp;
	char json[A67_JWT_CLAIMS_MAX + 1]; /* the payload as it was signed: one JSON object */
	size_t json_len;
	const char *refusal; /* why it was refused, a static text fit for the client; NULL on success */
} A67JwtClaims;

/* What a good token is measured against. */
typedef struct A67JwtCheck
{
	const A67Keyring *keys;
	const char *audience;
	int64_t now_s; /* Unix time */
} A67JwtCheck;

/*
 * True when the token is signed with HS256 by a key of the ring, has not expired and is meant for the
 * audience. Otherwise false, and of *out only refusal is set.
 */
bool a67_jwt_verify_hs256(const char *token, size_t len, const A67JwtCheck *check,
						  A67JwtClaims *out);

typedef enum A67JwtAlg
{
	A67_JWT_HS256,
	A67_JWT_EDDSA
} A67JwtAlg;

typedef struct A67JwtSigner
{
	A67JwtAlg alg;
	const char *kid;
	const uint8_t *key; /* A67_JWT_KEY_BYTES: the HMAC key, or the Ed25519 seed */
} A67JwtSigner;

/*
 * Signs a JSON object, compacting it, into out as a C string. False when claims is not an object, is longer
 * than A67_JWT_CLAIMS_MAX once compact, kid is too long, or out is too small (A67_JWT_MAX + 1 always fits).
 */
bool a67_jwt_sign(const A67JwtSigner *signer, const char *claims, size_t claims_len, char *out,
				  size_t out_size);

#endif /* A67_JWT_H */
