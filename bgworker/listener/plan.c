/*
 * plan.c: the query that calls a function, and the prepared plans of the api worker.
 *
 *   SELECT a67.f("x" := a."x", "content" := $2) FROM jsonb_to_record($1) AS a("x" integer)
 *
 * A plan is kept per function and set of given arguments, at most PLANS_MAX of them; beyond that all are
 * dropped and the cache starts anew. PostgreSQL itself replans when something underneath changes; the
 * version of the pg_proc row tells a function that was replaced. Permission is not part of a plan: call.c
 * checks it at every request. Memory: TopMemoryContext, SPI's plan contexts.
 */
#include "postgres.h"

#include "listener/call.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define PLANS_MAX 256
#define ROW_ALIAS "\"a67 row\""

typedef struct PlanKey
{
	Oid function;
	int32 body_arg;
	uint64 given[2];
} PlanKey;

typedef struct PlanEntry
{
	PlanKey key; /* must be first */
	SPIPlanPtr plan;
	A67Returns returns;
	TransactionId xmin; /* version of the pg_proc row that the plan was made for */
	ItemPointerData tid;
} PlanEntry;

static HTAB *plans = NULL;

static void
make_cache(void)
{
	HASHCTL control = {0};

	control.keysize = sizeof(PlanKey);
	control.entrysize = sizeof(PlanEntry);
	plans = hash_create("a67 api plans", PLANS_MAX, &control, HASH_ELEM | HASH_BLOBS);
}

static void
drop_all(void)
{
	HASH_SEQ_STATUS scan;
	PlanEntry *entry;

	hash_seq_init(&scan, plans);
	while ((entry = hash_seq_search(&scan)) != NULL)
		SPI_freeplan(entry->plan);
	hash_destroy(plans);
	plans = NULL;
}

static A67Returns
returns_of(const A67Function *function)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(function->tuple);

	if (proc->prorettype == VOIDOID)
		return A67_RETURNS_VOID;
	if (proc->prorettype == BYTEAOID && !function->named_result)
		return A67_RETURNS_OCTETS;
	return A67_RETURNS_JSON;
}

/* a67.f("x" := a."x", …) and, for the FROM clause, "x" type, … */
static void
write_call(const A67Function *function, int body_arg, StringInfo call, StringInfo columns)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(function->tuple);
	const char *separator = "";

	appendStringInfo(call, "%s.%s(", quote_identifier(get_namespace_name(proc->pronamespace)),
					 quote_identifier(NameStr(proc->proname)));
	for (int i = 0; i < function->nargs; i++)
	{
		const char *name;

		if (!A67_ARG_GIVEN(function, i))
			continue;
		name = quote_identifier(function->names[i]);
		appendStringInfo(call, "%s%s := ", separator, name);
		separator = ", ";
		if (i == body_arg)
		{
			appendStringInfoString(call, "$2");
			continue;
		}
		appendStringInfo(call, "a.%s", name);
		appendStringInfo(columns, "%s%s %s", columns->len > 0 ? ", " : "", name,
						 format_type_extended(function->types[i], -1, FORMAT_TYPE_FORCE_QUALIFY));
	}
	appendStringInfoChar(call, ')');
}

/* The single named column of a result is worth an object, as PostgREST has it. */
static const char *
as_object(const A67Function *function, const char *value)
{
	if (function->result_name == NULL || function->result_name[0] == '\0')
		return NULL;
	return psprintf("pg_catalog.json_build_object(%s, %s)",
					quote_literal_cstr(function->result_name), value);
}

/* The rows' alias is one that no argument or column is likely to have: those would win over it. */
static char *
write_set_query(const A67Function *function, const char *call, const char *columns)
{
	const char *object = as_object(function, ROW_ALIAS);

	return psprintf("SELECT coalesce(pg_catalog.json_agg(%s), '[]')::pg_catalog.text FROM %s%s%s"
					" AS " ROW_ALIAS,
					object != NULL ? object : ROW_ALIAS, columns, *columns ? ", LATERAL " : "",
					call);
}

/*
 * A set becomes an array in the FROM clause. Everything else is called in the select list: there a NULL
 * stays NULL, and rows of bytea are made while they are read instead of being gathered first.
 */
static char *
write_query(const A67Function *function, int body_arg, A67Returns returns)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(function->tuple);
	StringInfoData call;
	StringInfoData columns;
	StringInfoData query;
	bool json = proc->prorettype == JSONBOID || proc->prorettype == JSONOID;
	const char *object;

	initStringInfo(&call);
	initStringInfo(&columns);
	initStringInfo(&query);
	write_call(function, body_arg, &call, &columns);
	if (columns.len > 0)
		columns.data = psprintf("pg_catalog.jsonb_to_record($1) AS a(%s)", columns.data);
	if (returns == A67_RETURNS_JSON && proc->proretset)
		return write_set_query(function, call.data, columns.data);
	object = as_object(function, call.data);
	if (returns != A67_RETURNS_JSON)
		appendStringInfo(&query, "SELECT %s", call.data);
	else if (object != NULL)
		appendStringInfo(&query, "SELECT %s::pg_catalog.text", object);
	else if (json && !function->named_result)
		appendStringInfo(&query, "SELECT %s::pg_catalog.text", call.data);
	else
		appendStringInfo(&query, "SELECT pg_catalog.to_json(%s)::pg_catalog.text", call.data);
	if (columns.len > 0)
		appendStringInfo(&query, " FROM %s", columns.data);
	return query.data;
}

static SPIPlanPtr
prepare(const A67Function *function, int body_arg, A67Returns returns)
{
	Oid types[2] = {JSONBOID, JSONBOID};
	char *query = write_query(function, body_arg, returns);
	SPIPlanPtr plan;

	if (body_arg >= 0)
		types[1] = function->types[body_arg];
	plan = SPI_prepare(query, body_arg >= 0 ? 2 : 1, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
	return plan;
}

static bool
is_current(const PlanEntry *entry, HeapTuple tuple)
{
	return entry->xmin == HeapTupleHeaderGetRawXmin(tuple->t_data) &&
		   ItemPointerEquals((ItemPointer) &entry->tid, &tuple->t_self);
}

SPIPlanPtr
a67_plan_get(const A67Function *function, int body_arg, A67Returns *returns)
{
	PlanKey key;
	PlanEntry *entry;
	SPIPlanPtr plan;

	memset(&key, 0, sizeof(key));
	key.function = ((Form_pg_proc) GETSTRUCT(function->tuple))->oid;
	key.body_arg = body_arg;
	memcpy(key.given, function->given, sizeof(key.given));
	*returns = returns_of(function);
	if (plans == NULL)
		make_cache();
	entry = hash_search(plans, &key, HASH_FIND, NULL);
	if (entry != NULL && is_current(entry, function->tuple) && entry->returns == *returns)
		return entry->plan;

	plan = prepare(function, body_arg, *returns);
	if (entry != NULL)
	{
		SPI_freeplan(entry->plan);
		hash_search(plans, &key, HASH_REMOVE, NULL);
	}
	else if (hash_get_num_entries(plans) >= PLANS_MAX)
	{
		drop_all();
		make_cache();
	}
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep a prepared plan");
	entry = hash_search(plans, &key, HASH_ENTER, NULL);
	entry->plan = plan;
	entry->returns = *returns;
	entry->xmin = HeapTupleHeaderGetRawXmin(function->tuple->t_data);
	entry->tid = function->tuple->t_self;
	return plan;
}
