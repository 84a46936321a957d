/*
 * allowance.h - what the agent's own control group leaves it of the machine: memory and processor time.
 *
 * Reads version 2, version 1 and machines that have both; the tightest limit between the agent and the
 * root counts, because any of them may end or slow down what runs here.  Owns nothing.  Called by metrics.c.
 */
#ifndef A67_AGENT_ALLOWANCE_H
#define A67_AGENT_ALLOWANCE_H

#include <stdint.h>

#define A67_NO_LIMIT INT64_MAX

typedef struct A67Allowance
{
	int64_t memory_bytes;	   /* A67_NO_LIMIT: none */
	int64_t memory_free_bytes; /* until the first of the limits is reached, caches not counted */
	double cores;			   /* 0: no limit */
	int64_t cpu_us;			   /* used by the group that has this limit; -1: not known */
} A67Allowance;

/* root: what to put before /proc and the mount points; "" but for tests.  What cannot be read is no limit. */
void a67_allowance_read(const char *root, A67Allowance *limits);

#endif /* A67_AGENT_ALLOWANCE_H */
