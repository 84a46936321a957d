/*
 * ring_diff_test.c - what moves between two rings: minimal movement, agreement with lookups in
 * both rings, ranges that wrap past zero.
 */
#include "core/ring.h"

#include "core/pace.h"
#include "ring_fixture.h"
#include "unit.h"

/* The move that holds the hash, NULL if none; a second one would be a mistake of its own. */
static const A67RingMove *
move_of(const A67RingDiff *diff, uint32_t hash)
{
	const A67RingMove *found = NULL;
	uint32_t i;

	for (i = 0; i < diff->count; i++)
	{
		if (!a67_ring_move_contains(&diff->moves[i], hash))
			continue;
		CHECK(found == NULL);
		found = &diff->moves[i];
	}
	return found;
}

static void
check_diff_at(const A67Ring *from, const A67Ring *to, const A67RingDiff *diff, uint32_t hash)
{
	const A67RingMember *before = a67_ring_lookup(from, hash);
	const A67RingMember *after = a67_ring_lookup(to, hash);
	const A67RingMove *move = move_of(diff, hash);

	if (strcmp(before->name, after->name) == 0)
		CHECK(move == NULL);
	else
		CHECK(move != NULL && move->from == before && move->to == after);
}

/* The diff against lookups in both rings, of random hashes and on both sides of every boundary. */
static void
check_diff(const A67Ring *from, const A67Ring *to, unsigned random_keys)
{
	A67RingDiff diff;
	uint64_t seed = 99;
	uint32_t i;

	REQUIRE(a67_ring_diff(from, to, &diff) == A67_RING_OK);
	for (i = 0; i < diff.count; i++)
	{
		const A67RingMove *next = &diff.moves[i + 1 < diff.count ? i + 1 : 0];

		CHECK(strcmp(diff.moves[i].from->name, diff.moves[i].to->name) != 0);
		/* Merged as far as possible. */
		CHECK(diff.count == 1 || next->start != diff.moves[i].end ||
			  next->from != diff.moves[i].from || next->to != diff.moves[i].to);
		check_diff_at(from, to, &diff, diff.moves[i].start);
		check_diff_at(from, to, &diff, diff.moves[i].start + 1);
		check_diff_at(from, to, &diff, diff.moves[i].end);
		check_diff_at(from, to, &diff, diff.moves[i].end + 1);
	}
	for (i = 0; i < random_keys; i++)
		check_diff_at(from, to, &diff, (uint32_t) a67_random_next(&seed));
	check_diff_at(from, to, &diff, 0);
	check_diff_at(from, to, &diff, UINT32_MAX);
	a67_ring_diff_free(&diff);
}

static void
adding_a_shard_moves_only_to_it(void)
{
	size_t count;

	for (count = 1; count <= 16; count *= 2)
	{
		A67RingMember members[17];
		A67Ring from;
		A67Ring to;
		A67RingDiff diff;
		double shares[17];
		uint64_t moved = 0;
		uint32_t i;

		number_members(members, count + 1, "m");
		REQUIRE(a67_ring_build(&from, members, count, NULL) == A67_RING_OK);
		REQUIRE(a67_ring_build(&to, members, count + 1, NULL) == A67_RING_OK);
		REQUIRE(a67_ring_diff(&from, &to, &diff) == A67_RING_OK);
		for (i = 0; i < diff.count; i++)
		{
			CHECK_UINT(diff.moves[i].to->id, count);
			moved += a67_ring_move_width(&diff.moves[i]);
		}
		a67_ring_shares(&to, shares);
		for (i = 0; to.members[i].id != count; i++)
			;
		CHECK_NEAR((double) moved / 4294967296.0, shares[i], 1e-9);
		CHECK_NEAR((double) moved / 4294967296.0, 1.0 / (double) (count + 1),
				   0.3 / (double) (count + 1));
		a67_ring_diff_free(&diff);
		a67_ring_free(&from);
		a67_ring_free(&to);
	}
}

static void
diff_agrees_with_lookups(void)
{
	A67RingMember members[12];
	A67Ring from;
	A67Ring to;

	/* One leaves, one comes, one gains weight and one loses some. */
	number_members(members, 12, "shard");
	REQUIRE(a67_ring_build(&from, members, 10, NULL) == A67_RING_OK);
	members[2].weight = 1.5;
	members[3].weight = 0.25;
	REQUIRE(a67_ring_build(&to, members + 1, 10, NULL) == A67_RING_OK);
	/* move_of walks all moves, hence fewer keys here than in the two-shard case. */
	check_diff(&from, &to, 5000);
	check_diff(&to, &from, 5000);
	a67_ring_free(&to);
	REQUIRE(a67_ring_build(&to, members + 11, 1, NULL) == A67_RING_OK);
	check_diff(&from, &to, 5000);
	a67_ring_free(&to);
	a67_ring_free(&from);
}

static void
diff_agrees_with_100000_lookups(void)
{
	A67RingMember members[] = {member(1, "a", 0.05), member(2, "b", 0.08), member(3, "c", 0.06)};
	A67Ring from;
	A67Ring to;

	REQUIRE(a67_ring_build(&from, members, 2, NULL) == A67_RING_OK);
	REQUIRE(a67_ring_build(&to, members + 1, 2, NULL) == A67_RING_OK);
	check_diff(&from, &to, RANDOM_KEYS);
	a67_ring_free(&to);
	REQUIRE(a67_ring_build(&to, members, 3, NULL) == A67_RING_OK);
	check_diff(&from, &to, RANDOM_KEYS);
	a67_ring_free(&from);
	a67_ring_free(&to);
}

/* Rings of a handful of points, in which every odd neighbourhood turns up, above all around zero. */
static void
diff_agrees_in_tiny_rings(void)
{
	uint64_t seed = 23;
	int round;

	for (round = 0; round < 1000; round++)
	{
		A67RingMember members[6];
		size_t from_count = 1 + a67_random_below(&seed, 4);
		size_t to_first = a67_random_below(&seed, 3);
		size_t to_count = 1 + a67_random_below(&seed, 3);
		A67Ring from;
		A67Ring to;
		char prefix[24];
		size_t i;

		snprintf(prefix, sizeof(prefix), "round%d-", round);
		number_members(members, 6, prefix);
		for (i = 0; i < 6; i++)
			members[i].weight = 0.01 * (double) (1 + a67_random_below(&seed, 2));
		REQUIRE(a67_ring_build(&from, members, from_count, NULL) == A67_RING_OK);
		REQUIRE(a67_ring_build(&to, members + to_first, to_count, NULL) == A67_RING_OK);
		check_diff(&from, &to, 50);
		a67_ring_free(&from);
		a67_ring_free(&to);
	}
}

static void
diff_of_equal_rings_is_empty(void)
{
	A67RingMember members[4];
	A67Ring from;
	A67Ring to;
	A67RingDiff diff;
	size_t i;

	number_members(members, 4, "q");
	REQUIRE(a67_ring_build(&from, members, 4, NULL) == A67_RING_OK);
	for (i = 0; i < 4; i++)
		members[i].id += 50;
	REQUIRE(a67_ring_build(&to, members, 4, NULL) == A67_RING_OK);
	CHECK_INT(a67_ring_diff(&from, &to, &diff), A67_RING_OK);
	CHECK_UINT(diff.count, 0);
	a67_ring_diff_free(&diff);
	a67_ring_free(&to);
	CHECK_INT(a67_ring_diff(&from, &to, &diff), A67_RING_NO_MEMBERS);
	CHECK_INT(a67_ring_diff(&to, &from, &diff), A67_RING_NO_MEMBERS);
	a67_ring_diff_free(&diff);
	a67_ring_free(&from);
}

/* All of one shard's data goes to another: a single move that holds every hash. */
static void
diff_of_everything_is_one_move(void)
{
	static const double weights[] = {0.001, 1};
	size_t i;

	for (i = 0; i < 2; i++)
	{
		A67RingMember old = member(1, "old", weights[i]);
		A67RingMember new = member(2, "new", weights[i]);
		A67Ring from;
		A67Ring to;
		A67RingDiff diff;

		REQUIRE(a67_ring_build(&from, &old, 1, NULL) == A67_RING_OK);
		REQUIRE(a67_ring_build(&to, &new, 1, NULL) == A67_RING_OK);
		REQUIRE(a67_ring_diff(&from, &to, &diff) == A67_RING_OK);
		CHECK_UINT(diff.count, 1);
		CHECK_UINT(a67_ring_move_width(&diff.moves[0]), UINT64_C(1) << 32);
		check_diff(&from, &to, 1000);
		a67_ring_diff_free(&diff);
		a67_ring_free(&from);
		a67_ring_free(&to);
	}
}

static void
ranges_may_wrap(void)
{
	A67RingMove plain = {10, 20, NULL, NULL};
	A67RingMove wrapped = {UINT32_MAX - 1, 1, NULL, NULL};

	CHECK(!a67_ring_move_contains(&plain, 10));
	CHECK(a67_ring_move_contains(&plain, 11));
	CHECK(a67_ring_move_contains(&plain, 20));
	CHECK(!a67_ring_move_contains(&plain, 21));
	CHECK_UINT(a67_ring_move_width(&plain), 10);
	CHECK(!a67_ring_move_contains(&wrapped, UINT32_MAX - 1));
	CHECK(a67_ring_move_contains(&wrapped, UINT32_MAX));
	CHECK(a67_ring_move_contains(&wrapped, 0));
	CHECK(a67_ring_move_contains(&wrapped, 1));
	CHECK(!a67_ring_move_contains(&wrapped, 2));
	CHECK_UINT(a67_ring_move_width(&wrapped), 3);
}

UNIT_MAIN("ring_diff", UNIT(adding_a_shard_moves_only_to_it), UNIT(diff_agrees_with_lookups),
		  UNIT(diff_agrees_with_100000_lookups), UNIT(diff_agrees_in_tiny_rings),
		  UNIT(diff_of_equal_rings_is_empty), UNIT(diff_of_everything_is_one_move),
		  UNIT(ranges_may_wrap));
