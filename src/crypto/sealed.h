/*
 * sealed.h - the format of sealed values: a data key per value, wrapped under a master key.
 *
 *   version 2 (1 byte) | key id (8) | nonce (24), wrapped data key (48) | nonce (24), ciphertext and tag
 *
 * Both boxes are XChaCha20-Poly1305 with random nonces. The value's box authenticates the caller's text (which
 * column of which row it belongs to); the data key's box authenticates version and key id. A new wrapping
 * therefore needs neither the text nor the value.
 * Pure: libsodium, no PostgreSQL; nothing throws or allocates. The caller must have called sodium_init() once
 * in the process, and wipes data keys. Called by vault.c, master_key.c and unit tests.
 */
#ifndef A67_SEALED_H
#define A67_SEALED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_SEALED_VERSION	2
#define A67_VAULT_KEY_BYTES 32 /* master keys and data keys */
#define A67_KEY_ID_BYTES	8
#define A67_WRAP_BYTES		(24 + A67_VAULT_KEY_BYTES + 16)
#define A67_SEALED_HEAD		(1 + A67_KEY_ID_BYTES + A67_WRAP_BYTES)
#define A67_SEALED_OVERHEAD (A67_SEALED_HEAD + 24 + 16)

/* A master key and the name it goes by, which says nothing about it. */
typedef struct A67MasterKey
{
	uint8_t id[A67_KEY_ID_BYTES];
	uint8_t key[A67_VAULT_KEY_BYTES];
} A67MasterKey;

/* Computes the id: a keyed hash, so that nobody without the key can tell whether a guess is right. */
void a67_master_key_name(A67MasterKey *key);

/* The id under which the data key is wrapped; NULL when this cannot be a sealed value. */
const uint8_t *a67_sealed_key_id(const uint8_t *sealed, size_t len);

/* Writes the head of a sealed value (A67_SEALED_HEAD bytes): the data key wrapped under the master key. */
void a67_sealed_wrap(const A67MasterKey *key, const uint8_t data_key[A67_VAULT_KEY_BYTES],
					 uint8_t *sealed);

/* The data key; false when the head was not made with this key, or is damaged. */
bool a67_sealed_unwrap(const A67MasterKey *key, const uint8_t *sealed, size_t len,
					   uint8_t data_key[A67_VAULT_KEY_BYTES]);

/* What a value belongs to. */
typedef struct A67Associated
{
	const char *text;
	size_t len;
} A67Associated;

/* Writes what follows the head: len + A67_SEALED_OVERHEAD - A67_SEALED_HEAD bytes. */
void a67_sealed_encrypt(const uint8_t data_key[A67_VAULT_KEY_BYTES], A67Associated associated,
						const uint8_t *plaintext, size_t len, uint8_t *sealed);

/* The plaintext, sealed_len - A67_SEALED_OVERHEAD bytes; false for anything but what was encrypted. */
bool a67_sealed_decrypt(const uint8_t data_key[A67_VAULT_KEY_BYTES], A67Associated associated,
						const uint8_t *sealed, size_t sealed_len, uint8_t *plaintext);

#endif /* A67_SEALED_H */
