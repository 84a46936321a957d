/*
 * ring.h - consistent-hash ring: which shard owns a key.
 *
 * A member of weight w has round(150 * w) points, at least one; point i lies at
 * murmur3("name#i", 0). A hash belongs to the first point at or after it, wrapping: every point
 * owns the range from the point before it (exclusive) up to itself (inclusive). Where points of
 * two members coincide, the member whose name sorts first (bytewise) keeps it, so the order of
 * the input never matters. Names and weights alone place rows; `id` is the caller's label and is
 * only carried along. A built ring is immutable: share it freely between readers. Called by
 * router, replicator, SQL faces.
 */
#ifndef A67_RING_H
#define A67_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_RING_VNODES		 150
#define A67_RING_NAME_SIZE	 64 /* NUL included */
#define A67_RING_MAX_MEMBERS 4096
#define A67_RING_MAX_WEIGHT	 1000.0
#define A67_RING_MAX_POINTS	 1048576

typedef struct A67RingMember
{
	uint32_t id;				   /* the caller's number for the shard, unique within a ring */
	double weight;				   /* greater than 0, at most A67_RING_MAX_WEIGHT */
	char name[A67_RING_NAME_SIZE]; /* not empty, unique within a ring */
} A67RingMember;

typedef struct A67RingPoint
{
	uint32_t hash;
	uint32_t member; /* index into members */
} A67RingPoint;

typedef struct A67Ring
{
	A67RingMember *members; /* sorted by name */
	uint32_t member_count;
	A67RingPoint *points; /* sorted by hash, each hash once */
	uint32_t point_count;
} A67Ring;

typedef enum A67RingStatus
{
	A67_RING_OK,
	A67_RING_NO_MEMBERS,
	A67_RING_TOO_MANY_MEMBERS,
	A67_RING_TOO_MANY_POINTS,
	A67_RING_INVALID_NAME,
	A67_RING_DUPLICATE_NAME,
	A67_RING_DUPLICATE_ID,
	A67_RING_INVALID_WEIGHT,
	A67_RING_OUT_OF_MEMORY
} A67RingStatus;

/* A range of hashes whose owner differs between two rings; start is exclusive, end inclusive. */
typedef struct A67RingMove
{
	uint32_t start; /* above end: the range wraps past zero; equal to end: every hash */
	uint32_t end;
	const A67RingMember *from; /* points into the old ring */
	const A67RingMember *to;   /* points into the new ring */
} A67RingMove;

typedef struct A67RingDiff
{
	A67RingMove *moves; /* neighbours with equal owners are merged */
	uint32_t count;
} A67RingDiff;

/*
 * Builds a ring from copies of the members into *ring, which a67_ring_free releases. On error
 * *ring is empty and *offender (may be NULL) is the index of the member at fault, where there is
 * one.
 */
A67RingStatus a67_ring_build(A67Ring *ring, const A67RingMember *members, size_t count,
							 size_t *offender);
void a67_ring_free(A67Ring *ring);

/* One line for a person, in the style of an error message's primary text. */
const char *a67_ring_status_text(A67RingStatus status);

/*
 * Owner of a hash, or of a key's bytes (murmur3, seed 0); NULL only for an empty ring. O(log
 * points).
 */
const A67RingMember *a67_ring_lookup(const A67Ring *ring, uint32_t hash);
const A67RingMember *a67_ring_lookup_key(const A67Ring *ring, const void *key, size_t count);

/*
 * The first `want` distinct owners clockwise from hash, the owner first; returns how many there
 * are.
 */
size_t a67_ring_owners(const A67Ring *ring, uint32_t hash, const A67RingMember **owners,
					   size_t want);

/* Fraction of all hashes that each member owns: shares[i] is for members[i]; they add up to 1. */
void a67_ring_shares(const A67Ring *ring, double *shares);

/*
 * Ranges to move on the way from one ring to another; owners are compared by name. The result
 * refers to both rings and is released with a67_ring_diff_free. Status OK, NO_MEMBERS or
 * OUT_OF_MEMORY.
 */
A67RingStatus a67_ring_diff(const A67Ring *from, const A67Ring *to, A67RingDiff *diff);
void a67_ring_diff_free(A67RingDiff *diff);

/* Whether a move's range holds the hash, and how many hashes it holds (up to 2^32). */
bool a67_ring_move_contains(const A67RingMove *move, uint32_t hash);
uint64_t a67_ring_move_width(const A67RingMove *move);

#endif /* A67_RING_H */
