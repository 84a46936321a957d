/*
 * jwt_sql.c - SQL face of token verification.
 *
 * The same judgement, by the same shared keys, as the listener's; for tokens that come to a function as an
 * argument, such as refresh tokens. The copy of the keys is wiped before anything can raise an error.
 */
#include "postgres.h"

#include <sodium.h>
#include <time.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "crypto/jwt.h"
#include "crypto/keyring.h"
#include "crypto/vault.h"
#include "platform/shmem.h"

PG_FUNCTION_INFO_V1(a67_sql_jwt_verify);

/* _jwt_verify(token text, audience text) returns jsonb, NULL for any token that is not good; strict */
Datum
a67_sql_jwt_verify(PG_FUNCTION_ARGS)
{
	text *token = PG_GETARG_TEXT_PP(0);
	A67Keyring keys = {0};
	A67JwtCheck check = {&keys, text_to_cstring(PG_GETARG_TEXT_PP(1)), (int64) time(NULL)};
	A67JwtClaims *claims = palloc(sizeof(A67JwtClaims));
	bool ok;

	a67_shared_require();
	a67_vault_require();
	a67_crypto_init();
	(void) a67_keyring_snapshot(&keys);
	ok = a67_jwt_verify_hs256(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token), &check, claims);
	sodium_memzero(&keys, sizeof(keys));
	if (!ok)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(claims->json)));
}
