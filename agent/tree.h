/*
 * tree.h - all processes of a replica: those that were started, and whatever they have become.
 *
 * A process belongs to a replica when it is in its control group, runs as its user, has its marks in the
 * environment, or descends from one that does; so sessions, process groups and double forks lead
 * nowhere.  Where a replica has neither group nor user, one that drops its environment and whose parents
 * are gone is not found.  Called by runner.c, supervisor.c and recover.c.
 */
#ifndef A67_AGENT_TREE_H
#define A67_AGENT_TREE_H

#include "cgroup.h"
#include "process.h"

#define A67_TREE_MAX 4096

typedef struct A67Tree
{
	const A67Cgroups *cgroups;
	const char *node;
	const char *replica;
	const char *cgroup;	  /* "": none */
	uid_t uid;			  /* 0: the agent's own */
	pid_t main;			  /* the one that was started, while it lives; 0: none */
	pid_t group;		  /* when it has just ended: its process group; 0: none */
	uint64_t ended_ticks; /* when that was: whoever is younger has the group's number by chance */
	bool container;		  /* main is crun, the application is init of a pid namespace */
} A67Tree;

/* How many are alive. */
size_t a67_tree_count(const A67Tree *tree);

/*
 * Asks all to end: SIGTERM to each once, to the group of main by kill(2).  In a container to its init,
 * which gets SIGKILL instead when it has no handler: the kernel would drop the other signal.
 */
void a67_tree_terminate(const A67Tree *tree);

/* SIGKILL to all, main included, and again to those that were just being made. */
void a67_tree_kill(const A67Tree *tree);

/* The same to health checks by command alone. */
void a67_tree_kill_checks(const A67Tree *tree);

#endif /* A67_AGENT_TREE_H */
