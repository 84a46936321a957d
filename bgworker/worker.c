/*
 * worker.c - the loop of every long-running worker: waits, calls the definition, survives its errors.
 *
 * Owns signals, the wait, the two timers (tick and deadline), back-off after errors and the slot's numbers;
 * knows no worker by name. Nothing here opens a transaction across a wait. One process at a time runs an
 * instance: it claims its slot, and a database worker also holds a session lock of a kind that SQL cannot
 * take, so that not even two servers' worth of confusion doubles it.
 * Memory contexts: life (process), scratch (reset after every call). Locks: none held while waiting, but the
 * session lock. Exit 0: asked to end, or the extension is gone; exit 1: terminated, or too many errors.
 */
#include "postgres.h"

#include "worker.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#include "core/hash.h"
#include "core/pace.h"
#include "platform/clock.h"
#include "platform/wake.h"

#define ERRORS_IN_A_ROW_MAX	 10
#define BACKOFF_BASE_MS		 200
#define BACKOFF_CAP_MS		 30000
#define STATEMENT_TIMEOUT_MS 60000

/* Wake-ups closer together than this share a tick of a database worker. */
#define WAKE_GAP_MS			 50

/* Shorter than deadlock_timeout's default, so that a worker gives way before anybody else is cancelled. */
#define LOCK_TIMEOUT		 "900ms"

/* Fourth field of an advisory lock's tag; the SQL functions use 1 and 2. */
#define LOCK_CLASS			 67

typedef enum CallKind
{
	CALL_TICK,
	CALL_READY,
	CALL_KINDS
} CallKind;

typedef struct Loop
{
	A67Worker *worker;
	Oid extension;	   /* the one that was there at the start; a database worker only */
	int64 next_tick;   /* when the timer is due */
	int64 last_tick;   /* when the last tick began */
	int64 quiet_until; /* back-off after an error: no calls before */
	int errors_in_a_row[CALL_KINDS];
	bool wake_pending;
	A67Backoff backoff;
	WaitEventSet *set;
	int set_fd; /* the descriptor that is in the set, or -1 */
} Loop;

static const A67WorkerDef *defs[A67_WORKER_DEFS_MAX];
static int def_count;

void
a67_worker_define(const A67WorkerDef *def)
{
	if (def_count == A67_WORKER_DEFS_MAX)
		elog(ERROR, "too many worker definitions");
	defs[def_count++] = def;
	a67_wake_declare(def->name);
}

int
a67_worker_def_count(void)
{
	return def_count;
}

const A67WorkerDef *
a67_worker_def(int index)
{
	return index >= 0 && index < def_count ? defs[index] : NULL;
}

void
a67_worker_begin(A67Worker *worker, const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
	enable_timeout_after(STATEMENT_TIMEOUT, STATEMENT_TIMEOUT_MS);
}

void
a67_worker_commit(A67Worker *worker)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(worker->scratch);
}

ErrorData *
a67_worker_rescue(A67Worker *worker)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(worker->scratch);
	error = CopyErrorData();
	FlushErrorState();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	LWLockReleaseAll();
	AbortCurrentTransaction();
	pgstat_report_wait_end();
	if (MyDatabaseId != InvalidOid)
	{
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	MemoryContextSwitchTo(worker->scratch);
	RESUME_INTERRUPTS();
	return error;
}

void
a67_worker_log(ErrorData *error)
{
	PG_TRY();
	{
		ThrowErrorData(error);
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
}

static void
stop_once(int code, Datum arg)
{
	A67Worker *worker = (A67Worker *) DatumGetPointer(arg);
	void *state = worker->state;

	worker->state = NULL;
	if (state != NULL && worker->def->stop != NULL)
		worker->def->stop(worker, state);
}

static void
end(A67Worker *worker, int code)
{
	stop_once(code, PointerGetDatum(worker));
	proc_exit(code);
}

static Oid
find_extension(void)
{
	Oid extension;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	extension = get_extension_oid("a67", true);
	CommitTransactionCommand();
	return extension;
}

/* Whether the extension that this worker was started for has been dropped. Does not throw. */
static bool
extension_gone(Loop *loop)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool gone = false;

	if (!loop->worker->def->database)
		return false;
	PG_TRY();
	{
		gone = find_extension() != loop->extension;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return gone;
}

/*
 * After a call threw: counts, reports and backs off, or ends the process. An error because the extension is
 * being dropped is nobody's business.
 */
static void
recover(Loop *loop, CallKind kind)
{
	A67Worker *worker = loop->worker;
	ErrorData *error = a67_worker_rescue(worker);

	if (extension_gone(loop))
		end(worker, 0);

	a67_worker_log(error);
	a67_slot_note_error(worker->slot, error->message);
	if (++loop->errors_in_a_row[kind] >= ERRORS_IN_A_ROW_MAX)
	{
		ereport(LOG, (errmsg("worker \"%s\" ends after %d errors in a row", worker->def->name,
							 ERRORS_IN_A_ROW_MAX)));
		end(worker, 1);
	}
	loop->quiet_until = a67_deadline_in(a67_now_ms(), a67_backoff_next(&loop->backoff));
}

static void
call(Loop *loop, CallKind kind)
{
	A67Worker *worker = loop->worker;
	volatile bool ok = false;

	MemoryContextSwitchTo(worker->scratch);
	PG_TRY();
	{
		if (kind == CALL_TICK)
			worker->def->tick(worker, worker->state);
		else
			worker->def->ready(worker, worker->state);
		ok = true;
	}
	PG_CATCH();
	{
		recover(loop, kind);
	}
	PG_END_TRY();

	if (ok)
	{
		loop->errors_in_a_row[kind] = 0;
		if (loop->errors_in_a_row[CALL_TICK] == 0 && loop->errors_in_a_row[CALL_READY] == 0)
			a67_backoff_reset(&loop->backoff);
	}
	worker->reloaded = false;
	MemoryContextSwitchTo(worker->scratch);
	MemoryContextReset(worker->scratch);
}

static int64
interval(const A67WorkerDef *def)
{
	return def->interval_ms ? def->interval_ms() : A67_NEVER;
}

static void
tick(Loop *loop, bool woken)
{
	A67Worker *worker = loop->worker;
	int64 now = a67_now_ms();
	int64 due = loop->next_tick;

	a67_slot_note_tick(worker->slot, due <= now ? now - due : 0);
	worker->woken = woken;
	worker->again = false;
	loop->wake_pending = false;
	loop->last_tick = now;
	loop->next_tick = a67_deadline_in(now, interval(worker->def));
	call(loop, CALL_TICK);
}

/* When the loop must act next on its own. */
static int64
next_moment(const Loop *loop, int64 now)
{
	const A67Worker *worker = loop->worker;
	int64 next = loop->next_tick;

	if (worker->again)
		next = now;
	if (loop->wake_pending)
		next = a67_deadline_min(next, loop->last_tick + WAKE_GAP_MS);
	if (worker->def->deadline_ms != NULL && worker->def->ready != NULL)
		next = a67_deadline_min(next, worker->def->deadline_ms(loop->worker, worker->state));
	return Max(next, loop->quiet_until);
}

/* The set to wait on; while backing off, the worker's descriptor is left out or it would spin. */
static WaitEventSet *
wait_set(Loop *loop, bool quiet)
{
	A67Worker *worker = loop->worker;
	int fd = quiet || worker->def->ready == NULL ? -1 : worker->fd;

	if (loop->set != NULL && loop->set_fd == fd)
		return loop->set;
	if (loop->set != NULL)
		FreeWaitEventSet(loop->set);
	loop->set = CreateWaitEventSet(worker->life, 3);
	AddWaitEventToSet(loop->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(loop->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (fd >= 0)
		AddWaitEventToSet(loop->set, WL_SOCKET_READABLE, fd, NULL, NULL);
	loop->set_fd = fd;
	return loop->set;
}

/* Waits; returns whether the worker's descriptor is readable. */
static bool
wait_for_work(Loop *loop)
{
	int64 now = a67_now_ms();
	bool quiet = now < loop->quiet_until;
	WaitEvent events[3];
	bool readable = false;
	int count;

	count =
		WaitEventSetWait(wait_set(loop, quiet), a67_deadline_timeout(next_moment(loop, now), now),
						 events, lengthof(events), PG_WAIT_EXTENSION);
	for (int i = 0; i < count; i++)
	{
		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			loop->wake_pending = true;
		}
		if (events[i].events & WL_SOCKET_READABLE)
			readable = true;
	}
	return readable;
}

/* Signals, configuration, and whether the launcher wants this process to end. */
static void
attend(Loop *loop)
{
	A67Worker *worker = loop->worker;

	if (ProcDiePending)
		stop_once(1, PointerGetDatum(worker));
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		worker->reloaded = true;
		loop->next_tick = a67_deadline_min(loop->next_tick,
										   a67_deadline_in(loop->last_tick, interval(worker->def)));
	}
	if (worker->slot->stop)
		end(worker, 0);
}

static void
run(Loop *loop)
{
	A67Worker *worker = loop->worker;
	const A67WorkerDef *def = worker->def;

	for (;;)
	{
		bool readable = wait_for_work(loop);
		int64 now;

		attend(loop);
		now = a67_now_ms();
		if (now < loop->quiet_until)
			continue;
		if (def->ready != NULL && (readable || (def->deadline_ms != NULL &&
												def->deadline_ms(worker, worker->state) <= now)))
			call(loop, CALL_READY);

		now = a67_now_ms();
		if (now < loop->quiet_until)
			continue;
		if (worker->again || now >= loop->next_tick)
			tick(loop, loop->wake_pending);
		else if (loop->wake_pending && (!def->database || now >= loop->last_tick + WAKE_GAP_MS))
			tick(loop, true);
	}
}

/* Connects, and takes the lock that makes this instance the only one in its database. */
static void
connect_database(Loop *loop)
{
	A67Worker *worker = loop->worker;
	LOCKTAG tag;

	BackgroundWorkerInitializeConnection(a67_database, NULL, 0);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog", PGC_USERSET, PGC_S_OVERRIDE);

	loop->extension = find_extension();
	if (!OidIsValid(loop->extension))
		proc_exit(0);

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
						 a67_murmur3(worker->def->name, strlen(worker->def->name), 0),
						 worker->instance, LOCK_CLASS);
	StartTransactionCommand();
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		ereport(LOG, (errmsg("worker \"%s\" is running already", worker->def->name)));
		proc_exit(1);
	}
	CommitTransactionCommand();
}

void
a67_worker_main(Datum arg)
{
	static A67Worker worker;
	static Loop loop;
	int packed = DatumGetInt32(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	worker.def = a67_worker_def(packed >> 8);
	worker.instance = packed & 0xff;
	worker.fd = -1;
	if (worker.def == NULL || a67_shared == NULL)
		proc_exit(0);

	loop.worker = &worker;
	loop.set_fd = -1;
	worker.life = AllocSetContextCreate(TopMemoryContext, "a67 worker", ALLOCSET_DEFAULT_SIZES);
	worker.scratch = AllocSetContextCreate(worker.life, "a67 scratch", ALLOCSET_DEFAULT_SIZES);
	worker.slot = a67_slot_find(worker.def->name, worker.instance);
	if (worker.slot == NULL || !a67_slot_claim(worker.slot))
		proc_exit(0);
	before_shmem_exit(stop_once, PointerGetDatum(&worker));

	if (worker.def->database)
		connect_database(&loop);
	a67_backoff_init(&loop.backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS, (uint64) MyProcPid);
	MemoryContextSwitchTo(worker.life);
	worker.state = worker.def->start(&worker);
	loop.next_tick = a67_now_ms();
	run(&loop);
}
