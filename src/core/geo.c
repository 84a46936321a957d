/*
 * geo.c - the haversine formula; see geo.h.
 */
#include "geo.h"

#include <math.h>

#define EARTH_RADIUS_KM 6371.0
#define DEGREE			0.017453292519943295

double
a67_geo_km(A67Place from, A67Place to)
{
	double north = sin((to.latitude - from.latitude) * DEGREE / 2);
	double east = sin((to.longitude - from.longitude) * DEGREE / 2);
	double half_chord =
		north * north + cos(from.latitude * DEGREE) * cos(to.latitude * DEGREE) * east * east;

	/* Rounding may carry opposite points a little beyond 1. */
	if (half_chord > 1)
		half_chord = 1;
	return 2 * EARTH_RADIUS_KM * asin(sqrt(half_chord));
}
