/*
 * host.c - the look at the machine, and refusals.  See host.h.
 */
#include "host.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "spawn.h"

#define DEFAULT_PATH "PATH=/usr/local/bin:/usr/bin:/bin"

const char *
a67_host_runtime(A67Runtime runtime)
{
	if (runtime == A67_RUNTIME_PYTHON)
		return "python3";
	return runtime == A67_RUNTIME_NODE ? "node" : NULL;
}

/*
 * To reach its own directory an application must pass these, and can list none of them; all that is
 * beside it stays closed.
 */
static int
open_way(const A67StateDir *dir, A67Why *why)
{
	if (fchmod(dir->fd, 0711) != 0 || fchmodat(dir->fd, "apps", 0711, 0) != 0)
		return a67_why(why, -errno, "could not open the way to applications: %s", strerror(errno));
	return 0;
}

int
a67_host_open(A67Host *host, const A67StateDir *dir, const char *user_range, A67Why *why)
{
	int err;

	memset(host, 0, sizeof(*host));
	err = a67_users_open(user_range, &host->users, why);
	if (err == 0 && host->users.count > 0)
		err = open_way(dir, why);
	if (err != 0)
		return err;
	if (host->users.count > 0)
		a67_log(A67_LOG_INFO, "applications run as users %u to %u",
				(unsigned int) host->users.first,
				(unsigned int) (host->users.first + host->users.count - 1));
	else
		a67_log(A67_LOG_INFO, "applications run as the agent's user: %s", host->users.why);
	a67_crun_probe(&host->crun, dir, host->users.first);
	if (host->crun.works)
		a67_log(A67_LOG_INFO, "containers are run by %s%s", host->crun.path,
				host->crun.seccomp ? "" : ", without a seccomp filter");
	else if (host->crun.path[0] != '\0')
		a67_log(A67_LOG_WARNING, "no containers: crun does not work here: %s", host->crun.why.text);
	return 0;
}

void
a67_host_join(A67Host *host, const char *node_id)
{
	const A67Cgroups *cgroups = &host->cgroups;
	unsigned int limits;

	a67_cgroups_open(&host->cgroups, NULL, node_id);
	limits = cgroups->limits;
	if (cgroups->version == 0)
		a67_log(A67_LOG_WARNING,
				"no control groups: %s; memory is limited for each process, processor time is not",
				cgroups->why.text);
	else
		a67_log(limits == (A67_CGROUP_MEMORY | A67_CGROUP_CPU | A67_CGROUP_PIDS) ? A67_LOG_INFO
																				 : A67_LOG_WARNING,
				"control groups: version %d at \"%s\", limits:%s%s%s%s", cgroups->version,
				cgroups->parent, (limits & A67_CGROUP_MEMORY) != 0 ? " memory" : "",
				(limits & A67_CGROUP_CPU) != 0 ? " cpu" : "",
				(limits & A67_CGROUP_PIDS) != 0 ? " pids" : "", limits == 0 ? " none" : "");
}

void
a67_host_close(const A67Host *host)
{
	(void) a67_cgroup_remove(&host->cgroups, host->cgroups.parent);
}

static bool
is_installed(const char *program)
{
	char path[512];
	char *argv[] = {(char *) program, NULL};
	char *envp[] = {DEFAULT_PATH, NULL};
	A67Spawn spawn = {.root = "/", .argv = argv, .envp = envp};
	A67Why why;

	return a67_spawn_find(&spawn, path, sizeof(path), &why) == 0;
}

int
a67_host_refuse(const A67Host *host, const A67Desired *desired, A67Why *why)
{
	const char *program = a67_host_runtime(desired->runtime);

	if (desired->runner == A67_RUNNER_CONTAINER && host->crun.path[0] == '\0')
		return a67_why(why, -EINVAL, "field \"runner\" must be \"process\": this node has no crun");
	if (desired->runner == A67_RUNNER_CONTAINER && !host->crun.works)
		return a67_why(why, -EINVAL,
					   "field \"runner\" must be \"process\": crun does not work on this node: %s",
					   host->crun.why.text);
	/* A container may have its own. */
	if (desired->runner == A67_RUNNER_PROCESS && program != NULL && !is_installed(program))
		return a67_why(why, -EINVAL,
					   "field \"runtime\" must be one that this node has: no \"%s\" in PATH",
					   program);
	return 0;
}
