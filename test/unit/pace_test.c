/*
 * pace_test.c - deadlines at the edges of the type, the generator's known sequence, back-off
 * bounds.
 */
#include "core/pace.h"

#include "unit.h"

static void
deadlines_count_down(void)
{
	int64_t deadline = a67_deadline_in(1000, 250);

	CHECK_INT(deadline, 1250);
	CHECK_INT(a67_deadline_left(deadline, 1000), 250);
	CHECK(!a67_deadline_expired(deadline, 1249));
	CHECK(a67_deadline_expired(deadline, 1250));
	CHECK_INT(a67_deadline_left(deadline, 5000), 0);
	CHECK(a67_deadline_expired(deadline, 5000));
	CHECK_INT(a67_deadline_in(1000, 0), 1000);
	CHECK_INT(a67_deadline_in(1000, -5), 1000);
	CHECK_INT(a67_deadline_min(3, 4), 3);
	CHECK_INT(a67_deadline_min(4, 3), 3);
	CHECK_INT(a67_deadline_min(4, A67_NEVER), 4);
}

static void
deadlines_saturate(void)
{
	CHECK_INT(a67_deadline_in(1, A67_NEVER), A67_NEVER);
	CHECK_INT(a67_deadline_in(INT64_MAX - 1, 10), A67_NEVER);
	CHECK_INT(a67_deadline_in(INT64_MIN, INT64_MAX), -1);
	CHECK_INT(a67_deadline_in(INT64_MAX, INT64_MIN), INT64_MAX);
	CHECK_INT(a67_deadline_left(A67_NEVER, INT64_MAX), A67_NEVER);
	CHECK(!a67_deadline_expired(A67_NEVER, INT64_MAX));
	CHECK_INT(a67_deadline_left(INT64_MAX - 1, INT64_MIN), A67_NEVER);
	CHECK_INT(a67_deadline_left(INT64_MIN, INT64_MAX), 0);
	CHECK_INT(a67_deadline_left(5, -5), 10);
}

static void
timeouts_fit_poll(void)
{
	CHECK_INT(a67_deadline_timeout(A67_NEVER, 0), -1);
	CHECK_INT(a67_deadline_timeout(100, 40), 60);
	CHECK_INT(a67_deadline_timeout(100, 400), 0);
	CHECK_INT(a67_deadline_timeout(INT64_MAX - 1, 0), INT32_MAX);
	CHECK_INT(a67_deadline_timeout((int64_t) INT32_MAX, 0), INT32_MAX);
}

/* The published sequence of splitmix64 from seed 1234567. */
static void
random_sequence_is_splitmix64(void)
{
	static const uint64_t want[] = {
		UINT64_C(6457827717110365317),	UINT64_C(3203168211198807973),
		UINT64_C(9817491932198370423),	UINT64_C(4593380528125082431),
		UINT64_C(16408922859458223821),
	};
	uint64_t state = 1234567;
	size_t i;

	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		CHECK_UINT(a67_random_next(&state), want[i]);
}

static void
random_below_stays_below_and_reaches_all(void)
{
	uint64_t state = 1;
	unsigned drawn[7] = {0};
	int i;

	CHECK_UINT(a67_random_below(&state, 0), 0);
	CHECK_UINT(a67_random_below(&state, 1), 0);
	for (i = 0; i < 7000; i++)
	{
		uint64_t number = a67_random_below(&state, 7);

		REQUIRE(number < 7);
		drawn[number]++;
	}
	for (i = 0; i < 7; i++)
		CHECK(drawn[i] > 850 && drawn[i] < 1150);
	/* Just above half of the range nearly every other draw is rejected; the loop must still end. */
	for (i = 0; i < 1000; i++)
		CHECK(a67_random_below(&state, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
}

static void
backoff_stays_between_base_and_cap(void)
{
	uint64_t seed;

	for (seed = 0; seed < 200; seed++)
	{
		A67Backoff backoff;
		int64_t before = 100;
		int i;

		a67_backoff_init(&backoff, 100, 5000, seed);
		for (i = 0; i < 50; i++)
		{
			int64_t delay = a67_backoff_next(&backoff);

			CHECK(delay >= 100 && delay <= 5000);
			CHECK(delay <= before * 3);
			before = delay;
		}
	}
}

static void
backoff_grows_and_spreads(void)
{
	int64_t early = 0;
	int64_t late = 0;
	int64_t lowest = INT64_MAX;
	int64_t highest = 0;
	uint64_t seed;

	for (seed = 0; seed < 1000; seed++)
	{
		A67Backoff backoff;
		int64_t delay;
		int i;

		a67_backoff_init(&backoff, 100, 300000, seed);
		delay = a67_backoff_next(&backoff);
		early += delay;
		lowest = delay < lowest ? delay : lowest;
		highest = delay > highest ? delay : highest;
		for (i = 0; i < 20; i++)
			late += a67_backoff_next(&backoff) / 20;
	}
	CHECK(late > early * 10);
	CHECK(lowest < 110 && highest > 290);
}

static void
backoff_is_repeatable_and_resets(void)
{
	A67Backoff one;
	A67Backoff two;
	int i;

	a67_backoff_init(&one, 10, 100000, 42);
	a67_backoff_init(&two, 10, 100000, 42);
	for (i = 0; i < 20; i++)
		CHECK_INT(a67_backoff_next(&one), a67_backoff_next(&two));
	a67_backoff_reset(&one);
	CHECK(a67_backoff_next(&one) <= 30);
}

static void
backoff_accepts_any_numbers(void)
{
	static const int64_t odd[] = {INT64_MIN, -1, 0, 1, 2, INT64_MAX / 3, INT64_MAX - 1, INT64_MAX};
	const size_t count = sizeof(odd) / sizeof(odd[0]);
	size_t base;
	size_t cap;
	size_t prev;

	for (base = 0; base < count; base++)
	{
		for (cap = 0; cap < count; cap++)
		{
			for (prev = 0; prev < count; prev++)
			{
				/* Filled in by hand, past init. */
				A67Backoff backoff = {odd[base], odd[cap], odd[prev], base * 64 + cap * 8 + prev};
				int64_t least = odd[base] > 0 ? odd[base] : 1;
				int64_t most = odd[cap] > least ? odd[cap] : least;
				int64_t delay = a67_backoff_next(&backoff);

				CHECK(delay >= least && delay <= most);
			}
		}
	}
}

UNIT_MAIN("pace", UNIT(deadlines_count_down), UNIT(deadlines_saturate), UNIT(timeouts_fit_poll),
		  UNIT(random_sequence_is_splitmix64), UNIT(random_below_stays_below_and_reaches_all),
		  UNIT(backoff_stays_between_base_and_cap), UNIT(backoff_grows_and_spreads),
		  UNIT(backoff_is_repeatable_and_resets), UNIT(backoff_accepts_any_numbers));
