/*
 * wake.c - sets workers' latches, now or at commit, and the SQL faces of that.
 *
 * A name is a bit in the set of the current transaction; the set is acted upon and emptied when it ends.
 * The names are declared by _PG_init in every process that loads the library, so unknown ones are refused
 * also where the server did not preload it and nobody can be woken.
 * Lock: A67_LOCK_STATUS shared, for the time of a scan of the slots.
 */
#include "postgres.h"

#include "platform/wake.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"

#include "platform/shmem.h"

#define NAMES_MAX 31

static const char *names[NAMES_MAX];
static int name_count;
static uint32 pending; /* bits of names to wake at commit */
static bool callback_registered;

void
a67_wake_declare(const char *name)
{
	if (a67_wake_known(name))
		return;
	if (name_count == NAMES_MAX)
		elog(ERROR, "too many worker names");
	names[name_count++] = name;
}

static int
find_name(const char *name)
{
	for (int i = 0; i < name_count; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return -1;
}

bool
a67_wake_known(const char *name)
{
	return find_name(name) >= 0;
}

void
a67_wake(const char *name)
{
	if (a67_shared == NULL)
		return;

	/* The latch of a process that has just gone belongs to its successor at worst: an empty wake-up. */
	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_SHARED);
	for (int i = 0; i < A67_WORKER_SLOTS_MAX; i++)
	{
		A67WorkerSlot *slot = &a67_shared->slots[i];

		if (slot->procno != A67_NO_PROC && strcmp(slot->name, name) == 0)
		{
			pg_atomic_fetch_add_u32(&slot->wakes, 1);
			SetLatch(&ProcGlobal->allProcs[slot->procno].procLatch);
		}
	}
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	uint32 due = pending;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	pending = 0;
	if (event != XACT_EVENT_COMMIT)
		return;
	for (int i = 0; i < name_count; i++)
	{
		if (due & ((uint32) 1 << i))
			a67_wake(names[i]);
	}
}

void
a67_wake_at_commit(const char *name)
{
	int i = find_name(name);

	if (i < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("worker \"%s\" does not exist", name)));
	if (a67_shared == NULL)
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(at_end_of_transaction, NULL);
		callback_registered = true;
	}
	pending |= (uint32) 1 << i;
}

PG_FUNCTION_INFO_V1(a67_sql_wake);

/* _wake(worker text) returns void */
Datum
a67_sql_wake(PG_FUNCTION_ARGS)
{
	a67_wake_at_commit(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_wake_trigger);

/* _wake_trigger() returns trigger: wakes the workers named by the trigger's arguments */
Datum
a67_sql_wake_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function can only be called as a trigger")));
	for (int i = 0; i < data->tg_trigger->tgnargs; i++)
		a67_wake_at_commit(data->tg_trigger->tgargs[i]);

	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return PointerGetDatum(data->tg_newtuple);
	return PointerGetDatum(data->tg_trigtuple);
}
