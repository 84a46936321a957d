/*
 * placement.h - on which nodes new replicas go.
 *
 * Decides only; starts nothing. Which nodes may be used at all (status, owner, drain) is the
 * caller's filter. A candidate must have the memory and cpu free; each replica placed is taken
 * off its node in the caller's array, so one call, or a row of calls over one array, never
 * promises a resource twice. Order of preference: not degraded, then fewest replicas of the
 * deployment on the node, in its region, at its provider; among the nodes equal in all of these,
 * one of the best-scored few at random, which keeps many deciders from piling onto the same
 * node. The same seed gives the same choice whatever the order of the array. Called by the
 * reconciler's plan and SQL faces.
 */
#ifndef A67_PLACEMENT_H
#define A67_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include "score.h"

#define A67_PLACE_MAX_CANDIDATES 100000
#define A67_PLACE_MAX_COUNT		 10000

typedef struct A67PlaceRequest
{
	uint32_t count;		  /* replicas wanted, at most A67_PLACE_MAX_COUNT */
	int64_t memory_bytes; /* of each replica */
	double cpu;			  /* cores of each replica */
	uint64_t seed;
	const A67ScoreWeights *weights; /* NULL for the defaults */
} A67PlaceRequest;

typedef enum A67PlaceShortage
{
	A67_PLACE_COMPLETE, /* everything was placed */
	A67_PLACE_NO_CANDIDATES,
	A67_PLACE_SHORT_OF_MEMORY, /* some node has the cpu, none the memory */
	A67_PLACE_SHORT_OF_CPU,	   /* some node has the memory, none the cpu */
	A67_PLACE_SHORT_OF_BOTH,   /* no node has both at once */
	A67_PLACE_INVALID_REQUEST, /* negative or NaN need, or a limit exceeded */
	A67_PLACE_OUT_OF_MEMORY	   /* of this process */
} A67PlaceShortage;

typedef struct A67PlaceResult
{
	uint32_t placed;
	A67PlaceShortage shortage;		/* why the rest was not placed */
	int64_t most_free_memory_bytes; /* the most that a single candidate still has */
	double most_free_cpu;
} A67PlaceResult;

/*
 * Chooses a node for each replica: chosen[i] is an index into candidates; room for
 * request->count is the caller's. Lowers free_memory_bytes and free_cpu and raises
 * replicas_of_same as it goes. O(n log n) once, then O(n) per replica.
 */
A67PlaceResult a67_place(A67Candidate *candidates, size_t n, const A67PlaceRequest *request,
						 uint32_t *chosen);

/* Name of a shortage as in SQL and JSON: "short_of_memory"; NULL out of range. */
const char *a67_place_shortage_name(A67PlaceShortage shortage);

#endif /* A67_PLACEMENT_H */
