/*
 * ring_diff.c - which ranges of hashes change their owner between two rings; see ring.h.
 *
 * The points of both rings, merged, cut the space into segments within which neither ring
 * changes owner. One walk over them in order yields the moves; neighbours with the same old and
 * new owner are joined, across zero too. Cost: O(points of both), one allocation of that size.
 */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

/* Where the walk stands: everything before i and j has been passed. */
typedef struct MergeWalk
{
	const A67Ring *from;
	const A67Ring *to;
	uint32_t i;
	uint32_t j;
} MergeWalk;

/* The owner of the segment that ends at the smallest hash not yet passed. */
static const A67RingMember *
owner_at(const A67Ring *ring, uint32_t point)
{
	return &ring->members[ring->points[point < ring->point_count ? point : 0].member];
}

/* The smallest hash not yet passed; false at the end. */
static bool
next_boundary(const MergeWalk *walk, uint32_t *hash)
{
	bool from_left = walk->i < walk->from->point_count;
	bool to_left = walk->j < walk->to->point_count;
	uint32_t from_hash = from_left ? walk->from->points[walk->i].hash : UINT32_MAX;
	uint32_t to_hash = to_left ? walk->to->points[walk->j].hash : UINT32_MAX;

	*hash = from_hash < to_hash ? from_hash : to_hash;
	return from_left || to_left;
}

static void
pass_boundary(MergeWalk *walk, uint32_t hash)
{
	if (walk->i < walk->from->point_count && walk->from->points[walk->i].hash == hash)
		walk->i++;
	if (walk->j < walk->to->point_count && walk->to->points[walk->j].hash == hash)
		walk->j++;
}

/* Adds a segment, or lengthens the last move when the segment continues it. */
static void
add_segment(A67RingDiff *diff, const A67RingMove *segment)
{
	A67RingMove *last = diff->count > 0 ? &diff->moves[diff->count - 1] : NULL;

	if (last != NULL && last->end == segment->start && last->from == segment->from &&
		last->to == segment->to)
		last->end = segment->end;
	else
		diff->moves[diff->count++] = *segment;
}

/* Joins the last move to the first where they meet at the point where the walk began. */
static void
join_ends(A67RingDiff *diff)
{
	A67RingMove *first = diff->moves;
	A67RingMove *last;

	if (diff->count < 2)
		return;
	last = &diff->moves[diff->count - 1];
	if (last->end == first->start && last->from == first->from && last->to == first->to)
	{
		first->start = last->start;
		diff->count--;
	}
}

A67RingStatus
a67_ring_diff(const A67Ring *from, const A67Ring *to, A67RingDiff *diff)
{
	MergeWalk walk = {from, to, 0, 0};
	A67RingMove segment;
	size_t most;

	memset(diff, 0, sizeof(*diff));
	if (from->point_count == 0 || to->point_count == 0)
		return A67_RING_NO_MEMBERS;
	most = (size_t) from->point_count + to->point_count;
	diff->moves = malloc(most * sizeof(*diff->moves));
	if (diff->moves == NULL)
		return A67_RING_OUT_OF_MEMORY;

	/* The first segment begins, before zero, at the last boundary of all. */
	segment.start = from->points[from->point_count - 1].hash;
	if (to->points[to->point_count - 1].hash > segment.start)
		segment.start = to->points[to->point_count - 1].hash;
	while (next_boundary(&walk, &segment.end))
	{
		segment.from = owner_at(from, walk.i);
		segment.to = owner_at(to, walk.j);
		if (strcmp(segment.from->name, segment.to->name) != 0)
			add_segment(diff, &segment);
		pass_boundary(&walk, segment.end);
		segment.start = segment.end;
	}
	join_ends(diff);
	return A67_RING_OK;
}

void
a67_ring_diff_free(A67RingDiff *diff)
{
	free(diff->moves);
	memset(diff, 0, sizeof(*diff));
}

bool
a67_ring_move_contains(const A67RingMove *move, uint32_t hash)
{
	if (move->start < move->end)
		return hash > move->start && hash <= move->end;
	return move->start == move->end || hash > move->start || hash <= move->end;
}

uint64_t
a67_ring_move_width(const A67RingMove *move)
{
	if (move->start == move->end)
		return UINT64_C(1) << 32;
	return (uint32_t) (move->end - move->start);
}
