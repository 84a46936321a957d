/*
 * allowance.c - see allowance.h.
 *
 * /proc/self/mountinfo says where the hierarchies are and which part of them is shown there,
 * /proc/self/cgroup where the agent is in them.  In a container the latter may be a path of the host
 * that leads nowhere; then the mount point itself is our group.
 */
#include "allowance.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE  1024
#define LINE_SIZE  2048
/* Version 1 says "none" as the largest number of whole pages. */
#define HUGE_LIMIT (INT64_C(1) << 60)

/* A hierarchy: where it is mounted, how much of that is our own group. */
typedef struct Tree
{
	bool v2;
	size_t mount_len;	  /* of path, which never becomes shorter */
	char path[PATH_SIZE]; /* "": none */
} Tree;

static bool
has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word))
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

/* Our path in the hierarchy of a controller (NULL: version 2); false when there is none. */
static bool
own_path(const char *root, const char *controller, char out[PATH_SIZE])
{
	char line[LINE_SIZE];
	char path[PATH_SIZE];
	FILE *file;
	bool found = false;

	(void) snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
	{
		char *list = strchr(line, ':');
		char *own = list != NULL ? strchr(list + 1, ':') : NULL;

		if (own == NULL)
			continue;
		*own++ = '\0';
		own[strcspn(own, "\n")] = '\0';
		found = controller == NULL ? list[1] == '\0' : has_word(list + 1, controller);
		if (found)
			(void) snprintf(out, PATH_SIZE, "%s", own);
	}
	if (file != NULL)
		(void) fclose(file);
	return found && out[0] == '/';
}

/* One line of mountinfo; its parts point into it.  False when it is malformed. */
static bool
split_mount(char *line, char **shown, char **point, char **kind, char **options)
{
	char *rest = strstr(line, " - ");
	char *save = NULL;

	if (rest == NULL)
		return false;
	*rest = '\0';
	rest += 3;
	for (int i = 0; i < 3; i++)
		if (strtok_r(i == 0 ? line : NULL, " ", &save) == NULL)
			return false;
	*shown = strtok_r(NULL, " ", &save);
	*point = strtok_r(NULL, " ", &save);
	*kind = strtok_r(rest, " ", &save);
	(void) strtok_r(NULL, " ", &save);
	*options = strtok_r(NULL, " \n", &save);
	return *shown != NULL && *point != NULL && *kind != NULL && *options != NULL;
}

/* Puts mount point and own path together. */
static void
join_path(Tree *tree, const char *root, const char *shown, const char *point, const char *own)
{
	size_t hidden = strcmp(shown, "/") == 0 ? 0 : strlen(shown);
	int len = snprintf(tree->path, sizeof(tree->path), "%s%s", root, point);

	if (len < 0 || (size_t) len >= sizeof(tree->path))
	{
		tree->path[0] = '\0';
		return;
	}
	tree->mount_len = (size_t) len;
	if (strncmp(own, shown, hidden) != 0 || (own[hidden] != '/' && own[hidden] != '\0') ||
		strstr(own, "/..") != NULL || strcmp(own + hidden, "/") == 0)
		return;
	(void) snprintf(tree->path + len, sizeof(tree->path) - (size_t) len, "%s", own + hidden);
}

/* Finds the hierarchy that has a controller: of version 1 if that has it, else version 2. */
static void
find_tree(const char *root, const char *controller, Tree *tree)
{
	char line[LINE_SIZE];
	char path[PATH_SIZE];
	char own[PATH_SIZE];
	FILE *file;
	bool found = false;

	memset(tree, 0, sizeof(*tree));
	tree->v2 = !own_path(root, controller, own);
	if (tree->v2 && !own_path(root, NULL, own))
		return;
	(void) snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
	file = fopen(path, "re");
	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
	{
		char *shown;
		char *point;
		char *kind;
		char *options;

		if (!split_mount(line, &shown, &point, &kind, &options))
			continue;
		found = tree->v2 ? strcmp(kind, "cgroup2") == 0
						 : strcmp(kind, "cgroup") == 0 && has_word(options, controller);
		if (found)
			join_path(tree, root, shown, point, own);
	}
	if (file != NULL)
		(void) fclose(file);
}

/* Moves to the group above; false at the mount point. */
static bool
step_up(Tree *tree)
{
	char *slash = strrchr(tree->path, '/');

	if (slash == NULL || strlen(tree->path) <= tree->mount_len ||
		(size_t) (slash - tree->path) < tree->mount_len)
		return false;
	*slash = '\0';
	return true;
}

/* The first numbers of a file of the group; -1 for what is not there or says "max". */
static bool
read_numbers(const Tree *tree, const char *name, int64_t *first, int64_t *second)
{
	char path[PATH_SIZE + 64];
	FILE *file;
	long long one = -1;
	long long two = -1;

	(void) snprintf(path, sizeof(path), "%s/%s", tree->path, name);
	file = fopen(path, "re");
	if (file != NULL)
	{
		/* Too large a number is as good as none. */
		if (fscanf(file, "%lld %lld", &one, &two) < 1)
			one = -1;
		(void) fclose(file);
	}
	*first = one;
	if (second != NULL)
		*second = two;
	return one >= 0;
}

/* The number behind a word at the beginning of a line; -1 when there is none. */
static int64_t
read_named(const Tree *tree, const char *name, const char *word)
{
	char path[PATH_SIZE + 64];
	char line[256];
	size_t len = strlen(word);
	long long value = -1;
	FILE *file;

	(void) snprintf(path, sizeof(path), "%s/%s", tree->path, name);
	file = fopen(path, "re");
	while (file != NULL && value < 0 && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, word, len) == 0 && line[len] == ' ')
			value = strtoll(line + len, NULL, 10);
	if (file != NULL)
		(void) fclose(file);
	return value;
}

static void
read_memory(const char *root, A67Allowance *limits)
{
	Tree tree;

	find_tree(root, "memory", &tree);
	if (tree.path[0] == '\0')
		return;
	do
	{
		int64_t limit;
		int64_t used;
		int64_t cache;

		if (!read_numbers(&tree, tree.v2 ? "memory.max" : "memory.limit_in_bytes", &limit, NULL) ||
			limit >= HUGE_LIMIT)
			continue;
		if (limit < limits->memory_bytes)
			limits->memory_bytes = limit;
		if (!read_numbers(&tree, tree.v2 ? "memory.current" : "memory.usage_in_bytes", &used, NULL))
			continue;
		cache = read_named(&tree, "memory.stat", tree.v2 ? "inactive_file" : "total_inactive_file");
		if (cache > 0)
			used = used > cache ? used - cache : 0;
		if (limit - used < limits->memory_free_bytes)
			limits->memory_free_bytes = limit > used ? limit - used : 0;
	} while (step_up(&tree));
}

/* Processor time of the group at the same place; version 1 may have it in another hierarchy. */
static int64_t
read_cpu_usage(const char *root, const Tree *tree)
{
	int64_t used;
	Tree accounts;
	size_t depth = strlen(tree->path + tree->mount_len);

	if (tree->v2)
		return read_named(tree, "cpu.stat", "usage_usec");
	find_tree(root, "cpuacct", &accounts);
	if (accounts.path[0] == '\0' || accounts.v2 ||
		strlen(accounts.path + accounts.mount_len) < depth)
		return -1;
	accounts.path[accounts.mount_len + depth] = '\0';
	return strcmp(accounts.path + accounts.mount_len, tree->path + tree->mount_len) == 0 &&
				   read_numbers(&accounts, "cpuacct.usage", &used, NULL)
			   ? used / 1000
			   : -1;
}

static void
read_cpu(const char *root, A67Allowance *limits)
{
	Tree tree;

	find_tree(root, "cpu", &tree);
	if (tree.path[0] == '\0')
		return;
	do
	{
		int64_t quota = -1;
		int64_t period = -1;
		double cores;

		if (tree.v2)
			(void) read_numbers(&tree, "cpu.max", &quota, &period);
		else if (read_numbers(&tree, "cpu.cfs_quota_us", &quota, NULL))
			(void) read_numbers(&tree, "cpu.cfs_period_us", &period, NULL);
		if (quota <= 0 || period <= 0)
			continue;
		cores = (double) quota / (double) period;
		if (limits->cores > 0 && cores >= limits->cores)
			continue;
		limits->cores = cores;
		limits->cpu_us = read_cpu_usage(root, &tree);
	} while (step_up(&tree));
}

void
a67_allowance_read(const char *root, A67Allowance *limits)
{
	*limits = (A67Allowance){A67_NO_LIMIT, A67_NO_LIMIT, 0, -1};
	read_memory(root, limits);
	read_cpu(root, limits);
}
