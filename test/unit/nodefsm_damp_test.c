/*
 * nodefsm_damp_test.c - what keeps a node's status from swinging: two thresholds of load, enough requests
 * to tell an error rate, and slower recovery of what keeps falling.
 */
#include "nodefsm_fixture.h"

#include <math.h>

static void
heartbeats_give_signs(void)
{
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 0, 0, 0), A67_SIGN_BEAT);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 90, 90, 0.05), A67_SIGN_BEAT);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 90.1, 10, 0), A67_SIGN_BEAT_BUSY);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 10, 90.1, 0), A67_SIGN_BEAT_BUSY);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 10, 10, 0.051), A67_SIGN_BEAT_DEGRADED);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 99, 99, 0.5), A67_SIGN_BEAT_DEGRADED);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, NAN, 10, 0), A67_SIGN_BEAT_BUSY);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 10, 10, NAN), A67_SIGN_BEAT_DEGRADED);
}

static void
load_has_two_thresholds(void)
{
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);

	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_READY, 85.0, 20.0, 0.0), A67_SIGN_BEAT);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_BUSY, 85.0, 20.0, 0.0), A67_SIGN_BEAT_BUSY);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_BUSY, 20.0, 80.1, 0.0), A67_SIGN_BEAT_BUSY);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_BUSY, 80.0, 80.0, 0.0), A67_SIGN_BEAT);
	CHECK_INT(a67_nodefsm_beat_sign(A67_NODE_FAILED, 85.0, 85.0, 0.0), A67_SIGN_BEAT);
	/* Two good signs, and one of load between starts anew. */
	now = a67_nodefsm_step(now, A67_SIGN_BEAT_BUSY, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, BUSY, 0, 1);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT_BUSY, NULL);
	CHECK_HEALTH(now, BUSY, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, READY, 0, 0);
}

static void
errors_count_from_a_hundred_requests(void)
{
	CHECK_NEAR(a67_node_error_rate(99.0, 99.0), 0.0, 1e-12);
	CHECK_NEAR(a67_node_error_rate(100.0, 6.0), 0.06, 1e-12);
	CHECK_NEAR(a67_node_error_rate(0.0, 0.0), 0.0, 1e-12);
	CHECK_NEAR(a67_node_error_rate(-5.0, 3.0), 0.0, 1e-12);
	CHECK_NEAR(a67_node_error_rate(100.0, 300.0), 1.0, 1e-12);
	CHECK_NEAR(a67_node_error_rate(100.0, -1.0), 0.0, 1e-12);
	CHECK_NEAR(a67_node_error_rate(NAN, 1.0), 0.0, 1e-12);
}

static bool
fell(A67NodeStatus before, A67NodeStatus after)
{
	return a67_node_fell(health(before, 0, 0), health(after, 0, 0));
}

static void
falls_are_counted(void)
{
	static const A67NodeStatus order[] = {A67_NODE_READY, A67_NODE_BUSY, A67_NODE_DEGRADED};
	int i;

	for (i = 0; i < 9; i++)
		CHECK(fell(order[i / 3], order[i % 3]) == (i / 3 < i % 3));
	CHECK(fell(A67_NODE_READY, A67_NODE_SUSPECT));
	CHECK(fell(A67_NODE_BUSY, A67_NODE_FAILED));
	/* On the way down it is one fall; commands, goodbyes and new nodes are none. */
	CHECK(!fell(A67_NODE_SUSPECT, A67_NODE_FAILED));
	CHECK(!fell(A67_NODE_DEGRADED, A67_NODE_SUSPECT));
	CHECK(!fell(A67_NODE_INITIALIZING, A67_NODE_SUSPECT));
	CHECK(!fell(A67_NODE_READY, A67_NODE_OFFLINE));
	CHECK(!fell(A67_NODE_READY, A67_NODE_MAINTENANCE));
	CHECK(!fell(A67_NODE_BUSY, A67_NODE_REMOVED));
	CHECK(!fell((A67NodeStatus) 9, A67_NODE_FAILED));
	/* A recovery that damping alone prevented, and its end; one good sign is nothing to fall from. */
	CHECK(a67_node_fell(health(A67_NODE_BUSY, 0, 2), health(A67_NODE_BUSY, 0, 0)));
	CHECK(!a67_node_fell(health(A67_NODE_BUSY, 0, 1), health(A67_NODE_BUSY, 0, 0)));
	CHECK(!a67_node_fell(health(A67_NODE_BUSY, 0, 2), health(A67_NODE_BUSY, 0, 3)));
	CHECK(!a67_node_fell(health(A67_NODE_BUSY, 0, 5), health(A67_NODE_READY, 0, 0)));
	CHECK(!a67_node_fell(health(A67_NODE_SUSPECT, 0, 5), health(A67_NODE_OFFLINE, 0, 0)));
}

static void
flaps_fade(void)
{
	CHECK_NEAR(a67_node_flaps_fade(4.0, 0.0), 4.0, 1e-12);
	CHECK_NEAR(a67_node_flaps_fade(4.0, 600.0), 2.0, 1e-12);
	CHECK_NEAR(a67_node_flaps_fade(4.0, 1200.0), 1.0, 1e-12);
	CHECK(a67_node_flaps_fade(1e9, 1e9) < 1e-9);
	/* Not the smallest of numbers, which no column of a table takes. */
	CHECK(a67_node_flaps_fade(1.0, 90000.0) == 0.0);
	CHECK(a67_node_flaps_fade(12.0, 3e5) == 0.0);
	/* A clock that was set back does not make them grow. */
	CHECK_NEAR(a67_node_flaps_fade(4.0, -3600.0), 4.0, 1e-12);
	CHECK_NEAR(a67_node_flaps_fade(-1.0, 0.0), 0.0, 1e-12);
	CHECK_NEAR(a67_node_flaps_fade(NAN, 0.0), 0.0, 1e-12);
}

static void
recovery_is_slower_above_a_limit_and_bounded(void)
{
	CHECK_UINT(a67_node_recover_after(0.0), 2);
	CHECK_UINT(a67_node_recover_after(3.0), 2);
	CHECK_UINT(a67_node_recover_after(3.1), 4);
	CHECK_UINT(a67_node_recover_after(4.0), 4);
	CHECK_UINT(a67_node_recover_after(4.5), 6);
	CHECK_UINT(a67_node_recover_after(7.0), 10);
	CHECK_UINT(a67_node_recover_after(1e30), 10);
	CHECK_UINT(a67_node_recover_after(NAN), 2);
}

/* Half an hour of a machine whose load goes up and down with every beat: few changes, and ever fewer. */
static void
a_swinging_load_makes_no_storm(void)
{
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);
	A67NodeLimits limits = A67_NODE_LIMITS_DEFAULT;
	double flaps = 0.0;
	int changes = 0;
	int beat;

	for (beat = 0; beat < 180; beat++)
	{
		A67NodeHealth before = now;
		double cpu = beat % 4 == 0 ? 95.0 : 50.0; /* three calm beats: enough without damping */

		flaps = a67_node_flaps_fade(flaps, 10.0);
		limits.recover_after = a67_node_recover_after(flaps);
		now = a67_nodefsm_step(now, a67_nodefsm_beat_sign(before.status, cpu, 50.0, 0.0), &limits);
		flaps += a67_node_fell(before, now) ? 1.0 : 0.0;
		changes += now.status != before.status;
	}
	CHECK_INT(now.status, A67_NODE_BUSY);
	CHECK(changes >= 5 && changes <= 9);
	for (beat = 0; beat < 10; beat++)
		now = a67_nodefsm_step(now, A67_SIGN_BEAT, &limits);
	CHECK_HEALTH(now, READY, 0, 0);
}

UNIT_MAIN("nodefsm_damp", UNIT(heartbeats_give_signs), UNIT(load_has_two_thresholds),
		  UNIT(errors_count_from_a_hundred_requests), UNIT(falls_are_counted), UNIT(flaps_fade),
		  UNIT(recovery_is_slower_above_a_limit_and_bounded), UNIT(a_swinging_load_makes_no_storm));
