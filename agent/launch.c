/*
 * launch.c - how the program of a replica is started: its command, its environment, its limits.
 *
 * Decides none of when; a67_process_spawn does the starting.  Three programs may come first: the waiter of
 * a run (run.h), crun, and our own as a server of files.  Env values and secrets are in the clear here
 * only, while a process starts or its files are replaced.  Called by runner.c and watch.c.
 */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "applog.h"
#include "appenv.h"
#include "run.h"
#include "spawn.h"

#define SELF			"/proc/self/exe"
#define STACK_ALLOWANCE (INT64_C(64) << 20)
#define PROGRAM_SIZE	4096
#define PATH_SIZE		(A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE + 16)

/* All that one start needs, as long as it lasts. */
typedef struct Order
{
	bool check; /* a health check, beside the process of the replica */
	A67Spawn spawn;
	A67Container container;
	A67AppEnv env;	 /* of the application */
	A67AppEnv outer; /* of crun */
	char *argv[A67_ARGV_MAX + 4];
	A67ContainerCommand command;
	char *waited[A67_ARGV_MAX + A67_CONTAINER_ARGV + 4];
	char root[PATH_SIZE];
	char home[PATH_SIZE];
	char tmp[PATH_SIZE];
	char bundle[A67_CONTAINER_PATH_SIZE];
	char tool[PROGRAM_SIZE];
	char program[PROGRAM_SIZE];
} Order;

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
a67_launch_renew_secrets(const A67Supervisor *supervisor, const A67Replica *replica, A67Why *why)
{
	A67Env given;
	int err = open_env(supervisor, replica, &given, why);

	if (err == 0)
		err = a67_secrets_write(replica->secrets_dir, given.secrets, why);
	a67_env_close(&given);
	return err;
}

static bool
in_container(const A67Replica *replica)
{
	return replica->desired->runner == A67_RUNNER_CONTAINER;
}

/* ---- what is started ---- */

static void
set_paths(const A67Supervisor *supervisor, const A67Replica *replica, Order *order)
{
	char name[A67_STATE_NAME_SIZE];

	a67_replica_root_name(replica, name);
	(void) snprintf(order->root, sizeof(order->root), "%s/%s", supervisor->dir->path, name);
	a67_replica_home_name(replica, name);
	(void) snprintf(order->home, sizeof(order->home), "%s/%s/home", supervisor->dir->path, name);
	(void) snprintf(order->tmp, sizeof(order->tmp), "%s/%s/tmp", supervisor->dir->path, name);
	a67_place_bundle(replica, order->bundle);
}

static void
add_words(char **argv, json_t *words)
{
	while (*argv != NULL)
		argv++;
	for (size_t i = 0; i < json_array_size(words); i++)
		argv[i] = (char *) json_string_value(json_array_get(words, i));
}

/* The command by the runtime; words that are not the entrypoint's come first. */
static void
set_argv(const A67Replica *replica, Order *order)
{
	const A67Desired *desired = replica->desired;
	size_t count = 0;

	if (order->check)
	{
		add_words(order->argv, desired->health_command);
		return;
	}
	if (desired->runtime == A67_RUNTIME_STATIC)
	{
		order->argv[count++] = in_container(replica) ? A67_CONTAINER_TOOL : A67_STATIC_NAME;
		if (json_array_size(desired->entrypoint) == 0)
			order->argv[count++] = ".";
	}
	else if (desired->runtime != A67_RUNTIME_EXECUTABLE)
		order->argv[count++] = (char *) a67_host_runtime(desired->runtime);
	if (desired->runtime == A67_RUNTIME_PYTHON)
		order->argv[count++] = "-u";
	add_words(order->argv, desired->entrypoint);
}

static void
set_env(const A67Supervisor *supervisor, const A67Replica *replica, const A67Env *given,
		Order *order)
{
	bool container = in_container(replica);
	A67AppFacts facts = {.node_id = supervisor->identity->node_id,
						 .node = supervisor->identity->name,
						 .replica = replica->id,
						 .deployment = replica->desired->deployment,
						 .digest = replica->desired->digest,
						 .release = replica->desired->release,
						 .port = replica->port,
						 .home = container ? A67_CONTAINER_HOME : order->home,
						 .tmp = container ? A67_CONTAINER_TMP : order->tmp,
						 .secrets = replica->secrets_dir,
						 .given = given,
						 .pid_mark = !container && !order->check,
						 .check = order->check};

	if (replica->desired->env_version == NULL)
		facts.secrets = "";
	else if (container)
		facts.secrets = A67_CONTAINER_SECRETS;
	a67_appenv_build(&order->env, &facts);
	if (!container)
		return;
	facts.given = NULL;
	facts.pid_mark = !order->check;
	facts.home = "/";
	a67_appenv_build(&order->outer, &facts);
}

/* Limits that no control group enforces. */
static void
set_limits(const A67Supervisor *supervisor, const A67Replica *replica, Order *order)
{
	const A67Desired *desired = replica->desired;
	unsigned int enforced = replica->cgroup[0] != '\0' ? supervisor->host->cgroups.limits : 0;
	A67SpawnLimits *limits = &order->spawn.limits;

	/* The stack of each thread counts in full (8 MB), however little of it is used. */
	if (desired->memory_bytes > 0 && (enforced & A67_CGROUP_MEMORY) == 0)
		limits->data_bytes = desired->memory_bytes + STACK_ALLOWANCE;
	/* Without a user of its own it would count what others have started. */
	if (replica->uid != 0)
		limits->processes = desired->pids;
}

/* ---- in a container ---- */

static int
set_container(const A67Supervisor *supervisor, const A67Replica *replica, Order *order, A67Why *why)
{
	bool files = replica->desired->runtime == A67_RUNTIME_STATIC;
	ssize_t n;

	if (replica->secrets_dir[0] == '\0')
		return a67_why(why, -EAGAIN, "could not make a directory for the container");
	order->container = (A67Container){.crun = &supervisor->host->crun,
									  .bundle = order->bundle,
									  .id = replica->id,
									  .package = order->root,
									  .own_root = !files && a67_container_has_rootfs(order->root),
									  .home = order->home,
									  .tmp = order->tmp,
									  .argv = order->argv,
									  .envp = order->env.items,
									  .uid = replica->uid,
									  .limits = order->spawn.limits};
	if (replica->desired->env_version != NULL)
		order->container.secrets = replica->secrets_dir;
	if (files)
	{
		n = readlink(SELF, order->tool, sizeof(order->tool) - 1);
		if (n <= 0)
			return a67_why(why, -EAGAIN, "could not find our own program: %s", strerror(errno));
		order->tool[n] = '\0';
		order->container.tool = order->tool;
	}
	order->spawn.root = "/";
	order->spawn.program = supervisor->host->crun.path;
	order->spawn.envp = order->outer.items;
	order->spawn.uid = 0;
	order->spawn.trusted = true;
	return 0;
}

/* ---- starting ---- */

/* All but the descriptors; what it holds is freed by drop(). */
static int
prepare(const A67Supervisor *supervisor, const A67Replica *replica, const A67Env *given,
		Order *order, A67Why *why)
{
	A67Spawn *spawn = &order->spawn;

	set_paths(supervisor, replica, order);
	set_argv(replica, order);
	set_env(supervisor, replica, given, order);
	if (order->env.failed || order->outer.failed)
		return a67_why(why, -ENOMEM, "out of memory");
	spawn->root = order->root;
	spawn->argv = order->argv;
	spawn->envp = order->env.items;
	spawn->uid = replica->uid;
	spawn->log_fd = spawn->record_fd = -1;
	spawn->cgroups = &supervisor->host->cgroups;
	spawn->cgroup = replica->cgroup;
	if (replica->desired->runtime == A67_RUNTIME_STATIC && !order->check)
		spawn->program = SELF;
	set_limits(supervisor, replica, order);
	return in_container(replica) ? set_container(supervisor, replica, order, why) : 0;
}

static void
drop(Order *order)
{
	if (order->spawn.log_fd >= 0)
		(void) close(order->spawn.log_fd);
	if (order->spawn.record_fd >= 0)
		(void) close(order->spawn.record_fd);
	a67_appenv_free(&order->env);
	a67_appenv_free(&order->outer);
}

/* Puts crun in front; a check is run in the container that is there. */
static int
add_crun(Order *order, A67Why *why)
{
	a67_container_command(&order->container, order->check, &order->command);
	order->spawn.argv = order->command.argv;
	return order->check ? a67_container_prepare_exec(&order->container, why)
						: a67_container_prepare(&order->container, why);
}

/* Puts the waiter of a run in front; its record is there before it. */
static int
add_waiter(const A67Supervisor *supervisor, const A67Replica *replica, Order *order, A67Why *why)
{
	A67Spawn *spawn = &order->spawn;
	char name[A67_STATE_NAME_SIZE];
	size_t count = 0;
	int err;

	if (spawn->program == NULL)
	{
		err = a67_spawn_find(spawn, order->program, sizeof(order->program), why);
		if (err != 0)
			return err;
		spawn->program = order->program;
	}
	a67_replica_run_name(replica, name);
	spawn->record_fd = a67_run_create(supervisor->dir, name);
	if (spawn->record_fd < 0)
		return a67_why(why, -EAGAIN, "could not make the record of the run: %s",
					   strerror(-spawn->record_fd));
	order->waited[count++] = A67_RUN_NAME;
	order->waited[count++] = (char *) spawn->program;
	for (size_t i = 0; spawn->argv[i] != NULL; i++)
		order->waited[count++] = spawn->argv[i];
	spawn->argv = order->waited;
	spawn->program = SELF;
	return 0;
}

static int
make_group(const A67Supervisor *supervisor, const A67Replica *replica, A67Why *why)
{
	const A67Desired *desired = replica->desired;
	A67CgroupLimits limits = {desired->memory_bytes, desired->cpu, desired->pids};

	return a67_cgroup_make(&supervisor->host->cgroups, replica->cgroup, &limits, why);
}

static int
start(const A67Supervisor *supervisor, A67Replica *replica, const A67Env *given, A67Why *why)
{
	Order order = {.spawn = {.cgroup = "", .log_fd = -1, .record_fd = -1}};
	int err = prepare(supervisor, replica, given, &order, why);

	if (err == 0)
		err = make_group(supervisor, replica, why);
	if (err == 0 && in_container(replica))
		err = add_crun(&order, why);
	if (err == 0 && a67_replica_is_run(replica))
		err = add_waiter(supervisor, replica, &order, why);
	if (err == 0)
	{
		order.spawn.log_fd = a67_applog_open(supervisor->dir, replica->id);
		if (order.spawn.log_fd < 0)
			err = a67_why(why, order.spawn.log_fd, "could not open the log: %s",
						  strerror(-order.spawn.log_fd));
	}
	if (err == 0)
		err = a67_process_spawn(&order.spawn, &replica->process, why);
	drop(&order);
	return err;
}

int
a67_launch(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why)
{
	A67Env given;
	int err = open_env(supervisor, replica, &given, why);

	a67_place_home(supervisor, replica, "");
	a67_place_home(supervisor, replica, "/home");
	a67_place_home(supervisor, replica, "/tmp");
	if (err == 0 && replica->secrets_dir[0] != '\0')
		err = a67_secrets_write(replica->secrets_dir, given.secrets, why);
	if (err == 0)
		err = start(supervisor, replica, &given, why);
	a67_env_close(&given);
	return err;
}

/* ---- health checks by command ---- */

A67Probe *
a67_launch_check(const A67Supervisor *supervisor, const A67Replica *replica, int64_t now_ms,
				 A67Why *why)
{
	A67Process process = {.pidfd = -1};
	A67Probe *probe = NULL;
	A67Env given;
	A67Tree tree;
	Order order = {.check = true, .spawn = {.cgroup = "", .log_fd = -1, .record_fd = -1}};
	int ends[2] = {-1, -1};
	int err = open_env(supervisor, replica, &given, why);

	/* One that was given up may live on where its group did not reach. */
	a67_place_tree(supervisor, replica, &tree);
	a67_tree_kill_checks(&tree);
	if (err == 0)
		err = prepare(supervisor, replica, &given, &order, why);
	if (err == 0 && in_container(replica))
		err = add_crun(&order, why);
	if (err == 0 && pipe2(ends, O_CLOEXEC) != 0)
		err = a67_why(why, -errno, "could not make a pipe: %s", strerror(errno));
	if (err == 0)
	{
		order.spawn.log_fd = ends[1];
		err = a67_process_spawn(&order.spawn, &process, why);
	}
	drop(&order);
	a67_env_close(&given);
	if (err != 0)
	{
		if (ends[0] >= 0)
			(void) close(ends[0]);
		return NULL;
	}
	(void) fcntl(ends[0], F_SETFL, O_NONBLOCK);
	probe = a67_probe_command(&process, ends[0], replica->desired->health_timeout_ms, now_ms);
	a67_process_forget(&process);
	return probe;
}
