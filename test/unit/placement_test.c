/*
 * placement_test.c - choosing nodes: filters, resources that are never promised twice, spread over
 * nodes, regions and providers, tiers, shortages, and speed.
 */
#include <time.h>

#include "core/pace.h"
#include "placement_fixture.h"

static A67PlaceReport
explain(const A67PlaceRequest *wanted, int placed)
{
	A67Candidates candidates = candidates_of_cloud(wanted);
	A67PlaceReport report;

	a67_place_explain(&candidates, wanted, chosen, placed, &report);
	return report;
}

/* How many of the first `count` choices fell on each node. */
static void
count_choices(int count, uint32_t *times)
{
	int i;

	memset(times, 0, cloud.n * sizeof(*times));
	for (i = 0; i < count; i++)
	{
		if (chosen[i].index < cloud.n)
			times[chosen[i].index]++;
	}
}

static void
nothing_to_choose_from(void)
{
	A67PlaceRequest wanted = request(3, GIB, 1000, 1);
	A67PlaceRequest none = request(0, GIB, 1000, 1);

	alike(0);
	CHECK_INT(place(&wanted), 0);
	alike(3);
	CHECK_INT(place(&none), 0);
}

/* Each of them is out for one reason; only the last one is in, for one replica and for several. */
static void
filters(void)
{
	static const uint64_t labels[] = {11, 22};
	A67PlaceRequest wanted = request(1, GIB, 1000, 1);
	uint32_t round;

	for (round = 1; round <= 2; round++)
	{
		alike(10);
		cloud.nodes[0].owner = OWNER + 1;
		cloud.nodes[1].flags = A67_NODE_PLACEABLE;
		cloud.nodes[2].flags = A67_NODE_USED | A67_NODE_ACTIVE;
		cloud.nodes[3].services = 2;
		cloud.nodes[4].free_memory_bytes = GIB - 1;
		cloud.nodes[5].free_cpu_milli = 999;
		cloud.nodes[6].free_disk_bytes = -1;
		cloud.traits[8].label_count = 1;
		cloud.traits[8].labels[0] = 11;
		cloud.traits[9].label_count = 3;
		cloud.traits[9].labels[0] = 22;
		cloud.traits[9].labels[1] = 33;
		cloud.traits[9].labels[2] = 11;
		wanted.count = round;
		wanted.services = 1;
		wanted.labels = labels;
		wanted.label_count = 2;
		CHECK_INT(place(&wanted), (int) round);
		CHECK_UINT(chosen[0].index, 9);
		wanted.label_count = 0;
		cloud.nodes[9].owner = 0;
		cloud.nodes[8].flags = 0;
		CHECK_INT(place(&wanted), (int) round);
		CHECK_UINT(chosen[0].index, 7);
		mark(7)->excluded = true;
		CHECK_INT(place(&wanted), 0);
	}
}

static void
promises_are_taken_off(void)
{
	A67PlaceRequest wanted = request(7, 2 * GIB, 500, 9);
	uint32_t times[3];
	uint32_t i;

	alike(3);
	REQUIRE(place(&wanted) == 7);
	count_choices(7, times);
	for (i = 0; i < 3; i++)
		CHECK(times[i] == 2 || times[i] == 3);
}

/* What fits is used to the last bit, and no further. */
static void
room_is_used_up(void)
{
	A67PlaceRequest wanted = request(11, GIB / 10, 100, 3);

	alike(1);
	cloud.nodes[0].free_cpu_milli = 1000;
	CHECK_INT(place(&wanted), 10);
	alike(1);
	cloud.nodes[0].free_memory_bytes = GIB / 10 * 5;
	CHECK_INT(place(&wanted), 5);
	alike(1);
	cloud.nodes[0].free_disk_bytes = 29;
	wanted.disk_bytes = 10;
	CHECK_INT(place(&wanted), 2);
	/* Sizes whose multiples overflow. */
	alike(1);
	cloud.nodes[0].free_memory_bytes = INT64_MAX;
	wanted = request(5, INT64_MAX / 2, 0, 3);
	CHECK_INT(place(&wanted), 2);
	wanted = request(5, 0, 0, 3);
	CHECK_INT(place(&wanted), 5);
}

static void
spreads_over_nodes_first(void)
{
	A67PlaceRequest wanted = request(6, GIB, 1000, 5);
	uint32_t times[6];
	uint32_t i;

	alike(6);
	/* Much better than the rest, which must not matter while others hold fewer. */
	cloud.nodes[2].cpu_percent = 0;
	mark(4)->replicas = 1;
	REQUIRE(place(&wanted) == 6);
	count_choices(6, times);
	CHECK(times[4] <= 1);
	for (i = 0; i < 6; i++)
		CHECK(times[i] <= 2 && (i == 4 || times[i] >= 1));
}

/* Regions 10 (four nodes), 20 (one), 30 (one): the first three replicas take one of each. */
static void
spreads_over_regions(void)
{
	static const uint64_t regions[] = {10, 10, 20, 10, 30, 10};
	uint64_t seed;

	for (seed = 0; seed < 50; seed++)
	{
		A67PlaceRequest wanted = request(3, GIB, 1000, seed);
		uint32_t times[6];
		uint32_t i;

		alike(6);
		for (i = 0; i < 6; i++)
			cloud.traits[i].region = regions[i];
		REQUIRE(place(&wanted) == 3);
		count_choices(3, times);
		CHECK_UINT(times[2], 1);
		CHECK_UINT(times[4], 1);
	}
}

static void
spreads_over_providers(void)
{
	uint64_t seed;

	for (seed = 0; seed < 50; seed++)
	{
		A67PlaceRequest wanted = request(2, GIB, 1000, seed);

		alike(5);
		cloud.traits[3].provider = UINT64_MAX;
		REQUIRE(place(&wanted) == 2);
		CHECK((chosen[0].index == 3) != (chosen[1].index == 3));
	}
}

/* A region that holds replicas is avoided even by its empty node, also when they are on a full one. */
static void
counts_replicas_that_are_there(void)
{
	A67PlaceRequest wanted = request(1, GIB, 1000, 2);

	alike(3);
	mark(0)->replicas = 2;
	cloud.traits[2].region = 1;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 2);
	cloud.nodes[0].free_memory_bytes = 0;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 2);
	/* Marks of nodes that are not there count for nothing. */
	mark(MOST + 5)->replicas = 9;
	CHECK_INT(place(&wanted), 1);
}

/* Worst: degraded, avoided or silent and near its quota; then these; then near its quota alone. */
static void
tiers(void)
{
	A67PlaceRequest wanted = request(6, GIB, 1000, 8);

	alike(6);
	cloud.nodes[0].flags |= A67_NODE_LAST;
	cloud.nodes[1].flags |= A67_NODE_NEAR_QUOTA;
	cloud.nodes[2].flags |= A67_NODE_LAST | A67_NODE_NEAR_QUOTA;
	cloud.nodes[3].metrics_at = NOW - 601;
	mark(4)->avoided = true;
	cloud.nodes[5].cpu_percent = 79;
	wanted.memory_bytes = 64 * GIB;
	REQUIRE(place(&wanted) == 6);
	CHECK_UINT(chosen[0].index, 5);
	CHECK_UINT(chosen[0].penalties, 0);
	CHECK_UINT(chosen[1].index, 1);
	CHECK_UINT(chosen[1].penalties, A67_PENALTY_NEAR_QUOTA);
	CHECK_UINT(chosen[5].index, 2);
	CHECK_UINT(chosen[5].penalties, A67_PENALTY_DEGRADED | A67_PENALTY_NEAR_QUOTA);
	CHECK_UINT(chosen[2].penalties | chosen[3].penalties | chosen[4].penalties,
			   A67_PENALTY_DEGRADED | A67_PENALTY_SILENT | A67_PENALTY_AVOIDED);
	/* One at a time, in one pass, the same order. */
	cloud.mark_count = 0;
	wanted.count = 1;
	cloud.nodes[5].flags = 0;
	cloud.nodes[4].flags = 0;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 1);
	cloud.nodes[1].flags = 0;
	CHECK_INT(place(&wanted), 1);
	CHECK(chosen[0].index == 0 || chosen[0].index == 3);
	cloud.nodes[0].flags = cloud.nodes[3].flags = 0;
	CHECK_INT(place(&wanted), 1);
	CHECK_UINT(chosen[0].index, 2);
}

/* Shuffles the nodes. */
static void
shuffle(uint64_t *seed)
{
	uint32_t i;

	for (i = cloud.n - 1; i > 0; i--)
	{
		uint32_t j = (uint32_t) a67_random_below(seed, i + 1);
		A67Candidate node = cloud.nodes[i];
		A67Traits traits = cloud.traits[i];

		cloud.nodes[i] = cloud.nodes[j];
		cloud.traits[i] = cloud.traits[j];
		cloud.nodes[j] = node;
		cloud.traits[j] = traits;
	}
}

static void
same_seed_same_choice_in_any_order(void)
{
	uint64_t seed = 6;
	int round;

	for (round = 0; round < 40; round++)
	{
		int count = round % 2 == 0 ? 25 : 1;
		A67PlaceRequest wanted = request((uint32_t) count, GIB, 1000, 77);
		uint8_t want[25];
		uint32_t i;

		alike(40);
		for (i = 0; i < 40; i++)
		{
			cloud.traits[i].region = i % 4;
			cloud.traits[i].provider = i % 3;
			cloud.nodes[i].cpu_percent = (float) (i / 8);
		}
		REQUIRE(place(&wanted) == count);
		for (i = 0; i < (uint32_t) count; i++)
			want[i] = cloud.traits[chosen[i].index].id[1];
		shuffle(&seed);
		REQUIRE(place(&wanted) == count);
		for (i = 0; i < (uint32_t) count; i++)
			CHECK_UINT(cloud.traits[chosen[i].index].id[1], want[i]);
	}
}

static void
random_cloud(uint64_t *seed)
{
	uint32_t i;

	alike((uint32_t) a67_random_below(seed, 13));
	for (i = 0; i < cloud.n; i++)
	{
		cloud.nodes[i].free_memory_bytes = (int64_t) a67_random_below(seed, 8 * GIB) - GIB / 2;
		cloud.nodes[i].free_cpu_milli = (int32_t) a67_random_below(seed, 8000);
		cloud.nodes[i].cpu_percent = a67_random_below(seed, 5) == 0 ? NAN : 3;
		if (a67_random_below(seed, 4) == 0)
			cloud.nodes[i].flags |= A67_NODE_LAST;
		cloud.traits[i].region = a67_random_below(seed, 3);
		cloud.traits[i].provider = a67_random_below(seed, 2);
		if (a67_random_below(seed, 4) == 0)
			mark(i)->replicas = (uint32_t) a67_random_below(seed, 3);
	}
}

/* Nothing is promised twice, and a shortage is reported only where there is one. */
static void
random_clouds_stay_within_room(void)
{
	uint64_t seed = 31;
	int round;

	for (round = 0; round < 3000; round++)
	{
		A67PlaceRequest wanted = request((uint32_t) a67_random_below(&seed, 30),
										 (int64_t) a67_random_below(&seed, 3 * GIB),
										 (int32_t) a67_random_below(&seed, 3000), (uint64_t) round);
		uint32_t times[13];
		int placed;
		uint32_t i;

		random_cloud(&seed);
		placed = place(&wanted);
		REQUIRE(placed >= 0 && placed <= (int) wanted.count);
		count_choices(placed, times);
		for (i = 0; i < cloud.n; i++)
		{
			int64_t memory = cloud.nodes[i].free_memory_bytes - times[i] * wanted.memory_bytes;
			int64_t cpu = cloud.nodes[i].free_cpu_milli - (int64_t) times[i] * wanted.cpu_milli;

			CHECK(times[i] == 0 || (memory >= 0 && cpu >= 0));
			if (placed < (int) wanted.count)
				CHECK(memory < wanted.memory_bytes || cpu < wanted.cpu_milli);
		}
	}
}

/* A scan that skips by the bounds chooses as one that looks at every node. */
static void
bounds_change_nothing(void)
{
	uint64_t seed = 5;
	int round;

	for (round = 0; round < 2000; round++)
	{
		A67PlaceRequest wanted = request(1, GIB, 100, (uint64_t) round);
		A67PlaceChoice plain;
		uint32_t i;
		int placed;

		alike((uint32_t) a67_random_below(&seed, 200));
		for (i = 0; i < cloud.n; i++)
		{
			A67Candidate *node = &cloud.nodes[i];

			node->cpu_percent = (float) a67_random_below(&seed, 120);
			node->memory_percent = a67_random_below(&seed, 20) == 0 ? NAN : 30;
			node->latency_ms = (float) a67_random_below(&seed, 600);
			node->requests = (float) a67_random_below(&seed, 300);
			node->failures = (float) a67_random_below(&seed, 10);
			node->active_connections = (uint32_t) a67_random_below(&seed, 100);
			if (a67_random_below(&seed, 10) == 0)
				node->flags |= A67_NODE_LAST;
			if (a67_random_below(&seed, 10) == 0)
				node->metrics_at = NOW - 400;
			if (a67_random_below(&seed, 3) == 0)
				node->owner = OWNER + 1;
		}
		placed = place(&wanted);
		plain = chosen[0];
		cloud.bounded = true;
		REQUIRE(place(&wanted) == placed);
		if (placed == 1)
			CHECK_UINT(chosen[0].index, plain.index);
	}
}

static void
shortages_are_explained(void)
{
	A67PlaceRequest wanted = request(5, 4 * GIB, 2000, 1);
	A67PlaceReport report;

	alike(9);
	wanted.services = 1;
	cloud.nodes[0].owner = OWNER + 1;
	cloud.nodes[1].flags = A67_NODE_USED | A67_NODE_ACTIVE;
	cloud.nodes[1].status = A67_NODE_FAILED;
	cloud.nodes[2].flags = A67_NODE_USED;
	cloud.nodes[3].services = 2;
	mark(4)->excluded = true;
	cloud.nodes[5].free_memory_bytes = 3 * GIB;
	cloud.nodes[6].free_cpu_milli = 1500;
	cloud.nodes[7].free_memory_bytes = 2 * GIB;
	cloud.nodes[7].free_cpu_milli = 1;
	cloud.nodes[8].flags = 0;
	CHECK_INT(place(&wanted), 0);
	report = explain(&wanted, 0);
	CHECK_UINT(report.nodes, 7);
	CHECK_UINT(report.by_status[A67_NODE_FAILED], 1);
	CHECK_UINT(report.inactive, 1);
	CHECK_UINT(report.service, 1);
	CHECK_UINT(report.excluded, 1);
	CHECK_UINT(report.labels, 0);
	CHECK_UINT(report.left, 3);
	CHECK_UINT(report.memory, 2);
	CHECK_UINT(report.cpu, 2);
	CHECK_UINT(report.disk, 0);
	CHECK_INT(report.most_free_memory_bytes, 64 * GIB);
	CHECK_INT(report.most_free_cpu_milli, 64000);
	/* What was placed is not free any more. */
	wanted = request(40, 4 * GIB, 2000, 1);
	CHECK_INT(place(&wanted), 16);
	report = explain(&wanted, 16);
	CHECK_UINT(report.memory, 3);
	CHECK_UINT(report.cpu, 2);
	CHECK_INT(report.most_free_cpu_milli, 64000);
}

/* A thousand nodes, a thousand placements: milliseconds, even under the sanitizers. */
static void
a_thousand_nodes_are_quick(void)
{
	A67PlaceRequest wanted = request(1000, GIB, 1000, 1);
	uint32_t times[MOST];
	clock_t started;
	uint32_t i;

	alike(MOST);
	for (i = 0; i < MOST; i++)
	{
		cloud.traits[i].region = i % 7;
		cloud.traits[i].provider = i % 5;
		cloud.nodes[i].cpu_percent = (float) (i * 37 % 80);
	}
	started = clock();
	CHECK_INT(place(&wanted), 1000);
	CHECK((double) (clock() - started) / CLOCKS_PER_SEC < 0.5);
	count_choices(1000, times);
	for (i = 0; i < MOST; i++)
		CHECK_UINT(times[i], 1);
}

UNIT_MAIN("placement", UNIT(nothing_to_choose_from), UNIT(filters), UNIT(promises_are_taken_off),
		  UNIT(room_is_used_up), UNIT(spreads_over_nodes_first), UNIT(spreads_over_regions),
		  UNIT(spreads_over_providers), UNIT(counts_replicas_that_are_there), UNIT(tiers),

		  UNIT(same_seed_same_choice_in_any_order), UNIT(random_clouds_stay_within_room),
		  UNIT(bounds_change_nothing), UNIT(shortages_are_explained),
		  UNIT(a_thousand_nodes_are_quick));
