/*
 * watch.c - health of the process of a replica: when it is looked at, and what the answers mean.
 *
 * A health check of its own kind (probe.h) comes often at first and then every interval; without one a
 * process is healthy that has lived for a second.  A cron app has no health, only a time to be done.
 * Called by runner.c and recover.c.
 */
#include "runner.h"

#include <stdio.h>

#include "clock.h"

#define START_PATIENCE_MS  60000 /* from start to the first good health check */
#define ALIVE_MS		   1000	 /* what makes a process healthy that nothing is asked */
#define FIRST_PROBE_GAP_MS 50
#define PROBES_MAX		   64
#define COMMANDS_MAX	   4

static bool
is_asked(const A67Replica *replica)
{
	return replica->desired->health != A67_HEALTH_ALIVE && !a67_replica_is_run(replica);
}

void
a67_runner_watch(A67Replica *replica, int64_t now_ms)
{
	int64_t left_ms;

	replica->probe_failures = 0;
	replica->probe_gap_ms = FIRST_PROBE_GAP_MS;
	replica->probe_due_ms =
		a67_deadline_in(now_ms, is_asked(replica) ? FIRST_PROBE_GAP_MS : ALIVE_MS);
	replica->due_ms = A67_NEVER;
	replica->kill_ms = replica->linger_ms = A67_NEVER;
	if (a67_replica_is_run(replica))
	{
		if (replica->desired->run_timeout_ms == 0)
			return;
		/* Counted from its start, whichever agent that was. */
		left_ms = replica->desired->run_timeout_ms - a67_process_age_ms(&replica->process);
		replica->due_ms = a67_deadline_in(now_ms, left_ms);
	}
	else if (replica->state == A67_REPLICA_STARTING)
		replica->due_ms = a67_deadline_in(now_ms, START_PATIENCE_MS);
}

static bool
may_probe(const A67Supervisor *supervisor, A67HealthKind kind)
{
	int active = 0;
	int commands = 0;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Replica *one = supervisor->replicas[i];

		active += one->probe != NULL;
		commands += one->probe != NULL && one->desired->health == A67_HEALTH_COMMAND;
	}
	return active < PROBES_MAX && (kind != A67_HEALTH_COMMAND || commands < COMMANDS_MAX);
}

static void
healthy(A67Supervisor *supervisor, A67Replica *replica)
{
	replica->probe_failures = 0;
	if (replica->state != A67_REPLICA_STARTING)
		return;
	if (!a67_replica_is_run(replica))
		replica->due_ms = A67_NEVER;
	a67_crash_healthy(&replica->crashes);
	(void) a67_runner_event(supervisor, replica, A67_EVENT_HEALTHY);
	a67_runner_renew(supervisor, replica);
}

static void
sick(A67Supervisor *supervisor, A67Replica *replica, const char *how)
{
	(void) snprintf(replica->error, sizeof(replica->error), "%s", how);
	a67_log(A67_LOG_WARNING, "replica %s is unhealthy: %s", replica->id, how);
	(void) a67_runner_event(supervisor, replica, A67_EVENT_SICK);
}

static void
judge_bad(A67Supervisor *supervisor, A67Replica *replica, const A67Why *why, int64_t now_ms)
{
	int interval_ms = replica->desired->health_interval_ms;

	if (replica->state == A67_REPLICA_STARTING)
	{
		replica->probe_gap_ms = replica->probe_gap_ms * 3 / 2;
		if (replica->probe_gap_ms > interval_ms)
			replica->probe_gap_ms = interval_ms;
		replica->probe_due_ms = a67_deadline_in(now_ms, replica->probe_gap_ms);
		(void) snprintf(replica->error, sizeof(replica->error), "%s", why->text);
		return;
	}
	replica->probe_due_ms = a67_deadline_in(now_ms, interval_ms);
	if (++replica->probe_failures >= replica->desired->health_retries)
		sick(supervisor, replica, why->text);
}

/* Judges the end of a probe. */
static void
probed(A67Supervisor *supervisor, A67Replica *replica, A67ProbeState result, int64_t now_ms)
{
	A67Why why;

	(void) a67_why(&why, 0, "%s", a67_probe_error(replica->probe));
	a67_probe_free(replica->probe);
	replica->probe = NULL;
	if (result != A67_PROBE_GOOD)
	{
		judge_bad(supervisor, replica, &why, now_ms);
		return;
	}
	replica->probe_due_ms = a67_deadline_in(now_ms, replica->desired->health_interval_ms);
	healthy(supervisor, replica);
}

/* A new check, or a look at a process that nothing is asked. */
static void
begin_check(A67Supervisor *supervisor, A67Replica *replica, int64_t now_ms)
{
	const A67Desired *desired = replica->desired;
	A67Why why = {"out of memory or sockets"};

	if (!is_asked(replica))
	{
		replica->probe_due_ms = A67_NEVER;
		healthy(supervisor, replica);
		return;
	}
	if (!may_probe(supervisor, desired->health))
	{
		replica->probe_due_ms = a67_deadline_in(now_ms, FIRST_PROBE_GAP_MS);
		return;
	}
	if (desired->health == A67_HEALTH_COMMAND)
		replica->probe = a67_launch_check(supervisor, replica, now_ms, &why);
	else
		replica->probe =
			a67_probe_new(replica->port, desired->health_path, desired->health_timeout_ms, now_ms);
	if (replica->probe == NULL)
		judge_bad(supervisor, replica, &why, now_ms);
}

/* The time to become healthy, or that of a run, is over. */
static void
overdue(A67Supervisor *supervisor, A67Replica *replica)
{
	A67Why why;

	if (a67_replica_is_run(replica))
		(void) a67_why(&why, 0, "not done after %lld ms",
					   (long long) replica->desired->run_timeout_ms);
	else
		(void) a67_why(&why, 0, "not healthy %d s after its start: %.200s",
					   START_PATIENCE_MS / 1000, replica->error);
	sick(supervisor, replica, why.text);
}

void
a67_runner_look(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
				int64_t now_ms)
{
	A67ProbeState state;

	if (a67_deadline_expired(replica->due_ms, now_ms))
		overdue(supervisor, replica);
	else if (replica->probe != NULL)
	{
		state = a67_probe_step(replica->probe, set, now_ms);
		if (state != A67_PROBE_BUSY)
			probed(supervisor, replica, state, now_ms);
	}
	else if (a67_deadline_expired(replica->probe_due_ms, now_ms))
		begin_check(supervisor, replica, now_ms);
}
