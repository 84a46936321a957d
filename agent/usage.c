/*
 * usage.c - see usage.h.
 */
#include "usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define FAMILY_MAX 256 /* processes of a replica that are looked at */

/* Adds one process; false when it is gone.  What its children that have ended used counts as its own. */
static bool
add_process(const char *root, pid_t pid, A67Usage *out)
{
	char path[256];
	char text[1024];
	unsigned long long ticks[4];
	long long pages;
	const char *rest;
	size_t len;
	FILE *file;

	(void) snprintf(path, sizeof(path), "%s/proc/%d/stat", root, (int) pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	len = fread(text, 1, sizeof(text) - 1, file);
	(void) fclose(file);
	text[len] = '\0';
	/* The name may hold anything: fields count from its last parenthesis. */
	rest = strrchr(text, ')');
	if (rest == NULL ||
		sscanf(
			rest + 1,
			" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu %*d %*d %*d %*d %*u "
			"%*u %lld",
			&ticks[0], &ticks[1], &ticks[2], &ticks[3], &pages) != 5)
		return false;
	out->cpu_us += (int64_t) ((double) (ticks[0] + ticks[1] + ticks[2] + ticks[3]) * 1e6 /
							  (double) sysconf(_SC_CLK_TCK));
	if (pages > 0)
		out->memory_bytes += pages * (int64_t) sysconf(_SC_PAGESIZE);
	return true;
}

/* Appends the children of a process, of its first thread at least. */
static size_t
add_children(const char *root, pid_t pid, pid_t *family, size_t count)
{
	char path[256];
	FILE *file;
	int child;

	(void) snprintf(path, sizeof(path), "%s/proc/%d/task/%d/children", root, (int) pid, (int) pid);
	file = fopen(path, "re");
	while (file != NULL && count < FAMILY_MAX && fscanf(file, "%d", &child) == 1)
		family[count++] = child;
	if (file != NULL)
		(void) fclose(file);
	return count;
}

bool
a67_usage_of_process(const char *root, pid_t pid, A67Usage *out)
{
	pid_t family[FAMILY_MAX] = {pid};
	size_t count = 1;

	out->cpu_us = 0;
	out->memory_bytes = 0;
	if (!add_process(root, pid, out))
		return false;
	count = add_children(root, pid, family, count);
	for (size_t i = 1; i < count; i++)
	{
		(void) add_process(root, family[i], out);
		count = add_children(root, family[i], family, count);
	}
	return true;
}

const A67Usage *
a67_usage_find(const A67UsageTable *table, const char *replica)
{
	for (size_t i = 0; i < table->count; i++)
		if (strcmp(table->items[i].replica, replica) == 0)
			return &table->items[i];
	return NULL;
}

void
a67_usage_free(A67UsageTable *table)
{
	free(table->items);
	memset(table, 0, sizeof(*table));
}

/* What the replica's control group says, and its processes where that says nothing.  False: it has none. */
static bool
read_replica(const A67Supervisor *supervisor, const A67Replica *replica, A67Usage *out)
{
	A67CgroupUsage group = {-1, -1};

	if (replica->process.pid == 0)
		return false;
	if (replica->cgroup[0] != '\0')
		a67_cgroup_usage(&supervisor->host->cgroups, replica->cgroup, &group);
	if ((group.cpu_us < 0 || group.memory_bytes < 0) &&
		!a67_usage_of_process("", replica->process.pid, out))
		return false;
	if (group.cpu_us >= 0)
		out->cpu_us = group.cpu_us;
	if (group.memory_bytes >= 0)
		out->memory_bytes = group.memory_bytes;
	return true;
}

void
a67_usage_sample(A67UsageTable *table, const A67Supervisor *supervisor, int64_t now_ms)
{
	A67Usage *items = NULL;
	size_t count = 0;

	if (supervisor->count > 0)
		items = calloc(supervisor->count, sizeof(*items));
	for (size_t i = 0; items != NULL && i < supervisor->count; i++)
	{
		const A67Replica *replica = supervisor->replicas[i];
		const A67Usage *before = a67_usage_find(table, replica->id);
		A67Usage *now = &items[count];

		if (!read_replica(supervisor, replica, now))
			continue;
		memcpy(now->replica, replica->id, sizeof(now->replica));
		now->pid = replica->process.pid;
		if (before != NULL && before->pid == now->pid && now_ms > table->at_ms &&
			now->cpu_us >= before->cpu_us)
			now->cpu_percent = 100.0 * (double) (now->cpu_us - before->cpu_us) /
							   ((double) (now_ms - table->at_ms) * 1000.0);
		count++;
	}
	free(table->items);
	table->items = items;
	table->count = count;
	table->at_ms = now_ms;
}
