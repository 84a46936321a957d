/*
 * live_sql.c - SQL faces of the live node table.
 *
 * Shows it, drops nodes from it and adds what was observed of them; everything else about it is live.c and
 * live_rows.c. A caller sees his own nodes, an administrator all of them.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/nodefsm.h"
#include "registry/caller.h"
#include "registry/live.h"

#define COLUMNS 20

/* Appends to a row, one column after the other. */
typedef struct Cells
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	int count;
} Cells;

static void
put(Cells *cells, Datum value, bool null)
{
	cells->values[cells->count] = value;
	cells->nulls[cells->count++] = null;
}

static void
put_real(Cells *cells, float number)
{
	put(cells, Float4GetDatum(number), isnan(number));
}

static void
put_time(Cells *cells, TimestampTz at)
{
	put(cells, TimestampTzGetDatum(at), at == 0);
}

static void
put_row(ReturnSetInfo *result, const A67LiveRow *row)
{
	const A67NodeMetrics *metrics = &row->beat.metrics;
	const A67Candidate *node = &row->node;
	bool beaten = row->beat.boot_id[0] != '\0';
	Cells cells = {.count = 0};

	put(&cells, UUIDPGetDatum((const pg_uuid_t *) row->node_id), false);
	put(&cells, CStringGetTextDatum(a67_node_status_name((A67NodeStatus) node->status)), false);
	put(&cells, BoolGetDatum((node->flags & A67_NODE_PLACEABLE) != 0), false);
	put(&cells, BoolGetDatum((node->flags & A67_NODE_NEAR_QUOTA) != 0), false);
	put_time(&cells, row->last_seen_at);
	put(&cells, beaten ? CStringGetTextDatum(row->beat.boot_id) : (Datum) 0, !beaten);
	put(&cells, Int64GetDatum(row->beat.state_version), !beaten);
	put_time(&cells, row->metrics_at);
	put_real(&cells, node->cpu_percent);
	put_real(&cells, node->memory_percent);
	put_real(&cells, beaten ? metrics->disk_percent : NAN);
	put_real(&cells, beaten ? metrics->load1 : NAN);
	put(&cells, Int64GetDatum(metrics->memory_free_bytes),
		!beaten || metrics->memory_free_bytes < 0);
	put(&cells, Int32GetDatum((int32) node->active_connections),
		node->active_connections > PG_INT32_MAX);
	put_real(&cells, node->latency_ms);
	put(&cells, Float8GetDatum(row->requests), false);
	put(&cells, Float8GetDatum(row->failures), false);
	put(&cells, Int64GetDatum(node->free_memory_bytes), false);
	put(&cells, Float8GetDatum(node->free_cpu_milli / 1000.0), false);
	put(&cells, Int64GetDatum(node->free_disk_bytes), false);
	tuplestore_putvalues(result->setResult, result->setDesc, cells.values, cells.nulls);
}

PG_FUNCTION_INFO_V1(a67_sql_node_live);

/* _node_live(): one row per node of the live table that the caller may see */
Datum
a67_sql_node_live(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool all = a67_caller_is_admin();
	uint8 caller[16];
	A67LiveRow *rows;
	int count;

	a67_shared_require();
	InitMaterializedSRF(fcinfo, 0);
	if (!all && !a67_caller_claims(caller))
		PG_RETURN_VOID();
	rows = a67_live_copy(GetCurrentTimestamp(), &count);
	for (int i = 0; i < count; i++)
	{
		if (all || memcmp(rows[i].owner_id, caller, sizeof(caller)) == 0)
			put_row(result, &rows[i]);
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_live_forget);

/* _live_forget(node_id uuid) returns void; strict */
Datum
a67_sql_live_forget(PG_FUNCTION_ARGS)
{
	a67_live_forget_at_commit(PG_GETARG_UUID_P(0)->data);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_live_observe);

/*
 * _live_observe(node_id uuid, requests float8, failures float8, latency_ms float8, active integer) returns boolean;
 * not strict
 */
Datum
a67_sql_live_observe(PG_FUNCTION_ARGS)
{
	A67LiveTraffic traffic = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	traffic.requests = PG_ARGISNULL(1) ? 0 : PG_GETARG_FLOAT8(1);
	traffic.failures = PG_ARGISNULL(2) ? 0 : PG_GETARG_FLOAT8(2);
	traffic.latency_ms = PG_ARGISNULL(3) ? NAN : PG_GETARG_FLOAT8(3);
	traffic.active = PG_ARGISNULL(4) ? -1 : PG_GETARG_INT32(4);
	PG_RETURN_BOOL(a67_live_observe(PG_GETARG_UUID_P(0)->data, &traffic, GetCurrentTimestamp()));
}
