/*
 * listener.h: what the rest of the library sees of the HTTP side.
 *
 * The listener plugs into the worker loop as a definition; its api workers are started by it and need
 * only their entry point here. init.c registers the first; the postmaster looks up the second by name.
 */
#ifndef A67_LISTENER_H
#define A67_LISTENER_H

#include "postgres.h"

#include "worker.h"

extern const A67WorkerDef a67_listener_def;

/* The argument is the handle of the exchange segment (exchange.h). Exits 0 when its listener ends. */
extern PGDLLEXPORT void a67_api_worker_main(Datum arg);

#endif
