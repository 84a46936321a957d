/*
 * score.c - composite score of a node; see score.h for the contract.
 *
 * Invariant: every part and the score itself lie in 0..1 for every input, NaN and infinities
 * included.
 */
#include "score.h"

#include <math.h>
#include <stddef.h>

#define LN2				  0.69314718055994530942
#define RELIABILITY_SLOPE 10.0

/* The number itself within 0..1; below, above or NaN become 0, 1 and 0. */
static double
unit(double value)
{
	if (!(value > 0))
		return 0;
	return value < 1 ? value : 1;
}

/* 1 for no load, 0 for full load; a negative load is no load at all but a broken report. */
static double
headroom(double load, double full)
{
	return load >= 0 ? unit(1 - load / full) : 0;
}

static double
reliability(double requests, double failures)
{
	if (!isfinite(requests) || !isfinite(failures) || requests < 0 || failures < 0)
		return 0;
	if (requests <= A67_SCORE_RELIABILITY_REQUESTS)
		return 1;
	return unit(1 - RELIABILITY_SLOPE * (failures / requests));
}

static double
decay(double age_ms)
{
	return age_ms > 0 ? exp(-LN2 * (age_ms / A67_SCORE_HALF_LIFE_MS)) : 1;
}

static double
positive(double weight)
{
	return weight > 0 && isfinite(weight) ? weight : 0;
}

double
a67_score(const A67Candidate *candidate, const A67ScoreWeights *weights, A67ScoreParts *parts)
{
	static const A67ScoreWeights defaults = A67_SCORE_WEIGHTS_DEFAULT;
	A67ScoreParts own;
	double sum;
	double total;

	if (weights == NULL)
		weights = &defaults;
	if (parts == NULL)
		parts = &own;
	parts->cpu = headroom(candidate->cpu_percent, 100);
	parts->memory = headroom(candidate->memory_percent, 100);
	parts->latency = headroom(candidate->latency_ms, A67_SCORE_LATENCY_WORST_MS);
	parts->connections = candidate->max_connections == 0
							 ? 1
							 : headroom(candidate->active_connections, candidate->max_connections);
	parts->reliability = reliability(candidate->requests, candidate->failures);
	/* Written so that NaN halves. */
	parts->halved = !(candidate->cpu_percent <= A67_SCORE_LOADED_PERCENT) ||
					!(candidate->memory_percent <= A67_SCORE_LOADED_PERCENT);

	total = positive(weights->cpu) + positive(weights->memory) + positive(weights->latency) +
			positive(weights->connections) + positive(weights->reliability);
	sum = positive(weights->cpu) * parts->cpu + positive(weights->memory) * parts->memory +
		  positive(weights->latency) * parts->latency +
		  positive(weights->connections) * parts->connections +
		  positive(weights->reliability) * parts->reliability;
	if (!(total > 0))
		return 0;
	return unit(sum / total) * (parts->halved ? 0.5 : 1);
}

double
a67_score_decay(int64_t age_ms)
{
	return decay((double) age_ms);
}

void
a67_history_add(A67History *history, int64_t now_ms, double requests, double failures)
{
	/* Subtracting in floating point cannot overflow, whatever the two times are. */
	double age_ms = (double) now_ms - (double) history->at_ms;
	double left = decay(age_ms);

	history->requests = history->requests * left + requests;
	history->failures = history->failures * left + failures;
	if (age_ms > 0)
		history->at_ms = now_ms;
}
