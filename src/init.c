/*
 * init.c - what happens when the server loads the library; the one file that knows all parts.
 *
 * Loaded by shared_preload_libraries everything works. Loaded on demand by a function call, functions that
 * need no shared memory work, the others say what is missing, and no worker runs.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "crypto/keyring.h"
#include "crypto/master_key.h"
#include "crypto/redact_log.h"
#include "launcher.h"
#include "listener/listener.h"
#include "net/shard_endpoint.h"
#include "platform/settings.h"
#include "platform/shmem.h"
#include "registry/live.h"
#include "registry/rate.h"
#include "router/planner.h"
#include "worker.h"
#include "workers.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/* In the order in which the launcher starts them. */
static const A67WorkerDef *const workers[] = {
	&a67_telemetry_def, &a67_monitor_def,  &a67_reconciler_def, &a67_ingress_def,
	&a67_vault_def,		&a67_notifier_def, &a67_listener_def,
};

static const A67ShmemArea *const areas[] = {
	&a67_master_keys_area, &a67_keyring_area, &a67_live_area, &a67_rate_area, &a67_endpoint_area,
};

void
_PG_init(void)
{
	a67_settings_define();
	a67_router_install();
	for (size_t i = 0; i < lengthof(workers); i++)
		a67_worker_define(workers[i]);
	a67_launcher_declare();
	if (!process_shared_preload_libraries_in_progress)
		return;
	a67_master_keys_open();
	a67_redact_install();
	a67_shmem_install(areas, lengthof(areas));
	a67_launcher_install();
}

PG_FUNCTION_INFO_V1(a67_sql_version);

/* version() returns text */
Datum
a67_sql_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(A67_VERSION));
}
