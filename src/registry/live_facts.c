/*
 * live_facts.c - from rows to facts, from facts to places.
 *
 * Reading throws and needs a transaction; applying neither throws nor allocates, so that it can run after a
 * commit. A node is placeable when its facts and its status are known and both say so.
 */
#include "postgres.h"

#include "registry/live_facts.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/hash.h"
#include "core/nodefsm.h"
#include "platform/errors.h"
#include "registry/live_table.h"

#define CPU_TOLERANCE 0.01 /* of a thousandth: numbers and sums of float4 are off by less */

enum
{
	NODE_ID,
	NODE_VERSION,
	NODE_OWNER_ID,
	NODE_NAME,
	NODE_REGION,
	NODE_PROVIDER,
	NODE_CPU_CORES,
	NODE_MEMORY_BYTES,
	NODE_DISK_BYTES,
	NODE_CONNECTIONS,
	NODE_SERVICES,
	NODE_LABELS,
	NODE_DESIRED_STATE
};

static const char *const node_columns[] = {
	"node_id",	"facts_version", "owner_id",	  "name",		"region",
	"provider", "cpu_cores",	 "memory_bytes",  "disk_bytes", "max_concurrent_requests",
	"services", "labels",		 "desired_state", NULL,
};

enum
{
	OBSERVED_STATUS = 2,
	OBSERVED_NEAR_QUOTA,
	OBSERVED_CPU,
	OBSERVED_MEMORY,
	OBSERVED_ACTIVE,
	OBSERVED_LATENCY,
	OBSERVED_METRICS_AT
};

static const char *const observed_columns[] = {
	"node_id",		  "epoch",			 "status",	   "near_quota", "cpu_percent",
	"memory_percent", "active_requests", "latency_ms", "metrics_at", NULL,
};

enum
{
	RESERVED_MEMORY = 2,
	RESERVED_CPU,
	RESERVED_DISK
};

static const char *const reserved_columns[] = {
	"node_id", "version", "memory_bytes", "cpu", "disk_bytes", NULL,
};

const char *const *const a67_facts_columns[A67_FACTS_KINDS] = {
	node_columns,
	observed_columns,
	reserved_columns,
};

/* ---- numbers for names ------------------------------------------------------------------------- */

uint64
a67_facts_hash(const char *text, size_t length)
{
	uint64 hash = (uint64) a67_murmur3(text, length, 1) << 32 | a67_murmur3(text, length, 2);

	return hash != 0 ? hash : 1;
}

bool
a67_facts_service(const char *name, size_t length, uint8 *bit)
{
	static const char *const services[] = {"compute", "database", "storage", "cache"};

	for (size_t i = 0; i < lengthof(services); i++)
	{
		if (strlen(services[i]) == length && memcmp(services[i], name, length) == 0)
		{
			*bit = (uint8) (1 << i);
			return true;
		}
	}
	return false;
}

int32
a67_cpu_milli_there(double cores)
{
	double milli = floor(cores * 1000 + CPU_TOLERANCE);

	return milli >= PG_INT32_MAX ? PG_INT32_MAX : milli > 0 ? (int32) milli : 0;
}

int32
a67_cpu_milli_needed(double cores)
{
	double milli = ceil(cores * 1000 - CPU_TOLERANCE);

	return milli >= PG_INT32_MAX ? PG_INT32_MAX : milli > 0 ? (int32) milli : 0;
}

/* ---- labels ------------------------------------------------------------------------------------ */

static void
labels_refused(const char *field, const char *message)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message),
					errdetail("Field: %s.", field),
					errhint("Labels are an object of at most %d strings, numbers or booleans.",
							A67_LABELS_MAX)));
}

/* Key, type and value as bytes that are equal for equal pairs. */
static uint64
label_hash(const JsonbValue *key, const JsonbValue *value, const char *field)
{
	StringInfoData bytes;
	uint64 hash;

	initStringInfo(&bytes);
	appendBinaryStringInfo(&bytes, key->val.string.val, key->val.string.len);
	appendStringInfoChar(&bytes, '\0');
	switch (value->type)
	{
		case jbvString:
			appendStringInfoChar(&bytes, 's');
			appendBinaryStringInfo(&bytes, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoChar(&bytes, 'n');
			appendStringInfoString(
				&bytes,
				DatumGetCString(DirectFunctionCall1(
					numeric_out,
					DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value->val.numeric)))));
			break;
		case jbvBool:
			appendStringInfoString(&bytes, value->val.boolean ? "true" : "false");
			break;
		default:
			labels_refused(field, "label value must be a string, a number or a boolean");
	}
	hash = a67_facts_hash(bytes.data, (size_t) bytes.len);
	pfree(bytes.data);
	return hash;
}

uint32
a67_facts_labels(Datum jsonb, const char *field, uint64 labels[A67_LABELS_MAX])
{
	Jsonb *object = DatumGetJsonbP(jsonb);
	JsonbIterator *iterator;
	JsonbValue key;
	JsonbValue value;
	uint32 count = 0;

	if (!JB_ROOT_IS_OBJECT(object))
		labels_refused(field, "labels must be an object");
	if (JB_ROOT_COUNT(object) > A67_LABELS_MAX)
		labels_refused(field, "too many labels");
	iterator = JsonbIteratorInit(&object->root);
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		labels[count++] = label_hash(&key, &value, field);
	}
	return count;
}

/* ---- reading ----------------------------------------------------------------------------------- */

typedef struct Row
{
	HeapTuple tuple;
	TupleDesc desc;
	const int *numbers;
} Row;

static Datum
get(const Row *row, int column, bool *null)
{
	return heap_getattr(row->tuple, row->numbers[column], row->desc, null);
}

static int64
get_int64(const Row *row, int column)
{
	bool null;
	Datum value = get(row, column, &null);

	return null ? 0 : DatumGetInt64(value);
}

static float
get_real(const Row *row, int column)
{
	bool null;
	Datum value = get(row, column, &null);

	return null ? NAN : DatumGetFloat4(value);
}

static void
get_id(const Row *row, int column, uint8 id[UUID_LEN])
{
	bool null;
	Datum value = get(row, column, &null);

	if (null)
		elog(ERROR, "id of a node or owner is null");
	memcpy(id, DatumGetUUIDP(value)->data, UUID_LEN);
}

/* Copies a text; returns its number, 0 for null. Column constraints keep it within the room. */
static uint64
get_name(const Row *row, int column, char name[A67_NODE_NAME_SIZE])
{
	bool null;
	Datum value = get(row, column, &null);
	text *string;

	name[0] = '\0';
	if (null)
		return 0;
	string = DatumGetTextPP(value);
	text_to_cstring_buffer(string, name, A67_NODE_NAME_SIZE);
	return a67_facts_hash(VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

static uint8
get_services(const Row *row)
{
	bool null;
	Datum value = get(row, NODE_SERVICES, &null);
	Datum *names;
	bool *nulls;
	int count;
	uint8 services = 0;

	if (null)
		return 0;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls,
					  &count);
	for (int i = 0; i < count; i++)
	{
		uint8 bit;

		if (!nulls[i] && a67_facts_service(VARDATA_ANY(DatumGetTextPP(names[i])),
										   VARSIZE_ANY_EXHDR(DatumGetTextPP(names[i])), &bit))
			services |= bit;
	}
	return services;
}

static void
read_node(const Row *row, A67NodeFacts *facts)
{
	char state[A67_NODE_NAME_SIZE];
	bool null;
	Datum value;

	get_id(row, NODE_OWNER_ID, facts->node.owner_id);
	(void) get_name(row, NODE_DESIRED_STATE, state);
	facts->node.active = strcmp(state, "active") == 0;
	facts->node.removed = strcmp(state, "removed") == 0;
	(void) get_name(row, NODE_NAME, facts->node.name);
	facts->traits.region = get_name(row, NODE_REGION, facts->node.region);
	facts->traits.provider = get_name(row, NODE_PROVIDER, facts->node.provider);
	facts->node.cpu_milli = a67_cpu_milli_there(get_real(row, NODE_CPU_CORES));
	facts->node.memory_bytes = get_int64(row, NODE_MEMORY_BYTES);
	facts->node.disk_bytes = get_int64(row, NODE_DISK_BYTES);
	value = get(row, NODE_CONNECTIONS, &null);
	facts->node.max_connections = null ? 0 : (uint32) Max(DatumGetInt32(value), 0);
	facts->node.services = get_services(row);
	value = get(row, NODE_LABELS, &null);
	if (!null)
		facts->traits.label_count = a67_facts_labels(value, "labels", facts->traits.labels);
}

static void
read_observed(const Row *row, A67NodeFacts *facts)
{
	char name[A67_NODE_NAME_SIZE];
	A67NodeStatus status = A67_NODE_INITIALIZING;
	bool null;
	Datum value;

	(void) get_name(row, OBSERVED_STATUS, name);
	if (!a67_node_status_parse(name, &status))
		elog(ERROR, "unknown node status \"%s\"", name);
	facts->observed.status = (uint8) status;
	value = get(row, OBSERVED_NEAR_QUOTA, &null);
	facts->observed.near_quota = !null && DatumGetBool(value);
	facts->observed.cpu_percent = get_real(row, OBSERVED_CPU);
	facts->observed.memory_percent = get_real(row, OBSERVED_MEMORY);
	facts->observed.latency_ms = get_real(row, OBSERVED_LATENCY);
	value = get(row, OBSERVED_ACTIVE, &null);
	facts->observed.active_connections =
		null || DatumGetInt32(value) < 0 ? A67_UNKNOWN_COUNT : (uint32) DatumGetInt32(value);
	value = get(row, OBSERVED_METRICS_AT, &null);
	facts->observed.metrics_at = null ? 0 : DatumGetTimestampTz(value);
}

static void
read_reserved(const Row *row, A67NodeFacts *facts)
{
	bool null;
	Datum cpu = get(row, RESERVED_CPU, &null);

	facts->reserved.memory_bytes = get_int64(row, RESERVED_MEMORY);
	facts->reserved.disk_bytes = get_int64(row, RESERVED_DISK);
	facts->reserved.cpu_milli = null ? 0 : a67_cpu_milli_needed(DatumGetFloat8(cpu));
}

void
a67_facts_resolve(A67FactsKind kind, TupleDesc desc, int numbers[A67_FACTS_COLUMNS_MAX])
{
	for (int i = 0; a67_facts_columns[kind][i] != NULL; i++)
	{
		numbers[i] = SPI_fnumber(desc, a67_facts_columns[kind][i]);
		if (numbers[i] <= 0)
			elog(ERROR, "column \"%s\" is missing", a67_facts_columns[kind][i]);
	}
}

void
a67_facts_read(A67FactsKind kind, HeapTuple tuple, TupleDesc desc, const int *numbers,
			   A67NodeFacts *facts)
{
	Row row = {tuple, desc, numbers};

	memset(facts, 0, sizeof(*facts));
	facts->kind = kind;
	get_id(&row, NODE_ID, facts->traits.id);
	/* Versions of rows start at 0 or 1; 0 stands for nothing published. */
	facts->version = get_int64(&row, NODE_VERSION) + 1;
	switch (kind)
	{
		case A67_FACTS_NODE:
			read_node(&row, facts);
			break;
		case A67_FACTS_OBSERVED:
			read_observed(&row, facts);
			break;
		default:
			read_reserved(&row, facts);
	}
}

/* ---- applying ---------------------------------------------------------------------------------- */

static void
apply_node(A67Candidate *node, A67LiveSlot *slot, const A67NodeFacts *facts)
{
	slot->traits = facts->traits;
	memcpy(slot->owner_id, facts->node.owner_id, 16);
	memcpy(slot->name, facts->node.name, sizeof(slot->name));
	memcpy(slot->region, facts->node.region, sizeof(slot->region));
	memcpy(slot->provider, facts->node.provider, sizeof(slot->provider));
	slot->memory_bytes = facts->node.memory_bytes;
	slot->disk_bytes = facts->node.disk_bytes;
	slot->cpu_milli = facts->node.cpu_milli;
	node->services = facts->node.services;
	node->max_connections = facts->node.max_connections;
	node->flags =
		(uint16) ((node->flags & ~A67_NODE_ACTIVE) | (facts->node.active ? A67_NODE_ACTIVE : 0));
}

static void
apply_observed(A67Candidate *node, A67LiveSlot *slot, const A67NodeFacts *facts, TimestampTz base)
{
	uint32 at =
		facts->observed.metrics_at != 0 ? a67_live_tenths(base, facts->observed.metrics_at) : 0;

	node->status = facts->observed.status;
	node->flags = (uint16) ((node->flags & ~A67_NODE_NEAR_QUOTA) |
							(facts->observed.near_quota ? A67_NODE_NEAR_QUOTA : 0));
	/* Of the same tenth of a second: either is as good. */
	if (at == 0 || at < node->metrics_at)
		return;
	node->metrics_at = at;
	node->cpu_percent = facts->observed.cpu_percent;
	node->memory_percent = facts->observed.memory_percent;
	node->active_connections = facts->observed.active_connections;
	if (slot->latency_of == 0)
		node->latency_ms = facts->observed.latency_ms;
}

/* What follows from all facts together. */
static void
refresh(A67Candidate *node, const A67LiveSlot *slot)
{
	bool good = node->status == A67_NODE_READY || node->status == A67_NODE_BUSY;
	bool known = slot->versions[A67_FACTS_NODE] != 0 && slot->versions[A67_FACTS_OBSERVED] != 0;
	uint16 flags = node->flags & (uint16) ~(A67_NODE_PLACEABLE | A67_NODE_LAST);

	if (known && (flags & A67_NODE_ACTIVE) &&
		a67_node_status_placeable((A67NodeStatus) node->status))
		flags |= good ? A67_NODE_PLACEABLE : A67_NODE_PLACEABLE | A67_NODE_LAST;
	node->flags = flags;
	node->free_memory_bytes = slot->memory_bytes - slot->reserved_memory_bytes;
	node->free_disk_bytes = slot->disk_bytes - slot->reserved_disk_bytes;
	node->free_cpu_milli = slot->cpu_milli - slot->reserved_cpu_milli;
}

void
a67_facts_apply(A67Candidate *node, A67LiveSlot *slot, const A67NodeFacts *facts, TimestampTz base)
{
	if (facts->version < slot->versions[facts->kind])
		return;
	slot->versions[facts->kind] = facts->version;
	switch (facts->kind)
	{
		case A67_FACTS_NODE:
			apply_node(node, slot, facts);
			break;
		case A67_FACTS_OBSERVED:
			apply_observed(node, slot, facts, base);
			break;
		default:
			slot->reserved_memory_bytes = facts->reserved.memory_bytes;
			slot->reserved_disk_bytes = facts->reserved.disk_bytes;
			slot->reserved_cpu_milli = facts->reserved.cpu_milli;
	}
	refresh(node, slot);
}
