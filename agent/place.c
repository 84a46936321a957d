/*
 * place.c - what a replica has on this machine besides its process: port, user, group, directories.
 *
 * All of it is chosen before the state file of its start is written, and given back when the process has
 * ended or nothing is left of the replica.  Where applications have users of their own, apps/<id> stays
 * the agent's: the application can enter it, and neither list nor change what is in it, so that no name
 * that the agent follows there is the application's to choose.  Called by runner.c, obtain.c, recover.c
 * and launch.c.
 */
#include "runner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/pace.h"

#define PORT_TRIES 16

/* ---- port ---- */

static bool
port_taken(const A67Supervisor *supervisor, const A67Replica *self, int port)
{
	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Replica *other = supervisor->replicas[i];

		if (other != self && other->port == port && other->desired != NULL)
			return true;
	}
	return false;
}

/* Binds to the port (0: any) on all addresses for a moment; the port, or 0 when it is in use. */
static int
try_port(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	socklen_t len = sizeof(address);
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int got = 0;

	if (fd < 0)
		return 0;
	/* Connections of the past in TIME_WAIT do not make a port unfit. */
	(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
		getsockname(fd, (struct sockaddr *) &address, &len) == 0)
		got = ntohs(address.sin_port);
	(void) close(fd);
	return got;
}

int
a67_place_port(const A67Supervisor *supervisor, const A67Replica *replica)
{
	int port = replica->port > 0 ? try_port(replica->port) : 0;

	for (int i = 0; i < PORT_TRIES; i++)
	{
		if (port != 0 && !port_taken(supervisor, replica, port))
			return port;
		port = try_port(0);
	}
	return 0;
}

/* ---- user, group, secrets ---- */

static bool
user_taken(void *arg, uid_t uid)
{
	const A67Supervisor *supervisor = arg;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		if (supervisor->replicas[i]->uid == uid)
			return true;
	}
	return false;
}

void
a67_place_user(A67Supervisor *supervisor, A67Replica *replica)
{
	if (replica->uid == 0)
		replica->uid = a67_users_pick(&supervisor->host->users, a67_random_next(&supervisor->seed),
									  user_taken, supervisor);
}

void
a67_place_choose(A67Supervisor *supervisor, A67Replica *replica)
{
	A67SecretsPlace place = {supervisor->dir, supervisor->identity->node_id, replica->id, 0};
	bool container = replica->desired->runner == A67_RUNNER_CONTAINER;
	A67Why why;

	a67_place_user(supervisor, replica);
	a67_cgroup_name(&supervisor->host->cgroups, replica->id, replica->cgroup);
	replica->port = a67_place_port(supervisor, replica);
	replica->secrets_dir[0] = '\0';
	place.group = (gid_t) replica->uid;
	/* The bundle of a container holds the environment, and so lies where secrets do. */
	if ((replica->desired->env_version != NULL || container) &&
		a67_secrets_choose(&place, json_string_length(replica->desired->sealed_env),
						   replica->secrets_dir, &why) != 0)
		a67_log(A67_LOG_ERROR, "%s", why.text);
}

/* ---- directories ---- */

void
a67_place_home(const A67Supervisor *supervisor, const A67Replica *replica, const char *part)
{
	char name[A67_STATE_NAME_SIZE];
	char path[A67_STATE_NAME_SIZE + 16];
	uid_t owner = part[0] != '\0' ? replica->uid : 0;
	int at = supervisor->dir->fd;

	a67_replica_home_name(replica, name);
	(void) snprintf(path, sizeof(path), "%s%s", name, part);
	if ((mkdirat(at, path, 0700) != 0 && errno != EEXIST) ||
		(replica->uid != 0 &&
		 fchownat(at, path, owner, (gid_t) replica->uid, AT_SYMLINK_NOFOLLOW) != 0) ||
		(replica->uid != 0 && owner == 0 && fchmodat(at, path, 0710, 0) != 0))
		a67_log(A67_LOG_WARNING, "could not make \"%s\": %s", path, strerror(errno));
}

void
a67_place_bundle(const A67Replica *replica, char path[A67_CONTAINER_PATH_SIZE])
{
	(void) snprintf(path, A67_CONTAINER_PATH_SIZE, "%s%s", replica->secrets_dir,
					A67_PLACE_BUNDLE_SUFFIX);
}

/* ---- processes ---- */

void
a67_place_tree(const A67Supervisor *supervisor, const A67Replica *replica, A67Tree *tree)
{
	*tree = (A67Tree){.cgroups = &supervisor->host->cgroups,
					  .node = supervisor->identity->node_id,
					  .replica = replica->id,
					  .cgroup = replica->cgroup,
					  .uid = replica->uid,
					  .main = replica->ended_ticks == 0 ? replica->process.pid : 0,
					  .group = replica->ended_ticks != 0 ? replica->process.pid : 0,
					  .ended_ticks = replica->ended_ticks,
					  .container = replica->desired != NULL &&
								   replica->desired->runner == A67_RUNNER_CONTAINER};
}

void
a67_place_clear(const A67Supervisor *supervisor, A67Replica *replica)
{
	char bundle[A67_CONTAINER_PATH_SIZE];
	A67Tree tree;

	a67_place_tree(supervisor, replica, &tree);
	a67_tree_kill(&tree);
	(void) a67_cgroup_remove(&supervisor->host->cgroups, replica->cgroup);
	if (replica->secrets_dir[0] == '\0')
		return;
	a67_place_bundle(replica, bundle);
	a67_directory_remove(bundle);
	a67_secrets_remove(replica->secrets_dir);
	replica->secrets_dir[0] = '\0';
}
