/*
 * ship_part.h - what the files of ship.h share: ship.c (text), ship_here.c (what is computed here),
 * ship_check.c (what means the same on shards), ship_catalog.c (functions, types, collations),
 * ship_row.c (names and whole rows). Reasons are static, translatable full sentences; NULL is
 * "none".
 */
#ifndef A67_ROUTER_SHIP_PART_H
#define A67_ROUTER_SHIP_PART_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

#include "router/ship.h"

/* Whether the node is an expression over no rows, whose value can be found here, once, and sent. */
bool a67_ship_computed_here(const A67Database *database, Node *node);

/*
 * Whether such an expression can as well be written out: it gives the same value at any time under
 * any settings.
 */
bool a67_ship_literal(const A67Database *database, Node *node);

/* Types that shards know under the same name and whose values mean the same there. */
const char *a67_ship_type_obstacle(const A67Database *database, Oid type);
/*
 * Whether constants of the type can be written so that nothing but the type decides how they are
 * read.
 */
bool a67_ship_type_literal(const A67Database *database, Oid type);
/* Whether values of the type have a text that the type alone reads: no pseudo-types. */
bool a67_ship_type_sent(Oid type);

/* `literal`: functions that depend on settings do not count either. */
const char *a67_ship_function_obstacle(Oid function, bool literal);
/* Of functions whose format argument can ask for words or signs of a locale. */
const char *a67_ship_format_obstacle(const FuncExpr *call);
/* `function`: what works under the collation; InvalidOid: something that orders or compares. */
const char *a67_ship_collation_obstacle(const A67Database *database, Oid collation, Oid function);

/* Whether columns of the table were dropped. */
bool a67_ship_has_dropped(Oid relid);

/*
 * Changes the query so that pg_get_querydef writes what it means: subqueries that were views get
 * names, tables that are read as whole rows become subqueries of their columns, and what INSERT …
 * SELECT computes after its SELECT goes into it.
 */
void a67_ship_prepare(const A67Database *database, Query *query);

#endif /* A67_ROUTER_SHIP_PART_H */
