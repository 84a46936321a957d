/*
 * place_sql.c - SQL face of placement: nodes as arrays in, one row per placed replica out.
 *
 * Checks shapes, numbers regions and providers, fades old counts; which node is taken is core/placement.c.
 * A null fact counts as unknown, which never helps a node. Called from SQL only; memory is palloc'd.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

#include "core/placement.h"
#include "platform/errors.h"

/* Columns of the flattened facts. */
enum
{
	FACT_CPU_PERCENT,
	FACT_MEMORY_PERCENT,
	FACT_LATENCY_MS,
	FACT_ACTIVE_CONNECTIONS,
	FACT_MAX_CONNECTIONS,
	FACT_REQUESTS,
	FACT_FAILURES,
	FACT_FREE_MEMORY_BYTES,
	FACT_FREE_CPU,
	FACT_DEGRADED,
	FACT_REPLICAS_OF_SAME,
	FACT_AGE_S,
	FACTS
};

typedef struct TextArray
{
	Datum *values;
	bool *nulls;
	int count;
} TextArray;

static void
check_count(const char *parameter, int count, int expected)
{
	if (count != expected)
		a67_error_parameter(parameter,
							psprintf("It has %d elements instead of %d.", count, expected));
}

/* A count from a float: unknown and negative as 0, too large as the most. */
static uint32_t
to_count(double number)
{
	if (!(number > 0))
		return 0;
	return number >= (double) PG_UINT32_MAX ? PG_UINT32_MAX : (uint32_t) number;
}

static int64_t
to_bytes(double number)
{
	if (!(number > 0))
		return 0;
	return number >= 9.0e18 ? INT64_C(9000000000000000000) : (int64_t) number;
}

static double
to_amount(double number)
{
	return number > 0 ? number : 0;
}

static void
fill_candidate(A67Candidate *candidate, const double *facts)
{
	double age_s = to_amount(facts[FACT_AGE_S]);
	double fade =
		a67_score_decay(age_s > 1.0e9 ? INT64_C(1000000000000) : (int64_t) (age_s * 1000));

	candidate->cpu_percent = facts[FACT_CPU_PERCENT];
	candidate->memory_percent = facts[FACT_MEMORY_PERCENT];
	candidate->latency_ms = facts[FACT_LATENCY_MS];
	candidate->active_connections = to_count(facts[FACT_ACTIVE_CONNECTIONS]);
	candidate->max_connections = to_count(facts[FACT_MAX_CONNECTIONS]);
	candidate->requests = to_amount(facts[FACT_REQUESTS]) * fade;
	candidate->failures = to_amount(facts[FACT_FAILURES]) * fade;
	candidate->free_memory_bytes = to_bytes(facts[FACT_FREE_MEMORY_BYTES]);
	candidate->free_cpu = to_amount(facts[FACT_FREE_CPU]);
	candidate->degraded = facts[FACT_DEGRADED] != 0;
	candidate->replicas_of_same = to_count(facts[FACT_REPLICAS_OF_SAME]);
}

static A67Candidate *
take_candidates(ArrayType *ids, ArrayType *facts, int *count)
{
	Datum *id_values;
	bool *id_nulls;
	Datum *fact_values;
	bool *fact_nulls;
	int fact_count;
	A67Candidate *candidates;

	deconstruct_array(ids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &id_values, &id_nulls, count);
	if (*count > A67_PLACE_MAX_CANDIDATES)
		a67_error_parameter("ids", "There are too many nodes.");
	deconstruct_array(facts, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &fact_values, &fact_nulls, &fact_count);
	check_count("facts", fact_count, *count * FACTS);

	candidates = palloc0(sizeof(A67Candidate) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		double row[FACTS];

		if (id_nulls[i])
			a67_error_null("ids");
		memcpy(candidates[i].id, DatumGetUUIDP(id_values[i])->data, UUID_LEN);
		for (int k = 0; k < FACTS; k++)
		{
			int at = i * FACTS + k;

			row[k] = fact_nulls[at] ? NAN : DatumGetFloat8(fact_values[at]);
		}
		fill_candidate(&candidates[i], row);
	}
	return candidates;
}

static int
compare_texts(const void *a, const void *b, void *arg)
{
	const TextArray *texts = arg;
	int left = *(const int *) a;
	int right = *(const int *) b;
	const text *x = DatumGetTextPP(texts->values[left]);
	const text *y = DatumGetTextPP(texts->values[right]);
	Size shorter = Min(VARSIZE_ANY_EXHDR(x), VARSIZE_ANY_EXHDR(y));
	int order = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), shorter);

	if (order != 0)
		return order;
	return (int) VARSIZE_ANY_EXHDR(x) - (int) VARSIZE_ANY_EXHDR(y);
}

/* Numbers equal texts equally, from 0; every null gets a number of its own, as what is unknown differs. */
static int32_t *
number_texts(ArrayType *array, const char *parameter, int expected)
{
	TextArray texts;
	int *order = palloc(sizeof(int) * Max(expected, 1));
	int32_t *numbers = palloc0(sizeof(int32_t) * Max(expected, 1));
	int known = 0;
	int32_t next = 0;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts.values, &texts.nulls,
					  &texts.count);
	check_count(parameter, texts.count, expected);
	for (int i = 0; i < texts.count; i++)
	{
		if (texts.nulls[i])
			numbers[i] = next++;
		else
		{
			texts.values[i] = PointerGetDatum(DatumGetTextPP(texts.values[i]));
			order[known++] = i;
		}
	}
	qsort_arg(order, known, sizeof(int), compare_texts, &texts);
	for (int i = 0; i < known; i++)
	{
		if (i > 0 && compare_texts(&order[i - 1], &order[i], &texts) != 0)
			next++;
		numbers[order[i]] = next;
	}
	return numbers;
}

static Datum
parts_jsonb(const A67ScoreParts *parts)
{
	char *json = psprintf("{\"cpu\":%.4f,\"memory\":%.4f,\"latency\":%.4f,\"connections\":%.4f,"
						  "\"reliability\":%.4f,\"halved\":%s}",
						  parts->cpu, parts->memory, parts->latency, parts->connections,
						  parts->reliability, parts->halved ? "true" : "false");

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void
put_placed(ReturnSetInfo *result, int ordinal, const A67Candidate *candidate)
{
	A67ScoreParts parts;
	Datum values[5];
	bool nulls[5] = {false, false, false, false, true};

	values[0] = Int32GetDatum(ordinal);
	values[1] = UUIDPGetDatum((const pg_uuid_t *) candidate->id);
	values[2] = Float8GetDatum(a67_score(candidate, NULL, &parts));
	values[3] = parts_jsonb(&parts);
	values[4] = (Datum) 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* What the reconciler tells the operator: which resource is short, or that nodes are. */
static const char *
shortage_word(A67PlaceShortage shortage)
{
	switch (shortage)
	{
		case A67_PLACE_SHORT_OF_MEMORY:
			return "memory";
		case A67_PLACE_SHORT_OF_CPU:
			return "cpu";
		case A67_PLACE_INVALID_REQUEST:
			a67_error_parameter("count", "The count or the need of a replica is out of range.");
		case A67_PLACE_OUT_OF_MEMORY:
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		default:
			return "nodes";
	}
}

static void
put_shortage(ReturnSetInfo *result, int ordinal, const char *word)
{
	Datum values[5] = {0};
	bool nulls[5] = {false, true, true, true, false};

	values[0] = Int32GetDatum(ordinal);
	values[4] = CStringGetTextDatum(word);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(a67_sql_place);

/*
 * _place(ids uuid[], facts float8[], regions text[], providers text[], count integer, memory_bytes bigint,
 *        cpu float8, seed bigint)
 * returns table (ordinal integer, node_id uuid, score float8, parts jsonb, shortage text); strict
 */
Datum
a67_sql_place(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int count;
	A67Candidate *candidates =
		take_candidates(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_ARRAYTYPE_P(1), &count);
	int32_t *regions = number_texts(PG_GETARG_ARRAYTYPE_P(2), "regions", count);
	int32_t *providers = number_texts(PG_GETARG_ARRAYTYPE_P(3), "providers", count);
	A67PlaceRequest request = {0};
	A67PlaceResult placed;
	uint32_t *chosen;

	if (PG_GETARG_INT32(4) < 0 || PG_GETARG_INT32(4) > A67_PLACE_MAX_COUNT)
		a67_error_parameter("count", "It must be between 0 and 10000.");
	request.count = (uint32_t) PG_GETARG_INT32(4);
	request.memory_bytes = PG_GETARG_INT64(5);
	request.cpu = PG_GETARG_FLOAT8(6);
	request.seed = (uint64_t) PG_GETARG_INT64(7);
	for (int i = 0; i < count; i++)
	{
		candidates[i].region = regions[i];
		candidates[i].provider = providers[i];
	}
	InitMaterializedSRF(fcinfo, 0);

	chosen = palloc(sizeof(uint32_t) * (request.count + 1));
	placed = a67_place(candidates, (size_t) count, &request, chosen);
	for (uint32_t i = 0; i < placed.placed; i++)
		put_placed(result, (int) i + 1, &candidates[chosen[i]]);
	if (placed.shortage != A67_PLACE_COMPLETE)
		put_shortage(result, (int) placed.placed + 1, shortage_word(placed.shortage));
	PG_RETURN_VOID();
}
