/*
 * catalog_load.h - reads what catalog.c caches: databases, tables, ranges and directory entries.
 *
 * Everything is read with a snapshot of now, whatever snapshot the transaction has, so that a cache filled in an old
 * transaction is not older than the invalidations that it has seen. Called by catalog.c and place.c only.
 */
#ifndef A67_ROUTER_CATALOG_LOAD_H
#define A67_ROUTER_CATALOG_LOAD_H

#include "postgres.h"

#include "router/catalog.h"

/* OID of a67_internal.database_shard, whose relation cache invalidations say that some database changed. */
Oid a67_catalog_signal(void);

/* Name of the wrapper's foreign server's database; NULL when the server is not one of a67_fdw. */
const char *a67_server_database(Oid server_oid);

/* All about a database, in the current context. Throws when its row is missing. */
A67Database *a67_database_load(Oid server_oid);

/* All about a virtual table of the database, in the current context; what `table` points to is its own but for the database. */
void a67_table_load(A67Table *table, Oid relid, const A67Database *database);

/* Shard index of a directory's key (canonical text); -1: none. */
int a67_directory_load(const A67Table *table, const char *key);

#endif /* A67_ROUTER_CATALOG_LOAD_H */
