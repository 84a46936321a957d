/*
 * cgroup.h - a control group for each application: its limits, its members, its end.
 *
 * Finds at start where this agent may make groups (version 2, or the hierarchies of version 1) and which
 * limits they enforce; says once in the log what is missing.  A group is named by its path below the
 * mount, "/a67-<node id>/<replica id>", the same in each hierarchy.  Without groups everything here
 * does nothing, and does it well.  Called by host.c, launch.c, tree.c and recover.c.
 */
#ifndef A67_AGENT_CGROUP_H
#define A67_AGENT_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/encode.h"
#include "log.h"

#define A67_CGROUP_PATH_SIZE 256
#define A67_CGROUP_TREES	 3 /* memory, cpu and pids of version 1; one of version 2 */
#define A67_CGROUP_PIDS_MAX	 4096

/* Limits that a hierarchy can enforce. */
#define A67_CGROUP_MEMORY	 1U
#define A67_CGROUP_CPU		 2U
#define A67_CGROUP_PIDS		 4U

typedef struct A67CgroupTree
{
	char mount[A67_CGROUP_PATH_SIZE];
	unsigned int limits; /* A67_CGROUP_… that it enforces */
} A67CgroupTree;

typedef struct A67Cgroups
{
	int version; /* 0: none to write to, and why says the reason */
	A67CgroupTree trees[A67_CGROUP_TREES];
	size_t count;
	unsigned int limits;			   /* of all trees */
	char parent[A67_CGROUP_PATH_SIZE]; /* where groups are made, below each mount */
	A67Why why;
} A67Cgroups;

typedef struct A67CgroupLimits
{
	int64_t memory_bytes; /* 0, here and below: none */
	double cpu;			  /* cores */
	int64_t pids;
} A67CgroupLimits;

/* What one group has used since it was made. */
typedef struct A67CgroupUsage
{
	int64_t cpu_us;		  /* -1, here and below: not known */
	int64_t memory_bytes; /* now */
} A67CgroupUsage;

/*
 * Finds the hierarchies below root (NULL: /sys/fs/cgroup, or what A67_CGROUP_ROOT names) and makes the
 * node's group.  Never fails: version 0 is an answer.
 */
void a67_cgroups_open(A67Cgroups *cgroups, const char *root, const char *node_id);

/* The path of a replica's group, to be kept; "" when there are no groups. */
void a67_cgroup_name(const A67Cgroups *cgroups, const char *replica,
					 char path[A67_CGROUP_PATH_SIZE]);

/* Makes the group and sets its limits; what it had of an earlier process goes.  0 or -errno. */
int a67_cgroup_make(const A67Cgroups *cgroups, const char *path, const A67CgroupLimits *limits,
					A67Why *why);

/* Moves the calling process into it, in each hierarchy.  For a child before exec.  0 or -errno. */
int a67_cgroup_enter(const A67Cgroups *cgroups, const char *path);

/* Members; how many were stored. */
size_t a67_cgroup_pids(const A67Cgroups *cgroups, const char *path, pid_t *pids, size_t max);

/* Forbids further members and kills those it has (cgroup.kill, else one by one).  May have to be
 * repeated.  False when there are no groups. */
bool a67_cgroup_kill(const A67Cgroups *cgroups, const char *path);

void a67_cgroup_usage(const A67Cgroups *cgroups, const char *path, A67CgroupUsage *usage);

/* Removes the group; false while it still has members. */
bool a67_cgroup_remove(const A67Cgroups *cgroups, const char *path);

/* Removes empty groups of this node but those for which keep says true; kills in none. */
void a67_cgroup_sweep(const A67Cgroups *cgroups, bool (*keep)(void *arg, const char *replica),
					  void *arg);

#endif /* A67_AGENT_CGROUP_H */
