/*
 * history.h - what a node has done lately: requests, failures and latency that fade.
 *
 * The half-life is a minute: what is left of a number after t seconds is exp(-ln2 * t / 60), worked out
 * when it is next looked at. Pure: `now` comes in. Called by the live node table; scores fade what they
 * read by themselves.
 */
#ifndef A67_HISTORY_H
#define A67_HISTORY_H

#include <stdint.h>

#define A67_HISTORY_HALF_LIFE_MS 60000.0

/* The factor that is left of a number after age_ms; 1 for no age. */
double a67_score_decay(int64_t age_ms);

/* Requests, failures and mean latency of a node, fading. */
typedef struct A67History
{
	double requests;
	double failures;
	double latency_ms; /* mean over the requests below; NaN: none seen */
	double latency_of; /* requests whose latency is in the mean, faded too */
	int64_t at_ms;	   /* when the numbers were current */
} A67History;

/*
 * Fades the history to now_ms and adds to it; latency_ms is the mean of these requests (of one
 * observation when requests is 0), NaN when it is not known. A clock that went back fades nothing.
 * Numbers that make no sense are left out.
 */
void a67_history_add(A67History *history, int64_t now_ms, double requests, double failures,
					 double latency_ms);

#endif /* A67_HISTORY_H */
