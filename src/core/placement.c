/*
 * placement.c - choosing nodes for new replicas; see placement.h for the rules.
 *
 * Preparation, once per call: the candidates are scored and ranked (best first, equal scores by
 * id), and their regions and providers numbered densely so that replicas in each can be counted
 * in arrays. Then, per replica, one pass finds the least crowded class of candidates that have
 * room and the first few of it by rank. Memory: one plan per call, freed before it returns.
 */
#include "placement.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pace.h"

#define CHOICE_WIDTH  3

/* Sums of cores such as 0.1 + 0.2 must not fail to fit by a rounding error. */
#define CPU_TOLERANCE 1e-9

/* One candidate, in order of rank. */
typedef struct Ranked
{
	A67Candidate *candidate;
	double score;
	uint32_t region; /* dense numbers: indexes into the counts below */
	uint32_t provider;
} Ranked;

/* An interned number and where in the ranking it stands: for numbering densely by sorting. */
typedef struct Label
{
	int32_t value;
	uint32_t rank;
} Label;

typedef struct Plan
{
	Ranked *ranked;
	size_t n;
	uint64_t *region_replicas; /* by dense number: replicas of the deployment there */
	uint64_t *provider_replicas;
} Plan;

/* How crowded a candidate is, most important first; lower is better. */
typedef struct Crowding
{
	bool degraded;
	uint32_t on_node;
	uint64_t in_region;
	uint64_t at_provider;
} Crowding;

/* The least crowded candidates seen so far: how many, and the best-ranked few. */
typedef struct Choice
{
	Crowding crowding;
	size_t count;
	Ranked *best[CHOICE_WIDTH];
} Choice;

static int
compare_ranked(const void *a, const void *b)
{
	const Ranked *left = a;
	const Ranked *right = b;

	if (left->score != right->score)
		return left->score > right->score ? -1 : 1;
	return memcmp(left->candidate->id, right->candidate->id, sizeof(left->candidate->id));
}

static int
compare_labels(const void *a, const void *b)
{
	const Label *left = a;
	const Label *right = b;

	return (left->value > right->value) - (left->value < right->value);
}

static int
compare_crowding(const Crowding *a, const Crowding *b)
{
	if (a->degraded != b->degraded)
		return a->degraded ? 1 : -1;
	if (a->on_node != b->on_node)
		return a->on_node < b->on_node ? -1 : 1;
	if (a->in_region != b->in_region)
		return a->in_region < b->in_region ? -1 : 1;
	return (a->at_provider > b->at_provider) - (a->at_provider < b->at_provider);
}

/* Numbers regions and providers from 0 and counts the replicas already in each. */
static void
number_places(Plan *plan, Label *labels)
{
	uint32_t number = 0;
	size_t i;

	for (i = 0; i < plan->n; i++)
	{
		labels[i].value = plan->ranked[i].candidate->region;
		labels[i].rank = (uint32_t) i;
	}
	qsort(labels, plan->n, sizeof(*labels), compare_labels);
	for (i = 0; i < plan->n; i++)
	{
		Ranked *ranked = &plan->ranked[labels[i].rank];

		if (i > 0 && labels[i].value != labels[i - 1].value)
			number++;
		ranked->region = number;
		plan->region_replicas[number] += ranked->candidate->replicas_of_same;
	}

	number = 0;
	for (i = 0; i < plan->n; i++)
		labels[i].value = plan->ranked[labels[i].rank].candidate->provider;
	qsort(labels, plan->n, sizeof(*labels), compare_labels);
	for (i = 0; i < plan->n; i++)
	{
		Ranked *ranked = &plan->ranked[labels[i].rank];

		if (i > 0 && labels[i].value != labels[i - 1].value)
			number++;
		ranked->provider = number;
		plan->provider_replicas[number] += ranked->candidate->replicas_of_same;
	}
}

static void
plan_free(Plan *plan)
{
	free(plan->ranked);
	free(plan->region_replicas);
	free(plan->provider_replicas);
}

/* Scores, ranks and counts; false when there is no memory. */
static bool
plan_init(Plan *plan, A67Candidate *candidates, size_t n, const A67ScoreWeights *weights)
{
	Label *labels = malloc(n * sizeof(*labels));
	bool ready;

	plan->n = n;
	plan->ranked = malloc(n * sizeof(*plan->ranked));
	plan->region_replicas = calloc(n, sizeof(*plan->region_replicas));
	plan->provider_replicas = calloc(n, sizeof(*plan->provider_replicas));
	ready = labels != NULL && plan->ranked != NULL && plan->region_replicas != NULL &&
			plan->provider_replicas != NULL;
	if (ready)
	{
		size_t i;

		for (i = 0; i < n; i++)
		{
			plan->ranked[i].candidate = &candidates[i];
			plan->ranked[i].score = a67_score(&candidates[i], weights, NULL);
		}
		qsort(plan->ranked, n, sizeof(*plan->ranked), compare_ranked);
		number_places(plan, labels);
	}
	else
		plan_free(plan);
	free(labels);
	return ready;
}

static bool
has_memory(const A67Candidate *candidate, const A67PlaceRequest *request)
{
	return candidate->free_memory_bytes >= request->memory_bytes;
}

static bool
has_cpu(const A67Candidate *candidate, const A67PlaceRequest *request)
{
	return candidate->free_cpu + CPU_TOLERANCE >= request->cpu;
}

static Crowding
crowding_of(const Plan *plan, const Ranked *ranked)
{
	Crowding crowding;

	crowding.degraded = ranked->candidate->degraded;
	crowding.on_node = ranked->candidate->replicas_of_same;
	crowding.in_region = plan->region_replicas[ranked->region];
	crowding.at_provider = plan->provider_replicas[ranked->provider];
	return crowding;
}

/* One pass in order of rank over the candidates that have room. */
static Choice
find_least_crowded(const Plan *plan, const A67PlaceRequest *request)
{
	Choice choice = {.count = 0};
	size_t i;

	for (i = 0; i < plan->n; i++)
	{
		Ranked *ranked = &plan->ranked[i];
		Crowding crowding;
		int compared;

		if (!has_memory(ranked->candidate, request) || !has_cpu(ranked->candidate, request))
			continue;
		crowding = crowding_of(plan, ranked);
		compared = choice.count > 0 ? compare_crowding(&crowding, &choice.crowding) : -1;
		if (compared > 0)
			continue;
		if (compared < 0)
		{
			choice.crowding = crowding;
			choice.count = 0;
		}
		if (choice.count < CHOICE_WIDTH)
			choice.best[choice.count] = ranked;
		choice.count++;
	}
	return choice;
}

/* Takes one of the best third of the class, at most CHOICE_WIDTH of it, at random. */
static Ranked *
draw(const Choice *choice, uint64_t *seed)
{
	size_t third = (choice->count + 2) / 3;

	return choice->best[a67_random_below(seed, third < CHOICE_WIDTH ? third : CHOICE_WIDTH)];
}

static void
promise(Plan *plan, Ranked *ranked, const A67PlaceRequest *request)
{
	A67Candidate *candidate = ranked->candidate;

	candidate->free_memory_bytes -= request->memory_bytes;
	candidate->free_cpu -= request->cpu;
	candidate->replicas_of_same++;
	plan->region_replicas[ranked->region]++;
	plan->provider_replicas[ranked->provider]++;
}

/* Why no candidate takes another replica. */
static A67PlaceShortage
explain_shortage(const A67Candidate *candidates, size_t n, const A67PlaceRequest *request)
{
	bool some_memory = false;
	bool some_cpu = false;
	size_t i;

	if (n == 0)
		return A67_PLACE_NO_CANDIDATES;
	for (i = 0; i < n; i++)
	{
		some_memory = some_memory || has_memory(&candidates[i], request);
		some_cpu = some_cpu || has_cpu(&candidates[i], request);
	}
	if (some_memory == some_cpu)
		return A67_PLACE_SHORT_OF_BOTH;
	return some_memory ? A67_PLACE_SHORT_OF_CPU : A67_PLACE_SHORT_OF_MEMORY;
}

static void
report_most_free(A67PlaceResult *result, const A67Candidate *candidates, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
	{
		if (candidates[i].free_memory_bytes > result->most_free_memory_bytes)
			result->most_free_memory_bytes = candidates[i].free_memory_bytes;
		if (candidates[i].free_cpu > result->most_free_cpu)
			result->most_free_cpu = candidates[i].free_cpu;
	}
}

A67PlaceResult
a67_place(A67Candidate *candidates, size_t n, const A67PlaceRequest *request, uint32_t *chosen)
{
	A67PlaceResult result = {0, A67_PLACE_COMPLETE, 0, 0};
	uint64_t seed = request->seed;
	Plan plan;

	if (n > A67_PLACE_MAX_CANDIDATES || request->count > A67_PLACE_MAX_COUNT ||
		request->memory_bytes < 0 || !(request->cpu >= 0))
	{
		result.shortage = A67_PLACE_INVALID_REQUEST;
		return result;
	}
	if (n > 0 && request->count > 0)
	{
		if (!plan_init(&plan, candidates, n, request->weights))
		{
			result.shortage = A67_PLACE_OUT_OF_MEMORY;
			return result;
		}
		while (result.placed < request->count)
		{
			Choice choice = find_least_crowded(&plan, request);
			Ranked *ranked;

			if (choice.count == 0)
				break;
			ranked = draw(&choice, &seed);
			promise(&plan, ranked, request);
			chosen[result.placed++] = (uint32_t) (ranked->candidate - candidates);
		}
		plan_free(&plan);
	}
	if (result.placed < request->count)
		result.shortage = explain_shortage(candidates, n, request);
	report_most_free(&result, candidates, n);
	return result;
}

const char *
a67_place_shortage_name(A67PlaceShortage shortage)
{
	static const char *const names[] = {
		"complete",		 "no_candidates",	"short_of_memory", "short_of_cpu",
		"short_of_both", "invalid_request", "out_of_memory",
	};

	return (unsigned) shortage < sizeof(names) / sizeof(names[0]) ? names[shortage] : NULL;
}
