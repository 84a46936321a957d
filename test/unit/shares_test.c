/*
 * shares_test.c - weights in proportion to shares: exact where they can be, near where not, nobody left out.
 */
#include "core/shares.h"

#include "unit.h"

static int weights[1000];

static void
round_up(const double *shares, size_t count)
{
	a67_shares_round(shares, weights, count);
}

static double
part(size_t index, size_t count)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += weights[i];
	return weights[index] / sum;
}

static void
small_numbers_where_they_are_exact(void)
{
	const double equal[] = {0.3, 0.3, 0.3};
	const double tenth[] = {45, 45, 10};
	const double third[] = {1, 3};

	round_up(equal, 3);
	CHECK(weights[0] == 1 && weights[1] == 1 && weights[2] == 1);
	round_up(tenth, 3);
	CHECK(weights[0] == 9 && weights[1] == 9 && weights[2] == 2);
	round_up(third, 2);
	CHECK(weights[0] == 1 && weights[1] == 3);
}

static void
near_where_they_are_not(void)
{
	for (int percent = 1; percent < 100; percent++)
	{
		double shares[6];

		for (int i = 0; i < 5; i++)
			shares[i] = (100 - percent) / 5.0;
		shares[5] = percent;
		round_up(shares, 6);
		CHECK(fabs(part(5, 6) - percent / 100.0) < 0.01);
		for (int i = 0; i < 6; i++)
			CHECK(weights[i] >= 1 && weights[i] <= A67_WEIGHT_MAX);
	}
}

static void
a_small_share_is_not_none(void)
{
	const double shares[] = {1e9, 1e-9, 0};

	round_up(shares, 3);
	CHECK_INT(weights[0], 256);
	CHECK_INT(weights[1], 1);
	CHECK_INT(weights[2], 0);
}

static void
what_is_no_share_gets_nothing(void)
{
	const double shares[] = {NAN, -1, INFINITY, -INFINITY, 0, 1e-320, 2};

	round_up(shares, 7);
	for (int i = 0; i < 6; i++)
		CHECK_INT(weights[i], 0);
	CHECK_INT(weights[6], 1);
	round_up(shares, 6);
	for (int i = 0; i < 6; i++)
		CHECK_INT(weights[i], 0);
	round_up(NULL, 0);
}

static void
extremes(void)
{
	static double shares[1000];

	for (int i = 0; i < 1000; i++)
		shares[i] = i % 2 ? 1e100 : 1e-100;
	round_up(shares, 1000);
	for (int i = 0; i < 1000; i++)
		CHECK(weights[i] >= 1 && weights[i] <= A67_WEIGHT_MAX);
}

UNIT_MAIN("shares", UNIT(small_numbers_where_they_are_exact), UNIT(near_where_they_are_not),
		  UNIT(a_small_share_is_not_none), UNIT(what_is_no_share_gets_nothing), UNIT(extremes));
