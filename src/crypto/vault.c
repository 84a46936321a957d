/*
 * vault.c - seals and opens secrets with XChaCha20-Poly1305 under the master key.
 *
 * Owns the format of sealed values and nothing else; the file of the key is master_key.c. Every failure to
 * open is the same error, so that it tells an attacker nothing. Buffers with secrets are wiped before they
 * are released, also when an error is raised in between.
 */
#include "postgres.h"

#include "crypto/vault.h"

#include <sodium.h>

#include "fmgr.h"
#include "utils/builtins.h"

#include "crypto/master_key.h"
#include "platform/errors.h"

#define VERSION		1
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES	crypto_aead_xchacha20poly1305_ietf_ABYTES

StaticAssertDecl(A67_VAULT_OVERHEAD == 1 + NONCE_BYTES + TAG_BYTES, "overhead of a sealed value");
StaticAssertDecl(A67_MASTER_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key size");

void
a67_crypto_init(void)
{
	if (sodium_init() < 0)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libsodium")));
}

bytea *
a67_vault_seal(const uint8 *plaintext, Size len, const char *associated)
{
	uint8 key[A67_MASTER_KEY_BYTES];
	bytea *sealed;
	uint8 *out;

	a67_crypto_init();
	if (len > A67_VAULT_PLAINTEXT_MAX)
		a67_error_parameter("plaintext", "It must not be longer than 1 MB.");
	sealed = palloc(VARHDRSZ + A67_VAULT_OVERHEAD + len);
	SET_VARSIZE(sealed, VARHDRSZ + A67_VAULT_OVERHEAD + len);
	out = (uint8 *) VARDATA(sealed);
	a67_master_key_load(key, true);
	out[0] = VERSION;
	randombytes_buf(out + 1, NONCE_BYTES);
	(void) crypto_aead_xchacha20poly1305_ietf_encrypt(out + 1 + NONCE_BYTES, NULL, plaintext, len,
													  (const unsigned char *) associated,
													  strlen(associated), NULL, out + 1, key);
	sodium_memzero(key, sizeof(key));
	return sealed;
}

uint8 *
a67_vault_open(const uint8 *sealed, Size sealed_len, const char *associated, Size *len)
{
	uint8 key[A67_MASTER_KEY_BYTES];
	uint8 *plaintext;
	bool opened = false;

	a67_crypto_init();
	a67_master_key_load(key, false);
	plaintext = palloc(Max(sealed_len, A67_VAULT_OVERHEAD) - A67_VAULT_OVERHEAD + 1);
	*len = 0;
	if (sealed_len >= A67_VAULT_OVERHEAD && sealed[0] == VERSION)
	{
		opened = crypto_aead_xchacha20poly1305_ietf_decrypt(
					 plaintext, NULL, NULL, sealed + 1 + NONCE_BYTES, sealed_len - 1 - NONCE_BYTES,
					 (const unsigned char *) associated, strlen(associated), sealed + 1, key) == 0;
		*len = sealed_len - A67_VAULT_OVERHEAD;
	}
	sodium_memzero(key, sizeof(key));
	if (!opened)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("could not open sealed value")));
	plaintext[*len] = '\0';
	return plaintext;
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
