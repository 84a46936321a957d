/*
 * score.c - scores of a node; see score.h for the contract.
 *
 * Invariant: every part and every score lies in 0..1 for every input, NaN and infinities included.
 * a67_score runs once for each node of a selection: one division where the node has a limit of
 * connections, one more and an exponential where it has seen enough requests to be judged by them.
 */
#include "score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

#define RELIABILITY_SLOPE 10.0
#define WEIGHT_MOST		  1000.0
#define BOUND_SLACK \
	2e-5F /* the bound is halved with the rest, and may lose some 1e-6 to rounding */
#define TENTHS_HALF_LIFE (A67_HISTORY_HALF_LIFE_MS / A67_TENTH_MS)

/* The number itself within 0..1; below, above or NaN become 0, 1 and 0. */
static inline double
unit(double value)
{
	value = value > 0 ? value : 0;
	return value < 1 ? value : 1;
}

/* 1 for no load, 0 for full load; a negative load is no load at all but a broken report. */
static inline double
headroom(double load, double one_by_full)
{
	return load >= 0 ? unit(1 - load * one_by_full) : 0;
}

/* Tenths of a second since then; none when the clock went back. */
static inline uint32_t
age(uint32_t now, uint32_t at)
{
	return now > at ? now - at : 0;
}

static inline bool
metrics_usable(const A67Candidate *candidate, const A67ScoreView *view)
{
	return candidate->metrics_at != 0 &&
		   age(view->now, candidate->metrics_at) <= view->metrics_life;
}

static inline double
reliability(const A67Candidate *candidate, const A67ScoreView *view)
{
	double requests = candidate->requests;
	double failures = candidate->failures;

	if (!(requests >= 0 && requests < INFINITY && failures >= 0 && failures < INFINITY))
		return 0;
	if (requests <= A67_SCORE_RELIABILITY_REQUESTS)
		return 1;
	/* Both numbers fade alike, so their ratio stays; only whether they are enough needs the time. */
	if (requests * exp2(age(view->now, candidate->history_at) * (-1 / TENTHS_HALF_LIFE)) <=
		A67_SCORE_RELIABILITY_REQUESTS)
		return 1;
	return unit(1 - RELIABILITY_SLOPE * (failures / requests));
}

static inline double
connections(const A67Candidate *candidate)
{
	if (candidate->max_connections == 0)
		return 1;
	if (candidate->active_connections == A67_UNKNOWN_COUNT)
		return 0;
	return headroom(candidate->active_connections, 1.0 / candidate->max_connections);
}

/* Written so that NaN is loaded. */
static inline bool
loaded(const A67Candidate *candidate)
{
	return !(candidate->cpu_percent <= A67_SCORE_LOADED_PERCENT) ||
		   !(candidate->memory_percent <= A67_SCORE_LOADED_PERCENT);
}

double
a67_score(const A67Candidate *candidate, const A67ScoreView *view, A67ScoreParts *parts)
{
	A67ScoreParts own = {0};
	double sum;

	own.reliability = reliability(candidate, view);
	if (metrics_usable(candidate, view))
	{
		own.cpu = headroom(candidate->cpu_percent, 1.0 / 100);
		own.memory = headroom(candidate->memory_percent, 1.0 / 100);
		own.latency = headroom(candidate->latency_ms, 1.0 / A67_SCORE_LATENCY_WORST_MS);
		own.connections = connections(candidate);
		own.halved = loaded(candidate);
	}
	else
		own.halved = own.stale = true;
	sum = view->weights.cpu * own.cpu + view->weights.memory * own.memory +
		  view->weights.latency * own.latency + view->weights.connections * own.connections +
		  view->weights.reliability * own.reliability;
	if (parts != NULL)
		*parts = own;
	return unit(sum) * (own.halved ? 0.5 : 1);
}

A67ScoreBounds
a67_score_bounds(const A67ScoreWeights *weights)
{
	A67ScoreBounds bounds;

	bounds.cpu = (float) (weights->cpu / 100);
	bounds.memory = (float) (weights->memory / 100);
	bounds.latency = (float) (weights->latency / A67_SCORE_LATENCY_WORST_MS);
	bounds.rest = (float) (weights->connections + weights->reliability) + BOUND_SLACK;
	return bounds;
}

double
a67_score_resource(const A67Candidate *candidate, const A67ScoreView *view)
{
	double total = view->weights.cpu + view->weights.memory;
	double sum;

	if (!metrics_usable(candidate, view))
		return 0;
	sum = view->weights.cpu * headroom(candidate->cpu_percent, 1.0 / 100) +
		  view->weights.memory * headroom(candidate->memory_percent, 1.0 / 100);
	if (!(total > 0))
		return 0;
	return unit(sum / total) * (loaded(candidate) ? 0.5 : 1);
}

double
a67_score_connections(const A67Candidate *candidate, const A67ScoreView *view)
{
	if (!metrics_usable(candidate, view) || candidate->active_connections == A67_UNKNOWN_COUNT)
		return 0;
	return 1 / (1 + (double) candidate->active_connections);
}

static double
positive(double weight)
{
	return weight > 0 && isfinite(weight) ? weight : 0;
}

A67ScoreWeights
a67_score_normalise(const A67ScoreWeights *weights)
{
	A67ScoreWeights made = {positive(weights->cpu), positive(weights->memory),
							positive(weights->latency), positive(weights->connections),
							positive(weights->reliability)};
	double total = made.cpu + made.memory + made.latency + made.connections + made.reliability;

	if (total > 0)
	{
		made.cpu /= total;
		made.memory /= total;
		made.latency /= total;
		made.connections /= total;
		made.reliability /= total;
	}
	return made;
}

bool
a67_score_same_weights(const A67ScoreWeights *a, const A67ScoreWeights *b)
{
	return a->cpu == b->cpu && a->memory == b->memory && a->latency == b->latency &&
		   a->connections == b->connections && a->reliability == b->reliability;
}

/* The weight of that name; NULL when there is none. */
static double *
weight_named(A67ScoreWeights *weights, const char *name, size_t length)
{
	static const char *const names[] = {"cpu", "memory", "latency", "connections", "reliability"};
	double *const places[] = {&weights->cpu, &weights->memory, &weights->latency,
							  &weights->connections, &weights->reliability};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
			return places[i];
	}
	return NULL;
}

static const char *
skip_spaces(const char *text)
{
	return text + strspn(text, " \t");
}

/* One "name=number" at *text, which is moved behind it. False with the reason in why. */
static bool
parse_weight(const char **text, A67ScoreWeights *weights, char *why, size_t size)
{
	const char *name = skip_spaces(*text);
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz");
	const char *equals = skip_spaces(name + length);
	double *place = weight_named(weights, name, length);
	char *end;

	if (place == NULL || *equals != '=')
	{
		(void) snprintf(why, size,
						"Name parts among cpu, memory, latency, connections and reliability, each "
						"with \"=\" and its weight.");
		return false;
	}
	if (!isnan(*place))
	{
		(void) snprintf(why, size, "The weight of \"%.*s\" is there twice.", (int) length, name);
		return false;
	}
	equals = skip_spaces(equals + 1);
	*place = strtod(equals, &end);
	if (end == equals || strspn(equals, "0123456789.") < (size_t) (end - equals) ||
		!(*place >= 0 && *place <= WEIGHT_MOST))
	{
		(void) snprintf(why, size, "The weight of \"%.*s\" must be a number from 0 to %g.",
						(int) length, name, WEIGHT_MOST);
		return false;
	}
	*text = skip_spaces(end);
	return true;
}

bool
a67_score_weights_parse(const char *text, A67ScoreWeights *weights, char *why, size_t size)
{
	double *const places[] = {&weights->cpu, &weights->memory, &weights->latency,
							  &weights->connections, &weights->reliability};
	double total = 0;
	size_t i;

	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		*places[i] = NAN;
	for (;;)
	{
		if (!parse_weight(&text, weights, why, size))
			return false;
		if (*text == '\0')
			break;
		if (*text != ',')
		{
			(void) snprintf(why, size, "Weights are separated by commas.");
			return false;
		}
		text++;
	}
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
	{
		if (isnan(*places[i]))
			*places[i] = 0;
		total += *places[i];
	}
	if (total > 0)
		return true;
	(void) snprintf(why, size, "At least one weight must be above 0.");
	return false;
}
