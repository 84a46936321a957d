/*
 * catalog_load.c - virtual databases and tables from their rows and options; see catalog_load.h.
 *
 * Tables of a67_internal are scanned as catalogs are: without SPI, plans or rights of the caller, who may see none of them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "platform/compat.h"
#include "router/catalog_load.h"
#include "router/key.h"
#include "router/place.h"

#define INTERNAL_SCHEMA "a67_internal"
#define WRAPPER			"a67_fdw"

/* A scan of a table of a67_internal by the leading columns of one of its indexes. */
typedef struct InternalScan
{
	Relation relation;
	SysScanDesc scan;
	ScanKeyData keys[3];
	int key_count;
} InternalScan;

static Oid
internal_relation(const char *name)
{
	Oid relid = get_relname_relid(name, get_namespace_oid(INTERNAL_SCHEMA, false));

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation \"%s.%s\" does not exist", INTERNAL_SCHEMA, name)));
	return relid;
}

Oid
a67_catalog_signal(void)
{
	return internal_relation("database_shard");
}

static void
scan_open(InternalScan *scan, const char *table)
{
	scan->relation = table_open(internal_relation(table), AccessShareLock);
	scan->key_count = 0;
}

static void
scan_key(InternalScan *scan, const char *column, RegProcedure equal, Datum value)
{
	AttrNumber number = get_attnum(RelationGetRelid(scan->relation), column);
	ScanKey key = &scan->keys[scan->key_count++];

	ScanKeyInit(key, number, BTEqualStrategyNumber, equal, value);
	/* An index of a user table is sorted by the column's collation, not by that of catalogs. */
	key->sk_collation = TupleDescAttr(RelationGetDescr(scan->relation), number - 1)->attcollation;
}

static void
scan_begin(InternalScan *scan, const char *index)
{
	scan->scan = systable_beginscan(scan->relation, internal_relation(index), true, NULL,
									scan->key_count, scan->keys);
}

static HeapTuple
scan_next(InternalScan *scan)
{
	return systable_getnext(scan->scan);
}

static void
scan_close(InternalScan *scan)
{
	systable_endscan(scan->scan);
	table_close(scan->relation, AccessShareLock);
}

static Datum
column_of(const InternalScan *scan, HeapTuple tuple, const char *name, bool *is_null)
{
	AttrNumber number = get_attnum(RelationGetRelid(scan->relation), name);

	return heap_getattr(tuple, number, RelationGetDescr(scan->relation), is_null);
}

/* NULL when it is null. */
static char *
text_of(const InternalScan *scan, HeapTuple tuple, const char *name)
{
	bool is_null;
	Datum value = column_of(scan, tuple, name, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

/* 0 when it is null. */
static int32
integer_of(const InternalScan *scan, HeapTuple tuple, const char *name)
{
	bool is_null;
	Datum value = column_of(scan, tuple, name, &is_null);

	return is_null ? 0 : DatumGetInt32(value);
}

static const char *
option_of(List *options, const char *name)
{
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return defGetString(option);
	}
	return NULL;
}

const char *
a67_server_database(Oid server_oid)
{
	ForeignServer *server = GetForeignServer(server_oid);
	const char *name;

	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, WRAPPER) != 0)
		return NULL;
	name = option_of(server->options, "database");
	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
						errmsg("server \"%s\" has no option \"database\"", server->servername)));
	return name;
}

/* ---- databases ------------------------------------------------------------------------------------------------------ */

/* What decides whether text sorts and folds as here. */
typedef struct Locale
{
	char *collate;
	char *ctype;
	char *version;
} Locale;

static bool
same_text(const char *left, const char *right)
{
	return left != NULL && right != NULL && strcmp(left, right) == 0;
}

/* Locales' names are written with and without hyphens, in both cases: en_US.UTF-8, en_US.utf8. */
static bool
same_locale(const char *left, const char *right)
{
	if (left == NULL || right == NULL)
		return false;
	for (;; left++, right++)
	{
		while (*left == '-')
			left++;
		while (*right == '-')
			right++;
		if (pg_tolower((unsigned char) *left) != pg_tolower((unsigned char) *right))
			return false;
		if (*left == '\0')
			return true;
	}
}

/* Whether the order is that of bytes or code points, for which PostgreSQL keeps no version either. */
static bool
is_versionless(const char *name)
{
	return same_text(name, "C") || same_text(name, "POSIX") || pg_strncasecmp(name, "C.", 2) == 0;
}

static char *
database_text(HeapTuple tuple, AttrNumber number)
{
	bool is_null;
	Datum value = SysCacheGetAttr(DATABASEOID, tuple, number, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

/* The default collation of this database, in the words in which shards' are recorded (a67_internal._shard_check). */
static Locale
local_locale(void)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	Locale locale = {NULL, NULL, NULL};
	char provider;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for database %u", MyDatabaseId);
	provider = ((Form_pg_database) GETSTRUCT(tuple))->datlocprovider;
	locale.collate = database_text(tuple, Anum_pg_database_datcollate);
	locale.ctype = database_text(tuple, Anum_pg_database_datctype);
	if (provider != COLLPROVIDER_LIBC)
		locale.collate =
			psprintf("%c:%s", provider, database_text(tuple, A67_ANUM_DATABASE_LOCALE));
	locale.version = get_collation_actual_version(
		provider, provider == COLLPROVIDER_LIBC ? locale.collate
												: database_text(tuple, A67_ANUM_DATABASE_LOCALE));
	ReleaseSysCache(tuple);
	return locale;
}

/* Whether default-collated text means on the shard what it means here. What was not recorded counts as different. */
static bool
sorts_as_here(const InternalScan *scan, HeapTuple tuple, const Locale *here)
{
	char *encoding = text_of(scan, tuple, "server_encoding");
	char *collate = text_of(scan, tuple, "lc_collate");
	char *ctype = text_of(scan, tuple, "lc_ctype");

	if (!same_text(encoding, GetDatabaseEncodingName()) || !same_locale(collate, here->collate) ||
		!same_locale(ctype, here->ctype))
		return false;
	return (is_versionless(collate) && is_versionless(ctype)) ||
		   same_text(text_of(scan, tuple, "collation_version"), here->version);
}

static void
free_ring(void *ring)
{
	a67_ring_free(ring);
}

/* Member ids are shard indexes; the malloc'd ring goes with the current context. */
static void
build_ring(A67Database *database, const A67RingMember *members)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	A67RingStatus status;

	callback->func = free_ring;
	callback->arg = &database->ring;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	status = a67_ring_build(&database->ring, members, (size_t) database->shard_count, NULL);
	if (status != A67_RING_OK)
		ereport(ERROR, (errcode(status == A67_RING_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY
																 : ERRCODE_INTERNAL_ERROR),
						errmsg("%s", a67_ring_status_text(status))));
}

static int
compare_shards(const void *left, const void *right)
{
	int32 a = ((const A67ShardTarget *) left)->shard_id;
	int32 b = ((const A67ShardTarget *) right)->shard_id;

	return (a > b) - (a < b);
}

/* Reads the shards in any order; `weights` by place as read. */
static void
read_shards(A67Database *database, double *weights)
{
	Locale here = local_locale();
	InternalScan scan;
	HeapTuple tuple;

	database->same_collation = true;
	database->min_server_version = PG_INT32_MAX;
	scan_open(&scan, "database_shard");
	scan_key(&scan, "database_id", F_UUID_EQ, UUIDPGetDatum(&database->id));
	scan_begin(&scan, "database_shard_name_key");
	while (HeapTupleIsValid(tuple = scan_next(&scan)))
	{
		A67ShardTarget *shard = &database->shards[database->shard_count];
		bool is_null;

		if (database->shard_count == A67_SHARDS_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("virtual database \"%s\" has more than %d shards",
								   database->name, A67_SHARDS_MAX)));
		shard->shard_id = integer_of(&scan, tuple, "shard_id");
		shard->name = text_of(&scan, tuple, "name");
		shard->schema = database->remote_schema;
		weights[database->shard_count++] =
			DatumGetFloat8(column_of(&scan, tuple, "weight", &is_null));
		database->same_collation &= sorts_as_here(&scan, tuple, &here);
		database->min_server_version =
			Min(database->min_server_version, integer_of(&scan, tuple, "server_version"));
	}
	scan_close(&scan);
	if (database->shard_count == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("virtual database \"%s\" has no shards", database->name)));
}

static void
read_database(A67Database *database, const char *name)
{
	InternalScan scan;
	HeapTuple tuple;
	bool is_null;

	scan_open(&scan, "database");
	scan_key(&scan, "name", F_TEXTEQ, CStringGetTextDatum(name));
	scan_begin(&scan, "database_name_key");
	tuple = scan_next(&scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("virtual database \"%s\" does not exist", name)));
	database->id = *DatumGetUUIDP(column_of(&scan, tuple, "database_id", &is_null));
	database->name = text_of(&scan, tuple, "name");
	database->remote_schema = text_of(&scan, tuple, "remote_schema");
	scan_close(&scan);
}

A67Database *
a67_database_load(Oid server_oid)
{
	A67Database *database = palloc0(sizeof(A67Database));
	A67RingMember *members = palloc0(sizeof(A67RingMember) * A67_SHARDS_MAX);
	double weights[A67_SHARDS_MAX];
	const char *name = a67_server_database(server_oid);

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("server \"%s\" is not a virtual database",
							   GetForeignServer(server_oid)->servername)));
	database->server_oid = server_oid;
	read_database(database, name);
	database->schema_oid = get_namespace_oid(database->name, true);
	database->shards = palloc0(sizeof(A67ShardTarget) * A67_SHARDS_MAX);
	read_shards(database, weights);

	for (int i = 0; i < database->shard_count; i++)
	{
		members[i].weight = weights[i];
		strlcpy(members[i].name, database->shards[i].name, A67_RING_NAME_SIZE);
		members[i].id = (uint32) database->shards[i].shard_id;
	}
	qsort(database->shards, (size_t) database->shard_count, sizeof(A67ShardTarget), compare_shards);
	for (int i = 0; i < database->shard_count; i++)
		members[i].id = (uint32) a67_shard_index(database, (int32) members[i].id);
	build_ring(database, members);
	pfree(members);
	return database;
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

static void
broken_table(Oid relid, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					errmsg("virtual table \"%s\" is not set up correctly", get_rel_name(relid)),
					errdetail("%s", detail)));
}

static A67Strategy
strategy_of(Oid relid, const char *name)
{
	static const char *const names[] = {
		[A67_HASH] = "hash",		   [A67_RANGE] = "range", [A67_DIRECTORY] = "directory",
		[A67_REFERENCE] = "reference", [A67_LOCAL] = "local",
	};

	for (int i = 0; name != NULL && i < (int) lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return (A67Strategy) i;
	broken_table(relid, "It has no option \"strategy\".");
	pg_unreachable();
}

static void
read_key(A67Table *table, const char *column)
{
	const char *why;
	int32 typmod;
	bool supported;

	if (column == NULL)
		broken_table(table->relid, "It has no option \"key\".");
	table->key = get_attnum(table->relid, column);
	if (table->key <= 0)
		broken_table(table->relid, psprintf("Its shard key \"%s\" is not a column.", column));
	get_atttypetypmodcoll(table->relid, table->key, &table->key_type, &typmod,
						  &table->key_collation);
	supported = table->strategy == A67_RANGE
					? a67_key_orderable(table->key_type, table->key_collation, &why)
					: a67_key_supported(table->key_type, table->key_collation, &why);
	if (!supported)
		broken_table(table->relid,
					 psprintf("Column \"%s\" cannot be a shard key. %s", column, why));
}

static int
compare_ranges(const void *left, const void *right, void *arg)
{
	const A67Range *a = left;
	const A67Range *b = right;
	const A67Table *table = arg;

	if (!a->has_lower || !b->has_lower)
		return (int) a->has_lower - (int) b->has_lower;
	return a67_key_compare(a->lower, table->key_type, b->lower, table->key_type,
						   table->key_collation);
}

static void
read_bound(const A67Table *table, const char *text, bool *has, Datum *bound)
{
	*has = text != NULL;
	if (text != NULL)
		*bound = a67_key_parse(text, table->key_type);
}

static void
read_ranges(A67Table *table)
{
	InternalScan scan;
	HeapTuple tuple;
	int room = 16;

	table->ranges = palloc(sizeof(A67Range) * (size_t) room);
	scan_open(&scan, "shard_range");
	scan_key(&scan, "database_id", F_UUID_EQ, UUIDPGetDatum(&table->database->id));
	scan_key(&scan, "mapping", F_TEXTEQ, CStringGetTextDatum(table->mapping));
	scan_begin(&scan, "shard_range_key");
	while (HeapTupleIsValid(tuple = scan_next(&scan)))
	{
		A67Range range = {0};

		if (table->range_count == room)
		{
			room *= 2;
			table->ranges = repalloc(table->ranges, sizeof(A67Range) * (size_t) room);
		}
		range.shard = a67_shard_index(table->database, integer_of(&scan, tuple, "shard_id"));
		read_bound(table, text_of(&scan, tuple, "lower_bound"), &range.has_lower, &range.lower);
		read_bound(table, text_of(&scan, tuple, "upper_bound"), &range.has_upper, &range.upper);
		table->ranges[table->range_count++] = range;
	}
	scan_close(&scan);
	qsort_arg(table->ranges, (size_t) table->range_count, sizeof(A67Range), compare_ranges, table);
	for (int i = 1; i < table->range_count; i++)
	{
		const A67Range *before = &table->ranges[i - 1];
		const A67Range *range = &table->ranges[i];

		if (!range->has_lower || !before->has_upper ||
			a67_key_compare(before->upper, table->key_type, range->lower, table->key_type,
							table->key_collation) > 0)
			broken_table(table->relid,
						 psprintf("Ranges of mapping \"%s\" overlap.", table->mapping));
	}
}

static int
read_home(const A67Table *table, const char *name)
{
	for (int i = 0; name != NULL && i < table->database->shard_count; i++)
		if (strcmp(table->database->shards[i].name, name) == 0)
			return i;
	if (name == NULL)
		broken_table(table->relid, "It has no option \"shard\".");
	broken_table(table->relid, psprintf("Its shard \"%s\" does not exist.", name));
	return -1;
}

void
a67_table_load(A67Table *table, Oid relid, const A67Database *database)
{
	List *options = GetForeignTable(relid)->options;

	*table = (A67Table){.relid = relid, .database = database, .home = -1};
	table->strategy = strategy_of(relid, option_of(options, "strategy"));
	switch (table->strategy)
	{
		case A67_LOCAL:
			table->home = read_home(table, option_of(options, "shard"));
			return;
		case A67_REFERENCE:
			return;
		case A67_HASH:
			read_key(table, option_of(options, "key"));
			return;
		case A67_RANGE:
		case A67_DIRECTORY:
			read_key(table, option_of(options, "key"));
			if (option_of(options, "mapping") == NULL)
				broken_table(relid, "It has no option \"mapping\".");
			table->mapping = pstrdup(option_of(options, "mapping"));
			if (table->strategy == A67_RANGE)
				read_ranges(table);
			else
				table->directory = a67_directory_create();
			return;
	}
}

int
a67_directory_load(const A67Table *table, const char *key)
{
	InternalScan scan;
	HeapTuple tuple;
	int shard = -1;

	scan_open(&scan, "shard_directory");
	scan_key(&scan, "database_id", F_UUID_EQ, UUIDPGetDatum(&table->database->id));
	scan_key(&scan, "mapping", F_TEXTEQ, CStringGetTextDatum(table->mapping));
	scan_key(&scan, "key", F_TEXTEQ, CStringGetTextDatum(key));
	scan_begin(&scan, "shard_directory_pkey");
	tuple = scan_next(&scan);
	if (HeapTupleIsValid(tuple))
		shard = a67_shard_index(table->database, integer_of(&scan, tuple, "shard_id"));
	scan_close(&scan);
	return shard;
}
