/*
 * shard_session.h - what a shard's session must have before a statement runs there: settings, transaction, prepared statements.
 *
 * Each part says what SQL has to go ahead of the statement, and takes it for done; whoever sends it tells when it was not.
 * Private to net.
 */
#ifndef A67_SHARD_SESSION_H
#define A67_SHARD_SESSION_H

#include "postgres.h"

#include "net/shard_link.h"

/* ---- shard_session.c ---- */

/* SQL that makes the shard's session equal to this one, or NULL when it is; from then on it counts as equal. */
const char *a67_session_setup(A67Link *link, const char *schema, int timeout_ms);

/* ---- shard_prepare.c ---- */

typedef struct A67Prepared A67Prepared;

/*
 * The prepared statement for this SQL and these types; *fresh when it must be sent to the shard first. What is to be
 * deallocated before that is in link->leftover.
 */
A67Prepared *a67_prepared(A67Link *link, const A67Statement *statement, bool *fresh);
const char *a67_prepared_name(const A67Prepared *prepared);
/* It is on the shard now. */
void a67_prepared_done(A67Prepared *prepared);
/* The shard does not know it (any more). */
void a67_prepared_forget(A67Link *link, A67Prepared *prepared);
/* With the connection all of them go. */
void a67_prepared_clear(A67Link *link);

/* ---- shard_transaction.c ---- */

/* Statements to be sent before one of this effect, so that it runs in the right remote transaction; appended to the list. */
List *a67_transaction_setup(A67Link *link, A67Effect effect, bool alone, List *before);
/* The link's remote transaction, if any, is over, or never was anything but the statement that failed to begin it. */
void a67_transaction_forget(A67Link *link);
/* Registers the callbacks; once per process. */
void a67_transaction_install(void);
/* Throws if the link lost a remote transaction that the local one needs. */
void a67_transaction_check(const A67Link *link);

#endif /* A67_SHARD_SESSION_H */
