/*
 * placement_test.c - choosing nodes: resources are never promised twice, replicas spread over
 * nodes, regions and providers, degraded nodes come last, results are repeatable, shortages are
 * explained.
 */
#include "core/placement.h"

#include <time.h>

#include "core/pace.h"
#include "unit.h"

#define GIB	 (INT64_C(1) << 30)
#define MOST 1000

/*
 * count nodes with room for many replicas, alike but for id, in one region and with one
 * provider.
 */
static void
alike(A67Candidate *candidates, size_t count)
{
	size_t i;

	memset(candidates, 0, count * sizeof(*candidates));
	for (i = 0; i < count; i++)
	{
		candidates[i].id[0] = (uint8_t) (i >> 8);
		candidates[i].id[1] = (uint8_t) i;
		candidates[i].cpu_percent = 20;
		candidates[i].memory_percent = 20;
		candidates[i].max_connections = 100;
		candidates[i].free_memory_bytes = 64 * GIB;
		candidates[i].free_cpu = 64;
	}
}

static A67PlaceRequest
request(uint32_t count, int64_t memory_bytes, double cpu, uint64_t seed)
{
	A67PlaceRequest made = {count, memory_bytes, cpu, seed, NULL};

	return made;
}

static void
nothing_to_choose_from(void)
{
	A67PlaceRequest wanted = request(3, GIB, 1, 1);
	A67PlaceRequest none = request(0, GIB, 1, 1);
	A67PlaceResult result = a67_place(NULL, 0, &wanted, NULL);

	CHECK_UINT(result.placed, 0);
	CHECK_INT(result.shortage, A67_PLACE_NO_CANDIDATES);
	CHECK_INT(result.most_free_memory_bytes, 0);
	result = a67_place(NULL, 0, &none, NULL);
	CHECK_INT(result.shortage, A67_PLACE_COMPLETE);
}

static void
invalid_requests_are_refused(void)
{
	A67Candidate candidates[2];
	uint32_t chosen[4] = {7, 7, 7, 7};
	A67PlaceRequest invalid[] = {request(1, -1, 1, 1), request(1, 1, -1, 1), request(1, 1, NAN, 1),
								 request(A67_PLACE_MAX_COUNT + 1, 1, 1, 1)};
	A67PlaceRequest fine = request(1, 1, 1, 1);
	size_t i;

	alike(candidates, 2);
	for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		CHECK_INT(a67_place(candidates, 2, &invalid[i], chosen).shortage,
				  A67_PLACE_INVALID_REQUEST);
	CHECK_INT(a67_place(candidates, A67_PLACE_MAX_CANDIDATES + 1, &fine, chosen).shortage,
			  A67_PLACE_INVALID_REQUEST);
	CHECK_UINT(chosen[0], 7);
	CHECK_UINT(candidates[0].replicas_of_same + candidates[1].replicas_of_same, 0);
}

static void
promises_are_taken_off(void)
{
	A67Candidate candidates[3];
	A67PlaceRequest wanted = request(7, 2 * GIB, 0.5, 9);
	A67PlaceResult result;
	uint32_t chosen[7];
	uint32_t times[3] = {0};
	size_t i;

	alike(candidates, 3);
	result = a67_place(candidates, 3, &wanted, chosen);
	REQUIRE(result.placed == 7);
	CHECK_INT(result.shortage, A67_PLACE_COMPLETE);
	for (i = 0; i < 7; i++)
	{
		REQUIRE(chosen[i] < 3);
		times[chosen[i]]++;
	}
	for (i = 0; i < 3; i++)
	{
		CHECK(times[i] == 2 || times[i] == 3);
		CHECK_UINT(candidates[i].replicas_of_same, times[i]);
		CHECK_INT(candidates[i].free_memory_bytes, 64 * GIB - times[i] * 2 * GIB);
		CHECK_NEAR(candidates[i].free_cpu, 64 - 0.5 * times[i], 1e-9);
	}
}

/* 1.2 cores hold 0.4 three times, and 1 core holds 0.1 ten times, whatever floating point says. */
static void
room_is_used_to_the_last_bit(void)
{
	A67Candidate candidates[1];
	A67PlaceRequest wanted = request(11, GIB / 10, 0.1, 3);
	A67PlaceResult result;
	uint32_t chosen[11];

	alike(candidates, 1);
	candidates[0].free_cpu = 1;
	result = a67_place(candidates, 1, &wanted, chosen);
	CHECK_UINT(result.placed, 10);
	CHECK_INT(result.shortage, A67_PLACE_SHORT_OF_CPU);
	alike(candidates, 1);
	candidates[0].free_cpu = 1.2;
	wanted.cpu = 0.4;
	CHECK_UINT(a67_place(candidates, 1, &wanted, chosen).placed, 3);
	alike(candidates, 1);
	candidates[0].free_memory_bytes = GIB / 10 * 5;
	result = a67_place(candidates, 1, &wanted, chosen);
	CHECK_UINT(result.placed, 5);
	CHECK_INT(result.shortage, A67_PLACE_SHORT_OF_MEMORY);
	CHECK_INT(candidates[0].free_memory_bytes, 0);
}

static void
shortages_are_explained(void)
{
	A67Candidate candidates[2];
	A67PlaceRequest wanted = request(5, 4 * GIB, 2, 1);
	A67PlaceResult result;
	uint32_t chosen[5];

	alike(candidates, 2);
	candidates[0].free_memory_bytes = 3 * GIB;
	candidates[1].free_memory_bytes = GIB;
	result = a67_place(candidates, 2, &wanted, chosen);
	CHECK_INT(result.shortage, A67_PLACE_SHORT_OF_MEMORY);
	CHECK_UINT(result.placed, 0);
	CHECK_INT(result.most_free_memory_bytes, 3 * GIB);
	CHECK_NEAR(result.most_free_cpu, 64, 0);

	alike(candidates, 2);
	candidates[0].free_cpu = candidates[1].free_cpu = 1.5;
	result = a67_place(candidates, 2, &wanted, chosen);
	CHECK_INT(result.shortage, A67_PLACE_SHORT_OF_CPU);
	CHECK_NEAR(result.most_free_cpu, 1.5, 0);

	/* One has the memory, the other the cpu. */
	candidates[0].free_cpu = 64;
	candidates[0].free_memory_bytes = GIB;
	CHECK_INT(a67_place(candidates, 2, &wanted, chosen).shortage, A67_PLACE_SHORT_OF_BOTH);
	/* Neither has either; NaN and negative are no room. */
	candidates[0].free_cpu = NAN;
	candidates[1].free_memory_bytes = -1;
	CHECK_INT(a67_place(candidates, 2, &wanted, chosen).shortage, A67_PLACE_SHORT_OF_BOTH);

	alike(candidates, 2);
	candidates[0].free_cpu = 2;
	candidates[1].free_cpu = 5;
	result = a67_place(candidates, 2, &wanted, chosen);
	CHECK_UINT(result.placed, 3);
	CHECK_INT(result.shortage, A67_PLACE_SHORT_OF_CPU);
}

static void
shortages_have_names(void)
{
	CHECK_STR(a67_place_shortage_name(A67_PLACE_COMPLETE), "complete");
	CHECK_STR(a67_place_shortage_name(A67_PLACE_SHORT_OF_MEMORY), "short_of_memory");
	CHECK_STR(a67_place_shortage_name(A67_PLACE_OUT_OF_MEMORY), "out_of_memory");
	CHECK_STR(a67_place_shortage_name((A67PlaceShortage) 7), NULL);
	CHECK_STR(a67_place_shortage_name((A67PlaceShortage) -1), NULL);
}

static void
spreads_over_nodes_first(void)
{
	A67Candidate candidates[6];
	A67PlaceRequest wanted = request(6, GIB, 1, 5);
	uint32_t chosen[6];
	size_t i;

	alike(candidates, 6);
	/* Much better than the rest, which must not matter while others hold fewer. */
	candidates[2].cpu_percent = 0;
	candidates[4].replicas_of_same = 1;
	CHECK_UINT(a67_place(candidates, 6, &wanted, chosen).placed, 6);
	for (i = 0; i < 6; i++)
		CHECK(candidates[i].replicas_of_same <= 2 && candidates[i].replicas_of_same >= 1);
}

/* Regions 10 (four nodes), 20 (one), -30 (one): the first three replicas take one of each. */
static void
spreads_over_regions(void)
{
	uint64_t seed;

	for (seed = 0; seed < 50; seed++)
	{
		static const int32_t regions[] = {10, 10, 20, 10, -30, 10};
		A67Candidate candidates[6];
		A67PlaceRequest wanted = request(3, GIB, 1, seed);
		uint32_t chosen[3];
		size_t i;

		alike(candidates, 6);
		for (i = 0; i < 6; i++)
			candidates[i].region = regions[i];
		CHECK_UINT(a67_place(candidates, 6, &wanted, chosen).placed, 3);
		CHECK_UINT(candidates[2].replicas_of_same, 1);
		CHECK_UINT(candidates[4].replicas_of_same, 1);
	}
}

static void
spreads_over_providers(void)
{
	uint64_t seed;

	for (seed = 0; seed < 50; seed++)
	{
		A67Candidate candidates[5];
		A67PlaceRequest wanted = request(2, GIB, 1, seed);
		uint32_t chosen[2];

		alike(candidates, 5);
		candidates[3].provider = INT32_MAX;
		CHECK_UINT(a67_place(candidates, 5, &wanted, chosen).placed, 2);
		CHECK_UINT(candidates[3].replicas_of_same, 1);
	}
}

/* A region that already holds replicas is avoided even by its empty node. */
static void
counts_replicas_that_are_there(void)
{
	A67Candidate candidates[3];
	A67PlaceRequest wanted = request(1, GIB, 1, 2);
	uint32_t chosen[1];

	alike(candidates, 3);
	candidates[0].replicas_of_same = 2;
	candidates[2].region = 1;
	CHECK_UINT(a67_place(candidates, 3, &wanted, chosen).placed, 1);
	CHECK_UINT(chosen[0], 2);
}

static void
degraded_nodes_come_last(void)
{
	A67Candidate candidates[3];
	A67PlaceRequest wanted = request(4, GIB, 1, 8);
	uint32_t chosen[4];

	alike(candidates, 3);
	candidates[0].degraded = candidates[2].degraded = true;
	candidates[1].free_cpu = 2;
	CHECK_UINT(a67_place(candidates, 3, &wanted, chosen).placed, 4);
	CHECK_UINT(chosen[0], 1);
	CHECK_UINT(chosen[1], 1);
	CHECK(chosen[2] != 1 && chosen[3] != 1);
	CHECK(chosen[2] != chosen[3]);
}

/*
 * How often each of count nodes gets the first replica, over 300 seeds; node i has i percent
 * cpu.
 */
static void
count_first_choices(size_t count, unsigned *times)
{
	uint64_t seed;

	for (seed = 0; seed < 300; seed++)
	{
		A67Candidate candidates[12];
		A67PlaceRequest wanted = request(1, GIB, 1, seed);
		uint32_t chosen[1] = {0};
		size_t i;

		alike(candidates, count);
		for (i = 0; i < count; i++)
			candidates[i].cpu_percent = (double) i;
		CHECK_UINT(a67_place(candidates, count, &wanted, chosen).placed, 1);
		times[chosen[0]]++;
	}
}

static void
chance_is_among_the_best_third_at_most_three(void)
{
	static const size_t counts[] = {1, 3, 4, 6, 7, 9, 12};
	static const size_t widths[] = {1, 1, 2, 2, 3, 3, 3};
	size_t round;

	for (round = 0; round < sizeof(counts) / sizeof(counts[0]); round++)
	{
		unsigned times[12] = {0};
		size_t i;

		count_first_choices(counts[round], times);
		for (i = 0; i < counts[round]; i++)
		{
			if (i < widths[round])
				CHECK(times[i] > 300 / widths[round] / 2);
			else
				CHECK_UINT(times[i], 0);
		}
	}
}

static void
same_seed_same_choice_in_any_order(void)
{
	A67Candidate candidates[40];
	A67PlaceRequest wanted = request(25, GIB, 1, 77);
	uint8_t want[25];
	uint32_t chosen[25];
	uint64_t seed = 6;
	int round;
	size_t i;

	for (round = 0; round < 20; round++)
	{
		alike(candidates, 40);
		for (i = 0; i < 40; i++)
		{
			candidates[i].region = (int32_t) (i % 4);
			candidates[i].provider = (int32_t) (i % 3);
			candidates[i].cpu_percent = (double) (i / 8);
		}
		for (i = 39; i > 0 && round > 0; i--)
		{
			size_t j = a67_random_below(&seed, i + 1);
			A67Candidate kept = candidates[i];

			candidates[i] = candidates[j];
			candidates[j] = kept;
		}
		REQUIRE(a67_place(candidates, 40, &wanted, chosen).placed == 25);
		for (i = 0; i < 25; i++)
		{
			if (round == 0)
				want[i] = candidates[chosen[i]].id[1];
			CHECK_UINT(candidates[chosen[i]].id[1], want[i]);
		}
	}
}

/* Random clouds: nothing is promised twice, and a shortage is reported only where there is one. */
static void
random_clouds_stay_within_room(void)
{
	uint64_t seed = 31;
	int round;

	for (round = 0; round < 2000; round++)
	{
		A67Candidate candidates[12];
		A67Candidate before[12];
		size_t n = a67_random_below(&seed, 13);
		A67PlaceRequest wanted =
			request((uint32_t) a67_random_below(&seed, 30),
					(int64_t) a67_random_below(&seed, 3 * GIB),
					(double) a67_random_below(&seed, 30) / 10, (uint64_t) round);
		uint32_t chosen[30];
		A67PlaceResult result;
		uint64_t placed = 0;
		size_t i;

		alike(candidates, n);
		for (i = 0; i < n; i++)
		{
			candidates[i].free_memory_bytes = (int64_t) a67_random_below(&seed, 8 * GIB);
			candidates[i].free_cpu = (double) a67_random_below(&seed, 80) / 10;
			candidates[i].degraded = a67_random_below(&seed, 4) == 0;
			candidates[i].region = (int32_t) a67_random_below(&seed, 3);
		}
		memcpy(before, candidates, sizeof(before));
		result = a67_place(candidates, n, &wanted, chosen);
		CHECK((result.shortage == A67_PLACE_COMPLETE) == (result.placed == wanted.count));
		for (i = 0; i < n; i++)
		{
			uint32_t here = candidates[i].replicas_of_same;

			placed += here;
			CHECK(candidates[i].free_memory_bytes >= 0);
			CHECK(candidates[i].free_cpu >= -1e-6);
			CHECK_INT(candidates[i].free_memory_bytes,
					  before[i].free_memory_bytes - here * wanted.memory_bytes);
			if (result.shortage != A67_PLACE_COMPLETE)
				CHECK(candidates[i].free_memory_bytes < wanted.memory_bytes ||
					  candidates[i].free_cpu < wanted.cpu);
		}
		CHECK_UINT(placed, result.placed);
	}
}

/* A thousand nodes, a hundred placements: milliseconds, even under the sanitizers. */
static void
a_thousand_nodes_are_quick(void)
{
	static A67Candidate candidates[MOST];
	A67PlaceRequest wanted = request(100, GIB, 1, 1);
	uint32_t chosen[100];
	clock_t started;
	size_t i;

	alike(candidates, MOST);
	for (i = 0; i < MOST; i++)
	{
		candidates[i].region = (int32_t) (i % 7);
		candidates[i].cpu_percent = (double) (i * 37 % 80);
	}
	started = clock();
	CHECK_UINT(a67_place(candidates, MOST, &wanted, chosen).placed, 100);
	CHECK((double) (clock() - started) / CLOCKS_PER_SEC < 0.5);
	for (i = 0; i < MOST; i++)
		CHECK(candidates[i].replicas_of_same <= 1);
}

UNIT_MAIN("placement", UNIT(nothing_to_choose_from), UNIT(invalid_requests_are_refused),
		  UNIT(promises_are_taken_off), UNIT(room_is_used_to_the_last_bit),
		  UNIT(shortages_are_explained), UNIT(shortages_have_names), UNIT(spreads_over_nodes_first),
		  UNIT(spreads_over_regions), UNIT(spreads_over_providers),
		  UNIT(counts_replicas_that_are_there), UNIT(degraded_nodes_come_last),
		  UNIT(chance_is_among_the_best_third_at_most_three),
		  UNIT(same_seed_same_choice_in_any_order), UNIT(random_clouds_stay_within_room),
		  UNIT(a_thousand_nodes_are_quick));
