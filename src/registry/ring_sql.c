/*
 * ring_sql.c - SQL faces of the hash and the ring: murmur3, ring_lookup, ring_points, ring_shares, ring_diff.
 *
 * Turns arrays into ring members and results into rows; all decisions are core/ring.c. A ring is built per
 * call, in malloc'd memory that is released also when an error is raised. Called from SQL only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/hash.h"
#include "core/ring.h"
#include "platform/errors.h"

/* What the SQL functions may do with a ring that is released afterwards. */
typedef struct RingArguments
{
	A67RingMember *members;
	size_t count;
} RingArguments;

static void ring_error(A67RingStatus status, const char *name) pg_attribute_noreturn();

/* Raises what the ring says; name is the member at fault, or NULL. */
static void
ring_error(A67RingStatus status, const char *name)
{
	int code =
		status == A67_RING_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY : ERRCODE_INVALID_PARAMETER_VALUE;

	ereport(ERROR, (errcode(code), errmsg("%s", a67_ring_status_text(status)),
					name != NULL ? errdetail("The name is \"%s\".", name) : 0));
	pg_unreachable();
}

/* Members from names and weights (NULL: all 1), checked; `names` and `weights` are what to call them. */
static RingArguments
take_members(FunctionCallInfo fcinfo, int names_at, const char *names, const char *weights)
{
	RingArguments arguments = {NULL, 0};
	Datum *values;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(names_at))
		a67_error_null(names);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(names_at), TEXTOID, -1, false, TYPALIGN_INT, &values,
					  &nulls, &count);
	if (count > A67_RING_MAX_MEMBERS)
		ring_error(A67_RING_TOO_MANY_MEMBERS, NULL);
	arguments.members = palloc0(sizeof(A67RingMember) * Max(count, 1));
	arguments.count = (size_t) count;
	for (int i = 0; i < count; i++)
	{
		char *name;

		if (nulls[i])
			a67_error_null(names);
		name = TextDatumGetCString(values[i]);
		if (strlen(name) >= A67_RING_NAME_SIZE)
			a67_error_parameter(names, "A name must not be longer than 63 bytes.");
		strlcpy(arguments.members[i].name, name, A67_RING_NAME_SIZE);
		arguments.members[i].id = (uint32_t) i;
		arguments.members[i].weight = 1.0;
	}

	if (PG_ARGISNULL(names_at + 1))
		return arguments;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(names_at + 1), FLOAT8OID, sizeof(float8),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &nulls, &count);
	if ((size_t) count != arguments.count)
		a67_error_parameter(weights, "It must have as many elements as the names.");
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			a67_error_null(weights);
		arguments.members[i].weight = DatumGetFloat8(values[i]);
	}
	return arguments;
}

static void
build(A67Ring *ring, const RingArguments *arguments)
{
	size_t offender = arguments->count;
	A67RingStatus status = a67_ring_build(ring, arguments->members, arguments->count, &offender);

	if (status != A67_RING_OK)
		ring_error(status, offender < arguments->count ? arguments->members[offender].name : NULL);
}

PG_FUNCTION_INFO_V1(a67_sql_murmur3);

/* murmur3(key text, seed integer) returns bigint; strict */
Datum
a67_sql_murmur3(PG_FUNCTION_ARGS)
{
	text *key = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT64((int64) a67_murmur3(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key),
										(uint32_t) PG_GETARG_INT32(1)));
}

static ArrayType *
owners_array(const A67Ring *ring, const text *key, int n)
{
	size_t want = Min((size_t) n, (size_t) ring->member_count);
	const A67RingMember **owners = palloc(sizeof(*owners) * (want + 1));
	size_t count = a67_ring_owners(ring, a67_murmur3(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), 0),
								   owners, want);
	Datum *values = palloc(sizeof(Datum) * (count + 1));

	for (size_t i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(owners[i]->name);
	return construct_array(values, (int) count, TEXTOID, -1, false, TYPALIGN_INT);
}

PG_FUNCTION_INFO_V1(a67_sql_ring_lookup);

/* ring_lookup(key text, names text[], weights float8[], n integer) returns text[]; not strict */
Datum
a67_sql_ring_lookup(PG_FUNCTION_ARGS)
{
	RingArguments arguments = take_members(fcinfo, 1, "names", "weights");
	int n = PG_ARGISNULL(3) ? 1 : PG_GETARG_INT32(3);
	A67Ring ring;
	ArrayType *volatile owners = NULL;

	if (PG_ARGISNULL(0))
		a67_error_null("key");
	if (n < 1)
		a67_error_parameter("n", "It must be at least 1.");
	build(&ring, &arguments);
	PG_TRY();
	{
		owners = owners_array(&ring, PG_GETARG_TEXT_PP(0), n);
	}
	PG_FINALLY();
	{
		a67_ring_free(&ring);
	}
	PG_END_TRY();
	PG_RETURN_ARRAYTYPE_P(owners);
}

PG_FUNCTION_INFO_V1(a67_sql_ring_points);

/* ring_points(names text[], weights float8[]) returns table (hash bigint, name text); not strict */
Datum
a67_sql_ring_points(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	RingArguments arguments = take_members(fcinfo, 0, "names", "weights");
	A67Ring ring;

	InitMaterializedSRF(fcinfo, 0);
	build(&ring, &arguments);
	PG_TRY();
	{
		for (uint32_t i = 0; i < ring.point_count; i++)
		{
			Datum values[2];
			bool nulls[2] = {false};

			CHECK_FOR_INTERRUPTS();
			values[0] = Int64GetDatum((int64) ring.points[i].hash);
			values[1] = CStringGetTextDatum(ring.members[ring.points[i].member].name);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
			pfree(DatumGetPointer(values[1]));
		}
	}
	PG_FINALLY();
	{
		a67_ring_free(&ring);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

static void
put_shares(ReturnSetInfo *result, const A67Ring *ring)
{
	double *shares = palloc0(sizeof(double) * ring->member_count);
	int32 *points = palloc0(sizeof(int32) * ring->member_count);

	a67_ring_shares(ring, shares);
	for (uint32_t i = 0; i < ring->point_count; i++)
		points[ring->points[i].member]++;
	for (uint32_t i = 0; i < ring->member_count; i++)
	{
		Datum values[3];
		bool nulls[3] = {false};

		values[0] = CStringGetTextDatum(ring->members[i].name);
		values[1] = Int32GetDatum(points[i]);
		values[2] = Float8GetDatum(shares[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

PG_FUNCTION_INFO_V1(a67_sql_ring_shares);

/* ring_shares(names, weights) returns table (name text, points integer, share float8); not strict */
Datum
a67_sql_ring_shares(PG_FUNCTION_ARGS)
{
	RingArguments arguments = take_members(fcinfo, 0, "names", "weights");
	A67Ring ring;

	InitMaterializedSRF(fcinfo, 0);
	build(&ring, &arguments);
	PG_TRY();
	{
		put_shares((ReturnSetInfo *) fcinfo->resultinfo, &ring);
	}
	PG_FINALLY();
	{
		a67_ring_free(&ring);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

/* Both rings and what differs; everything here is malloc'd and released by release_diff. */
typedef struct DiffWork
{
	A67Ring from;
	A67Ring to;
	A67RingDiff diff;
} DiffWork;

static void
put_moves(ReturnSetInfo *result, DiffWork *work)
{
	if (a67_ring_diff(&work->from, &work->to, &work->diff) != A67_RING_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	for (uint32_t i = 0; i < work->diff.count; i++)
	{
		const A67RingMove *move = &work->diff.moves[i];
		Datum values[4];
		bool nulls[4] = {false};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int64GetDatum((int64) move->start);
		values[1] = Int64GetDatum((int64) move->end);
		values[2] = CStringGetTextDatum(move->from->name);
		values[3] = CStringGetTextDatum(move->to->name);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

PG_FUNCTION_INFO_V1(a67_sql_ring_diff);

/*
 * ring_diff(old_names, old_weights, new_names, new_weights)
 * returns table (range_start bigint, range_end bigint, from_name text, to_name text); not strict
 */
Datum
a67_sql_ring_diff(PG_FUNCTION_ARGS)
{
	RingArguments from = take_members(fcinfo, 0, "old_names", "old_weights");
	RingArguments to = take_members(fcinfo, 2, "new_names", "new_weights");
	DiffWork *work = palloc0(sizeof(DiffWork));

	InitMaterializedSRF(fcinfo, 0);
	PG_TRY();
	{
		build(&work->from, &from);
		build(&work->to, &to);
		put_moves((ReturnSetInfo *) fcinfo->resultinfo, work);
	}
	PG_FINALLY();
	{
		a67_ring_diff_free(&work->diff);
		a67_ring_free(&work->from);
		a67_ring_free(&work->to);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}
