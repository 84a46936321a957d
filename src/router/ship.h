/*
 * ship.h - which expressions and queries mean on a shard what they mean here, and their text.
 *
 * Shippable: built-in functions, operators, aggregates, types (and enums and domains of the virtual
 * schema, which exist on the shards under the same name); immutable ones, and stable ones that
 * depend on nothing but the settings that net keeps equal on shards (TimeZone, DateStyle,
 * IntervalStyle, extra_float_digits, bytea_output …); no volatile ones; order and case of
 * default-collated text only where the shards' collation is this database's; no other collations
 * than default, C and POSIX; no system columns but where the caller says so; no session
 * information. Everything without Vars that is stable (now(), current_setting(), functions of
 * users) or an external parameter is computed here, once, and sent as a parameter.
 */
#ifndef A67_ROUTER_SHIP_H
#define A67_ROUTER_SHIP_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/params.h"

#include "router/catalog.h"

/*
 * NULL, or why it cannot be shipped (a static, translatable full sentence for a hint). For an
 * expression over Vars of the shard's tables.
 */
const char *a67_ship_obstacle_expr(const A67Database *database, Node *expr);

/*
 * The same for a whole query with all its subqueries; relations other than virtual tables of
 * `database` are an obstacle.
 */
const char *a67_ship_obstacle(const A67Database *database, Query *query);

/* A statement for shards: text, and the local expressions whose values are its $1, $2 … */
typedef struct A67Shipment
{
	char *sql;
	List *params; /* Expr without Vars of the shard's tables; Params of the local plan are fine */
} A67Shipment;

/*
 * Text of a query all of whose relations are virtual tables of `database` and which has no
 * obstacle. The query is not changed. External parameters and stable expressions become parameters.
 * Type and table names are as the shards know them: unqualified in the remote schema. Constants are
 * written so that no setting of the reader changes them.
 */
A67Shipment *a67_ship(const A67Database *database, Query *query);

/*
 * The same, with constants that are equal to one of `values` (List of Const) sent as parameters too,
 * so that statements that differ in them alone have one text.
 */
A67Shipment *a67_ship_with(const A67Database *database, Query *query, List *values);

#endif /* A67_ROUTER_SHIP_H */
