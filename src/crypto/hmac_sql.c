/*
 * hmac_sql.c - SQL face of HMAC-SHA-256, with which webhooks are signed.
 *
 * Parses arguments and nothing else. Called by the owner's functions only, as grants decide.
 */
#include "postgres.h"

#include <sodium.h>

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(a67_sql_hmac_sha256);

/* _hmac_sha256(key bytea, data bytea) returns bytea; strict */
Datum
a67_sql_hmac_sha256(PG_FUNCTION_ARGS)
{
	bytea *key = PG_GETARG_BYTEA_PP(0);
	bytea *data = PG_GETARG_BYTEA_PP(1);
	bytea *mac = palloc(VARHDRSZ + crypto_auth_hmacsha256_BYTES);
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, (const unsigned char *) VARDATA_ANY(key),
								VARSIZE_ANY_EXHDR(key));
	crypto_auth_hmacsha256_update(&state, (const unsigned char *) VARDATA_ANY(data),
								  VARSIZE_ANY_EXHDR(data));
	crypto_auth_hmacsha256_final(&state, (unsigned char *) VARDATA(mac));
	sodium_memzero(&state, sizeof(state));
	SET_VARSIZE(mac, VARHDRSZ + crypto_auth_hmacsha256_BYTES);
	PG_RETURN_BYTEA_P(mac);
}
