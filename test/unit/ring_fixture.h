/*
 * ring_fixture.h - members for the tests of the ring and of the diff of two rings.
 */
#ifndef A67_RING_FIXTURE_H
#define A67_RING_FIXTURE_H

#include "core/ring.h"

#include "unit.h"

#define RANDOM_KEYS 100000

static inline A67RingMember
member(uint32_t id, const char *name, double weight)
{
	A67RingMember made = {.id = id, .weight = weight};

	snprintf(made.name, sizeof(made.name), "%s", name);
	return made;
}

/* Fills members 0..count-1 named PREFIX0, PREFIX1 ... of weight 1. */
static inline void
number_members(A67RingMember *members, size_t count, const char *prefix)
{
	size_t i;

	for (i = 0; i < count; i++)
	{
		char name[A67_RING_NAME_SIZE];

		snprintf(name, sizeof(name), "%s%zu", prefix, i);
		members[i] = member((uint32_t) i, name, 1);
	}
}

#endif /* A67_RING_FIXTURE_H */
