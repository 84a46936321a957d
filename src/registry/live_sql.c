/*
 * live_sql.c - SQL faces of the live node table.
 *
 * Shows it and drops nodes from it; everything else about it is live.c.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "registry/live.h"

static void
put_real(Datum *value, bool *null, float number)
{
	*null = isnan(number);
	*value = Float4GetDatum(number);
}

static void
put_row(ReturnSetInfo *result, const A67LiveRow *row)
{
	const A67NodeMetrics *metrics = &row->beat.metrics;
	Datum values[10];
	bool nulls[10] = {false};

	values[0] = UUIDPGetDatum((const pg_uuid_t *) row->node_id);
	values[1] = TimestampTzGetDatum(row->last_seen_at);
	values[2] = CStringGetTextDatum(row->beat.boot_id);
	values[3] = Int64GetDatum(row->beat.state_version);
	put_real(&values[4], &nulls[4], metrics->cpu_percent);
	put_real(&values[5], &nulls[5], metrics->memory_percent);
	put_real(&values[6], &nulls[6], metrics->disk_percent);
	put_real(&values[7], &nulls[7], metrics->load1);
	nulls[8] = metrics->memory_free_bytes < 0;
	values[8] = Int64GetDatum(metrics->memory_free_bytes);
	nulls[9] = metrics->active_requests < 0;
	values[9] = Int32GetDatum(metrics->active_requests);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(a67_sql_node_live);

/* _node_live(): one row per node of the live table */
Datum
a67_sql_node_live(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67LiveRow *rows;
	int count;

	a67_shared_require();
	InitMaterializedSRF(fcinfo, 0);
	rows = a67_live_copy(&count);
	for (int i = 0; i < count; i++)
		put_row(result, &rows[i]);
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
