/*
 * vault.c - the worker "vault": rotations of keys, and requests that only the holder of secrets can make.
 *
 * What is to be done is decided in SQL (_vault_plan, _vault_record); this is the row that runs the
 * plan/record engine for it. Its requests go to addresses that users chose.
 */
#include "postgres.h"

#include "plan_record.h"
#include "workers.h"

#define INTERVAL_MS 5000

static int
interval_ms(void)
{
	return INTERVAL_MS;
}

const A67WorkerDef a67_vault_def = {
	.name = "vault",
	.guarded = true,
	.database = true,
	.interval_ms = interval_ms,
	A67_PLAN_RECORD_FUNCTIONS,
};
