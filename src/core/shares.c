/*
 * shares.c - tries every scale from 1 to the largest weight, and keeps the one with the smallest error.
 */
#include "core/shares.h"

#include <math.h>
#include <stdbool.h>

static bool
counts(double share)
{
	return share >= 1e-100 && share <= 1e100;
}

static int
rounded(double share, double unit)
{
	double weight;

	if (!counts(share))
		return 0;
	weight = floor(share / unit + 0.5);
	return weight < 1 ? 1 : (int) weight;
}

/* The largest difference between a server's part of the requests and its share, as a fraction of all. */
static double
error_at(const double *shares, size_t count, double unit, double total)
{
	double sum = 0;
	double worst = 0;

	for (size_t i = 0; i < count; i++)
		sum += rounded(shares[i], unit);
	for (size_t i = 0; i < count; i++)
	{
		double error;

		if (!counts(shares[i]))
			continue;
		error = fabs(rounded(shares[i], unit) / sum - shares[i] / total);
		if (error > worst)
			worst = error;
	}
	return worst;
}

void
a67_shares_round(const double *shares, int *weights, size_t count)
{
	double largest = 0;
	double total = 0;
	double best = INFINITY;
	int scale = 1;

	for (size_t i = 0; i < count; i++)
	{
		if (!counts(shares[i]))
			continue;
		total += shares[i];
		if (shares[i] > largest)
			largest = shares[i];
	}
	for (int s = 1; s <= A67_WEIGHT_MAX && largest > 0 && best > 1e-9; s++)
	{
		double error = error_at(shares, count, largest / s, total);

		if (error < best - 1e-9)
		{
			best = error;
			scale = s;
		}
	}
	for (size_t i = 0; i < count; i++)
		weights[i] = rounded(shares[i], largest / scale);
}
