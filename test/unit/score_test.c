/*
 * score_test.c - scores of nodes: values worked out by hand, monotony, broken and old reports,
 * weights, bounds.
 */
#include "core/score.h"

#include "core/pace.h"
#include "unit.h"

/* A view by which metrics of the present count for half a minute. */
static const A67ScoreView usual = {A67_SCORE_WEIGHTS_DEFAULT, 10000, 300, 600};

static double
score(const A67Candidate *candidate, A67ScoreParts *parts)
{
	return a67_score(candidate, &usual, parts);
}

static A67Candidate
idle(void)
{
	A67Candidate made = {.max_connections = 100, .metrics_at = 10000, .history_at = 10000};

	return made;
}

static void
an_idle_node_scores_one(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	CHECK_NEAR(score(&candidate, &parts), 1, 1e-12);
	CHECK_NEAR(parts.cpu, 1, 0);
	CHECK_NEAR(parts.memory, 1, 0);
	CHECK_NEAR(parts.latency, 1, 0);
	CHECK_NEAR(parts.connections, 1, 0);
	CHECK_NEAR(parts.reliability, 1, 0);
	CHECK(!parts.halved);
	CHECK(!parts.stale);
	CHECK_NEAR(score(&candidate, NULL), 1, 1e-12);
}

static void
worked_out_by_hand(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	candidate.cpu_percent = 40;
	candidate.memory_percent = 60;
	candidate.latency_ms = 125;
	candidate.active_connections = 20;
	candidate.requests = 1000;
	candidate.failures = 30;
	/* .30*.60 + .25*.40 + .20*.75 + .15*.80 + .10*.70 */
	CHECK_NEAR(score(&candidate, &parts), 0.62, 1e-12);
	CHECK_NEAR(parts.cpu, 0.6, 1e-12);
	CHECK_NEAR(parts.memory, 0.4, 1e-12);
	CHECK_NEAR(parts.latency, 0.75, 1e-12);
	CHECK_NEAR(parts.connections, 0.8, 1e-12);
	CHECK_NEAR(parts.reliability, 0.7, 1e-12);
}

static void
loaded_nodes_are_halved_once(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	candidate.cpu_percent = 80;
	candidate.memory_percent = 80;
	CHECK_NEAR(score(&candidate, &parts), 0.56, 1e-12);
	CHECK(!parts.halved);
	candidate.cpu_percent = 81;
	CHECK_NEAR(score(&candidate, &parts), (0.56 - 0.003) / 2, 1e-12);
	CHECK(parts.halved);
	candidate.memory_percent = 81;
	CHECK_NEAR(score(&candidate, NULL), (0.56 - 0.003 - 0.0025) / 2, 1e-12);
	candidate.cpu_percent = 10;
	score(&candidate, &parts);
	CHECK(parts.halved);
}

static void
limits_of_the_parts(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	candidate.cpu_percent = 250;
	candidate.memory_percent = 100;
	candidate.latency_ms = 500;
	candidate.active_connections = 300;
	candidate.requests = 1000;
	candidate.failures = 100;
	CHECK_NEAR(score(&candidate, &parts), 0, 0);
	candidate.latency_ms = 1e9F;
	candidate.max_connections = 0;
	score(&candidate, &parts);
	CHECK_NEAR(parts.latency, 0, 0);
	/* No limit known: connections tell nothing. */
	CHECK_NEAR(parts.connections, 1, 0);
	candidate.max_connections = 100;
	candidate.active_connections = A67_UNKNOWN_COUNT;
	score(&candidate, &parts);
	CHECK_NEAR(parts.connections, 0, 0);
}

static void
reliability_needs_a_hundred_requests(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	candidate.requests = 100;
	candidate.failures = 100;
	score(&candidate, &parts);
	CHECK_NEAR(parts.reliability, 1, 0);
	candidate.requests = 101;
	score(&candidate, &parts);
	CHECK_NEAR(parts.reliability, 0, 0);
	candidate.failures = 5.05F;
	score(&candidate, &parts);
	CHECK_NEAR(parts.reliability, 0.5, 1e-6);
	/* Fresh, 150 requests count; half a minute later 106 of them are left, after a minute 75. */
	candidate.requests = 150;
	candidate.failures = 150;
	candidate.history_at = usual.now - 300;
	score(&candidate, &parts);
	CHECK_NEAR(parts.reliability, 0, 0);
	candidate.history_at = usual.now - 600;
	score(&candidate, &parts);
	CHECK_NEAR(parts.reliability, 1, 0);
}

static void
metrics_that_are_too_old_help_nobody(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	candidate.metrics_at = usual.now - usual.metrics_life;
	CHECK_NEAR(score(&candidate, &parts), 1, 1e-12);
	candidate.metrics_at--;
	/* Reliability is all that is left of it, halved. */
	CHECK_NEAR(score(&candidate, &parts), 0.05, 1e-12);
	CHECK(parts.stale && parts.halved);
	CHECK_NEAR(a67_score_resource(&candidate, &usual), 0, 0);
	CHECK_NEAR(a67_score_connections(&candidate, &usual), 0, 0);
	candidate.metrics_at = 0;
	CHECK_NEAR(score(&candidate, &parts), 0.05, 1e-12);
	/* A clock that went back makes nothing old. */
	candidate.metrics_at = usual.now + 5000;
	CHECK_NEAR(score(&candidate, NULL), 1, 1e-12);
}

static void
other_strategies_look_at_less(void)
{
	A67Candidate candidate = idle();

	candidate.cpu_percent = 20;
	candidate.memory_percent = 60;
	candidate.latency_ms = 499;
	candidate.active_connections = 3;
	/* (.30*.80 + .25*.40) / .55 */
	CHECK_NEAR(a67_score_resource(&candidate, &usual), 0.34 / 0.55, 1e-12);
	candidate.memory_percent = 81;
	CHECK_NEAR(a67_score_resource(&candidate, &usual), (0.24 + 0.0475) / 0.55 / 2, 1e-9);
	CHECK_NEAR(a67_score_connections(&candidate, &usual), 0.25, 0);
	candidate.active_connections = 0;
	CHECK_NEAR(a67_score_connections(&candidate, &usual), 1, 0);
	candidate.active_connections = A67_UNKNOWN_COUNT;
	CHECK_NEAR(a67_score_connections(&candidate, &usual), 0, 0);
}

static void
weights_are_relative(void)
{
	static const A67ScoreWeights cpu_only = {5, 0, 0, 0, 0};
	static const A67ScoreWeights doubled = {.60, .50, .40, .30, .20};
	static const A67ScoreWeights broken = {NAN, -3, INFINITY, 0, 0};
	static const A67ScoreWeights partly = {NAN, -3, INFINITY, 0, 1};
	A67Candidate candidate = idle();
	A67ScoreView view = usual;

	candidate.cpu_percent = 30;
	candidate.latency_ms = 77;
	view.weights = a67_score_normalise(&cpu_only);
	CHECK_NEAR(a67_score(&candidate, &view, NULL), 0.7, 1e-7);
	view.weights = a67_score_normalise(&doubled);
	CHECK_NEAR(a67_score(&candidate, &view, NULL), score(&candidate, NULL), 1e-12);
	view.weights = a67_score_normalise(&broken);
	CHECK_NEAR(a67_score(&candidate, &view, NULL), 0, 0);
	CHECK_NEAR(a67_score_resource(&candidate, &view), 0, 0);
	view.weights = a67_score_normalise(&partly);
	CHECK_NEAR(a67_score(&candidate, &view, NULL), 1, 0);
}

static void
weights_are_read(void)
{
	A67ScoreWeights weights;
	char why[256];

	REQUIRE(a67_score_weights_parse(A67_SCORE_WEIGHTS_TEXT, &weights, why, sizeof(why)));
	CHECK_NEAR(weights.cpu, 0.30, 0);
	CHECK_NEAR(weights.memory, 0.25, 0);
	CHECK_NEAR(weights.latency, 0.20, 0);
	CHECK_NEAR(weights.connections, 0.15, 0);
	CHECK_NEAR(weights.reliability, 0.10, 0);
	REQUIRE(a67_score_weights_parse("  latency = 2 ,cpu=1", &weights, why, sizeof(why)));
	CHECK_NEAR(weights.latency, 2, 0);
	CHECK_NEAR(weights.cpu, 1, 0);
	CHECK_NEAR(weights.memory, 0, 0);
}

static void
wrong_weights_are_refused(void)
{
	static const char *const wrong[] = {
		"",
		"cpu",
		"cpu=",
		"cpu=x",
		"cpu=-1",
		"cpu=1001",
		"cpu=nan",
		"cpu=inf",
		"cpu=1,",
		"cpu=1 memory=1",
		"cpu=1,cpu=2",
		"disk=1",
		"cpu=0",
		"cpu=0,memory=0",
		"CPU=1",
		"cpu=0x10",
		"cpu=1e2",
		",cpu=1",
		"=1",
		"cpu==1",
		"cpu=1;2",
	};
	A67ScoreWeights weights;
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		char why[256] = "";

		CHECK(!a67_score_weights_parse(wrong[i], &weights, why, sizeof(why)));
		CHECK(strlen(why) > 10 && why[strlen(why) - 1] == '.');
	}
}

/*
 * Every number of a report in turn is broken in every way: the score stays in 0..1 and never
 * gains, and the bound stays above it.
 */
static void
broken_reports_never_win(void)
{
	static const float broken[] = {NAN, -1, -INFINITY, INFINITY, -1e38F, 1e38F};
	A67ScoreBounds bounds = a67_score_bounds(&usual.weights);
	size_t field;
	size_t i;

	for (field = 0; field < 5; field++)
	{
		for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		{
			A67Candidate candidate = idle();
			float *fields[] = {&candidate.cpu_percent, &candidate.memory_percent,
							   &candidate.latency_ms, &candidate.requests, &candidate.failures};
			bool harmless = field >= 3 && broken[i] > 0 && isfinite(broken[i]);
			double scored;

			*fields[field] = broken[i];
			scored = score(&candidate, NULL);
			CHECK(scored >= 0 && scored <= 1);
			CHECK(!(a67_score_bound(&candidate, &bounds) < (float) scored));
			/* Many requests without failures are good news; failures need 100 requests to tell. */
			CHECK(harmless || scored <= 0.91);
		}
	}
}

static A67Candidate
random_node(uint64_t *seed)
{
	A67Candidate candidate = idle();

	candidate.cpu_percent = (float) a67_random_below(seed, 1100) / 10;
	candidate.memory_percent = (float) a67_random_below(seed, 1000) / 10;
	candidate.latency_ms = (float) a67_random_below(seed, 600);
	candidate.active_connections = (uint32_t) a67_random_below(seed, 120);
	candidate.requests = 1000;
	candidate.failures = (float) a67_random_below(seed, 150);
	return candidate;
}

static void
less_load_never_scores_worse(void)
{
	uint64_t seed = 4;
	int i;

	for (i = 0; i < 20000; i++)
	{
		A67Candidate candidate = random_node(&seed);
		A67Candidate worse = candidate;

		switch (a67_random_below(&seed, 5))
		{
			case 0:
				worse.cpu_percent += 5;
				break;
			case 1:
				worse.memory_percent += 5;
				break;
			case 2:
				worse.latency_ms += 50;
				break;
			case 3:
				worse.active_connections += 10;
				break;
			default:
				worse.failures += 20;
		}
		CHECK(score(&worse, NULL) <= score(&candidate, NULL));
	}
}

static void
the_bound_is_never_below_the_score(void)
{
	A67ScoreView view = usual;
	uint64_t seed = 12;
	int i;

	for (i = 0; i < 50000; i++)
	{
		A67Candidate candidate = random_node(&seed);
		A67ScoreWeights weights = {(double) a67_random_below(&seed, 100),
								   (double) a67_random_below(&seed, 100),
								   (double) a67_random_below(&seed, 100),
								   (double) a67_random_below(&seed, 100), 1};
		A67ScoreBounds bounds;

		if (a67_random_below(&seed, 10) == 0)
			candidate.metrics_at = 0;
		if (a67_random_below(&seed, 10) == 0)
			candidate.failures = 0;
		view.weights = a67_score_normalise(&weights);
		bounds = a67_score_bounds(&view.weights);
		CHECK(a67_score_bound(&candidate, &bounds) >= (float) a67_score(&candidate, &view, NULL));
	}
}

UNIT_MAIN("score", UNIT(an_idle_node_scores_one), UNIT(worked_out_by_hand),
		  UNIT(loaded_nodes_are_halved_once), UNIT(limits_of_the_parts),
		  UNIT(reliability_needs_a_hundred_requests), UNIT(metrics_that_are_too_old_help_nobody),
		  UNIT(other_strategies_look_at_less), UNIT(weights_are_relative), UNIT(weights_are_read),
		  UNIT(wrong_weights_are_refused), UNIT(broken_reports_never_win),
		  UNIT(less_load_never_scores_worse), UNIT(the_bound_is_never_below_the_score));
