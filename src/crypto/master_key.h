/*
 * master_key.h - the master keys that the server holds, in guarded pages.
 *
 * Key 0 is the current one: new values are sealed under it. The others open what is not wrapped anew yet. No
 * keys: the vault is sealed. Which keys belong there is decided from rows (sql/api/vault.sql); keys never leave
 * the pages but in a list on their way to the file of keys.
 * Lock: A67_LOCK_VAULT, held for microseconds. Everything but a67_master_keys_open needs the library preloaded.
 */
#ifndef A67_MASTER_KEY_H
#define A67_MASTER_KEY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "crypto/key_list.h"
#include "platform/shmem.h"

/* What may be told of the vault. */
typedef struct A67VaultState
{
	uint32 count; /* 0: sealed */
	struct
	{
		uint8 id[A67_KEY_ID_BYTES];
		A67KeySource source;
	} keys[A67_KEYS_MAX];
	bool held;			  /* sealed on purpose: opened by a67.vault_unseal() alone */
	int64 failures;		  /* wrong keys since the last right one */
	TimestampTz retry_at; /* no key is looked at before */
} A67VaultState;

/* Checks the pages after a crash; attached in the postmaster alone. */
extern const A67ShmemArea a67_master_keys_area;

/*
 * Makes the pages and takes the keys of the environment variable A67_MASTER_KEY into them; nothing of it stays
 * in the environment. While preloading only.
 */
void a67_master_keys_open(void);

/* Whether there are no keys. Cheap, no lock; true without the library preloaded. Never throws. */
bool a67_vault_is_sealed(void);

void a67_vault_state(A67VaultState *state);

/* The id of the current key; false when sealed. */
bool a67_master_key_current(uint8 id[A67_KEY_ID_BYTES]);

/* Wraps a data key under the current key, provided that it is still the one of this id. */
bool a67_master_key_wrap(const uint8 id[A67_KEY_ID_BYTES], const uint8 *data_key, uint8 *sealed);

/* Unwraps the data key of a sealed value with whichever key it needs. */
bool a67_master_key_unwrap(const uint8 *sealed, Size len, uint8 *data_key);

/* Adds copies of all held keys, then of those of the environment. */
void a67_master_keys_list(A67KeyList *list);
void a67_environment_keys_list(A67KeyList *list);

/*
 * Holds exactly the keys of the list, at most A67_KEYS_MAX, the first one current. An empty list seals. Ends
 * the hold and forgets failures unless the list is empty.
 */
void a67_master_keys_replace(const A67KeyList *list);

/* Makes a held key the current one; false when it is not held. */
bool a67_master_key_select(const uint8 id[A67_KEY_ID_BYTES]);

/* Forgets one key that is not current. */
void a67_master_key_forget(const uint8 id[A67_KEY_ID_BYTES]);

/* Forgets all keys, those of the environment too, and holds the vault sealed. */
void a67_master_keys_hold(void);

/* Whether a key may be tried now; and that the one tried was wrong. */
bool a67_master_key_may_try(void);
void a67_master_key_failed(void);

#endif /* A67_MASTER_KEY_H */
