/*
 * recover.c - from state files and /proc back to a table that is true.
 *
 * Runs once, under the lock, before anything is served.  A recorded process that still lives is
 * adopted; one that was spawned but not yet recorded is found by its marks; every other process with
 * this node's marks is ended.  Directories and logs of replicas that nobody knows are removed.
 */
#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "run.h"

#define EXEC_WAIT_MS 500 /* for processes caught between fork and exec */
#define STRAY_PASSES 5
#define LIST_MAX	 4096

/* Calls each(name) for the entries of a part of the state directory. */
static void
for_entries(A67Supervisor *supervisor, const char *part,
			void (*each)(A67Supervisor *supervisor, const char *name))
{
	int fd = openat(supervisor->dir->fd, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *item;

	if (dir == NULL)
	{
		a67_log(A67_LOG_ERROR, "could not read \"%s\": %s", part, strerror(errno));
		return;
	}
	for (int i = 0; i < LIST_MAX && (item = readdir(dir)) != NULL; i++)
	{
		if (item->d_name[0] != '.')
			each(supervisor, item->d_name);
	}
	(void) closedir(dir);
}

/* The id at the start of a file name, when the rest is the suffix given. */
static bool
id_of(const char *name, const char *suffix, char id[A67_UUID_TEXT_SIZE])
{
	uint8_t bytes[A67_UUID_BYTES];
	size_t len = A67_UUID_TEXT_SIZE - 1;

	if (strlen(name) != len + strlen(suffix) || strcmp(name + len, suffix) != 0 ||
		!a67_uuid_from_text(name, len, bytes))
		return false;
	a67_uuid_to_text(bytes, id);
	return memcmp(id, name, len) == 0;
}

static void
load_one(A67Supervisor *supervisor, const char *name)
{
	char id[A67_UUID_TEXT_SIZE];
	char path[A67_STATE_NAME_SIZE];
	size_t len = strlen(name);
	A67Replica *replica;

	if (!id_of(name, ".json", id))
	{
		(void) snprintf(path, sizeof(path), "replicas/%.100s", name);
		if (len > 4 && strcmp(name + len - 4, ".tmp") == 0)
			a67_statedir_remove(supervisor->dir, path);
		return;
	}
	if (supervisor->count == A67_TABLE_MAX)
	{
		a67_log(A67_LOG_ERROR, "more than %d replicas in the state directory: \"%s\" is left out",
				A67_TABLE_MAX, name);
		return;
	}
	replica = a67_replica_load(supervisor->dir, id, a67_random_next(&supervisor->seed));
	if (replica != NULL)
		supervisor->replicas[supervisor->count++] = replica;
}

/* Whether it is where it was started: in the replica's control group, if that still is there. */
static bool
in_its_group(const A67Supervisor *supervisor, const A67Replica *replica)
{
	pid_t pids[A67_CGROUP_PIDS_MAX];
	size_t count = replica->cgroup[0] != '\0'
					   ? a67_cgroup_pids(&supervisor->host->cgroups, replica->cgroup, pids,
										 A67_CGROUP_PIDS_MAX)
					   : 0;

	for (size_t i = 0; i < count; i++)
	{
		if (pids[i] == replica->process.pid)
			return true;
	}
	return count == 0;
}

/* Takes up the process of the replica by pid, start time, mark and control group. */
static bool
adopt(const A67Supervisor *supervisor, A67Replica *replica)
{
	if (!a67_process_adopt(&replica->process, replica->id))
		return false;
	if (in_its_group(supervisor, replica))
		return true;
	a67_process_forget(&replica->process);
	return false;
}

/* The process of a spawn that was announced but not recorded: the leader of its group. */
static bool
find_intended(const A67Supervisor *supervisor, A67Replica *replica, const A67Found *found,
			  size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (strcmp(found[i].replica, replica->id) != 0 || !found[i].main)
			continue;
		replica->process.pid = found[i].pid;
		replica->process.start_ticks = found[i].start_ticks;
		if (adopt(supervisor, replica))
			return true;
	}
	return false;
}

/* The state of a replica whose process lives. */
static void
settle_living(A67Supervisor *supervisor, A67Replica *replica, int64_t now_ms)
{
	A67Tree tree;

	a67_log(A67_LOG_INFO, "replica %s adopted: pid %d, port %d", replica->id,
			(int) replica->process.pid, replica->port);
	replica->started = true;
	replica->begun = a67_replica_is_run(replica);
	/* The order to halt ended with the agent that got it. */
	if (replica->state == A67_REPLICA_HALTING || replica->state == A67_REPLICA_FETCHING)
		replica->state = A67_REPLICA_STARTING;
	if (replica->desired->health == A67_HEALTH_COMMAND)
	{
		/* The one that its agent was waiting for. */
		a67_place_tree(supervisor, replica, &tree);
		a67_tree_kill_checks(&tree);
	}
	a67_runner_watch(replica, now_ms);
	a67_runner_renew(supervisor, replica);
	if (replica->state == A67_REPLICA_STARTING || replica->state == A67_REPLICA_RUNNING)
		return;
	/* Not reachable by the table; a process without a purpose all the same. */
	if (replica->state == A67_REPLICA_FAILED || replica->state == A67_REPLICA_STOPPED ||
		replica->state == A67_REPLICA_FINISHED)
		replica->state = A67_REPLICA_STOPPING;
	a67_runner_stop(supervisor, replica);
}

/* The state of a run without a process: what its record says. */
static void
settle_run(A67Supervisor *supervisor, A67Replica *replica)
{
	A67RunRecord record;
	char name[A67_STATE_NAME_SIZE];

	a67_replica_run_name(replica, name);
	a67_run_read(supervisor->dir, name, &record);
	if (record.state == A67_RUN_NONE && !replica->begun)
	{
		replica->state = A67_REPLICA_FETCHING;
		return;
	}
	replica->begun = true;
	replica->exit_code = record.exit_code;
	replica->duration_ms = record.duration_ms;
	/* In other states the agent has ended it: too late, or with itself. */
	if (record.state == A67_RUN_ENDED &&
		(replica->state == A67_REPLICA_STARTING || replica->state == A67_REPLICA_RUNNING))
	{
		replica->state = A67_REPLICA_FINISHED;
		if (record.exit_code != 0)
			(void) snprintf(replica->error, sizeof(replica->error), "ended with exit code %d",
							record.exit_code);
	}
	else
	{
		if (replica->state != A67_REPLICA_UNHEALTHY)
			(void) snprintf(replica->error, sizeof(replica->error), "%s",
							record.state == A67_RUN_NOT_STARTED ? strerror(record.error)
																: "the run was interrupted");
		replica->state = A67_REPLICA_FAILED;
	}
	a67_replica_keep_log(supervisor->dir, replica);
}

/* The state of a replica without a process. */
static void
settle_gone(A67Supervisor *supervisor, A67Replica *replica, int64_t now_ms)
{
	a67_place_clear(supervisor, replica);
	replica->renewal = false;
	if (replica->state == A67_REPLICA_STOPPING || replica->desired == NULL)
	{
		a67_desired_free(replica->desired);
		replica->desired = NULL;
		replica->state = A67_REPLICA_STOPPED;
		replica->port = 0;
		return;
	}
	/* A parted one waits for the controller still. */
	if (replica->state == A67_REPLICA_FAILED || replica->state == A67_REPLICA_FINISHED ||
		replica->state == A67_REPLICA_PARTED)
		return;
	if (a67_replica_is_run(replica) && replica->state != A67_REPLICA_REPLACING)
		settle_run(supervisor, replica);
	else
		replica->state = A67_REPLICA_FETCHING;
	if (replica->state == A67_REPLICA_FETCHING)
		replica->due_ms = now_ms;
}

static void
settle(A67Supervisor *supervisor, A67Replica *replica, const A67Found *found, size_t count)
{
	int64_t now_ms = a67_clock_now_ms();
	A67ReplicaState before = replica->state;
	char name[A67_STATE_NAME_SIZE];
	bool changed = replica->intent || replica->rebooted;
	pid_t recorded = replica->process.pid;
	bool alive = recorded != 0 && adopt(supervisor, replica);

	if (!alive && replica->intent)
		alive = find_intended(supervisor, replica, found, count);
	replica->intent = false;
	if (replica->rebooted)
	{
		/* Unpacked again from the verified package. */
		a67_replica_root_name(replica, name);
		(void) a67_trash_put(supervisor->dir, name);
	}
	if (alive && replica->desired != NULL)
		settle_living(supervisor, replica, now_ms);
	else
		settle_gone(supervisor, replica, now_ms);
	changed = changed || replica->state != before || replica->process.pid != recorded;
	if (replica->state != before)
		replica->since_ms = a67_clock_wall_ms();
	if (changed)
		(void) a67_replica_save(supervisor->dir, replica);
}

static bool
belongs(A67Supervisor *supervisor, const A67Found *found)
{
	const A67Replica *replica = a67_supervisor_find(supervisor, found->replica);

	return replica != NULL && replica->process.pid != 0;
}

/* Ends every process with our marks that no replica owns. */
static void
kill_strays(A67Supervisor *supervisor, A67Found *found)
{
	bool again = true;

	for (int pass = 0; pass < STRAY_PASSES && again; pass++)
	{
		size_t count =
			a67_process_scan(supervisor->identity->node_id, 0, found, A67_PROCESS_SCAN_MAX);

		again = false;
		for (size_t i = 0; i < count; i++)
		{
			if (belongs(supervisor, &found[i]))
				continue;
			a67_log(A67_LOG_WARNING, "stray process %d of replica %s ended", (int) found[i].pid,
					found[i].replica);
			a67_process_kill(found[i].pid, found[i].start_ticks, SIGKILL);
			again = true;
		}
	}
}

static void
clean_app(A67Supervisor *supervisor, const char *name)
{
	char path[A67_STATE_NAME_SIZE];
	const A67Replica *replica = a67_supervisor_find(supervisor, name);

	if (replica != NULL && replica->desired != NULL)
		return;
	(void) snprintf(path, sizeof(path), "apps/%.100s", name);
	(void) a67_trash_put(supervisor->dir, path);
}

static bool
secrets_used(void *arg, const char *path)
{
	A67Supervisor *supervisor = arg;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Replica *replica = supervisor->replicas[i];
		size_t len = strlen(replica->secrets_dir);

		if (replica->process.pid != 0 && len > 0 && strncmp(path, replica->secrets_dir, len) == 0 &&
			(path[len] == '\0' || strcmp(path + len, A67_PLACE_BUNDLE_SUFFIX) == 0))
			return true;
	}
	return false;
}

void
a67_supervisor_recover(A67Supervisor *supervisor, int64_t now_ms)
{
	A67Found *found = calloc(A67_PROCESS_SCAN_MAX, sizeof(*found));
	size_t count = 0;
	bool intents = false;

	a67_partition_load(supervisor);
	for_entries(supervisor, "replicas", load_one);
	for (size_t i = 0; i < supervisor->count; i++)
		intents = intents || supervisor->replicas[i]->intent;
	if (found == NULL)
		a67_log(A67_LOG_ERROR, "could not look for processes: out of memory");
	else
		count = a67_process_scan(supervisor->identity->node_id, intents ? EXEC_WAIT_MS : 0, found,
								 A67_PROCESS_SCAN_MAX);
	for (size_t i = 0; i < supervisor->count; i++)
		settle(supervisor, supervisor->replicas[i], found, count);
	if (found != NULL)
		kill_strays(supervisor, found);
	free(found);
	a67_secrets_sweep(supervisor->identity->node_id, secrets_used, supervisor);
	for_entries(supervisor, "apps", clean_app);
	supervisor->version++;
	supervisor->upkeep_ms = now_ms;
}
