/*
 * geo.h - distances on the globe.
 *
 * The haversine formula over a sphere of the earth's mean radius: right within half a percent, which
 * is far less than what routes add. No state. Called by the SQL face of node selection.
 */
#ifndef A67_GEO_H
#define A67_GEO_H

#define A67_GEO_FARTHEST_KM 20015.086796020572 /* half the circumference */

/* A place in degrees: latitude -90..90, longitude -180..180. */
typedef struct A67Place
{
	double latitude;
	double longitude;
} A67Place;

/* Kilometres between two places; NaN when a coordinate is no number. */
double a67_geo_km(A67Place from, A67Place to);

#endif /* A67_GEO_H */
