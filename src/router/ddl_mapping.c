/*
 * ddl_mapping.c - ranges and directories: checks of what is added to them, and where the rows of a table really are.
 *
 * The rows of a67_internal.shard_range and shard_directory are written by SQL (sql/api/database_table.sql); keys in them are canonical text.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "platform/errors.h"
#include "router/key.h"

List *
a67_ddl_tables(const A67Database *database)
{
	Relation catalog = table_open(ForeignTableRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	List *relids = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_foreign_table form = (Form_pg_foreign_table) GETSTRUCT(tuple);

		if (form->ftserver == database->server_oid)
			relids = lappend_oid(relids, form->ftrelid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relids;
}

/* The type that a domain or an array is made of; InvalidOid if it is neither. */
static Oid
inner_type(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	Oid inner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	inner = form->typtype == TYPTYPE_DOMAIN ? form->typbasetype : form->typelem;
	ReleaseSysCache(tuple);
	return inner;
}

bool
a67_ddl_is_key_type(const A67Database *database, Oid type, Oid *relid)
{
	ListCell *cell;

	foreach(cell, a67_ddl_tables(database))
	{
		const A67Table *table = a67_table(lfirst_oid(cell));
		Oid inner = table->key == 0 ? InvalidOid : table->key_type;

		while (OidIsValid(inner) && inner != type)
			inner = inner_type(inner);
		*relid = table->relid;
		if (OidIsValid(inner))
			return true;
	}
	return false;
}

void
a67_ddl_check_mapping(const A67Ddl *ddl, Oid relid, const A67DdlSpread *chosen)
{
	ListCell *cell;
	bool range;
	int32 typmod;
	Oid type;
	Oid collation;

	if (chosen->mapping == NULL)
		return;
	range = strcmp(chosen->strategy, "range") == 0;
	get_atttypetypmodcoll(relid, get_attnum(relid, chosen->key), &type, &typmod, &collation);
	foreach(cell, a67_ddl_tables(ddl->database))
	{
		const A67Table *other;

		if (lfirst_oid(cell) == relid)
			continue;
		other = a67_table(lfirst_oid(cell));
		if (other->mapping == NULL || strcmp(other->mapping, chosen->mapping) != 0 ||
			(a67_key_family(other->key_type) == a67_key_family(type) &&
			 (other->strategy == A67_RANGE) == range &&
			 (!range || other->key_collation == collation)))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping \"%s\" has another strategy, or keys of another kind",
						chosen->mapping),
				 errdetail("Field: mapping. Table \"%s\" has it.", get_rel_name(other->relid)),
				 errhint("Name another mapping.")));
	}
}

static const A67Table *
table_with_key(Oid relid)
{
	const A67Table *table = a67_table(relid);

	if (table == NULL || table->key == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a virtual table with a shard key", get_rel_name(relid))));
	return table;
}

/*
 * A value of the key's type, from what its input function takes. Of a domain's base type: its conditions are expressions of
 * users, and whoever calls this may have more rights than they.
 */
static Datum
key_value(const A67Table *table, const char *text)
{
	Oid input;
	Oid parameter;

	getTypeInputInfo(getBaseType(table->key_type), &input, &parameter);
	return OidInputFunctionCall(input, unconstify(char *, text), parameter, -1);
}

PG_FUNCTION_INFO_V1(a67_sql_table_key);

/* _table_key(relation, key text) returns text: the canonical text of the value that the key's type reads from it. */
Datum
a67_sql_table_key(PG_FUNCTION_ARGS)
{
	const A67Table *table = table_with_key(PG_GETARG_OID(0));
	StringInfoData out;

	initStringInfo(&out);
	a67_key_text(&out, key_value(table, text_to_cstring(PG_GETARG_TEXT_PP(1))), table->key_type);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

static int
compare(const A67Table *table, Datum left, Datum right)
{
	return a67_key_compare(left, table->key_type, right, table->key_type, table->key_collation);
}

PG_FUNCTION_INFO_V1(a67_sql_range_check);

/*
 * _range_check(relation, lower text, upper text) returns void: raises 22023 unless the range, of canonical texts or NULL, is one and
 * overlaps no other.
 */
Datum
a67_sql_range_check(PG_FUNCTION_ARGS)
{
	const A67Table *table = table_with_key(PG_GETARG_OID(0));
	bool has_lower = !PG_ARGISNULL(1);
	bool has_upper = !PG_ARGISNULL(2);
	Datum lower = (Datum) 0;
	Datum upper = (Datum) 0;

	if (has_lower)
		lower = a67_key_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)), table->key_type);
	if (has_upper)
		upper = a67_key_parse(text_to_cstring(PG_GETARG_TEXT_PP(2)), table->key_type);
	if (has_lower && has_upper && compare(table, lower, upper) >= 0)
		a67_error_parameter("ranges", "The end of a range must be greater than its beginning.");
	for (int i = 0; i < table->range_count; i++)
	{
		const A67Range *range = &table->ranges[i];

		if ((has_upper && range->has_lower && compare(table, upper, range->lower) <= 0) ||
			(has_lower && range->has_upper && compare(table, range->upper, lower) <= 0))
			continue;
		a67_error_parameter("ranges", "Ranges must not overlap.");
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_table_lock);

/* _table_lock(relation) returns void: what LOCK TABLE … IN SHARE ROW EXCLUSIVE MODE would do. */
Datum
a67_sql_table_lock(PG_FUNCTION_ARGS)
{
	LockRelationOid(PG_GETARG_OID(0), ShareRowExclusiveLock);
	PG_RETURN_VOID();
}

/* What of a table is where. */
typedef struct Census
{
	const A67Table *table;
	MemoryContext each; /* reset for every key */
	int64 rows[A67_SHARDS_MAX];
	int64 strays[A67_SHARDS_MAX]; /* on another shard than the key's */
} Census;

/* `value` is the number of rows, a blank, and the key. */
static void
count_key(void *state, int shard, const char *value)
{
	Census *census = state;
	MemoryContext caller = MemoryContextSwitchTo(census->each);
	char *key;
	int64 rows = strtoll(value, &key, 10);

	census->rows[shard] += rows;
	if (*key == '\0' || a67_shard_of_key(census->table, key_value(census->table, key + 1),
										 census->table->key_type) != shard)
		census->strays[shard] += rows;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(census->each);
	CHECK_FOR_INTERRUPTS();
}

PG_FUNCTION_INFO_V1(a67_sql_table_census);

/* _table_census(relation) returns (shard text, held bigint, strays bigint): rows, and those whose key says another shard. */
Datum
a67_sql_table_census(PG_FUNCTION_ARGS)
{
	Census census = {.table = table_with_key(PG_GETARG_OID(0))};
	const A67Database *database = census.table->database;
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *key = quote_identifier(get_attname(census.table->relid, census.table->key, false));
	char *sql = psprintf("SELECT pg_catalog.count(*) || coalesce(' ' || %s::pg_catalog.text, '') "
						 "FROM %s GROUP BY %s",
						 key, quote_identifier(get_rel_name(census.table->relid)), key);

	InitMaterializedSRF(fcinfo, 0);
	census.each = AllocSetContextCreate(CurrentMemoryContext, "census", ALLOCSET_DEFAULT_SIZES);
	a67_ddl_ask(database, a67_ddl_all(database), sql, count_key, &census);
	for (int i = 0; i < database->shard_count; i++)
	{
		Datum values[3] = {CStringGetTextDatum(database->shards[i].name),
						   Int64GetDatum(census.rows[i]), Int64GetDatum(census.strays[i])};
		bool nulls[3] = {false, false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	MemoryContextDelete(census.each);
	return (Datum) 0;
}
