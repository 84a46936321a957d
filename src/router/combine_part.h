/*
 * combine_part.h - what the files of combine.c share: combine.c (levels of a query), combine_split.c (one level), combine_column.c (its expressions), combine_aggregate.c (one
 * aggregate), combine_lift.c (values computed here first), combine_remote.c (the relation that stands for what shards compute). Beside them combine_join.c.
 */
#ifndef A67_ROUTER_COMBINE_PART_H
#define A67_ROUTER_COMBINE_PART_H

#include "postgres.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"

#include "router/analyse.h"
#include "router/remote.h"

/* In the planner's unit: a row that comes from a shard. */
#define A67_ROW_COST   0.02

/* The relation that stands for the shards' answers, in a query that was split. */
#define A67_REMOTE_RTI 1

/* A level that is being taken apart. */
typedef struct A67Split
{
	const A67Database *database;
	List *keys;		/* columns that carry the key: each value is on one shard */
	Query *remote;	/* what shards compute; its target list grows as columns are asked for */
	Index last_ref; /* highest ressortgroupref in use */
	bool groups;	/* the remote query groups: its columns are groups and aggregates */
	bool failed;	/* something cannot be split */
} A67Split;

/* ---- combine_split.c */

/* Replaces a query without references to outer ones by one that has the shards do their part. False: it was left as it is. */
bool a67_split_query(Query *query, ParamListInfo params);

/* ---- combine_column.c */

/* The column of the shards' answers that is this expression, or NULL. */
TargetEntry *a67_split_find(A67Split *split, Expr *expr);
/* The same, asked for if it is not yet there. */
Expr *a67_split_column(A67Split *split, Expr *expr, const char *name);
/* The same for one that the shards group by; `clause` says by which equality (NULL: the type's own). */
Expr *a67_split_group(A67Split *split, Expr *expr, SortGroupClause *clause);
/* An expression or list of the level, over columns of the shards' answers. Sets split->failed when there is no such. */
Node *a67_split_localize(A67Split *split, void *node);
/* Drops CTEs that nothing in the query uses. */
void a67_drop_unused_ctes(Query *query);

/* ---- combine_aggregate.c */

/* An expression over columns of the shards' answers that gives what the aggregate would give; NULL when there is none. */
Expr *a67_combine_aggregate(A67Split *split, Aggref *aggregate);
/* A walker: whether an aggregate has the shards group by more than the level does. Then a key is in several groups. */
bool a67_adds_groups(Node *node, A67Split *split);

/* ---- combine_lift.c: subqueries that do not depend on rows become parameters while a level is looked at. */

/* A copy in which they are parameters; `lifted` gets the subqueries. */
Query *a67_lift(Query *query, List **lifted);
/* Puts them back. */
Node *a67_lower(Node *node, List *lifted);
/* Whether nothing in the query belongs to a query around it. */
bool a67_is_independent(Query *query);

/* ---- combine_remote.c */

/* The statement for shards; false when they cannot be told. *exprs: its parameters and keys. */
bool a67_combine_describe(A67Remote *remote, const A67Analysis *analysis, Query *query,
						  ParamListInfo params, List **exprs);
/* A path that runs a packed remote statement; its total cost is the caller's. `columns`: its rows, as Vars of the relation's tables. */
CustomPath *a67_combine_path(RelOptInfo *rel, List *remote, List *exprs, List *columns);
/* Whether ANALYZE has counted its rows. */
bool a67_table_is_known(Oid relid);
/* A function of schema a67_internal, on which users have no rights. */
Oid a67_own_function(const char *name, int count, const Oid *types);
/* The relation; NULL when its shards cannot be told. `columns`: target list of `remote` without junk. */
RangeTblEntry *a67_remote_relation(const A67Analysis *analysis, Query *remote,
								   ParamListInfo params);

#endif /* A67_ROUTER_COMBINE_PART_H */
