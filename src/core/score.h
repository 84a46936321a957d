/*
 * score.h - how well a node would serve one more replica or request, as one number in 0..1.
 *
 * Pure arithmetic over a snapshot of the node: no clock, no memory. Each part is 1 at best and 0
 * at worst; the score is their weighted mean, halved when cpu or memory is above 80 %. A number
 * that makes no sense (NaN, negative load) counts as the worst value, so a broken report never
 * wins. Called by placement, the registry's node selection and SQL faces.
 */
#ifndef A67_SCORE_H
#define A67_SCORE_H

#include <stdbool.h>
#include <stdint.h>

#define A67_SCORE_LATENCY_WORST_MS	   500.0 /* this and slower is 0 */
#define A67_SCORE_LOADED_PERCENT	   80.0	 /* above this the score is halved */
#define A67_SCORE_RELIABILITY_REQUESTS 100.0 /* fewer than this say nothing about reliability */
#define A67_SCORE_HALF_LIFE_MS		   60000.0

typedef struct A67Candidate
{
	uint8_t id[16]; /* orders equal scores, so that results do not depend on input order */
	int32_t region; /* the caller's numbers for names; equal means same */
	int32_t provider;
	double cpu_percent;
	double memory_percent;
	double latency_ms;
	uint32_t active_connections;
	uint32_t max_connections; /* 0: no limit known, the part is 1 */
	double requests;		  /* decayed to now, see A67History */
	double failures;
	int64_t free_memory_bytes;
	double free_cpu; /* cores */
	bool degraded;
	uint32_t replicas_of_same; /* replicas of the deployment that it already holds */
} A67Candidate;

typedef struct A67ScoreWeights
{
	double cpu;
	double memory;
	double latency;
	double connections;
	double reliability;
} A67ScoreWeights;

#define A67_SCORE_WEIGHTS_DEFAULT    \
	{                                \
		0.30, 0.25, 0.20, 0.15, 0.10 \
	}

typedef struct A67ScoreParts
{
	double cpu;
	double memory;
	double latency;
	double connections;
	double reliability;
	bool halved;
} A67ScoreParts;

/* Requests and failures of a node that fade with a half-life of 60 s. */
typedef struct A67History
{
	double requests;
	double failures;
	int64_t at_ms; /* when the two numbers were current */
} A67History;

/*
 * Score in 0..1. weights may be NULL for the defaults; negative or NaN weights count as 0, and
 * if none is left the score is 0. parts may be NULL.
 */
double a67_score(const A67Candidate *candidate, const A67ScoreWeights *weights,
				 A67ScoreParts *parts);

/* The factor that is left of a number after age_ms: exp(-ln2 * age / half-life); 1 for no age. */
double a67_score_decay(int64_t age_ms);

/* Fades the history to now_ms and adds to it.  A clock that went back fades nothing. */
void a67_history_add(A67History *history, int64_t now_ms, double requests, double failures);

#endif /* A67_SCORE_H */
