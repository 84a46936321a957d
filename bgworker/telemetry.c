/*
 * telemetry.c - writes what heartbeats left in the live node table to rows, in batches.
 *
 * Every second, everything that is new, up to FLUSH_MAX nodes a statement. It has a process of its own
 * because a flush behind a slow query would make all nodes look silent. Rows are marked as flushed only after
 * the commit: a failed flush is simply done again. Memory: one buffer for the batch, for life.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "registry/live.h"
#include "workers.h"

#define FLUSH_MS  1000
#define FLUSH_MAX 2000
#define FLUSH_SQL "SELECT a67_internal._heartbeat_record($1, $2, $3, $4)"

typedef struct Telemetry
{
	SPIPlanPtr plan;
	A67LiveDirty batch[FLUSH_MAX];
} Telemetry;

static int
interval_ms(void)
{
	return FLUSH_MS;
}

static void *
start(A67Worker *worker)
{
	return MemoryContextAllocZero(worker->life, sizeof(Telemetry));
}

static void
add_real(StringInfo json, const char *name, float value)
{
	if (isfinite(value))
		appendStringInfo(json, "%s\"%s\":%.6g", json->len > 1 ? "," : "", name, value);
}

static void
add_count(StringInfo json, const char *name, int64 value)
{
	if (value >= 0)
		appendStringInfo(json, "%s\"%s\":" INT64_FORMAT, json->len > 1 ? "," : "", name, value);
}

/* The metrics as the heartbeat had them; what it did not have is left out. */
static Datum
metrics_jsonb(const A67NodeMetrics *metrics, StringInfo json)
{
	resetStringInfo(json);
	appendStringInfoChar(json, '{');
	add_real(json, "cpu_percent", metrics->cpu_percent);
	add_real(json, "memory_percent", metrics->memory_percent);
	add_count(json, "memory_free_bytes", metrics->memory_free_bytes);
	add_count(json, "memory_total_bytes", metrics->memory_total_bytes);
	add_real(json, "disk_percent", metrics->disk_percent);
	add_real(json, "load1", metrics->load1);
	add_count(json, "uptime_s", metrics->uptime_s);
	add_count(json, "active_requests", metrics->active_requests);
	appendStringInfoChar(json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data));
}

/* The three parallel arrays of the statement. */
static void
make_arrays(const A67LiveDirty *batch, int count, Datum *arrays)
{
	Datum *ids = palloc(sizeof(Datum) * count);
	Datum *times = palloc(sizeof(Datum) * count);
	Datum *metrics = palloc(sizeof(Datum) * count);
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; i < count; i++)
	{
		ids[i] = UUIDPGetDatum((const pg_uuid_t *) batch[i].node_id);
		times[i] = TimestampTzGetDatum(batch[i].at);
		metrics[i] = metrics_jsonb(&batch[i].metrics, &json);
	}
	arrays[0] =
		PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	arrays[1] = PointerGetDatum(construct_array(times, count, TIMESTAMPTZOID, sizeof(TimestampTz),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	arrays[2] = PointerGetDatum(construct_array(metrics, count, JSONBOID, -1, false, TYPALIGN_INT));
}

static void
flush(A67Worker *worker, Telemetry *state, int count)
{
	static Oid types[4] = {TIMESTAMPTZOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID};
	Datum values[4];

	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	make_arrays(state->batch, count, &values[1]);
	a67_worker_begin(worker, FLUSH_SQL);
	if (state->plan == NULL)
	{
		state->plan = SPI_prepare(FLUSH_SQL, lengthof(types), types);
		if (state->plan == NULL || SPI_keepplan(state->plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", FLUSH_SQL);
	}
	if (SPI_execute_plan(state->plan, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" is not a query", FLUSH_SQL);
	a67_worker_commit(worker);
	a67_live_flushed(state->batch, count);
}

static void
tick(A67Worker *worker, void *opaque)
{
	Telemetry *state = opaque;
	int count = a67_live_drain(state->batch, FLUSH_MAX);

	if (count > 0)
		flush(worker, state, count);
	worker->again = count == FLUSH_MAX;
}

const A67WorkerDef a67_telemetry_def = {
	.name = "telemetry",
	.database = true,
	.interval_ms = interval_ms,
	.start = start,
	.tick = tick,
};
