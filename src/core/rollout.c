/*
 * rollout.c - the rollout state machine's tables and the one step over them; see rollout.h.
 *
 * A step asks three things in this order: does something speak against the new release (judge),
 * is there what the phase waits for (arrived), how many replicas of each release does the phase
 * want (targets). The tables are the policy of orders and phases: change them together with
 * docs/states.md (a test compares them).
 */
#include "rollout.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const kind_names[A67_ROLLOUT_KINDS] = {
	"rolling",
	"recreate",
	"blue_green",
	"canary",
};

static const char *const state_names[A67_ROLLOUT_STATES] = {
	"running", "paused", "rolling_back", "succeeded", "rolled_back", "aborted", "failed",
};

static const char *const phase_names[A67_ROLLOUT_PHASES] = {
	"start", "replace", "drain", "fill", "test", "observe", "restore", "done",
};

static const char *const order_names[A67_ROLLOUT_ORDERS] = {"pause", "resume", "abort", "promote"};

static const char *const reason_names[A67_ROLLOUT_REASONS] = {
	"none",		"failures", "deadline",		"test",		   "errors",	"latency",
	"restarts", "requests", "few_requests", "health_only", "not_whole",
};

/* clang-format off */

/* The next phase when what a phase waits for is there; a phase that a strategy has not leads to itself. */
static const A67RolloutPhase next_phase[A67_ROLLOUT_KINDS][A67_ROLLOUT_PHASES] = {
	[A67_ROLLOUT_ROLLING] = {
		[A67_PHASE_START] = A67_PHASE_REPLACE,
		[A67_PHASE_REPLACE] = A67_PHASE_DONE,
		[A67_PHASE_DRAIN] = A67_PHASE_DRAIN,
		[A67_PHASE_FILL] = A67_PHASE_FILL,
		[A67_PHASE_TEST] = A67_PHASE_TEST,
		[A67_PHASE_OBSERVE] = A67_PHASE_OBSERVE,
		[A67_PHASE_RESTORE] = A67_PHASE_DONE,
		[A67_PHASE_DONE] = A67_PHASE_DONE,
	},
	[A67_ROLLOUT_RECREATE] = {
		[A67_PHASE_START] = A67_PHASE_DRAIN,
		[A67_PHASE_REPLACE] = A67_PHASE_REPLACE,
		[A67_PHASE_DRAIN] = A67_PHASE_FILL,
		[A67_PHASE_FILL] = A67_PHASE_TEST,
		[A67_PHASE_TEST] = A67_PHASE_DONE,
		[A67_PHASE_OBSERVE] = A67_PHASE_OBSERVE,
		[A67_PHASE_RESTORE] = A67_PHASE_DONE,
		[A67_PHASE_DONE] = A67_PHASE_DONE,
	},
	[A67_ROLLOUT_BLUE_GREEN] = {
		[A67_PHASE_START] = A67_PHASE_FILL,
		[A67_PHASE_REPLACE] = A67_PHASE_REPLACE,
		[A67_PHASE_DRAIN] = A67_PHASE_DRAIN,
		[A67_PHASE_FILL] = A67_PHASE_TEST,
		[A67_PHASE_TEST] = A67_PHASE_OBSERVE,
		[A67_PHASE_OBSERVE] = A67_PHASE_DONE,
		[A67_PHASE_RESTORE] = A67_PHASE_DONE,
		[A67_PHASE_DONE] = A67_PHASE_DONE,
	},
	/* From observe to fill with the next step, to done after the last. */
	[A67_ROLLOUT_CANARY] = {
		[A67_PHASE_START] = A67_PHASE_FILL,
		[A67_PHASE_REPLACE] = A67_PHASE_REPLACE,
		[A67_PHASE_DRAIN] = A67_PHASE_DRAIN,
		[A67_PHASE_FILL] = A67_PHASE_TEST,
		[A67_PHASE_TEST] = A67_PHASE_OBSERVE,
		[A67_PHASE_OBSERVE] = A67_PHASE_FILL,
		[A67_PHASE_RESTORE] = A67_PHASE_DONE,
		[A67_PHASE_DONE] = A67_PHASE_DONE,
	},
};

#define REFUSED A67_ROLLOUT_STATES

/* Where an order leads. */
static const int order_leads[A67_ROLLOUT_STATES][A67_ROLLOUT_ORDERS] = {
	[A67_ROLLOUT_RUNNING] = {
		[A67_ORDER_PAUSE] = A67_ROLLOUT_PAUSED,
		[A67_ORDER_RESUME] = A67_ROLLOUT_RUNNING,
		[A67_ORDER_ABORT] = A67_ROLLOUT_ROLLING_BACK,
		[A67_ORDER_PROMOTE] = A67_ROLLOUT_RUNNING,
	},
	[A67_ROLLOUT_PAUSED] = {
		[A67_ORDER_PAUSE] = A67_ROLLOUT_PAUSED,
		[A67_ORDER_RESUME] = A67_ROLLOUT_RUNNING,
		[A67_ORDER_ABORT] = A67_ROLLOUT_ROLLING_BACK,
		[A67_ORDER_PROMOTE] = A67_ROLLOUT_RUNNING,
	},
	[A67_ROLLOUT_ROLLING_BACK] = {REFUSED, REFUSED, A67_ROLLOUT_ROLLING_BACK, REFUSED},
	[A67_ROLLOUT_SUCCEEDED] = {REFUSED, REFUSED, REFUSED, REFUSED},
	[A67_ROLLOUT_ROLLED_BACK] = {REFUSED, REFUSED, REFUSED, REFUSED},
	[A67_ROLLOUT_ABORTED] = {REFUSED, REFUSED, REFUSED, REFUSED},
	[A67_ROLLOUT_FAILED] = {REFUSED, REFUSED, REFUSED, REFUSED},
};
/* clang-format on */

static int32_t
clamp(int64_t value, int32_t least, int32_t most)
{
	return (int32_t) (value < least ? least : value > most ? most : value);
}

static int32_t
larger(int32_t a, int32_t b)
{
	return a > b ? a : b;
}

static int32_t
smaller(int32_t a, int32_t b)
{
	return a < b ? a : b;
}

static A67RolloutKind
kind_of(const A67RolloutView *view)
{
	return (A67RolloutKind) clamp(view->kind, 0, A67_ROLLOUT_KINDS - 1);
}

/* ---- shares --------------------------------------------------------------------------------- */

/* The percentage of a step; behind the last one, and of a promoted rollout, all of it. */
static int32_t
share(const A67RolloutView *view, int32_t step)
{
	int32_t count = clamp(view->step_count, 0, A67_ROLLOUT_STEPS_MAX);

	if (view->promoted || step >= count)
		return 100;
	return step < 0 ? 0 : clamp(view->steps[step], 0, 100);
}

/* New replicas that are wanted while the phases FILL, TEST and OBSERVE last: enough for the share. */
static int32_t
filled(const A67RolloutView *view, int32_t step)
{
	int64_t replicas = view->new_side.replicas;

	if (kind_of(view) != A67_ROLLOUT_CANARY)
		return (int32_t) replicas;
	return (int32_t) ((replicas * share(view, step) + 99) / 100);
}

/* The share of requests that all replicas give the new ones when each gets as many as any other. */
static int32_t
even_weight(const A67RolloutView *view)
{
	int64_t all = (int64_t) view->old_side.ready + view->new_side.ready;

	return all > 0 ? (int32_t) (100 * (int64_t) view->new_side.ready / all) : 0;
}

/* Of canary and blue_green: raised when as many new replicas are ready as the share asks for. */
static int32_t
switched_weight(const A67RolloutView *view, const A67RolloutStep *step)
{
	bool canary = kind_of(view) == A67_ROLLOUT_CANARY;

	switch (step->phase)
	{
		case A67_PHASE_OBSERVE:
			if (view->new_side.ready < filled(view, step->step))
				return clamp(view->weight, 0, 100);
			return canary ? share(view, step->step) : 100;
		case A67_PHASE_FILL:
		case A67_PHASE_TEST:
			return clamp(view->weight, 0, 100);
		case A67_PHASE_RESTORE:
			/* Only while nothing else could answer. */
			if (view->old_side.ready == 0 && view->new_side.ready > 0)
				return clamp(view->weight, 0, 100);
			return 0;
		default:
			return 0;
	}
}

static int32_t
weight_of(const A67RolloutView *view, const A67RolloutStep *step)
{
	if (step->phase == A67_PHASE_DONE)
		return step->state == A67_ROLLOUT_SUCCEEDED ? 100 : 0;
	if (kind_of(view) == A67_ROLLOUT_ROLLING || kind_of(view) == A67_ROLLOUT_RECREATE)
		return even_weight(view);
	return switched_weight(view, step);
}

/* ---- targets -------------------------------------------------------------------------------- */

typedef struct Bounds
{
	int32_t lower; /* as many must serve */
	int32_t upper; /* no more may be there */
} Bounds;

static Bounds
bounds_of(const A67RolloutView *view)
{
	int32_t least = smaller(view->old_side.replicas, view->new_side.replicas);
	int32_t most = larger(view->old_side.replicas, view->new_side.replicas);
	int32_t unavailable = larger(view->unavailable, 0);
	int32_t surge = larger(view->surge, 0);
	Bounds bounds;

	/* With neither nothing could ever move. */
	if (surge == 0 && unavailable == 0)
		surge = 1;
	bounds.lower = larger(least - unavailable, 0);
	bounds.upper = most + surge;
	return bounds;
}

/*
 * Exchanges replicas: as many come as there is room for, as many go as others serve in their place.
 * Whoever takes the surplus away must take what does not serve first.
 */
static void
exchange(const A67RolloutView *view, const A67RolloutSide *going, const A67RolloutSide *coming,
		 int32_t *going_target, int32_t *coming_target)
{
	Bounds bounds = bounds_of(view);
	int64_t room = (int64_t) bounds.upper - going->total - (coming->total - coming->wanted);

	*coming_target = clamp(room, smaller(coming->wanted, coming->replicas), coming->replicas);
	*going_target = clamp((int64_t) bounds.lower - coming->ready, 0, going->wanted);
}

/* Nothing new is begun; what is lost of either is made good. */
static void
hold(const A67RolloutView *view, A67RolloutStep *step)
{
	const A67RolloutSide *old_side = &view->old_side;
	const A67RolloutSide *new_side = &view->new_side;
	int32_t most = larger(old_side->replicas, new_side->replicas);
	int32_t needed = larger(bounds_of(view).lower - new_side->ready, 0);

	step->new_target = smaller(new_side->wanted, new_side->replicas);
	step->old_target = clamp(larger(most - step->new_target, needed), 0, old_side->replicas);
}

static void
restore(const A67RolloutView *view, A67RolloutStep *step)
{
	const A67RolloutSide *old_side = &view->old_side;
	const A67RolloutSide *new_side = &view->new_side;

	step->old_target = old_side->replicas;
	step->new_target = 0;
	switch (kind_of(view))
	{
		case A67_ROLLOUT_ROLLING:
			exchange(view, new_side, old_side, &step->new_target, &step->old_target);
			break;
		case A67_ROLLOUT_RECREATE:
			if (new_side->total > 0)
				step->old_target = smaller(old_side->wanted, old_side->replicas);
			break;
		default:
			/* Better the new ones than none. */
			if (old_side->ready == 0 && old_side->replicas > 0 && new_side->ready > 0)
				step->new_target = smaller(new_side->wanted, new_side->replicas);
	}
}

static void
targets(const A67RolloutView *view, A67RolloutStep *step)
{
	step->old_target = view->old_side.replicas;
	step->new_target = 0;
	switch (step->phase)
	{
		case A67_PHASE_START:
			break;
		case A67_PHASE_REPLACE:
			if (step->state == A67_ROLLOUT_PAUSED)
				hold(view, step);
			else
				exchange(view, &view->old_side, &view->new_side, &step->old_target,
						 &step->new_target);
			break;
		case A67_PHASE_DRAIN:
			step->old_target = 0;
			break;
		case A67_PHASE_FILL:
		case A67_PHASE_TEST:
		case A67_PHASE_OBSERVE:
			if (kind_of(view) == A67_ROLLOUT_RECREATE)
				step->old_target = 0;
			step->new_target = filled(view, step->step);
			break;
		case A67_PHASE_RESTORE:
			restore(view, step);
			break;
		case A67_PHASE_DONE:
			if (step->state == A67_ROLLOUT_SUCCEEDED)
			{
				step->old_target = 0;
				step->new_target = view->new_side.replicas;
			}
			break;
	}
}

/* Grows as the phase comes forward: what the reconciler measures idleness by. */
static int32_t
progress(const A67RolloutView *view, A67RolloutPhase phase)
{
	bool back = phase == A67_PHASE_RESTORE;
	const A67RolloutSide *going = back ? &view->new_side : &view->old_side;
	const A67RolloutSide *coming = back ? &view->old_side : &view->new_side;

	return clamp((int64_t) coming->ready + larger(going->replicas - going->total, 0), 0, INT32_MAX);
}

/* ---- verdicts ------------------------------------------------------------------------------- */

static double
failed_percent(const A67RolloutSide *side)
{
	return side->requests > 0 ? 100.0 * side->failures / side->requests : 0.0;
}

/* What requests say against the new release. */
static A67RolloutReason
judge_requests(const A67RolloutView *view)
{
	const A67RolloutSide *new_side = &view->new_side;
	const A67RolloutSide *old_side = &view->old_side;
	int32_t enough = larger(view->min_requests, 1);
	bool comparable = old_side->requests >= enough;
	double usual = comparable ? failed_percent(old_side) : 0.0;

	if (!view->counted || new_side->requests < enough)
		return A67_REASON_NONE;
	/* Written so that NaN speaks against it. */
	if (!(failed_percent(new_side) - usual <= view->max_error_rate))
		return A67_REASON_ERRORS;
	if (comparable && !(new_side->latency_ms <= old_side->latency_ms * view->max_latency_ratio ||
						new_side->latency_ms <= old_side->latency_ms + A67_ROLLOUT_LATENCY_MS))
		return A67_REASON_LATENCY;
	return A67_REASON_NONE;
}

/* How long the phase may go on without progress. */
static int64_t
patience(const A67RolloutView *view)
{
	int64_t most = larger(view->deadline_ms, 0);

	if (view->phase == A67_PHASE_OBSERVE && !view->promoted)
		most += larger(view->observe_ms, 0);
	return most;
}

/* What speaks against the new release; NONE: nothing. */
static A67RolloutReason
judge(const A67RolloutView *view)
{
	if (view->failures >= A67_ROLLOUT_FAILURES_MAX)
		return A67_REASON_FAILURES;
	if (view->phase == A67_PHASE_TEST && view->test == A67_TEST_FAILED && !view->promoted)
		return A67_REASON_TEST;
	if (view->phase == A67_PHASE_OBSERVE && !view->promoted)
	{
		A67RolloutReason reason = judge_requests(view);

		if (view->sick > 0 || view->restarts >= A67_ROLLOUT_RESTARTS_MAX)
			return A67_REASON_RESTARTS;
		if (reason != A67_REASON_NONE)
			return reason;
	}
	if (view->state == A67_ROLLOUT_RUNNING && view->idle_ms >= patience(view))
		return A67_REASON_DEADLINE;
	return A67_REASON_NONE;
}

/* By what a release was judged that nothing speaks against. */
static A67RolloutReason
basis(const A67RolloutView *view)
{
	if (view->promoted)
		return A67_REASON_NONE;
	if (!view->counted)
		return A67_REASON_HEALTH_ONLY;
	return view->new_side.requests < larger(view->min_requests, 1) ? A67_REASON_FEW_REQUESTS
																   : A67_REASON_REQUESTS;
}

/* ---- the step ------------------------------------------------------------------------------- */

static bool
back_again(const A67RolloutView *view)
{
	return view->new_side.wanted == 0 && view->old_side.ready >= view->old_side.replicas;
}

/* Whether there is what the phase waits for. */
static bool
arrived(const A67RolloutView *view)
{
	bool ready = view->new_side.ready >= filled(view, view->step);

	switch ((A67RolloutPhase) view->phase)
	{
		case A67_PHASE_START:
			return true;
		case A67_PHASE_REPLACE:
			return view->old_side.wanted == 0 && ready;
		case A67_PHASE_DRAIN:
			return view->old_side.total == 0;
		case A67_PHASE_FILL:
			return ready;
		case A67_PHASE_TEST:
			return ready && (view->promoted || view->step > 0 || view->test == A67_TEST_NONE ||
							 view->test == A67_TEST_PASSED);
		case A67_PHASE_OBSERVE:
			return ready && (view->promoted || view->phase_ms >= view->observe_ms);
		case A67_PHASE_RESTORE:
			return back_again(view);
		case A67_PHASE_DONE:
			break;
	}
	return false;
}

/* To the next phase; from the last one to the end. */
static void
advance(const A67RolloutView *view, A67RolloutStep *step)
{
	bool more = kind_of(view) == A67_ROLLOUT_CANARY && step->phase == A67_PHASE_OBSERVE;

	if (step->phase == A67_PHASE_OBSERVE)
		step->reason = basis(view);
	if (more && share(view, step->step) >= 100)
		step->phase = A67_PHASE_DONE;
	else
		step->phase = a67_rollout_next(kind_of(view), step->phase);
	if (step->phase == A67_PHASE_DONE)
		step->state = A67_ROLLOUT_SUCCEEDED;
	else if (more)
		step->step++;
}

static void
go_back(const A67RolloutView *view, A67RolloutStep *step)
{
	step->phase = A67_PHASE_RESTORE;
	if (view->phase != A67_PHASE_RESTORE)
		return;
	if (arrived(view))
		step->state = view->aborted ? A67_ROLLOUT_ABORTED : A67_ROLLOUT_ROLLED_BACK;
	else if (view->idle_ms >= patience(view))
	{
		step->state = A67_ROLLOUT_FAILED;
		step->reason = A67_REASON_NOT_WHOLE;
	}
	if (a67_rollout_final(step->state))
		step->phase = A67_PHASE_DONE;
}

static void
go_on(const A67RolloutView *view, A67RolloutStep *step)
{
	A67RolloutReason against = judge(view);

	if (against != A67_REASON_NONE && !view->auto_rollback)
	{
		/* Said once: a paused rollout stays as it is. */
		step->reason = step->state == A67_ROLLOUT_RUNNING ? against : A67_REASON_NONE;
		step->state = A67_ROLLOUT_PAUSED;
	}
	else if (against != A67_REASON_NONE)
	{
		step->state = A67_ROLLOUT_ROLLING_BACK;
		step->phase = A67_PHASE_RESTORE;
		step->reason = against;
	}
	else if (step->state == A67_ROLLOUT_RUNNING && arrived(view))
		advance(view, step);
}

A67RolloutStep
a67_rollout_step(const A67RolloutView *view)
{
	A67RolloutStep step = {
		.state = (A67RolloutState) clamp(view->state, 0, A67_ROLLOUT_STATES - 1),
		.phase = (A67RolloutPhase) clamp(view->phase, 0, A67_ROLLOUT_PHASES - 1),
		.step = clamp(view->step, 0, A67_ROLLOUT_STEPS_MAX),
		.weight = clamp(view->weight, 0, 100),
	};

	if (step.state == A67_ROLLOUT_ROLLING_BACK)
		go_back(view, &step);
	else if (!a67_rollout_final(step.state))
		go_on(view, &step);
	targets(view, &step);
	step.weight = weight_of(view, &step);
	step.progress = progress(view, step.phase);
	return step;
}

A67RolloutPhase
a67_rollout_next(A67RolloutKind kind, A67RolloutPhase phase)
{
	if ((unsigned) kind >= A67_ROLLOUT_KINDS || (unsigned) phase >= A67_ROLLOUT_PHASES)
		return phase;
	return next_phase[kind][phase];
}

bool
a67_rollout_order(A67RolloutState state, A67RolloutOrder order, A67RolloutState *next)
{
	if ((unsigned) state >= A67_ROLLOUT_STATES || (unsigned) order >= A67_ROLLOUT_ORDERS ||
		order_leads[state][order] == REFUSED)
		return false;
	*next = (A67RolloutState) order_leads[state][order];
	return true;
}

bool
a67_rollout_final(A67RolloutState state)
{
	return state >= A67_ROLLOUT_SUCCEEDED;
}

/* ---- names ---------------------------------------------------------------------------------- */

static const char *
name_of(const char *const *names, int count, int number)
{
	return number >= 0 && number < count ? names[number] : NULL;
}

static int
parse(const char *const *names, int count, const char *name)
{
	int i;

	for (i = 0; i < count; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return -1;
}

#define NAMES(what, Type, count)                          \
	const char *a67_rollout_##what##_name(Type value)     \
	{                                                     \
		return name_of(what##_names, count, (int) value); \
	}
#define PARSE(what, count)                           \
	int a67_rollout_##what##_parse(const char *name) \
	{                                                \
		return parse(what##_names, count, name);     \
	}

NAMES(kind, A67RolloutKind, A67_ROLLOUT_KINDS)
NAMES(state, A67RolloutState, A67_ROLLOUT_STATES)
NAMES(phase, A67RolloutPhase, A67_ROLLOUT_PHASES)
NAMES(order, A67RolloutOrder, A67_ROLLOUT_ORDERS)
NAMES(reason, A67RolloutReason, A67_ROLLOUT_REASONS)
PARSE(kind, A67_ROLLOUT_KINDS)
PARSE(state, A67_ROLLOUT_STATES)
PARSE(phase, A67_ROLLOUT_PHASES)
PARSE(order, A67_ROLLOUT_ORDERS)
