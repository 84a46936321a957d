/*
 * live.c - the live node table: places, beats, and what they leave behind.
 *
 * Invariants: a place's boot_id and state_version are those of the last beat that SQL accepted; `written`
 * counts writes of metrics and `flushed` is the count that the rows have. The epoch grows with each
 * forget, under the exclusive lock, so an acknowledgement that began before it can be told apart.
 * Locks: A67_LOCK_LIVE exclusive to take and free places and to publish facts, shared otherwise; then the
 * place's spinlock for what beats write. A selection scans under the shared lock without spinlocks: every
 * number of a candidate is whole, and a mixture of two beats is as true as either of them.
 * Nothing throws while a lock is held.
 */
#include "postgres.h"

#include "registry/live.h"

#include <math.h>

#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/history.h"
#include "platform/settings.h"
#include "registry/live_table.h"

/* The clock of tenths starts this long before the table is made, so that older times can be told. */
#define BEFORE_BASE (USECS_PER_DAY)

A67LiveHeader *a67_live_header;
A67Candidate *a67_live_nodes;
A67LiveSlot *a67_live_slots;
float *a67_live_bounds;

static HTAB *places;
static HTAB *owners;

static Size
area_size(void)
{
	Size size = MAXALIGN(sizeof(A67LiveHeader));

	size =
		add_size(size, add_size(mul_size(a67_max_nodes, sizeof(A67Candidate)), PG_CACHE_LINE_SIZE));
	size = add_size(size, mul_size(a67_max_nodes, sizeof(A67LiveSlot) + sizeof(float)));
	size = add_size(size, hash_estimate_size(a67_max_nodes, sizeof(A67LivePlace)));
	return add_size(size, hash_estimate_size(a67_max_nodes, sizeof(A67LiveOwner)));
}

static HTAB *
attach_hash(const char *name, Size entry_size)
{
	HASHCTL control;

	memset(&control, 0, sizeof(control));
	control.keysize = 16;
	control.entrysize = entry_size;
	return ShmemInitHash(name, a67_max_nodes, a67_max_nodes, &control,
						 HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static void
init_header(void)
{
	memset(a67_live_header, 0, sizeof(*a67_live_header));
	pg_atomic_init_u64(&a67_live_header->epoch, 0);
	a67_live_header->base = GetCurrentTimestamp() - BEFORE_BASE;
	a67_live_header->free = A67_NO_PLACE;
	a67_live_header->weights = *a67_weights;
}

static void
attach(void)
{
	bool found;
	void *nodes;

	a67_live_header = ShmemInitStruct("a67 live header", sizeof(A67LiveHeader), &found);
	if (!found)
		init_header();
	nodes =
		ShmemInitStruct("a67 live nodes",
						mul_size(a67_max_nodes, sizeof(A67Candidate)) + PG_CACHE_LINE_SIZE, &found);
	a67_live_nodes = (A67Candidate *) TYPEALIGN(PG_CACHE_LINE_SIZE, nodes);
	a67_live_slots =
		ShmemInitStruct("a67 live slots", mul_size(a67_max_nodes, sizeof(A67LiveSlot)), &found);
	a67_live_bounds =
		ShmemInitStruct("a67 live bounds", mul_size(a67_max_nodes, sizeof(float)), &found);
	places = attach_hash("a67 live places", sizeof(A67LivePlace));
	owners = attach_hash("a67 live owners", sizeof(A67LiveOwner));
}

const A67ShmemArea a67_live_area = {area_size, attach};

uint32
a67_live_tenths(TimestampTz base, TimestampTz at)
{
	int64 tenths = (at - base) / (A67_TENTH_MS * 1000);

	if (tenths < 1)
		return 1;
	return tenths < UINT32_MAX ? (uint32) tenths : UINT32_MAX;
}

/* ---- places and owners ------------------------------------------------------------------------- */

uint32
a67_live_place(const uint8 node_id[16])
{
	A67LivePlace *entry = hash_search(places, node_id, HASH_FIND, NULL);

	return entry != NULL ? entry->place : A67_NO_PLACE;
}

A67LiveOwner *
a67_live_owner(const uint8 owner_id[16])
{
	return hash_search(owners, owner_id, HASH_FIND, NULL);
}

void
a67_live_slot_init(A67Candidate *node, A67LiveSlot *slot, const uint8 node_id[16])
{
	memset(node, 0, sizeof(*node));
	node->flags = A67_NODE_USED;
	node->cpu_percent = node->memory_percent = node->latency_ms = NAN;
	node->active_connections = A67_UNKNOWN_COUNT;
	memset(slot, 0, sizeof(*slot));
	SpinLockInit(&slot->lock);
	memcpy(slot->traits.id, node_id, 16);
}

/* Keeps the bound of a place; whoever may write the candidate may write this. */
static void
keep_bound(uint32 place)
{
	A67ScoreBounds bounds = a67_score_bounds(&a67_live_header->weights);

	a67_live_bounds[place] = a67_score_bound(&a67_live_nodes[place], &bounds);
}

/* Takes a place for a node that has none; A67_NO_PLACE when the table is full. */
static uint32
take_place(const uint8 node_id[16])
{
	A67LiveHeader *header = a67_live_header;
	A67LivePlace *entry;
	uint32 place = header->free;
	bool found;

	if (place == A67_NO_PLACE && header->used == (uint32) a67_max_nodes)
		return A67_NO_PLACE;
	entry = hash_search(places, node_id, HASH_ENTER_NULL, &found);
	if (entry == NULL)
		return A67_NO_PLACE;
	if (place != A67_NO_PLACE)
		header->free = a67_live_slots[place].next_free;
	else
		place = header->used++;
	entry->place = place;
	a67_live_slot_init(&a67_live_nodes[place], &a67_live_slots[place], node_id);
	a67_live_slots[place].made = header->generation;
	keep_bound(place);
	return place;
}

/* One node less of that owner. */
static void
leave_owner(const A67LiveSlot *slot)
{
	A67LiveOwner *owner = a67_live_owner(slot->owner_id);

	if (slot->versions[A67_FACTS_NODE] != 0 && owner != NULL && --owner->nodes == 0)
		(void) hash_search(owners, slot->owner_id, HASH_REMOVE, NULL);
}

static void
free_place(uint32 place)
{
	A67LiveSlot *slot = &a67_live_slots[place];

	leave_owner(slot);
	(void) hash_search(places, slot->traits.id, HASH_REMOVE, NULL);
	a67_live_nodes[place].flags = 0;
	a67_live_nodes[place].owner = 0;
	slot->next_free = a67_live_header->free;
	a67_live_header->free = place;
	/* There is room again for one that found none: let the next selection look. */
	if (a67_live_header->overflowed)
		a67_live_header->built = a67_live_header->overflowed = false;
}

/* Makes the node one of that owner's. There are never more owners than nodes, so it always succeeds. */
static void
join_owner(A67Candidate *node, A67LiveSlot *slot, const uint8 owner_id[16])
{
	A67LiveOwner *owner;
	bool found;

	if (slot->versions[A67_FACTS_NODE] != 0 && memcmp(slot->owner_id, owner_id, 16) == 0)
		return;
	leave_owner(slot);
	slot->versions[A67_FACTS_NODE] = 0;
	memcpy(slot->owner_id, owner_id, 16);
	node->owner = 0;
	owner = hash_search(owners, owner_id, HASH_ENTER_NULL, &found);
	if (owner == NULL)
		return;
	if (!found)
	{
		owner->number = ++a67_live_header->next_owner;
		owner->nodes = 0;
		pg_atomic_init_u32(&owner->turn, 0);
	}
	owner->nodes++;
	node->owner = owner->number;
}

void
a67_live_remove(const uint8 node_id[16])
{
	uint32 place = a67_live_place(node_id);

	pg_atomic_fetch_add_u64(&a67_live_header->epoch, 1);
	a67_live_header->published++;
	if (place != A67_NO_PLACE)
		free_place(place);
}

void
a67_live_publish(const A67NodeFacts *facts)
{
	uint32 place = a67_live_place(facts->traits.id);
	A67LiveSlot *slot;

	if (facts->kind == A67_FACTS_NODE && facts->node.removed)
	{
		a67_live_remove(facts->traits.id);
		return;
	}
	if (place == A67_NO_PLACE && facts->kind == A67_FACTS_NODE)
	{
		place = take_place(facts->traits.id);
		a67_live_header->overflowed |= place == A67_NO_PLACE;
	}
	if (place == A67_NO_PLACE)
	{
		a67_live_header->missed++;
		return;
	}
	slot = &a67_live_slots[place];
	if (facts->version < slot->versions[facts->kind])
		return;
	a67_live_header->published++;
	if (facts->kind == A67_FACTS_NODE)
		join_owner(&a67_live_nodes[place], slot, facts->node.owner_id);
	a67_facts_apply(&a67_live_nodes[place], slot, facts, a67_live_header->base);
	keep_bound(place);
}

void
a67_live_reweigh(void)
{
	if (a67_live_header == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	if (!a67_score_same_weights(&a67_live_header->weights, a67_weights))
	{
		a67_live_header->weights = *a67_weights;
		for (uint32 i = 0; i < a67_live_header->used; i++)
			keep_bound(i);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

/* ---- beats ------------------------------------------------------------------------------------- */

uint64
a67_live_epoch(void)
{
	return a67_live_header ? pg_atomic_read_u64(&a67_live_header->epoch) : 0;
}

void
a67_live_add_history(uint32 place, TimestampTz now, const A67History *seen)
{
	A67Candidate *node = &a67_live_nodes[place];
	A67LiveSlot *slot = &a67_live_slots[place];
	A67History history = {node->requests, node->failures, node->latency_ms, slot->latency_of,
						  (int64) node->history_at * A67_TENTH_MS};

	a67_history_add(&history, (int64) a67_live_tenths(a67_live_header->base, now) * A67_TENTH_MS,
					seen->requests, seen->failures, seen->latency_ms);
	node->requests = (float) history.requests;
	node->failures = (float) history.failures;
	node->latency_ms = (float) history.latency_ms;
	slot->latency_of = history.latency_of;
	node->history_at = (uint32) (history.at_ms / A67_TENTH_MS);
	keep_bound(place);
}

/* Lets selections see the metrics of a beat; what it has counted is left out when that is in the history already. */
static void
show_metrics(uint32 place, const A67NodeMetrics *metrics, bool counted, TimestampTz now)
{
	A67Candidate *node = &a67_live_nodes[place];
	A67History seen = {(double) metrics->requests, (double) metrics->failures, metrics->latency_ms,
					   0, 0};

	node->cpu_percent = metrics->cpu_percent;
	node->memory_percent = metrics->memory_percent;
	node->active_connections =
		metrics->active_requests >= 0 ? (uint32) metrics->active_requests : A67_UNKNOWN_COUNT;
	node->metrics_at = Max(node->metrics_at, a67_live_tenths(a67_live_header->base, now));
	if (counted && (metrics->requests > 0 || metrics->latency_ms >= 0))
		a67_live_add_history(place, now, &seen);
	else
		keep_bound(place);
}

/* Overwrites the metrics with a beat that is not older than what is there; what only counts is added up. */
static void
store(uint32 place, const A67Beat *beat, TimestampTz now)
{
	A67LiveSlot *slot = &a67_live_slots[place];
	A67NodeMetrics waiting = slot->beat.metrics;
	bool routed;

	slot->last_seen_at = Max(slot->last_seen_at, now);
	if (beat->seq < slot->beat.seq)
		return;
	slot->beat.seq = beat->seq;
	slot->beat.metrics = beat->metrics;
	routed = a67_live_take_traffic(slot, &slot->beat.metrics);
	show_metrics(place, &slot->beat.metrics, !routed, now);
	if (slot->written != slot->flushed)
		a67_counts_add(&slot->beat.metrics, &waiting);
	slot->written++;
}

A67LiveResult
a67_live_beat(const uint8 node_id[16], const A67Beat *beat, TimestampTz now)
{
	A67LiveResult result = A67_LIVE_UNKNOWN;
	uint32 place;

	if (a67_live_header == NULL)
		return A67_LIVE_UNKNOWN;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	place = a67_live_place(node_id);
	if (place != A67_NO_PLACE)
	{
		A67LiveSlot *slot = &a67_live_slots[place];

		SpinLockAcquire(&slot->lock);
		if (slot->beat.boot_id[0] != '\0' && slot->beat.state_version == beat->state_version &&
			strcmp(slot->beat.boot_id, beat->boot_id) == 0)
		{
			store(place, beat, now);
			result = A67_LIVE_STORED;
		}
		SpinLockRelease(&slot->lock);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return result;
}

void
a67_live_ack(const uint8 node_id[16], const A67Beat *beat, TimestampTz now, uint64 epoch)
{
	uint32 place = A67_NO_PLACE;

	if (a67_live_header == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	if (a67_live_epoch() == epoch)
	{
		place = a67_live_place(node_id);
		if (place == A67_NO_PLACE)
			place = take_place(node_id);
	}
	if (place != A67_NO_PLACE)
	{
		A67LiveSlot *slot = &a67_live_slots[place];

		/* SQL has written these metrics to the rows itself: nothing to flush. */
		slot->beat = *beat;
		slot->last_seen_at = Max(slot->last_seen_at, now);
		slot->flushed = ++slot->written;
		if (slot->routed && a67_ingress)
			slot->beat.metrics.active_requests = slot->routed_active;
		show_metrics(place, &slot->beat.metrics, !(slot->routed && a67_ingress), now);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

bool
a67_live_restore(const uint8 node_id[16], const A67Beat *beat, TimestampTz seen_at, uint64 epoch)
{
	uint32 place;
	bool current;

	if (a67_live_header == NULL)
		return true;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	current = a67_live_epoch() == epoch;
	place = current ? a67_live_place(node_id) : A67_NO_PLACE;
	if (current && place == A67_NO_PLACE)
		place = take_place(node_id);
	if (place != A67_NO_PLACE && a67_live_slots[place].beat.boot_id[0] == '\0')
	{
		A67LiveSlot *slot = &a67_live_slots[place];

		slot->beat = *beat;
		slot->last_seen_at = Max(slot->last_seen_at, seen_at);
		slot->flushed = slot->written;
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return current;
}

void
a67_live_forget(const uint8 node_id[16])
{
	uint32 place;

	if (a67_live_header == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	pg_atomic_fetch_add_u64(&a67_live_header->epoch, 1);
	place = a67_live_place(node_id);
	if (place != A67_NO_PLACE)
	{
		A67LiveSlot *slot = &a67_live_slots[place];

		memset(&slot->beat, 0, sizeof(slot->beat));
		slot->flushed = slot->written;
		if (slot->versions[A67_FACTS_NODE] == 0)
			free_place(place);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

static void
empty_hash(HTAB *hash)
{
	HASH_SEQ_STATUS scan;
	void *entry;

	hash_seq_init(&scan, hash);
	while ((entry = hash_seq_search(&scan)) != NULL)
		(void) hash_search(hash, entry, HASH_REMOVE, NULL);
}

void
a67_live_clear(void)
{
	A67LiveHeader *header = a67_live_header;

	if (header == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	pg_atomic_fetch_add_u64(&header->epoch, 1);
	empty_hash(places);
	empty_hash(owners);
	header->used = 0;
	header->free = A67_NO_PLACE;
	header->built = header->overflowed = header->complained = false;
	header->published++;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

/* ---- reading ----------------------------------------------------------------------------------- */

int
a67_live_drain(A67LiveDirty *out, int max)
{
	int count = 0;

	if (a67_live_header == NULL || max <= 0)
		return 0;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	for (uint32 i = 0; i < a67_live_header->used && count < max; i++)
	{
		A67LiveSlot *slot = &a67_live_slots[i];

		if (!(a67_live_nodes[i].flags & A67_NODE_USED) || slot->written == slot->flushed)
			continue;
		SpinLockAcquire(&slot->lock);
		memcpy(out[count].node_id, slot->traits.id, 16);
		out[count].generation = slot->written;
		out[count].at = slot->last_seen_at;
		out[count].metrics = slot->beat.metrics;
		SpinLockRelease(&slot->lock);
		count++;
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return count;
}

void
a67_live_flushed(const A67LiveDirty *entries, int count)
{
	if (a67_live_header == NULL)
		return;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	for (int i = 0; i < count; i++)
	{
		uint32 place = a67_live_place(entries[i].node_id);
		A67LiveSlot *slot;

		if (place == A67_NO_PLACE)
			continue;
		slot = &a67_live_slots[place];
		SpinLockAcquire(&slot->lock);
		if ((int32) (entries[i].generation - slot->flushed) > 0)
		{
			slot->flushed = entries[i].generation;
			if (slot->flushed != slot->written)
				a67_counts_subtract(&slot->beat.metrics, &entries[i].metrics);
		}
		SpinLockRelease(&slot->lock);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

static void
copy_place(uint32 place, TimestampTz now, A67LiveRow *row)
{
	TimestampTz base = a67_live_header->base;
	A67LiveSlot *slot = &a67_live_slots[place];
	double left;

	SpinLockAcquire(&slot->lock);
	row->last_seen_at = slot->last_seen_at;
	row->beat = slot->beat;
	row->node = a67_live_nodes[place];
	SpinLockRelease(&slot->lock);
	memcpy(row->node_id, slot->traits.id, 16);
	memcpy(row->owner_id, slot->owner_id, 16);
	row->metrics_at =
		row->node.metrics_at == 0 ? 0 : base + (int64) row->node.metrics_at * A67_TENTH_MS * 1000;
	left =
		a67_score_decay(((int64) a67_live_tenths(base, now) - row->node.history_at) * A67_TENTH_MS);
	row->requests = row->node.requests * left;
	row->failures = row->node.failures * left;
}

A67LiveRow *
a67_live_copy(TimestampTz now, int *count)
{
	/* Room is taken before the lock; nodes that arrive in between are not shown this time. */
	uint32 room = a67_live_header ? a67_live_header->used + 64 : 0;
	A67LiveRow *rows =
		MemoryContextAllocHuge(CurrentMemoryContext, (Size) (room + 1) * sizeof(A67LiveRow));

	*count = 0;
	if (a67_live_header == NULL)
		return rows;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	for (uint32 i = 0; i < a67_live_header->used && *count < (int) room; i++)
	{
		if (a67_live_nodes[i].flags & A67_NODE_USED)
			copy_place(i, now, &rows[(*count)++]);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return rows;
}
