/*
 * placement.c - choosing nodes for new replicas; see placement.h for the rules.
 *
 * Here: one replica in one pass, and the report of what is short. A pass reads one cache line a
 * node, or its bound alone; ids, regions and labels are read where they matter only. More than one replica, or replicas
 * that are there already, is spread.c.
 */
#include "placement.h"

#include <stdlib.h>
#include <string.h>

#include "place_rank.h"

#define HOPELESS_BLOCK 16

_Static_assert(sizeof(A67Candidate) == 64, "a candidate is one cache line");
_Static_assert(offsetof(A67Candidate, free_memory_bytes) == sizeof(uint64_t),
			   "owner, services and flags are read as one number");

/* The best few of the best tier so far, and how many that tier has. */
typedef struct Best
{
	const A67Candidates *candidates;
	const A67PlaceRequest *request;
	uint8_t tier;
	uint32_t count; /* nodes of the tier, as far as it matters */
	uint32_t kept;
	float bar; /* the score that it takes to be one of them; below 0 while anything will do */
	uint32_t index[A67_CHOICE_WIDTH];
	A67Rank rank[A67_CHOICE_WIDTH];
} Best;

/* Whether the node belongs before the one that is at that place. */
static bool
better(const Best *best, const A67Rank *rank, uint32_t index, uint32_t place)
{
	const A67PlaceRequest *request = best->request;
	const A67Rank *other = &best->rank[place];
	uint32_t there = best->index[place];

	if (request->strategy == A67_STRATEGY_ROUND_ROBIN)
		return a67_place_wait(request, index) < a67_place_wait(request, there);
	if (rank->score != other->score)
		return rank->score > other->score;
	if (rank->second != other->second)
		return rank->second > other->second;
	return a67_place_chance(a67_traits(best->candidates, index), request->seed) <
		   a67_place_chance(a67_traits(best->candidates, there), request->seed);
}

/* Puts a node of the best tier among the best few, if it belongs there. */
static void
keep(Best *best, uint32_t index, uint8_t penalties)
{
	A67Rank rank = {.tier = best->tier, .penalties = penalties};
	uint32_t place = best->kept;

	rank.score = a67_place_score(best->candidates, best->request, index);
	if (best->kept == A67_CHOICE_WIDTH && rank.score < best->bar)
		return;
	rank.second = a67_place_second(best->candidates, best->request, index);
	if (best->kept == A67_CHOICE_WIDTH)
	{
		place = A67_CHOICE_WIDTH - 1;
		if (!better(best, &rank, index, place))
			return;
	}
	else
		best->kept++;
	while (place > 0 && better(best, &rank, index, place - 1))
	{
		best->index[place] = best->index[place - 1];
		best->rank[place] = best->rank[place - 1];
		place--;
	}
	best->index[place] = index;
	best->rank[place] = rank;
	best->bar = best->kept == A67_CHOICE_WIDTH ? best->rank[A67_CHOICE_WIDTH - 1].score : -1;
}

/* Begins with a better tier. */
static void
rise(Best *best, uint8_t tier)
{
	best->tier = tier;
	best->count = best->kept = 0;
	best->bar = -1;
}

/* The first node from i on whose bound reaches the bar. Written for the compiler to compare many at once. */
static uint32_t
skip_hopeless(const float *bounds, uint32_t i, uint32_t n, float bar)
{
	for (; i + HOPELESS_BLOCK <= n; i += HOPELESS_BLOCK)
	{
		int hopes = 0;
		uint32_t k;

		for (k = 0; k < HOPELESS_BLOCK; k++)
			hopes |= bounds[i + k] >= bar;
		if (hopes)
			break;
	}
	while (i < n && bounds[i] < bar)
		i++;
	return i;
}

/* One pass over all nodes; over their bounds alone once nothing but a better score could matter. */
static void
find_best(const A67Candidates *candidates, const A67PlaceRequest *request, Best *best)
{
	A67PlaceGate gate = a67_place_gate(request);
	A67ScoreBounds bounds = a67_score_bounds(&request->view.weights);
	bool composite = request->strategy == A67_STRATEGY_COMPOSITE;
	bool bounded = composite && candidates->bounds != NULL &&
				   a67_score_same_weights(&candidates->bound_weights, &request->view.weights);
	uint32_t i;

	for (i = 0; i < candidates->n; i++)
	{
		const A67Candidate *node;
		uint8_t penalties;
		uint8_t tier;

		if (bounded && best->tier == 0 && best->count >= A67_CLASS_SEEN)
		{
			i = skip_hopeless(candidates->bounds, i, candidates->n, best->bar);
			if (i == candidates->n)
				break;
		}
		node = &candidates->nodes[i];
		if (!a67_place_qualifies(candidates, request, gate, i))
			continue;
		penalties = a67_place_penalties(node, request, false);
		tier = a67_place_tier(penalties);
		if (tier > best->tier)
			continue;
		if (tier < best->tier)
			rise(best, tier);
		best->count++;
		if (composite && a67_score_bound(node, &bounds) < best->bar)
			continue;
		keep(best, i, penalties);
	}
}

static int
place_one(const A67Candidates *candidates, const A67PlaceRequest *request, A67PlaceChoice *chosen)
{
	Best best = {.candidates = candidates, .request = request, .tier = UINT8_MAX, .bar = -1};
	uint64_t seed = request->seed;
	uint32_t i;

	find_best(candidates, request, &best);
	if (best.kept == 0)
		return 0;
	i = a67_place_draw(request, best.count < A67_CLASS_SEEN ? best.count : A67_CLASS_SEEN, &seed);
	chosen->index = best.index[i];
	chosen->penalties = best.rank[i].penalties;
	chosen->score = best.rank[i].score;
	return 1;
}

/* Makes the marks findable; false when there is no memory. */
static bool
index_marks(const A67PlaceRequest *request, A67PlaceMarks *marks)
{
	uint32_t capacity = 16;
	uint32_t i;

	while (capacity < request->mark_count * 2)
		capacity *= 2;
	marks->marks = request->marks;
	marks->mask = capacity - 1;
	marks->places = calloc(capacity, sizeof(*marks->places));
	if (marks->places == NULL)
		return false;
	for (i = 0; i < request->mark_count; i++)
	{
		uint32_t at = (uint32_t) a67_place_mix(request->marks[i].index) & marks->mask;

		while (marks->places[at] != 0)
			at = (at + 1) & marks->mask;
		marks->places[at] = i + 1;
	}
	return true;
}

int
a67_place(const A67Candidates *candidates, const A67PlaceRequest *request, A67PlaceChoice *chosen)
{
	A67PlaceMarks marks = {NULL, NULL, 0};
	int placed;

	if (request->count == 0 || candidates->n == 0)
		return 0;
	if (request->count == 1 && request->mark_count == 0)
		return place_one(candidates, request, chosen);
	if (request->mark_count > 0 && !index_marks(request, &marks))
		return -1;
	placed = a67_place_spread(candidates, request, &marks, chosen);
	free(marks.places);
	return placed;
}

/* ---- why not ----------------------------------------------------------------------------------- */

/* Counts a node that only resources keep out, with what is left of it beside `taken` replicas. */
static void
report_resources(const A67Candidate *node, const A67PlaceRequest *request, uint32_t taken,
				 A67PlaceReport *report)
{
	int64_t memory = node->free_memory_bytes - (int64_t) taken * request->memory_bytes;
	int64_t disk = node->free_disk_bytes - (int64_t) taken * request->disk_bytes;
	int64_t cpu = node->free_cpu_milli - (int64_t) taken * request->cpu_milli;

	report->left++;
	report->memory += memory < request->memory_bytes;
	report->cpu += cpu < request->cpu_milli;
	report->disk += disk < request->disk_bytes;
	if (memory > report->most_free_memory_bytes)
		report->most_free_memory_bytes = memory;
	if (disk > report->most_free_disk_bytes)
		report->most_free_disk_bytes = disk;
	if (cpu > report->most_free_cpu_milli)
		report->most_free_cpu_milli = (int32_t) cpu;
}

/* What the request says of a node; nothing, as if it had no mark, for most. */
static A67PlaceMark
mark_of(const A67PlaceRequest *request, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < request->mark_count; i++)
	{
		if (request->marks[i].index == index)
			return request->marks[i];
	}
	return (A67PlaceMark){.index = index};
}

static void
report_node(const A67Candidates *candidates, const A67PlaceRequest *request, uint32_t index,
			uint32_t taken, A67PlaceReport *report)
{
	const A67Candidate *node = &candidates->nodes[index];

	report->nodes++;
	if (!(node->flags & A67_NODE_ACTIVE))
		report->inactive++;
	else if (!(node->flags & A67_NODE_PLACEABLE))
		report->by_status[node->status < A67_NODE_STATUS_COUNT ? node->status
															   : A67_NODE_INITIALIZING]++;
	else if ((node->services & request->services) != request->services)
		report->service++;
	else if (!a67_place_bears_labels(a67_traits(candidates, index), request))
		report->labels++;
	else if (mark_of(request, index).barred)
		report->barred++;
	else if (mark_of(request, index).excluded)
		report->excluded++;
	else
		report_resources(node, request, taken, report);
}

void
a67_place_explain(const A67Candidates *candidates, const A67PlaceRequest *request,
				  const A67PlaceChoice *chosen, int placed, A67PlaceReport *report)
{
	/* Without memory the report is of the time before the placement. */
	uint32_t *taken = placed > 0 ? calloc(candidates->n, sizeof(*taken)) : NULL;
	uint32_t i;

	memset(report, 0, sizeof(*report));
	for (i = 0; taken != NULL && i < (uint32_t) placed; i++)
		taken[chosen[i].index]++;
	for (i = 0; i < candidates->n; i++)
	{
		const A67Candidate *node = &candidates->nodes[i];

		if ((node->flags & A67_NODE_USED) && node->owner == request->owner)
			report_node(candidates, request, i, taken != NULL ? taken[i] : 0, report);
	}
	free(taken);
}
