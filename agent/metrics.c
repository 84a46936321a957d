/*
 * metrics.c - numbers of the machine.  See metrics.h.
 */
#include "metrics.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define CPU_GAP_MS		200	  /* looks closer together than this repeat the last value */
#define CONNECTIONS_MAX 65536 /* lines of /proc/net/tcp that are read */
#define TCP_ESTABLISHED 1

static void
sample_cpu(A67Metrics *metrics, int64_t now_ms)
{
	FILE *file;
	unsigned long long tick[8] = {0};
	uint64_t all = 0;
	uint64_t busy;

	if (metrics->at_ms != 0 && now_ms - metrics->at_ms < CPU_GAP_MS)
		return;
	file = fopen("/proc/stat", "re");
	if (file == NULL)
		return;
	if (fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &tick[0], &tick[1], &tick[2],
			   &tick[3], &tick[4], &tick[5], &tick[6], &tick[7]) >= 4)
	{
		for (int i = 0; i < 8; i++)
			all += tick[i];
		/* idle and iowait */
		busy = all - tick[3] - tick[4];
		if (metrics->all_ticks != 0 && all > metrics->all_ticks && busy >= metrics->busy_ticks)
			metrics->cpu_percent =
				100.0 * (double) (busy - metrics->busy_ticks) / (double) (all - metrics->all_ticks);
		metrics->busy_ticks = busy;
		metrics->all_ticks = all;
		metrics->at_ms = now_ms;
	}
	(void) fclose(file);
}

/* One number of a file of our cgroup (v2); -1 when there is none or it says "max". */
static int64_t
cgroup_number(const char *name, long long *second)
{
	char line[512];
	char path[640];
	FILE *file = fopen("/proc/self/cgroup", "re");
	long long first = -1;
	long long other = 0;
	bool found = false;

	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
		found = strncmp(line, "0::/", 4) == 0;
	if (file != NULL)
		(void) fclose(file);
	if (!found)
		return -1;
	line[strcspn(line, "\n")] = '\0';
	(void) snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", line + 3, name);
	file = fopen(path, "re");
	if (file == NULL)
		return -1;
	if (fscanf(file, "%lld %lld", &first, &other) < 1)
		first = -1;
	(void) fclose(file);
	if (second != NULL)
		*second = other;
	return first;
}

static void
sample_memory(A67Sample *out)
{
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");
	long long kb;
	int64_t limit = cgroup_number("memory.max", NULL);
	int64_t used = cgroup_number("memory.current", NULL);

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
	{
		if (sscanf(line, "MemTotal: %lld kB", &kb) == 1)
			out->memory_total_bytes = kb * 1024;
		else if (sscanf(line, "MemAvailable: %lld kB", &kb) == 1)
			out->memory_free_bytes = kb * 1024;
	}
	if (file != NULL)
		(void) fclose(file);
	if (limit > 0 && limit < out->memory_total_bytes)
	{
		out->memory_total_bytes = limit;
		if (used >= 0 && limit - used < out->memory_free_bytes)
			out->memory_free_bytes = limit > used ? limit - used : 0;
	}
	if (out->memory_total_bytes > 0)
		out->memory_percent = 100.0 * (double) (out->memory_total_bytes - out->memory_free_bytes) /
							  (double) out->memory_total_bytes;
}

static void
sample_disk(const char *path, A67Sample *out)
{
	struct statvfs fs;

	if (statvfs(path, &fs) != 0 || fs.f_blocks == 0)
		return;
	out->disk_total_bytes = (int64_t) fs.f_blocks * (int64_t) fs.f_frsize;
	out->disk_free_bytes = (int64_t) fs.f_bavail * (int64_t) fs.f_frsize;
	out->disk_percent = 100.0 * (double) (fs.f_blocks - fs.f_bfree) / (double) fs.f_blocks;
}

static double
first_number(const char *path)
{
	FILE *file = fopen(path, "re");
	double value = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%lf", &value) != 1)
		value = 0;
	(void) fclose(file);
	return value;
}

void
a67_metrics_sample(A67Metrics *metrics, const char *path, int64_t now_ms, A67Sample *out)
{
	memset(out, 0, sizeof(*out));
	sample_cpu(metrics, now_ms);
	out->cpu_percent = metrics->cpu_percent;
	sample_memory(out);
	sample_disk(path, out);
	out->load1 = first_number("/proc/loadavg");
	out->uptime_s = (int64_t) first_number("/proc/uptime");
	out->network_bytes = a67_metrics_network("/proc/net/dev");
}

/* Received and sent bytes of one line of /proc/net/dev; 0 for a heading, loopback and what is no such line. */
static uint64_t
interface_bytes(const char *line)
{
	unsigned long long received;
	unsigned long long sent;
	const char *numbers = strrchr(line, ':');
	size_t len;

	if (numbers == NULL)
		return 0;
	line += strspn(line, " ");
	len = (size_t) (numbers - line);
	if ((len == 2 && memcmp(line, "lo", 2) == 0) ||
		sscanf(numbers + 1, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &received, &sent) != 2)
		return 0;
	return received + sent;
}

int64_t
a67_metrics_network(const char *path)
{
	char line[512];
	uint64_t sum = 0;
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return -1;
	while (fgets(line, sizeof(line), file) != NULL)
		sum += interface_bytes(line);
	(void) fclose(file);
	return (int64_t) (sum & INT64_MAX);
}

double
a67_metrics_cores(void)
{
	cpu_set_t set;
	double cores = 1;
	long long period = 0;
	int64_t quota = cgroup_number("cpu.max", &period);

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cores = CPU_COUNT(&set);
	if (quota > 0 && period > 0 && (double) quota / (double) period < cores)
		cores = (double) quota / (double) period;
	return cores;
}

static int
count_file(const char *path, const int *ports, size_t count)
{
	char line[256];
	FILE *file = fopen(path, "re");
	int found = 0;

	for (int i = 0; file != NULL && i < CONNECTIONS_MAX && fgets(line, sizeof(line), file) != NULL;
		 i++)
	{
		unsigned int port;
		unsigned int state;

		if (sscanf(line, "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &port, &state) != 2 ||
			state != TCP_ESTABLISHED)
			continue;
		for (size_t p = 0; p < count; p++)
			found += ports[p] == (int) port;
	}
	if (file != NULL)
		(void) fclose(file);
	return found;
}

int
a67_metrics_connections(const int *ports, size_t count)
{
	if (count == 0)
		return 0;
	return count_file("/proc/net/tcp", ports, count) + count_file("/proc/net/tcp6", ports, count);
}
