/*
 * catalog.c - the cache of virtual databases and tables; see catalog.h for the contract.
 *
 * Each entry lies in a memory context of its own below CacheMemoryContext. An invalidation takes it out of its hash table at
 * once, but it is freed only when something is read in a later transaction: callers keep pointers until theirs ends.
 * A table goes alone when its relation changed; all go when a database did (signalled by the relation cache entry of
 * a67_internal.database_shard), or a server or schema. What is read is in catalog_load.c, where a key lives in place.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_table.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "platform/compat.h"
#include "router/catalog.h"
#include "router/catalog_load.h"
#include "router/key.h"

/* How often an entry is read again because something changed meanwhile; then it serves this once. */
#define READS_MAX 5

/* The context of an entry, in itself, so that taking it out of the cache needs no memory. */
typedef struct Grave
{
	MemoryContext context;
	LocalTransactionId transaction; /* in which it was taken out */
	struct Grave *next;
} Grave;

/* Of both hash tables. */
typedef struct Entry
{
	Oid oid; /* of the table or the server */
	Grave *grave;
	void *value; /* A67Table or A67Database */
} Entry;

static HTAB *tables;
static HTAB *databases;
static Grave *graves;
static Oid signal_relid;
static uint64 invalidations; /* tells whether one came while an entry was read */

/* ---- invalidation --------------------------------------------------------------------------------------------------- */

static void
bury_grave(Grave *grave)
{
	grave->transaction = a67_local_transaction();
	grave->next = graves;
	graves = grave;
}

static void
bury_all(HTAB *hash)
{
	HASH_SEQ_STATUS status;
	Entry *entry;

	hash_seq_init(&status, hash);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		bury_grave(entry->grave);
		hash_search(hash, &entry->oid, HASH_REMOVE, NULL);
	}
}

static void
forget_all(void)
{
	invalidations++;
	bury_all(tables);
	bury_all(databases);
	signal_relid = InvalidOid;
	a67_shard_statements_changed();
}

static void
relation_changed(Datum arg, Oid relid)
{
	Entry *entry;

	if (relid == InvalidOid || relid == signal_relid)
	{
		forget_all();
		return;
	}
	invalidations++;
	entry = hash_search(tables, &relid, HASH_FIND, NULL);
	if (entry == NULL)
		return;
	bury_grave(entry->grave);
	hash_search(tables, &relid, HASH_REMOVE, NULL);
	/* What was prepared for the old definition would fail on the shards. */
	a67_shard_statements_changed();
}

static void
syscache_changed(Datum arg, int cache, uint32 hash)
{
	forget_all();
}

/* Frees what earlier transactions left behind. */
static void
clear_graves(void)
{
	LocalTransactionId now = a67_local_transaction();
	Grave **link = &graves;

	while (*link != NULL)
	{
		Grave *grave = *link;

		if (grave->transaction == now)
			link = &grave->next;
		else
		{
			*link = grave->next;
			MemoryContextDelete(grave->context);
		}
	}
}

static HTAB *
create_hash(const char *name)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(Entry)};

	return hash_create(name, 32, &control, HASH_ELEM | HASH_BLOBS);
}

static void
initialise(void)
{
	if (databases != NULL)
		return;
	if (tables == NULL)
		tables = create_hash("a67 virtual tables");
	databases = create_hash("a67 virtual databases");
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, syscache_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, syscache_changed, (Datum) 0);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static Grave *
new_grave(const char *name)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "a67 catalog entry", ALLOCSET_SMALL_SIZES);
	Grave *grave = MemoryContextAllocZero(context, sizeof(Grave));

	MemoryContextSetIdentifier(context, MemoryContextStrdup(context, name));
	grave->context = context;
	return grave;
}

/* Into the cache; or, when it may be out of date already, to where it lives until the transaction ends. */
static void
keep(HTAB *hash, Oid oid, Grave *grave, void *value, bool current)
{
	Entry *entry;
	bool found;

	if (!current)
	{
		MemoryContextSetParent(grave->context, CacheMemoryContext);
		bury_grave(grave);
		return;
	}
	entry = hash_search(hash, &oid, HASH_ENTER, &found);
	if (found)
		bury_grave(entry->grave);
	MemoryContextSetParent(grave->context, CacheMemoryContext);
	entry->grave = grave;
	entry->value = value;
}

static const A67Database *
read_database(Oid server_oid)
{
	for (int reads = 1;; reads++)
	{
		uint64 before = invalidations;
		Grave *grave = new_grave("database");
		MemoryContext old = MemoryContextSwitchTo(grave->context);
		A67Database *database = a67_database_load(server_oid);

		MemoryContextSwitchTo(old);
		signal_relid = a67_catalog_signal();
		if (before == invalidations || reads == READS_MAX)
		{
			keep(databases, server_oid, grave, database, before == invalidations);
			return database;
		}
		MemoryContextDelete(grave->context);
	}
}

const A67Database *
a67_database_of_server(Oid server_oid)
{
	Entry *entry;

	initialise();
	entry = hash_search(databases, &server_oid, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->value;
	clear_graves();
	return read_database(server_oid);
}

static const A67Table *
read_table(Oid relid, Oid server_oid)
{
	for (int reads = 1;; reads++)
	{
		uint64 before = invalidations;
		const A67Database *database = a67_database_of_server(server_oid);
		Grave *grave = new_grave("table");
		MemoryContext old = MemoryContextSwitchTo(grave->context);
		A67Table *table = palloc(sizeof(A67Table));

		a67_table_load(table, relid, database);
		MemoryContextSwitchTo(old);
		if (before == invalidations || reads == READS_MAX)
		{
			keep(tables, relid, grave, table, before == invalidations);
			return table;
		}
		MemoryContextDelete(grave->context);
	}
}

/* The foreign server of a virtual table; InvalidOid when it is none. */
static Oid
server_of_relation(Oid relid)
{
	Oid server_oid;

	if (get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE)
		return InvalidOid;
	server_oid = GetForeignServerIdByRelId(relid);
	return a67_server_database(server_oid) != NULL ? server_oid : InvalidOid;
}

const A67Table *
a67_table(Oid relid)
{
	Entry *entry;
	Oid server_oid;

	initialise();
	entry = hash_search(tables, &relid, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->value;
	server_oid = server_of_relation(relid);
	if (!OidIsValid(server_oid))
		return NULL;
	clear_graves();
	return read_table(relid, server_oid);
}

/* ---- what can be said of them --------------------------------------------------------------------------------------- */

static bool
is_distributed(const A67Table *table)
{
	return table->strategy == A67_HASH || table->strategy == A67_RANGE ||
		   table->strategy == A67_DIRECTORY;
}

bool
a67_colocated(const A67Table *one, const A67Table *other)
{
	if (!is_distributed(one) || one->strategy != other->strategy ||
		one->database->server_oid != other->database->server_oid ||
		a67_key_family(one->key_type) != a67_key_family(other->key_type))
		return false;
	if (one->strategy == A67_HASH)
		return true;
	/* The same bounds part keys differently when they are sorted differently. */
	return strcmp(one->mapping, other->mapping) == 0 &&
		   (one->strategy != A67_RANGE || one->key_collation == other->key_collation);
}

Bitmapset *
a67_shards_of_table(const A67Table *table)
{
	Bitmapset *shards = NULL;

	if (table->strategy == A67_LOCAL)
		return bms_make_singleton(table->home);
	if (table->strategy != A67_RANGE)
		return bms_add_range(NULL, 0, table->database->shard_count - 1);
	for (int i = 0; i < table->range_count; i++)
		shards = bms_add_member(shards, table->ranges[i].shard);
	return shards;
}

int
a67_shard_index(const A67Database *database, int32 shard_id)
{
	int low = 0;
	int high = database->shard_count - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		int32 found = database->shards[middle].shard_id;

		if (found == shard_id)
			return middle;
		if (found < shard_id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return -1;
}

void
a67_database_changed(Oid server_oid)
{
	Relation relation = table_open(ForeignTableRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_foreign_table_ftserver, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(server_oid));
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CacheInvalidateRelcacheByRelid(((Form_pg_foreign_table) GETSTRUCT(tuple))->ftrelid);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	CacheInvalidateRelcacheByRelid(a67_catalog_signal());
}
