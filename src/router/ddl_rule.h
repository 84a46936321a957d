/*
 * ddl_rule.h - what definitions of virtual tables may say.
 *
 * What can be unique, and refer to what, when rows are on many shards (ddl_rule.c); expressions that shards compute, each in
 * a session of its own, and expressions of people who are not trusted (ddl_expression.c). Nothing here changes anything.
 */
#ifndef A67_ROUTER_DDL_RULE_H
#define A67_ROUTER_DDL_RULE_H

#include "router/ddl.h"

/* Chooses what the user left open for the table with these ColumnDefs; raises when it cannot be spread so. */
void a67_ddl_choose(const A67Ddl *ddl, const RangeVar *name, const List *columns,
					A67DdlSpread *chosen);

/* Raises unless the shards can enforce the constraint, each for itself. */
void a67_ddl_check_constraint(const A67Ddl *ddl, const A67Table *table,
							  const Constraint *constraint);
void a67_ddl_check_unique_index(const A67Ddl *ddl, const A67Table *table, const IndexStmt *index);

/* Raises if the key's column cannot get the type without rows changing their shards. */
void a67_ddl_check_key_type(const A67Ddl *ddl, const A67Table *table, const ColumnDef *column);

/* ---- ddl_expression.c */

/* Whether an analysed expression uses sequences. */
bool a67_ddl_draws(Node *expr);

/*
 * Raises if a raw expression over the table's columns means something else on shards than here; what the time is may be
 * asked with `clock`. NULL is fine.
 */
void a67_ddl_check_expression(const A67Ddl *ddl, const A67Table *table, Node *raw, bool clock);

/* Raises 42501 if what was made here holds what hostile SQL must not (query_allow.h): unless the operator made it. */
void a67_ddl_judge_relation(Oid relid);
void a67_ddl_judge_type(Oid type);

#endif /* A67_ROUTER_DDL_RULE_H */
