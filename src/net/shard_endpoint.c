/*
 * shard_endpoint.c - places and circuit breakers in shared memory; see shard_endpoint.h.
 *
 * The table is an array that only grows; an entry that nobody is connected to and whose breaker is closed gives way
 * when it is full. Entries are found under A67_LOCK_SHARD; a breaker changes under its entry's spinlock; a
 * place is one atomic word with the pid of its holder, so that a signal handler can give it back.
 */
#include "postgres.h"

#include "net/shard_endpoint.h"

#include <signal.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/pace.h"
#include "platform/clock.h"
#include "platform/settings.h"

#define FAILURES_TO_OPEN 3
#define OPEN_LEAST_MS	 500
#define OPEN_MOST_MS	 30000
#define PROBE_MS		 60000 /* a process that tries and never tells is forgotten after that */

typedef enum BreakerState
{
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_HALF_OPEN,
} BreakerState;

static const char *const state_names[] = {"closed", "open", "half_open"};

struct A67Endpoint
{
	Oid database; /* InvalidOid: free; this and the next two change under A67_LOCK_SHARD */
	int32 shard_id;
	int32 replica_id;
	pg_atomic_uint32 waiters;
	pg_atomic_uint32 places[A67_SHARD_CONNECTIONS_MAX]; /* pids; 0: free */

	slock_t mutex; /* covers the rest; state and retry_ms are also read without it */
	volatile BreakerState state;
	volatile int64
		retry_ms; /* open: until then nobody tries; half-open: until then somebody does */
	int failures; /* in a row */
	int64 failures_ever;
	A67Backoff backoff;
	int last_sqlstate;
	TimestampTz last_failure_at;
};

typedef struct Table
{
	int used;
	A67Endpoint of[A67_ENDPOINTS_MAX];
} Table;

static Table *table;
static uint8 waited_for[A67_ENDPOINTS_MAX]; /* how often this process waits */

static Size
area_size(void)
{
	return MAXALIGN(sizeof(Table));
}

static void
attach(void)
{
	bool found;

	table = ShmemInitStruct("a67 shard endpoints", area_size(), &found);
	if (found)
		return;
	memset(table, 0, area_size());
	for (int i = 0; i < A67_ENDPOINTS_MAX; i++)
	{
		A67Endpoint *endpoint = &table->of[i];

		SpinLockInit(&endpoint->mutex);
		pg_atomic_init_u32(&endpoint->waiters, 0);
		for (int j = 0; j < A67_SHARD_CONNECTIONS_MAX; j++)
			pg_atomic_init_u32(&endpoint->places[j], 0);
	}
}

const A67ShmemArea a67_endpoint_area = {area_size, attach};

static int
holders(A67Endpoint *endpoint)
{
	int count = 0;

	for (int i = 0; i < A67_SHARD_CONNECTIONS_MAX; i++)
		count += pg_atomic_read_u32(&endpoint->places[i]) != 0;
	return count;
}

bool
a67_endpoint_is(const A67Endpoint *endpoint, int32 shard_id, int32 replica_id)
{
	return endpoint->database == MyDatabaseId && endpoint->shard_id == shard_id &&
		   endpoint->replica_id == replica_id;
}

static A67Endpoint *
find(int32 shard_id, int32 replica_id)
{
	for (int i = 0; i < table->used; i++)
	{
		A67Endpoint *endpoint = &table->of[i];

		if (a67_endpoint_is(endpoint, shard_id, replica_id))
			return endpoint;
	}
	return NULL;
}

/* An entry that nobody would miss. */
static A67Endpoint *
find_free(void)
{
	if (table->used < A67_ENDPOINTS_MAX)
		return &table->of[table->used++];
	for (int i = 0; i < A67_ENDPOINTS_MAX; i++)
	{
		A67Endpoint *endpoint = &table->of[i];

		if (endpoint->state == BREAKER_CLOSED && pg_atomic_read_u32(&endpoint->waiters) == 0 &&
			holders(endpoint) == 0)
			return endpoint;
	}
	return NULL;
}

static void
reset(A67Endpoint *endpoint, int32 shard_id, int32 replica_id)
{
	endpoint->database = MyDatabaseId;
	endpoint->shard_id = shard_id;
	endpoint->replica_id = replica_id;
	SpinLockAcquire(&endpoint->mutex);
	endpoint->state = BREAKER_CLOSED;
	endpoint->retry_ms = 0;
	endpoint->failures = 0;
	endpoint->failures_ever = 0;
	endpoint->last_sqlstate = 0;
	endpoint->last_failure_at = 0;
	a67_backoff_init(&endpoint->backoff, OPEN_LEAST_MS, OPEN_MOST_MS,
					 (uint64) a67_now_ms() ^ ((uint64) shard_id << 32) ^ (uint64) replica_id);
	SpinLockRelease(&endpoint->mutex);
}

A67Endpoint *
a67_endpoint_look(int32 shard_id, int32 replica_id)
{
	A67Endpoint *endpoint;

	a67_shared_require();
	LWLockAcquire(a67_lock(A67_LOCK_SHARD), LW_SHARED);
	endpoint = find(shard_id, replica_id);
	LWLockRelease(a67_lock(A67_LOCK_SHARD));
	return endpoint;
}

A67Endpoint *
a67_endpoint(int32 shard_id, int32 replica_id)
{
	A67Endpoint *endpoint = a67_endpoint_look(shard_id, replica_id);

	if (endpoint != NULL)
		return endpoint;
	LWLockAcquire(a67_lock(A67_LOCK_SHARD), LW_EXCLUSIVE);
	endpoint = find(shard_id, replica_id);
	if (endpoint == NULL && (endpoint = find_free()) != NULL)
		reset(endpoint, shard_id, replica_id);
	LWLockRelease(a67_lock(A67_LOCK_SHARD));
	if (endpoint == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("too many shards are in use"),
				 errdetail("The server keeps track of at most %d at once.", A67_ENDPOINTS_MAX)));
	return endpoint;
}

bool
a67_endpoint_enter(A67Endpoint *endpoint)
{
	for (int i = 0; i < a67_shard_connections; i++)
	{
		uint32 nobody = 0;

		if (pg_atomic_read_u32(&endpoint->places[i]) == 0 &&
			pg_atomic_compare_exchange_u32(&endpoint->places[i], &nobody, (uint32) MyProcPid))
			return true;
	}
	return false;
}

void
a67_endpoint_leave(A67Endpoint *endpoint)
{
	for (int i = 0; i < A67_SHARD_CONNECTIONS_MAX; i++)
	{
		if (pg_atomic_read_u32(&endpoint->places[i]) == (uint32) MyProcPid)
		{
			pg_atomic_write_u32(&endpoint->places[i], 0);
			return;
		}
	}
}

void
a67_endpoint_wait_begin(A67Endpoint *endpoint)
{
	pg_atomic_fetch_add_u32(&endpoint->waiters, 1);
	waited_for[endpoint - table->of]++;
}

void
a67_endpoint_wait_end(A67Endpoint *endpoint)
{
	waited_for[endpoint - table->of]--;
	pg_atomic_fetch_sub_u32(&endpoint->waiters, 1);
}

void
a67_endpoint_leave_all(void)
{
	for (int i = 0; i < table->used; i++)
	{
		A67Endpoint *endpoint = &table->of[i];

		a67_endpoint_leave(endpoint);
		while (waited_for[i] > 0)
			a67_endpoint_wait_end(endpoint);
	}
}

void
a67_endpoint_wait_signal(A67Endpoint *endpoint)
{
	for (int i = 0; i < A67_SHARD_CONNECTIONS_MAX; i++)
	{
		int pid = (int) pg_atomic_read_u32(&endpoint->places[i]);

		if (pid != 0 && pid != MyProcPid && BackendPidGetProc(pid) != NULL)
			kill(pid, SIGUSR2);
	}
}

bool
a67_endpoint_is_wanted(const A67Endpoint *endpoint)
{
	return pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &endpoint->waiters)) > 0;
}

bool
a67_endpoint_is_open(const A67Endpoint *endpoint)
{
	return unlikely(endpoint->state != BREAKER_CLOSED) && a67_now_ms() < endpoint->retry_ms;
}

bool
a67_endpoint_may_try(A67Endpoint *endpoint, int64 now_ms)
{
	bool may = true;

	if (endpoint->state == BREAKER_CLOSED)
		return true;
	SpinLockAcquire(&endpoint->mutex);
	if (endpoint->state != BREAKER_CLOSED)
	{
		may = now_ms >= endpoint->retry_ms;
		if (may)
		{
			endpoint->state = BREAKER_HALF_OPEN;
			endpoint->retry_ms = now_ms + PROBE_MS;
		}
	}
	SpinLockRelease(&endpoint->mutex);
	return may;
}

void
a67_endpoint_succeeded(A67Endpoint *endpoint)
{
	if (likely(endpoint->failures == 0))
		return;
	SpinLockAcquire(&endpoint->mutex);
	endpoint->state = BREAKER_CLOSED;
	endpoint->failures = 0;
	a67_backoff_reset(&endpoint->backoff);
	SpinLockRelease(&endpoint->mutex);
}

void
a67_endpoint_failed(A67Endpoint *endpoint, int sqlstate, int64 now_ms)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&endpoint->mutex);
	endpoint->failures++;
	endpoint->failures_ever++;
	endpoint->last_sqlstate = sqlstate;
	endpoint->last_failure_at = now;
	if (endpoint->state == BREAKER_HALF_OPEN ||
		(endpoint->state == BREAKER_CLOSED && endpoint->failures >= FAILURES_TO_OPEN))
	{
		endpoint->state = BREAKER_OPEN;
		endpoint->retry_ms = now_ms + a67_backoff_next(&endpoint->backoff);
	}
	SpinLockRelease(&endpoint->mutex);
}

PG_FUNCTION_INFO_V1(a67_sql_shard_endpoints);

/*
 * _shard_endpoints() returns setof record: shard_id, replica_id, state, connections, waiting, failures in a row, failures
 * since the server started, last SQLSTATE, its time, when it is tried again
 */
Datum
a67_sql_shard_endpoints(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	int64 now_ms = a67_now_ms();

	a67_shared_require();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < table->used; i++)
	{
		A67Endpoint *endpoint = &table->of[i];
		Datum values[10] = {0};
		bool nulls[10] = {false};
		A67Endpoint copy;

		SpinLockAcquire(&endpoint->mutex);
		memcpy(&copy, endpoint, sizeof(copy));
		SpinLockRelease(&endpoint->mutex);
		if (copy.database != MyDatabaseId)
			continue;
		values[0] = Int32GetDatum(copy.shard_id);
		values[1] = Int32GetDatum(copy.replica_id);
		values[2] = CStringGetTextDatum(state_names[copy.state]);
		values[3] = Int32GetDatum(holders(&copy));
		values[4] = Int32GetDatum((int32) pg_atomic_read_u32(&copy.waiters));
		values[5] = Int32GetDatum(copy.failures);
		values[6] = Int64GetDatum(copy.failures_ever);
		nulls[7] = nulls[8] = copy.last_failure_at == 0;
		values[7] = CStringGetTextDatum(unpack_sql_state(copy.last_sqlstate));
		values[8] = TimestampTzGetDatum(copy.last_failure_at);
		nulls[9] = copy.state != BREAKER_OPEN;
		values[9] = TimestampTzGetDatum(now + (copy.retry_ms - now_ms) * 1000);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
