/*
 * history_test.c - numbers that fade: half-life, means, clocks that go back, reports that make no sense.
 */
#include "core/history.h"

#include "unit.h"

static void
history_halves_in_a_minute(void)
{
	A67History history = {0, 0, NAN, 0, 1000};

	CHECK_NEAR(a67_score_decay(0), 1, 0);
	CHECK_NEAR(a67_score_decay(-5), 1, 0);
	CHECK_NEAR(a67_score_decay(60000), 0.5, 1e-12);
	CHECK_NEAR(a67_score_decay(180000), 0.125, 1e-12);
	CHECK_NEAR(a67_score_decay(INT64_MAX), 0, 0);
	a67_history_add(&history, 1000, 100, 10, NAN);
	CHECK_NEAR(history.requests, 100, 0);
	CHECK(isnan(history.latency_ms));
	a67_history_add(&history, 61000, 50, 0, NAN);
	CHECK_NEAR(history.requests, 100, 1e-9);
	CHECK_NEAR(history.failures, 5, 1e-9);
	CHECK_INT(history.at_ms, 61000);
}

static void
latency_is_a_mean_that_fades(void)
{
	A67History history = {0, 0, NAN, 0, 1000};

	a67_history_add(&history, 1000, 30, 0, 100);
	CHECK_NEAR(history.latency_ms, 100, 1e-12);
	/* As many again, twice as slow. */
	a67_history_add(&history, 1000, 30, 0, 200);
	CHECK_NEAR(history.latency_ms, 150, 1e-12);
	/* A minute later the sixty count for thirty. */
	a67_history_add(&history, 61000, 30, 0, 50);
	CHECK_NEAR(history.latency_ms, 100, 1e-9);
	/* One observation without requests counts once; what is unknown or senseless does not. */
	a67_history_add(&history, 61000, 0, 0, 161);
	CHECK_NEAR(history.latency_ms, 101, 1e-9);
	a67_history_add(&history, 61000, 10, 0, NAN);
	a67_history_add(&history, 61000, 10, 0, -1);
	a67_history_add(&history, 61000, 10, 0, INFINITY);
	CHECK_NEAR(history.latency_ms, 101, 1e-9);
	/* After an hour the past is forgotten. */
	a67_history_add(&history, 3661000, 1, 0, 7);
	CHECK_NEAR(history.latency_ms, 7, 1e-6);
}

static void
senseless_history_is_left_out(void)
{
	A67History history = {10, 1, 5, 10, 1000};

	a67_history_add(&history, 1000, NAN, INFINITY, NAN);
	a67_history_add(&history, 1000, -5, -1, NAN);
	CHECK_NEAR(history.requests, 10, 0);
	CHECK_NEAR(history.failures, 1, 0);
	CHECK_NEAR(history.latency_ms, 5, 0);
}

static void
a_clock_that_goes_back_fades_nothing(void)
{
	A67History history = {100, 10, NAN, 0, 50000};

	a67_history_add(&history, 40000, 1, 1, NAN);
	CHECK_NEAR(history.requests, 101, 0);
	CHECK_NEAR(history.failures, 11, 0);
	CHECK_INT(history.at_ms, 50000);
	history.at_ms = INT64_MIN;
	a67_history_add(&history, INT64_MAX, 3, 2, NAN);
	CHECK_NEAR(history.requests, 3, 0);
	CHECK_NEAR(history.failures, 2, 0);
}

UNIT_MAIN("history", UNIT(history_halves_in_a_minute), UNIT(latency_is_a_mean_that_fades),
		  UNIT(senseless_history_is_left_out), UNIT(a_clock_that_goes_back_fades_nothing));
