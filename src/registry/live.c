/*
 * live.c - the live node table over one fixed-size hash table in shared memory.
 *
 * Invariants: an entry's boot_id and state_version are those of the last beat that SQL accepted; `written`
 * counts writes of metrics and `flushed` is the count that the rows have. The epoch grows with each
 * forget, under the exclusive lock, so an acknowledgement that began before it can be told apart.
 * Locks: A67_LOCK_LIVE exclusive to add or drop entries, shared otherwise; then the entry's spinlock for its
 * content. Nothing throws while a spinlock is held.
 */
#include "postgres.h"

#include "registry/live.h"

#include "access/xact.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "platform/settings.h"

/* Nodes that one transaction can forget one by one; beyond it, the whole table is dropped at commit. */
#define FORGET_MAX 1024

typedef struct Entry
{
	uint8 node_id[16]; /* hash key: must be first */
	slock_t lock;
	uint32 written;
	uint32 flushed;
	TimestampTz last_seen_at;
	A67Beat beat;
} Entry;

typedef struct LiveHeader
{
	pg_atomic_uint64 epoch;
} LiveHeader;

static LiveHeader *header;
static HTAB *table;

typedef struct Forgotten
{
	int count; /* FORGET_MAX + 1: all */
	uint8 ids[FORGET_MAX][16];
} Forgotten;

static Forgotten *forgotten; /* by this transaction; in TopTransactionContext */

static Size
area_size(void)
{
	return add_size(MAXALIGN(sizeof(LiveHeader)), hash_estimate_size(a67_max_nodes, sizeof(Entry)));
}

static void
attach(void)
{
	HASHCTL control;
	bool found;

	header = ShmemInitStruct("a67 live header", sizeof(LiveHeader), &found);
	if (!found)
		pg_atomic_init_u64(&header->epoch, 0);

	memset(&control, 0, sizeof(control));
	control.keysize = 16;
	control.entrysize = sizeof(Entry);
	table = ShmemInitHash("a67 live nodes", a67_max_nodes, a67_max_nodes, &control,
						  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

const A67ShmemArea a67_live_area = {area_size, attach};

uint64
a67_live_epoch(void)
{
	return header ? pg_atomic_read_u64(&header->epoch) : 0;
}

/* Overwrites the metrics with a beat that is not older than what is there. */
static void
store(Entry *entry, const A67Beat *beat, TimestampTz now)
{
	entry->last_seen_at = Max(entry->last_seen_at, now);
	if (beat->seq < entry->beat.seq)
		return;
	entry->beat.seq = beat->seq;
	entry->beat.metrics = beat->metrics;
	entry->written++;
}

A67LiveResult
a67_live_beat(const uint8 node_id[16], const A67Beat *beat, TimestampTz now)
{
	A67LiveResult result = A67_LIVE_UNKNOWN;
	Entry *entry;

	if (table == NULL)
		return A67_LIVE_UNKNOWN;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	entry = hash_search(table, node_id, HASH_FIND, NULL);
	if (entry != NULL)
	{
		SpinLockAcquire(&entry->lock);
		if (entry->beat.state_version == beat->state_version &&
			strcmp(entry->beat.boot_id, beat->boot_id) == 0)
		{
			store(entry, beat, now);
			result = A67_LIVE_STORED;
		}
		SpinLockRelease(&entry->lock);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return result;
}

/* The entry of a node, made when there is none and room; the exclusive lock is held. */
static Entry *
enter(const uint8 node_id[16])
{
	bool found;
	Entry *entry = hash_search(table, node_id, HASH_ENTER_NULL, &found);

	if (entry == NULL || found)
		return entry;
	SpinLockInit(&entry->lock);
	entry->written = 0;
	entry->flushed = 0;
	entry->last_seen_at = 0;
	memset(&entry->beat, 0, sizeof(entry->beat));
	return entry;
}

void
a67_live_ack(const uint8 node_id[16], const A67Beat *beat, TimestampTz now, uint64 epoch)
{
	Entry *entry;

	if (table == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	entry = a67_live_epoch() == epoch ? enter(node_id) : NULL;
	if (entry != NULL)
	{
		/* SQL has written these metrics to the rows itself: nothing to flush. */
		entry->beat = *beat;
		entry->last_seen_at = Max(entry->last_seen_at, now);
		entry->flushed = ++entry->written;
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

void
a67_live_forget(const uint8 node_id[16])
{
	if (table == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	pg_atomic_fetch_add_u64(&header->epoch, 1);
	(void) hash_search(table, node_id, HASH_REMOVE, NULL);
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

void
a67_live_clear(void)
{
	HASH_SEQ_STATUS scan;
	Entry *entry;

	if (table == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	pg_atomic_fetch_add_u64(&header->epoch, 1);
	hash_seq_init(&scan, table);
	while ((entry = hash_seq_search(&scan)) != NULL)
		(void) hash_search(table, entry->node_id, HASH_REMOVE, NULL);
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	Forgotten *list = forgotten;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	forgotten = NULL; /* its memory goes with the transaction */
	if (list == NULL || event == XACT_EVENT_ABORT)
		return;

	/* A prepared transaction forgets at once: a superfluous loss costs one beat through SQL. */
	if (list->count > FORGET_MAX)
		a67_live_clear();
	else
	{
		for (int i = 0; i < list->count; i++)
			a67_live_forget(list->ids[i]);
	}
}

void
a67_live_forget_at_commit(const uint8 node_id[16])
{
	static bool registered = false;

	if (table == NULL)
		return;
	if (!registered)
		RegisterXactCallback(at_end_of_transaction, NULL);
	registered = true;
	if (forgotten == NULL)
		forgotten = MemoryContextAllocZero(TopTransactionContext, sizeof(*forgotten));
	if (forgotten->count < FORGET_MAX)
		memcpy(forgotten->ids[forgotten->count], node_id, 16);
	if (forgotten->count <= FORGET_MAX)
		forgotten->count++;
}

int
a67_live_drain(A67LiveDirty *out, int max)
{
	HASH_SEQ_STATUS scan;
	Entry *entry;
	int count = 0;

	if (table == NULL || max <= 0)
		return 0;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	hash_seq_init(&scan, table);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		SpinLockAcquire(&entry->lock);
		if (entry->written != entry->flushed)
		{
			memcpy(out[count].node_id, entry->node_id, 16);
			out[count].generation = entry->written;
			out[count].at = entry->last_seen_at;
			out[count].metrics = entry->beat.metrics;
			count++;
		}
		SpinLockRelease(&entry->lock);
		if (count == max)
		{
			hash_seq_term(&scan);
			break;
		}
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return count;
}

void
a67_live_flushed(const A67LiveDirty *entries, int count)
{
	if (table == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	for (int i = 0; i < count; i++)
	{
		Entry *entry = hash_search(table, entries[i].node_id, HASH_FIND, NULL);

		if (entry == NULL)
			continue;
		SpinLockAcquire(&entry->lock);
		if (entry->flushed != entry->written)
			entry->flushed = entries[i].generation;
		SpinLockRelease(&entry->lock);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

A67LiveRow *
a67_live_copy(int *count)
{
	/* Room is taken before the lock; nodes that arrive in between are not shown this time. */
	long room = table ? hash_get_num_entries(table) + 64 : 0;
	A67LiveRow *rows =
		MemoryContextAllocHuge(CurrentMemoryContext, (Size) (room + 1) * sizeof(A67LiveRow));
	HASH_SEQ_STATUS scan;
	Entry *entry;

	*count = 0;
	if (table == NULL)
		return rows;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	hash_seq_init(&scan, table);
	while (*count < room && (entry = hash_seq_search(&scan)) != NULL)
	{
		A67LiveRow *row = &rows[(*count)++];

		memcpy(row->node_id, entry->node_id, sizeof(row->node_id));
		SpinLockAcquire(&entry->lock);
		row->last_seen_at = entry->last_seen_at;
		row->beat = entry->beat;
		SpinLockRelease(&entry->lock);
	}
	if (*count == room)
		hash_seq_term(&scan);
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return rows;
}
