/*
 * rollout_test.c - the rollout state machine: docs/states.md says what the code does, each strategy
 * phase by phase, and the orders of owners. Random walks are in rollout_walk_test.c.
 */
#include "states_table.h"

#include "core/rollout.h"

/* A view of a rollout of three replicas that has just begun; the old release is whole. */
static A67RolloutView
view_of(A67RolloutKind kind)
{
	A67RolloutView view = {
		.kind = kind,
		.surge = 1,
		.steps = {10, 50, 100},
		.step_count = 3,
		.observe_ms = 1000,
		.deadline_ms = 60000,
		.auto_rollback = true,
		.min_requests = 20,
		.max_error_rate = 5,
		.max_latency_ratio = 2,
		.old_side = {.replicas = 3, .wanted = 3, .ready = 3, .total = 3},
		.new_side = {.replicas = 3},
	};

	return view;
}

/* Takes the step into the view and returns it. */
static A67RolloutStep
take(A67RolloutView *view)
{
	A67RolloutStep step = a67_rollout_step(view);

	if (step.phase != (A67RolloutPhase) view->phase || step.step != view->step)
		view->phase_ms = 0;
	view->state = step.state;
	view->phase = step.phase;
	view->step = step.step;
	view->weight = step.weight;
	return step;
}

static void
settle(A67RolloutSide *side, int32_t count)
{
	side->wanted = count;
	side->ready = count;
	side->total = count;
}

static void
check(A67RolloutStep got, A67RolloutState state, A67RolloutPhase phase, int32_t old_target,
	  int32_t new_target, int32_t weight, int line)
{
	unit_check_str(a67_rollout_state_name(got.state), a67_rollout_state_name(state), "state",
				   __FILE__, line);
	unit_check_str(a67_rollout_phase_name(got.phase), a67_rollout_phase_name(phase), "phase",
				   __FILE__, line);
	unit_check_int(got.old_target, old_target, "old_target", __FILE__, line);
	unit_check_int(got.new_target, new_target, "new_target", __FILE__, line);
	unit_check_int(got.weight, weight, "weight", __FILE__, line);
}

#define CHECK_STEP(got, state, phase, old_target, new_target, weight)                          \
	check((got), A67_ROLLOUT_##state, A67_PHASE_##phase, (old_target), (new_target), (weight), \
		  __LINE__)

/* ---- the documented tables ---- */

static void
compare_phase(char **cells)
{
	int phase = a67_rollout_phase_parse(cells[0]);
	int kind;

	REQUIRE(phase >= 0);
	for (kind = 0; kind < A67_ROLLOUT_KINDS; kind++)
	{
		A67RolloutPhase next = a67_rollout_next((A67RolloutKind) kind, (A67RolloutPhase) phase);

		CHECK_STR(cells[kind + 1],
				  next == (A67RolloutPhase) phase ? "-" : a67_rollout_phase_name(next));
	}
}

static void
compare_state(char **cells)
{
	int state = a67_rollout_state_parse(cells[0]);
	int order;

	REQUIRE(state >= 0);
	for (order = 0; order < A67_ROLLOUT_ORDERS; order++)
	{
		A67RolloutState next;
		bool taken = a67_rollout_order((A67RolloutState) state, (A67RolloutOrder) order, &next);

		CHECK_STR(cells[order + 1], taken ? a67_rollout_state_name(next) : "refused");
	}
}

static void
documented_tables_are_the_code(void)
{
	CHECK_INT(states_table("<!-- rollout phases", A67_ROLLOUT_KINDS + 1, NULL, compare_phase),
			  A67_ROLLOUT_PHASES);
	CHECK_INT(states_table("<!-- rollout orders", A67_ROLLOUT_ORDERS + 1, NULL, compare_state),
			  A67_ROLLOUT_STATES);
}

/* ---- strategies ---- */

static void
rolling_exchanges_one_by_one(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_ROLLING);
	int32_t n;

	CHECK_STEP(take(&view), RUNNING, REPLACE, 3, 1, 0);
	for (n = 1; n <= 3; n++)
	{
		view.new_side.wanted = view.new_side.total = n;
		CHECK_STEP(take(&view), RUNNING, REPLACE, 4 - n, n, 100 * (n - 1) / 3);
		view.new_side.ready = n;
		CHECK_STEP(take(&view), RUNNING, REPLACE, 3 - n, n, 100 * n / (4));
		view.old_side.wanted = view.old_side.ready = 3 - n;
		/* The old one has not ended yet, so there is no room for another. */
		if (n < 3)
			CHECK_STEP(take(&view), RUNNING, REPLACE, 3 - n, n, 100 * n / 3);
		view.old_side.total = 3 - n;
	}
	CHECK_STEP(take(&view), SUCCEEDED, DONE, 0, 3, 100);
	CHECK_STEP(take(&view), SUCCEEDED, DONE, 0, 3, 100);
}

static void
rolling_may_do_with_less_instead_of_more(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_ROLLING);

	view.surge = 0;
	view.unavailable = 1;
	take(&view);
	CHECK_STEP(take(&view), RUNNING, REPLACE, 2, 0, 0);
	settle(&view.old_side, 2);
	CHECK_STEP(take(&view), RUNNING, REPLACE, 2, 1, 0);
	/* With neither, one more is allowed: nothing could move otherwise. */
	view = view_of(A67_ROLLOUT_ROLLING);
	view.surge = 0;
	CHECK_STEP(take(&view), RUNNING, REPLACE, 3, 1, 0);
}

static void
rolling_changes_the_number_on_the_way(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_ROLLING);

	view.new_side.replicas = 5;
	CHECK_STEP(take(&view), RUNNING, REPLACE, 3, 3, 0);
	view = view_of(A67_ROLLOUT_ROLLING);
	view.new_side.replicas = 1;
	CHECK_STEP(take(&view), RUNNING, REPLACE, 1, 1, 0);
	view = view_of(A67_ROLLOUT_ROLLING);
	view.new_side.replicas = view.old_side.replicas = 0;
	take(&view);
	settle(&view.old_side, 0);
	CHECK_STEP(take(&view), SUCCEEDED, DONE, 0, 0, 100);
}

static void
recreate_has_none_before_the_first_new_one(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_RECREATE);

	CHECK_STEP(take(&view), RUNNING, DRAIN, 0, 0, 0);
	view.old_side.wanted = view.old_side.ready = 0;
	CHECK_STEP(take(&view), RUNNING, DRAIN, 0, 0, 0);
	view.old_side.total = 0;
	CHECK_STEP(take(&view), RUNNING, FILL, 0, 3, 0);
	settle(&view.new_side, 2);
	CHECK_STEP(take(&view), RUNNING, FILL, 0, 3, 100);
	settle(&view.new_side, 3);
	CHECK_STEP(take(&view), RUNNING, TEST, 0, 3, 100);
	CHECK_STEP(take(&view), SUCCEEDED, DONE, 0, 3, 100);
}

static void
recreate_goes_back_in_the_same_order(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_RECREATE);

	view.phase = A67_PHASE_FILL;
	settle(&view.old_side, 0);
	view.new_side.wanted = view.new_side.total = 3;
	view.failures = 3;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 0, 0, 0);
	view.new_side.wanted = 0;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 0, 0, 0);
	view.new_side.total = 0;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 0, 0);
	settle(&view.old_side, 3);
	CHECK_STEP(take(&view), ROLLED_BACK, DONE, 3, 0, 0);
}

static void
blue_green_switches_when_all_are_tested(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_BLUE_GREEN);

	view.test = A67_TEST_OPEN;
	CHECK_STEP(take(&view), RUNNING, FILL, 3, 3, 0);
	settle(&view.new_side, 2);
	CHECK_STEP(take(&view), RUNNING, FILL, 3, 3, 0);
	settle(&view.new_side, 3);
	CHECK_STEP(take(&view), RUNNING, TEST, 3, 3, 0);
	CHECK_STEP(take(&view), RUNNING, TEST, 3, 3, 0);
	view.test = A67_TEST_PASSED;
	CHECK_STEP(take(&view), RUNNING, OBSERVE, 3, 3, 100);
	view.phase_ms = 999;
	CHECK_STEP(take(&view), RUNNING, OBSERVE, 3, 3, 100);
	view.phase_ms = 1000;
	CHECK_STEP(take(&view), SUCCEEDED, DONE, 0, 3, 100);
}

static void
blue_green_leaves_blue_alone_when_green_fails(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_BLUE_GREEN);
	A67RolloutStep step;

	view.phase = A67_PHASE_TEST;
	view.test = A67_TEST_FAILED;
	settle(&view.new_side, 3);
	step = take(&view);
	CHECK_STEP(step, ROLLING_BACK, RESTORE, 3, 0, 0);
	CHECK_INT(step.reason, A67_REASON_TEST);
	settle(&view.new_side, 0);
	CHECK_STEP(take(&view), ROLLED_BACK, DONE, 3, 0, 0);
	/* After the switch requests go back to blue at once; where blue is gone, green stays until there is one. */
	view = view_of(A67_ROLLOUT_BLUE_GREEN);
	view.phase = A67_PHASE_OBSERVE;
	view.weight = 100;
	view.sick = 1;
	settle(&view.new_side, 3);
	view.old_side.ready = 0;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 3, 100);
	view.old_side.ready = 1;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 0, 0);
}

static void
canary_goes_step_by_step(void)
{
	static const int32_t shares[] = {10, 50, 100};
	static const int32_t counts[] = {1, 2, 3};
	A67RolloutView view = view_of(A67_ROLLOUT_CANARY);
	int i;

	CHECK_STEP(take(&view), RUNNING, FILL, 3, 1, 0);
	for (i = 0; i < 3; i++)
	{
		settle(&view.new_side, counts[i]);
		CHECK_STEP(take(&view), RUNNING, TEST, 3, counts[i], i > 0 ? shares[i - 1] : 0);
		CHECK_STEP(take(&view), RUNNING, OBSERVE, 3, counts[i], shares[i]);
		view.phase_ms = 1000;
		if (i < 2)
			CHECK_STEP(take(&view), RUNNING, FILL, 3, counts[i + 1], shares[i]);
	}
	CHECK_STEP(take(&view), SUCCEEDED, DONE, 0, 3, 100);
}

/* ---- verdicts ---- */

static A67RolloutView
observed(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_CANARY);

	view.phase = A67_PHASE_OBSERVE;
	view.counted = true;
	settle(&view.new_side, 1);
	view.old_side.requests = 1000;
	view.old_side.failures = 10;
	view.old_side.latency_ms = 50;
	view.new_side.requests = 100;
	view.new_side.failures = 5;
	view.new_side.latency_ms = 80;
	return view;
}

static A67RolloutReason
verdict(A67RolloutView view)
{
	return a67_rollout_step(&view).reason;
}

static void
requests_decide(void)
{
	A67RolloutView view = observed();

	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.new_side.failures = 7; /* 7 % against 1 % */
	CHECK_INT(verdict(view), A67_REASON_ERRORS);
	view.old_side.failures = 30; /* against 3 %: not worse by more than 5 */
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view = observed();
	view.new_side.latency_ms = 101;
	CHECK_INT(verdict(view), A67_REASON_LATENCY);
	/* Too few to compare with: errors count as they are, latency does not. */
	view.old_side.requests = 19;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.new_side.failures = 6;
	CHECK_INT(verdict(view), A67_REASON_ERRORS);
	/* A few ms are never slow. */
	view = observed();
	view.old_side.latency_ms = 1;
	view.new_side.latency_ms = 21;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.new_side.latency_ms = NAN;
	CHECK_INT(verdict(view), A67_REASON_LATENCY);
	/* Too few of its own, nobody who counts, or the owner's word: no verdict. */
	view = observed();
	view.new_side.failures = 100;
	view.new_side.requests = 19;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.new_side.requests = 100;
	view.counted = false;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.counted = true;
	CHECK_INT(verdict(view), A67_REASON_ERRORS);
	view.promoted = true;
	view.weight = 10;
	CHECK_STEP(a67_rollout_step(&view), RUNNING, OBSERVE, 3, 3, 10);
	settle(&view.new_side, 3);
	CHECK_STEP(a67_rollout_step(&view), SUCCEEDED, DONE, 0, 3, 100);
}

static void
what_a_step_was_judged_by_is_said(void)
{
	A67RolloutView view = observed();

	view.phase_ms = 1000;
	CHECK_INT(verdict(view), A67_REASON_REQUESTS);
	view.new_side.requests = 19;
	CHECK_INT(verdict(view), A67_REASON_FEW_REQUESTS);
	view.counted = false;
	CHECK_INT(verdict(view), A67_REASON_HEALTH_ONLY);
}

static void
health_decides_always(void)
{
	A67RolloutView view = observed();

	view.counted = false;
	view.restarts = A67_ROLLOUT_RESTARTS_MAX - 1;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.restarts++;
	CHECK_INT(verdict(view), A67_REASON_RESTARTS);
	view.restarts = 0;
	view.sick = 1;
	CHECK_INT(verdict(view), A67_REASON_RESTARTS);
	view = view_of(A67_ROLLOUT_ROLLING);
	view.failures = A67_ROLLOUT_FAILURES_MAX - 1;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.failures++;
	CHECK_INT(verdict(view), A67_REASON_FAILURES);
	view.failures = 0;
	view.idle_ms = 60000;
	CHECK_INT(verdict(view), A67_REASON_DEADLINE);
	/* While it is observed the deadline begins when the time is over. */
	view = observed();
	view.idle_ms = 60999;
	CHECK_INT(verdict(view), A67_REASON_NONE);
	view.idle_ms = 61000;
	CHECK_INT(verdict(view), A67_REASON_DEADLINE);
}

static void
without_automatic_rollback_it_stops(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_ROLLING);
	A67RolloutStep step;

	take(&view);
	settle(&view.new_side, 1);
	view.auto_rollback = false;
	view.failures = 3;
	step = take(&view);
	CHECK_STEP(step, PAUSED, REPLACE, 2, 1, 25);
	CHECK_INT(step.reason, A67_REASON_FAILURES);
	CHECK_INT(take(&view).reason, A67_REASON_NONE);
	/* Its owner resumes it, which forgets the failures. */
	view.state = A67_ROLLOUT_RUNNING;
	view.failures = 0;
	CHECK_STEP(take(&view), RUNNING, REPLACE, 2, 1, 25);
}

/* ---- pauses and returns ---- */

static void
a_pause_holds_and_repairs(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_ROLLING);

	take(&view);
	view.state = A67_ROLLOUT_PAUSED;
	view.idle_ms = INT32_MAX;
	view.new_side.wanted = view.new_side.total = 1;
	CHECK_STEP(take(&view), PAUSED, REPLACE, 3, 1, 0);
	view.new_side.ready = 1;
	CHECK_STEP(take(&view), PAUSED, REPLACE, 2, 1, 25);
	settle(&view.old_side, 1); /* one was lost with its node */
	CHECK_STEP(take(&view), PAUSED, REPLACE, 2, 1, 50);
	view.old_side.replicas = view.new_side.replicas = 5; /* scaled */
	CHECK_STEP(take(&view), PAUSED, REPLACE, 4, 1, 50);
	/* A canary that is paused keeps its share, and still goes back when it is bad. */
	view = observed();
	view.state = A67_ROLLOUT_PAUSED;
	view.phase_ms = INT32_MAX;
	CHECK_STEP(take(&view), PAUSED, OBSERVE, 3, 1, 10);
	view.new_side.failures = 50;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 0, 0);
}

static void
rolling_goes_back_within_the_bounds(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_ROLLING);

	view.phase = A67_PHASE_REPLACE;
	view.state = A67_ROLLOUT_ROLLING_BACK;
	view.aborted = true;
	settle(&view.old_side, 1);
	settle(&view.new_side, 2);
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 2, 2, 66);
	settle(&view.old_side, 2);
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 2, 1, 50);
	settle(&view.new_side, 1);
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 1, 33);
	settle(&view.old_side, 3);
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 0, 25);
	settle(&view.new_side, 0);
	CHECK_STEP(take(&view), ABORTED, DONE, 3, 0, 0);
}

static void
a_return_that_fails_ends(void)
{
	A67RolloutView view = view_of(A67_ROLLOUT_CANARY);
	A67RolloutStep step;

	view.phase = A67_PHASE_RESTORE;
	view.state = A67_ROLLOUT_ROLLING_BACK;
	settle(&view.old_side, 2);
	view.idle_ms = 59999;
	CHECK_STEP(take(&view), ROLLING_BACK, RESTORE, 3, 0, 0);
	view.idle_ms = 60000;
	step = take(&view);
	CHECK_STEP(step, FAILED, DONE, 3, 0, 0);
	CHECK_INT(step.reason, A67_REASON_NOT_WHOLE);
}

static void
nonsense_is_taken_as_the_nearest_sense(void)
{
	A67RolloutView view = {.kind = 99, .state = -1, .phase = 99, .step = -5, .weight = 1000};
	A67RolloutStep step = a67_rollout_step(&view);

	CHECK_INT(step.phase, A67_PHASE_DONE);
	view.phase = A67_PHASE_OBSERVE;
	view.step_count = 1000;
	view.step = INT32_MAX;
	view.new_side.replicas = INT32_MAX;
	view.old_side.total = INT32_MAX;
	step = a67_rollout_step(&view);
	CHECK(step.weight >= 0 && step.weight <= 100);
	CHECK(step.old_target >= 0 && step.new_target >= 0);
	CHECK_INT(a67_rollout_next((A67RolloutKind) 9, A67_PHASE_FILL), A67_PHASE_FILL);
	CHECK_STR(a67_rollout_phase_name((A67RolloutPhase) 99), NULL);
	CHECK_STR(a67_rollout_reason_name(A67_REASON_NOT_WHOLE), "not_whole");
	CHECK_STR(a67_rollout_kind_name(A67_ROLLOUT_CANARY), "canary");
	CHECK_STR(a67_rollout_order_name(A67_ORDER_PROMOTE), "promote");
	CHECK_INT(a67_rollout_kind_parse("blue-green"), -1);
	CHECK_INT(a67_rollout_order_parse("abort"), A67_ORDER_ABORT);
}

UNIT_MAIN("rollout", UNIT(documented_tables_are_the_code), UNIT(rolling_exchanges_one_by_one),
		  UNIT(rolling_may_do_with_less_instead_of_more),
		  UNIT(rolling_changes_the_number_on_the_way),
		  UNIT(recreate_has_none_before_the_first_new_one),
		  UNIT(recreate_goes_back_in_the_same_order), UNIT(blue_green_switches_when_all_are_tested),
		  UNIT(blue_green_leaves_blue_alone_when_green_fails), UNIT(canary_goes_step_by_step),
		  UNIT(requests_decide), UNIT(what_a_step_was_judged_by_is_said),
		  UNIT(health_decides_always), UNIT(without_automatic_rollback_it_stops),
		  UNIT(a_pause_holds_and_repairs), UNIT(rolling_goes_back_within_the_bounds),
		  UNIT(a_return_that_fails_ends), UNIT(nonsense_is_taken_as_the_nearest_sense));
