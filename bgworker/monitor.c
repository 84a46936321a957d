/*
 * monitor.c - the monitor: probes nodes and feeds their health.
 *
 * Which nodes are due and what an answer means is decided in SQL (_monitor_plan, _monitor_record); this is
 * the row that runs the plan/record engine for it.
 */
#include "postgres.h"

#include "plan_record.h"
#include "platform/settings.h"
#include "workers.h"

static int
interval_ms(void)
{
	return a67_monitor_interval;
}

const A67WorkerDef a67_monitor_def = {
	.name = "monitor",
	.database = true,
	.interval_ms = interval_ms,
	A67_PLAN_RECORD_FUNCTIONS,
};
