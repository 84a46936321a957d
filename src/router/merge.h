/*
 * merge.h - MERGE into a virtual table, which PostgreSQL's parse analysis refuses for every foreign
 * table.
 *
 * Around the analysis of a MERGE its target passes for an ordinary table; whole.c sends the
 * analysed statement to the one shard that has all its rows, or refuses it. Only where a67 itself
 * has statements analysed (query.c): clients that send MERGE themselves get PostgreSQL's refusal.
 */
#ifndef A67_ROUTER_MERGE_H
#define A67_ROUTER_MERGE_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

/*
 * Opens and disguises the target of a MERGE, or of an explained one; NULL when it is none or no
 * virtual table.
 */
Relation a67_merge_disguise(RawStmt *statement);

/* After the analysis, also when it failed. Fine with NULL. The lock stays. */
void a67_merge_reveal(Relation target);

/* Puts right what the analysis wrote down about virtual tables while they were disguised. */
void a67_merge_mend(List *queries);

#endif /* A67_ROUTER_MERGE_H */
