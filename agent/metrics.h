/*
 * metrics.h - what this machine has and how busy it is, from /proc, statvfs and the cgroup.
 *
 * Owns nothing but the counters of the last look.  A memory or cpu limit of the agent's own cgroup
 * (v2) counts as the size of the machine.  A value that cannot be read is 0.  Called by the control
 * loop and the server.
 */
#ifndef A67_AGENT_METRICS_H
#define A67_AGENT_METRICS_H

#include <stddef.h>
#include <stdint.h>

typedef struct A67Metrics
{
	uint64_t busy_ticks; /* of the last sample */
	uint64_t all_ticks;
	int64_t at_ms;
	double cpu_percent;
} A67Metrics;

typedef struct A67Sample
{
	double cpu_percent; /* between this look and the one before */
	double memory_percent;
	int64_t memory_free_bytes;
	int64_t memory_total_bytes;
	double disk_percent;
	int64_t disk_total_bytes;
	int64_t disk_free_bytes;
	double load1;
	int64_t uptime_s;	   /* of the machine */
	int64_t network_bytes; /* sent and received since then, loopback apart; -1: not known */
} A67Sample;

/* path: a directory on the disk to measure. */
void a67_metrics_sample(A67Metrics *metrics, const char *path, int64_t now_ms, A67Sample *out);

/* Cores this process may use. */
double a67_metrics_cores(void);

/* Bytes that all interfaces but loopback have sent and received, from a file like /proc/net/dev; -1 without one. */
int64_t a67_metrics_network(const char *path);

/* Open TCP connections to the local ports given (sorted or not): requests that applications serve. */
int a67_metrics_connections(const int *ports, size_t count);

#endif /* A67_AGENT_METRICS_H */
