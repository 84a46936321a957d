/*
 * pool.c: the api worker processes of one listener: started, watched, replaced.
 *
 * Decides when a slot gets a new worker: at once at first, after a jittered back-off when one has ended,
 * with short delays again once a worker has lived a while or has answered a call. Each worker gets a
 * segment of its own, which is dropped with it; the postmaster never restarts one by itself. A worker that
 * does not end when told so, being in code that cannot be interrupted, becomes a stray: it goes on at the lowest priority, and its slot gets
 * another. Also decides what may have a slot, so that nobody takes all of them. Called by
 * dispatch.c and listener.c, never inside the engine's callbacks.
 */
#include "postgres.h"

#include "listener/state.h"

#include <sys/resource.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "platform/clock.h"
#include "platform/settings.h"

#define BACKOFF_BASE_MS 100
#define BACKOFF_CAP_MS	10000
#define STEADY_MS		5000  /* a worker that served this long ended for a new reason */
#define START_MAX_MS	60000 /* from registration to READY */
#define END_MAX_MS		3000  /* from SIGTERM to the end; then it is a stray */

void
a67_pool_init(A67Listener *listener)
{
	listener->nslots = a67_api_workers;
	listener->slots =
		MemoryContextAllocZero(TopMemoryContext, sizeof(A67Slot) * (Size) listener->nslots);
	listener->strays = MemoryContextAllocZero(TopMemoryContext, sizeof(BackgroundWorkerHandle *) *
																	(Size) listener->nslots);
	for (int i = 0; i < listener->nslots; i++)
	{
		a67_buf_init(&listener->slots[i].out, A67_WIRE_CALL);
		a67_backoff_init(&listener->slots[i].backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS,
						 a67_random_next(&listener->random));
	}
}

int
a67_pool_ready(const A67Listener *listener)
{
	int ready = 0;

	for (int i = 0; i < listener->nslots; i++)
		ready +=
			listener->slots[i].state == A67_SLOT_IDLE || listener->slots[i].state == A67_SLOT_BUSY;
	return ready;
}

/* Registers a worker for the slot's segment; false when the server has no place for one. */
static bool
register_worker(A67Slot *slot)
{
	BackgroundWorker worker = {0};
	MemoryContext old;
	bool ok;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(slot->exchange.segment));
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_name, "a67 api worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "a67 api worker", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "a67", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "a67_api_worker_main", BGW_MAXLEN);
	old = MemoryContextSwitchTo(TopMemoryContext);
	ok = RegisterDynamicBackgroundWorker(&worker, &slot->handle);
	MemoryContextSwitchTo(old);
	return ok;
}

static bool
launch(A67Slot *slot)
{
	if (!a67_exchange_create(&slot->exchange))
		return false;
	if (!register_worker(slot))
	{
		a67_exchange_leave(&slot->exchange);
		return false;
	}
	a67_exchange_set_worker(&slot->exchange, slot->handle);
	slot->state = A67_SLOT_STARTING;
	slot->pid = 0;
	slot->ready_at = A67_NEVER;
	slot->watch = a67_deadline_in(a67_now_ms(), START_MAX_MS);
	return true;
}

/* launch, with an error taken for a failure: the slot tries again later, the listener goes on. */
static bool
try_launch(A67Slot *slot)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = false;

	PG_TRY();
	{
		ok = launch(slot);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		a67_exchange_leave(&slot->exchange);
	}
	PG_END_TRY();
	return ok;
}

static void
start_worker(A67Listener *listener, A67Slot *slot)
{
	slot->retry_at = a67_deadline_in(a67_now_ms(), a67_backoff_next(&slot->backoff));
	if (try_launch(slot))
	{
		listener->launch_failing = false;
		return;
	}
	if (!listener->launch_failing)
		ereport(LOG, (errmsg("could not start an api worker"),
					  errhint("You may need to increase max_worker_processes.")));
	listener->launch_failing = true;
}

void
a67_pool_drop(A67Slot *slot, bool terminate)
{
	if (slot->job != NULL)
		a67_dispatch_fail(slot, 502, "api worker ended unexpectedly");
	if (terminate)
		TerminateBackgroundWorker(slot->handle);
	a67_exchange_leave(&slot->exchange);
	a67_buf_free(&slot->out);
	slot->paused = false;
	slot->discard = false;
	slot->watch = a67_deadline_in(a67_now_ms(), END_MAX_MS);
	slot->state = A67_SLOT_ENDING;
}

/* Notices that the process has ended. */
static void
bury_worker(A67Slot *slot, int64 now)
{
	pid_t pid;

	if (GetBackgroundWorkerPid(slot->handle, &pid) != BGWH_STOPPED)
		return;
	if (slot->state != A67_SLOT_ENDING)
		a67_pool_drop(slot, false);
	pfree(slot->handle);
	slot->handle = NULL;
	if (slot->ready_at != A67_NEVER && now - slot->ready_at >= STEADY_MS)
		a67_backoff_reset(&slot->backoff);
	slot->retry_at = a67_deadline_in(now, a67_backoff_next(&slot->backoff));
	slot->state = A67_SLOT_EMPTY;
}

/* The worker does not end. As many as there are slots are left to themselves; further ones keep their slots. */
static void
give_up(A67Listener *listener, A67Slot *slot, int64 now)
{
	pid_t pid;

	slot->watch = a67_deadline_in(now, END_MAX_MS);
	if (GetBackgroundWorkerPid(slot->handle, &pid) != BGWH_STARTED)
		return;
	(void) setpriority(PRIO_PROCESS, (id_t) pid, PRIO_MAX - 1);
	if (listener->nstrays == listener->nslots)
		return;
	ereport(LOG, (errmsg("api worker (PID %d) does not end; another takes its place", (int) pid)));
	listener->strays[listener->nstrays++] = slot->handle;
	slot->handle = NULL;
	slot->retry_at = now;
	slot->state = A67_SLOT_EMPTY;
}

static void
bury_strays(A67Listener *listener)
{
	int left = 0;
	pid_t pid;

	for (int i = 0; i < listener->nstrays; i++)
	{
		if (GetBackgroundWorkerPid(listener->strays[i], &pid) == BGWH_STOPPED)
			pfree(listener->strays[i]);
		else
			listener->strays[left++] = listener->strays[i];
	}
	listener->nstrays = left;
}

void
a67_pool_tend(A67Listener *listener)
{
	int64 now = a67_now_ms();

	bury_strays(listener);
	for (int i = 0; i < listener->nslots; i++)
	{
		A67Slot *slot = &listener->slots[i];

		/* While it has queues, dispatch.c hears of its end by them, after its last words. */
		if (slot->state == A67_SLOT_ENDING)
			bury_worker(slot, now);
		if (slot->state == A67_SLOT_ENDING && a67_deadline_expired(slot->watch, now))
			give_up(listener, slot, now);
		if (slot->state == A67_SLOT_EMPTY && a67_deadline_expired(slot->retry_at, now))
			start_worker(listener, slot);
	}
}

void
a67_pool_leave(A67Listener *listener)
{
	for (int i = 0; i < listener->nslots; i++)
		a67_exchange_leave(&listener->slots[i].exchange);
}

/* Streams keep a slot busy for as long as their clients like: one slot stays for the rest. */
static bool
may_stream(const A67Listener *listener)
{
	int streaming = 0;

	for (int i = 0; i < listener->nslots; i++)
		streaming += listener->slots[i].state == A67_SLOT_BUSY && listener->slots[i].job->streams;
	return streaming < Max(1, listener->nslots - 1);
}

/*
 * Queries take what time and memory there is. With three slots or more one is out of their reach; a caller has at most half
 * of the others, and one in any case.
 */
static bool
may_query(const A67Listener *listener, const A67Job *job)
{
	int most = listener->nslots > 2 ? listener->nslots - 1 : listener->nslots;
	int all = 0;
	int own = 0;

	for (int i = 0; i < listener->nslots; i++)
	{
		const A67Slot *slot = &listener->slots[i];

		if (slot->state != A67_SLOT_BUSY || slot->job->class != A67_CLASS_QUERY)
			continue;
		all++;
		own += memcmp(slot->job->caller, job->caller, sizeof(job->caller)) == 0;
	}
	return all < most && own < Max(1, most / 2);
}

bool
a67_pool_may_start(const A67Listener *listener, const A67Job *job)
{
	if (job->class == A67_CLASS_QUERY && !may_query(listener, job))
		return false;
	return !job->streams || may_stream(listener);
}
