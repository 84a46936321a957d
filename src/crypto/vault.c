/*
 * vault.c - seals and opens values, and their SQL faces.
 *
 * Every failure to open is the same error, so that it tells an attacker nothing. Data keys are on the stack
 * for the time of one call and wiped before anything can raise; so are plaintexts of calls that fail.
 * Locks: who seals holds a share lock named by the key's id until the end of the transaction, so that a key
 * is retired only when every value sealed under it can be seen, and none is still on its way.
 */
#include "postgres.h"

#include "crypto/vault.h"

#include <sodium.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"

#include "platform/errors.h"

/* Fourth field of an advisory lock's tag: SQL uses 1 and 2, the workers 67. */
#define LOCK_CLASS 68

static void cannot_open(void) pg_attribute_noreturn();

void
a67_vault_require(void)
{
	a67_shared_require();
	if (a67_vault_is_sealed())
		ereport(ERROR, (errcode(A67_ERRCODE_UNAVAILABLE), errmsg("vault is sealed"),
						errhint("An administrator opens it with a67.vault_unseal().")));
}

static void
cannot_open(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("could not open sealed value")));
	pg_unreachable();
}

static void
prepare(void)
{
	a67_crypto_init();
	a67_secret_process();
	a67_vault_require();
}

/* ---- wrapping ---------------------------------------------------------------------------------- */

static void
lock_tag(LOCKTAG *tag, const uint8 id[A67_KEY_ID_BYTES])
{
	uint32 halves[2];

	StaticAssertStmt(sizeof(halves) == A67_KEY_ID_BYTES, "an id in two fields");
	memcpy(halves, id, sizeof(halves));
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, halves[0], halves[1], LOCK_CLASS);
}

bool
a67_vault_fence(const uint8 id[A67_KEY_ID_BYTES])
{
	LOCKTAG tag;

	lock_tag(&tag, id);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Takes part in the use of the current key, for this transaction. */
static void
share_current(uint8 id[A67_KEY_ID_BYTES])
{
	LOCKTAG tag;

	if (!a67_master_key_current(id))
		a67_vault_require();
	lock_tag(&tag, id);
	(void) LockAcquire(&tag, RowShareLock, false, false);
}

/* Writes a head for the data key, with the key that is current now. */
static void
wrap(const uint8 *data_key, uint8 *sealed, uint8 id[A67_KEY_ID_BYTES])
{
	while (!a67_master_key_wrap(id, data_key, sealed))
	{
		/* Changed since: lock the new one. */
		share_current(id);
	}
}

bytea *
a67_vault_seal(const uint8 *plaintext, Size len, const char *associated)
{
	uint8 data_key[A67_VAULT_KEY_BYTES];
	uint8 id[A67_KEY_ID_BYTES];
	A67Associated text = {associated, strlen(associated)};
	bytea *sealed;
	uint8 *out;

	if (len > A67_VAULT_PLAINTEXT_MAX)
		a67_error_parameter("plaintext", "It must not be longer than 1 MB.");
	prepare();
	sealed = palloc(VARHDRSZ + A67_SEALED_OVERHEAD + len);
	SET_VARSIZE(sealed, VARHDRSZ + A67_SEALED_OVERHEAD + len);
	out = (uint8 *) VARDATA(sealed);
	share_current(id);
	randombytes_buf(data_key, sizeof(data_key));
	PG_TRY();
	{
		wrap(data_key, out, id);
		a67_sealed_encrypt(data_key, text, plaintext, len, out);
	}
	PG_FINALLY();
	{
		sodium_memzero(data_key, sizeof(data_key));
	}
	PG_END_TRY();
	return sealed;
}

uint8 *
a67_vault_open(const uint8 *sealed, Size sealed_len, const char *associated, Size *len)
{
	uint8 data_key[A67_VAULT_KEY_BYTES];
	A67Associated text = {associated, strlen(associated)};
	uint8 *plaintext;
	bool opened;

	prepare();
	*len = Max(sealed_len, A67_SEALED_OVERHEAD) - A67_SEALED_OVERHEAD;
	plaintext = palloc(*len + 1);
	opened = a67_master_key_unwrap(sealed, sealed_len, data_key) &&
			 a67_sealed_decrypt(data_key, text, sealed, sealed_len, plaintext);
	sodium_memzero(data_key, sizeof(data_key));
	if (!opened)
		cannot_open();
	plaintext[*len] = '\0';
	return plaintext;
}

/* ---- SQL --------------------------------------------------------------------------------------- */

PG_FUNCTION_INFO_V1(a67_sql_vault_is_sealed);

/* _vault_is_sealed() returns boolean */
Datum
a67_sql_vault_is_sealed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(a67_vault_is_sealed());
}

PG_FUNCTION_INFO_V1(a67_sql_vault_require);

/* _vault_require() returns void: raises while the vault is sealed */
Datum
a67_sql_vault_require(PG_FUNCTION_ARGS)
{
	a67_vault_require();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_vault_seal);

/* _vault_seal(plaintext bytea, associated text) returns bytea; strict */
Datum
a67_sql_vault_seal(PG_FUNCTION_ARGS)
{
	bytea *plaintext = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_BYTEA_P(a67_vault_seal((const uint8 *) VARDATA_ANY(plaintext),
									 VARSIZE_ANY_EXHDR(plaintext),
									 text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

PG_FUNCTION_INFO_V1(a67_sql_vault_open);

/* _vault_open(sealed bytea, associated text) returns bytea; strict */
Datum
a67_sql_vault_open(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	Size len;
	uint8 *plaintext =
		a67_vault_open((const uint8 *) VARDATA_ANY(sealed), VARSIZE_ANY_EXHDR(sealed),
					   text_to_cstring(PG_GETARG_TEXT_PP(1)), &len);
	bytea *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), plaintext, len);
	sodium_memzero(plaintext, len);
	pfree(plaintext);
	PG_RETURN_BYTEA_P(result);
}

PG_FUNCTION_INFO_V1(a67_sql_vault_rewrap);

/*
 * _vault_rewrap(sealed bytea) returns bytea; strict. The same value wrapped under the current key; NULL when
 * none of the held keys opens its wrapping.
 */
Datum
a67_sql_vault_rewrap(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	Size len = VARSIZE_ANY_EXHDR(sealed);
	uint8 data_key[A67_VAULT_KEY_BYTES];
	uint8 id[A67_KEY_ID_BYTES];
	bytea *result = palloc(VARHDRSZ + len);

	prepare();
	share_current(id);
	if (!a67_master_key_unwrap((const uint8 *) VARDATA_ANY(sealed), len, data_key))
		PG_RETURN_NULL();
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), VARDATA_ANY(sealed), len);
	PG_TRY();
	{
		wrap(data_key, (uint8 *) VARDATA(result), id);
	}
	PG_FINALLY();
	{
		sodium_memzero(data_key, sizeof(data_key));
	}
	PG_END_TRY();
	PG_RETURN_BYTEA_P(result);
}

PG_FUNCTION_INFO_V1(a67_sql_vault_fence);

/* _vault_fence(key_id bytea) returns boolean; strict */
Datum
a67_sql_vault_fence(PG_FUNCTION_ARGS)
{
	bytea *id = PG_GETARG_BYTEA_PP(0);

	if (VARSIZE_ANY_EXHDR(id) != A67_KEY_ID_BYTES)
		a67_error_parameter("key_id", "It must have 8 bytes.");
	PG_RETURN_BOOL(a67_vault_fence((const uint8 *) VARDATA_ANY(id)));
}
