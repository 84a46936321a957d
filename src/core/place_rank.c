/*
 * place_rank.c - how good a node is for a request; see place_rank.h.
 *
 * Filters that read more than a cache line, scores by strategy, chance, and the names of strategies.
 */
#include "place_rank.h"

#include <stdlib.h>

#include "geo.h"
#include "pace.h"

A67PlaceGate
a67_place_gate(const A67PlaceRequest *request)
{
	A67Candidate mask = {0};
	A67Candidate want = {0};
	A67PlaceGate gate;

	mask.owner = UINT32_MAX;
	want.owner = request->owner;
	mask.flags = want.flags = A67_NODE_USED | A67_NODE_PLACEABLE;
	mask.services = want.services = request->services;
	memcpy(&gate.mask, &mask, sizeof(gate.mask));
	memcpy(&gate.want, &want, sizeof(gate.want));
	return gate;
}

const A67PlaceMark *
a67_place_mark(const A67PlaceMarks *marks, uint32_t index)
{
	uint32_t at;

	if (marks->places == NULL)
		return NULL;
	for (at = (uint32_t) a67_place_mix(index) & marks->mask; marks->places[at] != 0;
		 at = (at + 1) & marks->mask)
	{
		const A67PlaceMark *mark = &marks->marks[marks->places[at] - 1];

		if (mark->index == index)
			return mark;
	}
	return NULL;
}

bool
a67_place_bears_labels(const A67Traits *traits, const A67PlaceRequest *request)
{
	uint32_t i;

	for (i = 0; i < request->label_count; i++)
	{
		uint32_t k;

		for (k = 0; k < traits->label_count && traits->labels[k] != request->labels[i]; k++)
			;
		if (k == traits->label_count)
			return false;
	}
	return true;
}

static int
compare_distances(const void *a, const void *b)
{
	const A67PlaceDistance *left = a;
	const A67PlaceDistance *right = b;

	return (left->region > right->region) - (left->region < right->region);
}

void
a67_place_order_distances(A67PlaceDistance *distances, uint32_t count)
{
	if (count > 0)
		qsort(distances, count, sizeof(*distances), compare_distances);
}

/* 1 in the client's place, 0 on the other side of the globe or nobody knows where. */
static double
proximity(const A67Traits *traits, const A67PlaceRequest *request)
{
	uint32_t low = 0;
	uint32_t high = request->distance_count;
	double left;

	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;

		if (request->distances[middle].region < traits->region)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == request->distance_count || request->distances[low].region != traits->region)
		return 0;
	left = 1 - request->distances[low].km / A67_GEO_FARTHEST_KM;
	return left > 0 ? left : 0;
}

/* The number that decides between equals: the same for a node whatever its index. */
uint32_t
a67_place_chance(const A67Traits *traits, uint64_t seed)
{
	uint64_t low = 0;
	uint64_t high = 0;
	int i;

	for (i = 0; i < 8; i++)
	{
		low = low << 8 | traits->id[i];
		high = high << 8 | traits->id[8 + i];
	}
	return (uint32_t) (a67_place_mix(low ^ a67_place_mix(high ^ a67_place_mix(seed))) >> 32);
}

/* The strategy's score of a node. */
float
a67_place_score(const A67Candidates *candidates, const A67PlaceRequest *request, uint32_t index)
{
	const A67Candidate *node = &candidates->nodes[index];

	switch (request->strategy)
	{
		case A67_STRATEGY_COMPOSITE:
			return (float) a67_score(node, &request->view, NULL);
		case A67_STRATEGY_RESOURCE:
			return (float) a67_score_resource(node, &request->view);
		case A67_STRATEGY_LEAST_CONNECTIONS:
			return (float) a67_score_connections(node, &request->view);
		case A67_STRATEGY_GEOGRAPHIC:
			return (float) proximity(a67_traits(candidates, index), request);
		case A67_STRATEGY_ROUND_ROBIN:
			break;
	}
	return 1;
}

/* What decides between nodes of equal score, for strategies whose score has many equals. */
float
a67_place_second(const A67Candidates *candidates, const A67PlaceRequest *request, uint32_t index)
{
	if (request->strategy == A67_STRATEGY_LEAST_CONNECTIONS ||
		request->strategy == A67_STRATEGY_GEOGRAPHIC)
		return (float) a67_score(&candidates->nodes[index], &request->view, NULL);
	return 0;
}

/* Negative when a is better. The chances are filled in already, or not needed. */
int
a67_rank_compare(const A67Rank *a, const A67Rank *b)
{
	if (a->tier != b->tier)
		return a->tier < b->tier ? -1 : 1;
	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	if (a->second != b->second)
		return a->second > b->second ? -1 : 1;
	return a->chance < b->chance ? -1 : a->chance > b->chance;
}

uint32_t
a67_place_draw(const A67PlaceRequest *request, uint32_t seen, uint64_t *seed)
{
	uint32_t third = (seen + 2) / 3;

	if (request->strategy == A67_STRATEGY_ROUND_ROBIN)
		return 0;
	return (uint32_t) a67_random_below(seed, third < A67_CHOICE_WIDTH ? third : A67_CHOICE_WIDTH);
}

/* ---- names ------------------------------------------------------------------------------------- */

static const char *const strategies[] = {
	[A67_STRATEGY_COMPOSITE] = "composite",
	[A67_STRATEGY_RESOURCE] = "resource",
	[A67_STRATEGY_LEAST_CONNECTIONS] = "least_connections",
	[A67_STRATEGY_ROUND_ROBIN] = "round_robin",
	[A67_STRATEGY_GEOGRAPHIC] = "geographic",
};

#define STRATEGIES (sizeof(strategies) / sizeof(strategies[0]))

bool
a67_strategy_parse(const char *name, A67Strategy *strategy)
{
	size_t i;

	for (i = 0; i < STRATEGIES; i++)
	{
		if (strcmp(strategies[i], name) == 0)
		{
			*strategy = (A67Strategy) i;
			return true;
		}
	}
	return false;
}

const char *
a67_strategy_name(A67Strategy strategy)
{
	return (unsigned) strategy < STRATEGIES ? strategies[strategy] : NULL;
}
