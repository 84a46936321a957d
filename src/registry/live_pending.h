/*
 * live_pending.h - what the current transaction will publish to the live node table when it commits.
 *
 * For live_view.c, which has to show a transaction its own changes before anybody else sees them.
 */
#ifndef A67_LIVE_PENDING_H
#define A67_LIVE_PENDING_H

#include "postgres.h"

#include "registry/live_facts.h"

typedef enum A67Pending
{
	A67_PENDING_NONE,
	A67_PENDING_SOME, /* a list that can be laid over a copy of the table */
	A67_PENDING_ALL	  /* too much: only the rows know */
} A67Pending;

/* Whether this is the database that the shared table is about (a67.database). Needs a transaction once. */
bool a67_live_home(void);

A67Pending a67_live_pending(void);

/* The list, in order of the changes. */
const A67NodeFacts *a67_live_pending_facts(int i);
int a67_live_pending_count(void);

/* Differs when the list is another one, or has lost changes, since it was asked last. */
uint64 a67_live_pending_serial(void);

/* Differs in another transaction, if that one or an earlier one has changed nodes. */
uint64 a67_live_pending_transaction(void);

#endif /* A67_LIVE_PENDING_H */
