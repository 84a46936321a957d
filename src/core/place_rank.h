/*
 * place_rank.h - what placement's passes share: which nodes qualify, and how good each is.
 *
 * Private to placement.c and spread.c. A rank orders nodes of one crowding: tier, the strategy's
 * score, a second score where that says too little, then a number that is random by seed and the
 * same for a node wherever it stands. What runs once for each node of a scan is inline.
 */
#ifndef A67_PLACE_RANK_H
#define A67_PLACE_RANK_H

#include "placement.h"

#include <string.h>

#include "nodefsm.h"

#define A67_CHOICE_WIDTH 3
#define A67_CLASS_SEEN \
	7 /* a third of it, rounded up, is A67_CHOICE_WIDTH: more need not be counted */

typedef struct A67Rank
{
	float score;
	float second;
	uint32_t chance;
	uint8_t tier; /* lower is better */
	uint8_t penalties;
} A67Rank;

/* The marks of a request, found by index: an array of open addresses, or nothing. */
typedef struct A67PlaceMarks
{
	const A67PlaceMark *marks;
	uint32_t *places; /* index into marks + 1; 0 free */
	uint32_t mask;
} A67PlaceMarks;

static inline const A67Traits *
a67_traits(const A67Candidates *candidates, uint32_t index)
{
	return (const A67Traits *) ((const char *) candidates->traits + index * candidates->stride);
}

static inline uint64_t
a67_place_mix(uint64_t number)
{
	number ^= number >> 33;
	number *= UINT64_C(0xff51afd7ed558ccd);
	number ^= number >> 33;
	number *= UINT64_C(0xc4ceb9fe1a85ec53);
	return number ^ number >> 33;
}

/* What the request says of a node; NULL when it does not name it. */
const A67PlaceMark *a67_place_mark(const A67PlaceMarks *marks, uint32_t index);

static inline bool
a67_place_has_room(const A67Candidate *node, const A67PlaceRequest *request)
{
	return node->free_memory_bytes >= request->memory_bytes &&
		   node->free_cpu_milli >= request->cpu_milli &&
		   node->free_disk_bytes >= request->disk_bytes;
}

bool a67_place_bears_labels(const A67Traits *traits, const A67PlaceRequest *request);

/*
 * Owner, services and flags are the first eight bytes of a candidate: a node passes when, under the mask,
 * they are what is wanted.
 */
typedef struct A67PlaceGate
{
	uint64_t mask;
	uint64_t want;
} A67PlaceGate;

A67PlaceGate a67_place_gate(const A67PlaceRequest *request);

/* All filters but the marks. */
static inline bool
a67_place_qualifies(const A67Candidates *candidates, const A67PlaceRequest *request,
					A67PlaceGate gate, uint32_t index)
{
	const A67Candidate *node = &candidates->nodes[index];
	uint64_t first;

	memcpy(&first, node, sizeof(first));
	return (first & gate.mask) == gate.want && a67_place_has_room(node, request) &&
		   (request->label_count == 0 ||
			a67_place_bears_labels(a67_traits(candidates, index), request));
}

static inline uint8_t
a67_place_penalties(const A67Candidate *node, const A67PlaceRequest *request, bool avoided)
{
	uint32_t now = request->view.now;
	bool silent = node->metrics_at == 0 ||
				  (now > node->metrics_at && now - node->metrics_at > request->view.health_life);

	return (uint8_t) ((node->flags & A67_NODE_LAST ? A67_PENALTY_DEGRADED : 0) |
					  (avoided ? A67_PENALTY_AVOIDED : 0) | (silent ? A67_PENALTY_SILENT : 0) |
					  (node->flags & A67_NODE_NEAR_QUOTA ? A67_PENALTY_NEAR_QUOTA : 0));
}

/* Degraded, avoided and silent nodes come after all others, those near their quota last of each kind. */
static inline uint8_t
a67_place_tier(uint8_t penalties)
{
	return (uint8_t) ((penalties & ~A67_PENALTY_NEAR_QUOTA ? 2 : 0) +
					  (penalties & A67_PENALTY_NEAR_QUOTA ? 1 : 0));
}

/* Round robin: how many places from the turn on; the fewer the better. */
static inline uint32_t
a67_place_wait(const A67PlaceRequest *request, uint32_t index)
{
	return index - request->turn;
}

/* The number that decides between equals: the same for a node whatever its index. */
uint32_t a67_place_chance(const A67Traits *traits, uint64_t seed);

/* The strategy's score of a node, and what decides between equals for strategies that have many. */
float a67_place_score(const A67Candidates *candidates, const A67PlaceRequest *request,
					  uint32_t index);
float a67_place_second(const A67Candidates *candidates, const A67PlaceRequest *request,
					   uint32_t index);

/* Negative when a is better. */
int a67_rank_compare(const A67Rank *a, const A67Rank *b);

/* Which of the class's best is taken; `seen` of them are known, at most A67_CLASS_SEEN. */
uint32_t a67_place_draw(const A67PlaceRequest *request, uint32_t seen, uint64_t *seed);

/* spread.c: the general case. */
int a67_place_spread(const A67Candidates *candidates, const A67PlaceRequest *request,
					 const A67PlaceMarks *marks, A67PlaceChoice *chosen);

#endif /* A67_PLACE_RANK_H */
