/*
 * reconciler.c - the reconciler: brings what runs on the nodes to what deployments ask for.
 *
 * What is missing, which command goes where and what an answer means is decided in SQL (_reconciler_plan,
 * _reconciler_record); this is the row that runs the plan/record engine for it.
 */
#include "postgres.h"

#include "plan_record.h"
#include "platform/settings.h"
#include "workers.h"

static int
interval_ms(void)
{
	return a67_reconcile_interval;
}

const A67WorkerDef a67_reconciler_def = {
	.name = "reconciler",
	.database = true,
	.interval_ms = interval_ms,
	A67_PLAN_RECORD_FUNCTIONS,
};
