/*
 * slots.c - the shared entries of long-running processes, and the status functions that show them.
 *
 * Lock: A67_LOCK_STATUS, never held across anything that can throw or wait. A process releases its slot in
 * a before_shmem_exit callback that is registered before the slot is taken, and wakes the launcher then. A
 * process that dies without callbacks takes the whole server through a restart, which empties the slots.
 */
#include "postgres.h"

#include "platform/slots.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "platform/wake.h"

/* An exit this soon after the start counts as quick: the launcher waits longer and longer after them. */
#define QUICK_EXIT_MS	60000
#define QUICK_EXITS_MAX 16

A67WorkerSlot *
a67_slot_find(const char *name, int instance)
{
	A67WorkerSlot *found = NULL;
	A67WorkerSlot *empty = NULL;

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	for (int i = 0; i < A67_WORKER_SLOTS_MAX && found == NULL; i++)
	{
		A67WorkerSlot *slot = &a67_shared->slots[i];

		if (slot->name[0] == '\0' && empty == NULL)
			empty = slot;
		else if (slot->instance == instance && strcmp(slot->name, name) == 0)
			found = slot;
	}
	if (found == NULL && empty != NULL)
	{
		found = empty;
		strlcpy(found->name, name, sizeof(found->name));
		found->instance = instance;
		found->fresh = true;
	}
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
	return found;
}

static void
release(int code, Datum arg)
{
	A67WorkerSlot *slot = (A67WorkerSlot *) DatumGetPointer(arg);
	TimestampTz now = GetCurrentTimestamp();
	bool held = false;

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	if (slot->pid == MyProcPid)
	{
		held = true;
		slot->pid = 0;
		slot->procno = A67_NO_PROC;
		slot->exited_at = now;
		if (slot->stop || TimestampDifferenceExceeds(slot->started_at, now, QUICK_EXIT_MS))
			slot->quick_exits = 0;
		else if (slot->quick_exits < QUICK_EXITS_MAX)
			slot->quick_exits++;
	}
	LWLockRelease(a67_lock(A67_LOCK_STATUS));

	if (held && strcmp(slot->name, A67_LAUNCHER_NAME) != 0)
		a67_wake(A67_LAUNCHER_NAME);
}

bool
a67_slot_claim(A67WorkerSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();
	bool claimed = false;

	before_shmem_exit(release, PointerGetDatum(slot));

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	slot->requested_at = 0;
	if (slot->pid == 0)
	{
		claimed = true;
		slot->pid = MyProcPid;
		slot->procno = MyProc->pgprocno;
		slot->started_at = now;
		if (!slot->fresh)
			slot->restarts++;
		slot->fresh = false;
	}
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
	return claimed;
}

void
a67_slot_note_tick(A67WorkerSlot *slot, int64 lag_ms)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	slot->last_tick_at = now;
	slot->lag_ms = lag_ms;
	slot->ticks++;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
}

void
a67_slot_note_error(A67WorkerSlot *slot, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	const char *text = message ? message : "";
	int len = pg_mbcliplen(text, strlen(text), A67_ERROR_TEXT_SIZE - 1);

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	memcpy(slot->last_error, text, len);
	slot->last_error[len] = '\0';
	slot->last_error_at = now;
	slot->errors++;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
}

static void
put_time(Datum *value, bool *null, TimestampTz at)
{
	*null = at == 0;
	*value = TimestampTzGetDatum(at);
}

PG_FUNCTION_INFO_V1(a67_sql_worker_status);

/* _worker_status(): one row per slot in use */
Datum
a67_sql_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67WorkerSlot *copy = palloc(sizeof(a67_shared->slots));

	a67_shared_require();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_SHARED);
	memcpy(copy, a67_shared->slots, sizeof(a67_shared->slots));
	LWLockRelease(a67_lock(A67_LOCK_STATUS));

	for (int i = 0; i < A67_WORKER_SLOTS_MAX; i++)
	{
		const A67WorkerSlot *slot = &copy[i];
		Datum values[10];
		bool nulls[10] = {false};

		if (slot->name[0] == '\0')
			continue;
		values[0] = CStringGetTextDatum(
			slot->instance == 0 ? slot->name : psprintf("%s %d", slot->name, slot->instance + 1));
		values[1] = Int32GetDatum(slot->pid);
		nulls[1] = slot->pid == 0;
		put_time(&values[2], &nulls[2], slot->started_at);
		put_time(&values[3], &nulls[3], slot->last_tick_at);
		values[4] = Int64GetDatum(slot->lag_ms);
		values[5] = Int64GetDatum(slot->ticks);
		values[6] = Int64GetDatum(slot->errors);
		values[7] = Int64GetDatum(slot->restarts);
		nulls[8] = slot->last_error_at == 0;
		values[8] = nulls[8] ? (Datum) 0 : CStringGetTextDatum(slot->last_error);
		put_time(&values[9], &nulls[9], slot->last_error_at);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_listener_status);

/* _listener_status(): one row per listener that accepts connections */
Datum
a67_sql_listener_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	a67_shared_require();
	InitMaterializedSRF(fcinfo, 0);

	for (int i = 0; i < A67_LISTENERS_MAX; i++)
	{
		A67ListenerInfo *info = &a67_shared->listeners[i];
		A67ListenerInfo copy;
		Datum values[9];
		bool nulls[9] = {false};

		LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_SHARED);
		copy = *info;
		LWLockRelease(a67_lock(A67_LOCK_STATUS));
		if (copy.pid == 0)
			continue;

		values[0] = Int32GetDatum(copy.pid);
		values[1] = CStringGetTextDatum(copy.address);
		values[2] = Int32GetDatum(copy.port);
		values[3] = Int32GetDatum((int32) pg_atomic_read_u32(&info->clients));
		values[4] = Int64GetDatum((int64) pg_atomic_read_u64(&info->requests));
		values[5] = Int32GetDatum((int32) pg_atomic_read_u32(&info->api_workers));
		values[6] = Int32GetDatum((int32) pg_atomic_read_u32(&info->queued));
		values[7] = CStringGetTextDatum(copy.scheme);
		nulls[8] = copy.tls_pin[0] == '\0';
		values[8] = nulls[8] ? (Datum) 0 : CStringGetTextDatum(copy.tls_pin);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_VOID();
}
