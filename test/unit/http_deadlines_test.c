/*
 * http_deadlines_test.c - the heap of deadlines against a plain array that does the same slowly.
 */
#include "unit.h"

#include "core/http/deadlines.h"
#include "core/pace.h"

#define TIMERS 64

static void
the_nearest_comes_first(void)
{
	A67HttpDeadlines d;
	A67HttpTimer t[3] = {{0}};

	REQUIRE(a67_http_deadlines_init(&d, 3));
	CHECK_INT(a67_http_deadlines_next(&d), A67_NEVER);
	CHECK(a67_http_deadlines_pop(&d, A67_NEVER - 1) == NULL);
	a67_http_deadlines_set(&d, &t[0], 30);
	a67_http_deadlines_set(&d, &t[1], 10);
	a67_http_deadlines_set(&d, &t[2], 20);
	CHECK_INT(a67_http_deadlines_next(&d), 10);
	CHECK(a67_http_deadlines_pop(&d, 9) == NULL);
	CHECK(a67_http_deadlines_pop(&d, 20) == &t[1]);
	CHECK(a67_http_deadlines_pop(&d, 20) == &t[2]);
	CHECK(a67_http_deadlines_pop(&d, 20) == NULL);
	/* Earlier takes effect at once, never takes it away. */
	a67_http_deadlines_set(&d, &t[0], 25);
	CHECK_INT(a67_http_deadlines_next(&d), 25);
	a67_http_deadlines_set(&d, &t[0], A67_NEVER);
	CHECK(a67_http_deadlines_pop(&d, 1000) == NULL);
	CHECK_UINT(d.count, 0);
	a67_http_deadlines_remove(&d, &t[0]);
	a67_http_deadlines_free(&d);
}

/* Random settings, removals and passing time; every pop must be due, nothing due may be left. */
static void
it_agrees_with_a_plain_array(void)
{
	A67HttpDeadlines d;
	A67HttpTimer t[TIMERS] = {{0}};
	int64_t want[TIMERS];
	uint64_t seed = 67;
	int64_t now = 0;
	int round;
	int i;

	REQUIRE(a67_http_deadlines_init(&d, TIMERS));
	for (i = 0; i < TIMERS; i++)
		want[i] = A67_NEVER;
	for (round = 0; round < 20000; round++)
	{
		uint64_t what = a67_random_below(&seed, 10);
		A67HttpTimer *popped;

		i = (int) a67_random_below(&seed, TIMERS);
		if (what < 7)
			want[i] = what == 0 ? A67_NEVER : now + 1 + (int64_t) a67_random_below(&seed, 500);
		if (what < 7)
			a67_http_deadlines_set(&d, &t[i], want[i]);
		else if (what == 7)
		{
			want[i] = A67_NEVER;
			a67_http_deadlines_remove(&d, &t[i]);
		}
		else
			now += (int64_t) a67_random_below(&seed, 40);
		while ((popped = a67_http_deadlines_pop(&d, now)) != NULL)
		{
			CHECK(want[popped - t] <= now);
			want[popped - t] = A67_NEVER;
		}
		for (i = 0; i < TIMERS; i++)
			CHECK(want[i] > now &&
				  (want[i] == A67_NEVER || a67_http_deadlines_next(&d) <= want[i]));
	}
	a67_http_deadlines_free(&d);
}

static void
it_grows_and_never_overflows(void)
{
	A67HttpDeadlines d;
	A67HttpTimer t[3] = {{0}};

	REQUIRE(a67_http_deadlines_init(&d, 1));
	a67_http_deadlines_set(&d, &t[0], 10);
	a67_http_deadlines_set(&d, &t[1], 5);
	CHECK_UINT(d.count, 1);
	REQUIRE(a67_http_deadlines_grow(&d, 2));
	a67_http_deadlines_set(&d, &t[1], 5);
	a67_http_deadlines_set(&d, &t[2], 1);
	CHECK_UINT(d.count, 2);
	CHECK(a67_http_deadlines_pop(&d, 10) == &t[1]);
	CHECK(a67_http_deadlines_pop(&d, 10) == &t[0]);
	CHECK(a67_http_deadlines_pop(&d, 10) == NULL);
	a67_http_deadlines_free(&d);
}

UNIT_MAIN("http_deadlines", UNIT(the_nearest_comes_first), UNIT(it_agrees_with_a_plain_array),
		  UNIT(it_grows_and_never_overflows));
