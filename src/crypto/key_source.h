/*
 * key_source.h - where master keys come from: environment, command, file.
 *
 * Called by vault_admin.c, in the launcher and in the processes of an administrator's calls.
 */
#ifndef A67_KEY_SOURCE_H
#define A67_KEY_SOURCE_H

#include "postgres.h"

#include "crypto/key_file.h"

/*
 * Adds the keys of all sources to the list, in their order: environment variable A67_MASTER_KEY,
 * a67.master_key_command, a67.master_key_file. A source that fails is passed over; why then says what is wrong
 * with the first such one, in a full sentence, and is empty otherwise. A missing file is no failure. Never
 * throws for what a source does. Waits for the command.
 */
void a67_key_sources_read(A67KeyList *list, char why[A67_KEY_WHY_SIZE]);

/*
 * A key derived from a passphrase by Argon2id (salt of A67_KDF_SALT_BYTES), added to the list. Throws when
 * there is not enough memory.
 */
#define A67_KDF_SALT_BYTES 16
typedef struct A67Kdf
{
	const uint8 *salt;
	int iterations;
	int memory_kb;
} A67Kdf;
void a67_key_derive(A67KeyList *list, const char *passphrase, Size len, const A67Kdf *kdf);

const char *a67_key_source_name(A67KeySource source);

#endif /* A67_KEY_SOURCE_H */
