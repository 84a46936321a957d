/*
 * launcher.c - starts the workers when the extension is there, again when they end, and stops them when it
 * goes.
 *
 * The only worker that the postmaster itself starts and restarts. It decides from the shared slots alone:
 * a slot without a process, of a worker that is wanted, gets one, after a delay that grows while its
 * processes end quickly. Workers outlive a restart of the launcher and are found again by their slots.
 * It watches CREATE and DROP EXTENSION and DROP DATABASE through the object access hook of all backends,
 * and looks by itself every few seconds too. Before the workers start it runs _bootstrap(), which makes
 * missing keys and publishes them for the listeners.
 * On a standby the postmaster starts none of this until promotion. Exit 1 always: the postmaster restarts
 * it after a second. Memory: one context, reset every round. Locks: none across a wait.
 */
#include "postgres.h"

#include "launcher.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/pace.h"
#include "crypto/guarded.h"
#include "crypto/keyring.h"
#include "crypto/master_key.h"
#include "platform/clock.h"
#include "platform/slots.h"
#include "platform/wake.h"
#include "registry/live.h"
#include "registry/live_facts.h"
#include "registry/live_rows.h"
#include "worker.h"

#define LOOK_MS					 5000	/* between two looks at the extension without a wake-up */
#define BOOTSTRAP_MS			 60000	/* between two runs of _bootstrap() without a wake-up */
#define RESTART_MS				 1000	/* first delay before a worker is started again */
#define RESTART_CAP_MS			 60000	/* and the longest */
#define START_LIMIT_MS			 10000	/* a start that took no effect by then is asked for again */
#define STOP_LIMIT_MS			 5000	/* a worker that did not end when asked is terminated */
#define CONNECT_CAP_MS			 300000 /* longest pause between attempts to connect */
#define KEEP_AWAY_MS			 10000	/* from a database that is being dropped */
#define BOOTSTRAP_BACKOFF_MS	 1000	/* first pause after _bootstrap() failed */
#define BOOTSTRAP_BACKOFF_CAP_MS 60000

typedef struct Launcher
{
	A67Worker self;	  /* so that transactions are made as in any worker */
	Oid extension;	  /* what the last look found */
	Oid bootstrapped; /* the extension whose _bootstrap() has succeeded */
	int64 bootstrap_due;
	A67Backoff bootstrap_backoff;
	bool complained; /* about too few background worker slots */
	bool sealed;	 /* the log says that the vault is sealed, and why */
	char sealed_why[A67_ERROR_TEXT_SIZE];
	int64 stop_asked_at[A67_WORKER_SLOTS_MAX];
	int64 next; /* when there is something to do without a wake-up */
} Launcher;

static object_access_hook_type previous_access_hook;

/* Keeps the launcher away from the database from now on for a while, or (0) no longer. */
static void
set_drop_time(TimestampTz at)
{
	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	a67_shared->drop_database_at = at;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
}

/* Somebody drops the database: PostgreSQL gives its sessions five seconds to leave. */
static void
note_drop_database(Oid database)
{
	char *name = get_database_name(database);

	if (name == NULL || strcmp(name, a67_database) != 0)
		return;
	set_drop_time(GetCurrentTimestamp());
	a67_wake(A67_LAUNCHER_NAME);
}

static void
watch_ddl(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, class_id, object_id, sub_id, arg);

	if (a67_shared == NULL || (access != OAT_POST_CREATE && access != OAT_DROP))
		return;
	if (class_id == ExtensionRelationId)
	{
		a67_wake_at_commit(A67_LAUNCHER_NAME);
		if (access == OAT_DROP && get_extension_oid("a67", true) == object_id)
			a67_live_clear_at_commit();
	}
	else if (class_id == DatabaseRelationId && access == OAT_DROP)
		note_drop_database(object_id);
	else if (class_id == DatabaseRelationId)
	{
		/* It may be the one that was dropped a moment ago. */
		set_drop_time(0);
		a67_wake_at_commit(A67_LAUNCHER_NAME);
	}
}

void
a67_launcher_declare(void)
{
	a67_wake_declare(A67_LAUNCHER_NAME);
}

void
a67_launcher_install(void)
{
	BackgroundWorker row;

	previous_access_hook = object_access_hook;
	object_access_hook = watch_ddl;

	memset(&row, 0, sizeof(row));
	row.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	row.bgw_start_time = BgWorkerStart_RecoveryFinished;
	row.bgw_restart_time = 1;
	strlcpy(row.bgw_library_name, "a67", BGW_MAXLEN);
	strlcpy(row.bgw_function_name, "a67_launcher_main", BGW_MAXLEN);
	strlcpy(row.bgw_name, "a67 launcher", BGW_MAXLEN);
	strlcpy(row.bgw_type, "a67 launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&row);
}

/* A pause that doubles with each failure: base, 2 * base, ... cap. */
static int64
doubling(int64 base_ms, int failures, int64 cap_ms)
{
	return Min(base_ms << Min(Max(failures - 1, 0), 20), cap_ms);
}

static void
wait_ms(int64 ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, (long) Max(ms, 0),
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Milliseconds for which the database must be left alone because somebody is dropping it. */
static int64
keep_away(void)
{
	TimestampTz at;

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_SHARED);
	at = a67_shared->drop_database_at;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
	if (at == 0)
		return 0;
	return KEEP_AWAY_MS - TimestampDifferenceMilliseconds(at, GetCurrentTimestamp());
}

/*
 * Connects. A failure ends the process with one FATAL line in the log, so the pauses between attempts are
 * kept here, before the attempt; CREATE DATABASE cuts them short.
 */
static void
connect_patiently(void)
{
	int failures = a67_shared->connect_failures;
	int64 left;

	/* A new process finds its latch set. */
	ResetLatch(MyLatch);
	if (failures > 0)
		wait_ms(doubling(RESTART_MS, failures, CONNECT_CAP_MS));
	while ((left = keep_away()) > 0)
		wait_ms(left);

	a67_shared->connect_failures = failures + 1;
	BackgroundWorkerInitializeConnection(a67_database, NULL, 0);
	a67_shared->connect_failures = 0;
}

static Oid
look_for_extension(void)
{
	Oid extension;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	extension = get_extension_oid("a67", true);
	CommitTransactionCommand();
	return extension;
}

/* Says once what has changed about the vault; why is NULL while it is open. */
static void
report_vault(Launcher *launcher, const char *why)
{
	if (why == NULL && launcher->sealed)
		ereport(LOG, (errmsg("vault is open")));
	else if (why != NULL && (!launcher->sealed || strcmp(launcher->sealed_why, why) != 0))
		ereport(LOG, (errmsg("vault is sealed"), errdetail("%s", why),
					  errhint("Make its master key available, or call a67.vault_unseal().")));
	launcher->sealed = why != NULL;
	strlcpy(launcher->sealed_why, why == NULL ? "" : why, sizeof(launcher->sealed_why));
}

static void
run_bootstrap(Launcher *launcher)
{
	MemoryContext context = CurrentMemoryContext;
	char why[A67_ERROR_TEXT_SIZE];
	char *value;

	a67_worker_begin(&launcher->self, "a67: bootstrap");
	if (SPI_execute("SELECT a67_internal._bootstrap()", false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "_bootstrap() is not a query");
	value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	strlcpy(why, value == NULL ? "" : value, sizeof(why));
	a67_worker_commit(&launcher->self);
	MemoryContextSwitchTo(context);
	report_vault(launcher, why[0] == '\0' ? NULL : why);
}

/*
 * Fills the live node table when it is empty: after a start, a crash, or a change of too many nodes to list.
 * In a transaction that writes nothing, after one that sees to it that promises are what replicas say.
 */
static void
build_live_table(Launcher *launcher)
{
	MemoryContext context = CurrentMemoryContext;

	if (a67_live_built())
		return;
	a67_worker_begin(&launcher->self, "a67: promises");
	if (SPI_execute("SELECT a67_internal._reserved_repair()", false, 1) != SPI_OK_SELECT)
		elog(ERROR, "_reserved_repair() is not a query");
	a67_worker_commit(&launcher->self);
	a67_worker_begin(&launcher->self, "a67: live node table");
	(void) a67_live_rebuild();
	a67_worker_commit(&launcher->self);
	MemoryContextSwitchTo(context);
}

/*
 * Aborts what run_bootstrap left and reports it, unless the extension has just gone. Workers that run already
 * go on with the keys they have.
 */
static void
bootstrap_failed(Launcher *launcher)
{
	ErrorData *error = a67_worker_rescue(&launcher->self);

	launcher->bootstrap_due =
		a67_deadline_in(a67_now_ms(), a67_backoff_next(&launcher->bootstrap_backoff));
	launcher->extension = look_for_extension();
	if (!OidIsValid(launcher->extension))
		return;
	a67_worker_log(error);
	a67_slot_note_error(launcher->self.slot, error->message);
}

static void
bootstrap(Launcher *launcher, bool woken)
{
	int64 now = a67_now_ms();
	bool known = launcher->bootstrapped == launcher->extension;

	if (!OidIsValid(launcher->extension))
		return;
	if (now < launcher->bootstrap_due && !(known && woken))
		return;
	PG_TRY();
	{
		run_bootstrap(launcher);
		build_live_table(launcher);
		launcher->bootstrapped = launcher->extension;
		launcher->bootstrap_due = a67_deadline_in(now, BOOTSTRAP_MS);
		a67_backoff_reset(&launcher->bootstrap_backoff);
	}
	PG_CATCH();
	{
		bootstrap_failed(launcher);
	}
	PG_END_TRY();
}

static void
act_by(Launcher *launcher, int64 at_ms)
{
	launcher->next = a67_deadline_min(launcher->next, at_ms);
}

/* Asks the postmaster for a process. It claims the slot itself once it runs. */
static void
start_worker(Launcher *launcher, int def_index, A67WorkerSlot *slot)
{
	const A67WorkerDef *def = a67_worker_def(def_index);
	BackgroundWorker row;

	memset(&row, 0, sizeof(row));
	row.bgw_flags = BGWORKER_SHMEM_ACCESS;
	if (def->database)
		row.bgw_flags |= BGWORKER_BACKEND_DATABASE_CONNECTION;
	row.bgw_start_time = BgWorkerStart_RecoveryFinished;
	row.bgw_restart_time = BGW_NEVER_RESTART;
	row.bgw_main_arg = A67_WORKER_ARG(def_index, slot->instance);
	row.bgw_notify_pid = MyProcPid;
	strlcpy(row.bgw_library_name, "a67", BGW_MAXLEN);
	strlcpy(row.bgw_function_name, "a67_worker_main", BGW_MAXLEN);
	snprintf(row.bgw_type, BGW_MAXLEN, "a67 %s", def->name);
	if (slot->instance == 0)
		snprintf(row.bgw_name, BGW_MAXLEN, "a67 %s", def->name);
	else
		snprintf(row.bgw_name, BGW_MAXLEN, "a67 %s %d", def->name, slot->instance + 1);

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	slot->requested_at = GetCurrentTimestamp();
	if (slot->stop)
		slot->fresh = true;
	slot->stop = false;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));

	act_by(launcher, a67_now_ms() + START_LIMIT_MS);
	if (RegisterDynamicBackgroundWorker(&row, NULL))
	{
		launcher->complained = false;
		return;
	}
	if (!launcher->complained)
		ereport(LOG, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					  errmsg("could not start worker \"%s\"", def->name),
					  errhint("Increase max_worker_processes.")));
	launcher->complained = true;
}

/* When a worker without a process is to be started, on the monotonic clock. */
static int64
start_due(const A67WorkerSlot *slot, int64 now)
{
	TimestampTz at = GetCurrentTimestamp();

	if (slot->requested_at != 0)
		return now + START_LIMIT_MS - TimestampDifferenceMilliseconds(slot->requested_at, at);
	if (slot->exited_at == 0 || slot->fresh || slot->stop)
		return now;
	return now + doubling(RESTART_MS, slot->quick_exits, RESTART_CAP_MS) -
		   TimestampDifferenceMilliseconds(slot->exited_at, at);
}

/* Asks a process to end; one that does not is terminated. */
static void
stop_worker(Launcher *launcher, A67WorkerSlot *slot)
{
	int64 *asked_at = &launcher->stop_asked_at[slot - a67_shared->slots];
	int64 now = a67_now_ms();
	int pid = slot->pid;

	if (!slot->stop || *asked_at == 0)
	{
		*asked_at = now;
		LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
		slot->stop = true;
		LWLockRelease(a67_lock(A67_LOCK_STATUS));
		a67_wake(slot->name);
	}
	else if (now - *asked_at >= STOP_LIMIT_MS)
	{
		*asked_at = now;
		if (pid != 0)
			kill(pid, SIGTERM);
	}
	act_by(launcher, *asked_at + STOP_LIMIT_MS);
}

/* Brings one slot to what is wanted. */
static void
supervise_slot(Launcher *launcher, int def_index, A67WorkerSlot *slot, bool wanted)
{
	A67WorkerSlot copy;
	int64 now = a67_now_ms();
	int64 due;

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_SHARED);
	copy = *slot;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));

	if (copy.pid != 0)
	{
		/* One that was asked to end does so even when it is wanted again: it belongs to what was. */
		if (!wanted || copy.stop)
			stop_worker(launcher, slot);
		return;
	}
	if (!wanted)
		return;
	due = start_due(&copy, now);
	if (due <= now)
		start_worker(launcher, def_index, slot);
	else
		act_by(launcher, due);
}

static void
supervise(Launcher *launcher, bool wanted)
{
	for (int i = 0; i < a67_worker_def_count(); i++)
	{
		const A67WorkerDef *def = a67_worker_def(i);
		int count = def->count ? def->count() : 1;

		for (int instance = 0; instance < count; instance++)
		{
			A67WorkerSlot *slot = a67_slot_find(def->name, instance);

			if (slot != NULL)
				supervise_slot(launcher, i, slot, wanted);
		}
	}
}

/* Leaves a database that somebody drops; the next start of the launcher looks whether it is still there. */
static void
leave_if_dropped(Launcher *launcher)
{
	if (keep_away() <= 0)
		return;
	supervise(launcher, false);
	ereport(LOG, (errmsg("a67 leaves database \"%s\", which is being dropped", a67_database)));
	proc_exit(1);
}

/* What shared memory holds of an extension that was dropped: its keys and its nodes. */
static void
forget_extension(void)
{
	static const A67Keyring empty;
	static const A67KeyList no_keys;

	a67_keyring_replace(&empty);
	a67_master_keys_replace(&no_keys);
	a67_live_clear();
}

static void
look(Launcher *launcher, bool woken)
{
	Oid before = launcher->extension;
	int64 now = a67_now_ms();

	launcher->next = now + LOOK_MS;
	launcher->extension = look_for_extension();
	if (launcher->extension != before && OidIsValid(before))
	{
		launcher->bootstrapped = InvalidOid;
		launcher->bootstrap_due = 0;
		forget_extension();
	}
	bootstrap(launcher, woken);
	if (OidIsValid(launcher->extension))
		act_by(launcher, launcher->bootstrap_due);
	supervise(launcher,
			  OidIsValid(launcher->extension) && launcher->bootstrapped == launcher->extension);
}

static void
supervise_forever(Launcher *launcher)
{
	bool woken = true;

	for (;;)
	{
		int64 now;

		a67_slot_note_tick(launcher->self.slot, 0);
		leave_if_dropped(launcher);
		look(launcher, woken);
		MemoryContextReset(launcher->self.scratch);

		now = a67_now_ms();
		woken = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						   a67_deadline_timeout(launcher->next, now), PG_WAIT_EXTENSION) &
				 WL_LATCH_SET) != 0;
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			a67_live_reweigh();
		}
	}
}

void
a67_launcher_main(Datum arg)
{
	static Launcher launcher;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	a67_secret_process();

	launcher.self.slot = a67_slot_find(A67_LAUNCHER_NAME, 0);
	if (launcher.self.slot == NULL || !a67_slot_claim(launcher.self.slot))
		proc_exit(1);
	connect_patiently();
	SetConfigOption("search_path", "pg_catalog", PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_activity(STATE_IDLE, NULL);

	launcher.self.life =
		AllocSetContextCreate(TopMemoryContext, "a67 launcher", ALLOCSET_DEFAULT_SIZES);
	launcher.self.scratch =
		AllocSetContextCreate(launcher.self.life, "a67 scratch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(launcher.self.scratch);
	a67_backoff_init(&launcher.bootstrap_backoff, BOOTSTRAP_BACKOFF_MS, BOOTSTRAP_BACKOFF_CAP_MS,
					 (uint64) MyProcPid);
	supervise_forever(&launcher);
}
