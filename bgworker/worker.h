/*
 * worker.h - the loop that every long-running worker of a67 shares, and how a worker plugs into it.
 *
 * A worker is a row of function pointers. The loop waits on the process latch, the postmaster's death, one
 * descriptor and two timers; keeps the worker's memory, signals, database connection, errors and status.
 * It knows no worker by name. Memory: `life` lives as long as the process, `scratch` is reset after every
 * call into the worker; the calls run in `scratch`.
 * Exit code: 0 when asked to end for good, 1 otherwise; the launcher starts the worker again either way as
 * long as the extension exists.
 */
#ifndef A67_WORKER_H
#define A67_WORKER_H

#include "postgres.h"

#include "platform/slots.h"

typedef struct A67Worker A67Worker;

typedef struct A67WorkerDef
{
	const char *name;	/* one lower-case word: SQL knows the worker by it */
	bool guarded;		/* plan_record.h: its requests go to addresses that users chose */
	bool database;		/* connected to a67.database as its owner; otherwise shared memory only */
	int (*count)(void); /* how many instances run; NULL: one */
	int (*interval_ms)(void); /* between ticks, read anew for each; NULL: ticks only when woken */

	/*
	 * Called in the process itself, never in a transaction. start returns the worker's state (allocate it
	 * in worker->life) and may set worker->fd. tick runs at start, at the interval and when the latch is
	 * set. ready (may be NULL) runs when worker->fd is readable and when deadline_ms has passed.
	 * deadline_ms (may be NULL) says when, on the clock of a67_now_ms(); A67_NEVER (core/pace.h) for never.
	 * start, tick and ready may throw: the transaction is aborted, the error logged and counted, and the
	 * next tick waits a jittered back-off; ten in a row end the process. An error in start ends it at once.
	 * stop (may be NULL) runs once before the process ends, whatever the reason; it must not throw.
	 */
	void *(*start)(A67Worker *worker);
	void (*tick)(A67Worker *worker, void *state);
	void (*ready)(A67Worker *worker, void *state);
	int64 (*deadline_ms)(A67Worker *worker, void *state);
	void (*stop)(A67Worker *worker, void *state);
} A67WorkerDef;

struct A67Worker
{
	const A67WorkerDef *def;
	int instance;  /* 0 .. count() - 1 */
	int fd;		   /* watched for reading, level-triggered, e.g. a nested epoll; -1: none */
	bool again;	   /* set by the worker: tick once more without waiting */
	bool woken;	   /* this tick was asked for by somebody's wake-up */
	bool reloaded; /* the configuration was read again before this call */
	MemoryContext life;
	MemoryContext scratch;
	void *state; /* what start returned */
	A67WorkerSlot *slot;
};

/* Registers a definition (at most A67_WORKER_DEFS_MAX) in _PG_init; the row must stay valid. */
#define A67_WORKER_DEFS_MAX 16
void a67_worker_define(const A67WorkerDef *def);
int a67_worker_def_count(void);
const A67WorkerDef *a67_worker_def(int index);

/*
 * A transaction of a database worker: snapshot, SPI connection, activity for pg_stat_activity (a static
 * text), statement time-out. Commit leaves the caller in worker->scratch. An error in between needs no
 * clean-up by the worker: the loop aborts.
 */
void a67_worker_begin(A67Worker *worker, const char *activity);
void a67_worker_commit(A67Worker *worker);

/*
 * In a PG_CATCH: leaves no transaction, lock or time-out behind and returns the error, in scratch. Then
 * a67_worker_log writes it to the server log as the error it was.
 */
ErrorData *a67_worker_rescue(A67Worker *worker);
void a67_worker_log(ErrorData *error);

/* Entry point of every worker; the argument packs definition and instance. */
PGDLLEXPORT void a67_worker_main(Datum arg);
#define A67_WORKER_ARG(def_index, instance) Int32GetDatum(((def_index) << 8) | (instance))

#endif /* A67_WORKER_H */
