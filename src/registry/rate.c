/*
 * rate.c - the shared table of token buckets; see rate.h.
 *
 * Open addressing within sets: a client's bucket lies in one of the WAYS entries of the set that its
 * hash names, so a search looks at that many and no more. The hash is keyed by a random number of this
 * server start: nobody can choose clients that meet in one set. A spinlock per set covers a few
 * comparisons and some arithmetic; nothing is called under it that could throw or wait.
 */
#include "postgres.h"

#include "registry/rate.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#define WAYS		8
#define CLIENTS_MIN 32768 /* buckets besides those of nodes */

typedef struct Entry
{
	uint8 client[A67_CLIENT_BYTES];
	uint32 class; /* A67_RATE_NONE: free */
	A67RateBucket bucket;
} Entry;

typedef struct EntrySet
{
	slock_t lock;
	Entry entries[WAYS];
} EntrySet;

typedef struct Table
{
	uint64 seed;
	uint32 mask; /* number of sets - 1 */
	EntrySet sets[FLEXIBLE_ARRAY_MEMBER];
} Table;

static Table *table;

/* Twice the room that every node's heartbeats and a good number of other clients need. */
static uint32
set_count(void)
{
	return pg_nextpower2_32((uint32) (CLIENTS_MIN + 2 * a67_max_nodes) / WAYS);
}

static Size
area_size(void)
{
	return MAXALIGN(offsetof(Table, sets) + (Size) set_count() * sizeof(EntrySet));
}

static void
attach(void)
{
	bool found;

	table = ShmemInitStruct("a67 rate limits", area_size(), &found);
	if (found)
		return;
	memset(table, 0, area_size());
	table->mask = set_count() - 1;
	if (!pg_strong_random(&table->seed, sizeof(table->seed)))
		table->seed = (uint64) MyStartTimestamp; /* still another one at each start */
	for (uint32 i = 0; i <= table->mask; i++)
		SpinLockInit(&table->sets[i].lock);
}

const A67ShmemArea a67_rate_area = {area_size, attach};

/* The order in which entries give way: 0 free, 1 full, 2 in use. */
static int
worth(const Entry *entry, const A67RateLimits *limits, int64 now_ms)
{
	if (entry->class == A67_RATE_NONE)
		return 0;
	return a67_rate_is_full(&entry->bucket, &limits->of[entry->class], now_ms) ? 1 : 2;
}

/* The entry of this client, perhaps taken from another one. */
static Entry *
find(EntrySet *set, A67RateClass class, const uint8 *client, int64 now_ms)
{
	Entry *victim = NULL;
	int least = 0;

	for (int i = 0; i < WAYS; i++)
	{
		Entry *entry = &set->entries[i];

		if (entry->class == class && memcmp(entry->client, client, A67_CLIENT_BYTES) == 0)
			return entry;
	}
	for (int i = 0; i < WAYS; i++)
	{
		Entry *entry = &set->entries[i];
		int value = worth(entry, a67_rates, now_ms);

		if (victim != NULL &&
			(value > least || (value == least && entry->bucket.at_ms >= victim->bucket.at_ms)))
			continue;
		victim = entry;
		least = value;
	}
	memcpy(victim->client, client, A67_CLIENT_BYTES);
	victim->class = class;
	victim->bucket = (A67RateBucket){.at_ms = now_ms};
	return victim;
}

void
a67_rate_count(A67RateClass class, const uint8 client[A67_CLIENT_BYTES], int64 now_ms,
			   A67RateAnswer *answer)
{
	const A67RateSpec *spec = &a67_rates->of[class];
	EntrySet *set;
	uint64 hash;

	if (table == NULL || spec->tokens == 0)
	{
		*answer = (A67RateAnswer){.allowed = true};
		return;
	}
	hash = hash_bytes_extended(client, A67_CLIENT_BYTES, table->seed ^ (uint64) class);
	set = &table->sets[hash & table->mask];
	SpinLockAcquire(&set->lock);
	a67_rate_take(&find(set, class, client, now_ms)->bucket, spec, now_ms, answer);
	SpinLockRelease(&set->lock);
}
