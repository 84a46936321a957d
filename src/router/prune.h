/*
 * prune.h - which shards can hold rows of a table that satisfy conditions.
 *
 * Sound, not complete: a shard that is left out holds no row for which all conditions are true. Understands =, IN, ANY(array),
 * <, <=, >, >=, BETWEEN (as PostgreSQL expands it), IS NULL, boolean constants, AND, OR and NOT over the key column, across the types of
 * one key family; everything else restricts nothing. A null key is on no shard. Only the default equality of the key's type under its column's collation counts.
 */
#ifndef A67_ROUTER_PRUNE_H
#define A67_ROUTER_PRUNE_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/params.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

#include "router/catalog.h"

/*
 * Shard indexes. `quals` is an implicitly ANDed list in which Vars of `varno` (level 0) are the table's columns. Constants count, and
 * parameters with a value in `params` (may be NULL); parameters without one restrict nothing.
 */
Bitmapset *a67_prune(const A67Table *table, List *quals, Index varno, ParamListInfo params);

/*
 * The expression that the key must equal (no Vars of any level, not volatile: Const, Param, stable calls), or NULL. The
 * shard is then a67_shard_of_key() of its value (null: no row), known when the statement runs. Its type is of the key's family.
 */
Expr *a67_key_equals(const A67Table *table, List *quals, Index varno);

#endif /* A67_ROUTER_PRUNE_H */
