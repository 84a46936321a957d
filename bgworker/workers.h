/*
 * workers.h - the definitions of the workers that have no header of their own.
 *
 * Called by init.c, which registers them.
 */
#ifndef A67_WORKERS_H
#define A67_WORKERS_H

#include "worker.h"

extern const A67WorkerDef a67_telemetry_def;
extern const A67WorkerDef a67_monitor_def;
extern const A67WorkerDef a67_reconciler_def;
extern const A67WorkerDef a67_ingress_def;
extern const A67WorkerDef a67_vault_def;
extern const A67WorkerDef a67_notifier_def;

#endif /* A67_WORKERS_H */
