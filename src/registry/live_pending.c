/*
 * live_pending.c - changes of nodes that wait for the commit of their transaction.
 *
 * One list per backend, in TopTransactionContext, in order of the changes; a change of what the same
 * subtransaction changed before takes its place. A subtransaction that is rolled back takes its changes
 * along. A transaction with more than PENDING_MAX changes does not list them: at its commit the table counts
 * as not built, and the launcher is woken to build it. At commit nothing allocates and nothing throws.
 * A prepared transaction would be committed by somebody who does not have the list, so one that has changed
 * nodes cannot be prepared.
 */
#include "postgres.h"

#include "registry/live_pending.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "platform/settings.h"
#include "platform/shmem.h"
#include "platform/slots.h"
#include "platform/wake.h"
#include "registry/live_table.h"

#define PENDING_MAX 16384

typedef struct Change
{
	SubTransactionId by;
	bool forget; /* of the fast path's beats; else facts */
	A67NodeFacts facts;
} Change;

/* Finds the latest change of a kind of a node. */
typedef struct Latest
{
	struct
	{
		uint8 node_id[16];
		uint32 kind; /* A67_FACTS_KINDS: forget */
	} key;
	int change;
} Latest;

typedef struct Pending
{
	Change *changes;
	int count;
	int room;
	HTAB *latest; /* NULL: to be made anew */
	bool rebuild; /* facts were left out */
	bool clear;	  /* everything goes, beats too */
} Pending;

static Pending pending;
static uint64 transactions; /* that have ended */
static uint64 serial;		/* counts these, and changes that were taken back */

/* Another database of that name took the place of the one that the table was about. */
static void
move_in(void)
{
	a67_live_clear();
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	a67_live_header->database = MyDatabaseId;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
}

bool
a67_live_home(void)
{
	static Oid known = InvalidOid; /* the database of a backend never changes */
	static bool home;

	if (a67_live_header == NULL)
		return false;
	if (known != MyDatabaseId)
	{
		char *name = get_database_name(MyDatabaseId);

		home = name != NULL && strcmp(name, a67_database) == 0;
		known = MyDatabaseId;
	}
	if (home && a67_live_header->database != MyDatabaseId)
		move_in();
	return home;
}

static void
publish_all(const Pending *list)
{
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	for (int i = 0; i < list->count; i++)
	{
		if (!list->changes[i].forget)
			a67_live_publish(&list->changes[i].facts);
	}
	if (list->rebuild)
		a67_live_header->built = false;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	for (int i = 0; i < list->count; i++)
	{
		if (list->changes[i].forget)
			a67_live_forget(list->changes[i].facts.traits.id);
	}
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	Pending list = pending;

	if (event == XACT_EVENT_PRE_PREPARE && (list.count > 0 || list.rebuild || list.clear))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has changed nodes")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	transactions++;
	serial++;
	memset(&pending, 0, sizeof(pending)); /* its memory goes with the transaction */
	if (event != XACT_EVENT_COMMIT)
		return;
	if (list.clear)
		a67_live_clear();
	else if (list.count > 0 || list.rebuild)
		publish_all(&list);
	if (list.clear || list.rebuild)
		a67_wake(A67_LAUNCHER_NAME);
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
						 void *arg)
{
	int i = pending.count;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	while (i > 0 && pending.changes[i - 1].by >= mine)
	{
		i--;
		pending.changes[i].by = parent;
	}
	/* The index by node is made anew when it is next needed: here nothing may fail. */
	if (event == SUBXACT_EVENT_ABORT_SUB && i < pending.count)
	{
		pending.count = i;
		pending.latest = NULL;
		serial++;
	}
}

static void
listen(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_end_of_subtransaction, NULL);
	registered = true;
}

static Latest *
latest_of(const uint8 node_id[16], uint32 kind, HASHACTION action, bool *found)
{
	Latest key;

	memset(&key, 0, sizeof(key));
	memcpy(key.key.node_id, node_id, 16);
	key.key.kind = kind;
	return hash_search(pending.latest, &key.key, action, found);
}

static uint32
kind_of(const Change *change)
{
	return change->forget ? (uint32) A67_FACTS_KINDS : (uint32) change->facts.kind;
}

static void
index_changes(void)
{
	HASHCTL control;

	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(((Latest *) NULL)->key);
	control.entrysize = sizeof(Latest);
	control.hcxt = TopTransactionContext;
	pending.latest =
		hash_create("a67 changed nodes", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < pending.count; i++)
	{
		const Change *change = &pending.changes[i];
		bool found;

		latest_of(change->facts.traits.id, kind_of(change), HASH_ENTER, &found)->change = i;
	}
}

static Change *
append(void)
{
	if (pending.count == pending.room)
	{
		int room = pending.room == 0 ? 16 : pending.room * 2;

		if (pending.changes == NULL)
			pending.changes = MemoryContextAlloc(TopTransactionContext, room * sizeof(Change));
		else
			pending.changes = repalloc(pending.changes, room * sizeof(Change));
		pending.room = room;
	}
	return &pending.changes[pending.count++];
}

/* Lists a change; false when there are too many. */
static bool
note(const A67NodeFacts *facts, bool forget)
{
	SubTransactionId by = GetCurrentSubTransactionId();
	uint32 kind = forget ? (uint32) A67_FACTS_KINDS : (uint32) facts->kind;
	Latest *latest;
	Change *change;
	bool found;

	listen();
	if (pending.latest == NULL)
		index_changes();
	latest = latest_of(facts->traits.id, kind, HASH_ENTER, &found);
	if (found && pending.changes[latest->change].by == by)
		change = &pending.changes[latest->change];
	else if (pending.count < PENDING_MAX)
	{
		latest->change = pending.count;
		change = append();
	}
	else
	{
		if (!found)
			latest_of(facts->traits.id, kind, HASH_REMOVE, &found);
		return false;
	}
	change->by = by;
	change->forget = forget;
	change->facts = *facts;
	return true;
}

void
a67_live_publish_at_commit(const A67NodeFacts *facts)
{
	if (a67_live_home() && !pending.rebuild && !note(facts, false))
		pending.rebuild = true;
}

void
a67_live_forget_at_commit(const uint8 node_id[16])
{
	A67NodeFacts facts;

	if (!a67_live_home())
		return;
	memset(&facts, 0, sizeof(facts));
	memcpy(facts.traits.id, node_id, 16);
	if (!note(&facts, true))
		a67_live_clear_at_commit();
}

void
a67_live_clear_at_commit(void)
{
	if (!a67_live_home())
		return;
	listen();
	pending.clear = true;
}

A67Pending
a67_live_pending(void)
{
	if (pending.rebuild || pending.clear)
		return A67_PENDING_ALL;
	for (int i = 0; i < pending.count; i++)
	{
		if (!pending.changes[i].forget)
			return A67_PENDING_SOME;
	}
	return A67_PENDING_NONE;
}

const A67NodeFacts *
a67_live_pending_facts(int i)
{
	return pending.changes[i].forget ? NULL : &pending.changes[i].facts;
}

int
a67_live_pending_count(void)
{
	return pending.count;
}

uint64
a67_live_pending_serial(void)
{
	return serial;
}

uint64
a67_live_pending_transaction(void)
{
	return transactions;
}
