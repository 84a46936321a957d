/*
 * probe.h - one health check of one replica: an HTTP request or a connection to its port.
 *
 * Decides whether the answer is good (2xx or 3xx; a connection that opens); keeps no count and plans
 * no next check.  Called by the supervisor.
 */
#ifndef A67_AGENT_PROBE_H
#define A67_AGENT_PROBE_H

#include <stdint.h>

#include "log.h"
#include "pollset.h"

typedef enum A67ProbeState
{
	A67_PROBE_BUSY,
	A67_PROBE_GOOD,
	A67_PROBE_BAD /* a67_probe_error says why */
} A67ProbeState;

typedef struct A67Probe A67Probe;

/* path NULL: connect only.  NULL when out of memory or sockets. */
A67Probe *a67_probe_new(int port, const char *path, int timeout_ms, int64_t now_ms);
void a67_probe_free(A67Probe *probe);

void a67_probe_prepare(A67Probe *probe, A67PollSet *set, int64_t now_ms);
A67ProbeState a67_probe_step(A67Probe *probe, const A67PollSet *set, int64_t now_ms);
const char *a67_probe_error(const A67Probe *probe);

#endif /* A67_AGENT_PROBE_H */
