/*
 * ring.c - building a consistent-hash ring and looking keys up in it; see ring.h for the contract.
 *
 * What differs between two rings is in ring_diff.c.
 * Invariants of a built ring: members sorted by name, points strictly ascending by hash, at
 * least one of each. Frozen: the key of a point, its hash and the tie rule place every row of
 * every virtual database; the golden vectors in test/unit/ring_test.c hold them in place.
 */
#include "ring.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

/* The name, a '#', up to ten digits, a NUL. */
#define POINT_KEY_SIZE (A67_RING_NAME_SIZE + 12)

typedef struct SortedMember
{
	A67RingMember member;
	size_t input; /* where it stood in the caller's array */
} SortedMember;

static int
compare_ids(const void *a, const void *b)
{
	const SortedMember *left = a;
	const SortedMember *right = b;

	return (left->member.id > right->member.id) - (left->member.id < right->member.id);
}

static int
compare_names(const void *a, const void *b)
{
	const SortedMember *left = a;
	const SortedMember *right = b;

	return strcmp(left->member.name, right->member.name);
}

static int
compare_points(const void *a, const void *b)
{
	const A67RingPoint *left = a;
	const A67RingPoint *right = b;

	if (left->hash != right->hash)
		return left->hash < right->hash ? -1 : 1;
	return (left->member > right->member) - (left->member < right->member);
}

/* Points of a member, 0 when its weight is out of bounds or not a number. */
static uint32_t
points_of_weight(double weight)
{
	double points;

	if (!(weight > 0 && weight <= A67_RING_MAX_WEIGHT))
		return 0;
	points = floor(A67_RING_VNODES * weight + 0.5);
	return points < 1 ? 1 : (uint32_t) points;
}

/* Checks what can be said of each member alone, and adds up the points. */
static A67RingStatus
check_members(const A67RingMember *members, size_t count, size_t *points, size_t *offender)
{
	size_t i;

	if (count == 0)
		return A67_RING_NO_MEMBERS;
	if (count > A67_RING_MAX_MEMBERS)
		return A67_RING_TOO_MANY_MEMBERS;
	*points = 0;
	for (i = 0; i < count; i++)
	{
		uint32_t added = points_of_weight(members[i].weight);

		*offender = i;
		if (members[i].name[0] == '\0' ||
			memchr(members[i].name, '\0', sizeof(members[i].name)) == NULL)
			return A67_RING_INVALID_NAME;
		if (added == 0)
			return A67_RING_INVALID_WEIGHT;
		*points += added;
		if (*points > A67_RING_MAX_POINTS)
			return A67_RING_TOO_MANY_POINTS;
	}
	return A67_RING_OK;
}

/*
 * Copies the members into *sorted, by name, after making sure that no two share a name or an id.
 * Of two that do, the one later in the input is the offender.
 */
static A67RingStatus
sort_members(const A67RingMember *members, size_t count, SortedMember *sorted, size_t *offender)
{
	size_t i;

	for (i = 0; i < count; i++)
	{
		/* Nothing after the NUL of the name is taken over. */
		memset(&sorted[i], 0, sizeof(sorted[i]));
		sorted[i].member.id = members[i].id;
		sorted[i].member.weight = members[i].weight;
		memcpy(sorted[i].member.name, members[i].name, strlen(members[i].name));
		sorted[i].input = i;
	}
	qsort(sorted, count, sizeof(*sorted), compare_ids);
	for (i = 1; i < count; i++)
	{
		if (compare_ids(&sorted[i - 1], &sorted[i]) != 0)
			continue;
		*offender = sorted[i - 1].input > sorted[i].input ? sorted[i - 1].input : sorted[i].input;
		return A67_RING_DUPLICATE_ID;
	}
	qsort(sorted, count, sizeof(*sorted), compare_names);
	for (i = 1; i < count; i++)
	{
		if (compare_names(&sorted[i - 1], &sorted[i]) != 0)
			continue;
		*offender = sorted[i - 1].input > sorted[i].input ? sorted[i - 1].input : sorted[i].input;
		return A67_RING_DUPLICATE_NAME;
	}
	return A67_RING_OK;
}

/* Fills and sorts the points; where hashes coincide only the first member's point is kept. */
static void
place_points(A67Ring *ring)
{
	uint32_t filled = 0;
	uint32_t kept = 0;
	uint32_t i;

	for (i = 0; i < ring->member_count; i++)
	{
		uint32_t points = points_of_weight(ring->members[i].weight);
		uint32_t v;

		for (v = 0; v < points; v++)
		{
			char key[POINT_KEY_SIZE];
			int length = snprintf(key, sizeof(key), "%s#%u", ring->members[i].name, v);

			ring->points[filled].hash = a67_murmur3(key, (size_t) length, 0);
			ring->points[filled].member = i;
			filled++;
		}
	}
	qsort(ring->points, filled, sizeof(*ring->points), compare_points);
	for (i = 0; i < filled; i++)
		if (kept == 0 || ring->points[kept - 1].hash != ring->points[i].hash)
			ring->points[kept++] = ring->points[i];
	ring->point_count = kept;
}

A67RingStatus
a67_ring_build(A67Ring *ring, const A67RingMember *members, size_t count, size_t *offender)
{
	size_t points = 0;
	size_t culprit = 0;
	size_t i;
	SortedMember *sorted = NULL;
	A67RingStatus status;

	memset(ring, 0, sizeof(*ring));
	status = check_members(members, count, &points, &culprit);
	if (status != A67_RING_OK)
		goto done;
	status = A67_RING_OUT_OF_MEMORY;
	sorted = malloc(count * sizeof(*sorted));
	if (sorted == NULL)
		goto done;
	status = sort_members(members, count, sorted, &culprit);
	if (status != A67_RING_OK)
		goto done;
	ring->members = malloc(count * sizeof(*ring->members));
	ring->points = malloc(points * sizeof(*ring->points));
	if (ring->members == NULL || ring->points == NULL)
	{
		a67_ring_free(ring);
		status = A67_RING_OUT_OF_MEMORY;
		goto done;
	}
	for (i = 0; i < count; i++)
		ring->members[i] = sorted[i].member;
	ring->member_count = (uint32_t) count;
	place_points(ring);

done:
	free(sorted);
	if (offender != NULL)
		*offender = culprit;
	return status;
}

void
a67_ring_free(A67Ring *ring)
{
	free(ring->members);
	free(ring->points);
	memset(ring, 0, sizeof(*ring));
}

const char *
a67_ring_status_text(A67RingStatus status)
{
	switch (status)
	{
		case A67_RING_OK:
			return "ok";
		case A67_RING_NO_MEMBERS:
			return "ring has no shards";
		case A67_RING_TOO_MANY_MEMBERS:
			return "ring has too many shards";
		case A67_RING_TOO_MANY_POINTS:
			return "weights of the ring add up to too many points";
		case A67_RING_INVALID_NAME:
			return "shard name is empty or too long";
		case A67_RING_DUPLICATE_NAME:
			return "shard name occurs more than once";
		case A67_RING_DUPLICATE_ID:
			return "shard id occurs more than once";
		case A67_RING_INVALID_WEIGHT:
			return "shard weight is out of range";
		case A67_RING_OUT_OF_MEMORY:
			return "out of memory";
	}
	return "unknown ring status";
}

/* Index of the first point at or after hash, wrapping to the first of all. */
static uint32_t
point_at_or_after(const A67Ring *ring, uint32_t hash)
{
	uint32_t low = 0;
	uint32_t high = ring->point_count;

	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;

		if (ring->points[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ring->point_count ? low : 0;
}

const A67RingMember *
a67_ring_lookup(const A67Ring *ring, uint32_t hash)
{
	if (ring->point_count == 0)
		return NULL;
	return &ring->members[ring->points[point_at_or_after(ring, hash)].member];
}

const A67RingMember *
a67_ring_lookup_key(const A67Ring *ring, const void *key, size_t count)
{
	return a67_ring_lookup(ring, a67_murmur3(key, count, 0));
}

size_t
a67_ring_owners(const A67Ring *ring, uint32_t hash, const A67RingMember **owners, size_t want)
{
	uint8_t seen[A67_RING_MAX_MEMBERS / 8] = {0};
	size_t found = 0;
	uint32_t at;
	uint32_t steps;

	if (ring->point_count == 0)
		return 0;
	if (want > ring->member_count)
		want = ring->member_count;
	at = point_at_or_after(ring, hash);
	for (steps = 0; steps < ring->point_count && found < want; steps++)
	{
		uint32_t member = ring->points[at].member;

		if ((seen[member / 8] & (1U << (member % 8))) == 0)
		{
			seen[member / 8] |= (uint8_t) (1U << (member % 8));
			owners[found++] = &ring->members[member];
		}
		at = at + 1 < ring->point_count ? at + 1 : 0;
	}
	return found;
}

void
a67_ring_shares(const A67Ring *ring, double *shares)
{
	uint32_t i;

	for (i = 0; i < ring->member_count; i++)
		shares[i] = 0;
	if (ring->point_count == 1)
	{
		shares[ring->points[0].member] = 1;
		return;
	}
	for (i = 0; i < ring->point_count; i++)
	{
		uint32_t before = ring->points[i > 0 ? i - 1 : ring->point_count - 1].hash;

		/* Unsigned subtraction also gives the width of the range that wraps. */
		shares[ring->points[i].member] += (double) (ring->points[i].hash - before) / 4294967296.0;
	}
}
