/*
 * live_rows.h - reading facts of all nodes from their tables.
 *
 * For the shared table when it is not built, and for selections that cannot use it.
 */
#ifndef A67_LIVE_ROWS_H
#define A67_LIVE_ROWS_H

#include "postgres.h"

#include "registry/live_facts.h"

/* Takes facts from a row; may throw. */
typedef void (*A67FactsSink)(const A67NodeFacts *facts, void *arg);

/* Runs body with an SPI connection and the rights of the tables' owner, whoever calls. */
void a67_live_as_owner(void (*body)(void *arg), void *arg);

/*
 * Gives every fact of every node that is not removed to the sink, nodes first, from one snapshot that is
 * taken now and shows the transaction's own changes. As the owner of the tables.
 */
void a67_live_rows(A67FactsSink sink, void *arg);

/* Whether the shared table is there and built. */
bool a67_live_built(void);

/*
 * Builds the shared table from rows when it is not built. Must not be called by a transaction that has
 * written anything: its rows may never be committed. Returns whether the table is built now.
 */
bool a67_live_rebuild(void);

#endif /* A67_LIVE_ROWS_H */
