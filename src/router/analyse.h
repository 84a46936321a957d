/*
 * analyse.h - how the relations of a query lie on the shards.
 *
 * Reads a Query (rewritten, not planned; subqueries, CTEs, sublinks, set operations and all) and says whether it can run whole on one shard,
 * or on each shard by itself with the union of the answers being the answer. Joins on the key (=, USING, through subqueries and
 * correlated sublinks), reference tables on the sides where a copy per shard adds nothing, and constants tie relations together.
 * Pure: changes nothing, sends nothing. Does not ask what is shippable (ship.h).
 */
#ifndef A67_ROUTER_ANALYSE_H
#define A67_ROUTER_ANALYSE_H

#include "postgres.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"

#include "router/catalog.h"

typedef enum A67Spread
{
	A67_SPREAD_NONE,   /* no virtual table in it */
	A67_SPREAD_COPIES, /* reference tables only: any shard can answer */
	A67_SPREAD_ONE,	   /* all rows it touches are on one shard, found by `pins` */
	A67_SPREAD_EACH, /* each shard answers its part, the parts together are the answer (but for the query's ORDER BY) */
	A67_SPREAD_MIXED, /* none of these: `reason` */
} A67Spread;

/* A condition on where a table's rows are: the shard of the key's value, or a fixed shard (local tables: expr NULL). */
typedef struct A67Pin
{
	const A67Table *table;
	Expr *expr; /* no Vars, not volatile */
	int home;	/* shard index when expr is NULL */
} A67Pin;

typedef struct A67Analysis
{
	A67Spread spread;
	const A67Database *database; /* NULL for NONE, and when there are several (MIXED) */
	const A67Table *
		table; /* a distributed or local table that stands for all; any other when there are none */
	List *
		pins; /* ONE: A67Pin; with equal expressions there is one. Only right when all give the same shard */
	Bitmapset *shards; /* EACH: those that constants leave */
	List *
		quals; /* EACH: conditions on `table`'s key (varno 1) for a67_prune when parameters are known */
	List *key_outputs;	/* EACH: resnos of the target list that carry the key */
	List *relids;		/* all virtual tables in it */
	const char *reason; /* MIXED: a full sentence */
} A67Analysis;

/* The query itself, or a copy in which join columns (of all levels) are replaced by what they stand for. */
Query *a67_query_flat(Query *query);

/* Of a whole query of any command. Constants are those of the query and of `params` (may be NULL). */
A67Analysis *a67_analyse(Query *query, ParamListInfo params);

/*
 * Of the FROM and WHERE of this level alone, without its grouping, aggregates, windows, DISTINCT, set operations and LIMIT; key_outputs is
 * of no meaning, `keys` are Vars of this level that carry the key.
 */
A67Analysis *a67_analyse_source(Query *query, ParamListInfo params, List **keys);

#endif /* A67_ROUTER_ANALYSE_H */
