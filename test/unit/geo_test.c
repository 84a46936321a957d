/*
 * geo_test.c - distances on the globe: known ones, symmetry, the poles and the date line.
 */
#include "core/geo.h"

#include "core/pace.h"
#include "unit.h"

static const A67Place frankfurt = {50.1109, 8.6821};
static const A67Place virginia = {38.9519, -77.4480};
static const A67Place sydney = {-33.8688, 151.2093};

static void
known_distances(void)
{
	/* By the same formula elsewhere, within half a percent of the geodesic. */
	CHECK_NEAR(a67_geo_km(frankfurt, virginia), 6539, 6539 * 0.005);
	CHECK_NEAR(a67_geo_km(frankfurt, sydney), 16484, 16484 * 0.005);
	CHECK_NEAR(a67_geo_km((A67Place){0, 0}, (A67Place){0, 1}), 111.19, 0.01);
	CHECK_NEAR(a67_geo_km(sydney, sydney), 0, 0);
}

static void
poles_and_date_line(void)
{
	CHECK_NEAR(a67_geo_km((A67Place){90, 0}, (A67Place){90, 135}), 0, 1e-6);
	CHECK_NEAR(a67_geo_km((A67Place){90, 0}, (A67Place){-90, 0}), A67_GEO_FARTHEST_KM, 1e-6);
	CHECK_NEAR(a67_geo_km((A67Place){0, 0}, (A67Place){0, 180}), A67_GEO_FARTHEST_KM, 1e-6);
	CHECK_NEAR(a67_geo_km((A67Place){10, 179.5}, (A67Place){10, -179.5}), 109.5, 0.1);
}

static void
no_place_is_no_distance(void)
{
	CHECK(isnan(a67_geo_km((A67Place){NAN, 0}, frankfurt)));
	CHECK(isnan(a67_geo_km(frankfurt, (A67Place){0, NAN})));
}

static double
degrees(uint64_t *seed, uint64_t limit)
{
	return (double) a67_random_below(seed, 2 * limit * 1000 + 1) / 1000 - (double) limit;
}

static void
distances_are_distances(void)
{
	uint64_t seed = 9;
	int i;

	for (i = 0; i < 20000; i++)
	{
		A67Place a = {degrees(&seed, 90), degrees(&seed, 180)};
		A67Place b = {degrees(&seed, 90), degrees(&seed, 180)};
		A67Place c = {degrees(&seed, 90), degrees(&seed, 180)};
		double there = a67_geo_km(a, b);

		CHECK(there >= 0 && there <= A67_GEO_FARTHEST_KM + 1e-6);
		CHECK_NEAR(a67_geo_km(b, a), there, 1e-6);
		CHECK(there <= a67_geo_km(a, c) + a67_geo_km(c, b) + 1e-6);
	}
}

UNIT_MAIN("geo", UNIT(known_distances), UNIT(poles_and_date_line), UNIT(no_place_is_no_distance),
		  UNIT(distances_are_distances));
