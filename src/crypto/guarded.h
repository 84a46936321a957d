/*
 * guarded.h - memory for secrets that all processes of the server share, and processes that handle secrets.
 *
 * PostgreSQL's own shared memory goes into every core file and may be swapped. What is kept here is in pages
 * of its own: locked, left out of core files, inherited by every process that the postmaster forks, and still
 * there after the server has restarted its processes because one of them crashed.
 */
#ifndef A67_GUARDED_H
#define A67_GUARDED_H

#include "postgres.h"

/*
 * Zeroed shared pages, for good. Only in the postmaster, while it preloads or makes its shared memory. An
 * error when there is no memory; pages that cannot be locked are used unlocked, and the log says so.
 */
void *a67_guarded_map(Size size);

/*
 * sodium_init, once per process; an error when it fails. Called before any use of libsodium. What needs it has
 * secrets, so the process becomes one of those below, unless it is the postmaster.
 */
void a67_crypto_init(void);

/* This process leaves no core file and cannot be traced by others of its user. Cheap to repeat; never throws. */
void a67_secret_process(void);

#endif /* A67_GUARDED_H */
