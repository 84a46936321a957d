/*
 * container.h - the container runner: an OCI bundle for one replica, run by crun.
 *
 * The root file system is the rootfs/ of the package (writable: each replica has unpacked its own) or
 * the programs, libraries and settings of the host, read-only, with the package at /app.  Namespaces for
 * processes, mounts, IPC and host name, and for users unless the agent is root; the host's network, because an
 * application is reached by its port.  No capability, no new privileges, a seccomp filter.  Limits are
 * those of cgroup.h: crun is started inside of the replica's group and makes none.
 * The bundle holds the environment in the clear and lies beside the files of secrets (secrets.h).
 * Called by host.c and launch.c.
 */
#ifndef A67_AGENT_CONTAINER_H
#define A67_AGENT_CONTAINER_H

#include "spawn.h"
#include "statedir.h"

#define A67_CONTAINER_PATH_SIZE (A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE + 16)
#define A67_CONTAINER_ARGV		12

/* Where things are inside. */
#define A67_CONTAINER_APP		"/app"
#define A67_CONTAINER_HOME		"/home"
#define A67_CONTAINER_TMP		"/tmp"
#define A67_CONTAINER_SECRETS	"/run/secrets"
#define A67_CONTAINER_TOOL \
	"/run/a67-static" /* this program, by the name that makes it a server of files */

typedef struct A67Crun
{
	char path[A67_STATE_PATH_SIZE]; /* "": not installed */
	bool works;
	bool seccomp;
	A67Why why; /* of its not working */
} A67Crun;

typedef struct A67Container
{
	const A67Crun *crun;
	const char *bundle; /* directory to be made */
	const char *id;
	const char *package; /* the unpacked one; NULL: none */
	bool own_root;		 /* its rootfs/ is the root, not the host */
	const char *home;	 /* NULL, here and below: none */
	const char *tmp;
	const char *secrets;
	const char *tool;
	char *const *argv; /* of the application, or of a check beside it */
	char *const *envp;
	uid_t uid; /* 0: the agent's own, in a user namespace */
	A67SpawnLimits limits;
} A67Container;

/* Looks for crun in PATH and runs one container with it, for at most 5 s.  Blocks. */
void a67_crun_probe(A67Crun *crun, const A67StateDir *dir, uid_t uid);

/* Whether the package brings a root file system of its own. */
bool a67_container_has_rootfs(const char *package);

/* Writes the bundle anew.  0 or -errno. */
int a67_container_prepare(const A67Container *container, A67Why *why);

/* Writes argv and envp as those of a process to be run in the container that is there.  0 or -errno. */
int a67_container_prepare_exec(const A67Container *container, A67Why *why);

/* The command that does what was prepared; argv points into container and command. */
typedef struct A67ContainerCommand
{
	char state[A67_CONTAINER_PATH_SIZE];
	char process[A67_CONTAINER_PATH_SIZE];
	char *argv[A67_CONTAINER_ARGV];
} A67ContainerCommand;

void a67_container_command(const A67Container *container, bool exec, A67ContainerCommand *command);

#endif /* A67_AGENT_CONTAINER_H */
