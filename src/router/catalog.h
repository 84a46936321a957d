/*
 * catalog.h - virtual databases and tables as the planner and executor see them, cached per process.
 *
 * A virtual table is a foreign table of wrapper a67_fdw. Its server's option `database` names the virtual database
 * (a67_internal.database); its own options are `strategy` (hash, range, directory, reference, local), `key` (column),
 * `mapping` (range and directory: which list of ranges or keys; tables that share one are colocated) and `shard`
 * (local: name). Table and column names are the same on the shards, where the tables live in the database's remote schema.
 *
 * What these functions return lives until the local transaction ends, and is what the catalogs said when it was asked
 * for; changes of shards, ranges and options invalidate it through the relation caches of the tables
 * (a67_database_changed), which also drops cached plans. Never keep a pointer in a plan: keep the relation's OID and shard ids.
 */
#ifndef A67_ROUTER_CATALOG_H
#define A67_ROUTER_CATALOG_H

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/bitmapset.h"
#include "utils/uuid.h"

#include "core/ring.h"
#include "net/shard.h"

typedef enum A67Strategy
{
	A67_HASH,
	A67_RANGE,
	A67_DIRECTORY,
	A67_REFERENCE, /* a copy on every shard */
	A67_LOCAL,	   /* on one shard */
} A67Strategy;

typedef struct A67Database
{
	pg_uuid_t id;
	Oid server_oid;			/* the foreign server */
	Oid schema_oid;			/* the local schema of its virtual tables */
	char *name;				/* of the database and the local schema */
	char *remote_schema;	/* where the tables live on the shards */
	int shard_count;		/* at most A67_SHARDS_MAX */
	A67ShardTarget *shards; /* sorted by shard_id; a "shard index" is a place in here */
	A67Ring ring;			/* member ids are shard indexes */
	bool
		same_collation; /* encoding and default collation of all shards are those of this database */
	int min_server_version; /* of all shards, as in server_version_num */
} A67Database;

typedef struct A67Range
{
	bool has_lower, has_upper; /* false: unbounded */
	Datum lower;			   /* inclusive, of the key's type */
	Datum upper;			   /* exclusive */
	int shard;				   /* index */
} A67Range;

typedef struct A67Table
{
	Oid relid;
	const A67Database *database;
	A67Strategy strategy;
	AttrNumber key;	   /* 0 for reference and local tables */
	Oid key_type;	   /* declared type of the column (may be a domain) */
	Oid key_collation; /* of the column */
	char *mapping;	   /* range and directory; else NULL */
	int home;		   /* local: shard index; else -1 */
	int range_count;   /* range: sorted, not overlapping; gaps are possible */
	A67Range *ranges;
	struct A67Directory *directory; /* directory: keys looked up so far (place.c); else NULL */
} A67Table;

/* NULL when the relation is no virtual table. Throws when one's options or database are broken. Fast when cached. */
const A67Table *a67_table(Oid relid);

/* The database by server OID. */
const A67Database *a67_database_of_server(Oid server_oid);

/* Whether rows with equal keys of the two tables are always on the same shard (both distributed, same database, same mapping). */
bool a67_colocated(const A67Table *one, const A67Table *other);

/* Shard index that rows with this key (of `type`, not null) live on; -1: none (no range or directory row has it). */
int a67_shard_of_key(const A67Table *table, Datum key, Oid type);

/* All shard indexes that can hold rows of the table: all; those of its ranges; its home; {0..n-1} for reference tables too. */
Bitmapset *a67_shards_of_table(const A67Table *table);

/* Index of the shard with this id; -1 when it is gone. */
int a67_shard_index(const A67Database *database, int32 shard_id);

/* Invalidates everything cached about the database, plans included, in all processes at commit. */
void a67_database_changed(Oid server_oid);

#endif /* A67_ROUTER_CATALOG_H */
