/*
 * live_view.c - the shared table, a copy of it with one's own changes, or one made from rows.
 *
 * The copy is kept for the transaction and used again while nobody publishes anything: a reconciler that
 * places a hundred deployments copies once. What others commit in the meantime is seen at the next copy; the
 * rows, which are locked when something is promised, have the last word anyway.
 * Locks: A67_LOCK_LIVE shared, for the time of a copy or a look-up, or as long as a shared view is open.
 */
#include "postgres.h"

#include "registry/live_view.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "platform/settings.h"
#include "platform/shmem.h"
#include "registry/live_pending.h"
#include "registry/live_rows.h"

#define ROOM_AT_FIRST 256
#define COPY_LIFE_US  USECS_PER_SEC /* the metrics in a copy grow old */

struct A67PrivateTable
{
	MemoryContext context;
	A67Candidate *nodes;
	A67LiveSlot *slots;
	uint32 n;
	uint32 room;
	TimestampTz base;
	HTAB *places; /* A67LivePlace: of all nodes, or of those changed in a copy */
	HTAB *owners; /* A67LiveOwner */
	uint32 next_owner;
	bool copied; /* from the shared table: elements stand where they stood there */
};

/* The copy of this transaction, and what it was made of. */
static A67PrivateTable *copy;
static uint64 copy_transaction;
static uint64 copy_serial;
static uint64 copy_published;
static TimestampTz copied_at;

/* ---- private tables ---------------------------------------------------------------------------- */

static HTAB *
make_hash(const char *name, Size entry_size, MemoryContext context)
{
	HASHCTL control;

	memset(&control, 0, sizeof(control));
	control.keysize = 16;
	control.entrysize = entry_size;
	control.hcxt = context;
	return hash_create(name, 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static A67PrivateTable *
make_private(MemoryContext parent, uint32 room)
{
	MemoryContext context =
		AllocSetContextCreate(parent, "a67 private nodes", ALLOCSET_DEFAULT_SIZES);
	A67PrivateTable *table = MemoryContextAllocZero(context, sizeof(A67PrivateTable));

	table->context = context;
	table->room = Max(room, ROOM_AT_FIRST);
	table->nodes = MemoryContextAllocHuge(context, (Size) table->room * sizeof(A67Candidate));
	table->slots = MemoryContextAllocHuge(context, (Size) table->room * sizeof(A67LiveSlot));
	table->places = make_hash("a67 private places", sizeof(A67LivePlace), context);
	table->owners = make_hash("a67 private owners", sizeof(A67LiveOwner), context);
	table->next_owner = PG_UINT32_MAX;
	table->base =
		a67_live_header != NULL ? a67_live_header->base : GetCurrentTimestamp() - USECS_PER_DAY;
	return table;
}

/* The number of an owner: the shared table's in a copy of it, else one from the other end. */
static uint32
owner_number(A67PrivateTable *table, const uint8 owner_id[16])
{
	bool found;
	A67LiveOwner *entry = hash_search(table->owners, owner_id, HASH_ENTER, &found);

	if (found)
		return entry->number;
	entry->number = table->next_owner--;
	if (table->copied)
	{
		const A67LiveOwner *shared;

		LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
		shared = a67_live_owner(owner_id);
		if (shared != NULL)
			entry->number = shared->number;
		LWLockRelease(a67_lock(A67_LOCK_LIVE));
	}
	return entry->number;
}

/* A new element at the end. */
static uint32
add_private(A67PrivateTable *table, const uint8 node_id[16])
{
	if (table->n == table->room)
	{
		table->room *= 2;
		table->nodes = repalloc_huge(table->nodes, (Size) table->room * sizeof(A67Candidate));
		table->slots = repalloc_huge(table->slots, (Size) table->room * sizeof(A67LiveSlot));
	}
	a67_live_slot_init(&table->nodes[table->n], &table->slots[table->n], node_id);
	return table->n++;
}

static uint32
find_private(const A67PrivateTable *table, const uint8 node_id[16])
{
	A67LivePlace *entry = hash_search(table->places, node_id, HASH_FIND, NULL);
	uint32 place;

	if (entry != NULL || !table->copied)
		return entry != NULL ? entry->place : A67_NO_PLACE;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	place = a67_live_place(node_id);
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	/* It may have come, gone or moved since the copy. */
	if (place < table->n && (table->nodes[place].flags & A67_NODE_USED) &&
		memcmp(table->slots[place].traits.id, node_id, 16) == 0)
		return place;
	return A67_NO_PLACE;
}

/* Like a67_live_publish. */
static void
put_private(const A67NodeFacts *facts, void *arg)
{
	A67PrivateTable *table = arg;
	uint32 place = find_private(table, facts->traits.id);
	bool removed = facts->kind == A67_FACTS_NODE && facts->node.removed;
	bool found;

	if (removed && place != A67_NO_PLACE)
	{
		table->nodes[place].flags = 0;
		(void) hash_search(table->places, facts->traits.id, HASH_REMOVE, NULL);
	}
	if (removed || (place == A67_NO_PLACE && facts->kind != A67_FACTS_NODE))
		return;
	if (place == A67_NO_PLACE)
	{
		A67LivePlace *entry = hash_search(table->places, facts->traits.id, HASH_ENTER, &found);

		place = entry->place = add_private(table, facts->traits.id);
	}
	if (facts->kind == A67_FACTS_NODE)
		table->nodes[place].owner = owner_number(table, facts->node.owner_id);
	a67_facts_apply(&table->nodes[place], &table->slots[place], facts, table->base);
}

static void
show_private(A67LiveView *view, A67PrivateTable *table, const uint8 owner_id[16])
{
	view->table = table;
	view->owner = owner_number(table, owner_id);
	view->base = table->base;
	view->candidates.nodes = table->nodes;
	view->candidates.traits = &table->slots[0].traits;
	view->candidates.stride = sizeof(A67LiveSlot);
	view->candidates.n = table->n;
}

/* ---- copies ------------------------------------------------------------------------------------ */

static bool
copy_current(void)
{
	return copy != NULL && copy_serial == a67_live_pending_serial() &&
		   copy_published == a67_live_header->published && a67_live_header->built &&
		   GetCurrentTimestamp() - copied_at < COPY_LIFE_US;
}

/* Makes the copy; NULL when the shared table has changed so that it cannot be used. */
static A67PrivateTable *
copy_shared(void)
{
	A67PrivateTable *table;
	uint32 used;

	if (copy != NULL && copy_transaction == a67_live_pending_transaction())
		MemoryContextDelete(copy->context);
	copy = NULL; /* one of an earlier transaction has gone with it */
	table = make_private(TopTransactionContext, a67_live_header->used + ROOM_AT_FIRST);
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	used = a67_live_header->used;
	if (used > table->room || !a67_live_header->built || a67_live_header->overflowed)
	{
		LWLockRelease(a67_lock(A67_LOCK_LIVE));
		MemoryContextDelete(table->context);
		return NULL;
	}
	memcpy(table->nodes, a67_live_nodes, used * sizeof(A67Candidate));
	memcpy(table->slots, a67_live_slots, used * sizeof(A67LiveSlot));
	copy_published = a67_live_header->published;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	table->n = used;
	table->copied = true;
	copied_at = GetCurrentTimestamp();
	copy_transaction = a67_live_pending_transaction();
	copy_serial = a67_live_pending_serial();
	copy = table;
	return table;
}

static bool
open_copy(A67LiveView *view, const uint8 owner_id[16])
{
	if (!copy_current() && copy_shared() == NULL)
		return false;
	/* All of them: one that was noted before may say something else by now. */
	for (int i = 0; i < a67_live_pending_count(); i++)
	{
		const A67NodeFacts *facts = a67_live_pending_facts(i);

		if (facts != NULL)
			put_private(facts, copy);
	}
	show_private(view, copy, owner_id);
	return true;
}

/* ---- opening ----------------------------------------------------------------------------------- */

static void
complain_once(void)
{
	bool first;

	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	first = !a67_live_header->complained;
	a67_live_header->complained = true;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	if (first)
		ereport(LOG, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					  errmsg("there are more nodes than the live node table has room for (%d)",
							 a67_max_nodes),
					  errdetail("Selections read the tables of nodes instead, which is slower."),
					  errhint("Increase a67.max_nodes and restart the server.")));
}

/* Whether the shared table can answer; builds it when that is all it needs. */
static bool
shared_usable(A67Pending pending)
{
	if (!a67_live_home() || RecoveryInProgress() || pending == A67_PENDING_ALL)
		return false;
	/* What this transaction has written may never be committed: it must not reach the shared table. */
	if (!a67_live_header->built &&
		(TransactionIdIsValid(GetTopTransactionIdIfAny()) || !a67_live_rebuild()))
		return false;
	if (!a67_live_header->overflowed)
		return true;
	complain_once();
	return false;
}

static bool
open_shared(A67LiveView *view, const uint8 owner_id[16])
{
	A67LiveOwner *owner;

	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	if (!a67_live_header->built || a67_live_header->overflowed)
	{
		LWLockRelease(a67_lock(A67_LOCK_LIVE));
		return false;
	}
	owner = a67_live_owner(owner_id);
	view->locked = true;
	view->candidates.nodes = a67_live_nodes;
	view->candidates.traits = &a67_live_slots[0].traits;
	view->candidates.stride = sizeof(A67LiveSlot);
	view->candidates.n = a67_live_header->used;
	view->candidates.bounds = a67_live_bounds;
	view->candidates.bound_weights = a67_live_header->weights;
	view->owner = owner != NULL ? owner->number : 0;
	view->turn = owner != NULL ? &owner->turn : NULL;
	view->base = a67_live_header->base;
	return true;
}

void
a67_live_view_open(A67LiveView *view, const uint8 owner_id[16])
{
	A67Pending pending = a67_live_pending();
	A67PrivateTable *table;

	memset(view, 0, sizeof(*view));
	if (shared_usable(pending) &&
		(pending == A67_PENDING_SOME ? open_copy(view, owner_id) : open_shared(view, owner_id)))
		return;
	table = make_private(CurrentMemoryContext, 0);
	a67_live_rows(put_private, table);
	show_private(view, table, owner_id);
}

void
a67_live_view_close(A67LiveView *view)
{
	if (view->locked)
		LWLockRelease(a67_lock(A67_LOCK_LIVE));
	else if (view->table != NULL && view->table != copy)
		MemoryContextDelete(view->table->context);
	memset(view, 0, sizeof(*view));
}

uint32
a67_live_view_find(const A67LiveView *view, const uint8 node_id[16])
{
	return view->locked ? a67_live_place(node_id) : find_private(view->table, node_id);
}
