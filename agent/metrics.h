/*
 * metrics.h - what this machine has and how busy it is, looked at every 5 s.
 *
 * Reads /proc, statvfs and the limits of the agent's own control group, which count as the size of the
 * machine.  A value that cannot be read is 0, or -1 where that is said.  Owns nothing but the last look.
 * Called by main, the control loop and the server.
 */
#ifndef A67_AGENT_METRICS_H
#define A67_AGENT_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pollset.h"

#define A67_METRICS_MS 5000

typedef enum A67PressureKind
{
	A67_PRESSURE_CPU,
	A67_PRESSURE_MEMORY,
	A67_PRESSURE_IO
} A67PressureKind;

#define A67_PRESSURE_COUNT 3

/* Time lost by waiting for something (PSI): of some tasks, and of all of them at once. */
typedef struct A67Pressure
{
	int64_t some_us; /* -1, here and below: this kernel does not say */
	int64_t full_us;
} A67Pressure;

typedef struct A67Sample
{
	double cpu_percent; /* of the cores below, between this look and the one before */
	double cores;		/* that may be used */
	double memory_percent;
	int64_t memory_free_bytes;
	int64_t memory_total_bytes;
	double disk_percent;
	int64_t disk_total_bytes;
	int64_t disk_free_bytes;
	int64_t disk_read_bytes; /* of all whole disks since the machine started; -1: not known */
	int64_t disk_written_bytes;
	int64_t disk_busy_ms;
	double load1;
	double load5;
	double load15;
	int64_t uptime_s;		   /* of the machine */
	int64_t received_bytes;	   /* by all interfaces but loopback since then; -1: not known */
	int64_t transmitted_bytes; /* sent by them */
	A67Pressure pressure[A67_PRESSURE_COUNT];
} A67Sample;

typedef struct A67Metrics
{
	const char *root; /* before /proc and /sys; "" but for tests */
	const char *path; /* a directory on the disk to measure */
	int64_t due_ms;
	int64_t at_ms; /* of the last look; 0: there was none */
	uint64_t busy_ticks;
	uint64_t all_ticks;
	int64_t cpu_us; /* of a group with a limit; -1: not known */
	A67Sample last;
} A67Metrics;

/* Looks for the first time; root and path are borrowed. */
void a67_metrics_init(A67Metrics *metrics, const char *root, const char *path, int64_t now_ms);

void a67_metrics_prepare(const A67Metrics *metrics, A67PollSet *set);
/* Looks again when it is time; says whether it has. */
bool a67_metrics_step(A67Metrics *metrics, int64_t now_ms);

/* Open TCP connections to the local ports given (sorted or not): requests that applications serve. */
int a67_metrics_connections(const int *ports, size_t count);

#endif /* A67_AGENT_METRICS_H */
