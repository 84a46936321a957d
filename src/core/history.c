/*
 * history.c - fading counts; see history.h.
 */
#include "history.h"

#include <math.h>

static double
decay(double age_ms)
{
	return age_ms > 0 ? exp2(-(age_ms / A67_HISTORY_HALF_LIFE_MS)) : 1;
}

double
a67_score_decay(int64_t age_ms)
{
	return decay((double) age_ms);
}

static double
sensible(double number)
{
	return number > 0 && isfinite(number) ? number : 0;
}

void
a67_history_add(A67History *history, int64_t now_ms, double requests, double failures,
				double latency_ms)
{
	/* Subtracting in floating point cannot overflow, whatever the two times are. */
	double age_ms = (double) now_ms - (double) history->at_ms;
	double left = decay(age_ms);
	double weight = sensible(requests) > 1 ? requests : 1;

	history->requests = history->requests * left + sensible(requests);
	history->failures = history->failures * left + sensible(failures);
	history->latency_of *= left;
	if (latency_ms >= 0 && isfinite(latency_ms))
	{
		double known = isfinite(history->latency_ms) ? history->latency_of : 0;

		history->latency_ms =
			((known > 0 ? history->latency_ms * known : 0) + latency_ms * weight) /
			(known + weight);
		history->latency_of = known + weight;
	}
	if (age_ms > 0)
		history->at_ms = now_ms;
}
