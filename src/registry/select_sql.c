/*
 * select_sql.c - SQL faces of selection: node_select for users, _place and _capacity_check for deployments.
 *
 * Takes arguments apart, names the field that is at fault, and shapes rows. node_select runs no SQL where
 * the live node table can answer, which is what makes it quick; regions are read when distances matter.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/geo.h"
#include "registry/caller.h"
#include "registry/live_rows.h"
#include "registry/select.h"

#define COLUMNS 7

/* ---- arguments --------------------------------------------------------------------------------- */

pg_attribute_noreturn() static void refuse(const char *field, const char *message,
										   const char *hint);

static void
refuse(const char *field, const char *message, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message),
					errdetail("Field: %s.", field), hint != NULL ? errhint("%s", hint) : 0));
	pg_unreachable();
}

/* What each replica needs. */
static void
take_need(A67PlaceRequest *request, int64 memory_bytes, double cpu, int64 disk_bytes)
{
	if (memory_bytes < 0)
		refuse("memory_bytes", "memory must not be negative", NULL);
	if (!(cpu >= 0) || isinf(cpu))
		refuse("cpu", "cpu must be a number of cores from 0 up", NULL);
	if (disk_bytes < 0)
		refuse("disk_bytes", "disk must not be negative", NULL);
	request->memory_bytes = memory_bytes;
	request->disk_bytes = disk_bytes;
	request->cpu_milli = a67_cpu_milli_needed(cpu);
}

static void
take_count(A67PlaceRequest *request, int32 count)
{
	if (count < 1 || count > A67_PLACE_MAX_COUNT)
		refuse("count", psprintf("count must be between 1 and %d", A67_PLACE_MAX_COUNT), NULL);
	request->count = (uint32_t) count;
}

static void
take_strategy(A67PlaceRequest *request, text *name)
{
	char *strategy = text_to_cstring(name);

	if (!a67_strategy_parse(strategy, &request->strategy))
		refuse(
			"strategy", psprintf("unknown strategy \"%s\"", strategy),
			"Strategies are composite, resource, least_connections, round_robin and geographic.");
	pfree(strategy);
}

static void
take_service(A67PlaceRequest *request, text *service)
{
	if (!a67_facts_service(VARDATA_ANY(service), VARSIZE_ANY_EXHDR(service), &request->services))
		refuse("service", psprintf("unknown service \"%s\"", text_to_cstring(service)),
			   "Services are compute, database, storage and cache.");
}

static double
coordinate(const char *field, double value, double limit)
{
	if (!(fabs(value) <= limit))
		refuse(field, psprintf("%s must be between -%g and %g", field, limit, limit), NULL);
	return value;
}

typedef struct Regions
{
	A67Place client;
	MemoryContext context;
	A67PlaceDistance *distances;
	uint32 count;
} Regions;

/* How far each region is from the client. */
static void
read_regions(void *arg)
{
	Regions *regions = arg;

	if (SPI_execute("SELECT name, latitude, longitude FROM a67_internal.region", true, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read regions");
	regions->distances =
		MemoryContextAlloc(regions->context, sizeof(A67PlaceDistance) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		TupleDesc desc = SPI_tuptable->tupdesc;
		HeapTuple row = SPI_tuptable->vals[i];
		A67PlaceDistance *distance = &regions->distances[regions->count++];
		A67Place place;
		text *name;
		bool null;

		name = DatumGetTextPP(SPI_getbinval(row, desc, 1, &null));
		place.latitude = DatumGetFloat8(SPI_getbinval(row, desc, 2, &null));
		place.longitude = DatumGetFloat8(SPI_getbinval(row, desc, 3, &null));
		distance->region = a67_facts_hash(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
		distance->km = a67_geo_km(regions->client, place);
	}
}

/* Arguments at and at + 1 are the client's latitude and longitude. */
static void
take_client(FunctionCallInfo fcinfo, int at, A67PlaceRequest *request)
{
	Regions regions = {.context = CurrentMemoryContext};

	if (PG_ARGISNULL(at) != PG_ARGISNULL(at + 1))
		refuse(PG_ARGISNULL(at) ? "client_latitude" : "client_longitude",
			   "client location is incomplete", "Give latitude and longitude, or neither.");
	if (PG_ARGISNULL(at))
	{
		if (request->strategy == A67_STRATEGY_GEOGRAPHIC)
			refuse("client_latitude", "geographic selection needs the client's location",
				   "Give client_latitude and client_longitude in degrees.");
		return;
	}
	regions.client.latitude = coordinate("client_latitude", PG_GETARG_FLOAT8(at), 90);
	regions.client.longitude = coordinate("client_longitude", PG_GETARG_FLOAT8(at + 1), 180);
	if (request->strategy != A67_STRATEGY_GEOGRAPHIC)
		return;
	a67_live_as_owner(read_regions, &regions);
	a67_place_order_distances(regions.distances, regions.count);
	request->distances = regions.distances;
	request->distance_count = regions.count;
}

/* The nodes that lists of ids name, each once. */
typedef struct Names
{
	HTAB *index; /* id, place in nodes */
	A67NamedNode *nodes;
	uint32 count;
} Names;

typedef struct NameEntry
{
	uint8 node_id[16];
	uint32 at;
} NameEntry;

static A67NamedNode *
name_node(Names *names, const uint8 node_id[16])
{
	bool found;
	NameEntry *entry = hash_search(names->index, node_id, HASH_ENTER, &found);

	if (!found)
	{
		entry->at = names->count++;
		memset(&names->nodes[entry->at], 0, sizeof(A67NamedNode));
		memcpy(names->nodes[entry->at].node_id, node_id, 16);
	}
	return &names->nodes[entry->at];
}

typedef enum Naming
{
	NAMING_HELD, /* once for each replica there */
	NAMING_AVOIDED,
	NAMING_EXCLUDED,
	NAMING_BARRED,
	NAMINGS
} Naming;

static void
add_names(Names *names, Naming naming, const Datum *ids, int count)
{
	for (int i = 0; i < count; i++)
	{
		A67NamedNode *node = name_node(names, DatumGetUUIDP(ids[i])->data);

		node->replicas += naming == NAMING_HELD;
		node->avoided |= naming == NAMING_AVOIDED;
		node->excluded |= naming == NAMING_EXCLUDED;
		node->barred |= naming == NAMING_BARRED;
	}
}

/* Arguments from `at` on are lists of node ids, one for each naming from `first` on. */
static void
take_names(FunctionCallInfo fcinfo, int at, Naming first, A67Selection *selection)
{
	Datum *ids[NAMINGS];
	int counts[NAMINGS];
	int total = 0;
	Names names = {0};
	HASHCTL control;

	for (int i = first; i < NAMINGS; i++)
	{
		bool *nulls;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(at + i - first), UUIDOID, UUID_LEN, false,
						  TYPALIGN_CHAR, &ids[i], &nulls, &counts[i]);
		total += counts[i];
	}
	if (total == 0)
		return;
	memset(&control, 0, sizeof(control));
	control.keysize = 16;
	control.entrysize = sizeof(NameEntry);
	control.hcxt = CurrentMemoryContext;
	names.index =
		hash_create("a67 named nodes", total, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	names.nodes = palloc(sizeof(A67NamedNode) * total);
	for (int i = first; i < NAMINGS; i++)
		add_names(&names, (Naming) i, ids[i], counts[i]);
	hash_destroy(names.index);
	selection->named = names.nodes;
	selection->named_count = names.count;
}

/* ---- node_select ------------------------------------------------------------------------------- */

static void
add_part(StringInfo json, const char *name, double value)
{
	appendStringInfo(json, ",\"%s\":%.4f", name, value);
}

static void
add_penalties(StringInfo json, uint8 penalties)
{
	static const struct
	{
		uint8 bit;
		const char *name;
	} all[] = {
		{A67_PENALTY_DEGRADED, "degraded"},
		{A67_PENALTY_AVOIDED, "avoided"},
		{A67_PENALTY_SILENT, "silent"},
		{A67_PENALTY_NEAR_QUOTA, "near_quota"},
	};
	const char *separator = "";

	appendStringInfoString(json, ",\"penalties\":[");
	for (size_t i = 0; i < lengthof(all); i++)
	{
		if (!(penalties & all[i].bit))
			continue;
		appendStringInfo(json, "%s\"%s\"", separator, all[i].name);
		separator = ",";
	}
	appendStringInfoChar(json, ']');
}

/* Why this node: the strategy, its parts, what speaks against it. */
static Datum
parts_jsonb(const A67ChosenNode *chosen, A67Strategy strategy, StringInfo json)
{
	const A67ScoreParts *parts = &chosen->parts;

	resetStringInfo(json);
	appendStringInfo(json, "{\"strategy\":\"%s\"", a67_strategy_name(strategy));
	add_part(json, "cpu", parts->cpu);
	add_part(json, "memory", parts->memory);
	add_part(json, "latency", parts->latency);
	add_part(json, "connections", parts->connections);
	add_part(json, "reliability", parts->reliability);
	appendStringInfo(json, ",\"halved\":%s,\"stale\":%s", parts->halved ? "true" : "false",
					 parts->stale ? "true" : "false");
	if (strategy == A67_STRATEGY_GEOGRAPHIC && chosen->km >= 0)
		appendStringInfo(json, ",\"distance_km\":%.1f", chosen->km);
	else if (strategy == A67_STRATEGY_GEOGRAPHIC)
		appendStringInfoString(json, ",\"distance_km\":null");
	add_penalties(json, chosen->choice.penalties);
	appendStringInfoChar(json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data));
}

static void
put_chosen(ReturnSetInfo *result, const A67Selection *selection)
{
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; i < selection->placed; i++)
	{
		A67ChosenNode *chosen = &selection->chosen[i];
		Datum values[COLUMNS];
		bool nulls[COLUMNS] = {false};

		values[0] = Int32GetDatum(i + 1);
		values[1] = UUIDPGetDatum((const pg_uuid_t *) chosen->node_id);
		values[2] = CStringGetTextDatum(chosen->name);
		nulls[3] = chosen->region[0] == '\0';
		values[3] = CStringGetTextDatum(chosen->region);
		values[4] = CStringGetTextDatum(chosen->provider);
		values[5] = Float8GetDatum(chosen->choice.score);
		values[6] = parts_jsonb(chosen, selection->request.strategy, &json);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

PG_FUNCTION_INFO_V1(a67_sql_node_select);

/*
 * node_select(count integer, memory_bytes bigint, cpu float8, disk_bytes bigint, strategy text, service text,
 *             labels jsonb, client_latitude float8, client_longitude float8, seed bigint)
 * returns table (ordinal integer, node_id uuid, name text, region text, provider text, score float8,
 *                parts jsonb); not strict
 */
Datum
a67_sql_node_select(PG_FUNCTION_ARGS)
{
	uint64_t labels[A67_LABELS_MAX];
	A67Selection selection;
	A67PlaceRequest *request = &selection.request;

	memset(&selection, 0, sizeof(selection));
	if (PG_ARGISNULL(0))
		refuse("count", "count must not be null", NULL);
	take_count(request, PG_GETARG_INT32(0));
	take_need(request, PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1),
			  PG_ARGISNULL(2) ? 0 : PG_GETARG_FLOAT8(2), PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3));
	if (!PG_ARGISNULL(4))
		take_strategy(request, PG_GETARG_TEXT_PP(4));
	if (!PG_ARGISNULL(5))
		take_service(request, PG_GETARG_TEXT_PP(5));
	if (!PG_ARGISNULL(6))
		request->label_count = a67_facts_labels(PG_GETARG_DATUM(6), "labels", labels);
	request->labels = labels;
	take_client(fcinfo, 7, request);
	selection.seeded = !PG_ARGISNULL(9);
	request->seed =
		selection.seeded ? (uint64_t) PG_GETARG_INT64(9) : pg_prng_uint64(&pg_global_prng_state);
	selection.now = GetCurrentTimestamp();

	/* Who owns nodes is somebody; of all others it takes a look to know whether they are. */
	if (a67_caller_claims(selection.owner_id))
		a67_select(&selection);
	if (selection.placed == 0 && selection.report.nodes == 0)
	{
		a67_caller_ask(selection.owner_id);
		a67_select(&selection);
	}
	if (selection.placed < (int) request->count)
		a67_select_raise(&selection, (int) request->count, "");
	InitMaterializedSRF(fcinfo, 0);
	put_chosen((ReturnSetInfo *) fcinfo->resultinfo, &selection);
	PG_RETURN_VOID();
}

/* ---- deployments ------------------------------------------------------------------------------- */

static void
take_owner(A67Selection *selection, pg_uuid_t *owner_id)
{
	memset(selection, 0, sizeof(*selection));
	memcpy(selection->owner_id, owner_id->data, UUID_LEN);
	(void) a67_facts_service("compute", strlen("compute"), &selection->request.services);
}

PG_FUNCTION_INFO_V1(a67_sql_place);

/*
 * _place(owner_id uuid, count integer, memory_bytes bigint, cpu float8, disk_bytes bigint, held uuid[],
 *        avoided uuid[], excluded uuid[], barred uuid[], now timestamptz, seed bigint)
 * returns table (ordinal integer, node_id uuid, shortage text, score float8); strict
 *
 * One row for each replica that found a node, then, if there are fewer than asked for, one that says why.
 */
Datum
a67_sql_place(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67Selection selection;
	Datum values[4];
	bool nulls[4] = {false, false, true, false};

	take_owner(&selection, PG_GETARG_UUID_P(0));
	take_count(&selection.request, PG_GETARG_INT32(1));
	take_need(&selection.request, PG_GETARG_INT64(2), PG_GETARG_FLOAT8(3), PG_GETARG_INT64(4));
	take_names(fcinfo, 5, NAMING_HELD, &selection);
	selection.now = PG_GETARG_TIMESTAMPTZ(9);
	selection.request.seed = (uint64_t) PG_GETARG_INT64(10);
	a67_select(&selection);
	InitMaterializedSRF(fcinfo, 0);
	values[2] = (Datum) 0;
	for (int i = 0; i < selection.placed; i++)
	{
		values[0] = Int32GetDatum(i + 1);
		values[1] = UUIDPGetDatum((const pg_uuid_t *) selection.chosen[i].node_id);
		values[3] = Float8GetDatum(selection.chosen[i].choice.score);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (selection.placed < (int) selection.request.count)
	{
		values[0] = Int32GetDatum(selection.placed + 1);
		nulls[1] = nulls[3] = true;
		nulls[2] = false;
		values[2] = CStringGetTextDatum(a67_select_shortage(&selection));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_node_scores);

/*
 * _node_scores(owner_id uuid, node_ids uuid[], now timestamptz)
 * returns table (node_id uuid, score float8); strict
 *
 * The composite score of each of these nodes of the owner's that the live nodes have.
 */
Datum
a67_sql_node_scores(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67Selection selection;
	double *scores;

	take_owner(&selection, PG_GETARG_UUID_P(0));
	take_names(fcinfo, 1, NAMING_BARRED, &selection);
	selection.now = PG_GETARG_TIMESTAMPTZ(2);
	scores = palloc(sizeof(double) * (selection.named_count + 1));
	a67_select_scores(&selection, scores);
	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < selection.named_count; i++)
	{
		Datum values[2] = {UUIDPGetDatum((const pg_uuid_t *) selection.named[i].node_id),
						   Float8GetDatum(scores[i])};
		bool nulls[2] = {false, false};

		if (scores[i] >= 0)
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_capacity_check);

/*
 * _capacity_check(owner_id uuid, replicas integer, memory_bytes bigint, cpu float8, disk_bytes bigint,
 *                 barred uuid[], note text)
 * returns void; strict
 *
 * Raises when not even one of them fits: what fits in part is placed in part, the rest when there is room.
 */
Datum
a67_sql_capacity_check(PG_FUNCTION_ARGS)
{
	A67Selection selection;

	if (PG_GETARG_INT32(1) == 0)
		PG_RETURN_VOID();
	take_owner(&selection, PG_GETARG_UUID_P(0));
	take_need(&selection.request, PG_GETARG_INT64(2), PG_GETARG_FLOAT8(3), PG_GETARG_INT64(4));
	take_names(fcinfo, 5, NAMING_BARRED, &selection);
	selection.request.count = 1;
	selection.now = GetCurrentTimestamp();
	a67_select(&selection);
	if (selection.placed == 0)
		a67_select_raise(&selection, PG_GETARG_INT32(1), text_to_cstring(PG_GETARG_TEXT_PP(6)));
	PG_RETURN_VOID();
}
