/*
 * strategy_test.c - what each strategy looks at, and what is left to chance.
 */
#include "core/geo.h"
#include "placement_fixture.h"

static void
strategies(void)
{
	static const A67PlaceDistance distances[] = {{10, 9000}, {20, 100}, {30, 100}};
	A67PlaceRequest wanted = request(1, GIB, 1000, 1);
	uint32_t i;

	alike(3);
	cloud.nodes[0].latency_ms = 400;
	cloud.nodes[0].cpu_percent = 1;
	cloud.nodes[0].active_connections = 5;
	cloud.nodes[1].active_connections = 9;
	cloud.nodes[2].cpu_percent = cloud.nodes[2].memory_percent = 70;
	cloud.nodes[2].active_connections = 4;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 1);
	wanted.strategy = A67_STRATEGY_RESOURCE;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 0);
	wanted.strategy = A67_STRATEGY_LEAST_CONNECTIONS;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 2);
	CHECK_NEAR(chosen[0].score, 0.2, 1e-7);
	/* Equals of the nearest place by their composite score. */
	for (i = 0; i < 3; i++)
		cloud.traits[i].region = 10 + 10 * i;
	wanted.strategy = A67_STRATEGY_GEOGRAPHIC;
	wanted.distances = distances;
	wanted.distance_count = 3;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 1);
	CHECK_NEAR(chosen[0].score, 1 - 100 / A67_GEO_FARTHEST_KM, 1e-6);
	/* A region that nobody knows is the farthest. */
	cloud.nodes[1].flags = cloud.nodes[2].flags = 0;
	cloud.traits[0].region = 99;
	CHECK_INT(place(&wanted), 1);
	CHECK_NEAR(chosen[0].score, 0, 0);
}

static void
round_robin_takes_turns(void)
{
	A67PlaceRequest wanted = request(1, GIB, 1000, 1);
	uint32_t turn = 0;
	uint32_t round;

	alike(5);
	cloud.nodes[1].flags = 0;
	cloud.nodes[3].cpu_percent = 99;
	wanted.strategy = A67_STRATEGY_ROUND_ROBIN;
	for (round = 0; round < 8; round++)
	{
		static const uint32_t order[] = {0, 2, 3, 4};

		wanted.turn = turn;
		CHECK_INT(place(&wanted), 1);
		CHECK_UINT(chosen[0].index, order[round % 4]);
		turn = chosen[0].index + 1;
	}
	wanted.count = 3;
	wanted.turn = 3;
	CHECK_INT(place(&wanted), 3);
	CHECK_UINT(chosen[0].index, 3);
	CHECK_UINT(chosen[1].index, 4);
	CHECK_UINT(chosen[2].index, 0);
}

static void
strategies_have_names(void)
{
	A67Strategy strategy;

	CHECK(a67_strategy_parse("round_robin", &strategy));
	CHECK_INT(strategy, A67_STRATEGY_ROUND_ROBIN);
	CHECK_STR(a67_strategy_name(A67_STRATEGY_GEOGRAPHIC), "geographic");
	CHECK_STR(a67_strategy_name((A67Strategy) 5), NULL);
	CHECK(!a67_strategy_parse("random", &strategy));
	CHECK(!a67_strategy_parse("", &strategy));
}

/* How often each of n nodes gets the replica, over 300 seeds; node i has i percent cpu. */
static void
count_first_choices(uint32_t n, bool marked, unsigned *times)
{
	uint64_t seed;

	for (seed = 0; seed < 300; seed++)
	{
		A67PlaceRequest wanted = request(1, GIB, 1000, seed);
		uint32_t i;

		alike(n);
		for (i = 0; i < n; i++)
			cloud.nodes[i].cpu_percent = (float) i;
		/* Something to mark, so that the general case runs. */
		if (marked)
			mark(MOST)->avoided = true;
		REQUIRE(place(&wanted) == 1);
		times[chosen[0].index]++;
	}
}

static void
chance_is_among_the_best_third_at_most_three(void)
{
	static const uint32_t counts[] = {1, 3, 4, 6, 7, 9, 12};
	static const uint32_t widths[] = {1, 1, 2, 2, 3, 3, 3};
	size_t round;

	for (round = 0; round < 2 * sizeof(counts) / sizeof(counts[0]); round++)
	{
		uint32_t n = counts[round / 2];
		uint32_t width = widths[round / 2];
		unsigned times[12] = {0};
		uint32_t i;

		count_first_choices(n, round % 2 == 1, times);
		for (i = 0; i < n; i++)
		{
			if (i < width)
				CHECK(times[i] > 300 / width / 2);
			else
				CHECK_UINT(times[i], 0);
		}
	}
}

/* Nodes of one score are not taken in the order of their ids. */
static void
equals_share_the_load(void)
{
	unsigned times[12] = {0};
	uint64_t seed;
	uint32_t i;

	alike(12);
	for (seed = 0; seed < 1200; seed++)
	{
		A67PlaceRequest wanted = request(1, GIB, 1000, seed);

		REQUIRE(place(&wanted) == 1);
		times[chosen[0].index]++;
	}
	for (i = 0; i < 12; i++)
		CHECK(times[i] > 50);
}

UNIT_MAIN("strategy", UNIT(strategies), UNIT(round_robin_takes_turns), UNIT(strategies_have_names),
		  UNIT(chance_is_among_the_best_third_at_most_three), UNIT(equals_share_the_load));
