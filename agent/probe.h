/*
 * probe.h - one health check of one replica: an HTTP request, a connection to its port, or a command.
 *
 * Decides whether the answer is good (2xx or 3xx; a connection that opens; exit status 0); keeps no count
 * and plans no next check.  Starts no process: a command is given to it running.  Called by the supervisor.
 */
#ifndef A67_AGENT_PROBE_H
#define A67_AGENT_PROBE_H

#include <signal.h>
#include <stdint.h>

#include "log.h"
#include "pollset.h"
#include "process.h"

typedef enum A67ProbeState
{
	A67_PROBE_BUSY,
	A67_PROBE_GOOD,
	A67_PROBE_BAD /* a67_probe_error says why */
} A67ProbeState;

typedef struct A67Probe A67Probe;

/* path NULL: connect only.  NULL when out of memory or sockets. */
A67Probe *a67_probe_new(int port, const char *path, int timeout_ms, int64_t now_ms);
/*
 * Waits for a child that leads its process group; output is a pipe of what it writes, closed here in any
 * case.  NULL when out of memory: the group has been killed then.
 */
A67Probe *a67_probe_command(const A67Process *process, int output, int timeout_ms, int64_t now_ms);
/* Kills the group of a command that still runs. */
void a67_probe_free(A67Probe *probe);

/* The child whose end the probe waits for, 0 when there is none; and its end, before it is reaped. */
pid_t a67_probe_pid(const A67Probe *probe);
void a67_probe_ended(A67Probe *probe, const siginfo_t *info);

void a67_probe_prepare(A67Probe *probe, A67PollSet *set, int64_t now_ms);
A67ProbeState a67_probe_step(A67Probe *probe, const A67PollSet *set, int64_t now_ms);
const char *a67_probe_error(const A67Probe *probe);

#endif /* A67_AGENT_PROBE_H */
