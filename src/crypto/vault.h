/*
 * vault.h - sealing of secrets under a master key that is not in the database.
 *
 * XChaCha20-Poly1305 with a random nonce; sealed = version byte, nonce, ciphertext with tag. The associated
 * text is authenticated too: a sealed value moved to another row does not open. The key is read from
 * a67.master_key_file for every call and wiped afterwards; no key stays in a backend's memory.
 */
#ifndef A67_VAULT_H
#define A67_VAULT_H

#include "postgres.h"

#define A67_VAULT_OVERHEAD		(1 + 24 + 16)
#define A67_VAULT_PLAINTEXT_MAX (1024 * 1024)

/* sodium_init, once per process; an error when it fails. Called before any use of libsodium. */
void a67_crypto_init(void);

/* A sealed copy of the bytes, palloc'd. Makes the master key file when there is none. Throws. */
bytea *a67_vault_seal(const uint8 *plaintext, Size len, const char *associated);

/*
 * The plaintext, palloc'd, its length in *len; the caller wipes it. Anything that is not exactly what
 * a67_vault_seal made with the same text raises one and the same error, without detail.
 */
uint8 *a67_vault_open(const uint8 *sealed, Size sealed_len, const char *associated, Size *len);

#endif /* A67_VAULT_H */
