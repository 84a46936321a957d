/*
 * keyring.c - the shared copy of the token keys, and its publication from SQL.
 *
 * Owns one A67Keyring in guarded pages. Readers compare a version first and copy only when it changed.
 * Lock: A67_LOCK_KEYRING; the version is an atomic beside it.
 */
#include "postgres.h"

#include "crypto/keyring.h"

#include <sodium.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "crypto/vault.h"
#include "platform/errors.h"
#include "platform/shmem.h"

typedef struct SharedKeyring
{
	pg_atomic_uint32 version;
	A67Keyring keys;
} SharedKeyring;

static SharedKeyring *shared;

/* The ring is not in the server's own shared memory, which goes into core files. */
static Size
no_size(void)
{
	return 0;
}

/* In the postmaster. After a crash of a process the ring may be half-written: it is published anew. */
static void
attach(void)
{
	uint32 version = shared == NULL ? 0 : pg_atomic_read_u32(&shared->version) + 1;

	if (shared == NULL)
		shared = a67_guarded_map(sizeof(*shared));
	sodium_memzero(&shared->keys, sizeof(shared->keys));
	shared->keys.version = version;
	pg_atomic_init_u32(&shared->version, version);
}

const A67ShmemArea a67_keyring_area = {no_size, attach};

bool
a67_keyring_snapshot(A67Keyring *copy)
{
	if (shared == NULL)
		return false;
	if (pg_atomic_read_u32(&shared->version) == copy->version)
		return true;
	LWLockAcquire(a67_lock(A67_LOCK_KEYRING), LW_SHARED);
	*copy = shared->keys;
	LWLockRelease(a67_lock(A67_LOCK_KEYRING));
	return true;
}

static bool
same_keys(const A67Keyring *a, const A67Keyring *b)
{
	return a->count == b->count && memcmp(a->keys, b->keys, sizeof(a->keys)) == 0;
}

void
a67_keyring_replace(const A67Keyring *keys)
{
	LWLockAcquire(a67_lock(A67_LOCK_KEYRING), LW_EXCLUSIVE);
	if (!same_keys(&shared->keys, keys))
	{
		uint32 version = pg_atomic_read_u32(&shared->version) + 1;

		sodium_memzero(&shared->keys, sizeof(shared->keys));
		shared->keys = *keys;
		shared->keys.version = version;
		pg_atomic_write_u32(&shared->version, version);
	}
	LWLockRelease(a67_lock(A67_LOCK_KEYRING));
}

/* Opens one sealed key into the ring. */
static void
add_key(A67Keyring *ring, const char *kid, const bytea *sealed)
{
	Size len;
	uint8 *key;
	bool fits;

	if (kid[0] == '\0' || strlen(kid) >= A67_JWT_KID_SIZE)
		a67_error_parameter("kids", "A key id has 1 to 63 characters.");
	key = a67_vault_open((const uint8 *) VARDATA_ANY(sealed), VARSIZE_ANY_EXHDR(sealed),
						 psprintf("signing_key.sealed:%s", kid), &len);
	fits = len == A67_JWT_KEY_BYTES;
	if (fits)
	{
		strlcpy(ring->keys[ring->count].kid, kid, A67_JWT_KID_SIZE);
		memcpy(ring->keys[ring->count].key, key, A67_JWT_KEY_BYTES);
		ring->count++;
	}
	sodium_memzero(key, len);
	pfree(key);
	if (!fits)
		a67_error_parameter("sealed", "A key has 32 bytes.");
}

static void
elements(ArrayType *array, Oid type, const char *name, Datum **values, int *count)
{
	bool *nulls;
	bool is_text = type == TEXTOID;

	deconstruct_array(array, type, -1, false, TYPALIGN_INT, values, &nulls, count);
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			a67_error_null(name);
	}
	if (*count > A67_KEYRING_MAX)
		a67_error_parameter(is_text ? "kids" : "sealed", "There can be at most 8 keys.");
}

PG_FUNCTION_INFO_V1(a67_sql_keyring_publish);

/* _keyring_publish(kids text[], sealed bytea[]) returns void; strict */
Datum
a67_sql_keyring_publish(PG_FUNCTION_ARGS)
{
	Datum *kids;
	Datum *sealed;
	int kid_count;
	int sealed_count;
	A67Keyring *ring = palloc0(sizeof(A67Keyring));

	a67_shared_require();
	a67_crypto_init();
	elements(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, "kids", &kids, &kid_count);
	elements(PG_GETARG_ARRAYTYPE_P(1), BYTEAOID, "sealed", &sealed, &sealed_count);
	if (kid_count != sealed_count)
		a67_error_parameter("sealed", "It must have as many elements as \"kids\".");

	PG_TRY();
	{
		for (int i = 0; i < kid_count; i++)
			add_key(ring, TextDatumGetCString(kids[i]), DatumGetByteaPP(sealed[i]));
		a67_keyring_replace(ring);
	}
	PG_FINALLY();
	{
		sodium_memzero(ring, sizeof(*ring));
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}
