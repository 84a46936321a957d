/*
 * sealed.c - wraps data keys and encrypts values with libsodium.  See sealed.h for the format.
 *
 * The functions write and read at fixed places of the sealed value, so that it is never copied. They check
 * lengths themselves: what comes from a table may be anything.
 */
#include "crypto/sealed.h"

#include <sodium.h>
#include <string.h>

#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES	crypto_aead_xchacha20poly1305_ietf_ABYTES
#define NAMED_BYTES (1 + A67_KEY_ID_BYTES) /* version and key id */

_Static_assert(NONCE_BYTES == 24 && TAG_BYTES == 16, "the format's nonce and tag");
_Static_assert(A67_VAULT_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key size");

void
a67_master_key_name(A67MasterKey *key)
{
	static const char purpose[] = "a67 master key id";
	uint8_t hash[crypto_generichash_BYTES_MIN];

	(void) crypto_generichash(hash, sizeof(hash), (const unsigned char *) purpose,
							  sizeof(purpose) - 1, key->key, sizeof(key->key));
	memcpy(key->id, hash, sizeof(key->id));
}

const uint8_t *
a67_sealed_key_id(const uint8_t *sealed, size_t len)
{
	return len >= A67_SEALED_OVERHEAD && sealed[0] == A67_SEALED_VERSION ? sealed + 1 : NULL;
}

void
a67_sealed_wrap(const A67MasterKey *key, const uint8_t data_key[A67_VAULT_KEY_BYTES],
				uint8_t *sealed)
{
	uint8_t *nonce = sealed + NAMED_BYTES;

	sealed[0] = A67_SEALED_VERSION;
	memcpy(sealed + 1, key->id, sizeof(key->id));
	randombytes_buf(nonce, NONCE_BYTES);
	(void) crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + NONCE_BYTES, NULL, data_key,
													  A67_VAULT_KEY_BYTES, sealed, NAMED_BYTES,
													  NULL, nonce, key->key);
}

bool
a67_sealed_unwrap(const A67MasterKey *key, const uint8_t *sealed, size_t len,
				  uint8_t data_key[A67_VAULT_KEY_BYTES])
{
	const uint8_t *nonce = sealed + NAMED_BYTES;
	const uint8_t *id = a67_sealed_key_id(sealed, len);

	return id != NULL && memcmp(id, key->id, sizeof(key->id)) == 0 &&
		   crypto_aead_xchacha20poly1305_ietf_decrypt(data_key, NULL, NULL, nonce + NONCE_BYTES,
													  A67_VAULT_KEY_BYTES + TAG_BYTES, sealed,
													  NAMED_BYTES, nonce, key->key) == 0;
}

void
a67_sealed_encrypt(const uint8_t data_key[A67_VAULT_KEY_BYTES], A67Associated associated,
				   const uint8_t *plaintext, size_t len, uint8_t *sealed)
{
	uint8_t *nonce = sealed + A67_SEALED_HEAD;

	randombytes_buf(nonce, NONCE_BYTES);
	(void) crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + NONCE_BYTES, NULL, plaintext, len,
													  (const unsigned char *) associated.text,
													  associated.len, NULL, nonce, data_key);
}

bool
a67_sealed_decrypt(const uint8_t data_key[A67_VAULT_KEY_BYTES], A67Associated associated,
				   const uint8_t *sealed, size_t sealed_len, uint8_t *plaintext)
{
	const uint8_t *nonce = sealed + A67_SEALED_HEAD;

	return sealed_len >= A67_SEALED_OVERHEAD &&
		   crypto_aead_xchacha20poly1305_ietf_decrypt(plaintext, NULL, NULL, nonce + NONCE_BYTES,
													  sealed_len - A67_SEALED_HEAD - NONCE_BYTES,
													  (const unsigned char *) associated.text,
													  associated.len, nonce, data_key) == 0;
}
