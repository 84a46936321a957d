/*
 * plan_record.h - a worker that asks SQL what to request over HTTP, requests it, and tells SQL the answers.
 *
 * The monitor and the reconciler are this with other names. SQL decides everything; the contract with it:
 *   _NAME_plan(now timestamptz) returns rows (key text, method text, url text, token text, body text,
 *     timeout_ms integer, headers text[], pin text); token, body, headers ("Name: value"; a Content-Type there
 *     replaces application/json) and pin (see fetch.h) may be null. It runs at every tick and may return the same
 *     keys again: those still under way are passed over. At most A67_FETCH_QUEUE_MAX rows are taken; rows that
 *     cannot be sent within A67_PLAN_WAIT_MS are dropped without a record, so that no token or decision gets
 *     stale in a queue. Plans therefore must not rely on every row being recorded.
 *   _NAME_record(now timestamptz, keys text[], statuses integer[], bodies text[], errors text[]) returns
 *     integer: status 0 means no answer, and errors says why (otherwise null). Above 0: plan again at once.
 * A definition that is marked as guarded reaches public addresses only, unless a67.outbound_private is on.
 * Results are recorded in batches, in transactions of their own; a batch that fails three times is dropped.
 */
#ifndef A67_PLAN_RECORD_H
#define A67_PLAN_RECORD_H

#include "worker.h"

#define A67_RECORD_MAX		256 /* results in one call of _NAME_record */
#define A67_RECORD_DELAY_MS 20	/* how long a result may wait for others */
#define A67_RECORD_ATTEMPTS 3
#define A67_PLAN_WAIT_MS	20000

/*
 * The five functions of a definition, and the row of them that a definition holds; the statements follow from
 * the definition's name.
 */
void *a67_plan_record_start(A67Worker *worker);
void a67_plan_record_tick(A67Worker *worker, void *state);
void a67_plan_record_ready(A67Worker *worker, void *state);
int64 a67_plan_record_deadline_ms(A67Worker *worker, void *state);
void a67_plan_record_stop(A67Worker *worker, void *state);

/* clang-format off */
#define A67_PLAN_RECORD_FUNCTIONS \
	.start = a67_plan_record_start, \
	.tick = a67_plan_record_tick, \
	.ready = a67_plan_record_ready, \
	.deadline_ms = a67_plan_record_deadline_ms, \
	.stop = a67_plan_record_stop
/* clang-format on */

#endif /* A67_PLAN_RECORD_H */
