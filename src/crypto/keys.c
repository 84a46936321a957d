/*
 * keys.c - SQL faces of key making and token signing.
 *
 * Secrets exist in the clear only inside these calls; what goes back to SQL is sealed or a signature. Who may
 * call them is decided by grants: nobody but the extension's owner.
 */
#include "postgres.h"

#include <sodium.h>

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "crypto/jwt.h"
#include "crypto/vault.h"
#include "platform/errors.h"

#define RANDOM_BYTES_MAX 1024

static bytea *
make_bytea(const uint8 *bytes, Size len)
{
	bytea *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), bytes, len);
	return result;
}

static const char *
key_label(const char *kid)
{
	if (kid[0] == '\0' || strlen(kid) >= A67_JWT_KID_SIZE)
		a67_error_parameter("kid", "A key id has 1 to 63 characters.");
	return psprintf("signing_key.sealed:%s", kid);
}

PG_FUNCTION_INFO_V1(a67_sql_random_bytes);

/* _random_bytes(n integer) returns bytea; strict */
Datum
a67_sql_random_bytes(PG_FUNCTION_ARGS)
{
	int32 n = PG_GETARG_INT32(0);
	bytea *result;

	if (n < 1 || n > RANDOM_BYTES_MAX)
		a67_error_parameter("n", "It must be between 1 and 1024.");
	a67_crypto_init();
	result = palloc(VARHDRSZ + n);
	SET_VARSIZE(result, VARHDRSZ + n);
	randombytes_buf(VARDATA(result), n);
	PG_RETURN_BYTEA_P(result);
}

/* Makes a secret of 32 bytes, seals it, and gives the public half of an Ed25519 key. */
static bytea *
generate(bool ed25519, const char *label, uint8 public_key[crypto_sign_PUBLICKEYBYTES])
{
	uint8 secret[A67_JWT_KEY_BYTES];
	uint8 expanded[crypto_sign_SECRETKEYBYTES];
	bytea *volatile sealed = NULL;

	randombytes_buf(secret, sizeof(secret));
	PG_TRY();
	{
		if (ed25519)
			crypto_sign_seed_keypair(public_key, expanded, secret);
		sealed = a67_vault_seal(secret, sizeof(secret), label);
	}
	PG_FINALLY();
	{
		sodium_memzero(secret, sizeof(secret));
		sodium_memzero(expanded, sizeof(expanded));
	}
	PG_END_TRY();
	return sealed;
}

PG_FUNCTION_INFO_V1(a67_sql_key_generate);

/* _key_generate(kind text, kid text) returns table (public_key bytea, sealed bytea); strict, one row */
Datum
a67_sql_key_generate(PG_FUNCTION_ARGS)
{
	const char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *label = key_label(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool ed25519 = strcmp(kind, "ed25519") == 0;
	uint8 public_key[crypto_sign_PUBLICKEYBYTES] = {0};
	Datum values[2];
	bool nulls[2] = {false};

	if (!ed25519 && strcmp(kind, "hs256") != 0)
		a67_error_parameter("kind", "It must be \"hs256\" or \"ed25519\".");
	a67_crypto_init();
	InitMaterializedSRF(fcinfo, 0);

	values[1] = PointerGetDatum(generate(ed25519, label, public_key));
	values[0] = PointerGetDatum(make_bytea(public_key, sizeof(public_key)));
	nulls[0] = !ed25519;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	PG_RETURN_VOID();
}

static A67JwtAlg
parse_alg(const char *alg)
{
	if (strcmp(alg, "HS256") == 0)
		return A67_JWT_HS256;
	if (strcmp(alg, "EdDSA") != 0)
		a67_error_parameter("alg", "It must be \"HS256\" or \"EdDSA\".");
	return A67_JWT_EDDSA;
}

PG_FUNCTION_INFO_V1(a67_sql_jwt_sign);

/* _jwt_sign(claims jsonb, alg text, kid text, sealed bytea) returns text; strict */
Datum
a67_sql_jwt_sign(PG_FUNCTION_ARGS)
{
	Jsonb *claims = PG_GETARG_JSONB_P(0);
	const char *kid = text_to_cstring(PG_GETARG_TEXT_PP(2));
	const char *label = key_label(kid);
	bytea *sealed = PG_GETARG_BYTEA_PP(3);
	A67JwtSigner signer = {parse_alg(text_to_cstring(PG_GETARG_TEXT_PP(1))), kid, NULL};
	char *json = JsonbToCString(NULL, &claims->root, VARSIZE(claims));
	char *token = palloc(A67_JWT_MAX + 1);
	Size key_len;
	uint8 *key;
	bool ok;

	key = a67_vault_open((const uint8 *) VARDATA_ANY(sealed), VARSIZE_ANY_EXHDR(sealed), label,
						 &key_len);
	signer.key = key;
	ok = key_len == A67_JWT_KEY_BYTES &&
		 a67_jwt_sign(&signer, json, strlen(json), token, A67_JWT_MAX + 1);
	sodium_memzero(key, key_len);
	if (!ok)
		a67_error_parameter("claims", "It must be an object of at most 2048 bytes, signed with a "
									  "key made by _key_generate.");
	PG_RETURN_TEXT_P(cstring_to_text(token));
}
