/*
 * placement.h - on which nodes new replicas go.
 *
 * Decides only; starts nothing and promises nothing to anybody else. A node qualifies when it is
 * placeable, its owner's, offers the services, bears the labels and has the resources free; each
 * replica placed is taken off its node for the rest of the call. Order of preference: not degraded
 * (nor avoided, nor silent for long), not near its quota, then the fewest replicas of the deployment
 * on the node, in its region, at its provider, then the strategy's score. Among the best third of the
 * equals, at most three, chance decides, which keeps many deciders from piling onto the same node;
 * round robin leaves nothing to chance. The same seed gives the same choice in whatever order the
 * nodes are, but for round robin, whose turns follow that order. One replica: one pass over the nodes, nothing allocated.
 * More of them, or some there already: one pass, then a logarithm of the nodes for each replica.
 * Called by the SQL faces of selection.
 */
#ifndef A67_PLACEMENT_H
#define A67_PLACEMENT_H

#include "score.h"

#define A67_PLACE_MAX_COUNT 10000
#define A67_LABELS_MAX		16

typedef enum A67Strategy
{
	A67_STRATEGY_COMPOSITE,
	A67_STRATEGY_RESOURCE,
	A67_STRATEGY_LEAST_CONNECTIONS,
	A67_STRATEGY_ROUND_ROBIN,
	A67_STRATEGY_GEOGRAPHIC
} A67Strategy;

/* What choosing reads of few nodes only. Names are hashes, equal for equal names; 0: none. */
typedef struct A67Traits
{
	uint8_t id[16];
	uint64_t region;
	uint64_t provider;
	uint32_t label_count;
	uint64_t labels[A67_LABELS_MAX];
} A67Traits;

/* The nodes: two arrays of n, the second with traits at every `stride` bytes. */
typedef struct A67Candidates
{
	const A67Candidate *nodes;
	const A67Traits *traits;
	size_t stride;
	uint32_t n;
	const float *bounds; /* a67_score_bound() of each by bound_weights; NULL: nobody keeps them */
	A67ScoreWeights bound_weights;
} A67Candidates;

/* What the caller knows of single nodes; those not named have none of it. */
typedef struct A67PlaceMark
{
	uint32_t index;
	uint32_t replicas; /* of the same deployment, there already */
	bool avoided;	   /* taken last, like a degraded one */
	bool excluded;	   /* not taken */
	bool barred;	   /* not taken either: the app does not allow it */
} A67PlaceMark;

/* How far a region is from the client. a67_place_order_distances() puts them in order of region. */
typedef struct A67PlaceDistance
{
	uint64_t region;
	double km;
} A67PlaceDistance;

void a67_place_order_distances(A67PlaceDistance *distances, uint32_t count);

typedef struct A67PlaceRequest
{
	uint32_t owner;
	uint32_t count;		  /* replicas wanted, at most A67_PLACE_MAX_COUNT */
	int64_t memory_bytes; /* of each replica, here and below; none negative */
	int64_t disk_bytes;
	int32_t cpu_milli;
	uint8_t services; /* bits that a node must have */
	uint32_t label_count;
	const uint64_t *labels; /* that a node must bear */
	A67Strategy strategy;
	A67ScoreView view;
	const A67PlaceDistance *distances; /* A67_STRATEGY_GEOGRAPHIC: in order of region; one not named
										* is farthest */
	uint32_t distance_count;
	const A67PlaceMark *marks; /* at most one for a node */
	uint32_t mark_count;
	uint32_t turn; /* A67_STRATEGY_ROUND_ROBIN: the first index to look at */
	uint64_t seed;
} A67PlaceRequest;

/* Why a node was not the first choice, as bits. */
#define A67_PENALTY_DEGRADED   0x1 /* its status */
#define A67_PENALTY_AVOIDED	   0x2
#define A67_PENALTY_SILENT	   0x4 /* no sign of life for view.health_life */
#define A67_PENALTY_NEAR_QUOTA 0x8

typedef struct A67PlaceChoice
{
	uint32_t index;
	uint8_t penalties;
	double score; /* by the strategy, 0..1 */
} A67PlaceChoice;

/*
 * Chooses nodes for up to request->count replicas, in order, with room for as many at `chosen`.
 * Returns how many were placed, fewer when no node takes another; -1 when there is no memory.
 */
int a67_place(const A67Candidates *candidates, const A67PlaceRequest *request,
			  A67PlaceChoice *chosen);

/* Of the owner's nodes, how many are out for which reason (the first that applies, resources apart). */
typedef struct A67PlaceReport
{
	uint32_t nodes;
	uint32_t by_status[9]; /* not placeable though wanted; by A67NodeStatus */
	uint32_t inactive;	   /* their owner takes them out: draining or maintenance */
	uint32_t service;
	uint32_t labels;
	uint32_t barred;
	uint32_t excluded;
	uint32_t left;	 /* that only resources could keep out */
	uint32_t memory; /* of these: how many lack it for one replica, or one more */
	uint32_t cpu;
	uint32_t disk;
	int64_t most_free_memory_bytes; /* of a single one of these */
	int64_t most_free_disk_bytes;
	int32_t most_free_cpu_milli;
} A67PlaceReport;

/* Fills the report for what errors say: why nothing could be placed beside what was. */
void a67_place_explain(const A67Candidates *candidates, const A67PlaceRequest *request,
					   const A67PlaceChoice *chosen, int placed, A67PlaceReport *report);

/* Strategies by name, as in SQL. False when there is none of that name. */
bool a67_strategy_parse(const char *name, A67Strategy *strategy);
const char *a67_strategy_name(A67Strategy strategy);

#endif /* A67_PLACEMENT_H */
