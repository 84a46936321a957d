/*
 * supervisor.c - the table of replicas, the controller's orders, reports, upkeep.  See supervisor.h.
 */
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <sodium.h>

#include "clock.h"

#define UPKEEP_MS	  2000
#define TRASH_GAP_MS  20
#define TRASH_ENTRIES 200
#define REAP_MAX	  1024
#define ROOM_BYTES	  INT64_C(4194304) /* what must be free for another replica */

void
a67_supervisor_init(A67Supervisor *supervisor, const A67StateDir *dir, const A67Identity *identity,
					struct ssl_ctx_st *tls)
{
	memset(supervisor, 0, sizeof(*supervisor));
	supervisor->dir = dir;
	supervisor->identity = identity;
	supervisor->tls = tls;
	supervisor->version = 1;
	supervisor->trash_left = true;
	supervisor->heard_ms = supervisor->recorded_ms = INT64_MIN;
	randombytes_buf(&supervisor->seed, sizeof(supervisor->seed));
}

void
a67_supervisor_free(A67Supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->count; i++)
		a67_replica_free(supervisor->replicas[i]);
	supervisor->count = 0;
}

A67Replica *
a67_supervisor_find(A67Supervisor *supervisor, const char *id)
{
	for (size_t i = 0; i < supervisor->count; i++)
	{
		if (strcmp(supervisor->replicas[i]->id, id) == 0)
			return supervisor->replicas[i];
	}
	return NULL;
}

size_t
a67_supervisor_wanted(const A67Supervisor *supervisor)
{
	size_t wanted = 0;

	for (size_t i = 0; i < supervisor->count; i++)
		wanted += supervisor->replicas[i]->desired != NULL;
	return wanted;
}

bool
a67_supervisor_idle(const A67Supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->count; i++)
	{
		if (supervisor->replicas[i]->process.pid != 0)
			return false;
	}
	return true;
}

/* Takes a replica out of the table and off the disk. */
static void
drop(A67Supervisor *supervisor, size_t index)
{
	char name[A67_STATE_NAME_SIZE];
	A67Replica *replica = supervisor->replicas[index];

	a67_replica_state_name(replica, name);
	a67_statedir_remove(supervisor->dir, name);
	a67_replica_free(replica);
	supervisor->count--;
	memmove(&supervisor->replicas[index], &supervisor->replicas[index + 1],
			(supervisor->count - index) * sizeof(supervisor->replicas[0]));
}

/* Forgets the one that has been gone longest; those that the controller knows of first. */
static bool
make_room(A67Supervisor *supervisor)
{
	size_t best = A67_TABLE_MAX;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Replica *one = supervisor->replicas[i];
		const A67Replica *other = best < A67_TABLE_MAX ? supervisor->replicas[best] : NULL;

		if (one->desired != NULL || one->process.pid != 0)
			continue;
		if (other == NULL || one->acked > other->acked ||
			(one->acked == other->acked && one->since_ms < other->since_ms))
			best = i;
	}
	if (best == A67_TABLE_MAX)
		return false;
	drop(supervisor, best);
	return true;
}

/* A place in the table for a replica that is not known yet. */
static A67Replica *
add(A67Supervisor *supervisor, const char *id, A67Why *why)
{
	A67Replica *replica;

	if (a67_supervisor_wanted(supervisor) >= A67_REPLICAS_MAX ||
		(supervisor->count == A67_TABLE_MAX && !make_room(supervisor)))
	{
		(void) a67_why(why, -ENOSPC, "this node runs %d replicas already", A67_REPLICAS_MAX);
		return NULL;
	}
	replica = a67_replica_new(id, a67_random_next(&supervisor->seed));
	if (replica == NULL)
	{
		(void) a67_why(why, -ENOMEM, "out of memory");
		return NULL;
	}
	supervisor->replicas[supervisor->count++] = replica;
	return replica;
}

static bool
is_unwanted(const A67Replica *replica)
{
	return replica->state == A67_REPLICA_STOPPING || replica->desired == NULL;
}

/* Refuses orders that are older than what is known. */
static int
check_generation(const A67Replica *replica, const A67Desired *desired, A67Why *why)
{
	if (desired->generation < replica->generation)
		return a67_why(why, -ESTALE, "generation %lld is older than %lld",
					   (long long) desired->generation, (long long) replica->generation);
	if (desired->generation > replica->generation)
		return 0;
	if (is_unwanted(replica))
		return a67_why(why, -ESTALE, "generation %lld has been deleted",
					   (long long) desired->generation);
	if (!a67_desired_same(replica->desired, desired))
		return a67_why(why, -ESTALE, "generation %lld has other content",
					   (long long) desired->generation);
	return 0;
}

/* Everything that a new content starts anew, so that it can be put back. */
typedef struct Before
{
	A67Desired *desired;
	int64_t generation;
	int64_t content;
} Before;

static int
replace_content(A67Supervisor *supervisor, A67Replica *replica, A67Desired *desired, A67Why *why)
{
	Before before = {replica->desired, replica->generation, replica->content};
	int err;

	replica->desired = desired;
	replica->generation = replica->content = desired->generation;
	err = a67_runner_event(supervisor, replica, A67_EVENT_WANTED);
	if (err == 0)
	{
		a67_desired_free(before.desired);
		return 0;
	}
	a67_desired_free(desired);
	replica->desired = before.desired;
	replica->generation = before.generation;
	replica->content = before.content;
	return a67_why(why, -ENOSPC, "could not store the desired state");
}

/* A higher generation of the same content: noted, and a new chance for one that was given up. */
static int
note_generation(A67Supervisor *supervisor, A67Replica *replica, A67Desired *desired, A67Why *why)
{
	int64_t before = replica->generation;

	if (replica->state == A67_REPLICA_FAILED)
		return replace_content(supervisor, replica, desired, why);
	replica->generation = desired->generation;
	a67_desired_free(desired);
	if (a67_replica_save(supervisor->dir, replica) != 0)
	{
		replica->generation = before;
		return a67_why(why, -ENOSPC, "could not store the desired state");
	}
	supervisor->version++;
	return 0;
}

/*
 * Only secrets are new, and the application wants them without a restart; so does every run that has
 * begun, which goes on with what it has.
 */
static bool
is_renewal(const A67Replica *replica, const A67Desired *desired)
{
	if (replica->desired == NULL || !a67_desired_same_but_secrets(replica->desired, desired))
		return false;
	if (a67_replica_is_run(replica))
		return replica->begun && !is_unwanted(replica);
	return (replica->state == A67_REPLICA_STARTING || replica->state == A67_REPLICA_RUNNING) &&
		   replica->process.pid != 0 && replica->secrets_dir[0] != '\0' &&
		   desired->env_version != NULL && desired->change_signal != A67_CHANGE_RESTART;
}

/* The unpacked package stays, and so does the number it is known by. */
static int
renew_secrets(A67Supervisor *supervisor, A67Replica *replica, A67Desired *desired, A67Why *why)
{
	A67Desired *before = replica->desired;
	int64_t generation = replica->generation;
	bool renewal = replica->renewal;

	replica->desired = desired;
	replica->generation = desired->generation;
	replica->renewal = !a67_replica_is_run(replica);
	if (a67_replica_save(supervisor->dir, replica) != 0)
	{
		a67_desired_free(desired);
		replica->desired = before;
		replica->generation = generation;
		replica->renewal = renewal;
		return a67_why(why, -ENOSPC, "could not store the desired state");
	}
	a67_desired_free(before);
	supervisor->version++;
	a67_runner_renew(supervisor, replica);
	return 0;
}

/* What is wanted already; that it is asked for again says that the controller has not moved it. */
static int
wanted_again(A67Supervisor *supervisor, A67Replica *replica, A67Desired *desired, A67Why *why)
{
	int err = 0;

	if (desired->generation > replica->generation)
		err = note_generation(supervisor, replica, desired, why);
	else
		a67_desired_free(desired);
	if (err == 0)
		(void) a67_runner_event(supervisor, replica, A67_EVENT_REUNITED);
	return err;
}

/* 0, or why this node cannot take another replica. */
static int
check_room(const A67Supervisor *supervisor, A67Why *why)
{
	if (a67_supervisor_wanted(supervisor) >= A67_REPLICAS_MAX)
		return a67_why(why, -ENOSPC, "this node runs %d replicas already", A67_REPLICAS_MAX);
	if (!a67_statedir_has_room(supervisor->dir, ROOM_BYTES))
		return a67_why(why, -ENOSPC, "the disk of this node is full");
	return 0;
}

int
a67_supervisor_put(A67Supervisor *supervisor, const char *id, A67Desired *desired, A67Replica **out,
				   A67Why *why)
{
	A67Replica *replica = a67_supervisor_find(supervisor, id);
	bool fresh = replica == NULL;
	int err = 0;

	if (supervisor->halting)
		err = a67_why(why, -EBUSY, "the agent is ending");
	else if (!fresh)
		err = check_generation(replica, desired, why);
	if (err == 0 && (fresh || replica->desired == NULL))
		err = check_room(supervisor, why);
	if (err == 0 && fresh)
	{
		replica = add(supervisor, id, why);
		err = replica == NULL ? -ENOSPC : 0;
	}
	if (err != 0)
	{
		a67_desired_free(desired);
		return err;
	}
	*out = replica;
	if (!is_unwanted(replica) && a67_desired_same(replica->desired, desired))
		return wanted_again(supervisor, replica, desired, why);
	if (!fresh && is_renewal(replica, desired))
		return renew_secrets(supervisor, replica, desired, why);
	err = replace_content(supervisor, replica, desired, why);
	if (err != 0 && fresh)
		drop(supervisor, supervisor->count - 1);
	return err;
}

int
a67_supervisor_delete(A67Supervisor *supervisor, const char *id, int64_t generation,
					  A67Replica **out, A67Why *why)
{
	A67Replica *replica = a67_supervisor_find(supervisor, id);
	int64_t before;

	if (replica == NULL)
		return a67_why(why, -ENOENT, "no replica \"%s\" on this node", id);
	if (generation == A67_GENERATION_ANY)
		generation = replica->generation;
	if (generation < replica->generation)
		return a67_why(why, -ESTALE, "generation %lld is older than %lld", (long long) generation,
					   (long long) replica->generation);
	*out = replica;
	if (replica->desired == NULL && replica->generation == generation)
		return 0;
	before = replica->generation;
	replica->generation = generation;
	if (a67_runner_event(supervisor, replica, A67_EVENT_UNWANTED) != 0)
	{
		replica->generation = before;
		return a67_why(why, -ENOSPC, "could not store the order");
	}
	return 0;
}

json_t *
a67_supervisor_report(const A67Supervisor *supervisor)
{
	json_t *array = json_array();

	for (size_t i = 0; array != NULL && i < supervisor->count; i++)
	{
		if (supervisor->replicas[i]->acked)
			continue;
		if (json_array_append_new(array, a67_replica_report(supervisor->replicas[i])) != 0)
		{
			json_decref(array);
			array = NULL;
		}
	}
	return array;
}

void
a67_supervisor_acked(A67Supervisor *supervisor, uint64_t version)
{
	if (version != supervisor->version)
		return;
	for (size_t i = 0; i < supervisor->count; i++)
	{
		A67Replica *replica = supervisor->replicas[i];

		replica->acked = replica->state == A67_REPLICA_STOPPED && replica->desired == NULL;
	}
}

void
a67_supervisor_halt(A67Supervisor *supervisor)
{
	supervisor->halting = true;
	for (size_t i = 0; i < supervisor->count; i++)
		(void) a67_runner_event(supervisor, supervisor->replicas[i], A67_EVENT_HALT);
}

void
a67_supervisor_dismiss(A67Supervisor *supervisor)
{
	supervisor->halting = true;
	for (size_t i = 0; i < supervisor->count; i++)
	{
		A67Replica *replica = supervisor->replicas[i];

		/* A full disk must not keep an application running that nobody wants any more. */
		if (a67_runner_event(supervisor, replica, A67_EVENT_UNWANTED) != 0)
			a67_runner_stop(supervisor, replica);
	}
}

static bool
digest_used(void *arg, const char *digest)
{
	A67Supervisor *supervisor = arg;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Desired *desired = supervisor->replicas[i]->desired;

		if (desired != NULL && strcmp(desired->digest, digest) == 0)
			return true;
	}
	return false;
}

/* Every UPKEEP_MS while there is anything to look after. */
static void
upkeep(A67Supervisor *supervisor, int64_t now_ms)
{
	bool busy = false;

	if (supervisor->trash_left)
		supervisor->trash_left = a67_trash_step(supervisor->dir, TRASH_ENTRIES);
	if (supervisor->trash_left)
	{
		supervisor->upkeep_ms = a67_deadline_in(now_ms, TRASH_GAP_MS);
		return;
	}
	for (size_t i = 0; i < supervisor->count; i++)
	{
		A67Replica *replica = supervisor->replicas[i];

		a67_runner_renew(supervisor, replica);
		if (replica->blocked != A67_REPLICA_EVENT_COUNT)
			(void) a67_runner_event(supervisor, replica,
									supervisor->halting ? A67_EVENT_HALT : replica->blocked);
		else if (replica->unsaved && a67_replica_save(supervisor->dir, replica) == 0)
			supervisor->version++;
		busy = busy || replica->process.pid != 0 || replica->unsaved;
	}
	supervisor->upkeep_ms = busy ? a67_deadline_in(now_ms, UPKEEP_MS) : A67_NEVER;
}

void
a67_supervisor_upkeep_soon(A67Supervisor *supervisor)
{
	supervisor->trash_left = true;
	supervisor->upkeep_ms =
		a67_deadline_min(supervisor->upkeep_ms, a67_deadline_in(a67_clock_now_ms(), UPKEEP_MS));
}

void
a67_supervisor_prepare(A67Supervisor *supervisor, A67PollSet *set, int64_t now_ms)
{
	for (size_t i = 0; i < supervisor->count; i++)
		a67_runner_prepare(supervisor->replicas[i], set, now_ms);
	a67_partition_prepare(supervisor, set, now_ms);
	a67_poll_until(set, supervisor->upkeep_ms);
}

void
a67_supervisor_step(A67Supervisor *supervisor, const A67PollSet *set, int64_t now_ms)
{
	/* First, so that nothing starts that would have to stop. */
	if (!supervisor->halting)
		a67_partition_step(supervisor, now_ms);
	for (size_t i = 0; i < supervisor->count; i++)
		a67_runner_step(supervisor, supervisor->replicas[i], set, now_ms);
	/* Replicas also end between the steps: by a command, or when their process is reaped. */
	if (supervisor->version != supervisor->cleaned_version)
	{
		supervisor->cleaned_version = supervisor->version;
		a67_cache_prune(supervisor->dir, digest_used, supervisor);
		supervisor->trash_left = true;
		supervisor->upkeep_ms =
			a67_deadline_min(supervisor->upkeep_ms, a67_deadline_in(now_ms, TRASH_GAP_MS));
	}
	if (a67_deadline_expired(supervisor->upkeep_ms, now_ms))
		upkeep(supervisor, now_ms);
}

static A67Replica *
find_child(A67Supervisor *supervisor, pid_t pid)
{
	for (size_t i = 0; i < supervisor->count; i++)
	{
		A67Replica *replica = supervisor->replicas[i];

		if (replica->process.pid == pid && replica->process.child)
			return replica;
	}
	return NULL;
}

/* The health check by command whose process has ended, or NULL. */
static A67Probe *
find_check(A67Supervisor *supervisor, pid_t pid)
{
	for (size_t i = 0; i < supervisor->count; i++)
	{
		if (a67_probe_pid(supervisor->replicas[i]->probe) == pid)
			return supervisor->replicas[i]->probe;
	}
	return NULL;
}

static void
describe_exit(const siginfo_t *info, char *out, size_t size)
{
	if (info->si_code == CLD_EXITED)
		(void) snprintf(out, size, "process exited with status %d", info->si_status);
	else
		(void) snprintf(out, size, "process was killed by signal %d", info->si_status);
}

void
a67_supervisor_reap(A67Supervisor *supervisor)
{
	siginfo_t info;
	char how[64];

	for (int i = 0; i < REAP_MAX; i++)
	{
		A67Replica *replica;
		A67Probe *check;

		memset(&info, 0, sizeof(info));
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
			return;
		replica = find_child(supervisor, info.si_pid);
		check = replica == NULL ? find_check(supervisor, info.si_pid) : NULL;
		describe_exit(&info, how, sizeof(how));
		/*
		 * Until it is reaped its pid names its group surely: end what it left there, unless that was
		 * asked to end and has its time.
		 */
		if (replica != NULL && replica->kill_ms == A67_NEVER)
			a67_process_signal(&replica->process, SIGKILL);
		else if (check != NULL)
			a67_probe_ended(check, &info);
		(void) waitid(P_PID, (id_t) info.si_pid, &info, WEXITED | WNOHANG);
		if (replica != NULL)
			a67_runner_exited(supervisor, replica, how);
	}
}
