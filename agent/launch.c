/*
 * launch.c - what an application gets when it starts: port, environment, directories, log.
 *
 * Decides none of when; a67_process_spawn does the starting.  Called by runner.c.
 */
#include "supervisor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "applog.h"

#define PORT_TRIES 16
#define ENV_SLOTS  (A67_ENV_MAX + 16)

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

/* The port of last time if it is free still, so that endpoints stay; else another.  0: none. */
int
a67_launch_port(const A67Supervisor *supervisor, const A67Replica *replica)
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

typedef struct EnvList
{
	char *items[ENV_SLOTS + 1];
	size_t count;
	bool failed;
} EnvList;

static void
env_add(EnvList *list, const char *name, const char *value)
{
	char *item;

	if (list->count == ENV_SLOTS || asprintf(&item, "%s=%s", name, value) < 0)
	{
		list->failed = true;
		return;
	}
	list->items[list->count++] = item;
	list->items[list->count] = NULL;
}

/* A default that the manifest may override. */
static void
env_default(EnvList *list, const A67Desired *desired, const char *name, const char *value)
{
	if (desired->env == NULL || json_object_get(desired->env, name) == NULL)
		env_add(list, name, value);
}

static void
env_free(EnvList *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
}

static void
build_env(const A67Supervisor *supervisor, const A67Replica *replica, EnvList *list)
{
	const A67Desired *desired = replica->desired;
	char path[A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE];
	char number[32];
	const char *name;
	json_t *value;

	memset(list, 0, sizeof(*list));
	env_default(list, desired, "PATH", "/usr/local/bin:/usr/bin:/bin");
	env_default(list, desired, "LANG", "C.UTF-8");
	(void) snprintf(path, sizeof(path), "%s/apps/%s/home", supervisor->dir->path, replica->id);
	env_default(list, desired, "HOME", path);
	(void) snprintf(path, sizeof(path), "%s/apps/%s/tmp", supervisor->dir->path, replica->id);
	env_default(list, desired, "TMPDIR", path);
	json_object_foreach(desired->env, name, value)
	{
		env_add(list, name, json_string_value(value));
	}
	(void) snprintf(number, sizeof(number), "%d", replica->port);
	env_add(list, "PORT", number);
	env_add(list, "A67_NODE", supervisor->identity->name);
	env_add(list, "A67_NODE_ID", supervisor->identity->node_id);
	env_add(list, "A67_DEPLOYMENT", desired->deployment);
	(void) snprintf(number, sizeof(number), "%lld", (long long) desired->release);
	env_add(list, "A67_RELEASE", number);
	env_add(list, "A67_REPLICA", replica->id);
}

void
a67_launch_home(const A67Supervisor *supervisor, const A67Replica *replica, const char *part)
{
	char name[A67_STATE_NAME_SIZE];
	char path[A67_STATE_NAME_SIZE + 16];

	a67_replica_home_name(replica, name);
	(void) snprintf(path, sizeof(path), "%s%s", name, part);
	if (mkdirat(supervisor->dir->fd, path, 0700) != 0 && errno != EEXIST)
		a67_log(A67_LOG_WARNING, "could not make \"%s\": %s", path, strerror(errno));
}

int
a67_launch(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why)
{
	const A67Desired *desired = replica->desired;
	char name[A67_STATE_NAME_SIZE];
	char root[A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE];
	char *argv[A67_ARGV_MAX + 1] = {NULL};
	EnvList env;
	A67Spawn order = {.root = root, .argv = argv, .memory_bytes = desired->memory_bytes};
	int err;

	a67_launch_home(supervisor, replica, "/home");
	a67_launch_home(supervisor, replica, "/tmp");
	a67_replica_root_name(replica, name);
	(void) snprintf(root, sizeof(root), "%s/%s", supervisor->dir->path, name);
	for (size_t i = 0; i < json_array_size(desired->entrypoint); i++)
		argv[i] = (char *) json_string_value(json_array_get(desired->entrypoint, i));
	build_env(supervisor, replica, &env);
	order.envp = env.items;
	order.log_fd = a67_applog_open(supervisor->dir, replica->id);
	if (env.failed)
		err = a67_why(why, -ENOMEM, "out of memory");
	else if (order.log_fd < 0)
		err = a67_why(why, order.log_fd, "could not open the log: %s", strerror(-order.log_fd));
	else
		err = a67_process_spawn(&order, &replica->process, why);
	if (order.log_fd >= 0)
		(void) close(order.log_fd);
	env_free(&env);
	return err;
}
