/*
 * wake.h - waking a worker: at once, or when the current transaction commits.
 *
 * Decides which names exist (the declared ones) and finds their latches through the worker slots; what a
 * worker does once awake is its own affair. Waking is a hint: a lost one costs at most one interval, a
 * superfluous one costs one empty tick. So a wake-up registered in a rolled-back subtransaction is not
 * taken back, and a transaction that is prepared for two-phase commit wakes nobody.
 */
#ifndef A67_WAKE_H
#define A67_WAKE_H

#include "postgres.h"

/* Makes `name` known (at most 31 of them), in _PG_init. name must stay valid. */
void a67_wake_declare(const char *name);

/* Whether a worker of that name was declared. */
bool a67_wake_known(const char *name);

/* Sets the latches of all running workers of that name. Does nothing when none runs. Never throws. */
void a67_wake(const char *name);

/* The same at commit of the current transaction; nothing at rollback. Unknown name: 22023. */
void a67_wake_at_commit(const char *name);

#endif /* A67_WAKE_H */
