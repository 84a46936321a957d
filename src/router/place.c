/*
 * place.c - on which shard a key is: the ring, the ranges, the directory; see catalog.h.
 *
 * Of a directory only keys that were asked for are cached, and only those that it has; a change of the directory drops the
 * table's cache with all of the table (catalog.c).
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "router/catalog_load.h"
#include "router/key.h"
#include "router/place.h"

/* Longer keys are looked up each time; more keys than this, and the cache begins anew. */
#define KNOWN_KEY_SIZE 64
#define KNOWN_KEYS_MAX 8192

typedef struct KnownKey
{
	char key[KNOWN_KEY_SIZE]; /* NUL-terminated */
	int shard;
} KnownKey;

struct A67Directory
{
	MemoryContext context;
	HTAB *known;
};

static HTAB *
create_known(MemoryContext context)
{
	HASHCTL control = {.keysize = KNOWN_KEY_SIZE, .entrysize = sizeof(KnownKey), .hcxt = context};

	return hash_create("a67 directory keys", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

A67Directory *
a67_directory_create(void)
{
	A67Directory *directory = palloc(sizeof(A67Directory));

	directory->context = CurrentMemoryContext;
	directory->known = create_known(directory->context);
	return directory;
}

static void
remember(A67Directory *directory, const char *key, int shard)
{
	KnownKey *known;

	if (hash_get_num_entries(directory->known) >= KNOWN_KEYS_MAX)
	{
		HTAB *empty = create_known(directory->context);

		hash_destroy(directory->known);
		directory->known = empty;
	}
	known = hash_search(directory->known, key, HASH_ENTER, NULL);
	known->shard = shard;
}

static int
shard_in_directory(const A67Table *table, Datum key, Oid type)
{
	StringInfoData text;
	const KnownKey *known = NULL;
	int shard;

	initStringInfo(&text);
	a67_key_text(&text, key, type);
	if (text.len < KNOWN_KEY_SIZE)
		known = hash_search(table->directory->known, text.data, HASH_FIND, NULL);
	if (known != NULL)
		shard = known->shard;
	else
	{
		shard = a67_directory_load(table, text.data);
		if (shard >= 0 && text.len < KNOWN_KEY_SIZE)
			remember(table->directory, text.data, shard);
	}
	pfree(text.data);
	return shard;
}

/* Index of the last range that begins at or before the key; -1: none does. */
static int
range_before(const A67Table *table, Datum key, Oid type)
{
	int low = 0;
	int high = table->range_count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		const A67Range *range = &table->ranges[middle];

		if (!range->has_lower ||
			a67_key_compare(range->lower, table->key_type, key, type, table->key_collation) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

static int
shard_in_ranges(const A67Table *table, Datum key, Oid type)
{
	int at = range_before(table, key, type);
	const A67Range *range;

	if (at < 0)
		return -1;
	range = &table->ranges[at];
	if (range->has_upper &&
		a67_key_compare(key, type, range->upper, table->key_type, table->key_collation) >= 0)
		return -1;
	return range->shard;
}

int
a67_shard_of_key(const A67Table *table, Datum key, Oid type)
{
	switch (table->strategy)
	{
		case A67_HASH:
			return (int) a67_ring_lookup(&table->database->ring, a67_key_hash(key, type))->id;
		case A67_RANGE:
			return shard_in_ranges(table, key, type);
		case A67_DIRECTORY:
			return shard_in_directory(table, key, type);
		case A67_LOCAL:
			return table->home;
		case A67_REFERENCE:
			break;
	}
	elog(ERROR, "rows of reference table %u are on every shard", table->relid);
	return -1;
}
