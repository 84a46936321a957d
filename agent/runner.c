/*
 * runner.c - a replica's transitions, and what they do: start, stop, back off.
 *
 * Decides nothing that machine.h decides.  Invariants: the state file is written before an action, and
 * what could not be written has not happened; a process is started only while none is known; a replica
 * has a fetch only while FETCHING and a probe only while it has a process.  obtain.c gets packages,
 * watch.c looks after health.  Called by supervisor.c and recover.c.
 */
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "applog.h"
#include "clock.h"
#include "run.h"

#define KILL_AGAIN_MS 5000
#define LINGER_GAP_MS 50

/* ---- starting ---- */

static void
act_spawn(A67Supervisor *supervisor, A67Replica *replica)
{
	A67Why why = {""};
	int64_t now_ms = a67_clock_now_ms();
	int err;

	if (replica->started)
	{
		replica->restarts++;
		a67_crash_restarted(&replica->crashes, now_ms);
	}
	replica->started = true;
	if (replica->port == 0)
		err = a67_why(&why, -EADDRINUSE, "could not find a free port");
	else if (replica->uid == 0 && supervisor->host->users.count > 0)
		err = a67_why(&why, -EAGAIN, "no user is left for another application");
	else if (replica->desired->env_version != NULL && replica->secrets_dir[0] == '\0')
		err = a67_why(&why, -EIO, "could not make a directory for secrets");
	else
		err = a67_launch(supervisor, replica, &why);
	replica->intent = replica->renewal = false;
	if (err == 0)
	{
		a67_log(A67_LOG_INFO, "replica %s of %s started: pid %d, port %d", replica->id,
				replica->desired->deployment, (int) replica->process.pid, replica->port);
		if (a67_replica_is_run(replica))
		{
			replica->begun = true;
			replica->started_ms = a67_clock_wall_ms();
		}
		a67_runner_watch(replica, now_ms);
		(void) a67_replica_save(supervisor->dir, replica);
		supervisor->version++;
		return;
	}
	(void) snprintf(replica->error, sizeof(replica->error), "%s", why.text);
	if (err == -ENOENT || err == -EACCES || err == -ENOEXEC || err == -E2BIG || err == -EBADMSG)
		(void) a67_runner_event(supervisor, replica, A67_EVENT_HOPELESS);
	else
		(void) a67_runner_event(supervisor, replica, A67_EVENT_EXITED);
}

void
a67_runner_renew(A67Supervisor *supervisor, A67Replica *replica)
{
	A67Why why = {""};

	/* A process that is only starting may not have its handler yet: the signal would end it. */
	if (!replica->renewal || replica->state != A67_REPLICA_RUNNING || replica->process.pid == 0)
		return;
	if (a67_launch_renew_secrets(supervisor, replica, &why) != 0)
	{
		if (strcmp(replica->error, why.text) != 0)
		{
			(void) snprintf(replica->error, sizeof(replica->error), "%s", why.text);
			a67_log(A67_LOG_ERROR, "replica %s: %s", replica->id, why.text);
			supervisor->version++;
		}
		return;
	}
	if (replica->desired->change_signal > 0)
		a67_process_notify(&replica->process, replica->desired->change_signal);
	a67_log(A67_LOG_INFO, "replica %s got new secrets", replica->id);
	replica->renewal = false;
	replica->error[0] = '\0';
	(void) a67_replica_save(supervisor->dir, replica);
	supervisor->version++;
}

/* ---- ending ---- */

void
a67_runner_cancel(A67Replica *replica)
{
	a67_fetch_free(replica->fetch);
	replica->fetch = NULL;
	a67_probe_free(replica->probe);
	replica->probe = NULL;
	replica->due_ms = replica->probe_due_ms = A67_NEVER;
}

void
a67_runner_stop(A67Supervisor *supervisor, A67Replica *replica)
{
	int grace_ms = replica->desired != NULL ? replica->desired->stop_grace_ms : 0;
	A67Tree tree;

	a67_runner_cancel(replica);
	if (replica->process.pid == 0)
	{
		(void) a67_runner_event(supervisor, replica, A67_EVENT_EXITED);
		return;
	}
	if (replica->kill_ms != A67_NEVER)
		return;
	a67_place_tree(supervisor, replica, &tree);
	a67_tree_terminate(&tree);
	replica->kill_ms = a67_deadline_in(a67_clock_now_ms(), grace_ms);
}

/* What the record of a run says, in the replica and as words; whether the program did run. */
static bool
take_result(const A67Supervisor *supervisor, A67Replica *replica, const char *how, A67Why *why)
{
	A67RunRecord record;
	char name[A67_STATE_NAME_SIZE];

	a67_replica_run_name(replica, name);
	a67_run_read(supervisor->dir, name, &record);
	replica->exit_code = record.exit_code;
	replica->duration_ms = record.duration_ms;
	if (record.state == A67_RUN_NOT_STARTED)
		(void) a67_why(why, 0, "could not start \"%.100s\": %s",
					   json_string_value(json_array_get(replica->desired->entrypoint, 0)),
					   strerror(record.error));
	else if (record.state == A67_RUN_NONE)
	{
		/* The waiter has ended before anything else: it may be tried again. */
		replica->begun = false;
		(void) a67_why(why, 0, "%s", how);
	}
	else if (record.state != A67_RUN_ENDED)
	{
		/* Its waiter writes down every end but its own. */
		replica->exit_code = 128 + SIGKILL;
		replica->duration_ms = a67_process_age_ms(&replica->process);
		(void) a67_why(why, 0, "%s", how);
	}
	else if (record.exit_code > 128)
		(void) a67_why(why, 0, "process was killed by signal %d", record.exit_code - 128);
	else
		(void) a67_why(why, 0, "process exited with status %d", record.exit_code);
	return replica->begun && record.state != A67_RUN_NOT_STARTED;
}

/* Whether others of its processes are still ending, as asked, and have time left for it. */
static bool
lingers(const A67Supervisor *supervisor, A67Replica *replica, const char *how)
{
	int64_t now_ms = a67_clock_now_ms();
	A67Tree tree;

	if (replica->kill_ms == A67_NEVER || a67_deadline_expired(replica->kill_ms, now_ms))
		return false;
	a67_place_tree(supervisor, replica, &tree);
	if (a67_tree_count(&tree) == 0)
		return false;
	if (how != replica->how)
		(void) snprintf(replica->how, sizeof(replica->how), "%s", how);
	replica->linger_ms = a67_deadline_in(now_ms, LINGER_GAP_MS);
	return true;
}

void
a67_runner_exited(A67Supervisor *supervisor, A67Replica *replica, const char *how)
{
	bool alive = replica->state == A67_REPLICA_STARTING || replica->state == A67_REPLICA_RUNNING;
	A67ReplicaEvent event = A67_EVENT_EXITED;
	A67Why why;

	/* Its pid may be another's from now on. */
	replica->process.child = false;
	if (replica->ended_ticks == 0)
		replica->ended_ticks = a67_process_now_ticks();
	if (lingers(supervisor, replica, how))
		return;
	(void) a67_why(&why, 0, "%s", how);
	if (a67_replica_is_run(replica) && take_result(supervisor, replica, how, &why) && alive)
		event = A67_EVENT_FINISHED;
	a67_place_clear(supervisor, replica);
	a67_process_forget(&replica->process);
	replica->ended_ticks = 0;
	a67_runner_cancel(replica);
	replica->kill_ms = replica->linger_ms = A67_NEVER;
	a67_applog_note(supervisor->dir, replica->id, why.text);
	if (alive && !(event == A67_EVENT_FINISHED && replica->exit_code == 0))
	{
		(void) snprintf(replica->error, sizeof(replica->error), "%s", why.text);
		a67_log(A67_LOG_WARNING, "replica %s: %s", replica->id, why.text);
	}
	(void) a67_runner_event(supervisor, replica, event);
}

static void
act_back_off(A67Supervisor *supervisor, A67Replica *replica)
{
	int64_t now_ms = a67_clock_now_ms();

	/* A run that has begun cannot begin again. */
	if (replica->begun || a67_crash_hopeless(&replica->crashes, now_ms))
	{
		(void) a67_runner_event(supervisor, replica, A67_EVENT_HOPELESS);
		return;
	}
	replica->due_ms = a67_deadline_in(now_ms, a67_backoff_next(&replica->backoff));
}

static void
act_forget(A67Supervisor *supervisor, A67Replica *replica)
{
	char name[A67_STATE_NAME_SIZE];

	a67_replica_home_name(replica, name);
	(void) a67_trash_put(supervisor->dir, name);
	a67_log(A67_LOG_INFO, "replica %s is gone", replica->id);
}

/* ---- transitions ---- */

/* New content starts anew, but a run that is over stays what it is. */
static void
begin_anew(A67Replica *replica)
{
	replica->restarts = 0;
	replica->started = replica->begun = false;
	replica->started_ms = 0;
	replica->exit_code = -1;
	replica->duration_ms = -1;
	replica->fetch_failures = 0;
	replica->error[0] = replica->log_tail[0] = '\0';
	memset(&replica->crashes, 0, sizeof(replica->crashes));
	a67_backoff_reset(&replica->backoff);
}

/* What belongs into the state file together with the new state. */
static void
before_save(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaEvent event,
			A67ReplicaAction action)
{
	if (event == A67_EVENT_WANTED)
	{
		replica->acked = false;
		if (replica->state != A67_REPLICA_FINISHED)
			begin_anew(replica);
	}
	if (event == A67_EVENT_HEALTHY)
		replica->error[0] = replica->log_tail[0] = '\0';
	if (event == A67_EVENT_PARTED)
		(void) snprintf(replica->error, sizeof(replica->error),
						"stopped: the controller was silent for %lld s",
						(long long) replica->desired->partition_deadline_ms / 1000);
	if (action == A67_ACTION_FETCH)
		a67_place_user(supervisor, replica);
	if (action == A67_ACTION_SPAWN)
	{
		a67_place_choose(supervisor, replica);
		replica->intent = true;
	}
	if (action == A67_ACTION_GIVE_UP || action == A67_ACTION_BACK_OFF ||
		action == A67_ACTION_CONCLUDE)
		a67_replica_keep_log(supervisor->dir, replica);
	if (action == A67_ACTION_FORGET)
	{
		replica->desired = NULL;
		replica->uid = 0;
		replica->port = 0;
		replica->begun = false;
		replica->error[0] = replica->log_tail[0] = '\0';
	}
}

static void
act(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaAction action)
{
	switch (action)
	{
		case A67_ACTION_FETCH:
			a67_runner_cancel(replica);
			replica->due_ms = a67_clock_now_ms();
			break;
		case A67_ACTION_SPAWN:
			act_spawn(supervisor, replica);
			break;
		case A67_ACTION_STOP:
			a67_runner_stop(supervisor, replica);
			break;
		case A67_ACTION_BACK_OFF:
			act_back_off(supervisor, replica);
			break;
		case A67_ACTION_GIVE_UP:
			a67_runner_cancel(replica);
			a67_log(A67_LOG_ERROR, "replica %s given up: %s", replica->id, replica->error);
			break;
		case A67_ACTION_FORGET:
			act_forget(supervisor, replica);
			break;
		case A67_ACTION_CONCLUDE:
			a67_log(A67_LOG_INFO, "replica %s has finished: exit code %d after %lld ms",
					replica->id, replica->exit_code, (long long) replica->duration_ms);
			break;
		default:
			break;
	}
}

/*
 * Writes the new state.  A replica that goes may be written over in place: whichever text a cut leaves,
 * it goes on going, and so makes room on the disk that has none.
 */
static int
store(A67Supervisor *supervisor, A67Replica *replica)
{
	bool goes = replica->state == A67_REPLICA_STOPPING ||
				(replica->state == A67_REPLICA_STOPPED && replica->desired == NULL);
	int err = a67_replica_save(supervisor->dir, replica);

	if (err == 0 || !goes)
		return err;
	replica->error[0] = replica->log_tail[0] = '\0';
	return a67_replica_save_in_place(supervisor->dir, replica);
}

/* The event did not happen, as far as anybody was told; it will when the disk takes it. */
static int
postpone(A67Supervisor *supervisor, A67Replica *replica, const A67Replica *before,
		 A67ReplicaEvent event)
{
	*replica = *before;
	replica->unsaved = true;
	if (event == A67_EVENT_WANTED || event == A67_EVENT_UNWANTED)
		return -EIO;
	replica->blocked = event;
	a67_supervisor_upkeep_soon(supervisor);
	/* An app must not outlive its time because of a full disk; its end is safe to repeat. */
	if (event == A67_EVENT_PARTED || event == A67_EVENT_HALT)
		a67_runner_stop(supervisor, replica);
	return -EIO;
}

int
a67_runner_event(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaEvent event)
{
	A67ReplicaCell cell = a67_machine_cell(replica->state, event);
	A67Replica before = *replica;

	if (cell.action == A67_ACTION_IGNORE)
		return 0;
	a67_log(A67_LOG_DEBUG, "replica %s: %s, %s -> %s, %s", replica->id,
			a67_machine_event_name(event), a67_machine_state_name(before.state),
			a67_machine_state_name(cell.next), a67_machine_action_name(cell.action));
	replica->state = cell.next;
	replica->blocked = A67_REPLICA_EVENT_COUNT;
	before_save(supervisor, replica, event, cell.action);
	if (cell.next != before.state)
		replica->since_ms = a67_clock_wall_ms();
	if (store(supervisor, replica) != 0)
		return postpone(supervisor, replica, &before, event);
	if (cell.action == A67_ACTION_FORGET)
		a67_desired_free(before.desired);
	supervisor->version++;
	act(supervisor, replica, cell.action);
	return 0;
}

/* ---- the loop's part ---- */

void
a67_runner_prepare(A67Replica *replica, A67PollSet *set, int64_t now_ms)
{
	/* Children are announced by SIGCHLD; only adopted processes need their pidfd watched. */
	replica->pidfd_at = -1;
	if (replica->process.pid != 0 && !replica->process.child && replica->linger_ms == A67_NEVER)
		replica->pidfd_at = a67_poll_add(set, replica->process.pidfd, POLLIN);
	a67_poll_until(set, replica->linger_ms);
	a67_poll_until(set, replica->kill_ms);
	if (replica->blocked != A67_REPLICA_EVENT_COUNT)
		return;
	if (replica->fetch != NULL)
		a67_fetch_prepare(replica->fetch, set, now_ms);
	if (replica->probe != NULL)
		a67_probe_prepare(replica->probe, set, now_ms);
	else
		a67_poll_until(set, replica->probe_due_ms);
	a67_poll_until(set, replica->due_ms);
}

void
a67_runner_step(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
				int64_t now_ms)
{
	A67Tree tree;

	if (a67_poll_ready(set, replica->pidfd_at))
	{
		replica->pidfd_at = -1;
		a67_runner_exited(supervisor, replica, "process ended");
		return;
	}
	if (a67_deadline_expired(replica->linger_ms, now_ms))
	{
		a67_runner_exited(supervisor, replica, replica->how);
		return;
	}
	if (a67_deadline_expired(replica->kill_ms, now_ms))
	{
		a67_place_tree(supervisor, replica, &tree);
		a67_tree_kill(&tree);
		replica->kill_ms = a67_deadline_in(now_ms, KILL_AGAIN_MS);
	}
	/* What waits for the disk comes first; the supervisor tries it again. */
	if (replica->blocked != A67_REPLICA_EVENT_COUNT)
		return;
	switch (replica->state)
	{
		case A67_REPLICA_FETCHING:
			a67_runner_obtain(supervisor, replica, set, now_ms);
			break;
		case A67_REPLICA_STARTING:
		case A67_REPLICA_RUNNING:
			a67_runner_look(supervisor, replica, set, now_ms);
			break;
		case A67_REPLICA_UNHEALTHY:
			if (a67_deadline_expired(replica->due_ms, now_ms))
			{
				replica->due_ms = A67_NEVER;
				(void) a67_runner_event(supervisor, replica, A67_EVENT_RETRY);
			}
			break;
		default:
			break;
	}
}
