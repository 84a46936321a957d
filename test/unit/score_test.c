/*
 * score_test.c - the composite score: values worked out by hand, monotony, broken reports, fading.
 */
#include "core/score.h"

#include "core/pace.h"
#include "unit.h"

static A67Candidate
idle(void)
{
	A67Candidate made = {.max_connections = 100, .free_memory_bytes = 1 << 30, .free_cpu = 4};

	return made;
}

static void
an_idle_node_scores_one(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	CHECK_NEAR(a67_score(&candidate, NULL, &parts), 1, 1e-12);
	CHECK_NEAR(parts.cpu, 1, 0);
	CHECK_NEAR(parts.memory, 1, 0);
	CHECK_NEAR(parts.latency, 1, 0);
	CHECK_NEAR(parts.connections, 1, 0);
	CHECK_NEAR(parts.reliability, 1, 0);
	CHECK(!parts.halved);
	CHECK_NEAR(a67_score(&candidate, NULL, NULL), 1, 1e-12);
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
	CHECK_NEAR(a67_score(&candidate, NULL, &parts), 0.62, 1e-12);
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
	CHECK_NEAR(a67_score(&candidate, NULL, &parts), 0.56, 1e-12);
	CHECK(!parts.halved);
	candidate.cpu_percent = 81;
	CHECK_NEAR(a67_score(&candidate, NULL, &parts), (0.56 - 0.003) / 2, 1e-12);
	CHECK(parts.halved);
	candidate.memory_percent = 81;
	CHECK_NEAR(a67_score(&candidate, NULL, NULL), (0.56 - 0.003 - 0.0025) / 2, 1e-12);
	candidate.cpu_percent = 10;
	a67_score(&candidate, NULL, &parts);
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
	CHECK_NEAR(a67_score(&candidate, NULL, &parts), 0, 0);
	candidate.latency_ms = 1e9;
	candidate.max_connections = 0;
	a67_score(&candidate, NULL, &parts);
	CHECK_NEAR(parts.latency, 0, 0);
	/* No limit known: connections tell nothing. */
	CHECK_NEAR(parts.connections, 1, 0);
}

static void
reliability_needs_a_hundred_requests(void)
{
	A67Candidate candidate = idle();
	A67ScoreParts parts;

	candidate.requests = 100;
	candidate.failures = 100;
	a67_score(&candidate, NULL, &parts);
	CHECK_NEAR(parts.reliability, 1, 0);
	candidate.requests = 101;
	a67_score(&candidate, NULL, &parts);
	CHECK_NEAR(parts.reliability, 0, 0);
	candidate.failures = 5.05;
	a67_score(&candidate, NULL, &parts);
	CHECK_NEAR(parts.reliability, 0.5, 1e-12);
}

static void
weights_are_relative(void)
{
	static const A67ScoreWeights cpu_only = {5, 0, 0, 0, 0};
	static const A67ScoreWeights doubled = {.60, .50, .40, .30, .20};
	static const A67ScoreWeights broken = {NAN, -3, INFINITY, 0, 0};
	static const A67ScoreWeights partly = {NAN, -3, INFINITY, 0, 1};
	A67Candidate candidate = idle();

	candidate.cpu_percent = 30;
	candidate.latency_ms = 77;
	CHECK_NEAR(a67_score(&candidate, &cpu_only, NULL), 0.7, 1e-12);
	CHECK_NEAR(a67_score(&candidate, &doubled, NULL), a67_score(&candidate, NULL, NULL), 1e-12);
	CHECK_NEAR(a67_score(&candidate, &broken, NULL), 0, 0);
	CHECK_NEAR(a67_score(&candidate, &partly, NULL), 1, 0);
}

/*
 * Every number of a report in turn is broken in every way: the score stays in 0..1 and never
 * gains.
 */
static void
broken_reports_never_win(void)
{
	static const double broken[] = {NAN, -1, -INFINITY, INFINITY, -1e308, 1e308};
	size_t field;
	size_t i;

	for (field = 0; field < 5; field++)
	{
		for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		{
			A67Candidate candidate = idle();
			double *fields[] = {&candidate.cpu_percent, &candidate.memory_percent,
								&candidate.latency_ms, &candidate.requests, &candidate.failures};
			bool harmless = field >= 3 && broken[i] > 0 && isfinite(broken[i]);
			double score;

			*fields[field] = broken[i];
			score = a67_score(&candidate, NULL, NULL);
			CHECK(score >= 0 && score <= 1);
			/* Many requests without failures are good news; failures need 100 requests to tell. */
			CHECK(harmless || score <= 0.91);
		}
	}
}

static void
less_load_never_scores_worse(void)
{
	uint64_t seed = 4;
	int i;

	for (i = 0; i < 20000; i++)
	{
		A67Candidate candidate = idle();
		A67Candidate worse;

		candidate.cpu_percent = (double) a67_random_below(&seed, 100);
		candidate.memory_percent = (double) a67_random_below(&seed, 100);
		candidate.latency_ms = (double) a67_random_below(&seed, 600);
		candidate.active_connections = (uint32_t) a67_random_below(&seed, 120);
		candidate.requests = 1000;
		candidate.failures = (double) a67_random_below(&seed, 150);
		worse = candidate;
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
		CHECK(a67_score(&worse, NULL, NULL) <= a67_score(&candidate, NULL, NULL));
	}
}

static void
history_halves_in_a_minute(void)
{
	A67History history = {0, 0, 1000};

	CHECK_NEAR(a67_score_decay(0), 1, 0);
	CHECK_NEAR(a67_score_decay(-5), 1, 0);
	CHECK_NEAR(a67_score_decay(60000), 0.5, 1e-12);
	CHECK_NEAR(a67_score_decay(180000), 0.125, 1e-12);
	CHECK_NEAR(a67_score_decay(INT64_MAX), 0, 0);
	a67_history_add(&history, 1000, 100, 10);
	CHECK_NEAR(history.requests, 100, 0);
	a67_history_add(&history, 61000, 50, 0);
	CHECK_NEAR(history.requests, 100, 1e-9);
	CHECK_NEAR(history.failures, 5, 1e-9);
	CHECK_INT(history.at_ms, 61000);
}

static void
a_clock_that_goes_back_fades_nothing(void)
{
	A67History history = {100, 10, 50000};

	a67_history_add(&history, 40000, 1, 1);
	CHECK_NEAR(history.requests, 101, 0);
	CHECK_NEAR(history.failures, 11, 0);
	CHECK_INT(history.at_ms, 50000);
	history.at_ms = INT64_MIN;
	a67_history_add(&history, INT64_MAX, 3, 2);
	CHECK_NEAR(history.requests, 3, 0);
	CHECK_NEAR(history.failures, 2, 0);
}

UNIT_MAIN("score", UNIT(an_idle_node_scores_one), UNIT(worked_out_by_hand),
		  UNIT(loaded_nodes_are_halved_once), UNIT(limits_of_the_parts),
		  UNIT(reliability_needs_a_hundred_requests), UNIT(weights_are_relative),
		  UNIT(broken_reports_never_win), UNIT(less_load_never_scores_worse),
		  UNIT(history_halves_in_a_minute), UNIT(a_clock_that_goes_back_fades_nothing));
