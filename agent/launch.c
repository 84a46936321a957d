/*
 * launch.c - what an application gets when it starts: port, environment, secrets, directories, log.
 *
 * Decides none of when; a67_process_spawn does the starting.  Env values and secrets are in the clear
 * here only, while a process starts or its files are replaced.  Called by runner.c.
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

#include <sodium.h>

#include "applog.h"
#include "sealed_env.h"

#define PORT_TRIES 16
#define ENV_SLOTS  (2 * A67_ENV_MAX + 16)

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

/* Of its full size from the start: what grows leaves copies behind. */
static void
env_add(EnvList *list, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 2;
	char *item = list->count < ENV_SLOTS ? malloc(size) : NULL;

	if (item == NULL)
	{
		list->failed = true;
		return;
	}
	(void) snprintf(item, size, "%s=%s", name, value);
	list->items[list->count++] = item;
	list->items[list->count] = NULL;
}

/* A default that the manifest may override. */
static void
env_default(EnvList *list, const A67Env *given, const char *name, const char *value)
{
	if (json_object_get(given->env, name) == NULL && json_object_get(given->secrets, name) == NULL)
		env_add(list, name, value);
}

static void
env_add_all(EnvList *list, json_t *variables)
{
	const char *name;
	json_t *value;

	json_object_foreach(variables, name, value)
	{
		env_add(list, name, json_string_value(value));
	}
}

static void
env_free(EnvList *list)
{
	for (size_t i = 0; i < list->count; i++)
	{
		sodium_memzero(list->items[i], strlen(list->items[i]));
		free(list->items[i]);
	}
}

/* The marks come first: whoever looks for them in /proc reads the beginning only. */
static void
build_env(const A67Supervisor *supervisor, const A67Replica *replica, const A67Env *given,
		  EnvList *list)
{
	char path[A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE];
	char number[32];

	memset(list, 0, sizeof(*list));
	env_add(list, "A67_NODE_ID", supervisor->identity->node_id);
	env_add(list, "A67_REPLICA", replica->id);
	env_add(list, "A67_NODE", supervisor->identity->name);
	env_add(list, "A67_DEPLOYMENT", replica->desired->deployment);
	(void) snprintf(number, sizeof(number), "%lld", (long long) replica->desired->release);
	env_add(list, "A67_RELEASE", number);
	if (replica->secrets_dir[0] != '\0')
		env_add(list, "A67_SECRETS_DIR", replica->secrets_dir);
	(void) snprintf(number, sizeof(number), "%d", replica->port);
	env_add(list, "PORT", number);
	env_default(list, given, "PATH", "/usr/local/bin:/usr/bin:/bin");
	env_default(list, given, "LANG", "C.UTF-8");
	(void) snprintf(path, sizeof(path), "%s/apps/%s/home", supervisor->dir->path, replica->id);
	env_default(list, given, "HOME", path);
	(void) snprintf(path, sizeof(path), "%s/apps/%s/tmp", supervisor->dir->path, replica->id);
	env_default(list, given, "TMPDIR", path);
	env_add_all(list, given->env);
	env_add_all(list, given->secrets);
}

/* Opens what the controller sealed; nothing sealed is an empty environment. */
static int
open_env(const A67Supervisor *supervisor, const A67Replica *replica, A67Env *given, A67Why *why)
{
	json_t *sealed = replica->desired->sealed_env;

	memset(given, 0, sizeof(*given));
	if (sealed == NULL)
		return 0;
	return a67_env_open(supervisor->dir, json_string_value(sealed), replica->id, given, why);
}

int
a67_launch_choose_secrets(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why)
{
	A67SecretsPlace place = {supervisor->dir, supervisor->identity->node_id, replica->id};

	replica->secrets_dir[0] = '\0';
	if (replica->desired->env_version == NULL)
		return 0;
	return a67_secrets_choose(&place, json_string_length(replica->desired->sealed_env),
							  replica->secrets_dir, why);
}

int
a67_launch_renew_secrets(const A67Supervisor *supervisor, const A67Replica *replica, A67Why *why)
{
	A67Env given;
	int err = open_env(supervisor, replica, &given, why);

	if (err == 0)
		err = a67_secrets_write(replica->secrets_dir, given.secrets, why);
	a67_env_close(&given);
	return err;
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

static int
spawn(const A67Supervisor *supervisor, A67Replica *replica, const A67Env *given, A67Why *why)
{
	const A67Desired *desired = replica->desired;
	char name[A67_STATE_NAME_SIZE];
	char root[A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE];
	char *argv[A67_ARGV_MAX + 1] = {NULL};
	EnvList env;
	A67Spawn order = {.root = root, .argv = argv, .memory_bytes = desired->memory_bytes};
	int err;

	a67_replica_root_name(replica, name);
	(void) snprintf(root, sizeof(root), "%s/%s", supervisor->dir->path, name);
	for (size_t i = 0; i < json_array_size(desired->entrypoint); i++)
		argv[i] = (char *) json_string_value(json_array_get(desired->entrypoint, i));
	build_env(supervisor, replica, given, &env);
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

int
a67_launch(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why)
{
	A67Env given;
	int err = open_env(supervisor, replica, &given, why);

	a67_launch_home(supervisor, replica, "/home");
	a67_launch_home(supervisor, replica, "/tmp");
	if (err == 0 && replica->secrets_dir[0] != '\0')
		err = a67_secrets_write(replica->secrets_dir, given.secrets, why);
	if (err == 0)
		err = spawn(supervisor, replica, &given, why);
	a67_env_close(&given);
	return err;
}
