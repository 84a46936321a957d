/*
 * telemetry.c - writes what heartbeats left in the live node table to rows, in batches.
 *
 * First it tells the live table which heartbeats the rows know, so that after a start not every node has to
 * go through SQL again. Then, so often that a beat is in its row within a second of its arrival, it writes
 * everything that is new, up to FLUSH_MAX nodes a statement. It has a process of its own because a flush
 * behind a slow query would make all nodes look silent. Entries are marked as flushed only after the
 * commit: a failed flush is done again, with fewer and fewer nodes; one whose beat fails alone is left out, so
 * that it does not hold up the others. A crash loses what came since the last flush.
 * Memory: one buffer for the batch, for life.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "platform/settings.h"
#include "registry/live.h"
#include "workers.h"

#define FLUSH_MS  700 /* leaves 300 ms of the second for the flush itself */
#define FLUSH_MAX 2000
#define SHRINK	  16 /* to one node before the worker has failed too often to go on */
#define KNOWN_SQL \
	"SELECT node_id, boot_id, state_version, last_heartbeat_at FROM a67_internal._heartbeat_known()"
#define FLUSH_SQL \
	"SELECT a67_internal._heartbeat_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"

/* A metric as _heartbeat_record takes it: one array of all nodes. */
typedef struct Column
{
	Oid element;
	Oid array;
	size_t offset; /* in A67NodeMetrics */
} Column;

#define REAL(name)                                                \
	{                                                             \
		FLOAT4OID, FLOAT4ARRAYOID, offsetof(A67NodeMetrics, name) \
	}
#define COUNT(name)                                           \
	{                                                         \
		INT8OID, INT8ARRAYOID, offsetof(A67NodeMetrics, name) \
	}
#define SMALL(name)                                           \
	{                                                         \
		INT4OID, INT4ARRAYOID, offsetof(A67NodeMetrics, name) \
	}

/* In the order of its arguments, behind the time, the nodes and the times of their beats. */
static const Column columns[] = {
	REAL(cpu_percent), REAL(memory_percent),   COUNT(memory_free_bytes), REAL(disk_percent),
	REAL(load1),	   SMALL(active_requests), REAL(latency_ms),		 COUNT(network_bytes),
	COUNT(requests),   COUNT(failures),
};

#define FIRST_COLUMN 3
#define ARGUMENTS	 (FIRST_COLUMN + lengthof(columns))

typedef struct Telemetry
{
	bool restored; /* the live table knows what the rows knew */
	bool flushing; /* still set when the next tick begins: the flush has failed */
	int limit;	   /* nodes in a flush */
	SPIPlanPtr plan;
	A67LiveDirty batch[FLUSH_MAX];
	Datum values[FLUSH_MAX];
	bool nulls[FLUSH_MAX];
} Telemetry;

static int
interval_ms(void)
{
	return FLUSH_MS;
}

static void *
start(A67Worker *worker)
{
	Telemetry *state = MemoryContextAllocZero(worker->life, sizeof(Telemetry));

	state->limit = FLUSH_MAX;
	return state;
}

/* The metric as a value of its column; what the heartbeat did not have is NULL. */
static Datum
metric_value(const A67NodeMetrics *metrics, const Column *column, bool *null)
{
	const void *place = (const char *) metrics + column->offset;

	if (column->element == FLOAT4OID)
	{
		*null = !isfinite(*(const float *) place);
		return Float4GetDatum(*(const float *) place);
	}
	if (column->element == INT4OID)
	{
		*null = *(const int32 *) place < 0;
		return Int32GetDatum(*(const int32 *) place);
	}
	*null = *(const int64 *) place < 0;
	return Int64GetDatum(*(const int64 *) place);
}

static Datum
make_array(Telemetry *state, int count, Oid element)
{
	int lower = 1;
	int16 len;
	bool by_value;
	char align;

	get_typlenbyvalalign(element, &len, &by_value, &align);
	return PointerGetDatum(construct_md_array(state->values, state->nulls, 1, &count, &lower,
											  element, len, by_value, align));
}

/* All arguments but the time. */
static void
make_arrays(Telemetry *state, int count, Datum *arguments)
{
	memset(state->nulls, 0, sizeof(state->nulls));
	for (int i = 0; i < count; i++)
		state->values[i] = UUIDPGetDatum((const pg_uuid_t *) state->batch[i].node_id);
	arguments[1] = make_array(state, count, UUIDOID);
	for (int i = 0; i < count; i++)
		state->values[i] = TimestampTzGetDatum(state->batch[i].at);
	arguments[2] = make_array(state, count, TIMESTAMPTZOID);
	for (int c = 0; c < (int) lengthof(columns); c++)
	{
		for (int i = 0; i < count; i++)
			state->values[i] =
				metric_value(&state->batch[i].metrics, &columns[c], &state->nulls[i]);
		arguments[FIRST_COLUMN + c] = make_array(state, count, columns[c].element);
	}
}

static SPIPlanPtr
prepare(void)
{
	Oid types[ARGUMENTS] = {TIMESTAMPTZOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID};
	SPIPlanPtr plan;

	for (int c = 0; c < (int) lengthof(columns); c++)
		types[FIRST_COLUMN + c] = columns[c].array;
	plan = SPI_prepare(FLUSH_SQL, ARGUMENTS, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", FLUSH_SQL);
	return plan;
}

static void
flush(A67Worker *worker, Telemetry *state, int count)
{
	Datum arguments[ARGUMENTS];

	a67_worker_begin(worker, FLUSH_SQL);
	arguments[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	make_arrays(state, count, arguments);
	if (state->plan == NULL)
		state->plan = prepare();
	if (SPI_execute_plan(state->plan, arguments, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" is not a query", FLUSH_SQL);
	a67_worker_commit(worker);
	a67_live_flushed(state->batch, count);
}

static Datum
column_of(HeapTuple row, int number)
{
	bool null;

	return SPI_getbinval(row, SPI_tuptable->tupdesc, number, &null);
}

/* One row of KNOWN_SQL, none of whose columns is NULL. */
static bool
restore_node(HeapTuple row, uint64 epoch)
{
	A67Beat beat;

	a67_beat_init(&beat);
	beat.state_version = DatumGetInt64(column_of(row, 3));
	text_to_cstring_buffer(DatumGetTextPP(column_of(row, 2)), beat.boot_id, sizeof(beat.boot_id));
	return a67_live_restore(DatumGetUUIDP(column_of(row, 1))->data, &beat,
							DatumGetTimestampTz(column_of(row, 4)), epoch);
}

/* Tells the live table what the rows know; false when a node was removed meanwhile: to be done again. */
static bool
restore(A67Worker *worker)
{
	uint64 epoch = a67_live_epoch();
	bool current = true;

	a67_worker_begin(worker, KNOWN_SQL);
	if (SPI_execute(KNOWN_SQL, true, a67_max_nodes) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" is not a query", KNOWN_SQL);
	for (uint64 i = 0; i < SPI_processed && current; i++)
		current = restore_node(SPI_tuptable->vals[i], epoch);
	a67_worker_commit(worker);
	return current;
}

static int
compare_nodes(const void *a, const void *b)
{
	return memcmp(((const A67LiveDirty *) a)->node_id, ((const A67LiveDirty *) b)->node_id,
				  sizeof(((const A67LiveDirty *) a)->node_id));
}

/* What the last flush teaches about the size of the next one. */
static void
learn(Telemetry *state)
{
	if (!state->flushing)
	{
		state->limit = Min(state->limit * 2, FLUSH_MAX);
		return;
	}
	state->flushing = false;
	if (state->limit > 1)
	{
		state->limit = Max(state->limit / SHRINK, 1);
		return;
	}
	ereport(WARNING,
			(errmsg("heartbeat of node %s was left out",
					DatumGetCString(DirectFunctionCall1(
						uuid_out, UUIDPGetDatum((const pg_uuid_t *) state->batch[0].node_id))))));
	a67_live_flushed(state->batch, 1);
}

static void
tick(A67Worker *worker, void *opaque)
{
	Telemetry *state = opaque;
	int count;

	if (!state->restored)
		state->restored = restore(worker);
	learn(state);
	count = a67_live_drain(state->batch, state->limit);
	/* In the order in which everybody locks several nodes. */
	qsort(state->batch, count, sizeof(state->batch[0]), compare_nodes);
	state->flushing = count > 0;
	if (count > 0)
		flush(worker, state, count);
	state->flushing = false;
	worker->again = count == state->limit;
}

const A67WorkerDef a67_telemetry_def = {
	.name = "telemetry",
	.database = true,
	.interval_ms = interval_ms,
	.start = start,
	.tick = tick,
};
