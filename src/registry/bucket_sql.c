/*
 * bucket_sql.c - what the heartbeats of one node said within a minute, added up in one array.
 *
 * A C function because a heartbeat in SQL would cost twice as much with twenty sums in it. The array belongs to
 * node_observed.metric; the view node_metric_open names its elements, counted from 1:
 *   1 beats; then number, sum and largest of each gauge (2 cpu, 5 memory, 8 disk, 11 load, 14 latency);
 *   17 requests, 18 failures, 19 network bytes.
 * Called by _heartbeat_record alone.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"

#define GAUGES	 5
#define COUNTERS 3
#define ELEMENTS (1 + 3 * GAUGES + COUNTERS)
#define TRACE	 1e-6

/* An array of ELEMENTS numbers, all 0. */
static ArrayType *
make_bucket(void)
{
	Size size = ARR_OVERHEAD_NONULLS(1) + ELEMENTS * sizeof(float8);
	ArrayType *bucket = palloc0(size);

	SET_VARSIZE(bucket, size);
	bucket->ndim = 1;
	bucket->elemtype = FLOAT8OID;
	ARR_DIMS(bucket)[0] = ELEMENTS;
	ARR_LBOUND(bucket)[0] = 1;
	return bucket;
}

/* A value next to nothing is 0: a mean that is too small for a real would be an error. */
static void
add_gauge(float8 *gauge, float8 value)
{
	value = fabs(value) < TRACE ? 0 : value;
	gauge[2] = gauge[0] > 0 ? Max(gauge[2], value) : value;
	gauge[0] += 1;
	gauge[1] += value;
}

PG_FUNCTION_INFO_V1(a67_sql_bucket_add);

/*
 * _bucket_add(bucket float8[], cpu_percent real, memory_percent real, disk_percent real, load1 real, latency_ms
 * real, requests bigint, failures bigint, network_bytes bigint): bucket NULL begins one; other NULLs add nothing.
 */
Datum
a67_sql_bucket_add(PG_FUNCTION_ARGS)
{
	ArrayType *sum = make_bucket();
	float8 *numbers = (float8 *) ARR_DATA_PTR(sum);

	if (!PG_ARGISNULL(0))
	{
		ArrayType *bucket = PG_GETARG_ARRAYTYPE_P(0);

		if (ARR_NDIM(bucket) != 1 || ARR_DIMS(bucket)[0] != ELEMENTS || ARR_HASNULL(bucket) ||
			ARR_ELEMTYPE(bucket) != FLOAT8OID)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("bucket must have %d numbers", ELEMENTS)));
		memcpy(numbers, ARR_DATA_PTR(bucket), ELEMENTS * sizeof(float8));
	}
	numbers[0] += 1;
	for (int i = 0; i < GAUGES; i++)
	{
		if (!PG_ARGISNULL(1 + i) && isfinite(PG_GETARG_FLOAT4(1 + i)))
			add_gauge(&numbers[1 + 3 * i], PG_GETARG_FLOAT4(1 + i));
	}
	for (int i = 0; i < COUNTERS; i++)
	{
		if (!PG_ARGISNULL(1 + GAUGES + i))
			numbers[1 + 3 * GAUGES + i] += (float8) PG_GETARG_INT64(1 + GAUGES + i);
	}
	PG_RETURN_ARRAYTYPE_P(sum);
}
