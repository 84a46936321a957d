/*
 * notifier.c - the notifier: brings alerts to channels and calls hooks.
 *
 * What is sent where, and when again after a failure, is decided in SQL (_notifier_plan, _notifier_record);
 * this is the row that runs the plan/record engine for it. New messages wake it; the interval is for what
 * waits for its next attempt or for its channel's rate.
 */
#include "postgres.h"

#include "plan_record.h"
#include "workers.h"

#define INTERVAL_MS 1000

static int
interval_ms(void)
{
	return INTERVAL_MS;
}

const A67WorkerDef a67_notifier_def = {
	.name = "notifier",
	.guarded = true,
	.database = true,
	.interval_ms = interval_ms,
	A67_PLAN_RECORD_FUNCTIONS,
};
