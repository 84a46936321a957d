/*
 * spawn.h - starts one program: group, control group, user, limits, directory, descriptors, exec.
 *
 * All of it is done by the child itself, so that not one instruction of the program runs before, and so
 * that an agent killed in between leaves a child that goes on to its exec alone.  The child holds the lock
 * of the state directory until then (statedir.h).  Never a shell.  Called by launch.c.
 */
#ifndef A67_AGENT_SPAWN_H
#define A67_AGENT_SPAWN_H

#include "cgroup.h"
#include "process.h"

/* Room for the mark that the child completes: "A67_PID=" and a number. */
#define A67_SPAWN_PID_MARK "A67_PID=          "

typedef struct A67SpawnLimits
{
	int64_t data_bytes; /* RLIMIT_DATA; 0, here and below: as the agent has it */
	int64_t processes;	/* RLIMIT_NPROC: counts all processes of its user */
} A67SpawnLimits;

typedef struct A67Spawn
{
	const char *root;	 /* working directory; a program named with a '/' is relative to it */
	const char *program; /* NULL: what argv[0] names */
	char *const *argv;
	char *const *envp; /* PATH in here is where a program without '/' is looked up */
	int log_fd;		   /* standard output and error */
	int record_fd;	   /* to be descriptor 3; below 0: none */
	uid_t uid;		   /* and gid; 0: the agent's own */
	A67SpawnLimits limits;
	const A67Cgroups *cgroups;
	const char *cgroup; /* to be entered; "": none */
	bool trusted;		/* crun: limits are not for it, and it may need more privileges */
} A67Spawn;

/* The absolute path of a program by the rules above.  0 or -ENOENT. */
int a67_spawn_find(const A67Spawn *spawn, char *out, size_t size, A67Why *why);

/*
 * Starts it in a process group of its own, in the agent's session.  0, -ENOENT/-EACCES/-ENOEXEC/-E2BIG
 * when the program cannot run at all, or another -errno.
 */
int a67_process_spawn(const A67Spawn *spawn, A67Process *process, A67Why *why);

#endif /* A67_AGENT_SPAWN_H */
