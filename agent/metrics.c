/*
 * metrics.c - numbers of the machine.  See metrics.h.
 */
#include "metrics.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "allowance.h"

#define CONNECTIONS_MAX 65536 /* lines of /proc/net/tcp that are read */
#define TCP_ESTABLISHED 1
#define SECTOR_BYTES	512

static FILE *
open_proc(const A67Metrics *metrics, const char *name)
{
	char path[256];

	(void) snprintf(path, sizeof(path), "%s/proc/%s", metrics->root, name);
	return fopen(path, "re");
}

/* Counters of a kernel wrap or are nonsense; sums of them stay positive. */
static int64_t
positive(uint64_t sum)
{
	return (int64_t) (sum & INT64_MAX);
}

/* ---- processor ---- */

/* Busy and all ticks of the machine; false when they are not to be had. */
static bool
read_ticks(const A67Metrics *metrics, uint64_t *busy, uint64_t *all)
{
	unsigned long long tick[8] = {0};
	FILE *file = open_proc(metrics, "stat");
	int count;

	if (file == NULL)
		return false;
	count = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &tick[0], &tick[1],
				   &tick[2], &tick[3], &tick[4], &tick[5], &tick[6], &tick[7]);
	(void) fclose(file);
	*all = 0;
	for (int i = 0; i < 8; i++)
		*all += tick[i];
	/* idle and iowait */
	*busy = *all - tick[3] - tick[4];
	return count >= 4;
}

static double
percent(double part, double whole)
{
	double value = whole > 0 ? 100.0 * part / whole : 0;

	return value < 0 ? 0 : value > 100 ? 100 : value;
}

static void
sample_cpu(A67Metrics *metrics, const A67Allowance *limits, int64_t now_ms, A67Sample *out)
{
	cpu_set_t set;
	uint64_t busy = 0;
	uint64_t all = 0;
	bool limited;

	out->cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	limited = limits->cores > 0 && limits->cores < out->cores;
	if (limited)
		out->cores = limits->cores;
	if (limited && limits->cpu_us >= 0)
	{
		if (metrics->cpu_us >= 0 && limits->cpu_us >= metrics->cpu_us && now_ms > metrics->at_ms)
			out->cpu_percent = percent((double) (limits->cpu_us - metrics->cpu_us),
									   (double) (now_ms - metrics->at_ms) * 1000.0 * out->cores);
		metrics->cpu_us = limits->cpu_us;
		return;
	}
	metrics->cpu_us = -1;
	if (!read_ticks(metrics, &busy, &all))
		return;
	if (metrics->all_ticks != 0 && all > metrics->all_ticks && busy >= metrics->busy_ticks)
		out->cpu_percent =
			percent((double) (busy - metrics->busy_ticks), (double) (all - metrics->all_ticks));
	metrics->busy_ticks = busy;
	metrics->all_ticks = all;
}

/* ---- memory ---- */

static void
sample_memory(const A67Metrics *metrics, const A67Allowance *limits, A67Sample *out)
{
	char line[128];
	FILE *file = open_proc(metrics, "meminfo");
	int64_t kb;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
	{
		if (sscanf(line, "MemTotal: %" SCNd64 " kB", &kb) == 1 && kb >= 0 && kb <= INT64_MAX / 1024)
			out->memory_total_bytes = kb * 1024;
		else if (sscanf(line, "MemAvailable: %" SCNd64 " kB", &kb) == 1 && kb >= 0 &&
				 kb <= INT64_MAX / 1024)
			out->memory_free_bytes = kb * 1024;
	}
	if (file != NULL)
		(void) fclose(file);
	if (limits->memory_bytes < out->memory_total_bytes || out->memory_total_bytes == 0)
		out->memory_total_bytes = limits->memory_bytes != A67_NO_LIMIT ? limits->memory_bytes : 0;
	if (limits->memory_free_bytes < out->memory_free_bytes)
		out->memory_free_bytes = limits->memory_free_bytes;
	if (out->memory_free_bytes > out->memory_total_bytes)
		out->memory_free_bytes = out->memory_total_bytes;
	out->memory_percent = percent((double) (out->memory_total_bytes - out->memory_free_bytes),
								  (double) out->memory_total_bytes);
}

/* ---- disk ---- */

static void
sample_disk(const char *path, A67Sample *out)
{
	struct statvfs fs;

	if (statvfs(path, &fs) != 0 || fs.f_blocks == 0)
		return;
	out->disk_total_bytes = (int64_t) fs.f_blocks * (int64_t) fs.f_frsize;
	out->disk_free_bytes = (int64_t) fs.f_bavail * (int64_t) fs.f_frsize;
	out->disk_percent = percent((double) (fs.f_blocks - fs.f_bfree), (double) fs.f_blocks);
}

/* Whether a name is that of a whole disk: not a part of one, nor something made of others. */
static bool
is_disk(const char *name)
{
	static const char *const lettered[] = {"sd", "hd", "vd", "xvd"};
	static const char *const numbered[] = {"nvme", "mmcblk"};
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

	for (size_t i = 0; i < sizeof(lettered) / sizeof(lettered[0]); i++)
	{
		size_t len = strlen(lettered[i]);

		if (strncmp(name, lettered[i], len) == 0 && name[len] != '\0' &&
			strspn(name + len, letters) == strlen(name + len))
			return true;
	}
	for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++)
		if (strncmp(name, numbered[i], strlen(numbered[i])) == 0)
			return strchr(name + strlen(numbered[i]), 'p') == NULL && strstr(name, "boot") == NULL;
	return false;
}

static void
sample_disk_io(const A67Metrics *metrics, A67Sample *out)
{
	char line[512];
	FILE *file = open_proc(metrics, "diskstats");
	uint64_t sums[3] = {0};

	out->disk_read_bytes = out->disk_written_bytes = out->disk_busy_ms = -1;
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char name[64];
		uint64_t sectors_read;
		uint64_t sectors_written;
		uint64_t busy_ms;

		if (sscanf(line,
				   "%*u %*u %63s %*u %*u %" SCNu64 " %*u %*u %*u %" SCNu64 " %*u %*u %" SCNu64,
				   name, &sectors_read, &sectors_written, &busy_ms) != 4 ||
			!is_disk(name))
			continue;
		sums[0] += sectors_read;
		sums[1] += sectors_written;
		sums[2] += busy_ms;
	}
	(void) fclose(file);
	out->disk_read_bytes = positive(sums[0] * SECTOR_BYTES);
	out->disk_written_bytes = positive(sums[1] * SECTOR_BYTES);
	out->disk_busy_ms = positive(sums[2]);
}

/* ---- network ---- */

/* Received and sent bytes of one line; false for a heading, loopback and what is no such line. */
static bool
read_interface(const char *line, uint64_t *received, uint64_t *sent)
{
	const char *numbers = strrchr(line, ':');
	size_t len;

	if (numbers == NULL)
		return false;
	line += strspn(line, " ");
	len = (size_t) (numbers - line);
	if (len == 2 && memcmp(line, "lo", 2) == 0)
		return false;
	return sscanf(numbers + 1, "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, received,
				  sent) == 2;
}

static void
sample_network(const A67Metrics *metrics, A67Sample *out)
{
	char line[512];
	FILE *file = open_proc(metrics, "net/dev");
	uint64_t in = 0;
	uint64_t outgoing = 0;

	out->received_bytes = out->transmitted_bytes = -1;
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		uint64_t received;
		uint64_t sent;

		if (read_interface(line, &received, &sent))
		{
			in += received;
			outgoing += sent;
		}
	}
	(void) fclose(file);
	out->received_bytes = positive(in);
	out->transmitted_bytes = positive(outgoing);
}

/* ---- the rest ---- */

static void
sample_load(const A67Metrics *metrics, A67Sample *out)
{
	FILE *file = open_proc(metrics, "loadavg");
	double uptime = 0;

	if (file != NULL)
	{
		if (fscanf(file, "%lf %lf %lf", &out->load1, &out->load5, &out->load15) != 3)
			out->load1 = out->load5 = out->load15 = 0;
		(void) fclose(file);
	}
	file = open_proc(metrics, "uptime");
	if (file == NULL)
		return;
	if (fscanf(file, "%lf", &uptime) == 1 && uptime > 0 && uptime < 1e15)
		out->uptime_s = (int64_t) uptime;
	(void) fclose(file);
}

static void
sample_pressure(const A67Metrics *metrics, const char *name, A67Pressure *out)
{
	char line[160];
	FILE *file = open_proc(metrics, name);

	*out = (A67Pressure){-1, -1};
	/* Built in, but switched off: the file is there and cannot be read. */
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
	{
		const char *total = strstr(line, " total=");
		int64_t value = total != NULL ? (int64_t) strtoll(total + 7, NULL, 10) : -1;

		if (strncmp(line, "some ", 5) == 0)
			out->some_us = value;
		else if (strncmp(line, "full ", 5) == 0)
			out->full_us = value;
	}
	if (file != NULL)
		(void) fclose(file);
}

static void
sample(A67Metrics *metrics, int64_t now_ms)
{
	static const char *const pressures[A67_PRESSURE_COUNT] = {"pressure/cpu", "pressure/memory",
															  "pressure/io"};
	A67Sample *out = &metrics->last;
	A67Allowance limits;

	memset(out, 0, sizeof(*out));
	a67_allowance_read(metrics->root, &limits);
	sample_cpu(metrics, &limits, now_ms, out);
	sample_memory(metrics, &limits, out);
	sample_disk(metrics->path, out);
	sample_disk_io(metrics, out);
	sample_network(metrics, out);
	sample_load(metrics, out);
	for (size_t i = 0; i < A67_PRESSURE_COUNT; i++)
		sample_pressure(metrics, pressures[i], &out->pressure[i]);
	metrics->at_ms = now_ms;
	metrics->due_ms = a67_deadline_in(now_ms, A67_METRICS_MS);
}

void
a67_metrics_init(A67Metrics *metrics, const char *root, const char *path, int64_t now_ms)
{
	memset(metrics, 0, sizeof(*metrics));
	metrics->root = root;
	metrics->path = path;
	metrics->cpu_us = -1;
	sample(metrics, now_ms);
}

void
a67_metrics_prepare(const A67Metrics *metrics, A67PollSet *set)
{
	a67_poll_until(set, metrics->due_ms);
}

bool
a67_metrics_step(A67Metrics *metrics, int64_t now_ms)
{
	if (!a67_deadline_expired(metrics->due_ms, now_ms))
		return false;
	sample(metrics, now_ms);
	return true;
}

/* ---- connections ---- */

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
