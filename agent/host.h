/*
 * host.h - what this machine lets applications have: users, control groups, containers, runtimes.
 *
 * Looked at once at start and told once in the log; decides what of a desired state cannot be run here.
 * Called by main, the server and launch.c.
 */
#ifndef A67_AGENT_HOST_H
#define A67_AGENT_HOST_H

#include "cgroup.h"
#include "container.h"
#include "desired.h"
#include "statedir.h"
#include "users.h"

typedef struct A67Host
{
	A67Users users;
	A67Cgroups cgroups;
	A67Crun crun;
} A67Host;

/*
 * Users from the range given ("": of our own choice) and crun; opens the state directory a crack where
 * applications have users of their own.  0 or -errno.
 */
int a67_host_open(A67Host *host, const A67StateDir *dir, const char *user_range, A67Why *why);

/* Control groups, which are named by the node. */
void a67_host_join(A67Host *host, const char *node_id);

/* Gives the node's control group back, unless applications go on in it. */
void a67_host_close(const A67Host *host);

/* 0, or -EINVAL with the field and the reason: this node cannot run it. */
int a67_host_refuse(const A67Host *host, const A67Desired *desired, A67Why *why);

/* The program of a runtime ("python3"); NULL: the entrypoint itself, or our own. */
const char *a67_host_runtime(A67Runtime runtime);

#endif /* A67_AGENT_HOST_H */
