/*
 * score.h - how well a node would serve one more replica or request, as one number in 0..1.
 *
 * Pure arithmetic over a snapshot of the node: `now` comes in, nothing is allocated. The composite
 * score is the weighted mean of five parts, each 1 at best and 0 at worst, halved when cpu or memory
 * is above 80 %; the other strategies rank by less. A number that makes no sense (NaN, negative load)
 * or is too old to count is the worst value, so that a broken or silent report never wins. Called by placement, the live node table and SQL faces.
 */
#ifndef A67_SCORE_H
#define A67_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_SCORE_LATENCY_WORST_MS	   500.0 /* this and slower is 0 */
#define A67_SCORE_LOADED_PERCENT	   80.0	 /* above this the score is halved */
#define A67_SCORE_RELIABILITY_REQUESTS 100.0 /* fewer than this say nothing about reliability */
#define A67_TENTH_MS				   100	 /* the clock of candidates counts tenths of a second */

#define A67_UNKNOWN_COUNT			   UINT32_MAX

/* Bits of A67Candidate.flags. */
#define A67_NODE_USED				   0x01 /* there is a node in this place */
#define A67_NODE_PLACEABLE			   0x02 /* active and ready, busy or degraded, and all facts are known */
#define A67_NODE_LAST				   0x04 /* degraded: taken last */
#define A67_NODE_NEAR_QUOTA			   0x08 /* of its provider: taken after all others of its kind */
#define A67_NODE_ACTIVE				   0x10 /* its owner wants it to be used */

/* What choosing among many nodes reads of each of them: one cache line. */
typedef struct A67Candidate
{
	uint32_t owner;	  /* the caller's number for him */
	uint8_t status;	  /* A67NodeStatus */
	uint8_t services; /* bits, the caller's */
	uint16_t flags;
	int64_t free_memory_bytes; /* to promise; below 0 when the node shrank */
	int64_t free_disk_bytes;
	int32_t free_cpu_milli; /* thousandths of a core */
	float cpu_percent;		/* NaN: unknown, here and below */
	float memory_percent;
	float latency_ms;
	float requests; /* as of history_at */
	float failures;
	uint32_t active_connections; /* A67_UNKNOWN_COUNT: unknown */
	uint32_t max_connections;	 /* 0: no limit known, the part is 1 */
	uint32_t metrics_at;		 /* tenths of a second; 0: never */
	uint32_t history_at;
} A67Candidate;

typedef struct A67ScoreWeights
{
	double cpu;
	double memory;
	double latency;
	double connections;
	double reliability;
} A67ScoreWeights;

#define A67_SCORE_WEIGHTS_TEXT "cpu=0.30,memory=0.25,latency=0.20,connections=0.15,reliability=0.10"
#define A67_SCORE_WEIGHTS_DEFAULT    \
	{                                \
		0.30, 0.25, 0.20, 0.15, 0.10 \
	}

/* The moment at which, and the eyes with which, nodes are looked at. */
typedef struct A67ScoreView
{
	A67ScoreWeights weights; /* normalised: a67_score_normalise() */
	uint32_t now;			 /* on the clock of metrics_at */
	uint32_t metrics_life;	 /* metrics older than this are unknown */
	uint32_t health_life;	 /* without a sign of life for so long, the status is in doubt */
} A67ScoreView;

typedef struct A67ScoreParts
{
	double cpu;
	double memory;
	double latency;
	double connections;
	double reliability;
	bool halved;
	bool stale; /* the metrics were too old, or there were none */
} A67ScoreParts;

/* Composite score in 0..1. parts may be NULL. */
double a67_score(const A67Candidate *candidate, const A67ScoreView *view, A67ScoreParts *parts);

/* The weights as a67_score_bound() takes them, by a67_score_bounds(). */
typedef struct A67ScoreBounds
{
	float cpu;
	float memory;
	float latency;
	float rest; /* connections and reliability at their best, and what rounding may take */
} A67ScoreBounds;

A67ScoreBounds a67_score_bounds(const A67ScoreWeights *weights);

/*
 * No less than the composite score, for a fraction of its cost: as if nothing spoke against the node's
 * connections and reliability. A scan of many nodes scores only those that this gives hope.
 */
static inline float
a67_score_bound(const A67Candidate *candidate, const A67ScoreBounds *bounds)
{
	/* What is no number becomes 0 by these comparisons, as in the score. */
	float cpu = 100.0F - candidate->cpu_percent;
	float memory = 100.0F - candidate->memory_percent;
	float latency = (float) A67_SCORE_LATENCY_WORST_MS - candidate->latency_ms;
	float most = bounds->rest + bounds->cpu * (cpu > 0 ? cpu : 0) +
				 bounds->memory * (memory > 0 ? memory : 0) +
				 bounds->latency * (latency > 0 ? latency : 0);

	if (cpu >= 100.0F - (float) A67_SCORE_LOADED_PERCENT &&
		memory >= 100.0F - (float) A67_SCORE_LOADED_PERCENT)
		return most;
	return most * 0.5F;
}

/* The parts of cpu and memory alone, by their weights; halved like the composite. */
double a67_score_resource(const A67Candidate *candidate, const A67ScoreView *view);

/* 1 / (1 + active requests); 0 when they are unknown. */
double a67_score_connections(const A67Candidate *candidate, const A67ScoreView *view);

/* Makes the weights add up to 1. Negative, infinite and NaN ones count as 0; all 0 stay 0. */
A67ScoreWeights a67_score_normalise(const A67ScoreWeights *weights);

bool a67_score_same_weights(const A67ScoreWeights *a, const A67ScoreWeights *b);

/*
 * Reads weights written like A67_SCORE_WEIGHTS_TEXT: numbers from 0 to 1000, at least one above 0, a
 * part not named counts 0. False, with a full sentence in why, for anything else.
 */
bool a67_score_weights_parse(const char *text, A67ScoreWeights *weights, char *why, size_t size);

#endif /* A67_SCORE_H */
