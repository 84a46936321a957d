/*
 * launcher.h - the one static worker: starts, supervises and stops all others.
 *
 * Called by init.c only.
 */
#ifndef A67_LAUNCHER_H
#define A67_LAUNCHER_H

#include "postgres.h"

/* Makes its name known to wake-ups; in every process that loads the library. */
void a67_launcher_declare(void);

/* Registers the launcher with the postmaster and watches DDL that concerns it. While preloading only. */
void a67_launcher_install(void);

PGDLLEXPORT void a67_launcher_main(Datum arg);

#endif /* A67_LAUNCHER_H */
