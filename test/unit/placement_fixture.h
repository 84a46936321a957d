/*
 * placement_fixture.h - a cloud of nodes for tests of placement, and short ways to ask for replicas.
 *
 * Included once per test program, hence the static state.
 */
#ifndef A67_PLACEMENT_FIXTURE_H
#define A67_PLACEMENT_FIXTURE_H

#include "core/nodefsm.h"
#include "core/placement.h"
#include "unit.h"

#define GIB	  (INT64_C(1) << 30)
#define MOST  1000
#define NOW	  10000
#define OWNER 7

/* A cloud of up to MOST nodes. */
typedef struct Cloud
{
	A67Candidate nodes[MOST];
	A67Traits traits[MOST];
	uint32_t n;
	A67PlaceMark marks[MOST];
	uint32_t mark_count;
	bool bounded; /* with the bounds of the scores */
	float bounds[MOST];
} Cloud;

static Cloud cloud;
static A67PlaceChoice chosen[A67_PLACE_MAX_COUNT];

/* n nodes with room for many replicas, alike but for id, in one region and with one provider. */
static inline void
alike(uint32_t n)
{
	uint32_t i;

	memset(&cloud, 0, sizeof(cloud));
	cloud.n = n;
	for (i = 0; i < n; i++)
	{
		A67Candidate *node = &cloud.nodes[i];

		node->owner = OWNER;
		node->status = A67_NODE_READY;
		node->services = 1;
		node->flags = A67_NODE_USED | A67_NODE_PLACEABLE | A67_NODE_ACTIVE;
		node->free_memory_bytes = 64 * GIB;
		node->free_disk_bytes = 64 * GIB;
		node->free_cpu_milli = 64000;
		node->cpu_percent = 20;
		node->memory_percent = 20;
		node->max_connections = 100;
		node->metrics_at = node->history_at = NOW;
		cloud.traits[i].id[0] = (uint8_t) (i >> 8);
		cloud.traits[i].id[1] = (uint8_t) i;
	}
}

static inline A67PlaceRequest
request(uint32_t count, int64_t memory_bytes, int32_t cpu_milli, uint64_t seed)
{
	static const A67ScoreView view = {A67_SCORE_WEIGHTS_DEFAULT, NOW, 300, 600};
	A67PlaceRequest made = {.owner = OWNER, .count = count, .memory_bytes = memory_bytes};

	made.cpu_milli = cpu_milli;
	made.seed = seed;
	made.view = view;
	return made;
}

static inline A67Candidates
candidates_of_cloud(const A67PlaceRequest *wanted)
{
	A67Candidates candidates = {.nodes = cloud.nodes, .traits = cloud.traits, .n = cloud.n};
	A67ScoreBounds bounds = a67_score_bounds(&wanted->view.weights);
	uint32_t i;

	candidates.stride = sizeof(A67Traits);
	candidates.bound_weights = wanted->view.weights;
	if (cloud.bounded)
		candidates.bounds = cloud.bounds;
	for (i = 0; i < cloud.n; i++)
		cloud.bounds[i] = a67_score_bound(&cloud.nodes[i], &bounds);
	return candidates;
}

static inline int
place(A67PlaceRequest *wanted)
{
	A67Candidates candidates = candidates_of_cloud(wanted);

	wanted->marks = cloud.marks;
	wanted->mark_count = cloud.mark_count;
	return a67_place(&candidates, wanted, chosen);
}

static inline A67PlaceMark *
mark(uint32_t index)
{
	A67PlaceMark *made = &cloud.marks[cloud.mark_count++];

	made->index = index;
	return made;
}

#endif /* A67_PLACEMENT_FIXTURE_H */
