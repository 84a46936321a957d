/*
 * master_key.h - the file that holds the key under which all secrets are sealed.
 *
 * Called by vault.c only.
 */
#ifndef A67_MASTER_KEY_H
#define A67_MASTER_KEY_H

#include "postgres.h"

#define A67_MASTER_KEY_BYTES 32

/*
 * Reads the key from a67.master_key_file; the caller wipes it. With create, a missing file is made first.
 * Throws when the file is missing, open to others than its owner, or not 64 hex digits.
 */
void a67_master_key_load(uint8 key[A67_MASTER_KEY_BYTES], bool create);

#endif /* A67_MASTER_KEY_H */
