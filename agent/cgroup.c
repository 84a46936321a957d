/*
 * cgroup.c - discovery and files of both versions of control groups.  See cgroup.h.
 *
 * Where groups are made.  As root at the top of a hierarchy, as Docker does: below the agent's own group a
 * service manager would find a populated group when it starts the agent again, and version 2 lets no
 * process into one that has both processes and children with limits.  Otherwise in the agent's own
 * group, when that was delegated to its user; in version 2 the agent then moves itself into a child of
 * it, for the same reason.
 */
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_ROOT "/sys/fs/cgroup"
#define SELF_GROUP	 "a67-agent" /* the agent's own, beside the node's */
#define FILE_SIZE	 65536
#define PERIOD_US	 100000
#define QUOTA_MIN_US 1000 /* the kernel takes no less */

typedef struct Controller
{
	const char *name;
	unsigned int limit;
} Controller;

static const Controller controllers[] = {{"memory", A67_CGROUP_MEMORY},
										 {"cpu", A67_CGROUP_CPU},
										 {"pids", A67_CGROUP_PIDS}};

#define CONTROLLERS (sizeof(controllers) / sizeof(controllers[0]))

typedef char FilePath[3 * A67_CGROUP_PATH_SIZE];

/* ---- files ---- */

static int
write_text(const char *directory, const char *name, const char *text)
{
	FilePath path;
	int fd;
	ssize_t n;
	int err;

	(void) snprintf(path, sizeof(path), "%s/%s", directory, name);
	/* As a shell does it: where a test plays the kernel, the files are made. */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	err = n < 0 ? -errno : 0;
	(void) close(fd);
	return err;
}

static int
write_number(const char *directory, const char *name, int64_t value)
{
	char text[32];

	(void) snprintf(text, sizeof(text), "%lld", (long long) value);
	return write_text(directory, name, text);
}

static int
read_text(const char *directory, const char *name, char *out, size_t size)
{
	FilePath path;
	size_t len = 0;
	ssize_t n = 1;
	int fd;

	(void) snprintf(path, sizeof(path), "%s/%s", directory, name);
	out[0] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0)
		len += (size_t) n;
	out[len] = '\0';
	(void) close(fd);
	return n < 0 ? -EIO : 0;
}

/* Whether a list of words has this one. */
static bool
has_word(const char *list, const char *word, const char *between)
{
	size_t len = strlen(word);

	while (*list != '\0')
	{
		size_t step = strcspn(list, between);

		if (step == len && strncmp(list, word, len) == 0)
			return true;
		list += step;
		list += strspn(list, between);
	}
	return false;
}

static void
group_path(const A67CgroupTree *tree, const char *path, FilePath out)
{
	(void) snprintf(out, sizeof(FilePath), "%s%s", tree->mount, path);
}

/* ---- discovery ---- */

/*
 * The agent's own group in the hierarchy of a controller ("" for version 2), from a file like
 * /proc/self/cgroup; "" at the top.  False when there is none.
 */
static bool
own_group(const char *list, const char *controller, char path[A67_CGROUP_PATH_SIZE])
{
	while (*list != '\0')
	{
		size_t len = strcspn(list, "\n");
		const char *names = memchr(list, ':', len);
		const char *at =
			names != NULL ? memchr(names + 1, ':', len - (size_t) (names + 1 - list)) : NULL;
		char words[128];

		if (at != NULL && (size_t) (at - names) < sizeof(words))
		{
			size_t path_len = len - (size_t) (at + 1 - list);

			(void) snprintf(words, sizeof(words), "%.*s", (int) (at - names - 1), names + 1);
			if ((controller[0] == '\0' ? words[0] == '\0' : has_word(words, controller, ",")) &&
				path_len < A67_CGROUP_PATH_SIZE)
			{
				(void) snprintf(path, A67_CGROUP_PATH_SIZE, "%.*s", (int) path_len, at + 1);
				if (strcmp(path, "/") == 0)
					path[0] = '\0';
				return true;
			}
		}
		list += len + (list[len] == '\n' ? 1 : 0);
	}
	return false;
}

/* Makes mount/parent and mount/parent/a67-<node>; 0 or -errno. */
static int
make_node_group(const A67CgroupTree *tree, const char *parent)
{
	FilePath path;

	group_path(tree, parent, path);
	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		return -errno;
	return access(path, W_OK) == 0 ? 0 : -errno;
}

/* Turns controllers on for the children of a group; returns those that are. */
static unsigned int
enable(const char *group)
{
	char text[32];
	unsigned int on = 0;

	if (write_text(group, "cgroup.subtree_control", "+memory +cpu +pids") == 0)
		return A67_CGROUP_MEMORY | A67_CGROUP_CPU | A67_CGROUP_PIDS;
	for (size_t i = 0; i < CONTROLLERS; i++)
	{
		(void) snprintf(text, sizeof(text), "+%s", controllers[i].name);
		if (write_text(group, "cgroup.subtree_control", text) == 0)
			on |= controllers[i].limit;
	}
	return on;
}

/* Takes a place of version 2: 0 with the node's group made, or -errno. */
static int
take_v2(A67Cgroups *cgroups, const char *top, bool own, const char *node_id)
{
	A67CgroupTree *tree = &cgroups->trees[0];
	FilePath group;
	FilePath self;
	int err;

	if (snprintf(cgroups->parent, sizeof(cgroups->parent), "%s/a67-%s", top, node_id) >=
		(int) sizeof(cgroups->parent))
		return -ENAMETOOLONG;
	group_path(tree, top, group);
	if (access(group, W_OK) != 0)
		return -errno;
	tree->limits = enable(group);
	if (own && tree->limits == 0)
	{
		(void) snprintf(self, sizeof(self), "%s%s/" SELF_GROUP, tree->mount, top);
		if ((mkdir(self, 0755) == 0 || errno == EEXIST) &&
			write_text(self, "cgroup.procs", "0") == 0)
			tree->limits = enable(group);
	}
	err = make_node_group(tree, cgroups->parent);
	if (err != 0)
		return err;
	group_path(tree, cgroups->parent, group);
	tree->limits &= enable(group);
	cgroups->limits = tree->limits;
	cgroups->version = 2;
	return 0;
}

static void
open_v2(A67Cgroups *cgroups, const char *root, const char *self, const char *node_id)
{
	char own[A67_CGROUP_PATH_SIZE];
	char *slash;
	int err = -EACCES;

	(void) snprintf(cgroups->trees[0].mount, sizeof(cgroups->trees[0].mount), "%s", root);
	cgroups->count = 1;
	if (geteuid() == 0)
		err = take_v2(cgroups, "", false, node_id);
	/* A top that enforces nothing is that of a container; its own group may do better. */
	if (err == 0 && cgroups->limits != 0)
		return;
	if (!own_group(self, "", own))
		own[0] = '\0';
	slash = strrchr(own, '/');
	if (slash != NULL && strcmp(slash + 1, SELF_GROUP) == 0)
		*slash = '\0';
	err = take_v2(cgroups, own, true, node_id);
	if (err != 0)
	{
		cgroups->version = 0;
		(void) a67_why(&cgroups->why, err, "\"%s%s\" is not ours to write to: %s", root, own,
					   strerror(-err));
	}
}

/* The directory of a controller: "memory", "cpu,cpuacct" and the like. */
static bool
find_hierarchy(const char *root, const char *controller, char mount[A67_CGROUP_PATH_SIZE])
{
	DIR *dir = opendir(root);
	struct dirent *item;
	bool found = false;

	while (!found && dir != NULL && (item = readdir(dir)) != NULL)
	{
		struct stat st;

		if (!has_word(item->d_name, controller, ",") ||
			snprintf(mount, A67_CGROUP_PATH_SIZE, "%s/%s", root, item->d_name) >=
				A67_CGROUP_PATH_SIZE ||
			lstat(mount, &st) != 0 || !S_ISDIR(st.st_mode))
			continue;
		found = true;
	}
	if (dir != NULL)
		(void) closedir(dir);
	return found;
}

static void
add_tree(A67Cgroups *cgroups, const char *mount, unsigned int limit)
{
	for (size_t i = 0; i < cgroups->count; i++)
	{
		if (strcmp(cgroups->trees[i].mount, mount) != 0)
			continue;
		cgroups->trees[i].limits |= limit;
		return;
	}
	(void) snprintf(cgroups->trees[cgroups->count].mount, A67_CGROUP_PATH_SIZE, "%s", mount);
	cgroups->trees[cgroups->count++].limits = limit;
}

/* Each hierarchy by itself: one that cannot be written to is left out. */
static void
open_v1(A67Cgroups *cgroups, const char *root, const char *self, const char *node_id)
{
	char mount[A67_CGROUP_PATH_SIZE];
	char own[A67_CGROUP_PATH_SIZE];
	A67CgroupTree tree = {.limits = 0};

	for (size_t i = 0; i < CONTROLLERS; i++)
	{
		int err = -ENOENT;

		if (!find_hierarchy(root, controllers[i].name, mount))
			continue;
		memcpy(tree.mount, mount, sizeof(mount));
		if (geteuid() == 0 || !own_group(self, controllers[i].name, own))
			own[0] = '\0';
		/* One path for all: the first hierarchy decides. */
		if (cgroups->parent[0] == '\0' &&
			snprintf(cgroups->parent, sizeof(cgroups->parent), "%s/a67-%s", own, node_id) >=
				(int) sizeof(cgroups->parent))
			err = -ENAMETOOLONG;
		else
			err = make_node_group(&tree, cgroups->parent);
		if (err == 0)
			add_tree(cgroups, mount, controllers[i].limit);
		else if (cgroups->count == 0)
		{
			cgroups->parent[0] = '\0';
			(void) a67_why(&cgroups->why, err, "\"%s\" is not ours to write to: %s", mount,
						   strerror(-err));
		}
		if (err == 0)
			cgroups->limits |= controllers[i].limit;
	}
	if (cgroups->count > 0)
		cgroups->version = 1;
	else if (cgroups->why.text[0] == '\0')
		(void) a67_why(&cgroups->why, -ENOENT, "none are mounted at \"%s\"", root);
}

void
a67_cgroups_open(A67Cgroups *cgroups, const char *root, const char *node_id)
{
	char self[FILE_SIZE];
	FilePath path;
	const char *named = getenv("A67_CGROUP_ROOT");

	memset(cgroups, 0, sizeof(*cgroups));
	if (root == NULL)
		root = named != NULL && named[0] == '/' ? named : DEFAULT_ROOT;
	if (strcmp(root, DEFAULT_ROOT) == 0)
		(void) read_text("/proc/self", "cgroup", self, sizeof(self));
	else
		(void) read_text(root, "self", self, sizeof(self));
	if (strlen(root) >= A67_CGROUP_PATH_SIZE / 2)
	{
		(void) a67_why(&cgroups->why, -ENAMETOOLONG, "the path of their mount is too long");
		return;
	}
	(void) snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	if (access(path, F_OK) == 0)
		open_v2(cgroups, root, self, node_id);
	else
		open_v1(cgroups, root, self, node_id);
}

/* ---- one group ---- */

void
a67_cgroup_name(const A67Cgroups *cgroups, const char *replica, char path[A67_CGROUP_PATH_SIZE])
{
	path[0] = '\0';
	if (cgroups->version != 0 && snprintf(path, A67_CGROUP_PATH_SIZE, "%s/%s", cgroups->parent,
										  replica) >= A67_CGROUP_PATH_SIZE)
		path[0] = '\0';
}

/* "max" in version 2 and -1 in version 1 take a limit away that an earlier content had. */
static int
set_limits(const A67Cgroups *cgroups, const A67CgroupTree *tree, const char *group,
		   const A67CgroupLimits *limits)
{
	char text[64];
	bool v2 = cgroups->version == 2;
	int64_t quota = (int64_t) (limits->cpu * PERIOD_US);
	int err = 0;

	if (quota < QUOTA_MIN_US)
		quota = QUOTA_MIN_US;
	if ((tree->limits & A67_CGROUP_MEMORY) != 0)
	{
		(void) snprintf(text, sizeof(text), "%lld", (long long) limits->memory_bytes);
		err = write_text(group, v2 ? "memory.max" : "memory.limit_in_bytes",
						 limits->memory_bytes > 0 ? text
						 : v2					  ? "max"
												  : "-1");
		/* One process too large: the whole application ends, and starts again as a whole. */
		if (v2)
			(void) write_text(group, "memory.oom.group", "1");
	}
	if (err == 0 && (tree->limits & A67_CGROUP_CPU) != 0 && v2)
	{
		(void) snprintf(text, sizeof(text), "%lld %d", (long long) quota, PERIOD_US);
		err = write_text(group, "cpu.max", limits->cpu > 0 ? text : "max");
	}
	if (err == 0 && (tree->limits & A67_CGROUP_CPU) != 0 && !v2)
	{
		(void) write_number(group, "cpu.cfs_period_us", PERIOD_US);
		err = write_number(group, "cpu.cfs_quota_us", limits->cpu > 0 ? quota : -1);
	}
	if (err == 0 && (tree->limits & A67_CGROUP_PIDS) != 0)
	{
		(void) snprintf(text, sizeof(text), "%lld", (long long) limits->pids);
		err = write_text(group, "pids.max", limits->pids > 0 ? text : "max");
	}
	return err;
}

int
a67_cgroup_make(const A67Cgroups *cgroups, const char *path, const A67CgroupLimits *limits,
				A67Why *why)
{
	FilePath group;
	int err = 0;

	for (size_t i = 0; err == 0 && path[0] != '\0' && i < cgroups->count; i++)
	{
		const A67CgroupTree *tree = &cgroups->trees[i];

		(void) make_node_group(tree, cgroups->parent);
		group_path(tree, path, group);
		/* Anew, so that what it has used counts from the start. */
		(void) rmdir(group);
		if (mkdir(group, 0755) != 0 && errno != EEXIST)
			err = -errno;
		else
			err = set_limits(cgroups, tree, group, limits);
	}
	return err != 0 ? a67_why(why, err, "could not limit the application: %s", strerror(-err)) : 0;
}

int
a67_cgroup_enter(const A67Cgroups *cgroups, const char *path)
{
	FilePath group;
	int err = 0;

	for (size_t i = 0; err == 0 && path[0] != '\0' && i < cgroups->count; i++)
	{
		group_path(&cgroups->trees[i], path, group);
		err = write_number(group, "cgroup.procs", getpid());
	}
	return err;
}

size_t
a67_cgroup_pids(const A67Cgroups *cgroups, const char *path, pid_t *pids, size_t max)
{
	char *text = path[0] != '\0' && cgroups->count > 0 ? malloc(FILE_SIZE) : NULL;
	FilePath group;
	size_t count = 0;
	char *end;

	if (text == NULL)
		return 0;
	/* Whoever is in one hierarchy is in all of them. */
	group_path(&cgroups->trees[0], path, group);
	if (read_text(group, "cgroup.procs", text, FILE_SIZE) == 0)
	{
		for (char *at = text; count < max; at = end)
		{
			long pid = strtol(at, &end, 10);

			if (end == at)
				break;
			if (pid > 1)
				pids[count++] = (pid_t) pid;
		}
	}
	free(text);
	return count;
}

bool
a67_cgroup_kill(const A67Cgroups *cgroups, const char *path)
{
	pid_t pids[256];
	FilePath group;
	size_t count;

	if (path[0] == '\0' || cgroups->count == 0)
		return false;
	for (size_t i = 0; i < cgroups->count; i++)
	{
		group_path(&cgroups->trees[i], path, group);
		if (cgroups->version == 2 && write_text(group, "cgroup.kill", "1") == 0)
			return true;
		/* No more forks: then one round is enough. */
		if ((cgroups->trees[i].limits & A67_CGROUP_PIDS) != 0)
			(void) write_text(group, "pids.max", "0");
	}
	count = a67_cgroup_pids(cgroups, path, pids, sizeof(pids) / sizeof(pids[0]));
	/* The list is a moment old; the kernel reuses a number only after all others. */
	for (size_t i = 0; i < count; i++)
		(void) kill(pids[i], SIGKILL);
	return true;
}

/* The number after a word in a file of "word number" lines, or the first of all; -1: none. */
static int64_t
read_number(const char *group, const char *name, const char *word)
{
	char text[4096];
	const char *at = text;
	char *end;
	long long value;

	if (read_text(group, name, text, sizeof(text)) != 0)
		return -1;
	if (word != NULL)
	{
		at = strstr(text, word);
		if (at == NULL)
			return -1;
		at += strlen(word);
	}
	value = strtoll(at, &end, 10);
	return end != at && value >= 0 ? (int64_t) value : -1;
}

void
a67_cgroup_usage(const A67Cgroups *cgroups, const char *path, A67CgroupUsage *usage)
{
	FilePath group;

	usage->cpu_us = usage->memory_bytes = -1;
	for (size_t i = 0; path[0] != '\0' && i < cgroups->count; i++)
	{
		const A67CgroupTree *tree = &cgroups->trees[i];

		group_path(tree, path, group);
		if (cgroups->version == 2)
			usage->cpu_us = read_number(group, "cpu.stat", "usage_usec ");
		if (cgroups->version == 2)
			usage->memory_bytes = read_number(group, "memory.current", NULL);
		else if ((tree->limits & A67_CGROUP_MEMORY) != 0)
			usage->memory_bytes = read_number(group, "memory.usage_in_bytes", NULL);
	}
}

bool
a67_cgroup_remove(const A67Cgroups *cgroups, const char *path)
{
	FilePath group;
	bool gone = true;

	for (size_t i = 0; path[0] != '\0' && i < cgroups->count; i++)
	{
		group_path(&cgroups->trees[i], path, group);
		gone = (rmdir(group) == 0 || errno == ENOENT) && gone;
	}
	return gone;
}

void
a67_cgroup_sweep(const A67Cgroups *cgroups, bool (*keep)(void *arg, const char *replica), void *arg)
{
	FilePath group;
	struct dirent *item;

	for (size_t i = 0; cgroups->parent[0] != '\0' && i < cgroups->count; i++)
	{
		DIR *dir;

		group_path(&cgroups->trees[i], cgroups->parent, group);
		dir = opendir(group);
		while (dir != NULL && (item = readdir(dir)) != NULL)
		{
			if (item->d_name[0] != '.' && item->d_type == DT_DIR && !keep(arg, item->d_name))
				(void) unlinkat(dirfd(dir), item->d_name, AT_REMOVEDIR);
		}
		if (dir != NULL)
			(void) closedir(dir);
	}
}
