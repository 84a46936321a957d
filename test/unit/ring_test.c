/*
 * ring_test.c - the consistent-hash ring: golden vectors, input that is refused, and its
 * properties.
 *
 * The golden vectors were computed by a separate implementation of ring.h's rules. They must never
 * change: rows of existing virtual databases lie where these numbers say.
 */
#include "core/ring.h"

#include "core/hash.h"
#include "core/pace.h"
#include "ring_fixture.h"
#include "unit.h"

/* A hash over all points and the names of their owners. */
static uint32_t
digest(const A67Ring *ring)
{
	char *text = malloc(ring->point_count * (4 + A67_RING_NAME_SIZE));
	size_t length = 0;
	uint32_t result = 0;
	uint32_t i;

	if (text == NULL)
		return 0;
	for (i = 0; i < ring->point_count; i++)
	{
		const char *name = ring->members[ring->points[i].member].name;
		unsigned byte;

		for (byte = 0; byte < 4; byte++)
			text[length++] = (char) (ring->points[i].hash >> (8 * byte));
		memcpy(text + length, name, strlen(name));
		length += strlen(name);
	}
	result = a67_murmur3(text, length, 0);
	free(text);
	return result;
}

/* The owner by walking all points: the rule itself, without the binary search. */
static const A67RingMember *
lookup_slowly(const A67Ring *ring, uint32_t hash)
{
	uint32_t i;

	for (i = 0; i < ring->point_count; i++)
		if (ring->points[i].hash >= hash)
			return &ring->members[ring->points[i].member];
	return &ring->members[ring->points[0].member];
}

static void
golden_three_equal_shards(void)
{
	static const struct
	{
		const char *key;
		const char *owner;
	} golden[] = {
		{"", "s2"},
		{"a", "s3"},
		{"user:1", "s2"},
		{"user:2", "s1"},
		{"42", "s2"},
		{"tenant-0007", "s3"},
		{"00000000-0000-0000-0000-000000000000", "s3"},
		{"Z\xC3\xBCrich", "s1"},
		{"the quick brown fox", "s3"},
	};
	A67RingMember members[] = {member(3, "s3", 1), member(1, "s1", 1), member(2, "s2", 1)};
	A67Ring ring;
	size_t i;

	REQUIRE(a67_ring_build(&ring, members, 3, NULL) == A67_RING_OK);
	CHECK_UINT(ring.point_count, 450);
	CHECK_UINT(ring.points[0].hash, 0x001477E2);
	CHECK_STR(ring.members[ring.points[0].member].name, "s2");
	CHECK_UINT(ring.points[449].hash, 0xFFE95C4B);
	CHECK_UINT(digest(&ring), 0x4DA54835);
	for (i = 0; i < sizeof(golden) / sizeof(golden[0]); i++)
	{
		const A67RingMember *owner =
			a67_ring_lookup_key(&ring, golden[i].key, strlen(golden[i].key));

		REQUIRE(owner != NULL);
		CHECK_STR(owner->name, golden[i].owner);
		CHECK_UINT(owner->id, (uint32_t) (owner->name[1] - '0'));
	}
	a67_ring_free(&ring);
}

static void
golden_weights(void)
{
	A67RingMember members[] = {member(0, "alpha", 0.001), member(1, "beta", 0.5),
							   member(2, "gamma", 2), member(3, "delta", 1.25)};
	A67Ring ring;

	REQUIRE(a67_ring_build(&ring, members, 4, NULL) == A67_RING_OK);
	CHECK_UINT(ring.point_count, 1 + 75 + 300 + 188);
	CHECK_UINT(digest(&ring), 0xF5324B0B);
	a67_ring_free(&ring);
}

static void
golden_largest_ring(void)
{
	A67RingMember *members = calloc(A67_RING_MAX_MEMBERS, sizeof(*members));
	A67Ring ring;
	uint32_t i;

	REQUIRE(members != NULL);
	for (i = 0; i < A67_RING_MAX_MEMBERS; i++)
	{
		char name[A67_RING_NAME_SIZE];

		snprintf(name, sizeof(name), "shard-%04u", i);
		members[A67_RING_MAX_MEMBERS - 1 - i] = member(i, name, 1);
	}
	REQUIRE(a67_ring_build(&ring, members, A67_RING_MAX_MEMBERS, NULL) == A67_RING_OK);
	/* 68 of the points coincide with another one. */
	CHECK_UINT(ring.point_count, 150 * A67_RING_MAX_MEMBERS - 68);
	CHECK_UINT(digest(&ring), 0x79174BC5);
	a67_ring_free(&ring);
	free(members);
}

/* "shard-0225#146" and "shard-0310#71" have the same hash. */
static void
coinciding_points_go_to_the_first_name(void)
{
	A67RingMember members[] = {member(310, "shard-0310", 1), member(225, "shard-0225", 1)};
	A67RingMember swapped[] = {members[1], members[0]};
	A67Ring ring;

	REQUIRE(a67_ring_build(&ring, members, 2, NULL) == A67_RING_OK);
	CHECK_UINT(ring.point_count, 299);
	CHECK_UINT(a67_ring_lookup(&ring, 0xB2126588)->id, 225);
	a67_ring_free(&ring);
	REQUIRE(a67_ring_build(&ring, swapped, 2, NULL) == A67_RING_OK);
	CHECK_UINT(a67_ring_lookup(&ring, 0xB2126588)->id, 225);
	a67_ring_free(&ring);
	REQUIRE(a67_ring_build(&ring, members, 1, NULL) == A67_RING_OK);
	CHECK_UINT(a67_ring_lookup(&ring, 0xB2126588)->id, 310);
	a67_ring_free(&ring);
}

static void
refused(const A67RingMember *members, size_t count, A67RingStatus want, size_t want_offender)
{
	A67Ring ring;
	size_t offender = 99;

	CHECK_INT(a67_ring_build(&ring, members, count, &offender), want);
	CHECK_UINT(offender, want_offender);
	CHECK(ring.members == NULL && ring.points == NULL && ring.point_count == 0);
	CHECK(a67_ring_lookup_key(&ring, "x", 1) == NULL);
	a67_ring_free(&ring);
}

static void
invalid_members_are_refused(void)
{
	A67RingMember members[3];
	A67RingMember *many;

	refused(NULL, 0, A67_RING_NO_MEMBERS, 0);
	number_members(members, 3, "s");
	members[1].name[0] = '\0';
	refused(members, 3, A67_RING_INVALID_NAME, 1);
	number_members(members, 3, "s");
	memset(members[2].name, 'x', sizeof(members[2].name));
	refused(members, 3, A67_RING_INVALID_NAME, 2);
	number_members(members, 3, "s");
	members[2] = member(7, "s0", 1);
	refused(members, 3, A67_RING_DUPLICATE_NAME, 2);
	number_members(members, 3, "s");
	members[0].id = 2;
	refused(members, 3, A67_RING_DUPLICATE_ID, 2);

	many = calloc(A67_RING_MAX_MEMBERS + 1, sizeof(*many));
	REQUIRE(many != NULL);
	number_members(many, A67_RING_MAX_MEMBERS + 1, "s");
	refused(many, A67_RING_MAX_MEMBERS + 1, A67_RING_TOO_MANY_MEMBERS, 0);
	free(many);
}

static void
invalid_weights_are_refused(void)
{
	static const double invalid[] = {0, -1, -0.0, 1000.0001, INFINITY, -INFINITY, NAN, 1e300};
	A67RingMember members[8];
	size_t i;

	for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
	{
		number_members(members, 2, "s");
		members[1].weight = invalid[i];
		refused(members, 2, A67_RING_INVALID_WEIGHT, 1);
	}
	/* 150,000 points each: the seventh exceeds the limit. */
	number_members(members, 8, "s");
	for (i = 0; i < 8; i++)
		members[i].weight = A67_RING_MAX_WEIGHT;
	refused(members, 8, A67_RING_TOO_MANY_POINTS, 6);
}

static void
every_status_has_a_text(void)
{
	int status;

	for (status = A67_RING_OK; status <= A67_RING_OUT_OF_MEMORY; status++)
		CHECK(strcmp(a67_ring_status_text((A67RingStatus) status), "unknown ring status") != 0);
	CHECK_STR(a67_ring_status_text((A67RingStatus) 99), "unknown ring status");
}

static void
weights_give_points(void)
{
	static const struct
	{
		double weight;
		uint32_t points;
	} cases[] = {{1e-300, 1}, {0.003, 1}, {0.0033, 1},	{0.01, 2},
				 {0.5, 75},	  {1, 150},	  {1.003, 150}, {1.004, 151}};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		A67RingMember one = member(1, "only", cases[i].weight);
		A67Ring ring;

		REQUIRE(a67_ring_build(&ring, &one, 1, NULL) == A67_RING_OK);
		CHECK_UINT(ring.point_count, cases[i].points);
		CHECK_STR(a67_ring_lookup(&ring, 0)->name, "only");
		CHECK_STR(a67_ring_lookup(&ring, UINT32_MAX)->name, "only");
		a67_ring_free(&ring);
	}
}

static void
lookup_agrees_with_the_rule(void)
{
	A67RingMember members[7];
	A67Ring ring;
	uint64_t seed = 7;
	uint32_t i;

	number_members(members, 7, "node-");
	members[3].weight = 0.3;
	REQUIRE(a67_ring_build(&ring, members, 7, NULL) == A67_RING_OK);
	for (i = 0; i < ring.point_count; i++)
	{
		uint32_t hash = ring.points[i].hash;

		CHECK(i == 0 || ring.points[i - 1].hash < hash);
		CHECK(a67_ring_lookup(&ring, hash) == lookup_slowly(&ring, hash));
		CHECK(a67_ring_lookup(&ring, hash - 1) == lookup_slowly(&ring, hash - 1));
		CHECK(a67_ring_lookup(&ring, hash + 1) == lookup_slowly(&ring, hash + 1));
	}
	for (i = 0; i < 20000; i++)
	{
		uint32_t hash = (uint32_t) a67_random_next(&seed);

		CHECK(a67_ring_lookup(&ring, hash) == lookup_slowly(&ring, hash));
	}
	CHECK(a67_ring_lookup(&ring, 0) == lookup_slowly(&ring, 0));
	CHECK(a67_ring_lookup(&ring, UINT32_MAX) == lookup_slowly(&ring, UINT32_MAX));
	a67_ring_free(&ring);
}

static void
input_order_does_not_matter(void)
{
	A67RingMember members[20];
	A67Ring ring;
	uint64_t seed = 3;
	uint32_t want;
	int round;

	number_members(members, 20, "db");
	REQUIRE(a67_ring_build(&ring, members, 20, NULL) == A67_RING_OK);
	want = digest(&ring);
	a67_ring_free(&ring);
	for (round = 0; round < 10; round++)
	{
		size_t i;

		for (i = 19; i > 0; i--)
		{
			size_t j = a67_random_below(&seed, i + 1);
			A67RingMember kept = members[i];

			members[i] = members[j];
			members[j] = kept;
		}
		REQUIRE(a67_ring_build(&ring, members, 20, NULL) == A67_RING_OK);
		CHECK_UINT(digest(&ring), want);
		a67_ring_free(&ring);
	}
}

/* Bytes behind the NUL of a name are not part of it, and ids do not place anything. */
static void
only_name_and_weight_place(void)
{
	A67RingMember members[3];
	A67Ring ring;
	uint32_t want;
	size_t i;

	number_members(members, 3, "x");
	REQUIRE(a67_ring_build(&ring, members, 3, NULL) == A67_RING_OK);
	want = digest(&ring);
	a67_ring_free(&ring);
	for (i = 0; i < 3; i++)
	{
		memset(members[i].name + 3, 'g', 20);
		members[i].id += 1000;
	}
	REQUIRE(a67_ring_build(&ring, members, 3, NULL) == A67_RING_OK);
	CHECK_UINT(digest(&ring), want);
	CHECK_UINT(ring.members[0].id, 1000);
	a67_ring_free(&ring);
}

static void
owners_are_distinct_and_in_order(void)
{
	A67RingMember members[5];
	A67Ring ring;
	uint64_t seed = 11;
	int round;

	number_members(members, 5, "s");
	members[4].weight = 0.001;
	REQUIRE(a67_ring_build(&ring, members, 5, NULL) == A67_RING_OK);
	for (round = 0; round < 2000; round++)
	{
		uint32_t hash = (uint32_t) a67_random_next(&seed);
		const A67RingMember *owners[8] = {NULL};
		const A67RingMember *fewer[3] = {NULL};
		uint32_t walked = hash;
		size_t i;
		size_t j;

		CHECK_UINT(a67_ring_owners(&ring, hash, owners, 8), 5);
		CHECK(owners[0] == a67_ring_lookup(&ring, hash));
		for (i = 0; i < 5; i++)
			for (j = 0; j < i; j++)
				CHECK(owners[i] != owners[j]);
		CHECK_UINT(a67_ring_owners(&ring, hash, fewer, 3), 3);
		for (i = 0; i < 3; i++)
			CHECK(fewer[i] == owners[i]);
		/* The second owner is the first other one that single steps clockwise meet. */
		for (i = 0; i < ring.point_count && a67_ring_lookup(&ring, walked) == owners[0]; i++)
		{
			for (j = 0; j < ring.point_count && ring.points[j].hash < walked; j++)
				;
			walked = j < ring.point_count ? ring.points[j].hash + 1 : ring.points[0].hash + 1;
		}
		CHECK(a67_ring_lookup(&ring, walked) == owners[1]);
	}
	CHECK_UINT(a67_ring_owners(&ring, 0, NULL, 0), 0);
	a67_ring_free(&ring);
	CHECK_UINT(a67_ring_owners(&ring, 0, NULL, 5), 0);
}

/*
 * Most loaded of ten equal shards, over 50 sets of names: measured 1.07 to 1.28 times the mean,
 * and one set above 1.25.
 */
static void
shards_are_balanced(void)
{
	unsigned above = 0;
	int set;

	for (set = 0; set < 50; set++)
	{
		A67RingMember members[10];
		A67Ring ring;
		double shares[10];
		double sum = 0;
		double most = 0;
		char prefix[16];
		size_t i;

		snprintf(prefix, sizeof(prefix), "set%d-", set);
		number_members(members, 10, prefix);
		REQUIRE(a67_ring_build(&ring, members, 10, NULL) == A67_RING_OK);
		a67_ring_shares(&ring, shares);
		for (i = 0; i < 10; i++)
		{
			sum += shares[i];
			most = shares[i] > most ? shares[i] : most;
			CHECK(shares[i] > 0.07);
		}
		CHECK_NEAR(sum, 1, 1e-9);
		CHECK(most * 10 < 1.3);
		above += most * 10 > 1.25;
		a67_ring_free(&ring);
	}
	CHECK(above <= 1);
}

static void
shares_follow_weights(void)
{
	A67RingMember members[] = {member(1, "a", 1), member(2, "b", 2), member(3, "c", 4)};
	A67Ring ring;
	double shares[3];
	unsigned counted[3] = {0};
	uint64_t seed = 5;
	int i;

	REQUIRE(a67_ring_build(&ring, members, 3, NULL) == A67_RING_OK);
	a67_ring_shares(&ring, shares);
	CHECK_NEAR(shares[0] + shares[1] + shares[2], 1, 1e-9);
	CHECK_NEAR(shares[0], 1.0 / 7, 0.03);
	CHECK_NEAR(shares[1], 2.0 / 7, 0.04);
	CHECK_NEAR(shares[2], 4.0 / 7, 0.05);
	for (i = 0; i < RANDOM_KEYS; i++)
		counted[a67_ring_lookup(&ring, (uint32_t) a67_random_next(&seed)) - ring.members]++;
	for (i = 0; i < 3; i++)
		CHECK_NEAR((double) counted[i] / RANDOM_KEYS, shares[i], 0.01);
	a67_ring_free(&ring);
}

static void
a_single_point_owns_everything(void)
{
	A67RingMember one = member(1, "only", 0.0001);
	A67Ring ring;
	double share = 0;

	REQUIRE(a67_ring_build(&ring, &one, 1, NULL) == A67_RING_OK);
	CHECK_UINT(ring.point_count, 1);
	a67_ring_shares(&ring, &share);
	CHECK_NEAR(share, 1, 0);
	a67_ring_free(&ring);
}

UNIT_MAIN("ring", UNIT(golden_three_equal_shards), UNIT(golden_weights), UNIT(golden_largest_ring),
		  UNIT(coinciding_points_go_to_the_first_name), UNIT(invalid_members_are_refused),
		  UNIT(invalid_weights_are_refused), UNIT(every_status_has_a_text),
		  UNIT(weights_give_points), UNIT(lookup_agrees_with_the_rule),
		  UNIT(input_order_does_not_matter), UNIT(only_name_and_weight_place),
		  UNIT(owners_are_distinct_and_in_order), UNIT(shards_are_balanced),
		  UNIT(shares_follow_weights), UNIT(a_single_point_owns_everything));
