/*
 * key_file.h - the file that holds master keys: a67.master_key_file.
 *
 * One key a line, 64 hex digits, the current one first. It belongs to the server's user and is closed to all
 * others. Called by key_source.c and vault_admin.c.
 */
#ifndef A67_KEY_FILE_H
#define A67_KEY_FILE_H

#include "postgres.h"

#include "crypto/key_list.h"

#define A67_KEY_WHY_SIZE 256

typedef enum A67KeyFileState
{
	A67_KEY_FILE_READ,
	A67_KEY_FILE_MISSING,
	A67_KEY_FILE_REFUSED, /* unreadable, open to others, or not keys: *why says which */
} A67KeyFileState;

/* Adds the keys of the file to the list. Never throws; why holds a full sentence unless READ. */
A67KeyFileState a67_key_file_read(A67KeyList *list, char why[A67_KEY_WHY_SIZE]);

/*
 * Makes a file with one new key; another process may win, and either file is whole. Throws.
 */
void a67_key_file_create(void);

/*
 * Replaces the file, durably and at once; an empty list removes it. What keeps it from that is reported at
 * elevel, and then the old file stands.
 */
void a67_key_file_write(const A67KeyList *list, int elevel);

#endif /* A67_KEY_FILE_H */
