/*
 * key_list.h - a short list of master keys on their way from a source into the key page.
 *
 * Pure: libsodium, no PostgreSQL. A list lives in memory that is locked and not dumped (a67_key_list_make) for
 * the time of one call. Called by key_source.c, key_file.c, vault_admin.c and unit tests.
 */
#ifndef A67_KEY_LIST_H
#define A67_KEY_LIST_H

#include "crypto/sealed.h"

#define A67_KEYS_MAX	  4 /* that one source may give, and that the server holds at once */
#define A67_KEY_LIST_MAX  (5 * A67_KEYS_MAX)
#define A67_KEY_TEXT_SIZE 64 /* hex digits of a key */

typedef enum A67KeySource
{
	A67_KEY_FROM_ENVIRONMENT,
	A67_KEY_FROM_COMMAND,
	A67_KEY_FROM_FILE,
	A67_KEY_FROM_PASSPHRASE,
	A67_KEY_GIVEN, /* by an administrator's call */
} A67KeySource;

typedef struct A67SourcedKey
{
	A67MasterKey key;
	A67KeySource source;
} A67SourcedKey;

typedef struct A67KeyList
{
	uint32_t count;
	A67SourcedKey keys[A67_KEY_LIST_MAX];
} A67KeyList;

/* An empty list in guarded memory; NULL when there is none. Freed, and wiped, by a67_key_list_free (NULL is fine). */
A67KeyList *a67_key_list_make(void);
void a67_key_list_free(A67KeyList *list);

/* Adds a key, naming it, unless it is there already. False when the list is full. */
bool a67_key_list_add(A67KeyList *list, const uint8_t key[A67_VAULT_KEY_BYTES],
					  A67KeySource source);

/*
 * Adds the keys of a text: one to A67_KEYS_MAX times 64 hex digits, with blanks, commas, semicolons or line ends
 * between them. False for anything else; nothing is added then.
 */
bool a67_key_list_parse(A67KeyList *list, const char *text, size_t len, A67KeySource source);

/* The key of this id; NULL when there is none. */
const A67SourcedKey *a67_key_list_find(const A67KeyList *list, const uint8_t id[A67_KEY_ID_BYTES]);

#endif /* A67_KEY_LIST_H */
