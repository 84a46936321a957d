/*
 * recover.c - from state files and /proc back to a table that is true.
 *
 * Runs once, under the lock, before anything is served.  A recorded process that still lives is
 * adopted; one that was spawned but not yet recorded is found by its marks; every other process with
 * this node's marks is ended.  Directories and logs of replicas that nobody knows are removed.
 */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applog.h"
#include "clock.h"

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

/* The process of a spawn that was announced but not recorded: the leader of its group. */
static bool
find_intended(A67Replica *replica, const A67Found *found, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (strcmp(found[i].replica, replica->id) != 0 || found[i].pid != found[i].pgrp)
			continue;
		replica->process.pid = found[i].pid;
		replica->process.start_ticks = found[i].start_ticks;
		if (a67_process_adopt(&replica->process, replica->id))
			return true;
	}
	return false;
}

/* The state of a replica whose process lives. */
static void
settle_living(A67Supervisor *supervisor, A67Replica *replica, int64_t now_ms)
{
	a67_log(A67_LOG_INFO, "replica %s adopted: pid %d, port %d", replica->id,
			(int) replica->process.pid, replica->port);
	replica->started = true;
	a67_runner_watch(replica, now_ms);
	a67_runner_renew(supervisor, replica);
	switch (replica->state)
	{
		case A67_REPLICA_STARTING:
		case A67_REPLICA_RUNNING:
			break;
		case A67_REPLICA_UNHEALTHY:
		case A67_REPLICA_STOPPING:
		case A67_REPLICA_REPLACING:
			a67_runner_stop(supervisor, replica);
			break;
		case A67_REPLICA_FAILED:
		case A67_REPLICA_STOPPED:
			/* Not reachable by the table; a process without a purpose all the same. */
			replica->state = A67_REPLICA_STOPPING;
			a67_runner_stop(supervisor, replica);
			break;
		default:
			/* The order to halt ended with the agent that got it. */
			replica->state = A67_REPLICA_STARTING;
			break;
	}
}

/* The state of a replica without a process. */
static void
settle_gone(A67Replica *replica, int64_t now_ms)
{
	a67_secrets_remove(replica->secrets_dir);
	replica->secrets_dir[0] = '\0';
	replica->renewal = false;
	if (replica->state == A67_REPLICA_STOPPING || replica->desired == NULL)
	{
		a67_desired_free(replica->desired);
		replica->desired = NULL;
		replica->state = A67_REPLICA_STOPPED;
		replica->port = 0;
		return;
	}
	if (replica->state == A67_REPLICA_FAILED)
		return;
	replica->state = A67_REPLICA_FETCHING;
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
	bool alive = recorded != 0 && a67_process_adopt(&replica->process, replica->id);

	if (!alive && replica->intent)
		alive = find_intended(replica, found, count);
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
		settle_gone(replica, now_ms);
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
			a67_process_scan(supervisor->identity->node_id, NULL, 0, found, A67_PROCESS_SCAN_MAX);

		again = false;
		for (size_t i = 0; i < count; i++)
		{
			if (belongs(supervisor, &found[i]))
				continue;
			a67_log(A67_LOG_WARNING, "stray process %d of replica %s ended", (int) found[i].pid,
					found[i].replica);
			a67_process_kill_found(&found[i]);
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

		if (replica->process.pid != 0 && strcmp(replica->secrets_dir, path) == 0)
			return true;
	}
	return false;
}

static void
clean_log(A67Supervisor *supervisor, const char *name)
{
	char id[A67_UUID_TEXT_SIZE];
	const A67Replica *replica;

	if (!id_of(name, ".log", id) && !id_of(name, ".log.1", id))
		return;
	replica = a67_supervisor_find(supervisor, id);
	if (replica == NULL || replica->desired == NULL)
		a67_applog_remove(supervisor->dir, id);
}

void
a67_supervisor_recover(A67Supervisor *supervisor, int64_t now_ms)
{
	A67Found *found = calloc(A67_PROCESS_SCAN_MAX, sizeof(*found));
	size_t count = 0;
	bool intents = false;

	for_entries(supervisor, "replicas", load_one);
	for (size_t i = 0; i < supervisor->count; i++)
		intents = intents || supervisor->replicas[i]->intent;
	if (found == NULL)
		a67_log(A67_LOG_ERROR, "could not look for processes: out of memory");
	else
		count = a67_process_scan(supervisor->identity->node_id, NULL, intents ? EXEC_WAIT_MS : 0,
								 found, A67_PROCESS_SCAN_MAX);
	for (size_t i = 0; i < supervisor->count; i++)
		settle(supervisor, supervisor->replicas[i], found, count);
	if (found != NULL)
		kill_strays(supervisor, found);
	free(found);
	a67_secrets_sweep(supervisor->identity->node_id, secrets_used, supervisor);
	for_entries(supervisor, "apps", clean_app);
	for_entries(supervisor, "logs", clean_log);
	supervisor->version++;
	supervisor->upkeep_ms = now_ms;
}
