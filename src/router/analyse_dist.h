/*
 * analyse_dist.h - the parts of the analysis: equalities, the tree of joins, levels of queries. Private to analyse*.c.
 *
 * Every relation expression (a table, a join, a subquery, a whole query) gets an A67Dist: how its rows lie on the shards when each
 * shard computes it over what it has. Three properties, none of which excludes another; with none of them it is mixed:
 *   copies  every shard computes the same rows
 *   part    each shard computes its part: the union is the answer. A column that carries the key tells a row's shard
 *   bound   one shard computes the answer: the one that all of the anchors name
 * An anchor is a value that keys are equal to: an expression that is known when the statement runs, or a column that carries the key at an
 * outer level of the query, so that a subquery is right where the outer row is.
 */
#ifndef A67_ROUTER_ANALYSE_DIST_H
#define A67_ROUTER_ANALYSE_DIST_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "router/analyse.h"

#define A67_DEPTH_CONST (-1) /* the expression has no Vars */
#define A67_DEPTH_TOP	1000 /* of the query that is asked about: it may lie in others */

/* Of all levels together. */
typedef struct A67Question
{
	ParamListInfo params;
	const A67Database *database; /* the first that was seen */
	bool foreign;				 /* other relations than its tables are in it */
	const char *reason;			 /* the first obstacle that was met */
} A67Question;

/* One value that an anchor is equal to: its Var has level 0, the level it belongs to is in depth. */
typedef struct A67Term
{
	int depth;
	Expr *expr;
} A67Term;

typedef struct A67Anchor
{
	const A67Table *table;
	List *terms; /* A67Term: equal to each other */
	int home;	 /* shard index, or -1: constants leave this shard alone */
} A67Anchor;

/* A column that carries the key: in a row that has it (not null), it says where the row is. */
typedef struct A67Carrier
{
	const A67Table *table; /* whose key */
	Expr *expr;		  /* a column of the level (or COALESCE of two); of a query's result: none */
	AttrNumber resno; /* of a query's result */
	bool nullable;
	List *
		terms; /* A67Term of outer levels and constants that the value equals, of a query's result */
} A67Carrier;

typedef struct A67Dist
{
	bool copies;
	bool part;
	bool bound;
	List *anchors;				/* bound */
	const A67Table *table;		/* part: one that stands for all */
	List *carriers;				/* part */
	Bitmapset *shards;			/* part: shards that can have rows; NULL with copies: all */
	const A67Table *qual_table; /* part: whose key `quals` (varno 1) restrict, by parameters too */
	List *quals;
} A67Dist;

/* A query while its parts are looked at. Its join columns are replaced by what they stand for. */
typedef struct A67Level
{
	struct A67Level *parent;
	A67Question *question;
	Query *query;
	int depth;
	A67Dist **with;		 /* of the query's CTEs, as they are asked for */
	List *facts;		 /* that hold for every row of FROM and WHERE */
	List *leaf_carriers; /* of all relations in FROM */
} A67Level;

/* ---- analyse_fact.c: equalities between columns, outer columns and constants. Removes casts that leave the canonical text of keys as it is. */
Expr *a67_fact_strip(Node *node);
/* Whether the expression is known when the statement runs, without looking at any row. */
bool a67_fact_known(Node *node);
/* A walker: whether an expression without sublinks has columns of outer levels. */
bool a67_fact_reaches_out(Node *node, void *context);
/* Appends the equalities of an implicitly or explicitly ANDed condition to facts. */
List *a67_facts_of(A67Level *level, List *facts, Node *quals);
/* Whether facts make the two equal. */
bool a67_fact_equal(List *facts, Expr *one, Expr *other);
/* Constants and outer columns that facts make equal to the expression. */
List *a67_fact_terms(A67Level *level, List *facts, Expr *expr, Oid key_type);
/* Whether some fact speaks of the expression, which is not null then. */
bool a67_fact_stated(List *facts, Expr *expr);
/* Whether the operator is the equality that the type's own order has, under a collation where equal means equal bytes. */
bool a67_fact_is_equality(OpExpr *op);
/* Columns (Vars of this level) that facts make equal to the expression, itself not. */
List *a67_fact_vars(List *facts, Expr *expr);
/* Whether equal means equal bytes here: the collation, if any, is deterministic. */
bool a67_fact_plain(Node *expr);

/* ---- analyse_join.c: FROM and WHERE. Of FROM and WHERE, without sublinks. Sets the level's facts and leaf_carriers. */
A67Dist *a67_dist_source(A67Level *level);
/* Of one relation, of which facts and conditions hold. */
A67Dist *a67_dist_leaf(A67Level *level, int rti, List *facts, List *quals);
/* The carrier that the expression is, or NULL. */
A67Carrier *a67_carrier_of(List *carriers, Node *expr);
/* Whether every anchor of a bound dist is a carrier (of this depth) of rows of `table`. */
bool a67_dist_tied(const A67Dist *dist, int depth, const A67Table *table, List *carriers);
/* Whether both are parts, and facts say that every pair of rows that joins is on one shard. */
bool a67_dist_joined(const A67Dist *left, const A67Dist *right, List *facts);
A67Dist *a67_dist_copies(void);
/* Nothing at all; keeps the first reason that is given. */
A67Dist *a67_dist_mixed(A67Level *level, const char *reason);
/* `result` is bound when both are, by the anchors of both. */
void a67_dist_bind(A67Dist *result, const A67Dist *one, const A67Dist *other);

/* ---- analyse_level.c: a query from its source: sublinks, grouping, CTEs. Of a whole query, below `parent` (NULL: the outermost). */
A67Dist *a67_dist_query(A67Level *parent, A67Question *question, Query *query);
void a67_level_init(A67Level *level, A67Level *parent, A67Question *question, Query *query);
/* FROM and WHERE with the sublinks in it, or with all sublinks of the level. */
A67Dist *a67_dist_level_source(A67Level *level, bool all_sublinks);
/* Drops anchors that are columns of this level which carry keys: those are bound themselves. */
void a67_level_resolve(A67Level *level, A67Dist *dist);
/* The target list or RETURNING. */
List *a67_query_outputs(Query *query);
/* Columns of the query's result that carry the key, when `source` is what it computes them from. */
List *a67_dist_outputs(A67Level *level, const A67Dist *source);

/* ---- analyse_with.c: CTEs. Of the n-th CTE of a level. */
A67Dist *a67_dist_with_nth(A67Level *level, int nth);
/* Of a CTE's result, and its query; NULL when it belongs to a query outside of the one that is analysed. */
A67Dist *a67_dist_with(A67Level *level, RangeTblEntry *rte, Query **query);

/* ---- analyse_set.c: UNION, INTERSECT, EXCEPT. */
A67Dist *a67_dist_set(A67Level *level, Node *operation);
/* Carriers at the same places of both lists; *solid tells whether one of them is never null. */
List *a67_carriers_shared(List *left, List *right, bool *solid);

/* ---- analyse_write.c: INSERT, UPDATE, DELETE, MERGE. */
A67Dist *a67_dist_write(A67Level *level);

#endif /* A67_ROUTER_ANALYSE_DIST_H */
