/*
 * runner.c - what a replica's transitions do: fetch, start, watch, stop, back off.
 *
 * Decides nothing that machine.h decides.  Invariants: the state file is written before an action; a
 * process is started only while none is known; a replica has a fetch only while FETCHING and a probe
 * only while it has a process.  Called by supervisor.c and recover.c.
 */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "applog.h"
#include "clock.h"

#define START_PATIENCE_MS	60000 /* from start to the first good health check */
#define WORKER_ALIVE_MS		1000  /* what makes a worker healthy */
#define FIRST_PROBE_GAP_MS	50
#define KILL_AGAIN_MS		5000
#define FETCHES_MAX			4
#define PROBES_MAX			64
#define WRONG_PACKAGE_TRIES 5

/* ---- starting ---- */

void
a67_runner_watch(A67Replica *replica, int64_t now_ms)
{
	bool worker = replica->desired->app_type == A67_APP_WORKER;

	replica->probe_failures = 0;
	replica->probe_gap_ms = FIRST_PROBE_GAP_MS;
	replica->probe_due_ms = a67_deadline_in(now_ms, worker ? WORKER_ALIVE_MS : FIRST_PROBE_GAP_MS);
	replica->due_ms = a67_deadline_in(now_ms, START_PATIENCE_MS);
	replica->kill_ms = A67_NEVER;
}

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
	if (replica->unsaved)
		err = a67_why(&why, -EIO, "could not store the state of the replica");
	else if (replica->port == 0)
		err = a67_why(&why, -EADDRINUSE, "could not find a free port");
	else if (replica->desired->env_version != NULL && replica->secrets_dir[0] == '\0')
		err = a67_why(&why, -EIO, "could not make a directory for secrets");
	else
		err = a67_launch(supervisor, replica, &why);
	replica->intent = replica->renewal = false;
	if (err == 0)
	{
		a67_log(A67_LOG_INFO, "replica %s of %s started: pid %d, port %d", replica->id,
				replica->desired->deployment, (int) replica->process.pid, replica->port);
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

static void
cancel_work(A67Replica *replica)
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

	cancel_work(replica);
	if (replica->process.pid == 0)
	{
		(void) a67_runner_event(supervisor, replica, A67_EVENT_EXITED);
		return;
	}
	if (replica->kill_ms != A67_NEVER)
		return;
	a67_process_signal(&replica->process, SIGTERM);
	replica->kill_ms = a67_deadline_in(a67_clock_now_ms(), grace_ms);
}

void
a67_runner_exited(A67Supervisor *supervisor, A67Replica *replica, const char *how)
{
	a67_process_forget(&replica->process);
	a67_process_sweep(supervisor->identity->node_id, replica->id);
	a67_secrets_remove(replica->secrets_dir);
	replica->secrets_dir[0] = '\0';
	cancel_work(replica);
	replica->kill_ms = A67_NEVER;
	a67_applog_note(supervisor->dir, replica->id, how);
	if (replica->state == A67_REPLICA_STARTING || replica->state == A67_REPLICA_RUNNING)
	{
		(void) snprintf(replica->error, sizeof(replica->error), "%s", how);
		a67_log(A67_LOG_WARNING, "replica %s: %s", replica->id, how);
	}
	(void) a67_runner_event(supervisor, replica, A67_EVENT_EXITED);
}

static void
act_back_off(A67Supervisor *supervisor, A67Replica *replica)
{
	int64_t now_ms = a67_clock_now_ms();

	if (a67_crash_hopeless(&replica->crashes, now_ms))
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
	a67_applog_remove(supervisor->dir, replica->id);
	a67_log(A67_LOG_INFO, "replica %s is gone", replica->id);
}

/* ---- transitions ---- */

static void
keep_log_tail(const A67Supervisor *supervisor, A67Replica *replica)
{
	A67Buf tail;

	a67_buf_init(&tail, A67_LOG_TAIL_BYTES);
	(void) a67_applog_tail(supervisor->dir, replica->id, A67_LOG_TAIL_BYTES, &tail);
	(void) snprintf(replica->log_tail, sizeof(replica->log_tail), "%s", a67_buf_text(&tail));
	a67_buf_free(&tail);
}

/* What belongs into the state file together with the new state. */
static void
before_save(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaEvent event,
			A67ReplicaAction action)
{
	A67Why why;

	if (event == A67_EVENT_WANTED)
	{
		replica->restarts = 0;
		replica->started = false;
		replica->fetch_failures = 0;
		replica->acked = false;
		memset(&replica->crashes, 0, sizeof(replica->crashes));
		a67_backoff_reset(&replica->backoff);
	}
	if (event == A67_EVENT_WANTED || event == A67_EVENT_HEALTHY)
		replica->error[0] = replica->log_tail[0] = '\0';
	if (action == A67_ACTION_SPAWN)
	{
		replica->port = a67_launch_port(supervisor, replica);
		replica->intent = true;
		if (a67_launch_choose_secrets(supervisor, replica, &why) != 0)
			a67_log(A67_LOG_ERROR, "%s", why.text);
	}
	if (action == A67_ACTION_GIVE_UP)
	{
		keep_log_tail(supervisor, replica);
		a67_log(A67_LOG_ERROR, "replica %s given up: %s", replica->id, replica->error);
	}
	if (action == A67_ACTION_FORGET)
	{
		a67_desired_free(replica->desired);
		replica->desired = NULL;
		replica->port = 0;
		replica->error[0] = replica->log_tail[0] = '\0';
	}
}

static void
act(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaAction action)
{
	switch (action)
	{
		case A67_ACTION_FETCH:
			cancel_work(replica);
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
			cancel_work(replica);
			break;
		case A67_ACTION_FORGET:
			act_forget(supervisor, replica);
			break;
		default:
			break;
	}
}

int
a67_runner_event(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaEvent event)
{
	A67ReplicaCell cell = a67_machine_cell(replica->state, event);
	A67ReplicaState before = replica->state;
	bool order = event == A67_EVENT_WANTED || event == A67_EVENT_UNWANTED;

	if (cell.action == A67_ACTION_IGNORE)
		return 0;
	a67_log(A67_LOG_DEBUG, "replica %s: %s, %s -> %s, %s", replica->id,
			a67_machine_event_name(event), a67_machine_state_name(before),
			a67_machine_state_name(cell.next), a67_machine_action_name(cell.action));
	replica->state = cell.next;
	before_save(supervisor, replica, event, cell.action);
	if (cell.next != before)
		replica->since_ms = a67_clock_wall_ms();
	if (a67_replica_save(supervisor->dir, replica) != 0 && order)
	{
		replica->state = before;
		return -EIO;
	}
	supervisor->version++;
	act(supervisor, replica, cell.action);
	return 0;
}

/* ---- fetching ---- */

static bool
root_exists(const A67Supervisor *supervisor, const A67Replica *replica)
{
	char name[A67_STATE_NAME_SIZE];
	struct stat st;

	a67_replica_root_name(replica, name);
	return fstatat(supervisor->dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Whether a download may begin now: not too many at once, and never the same package twice. */
static bool
may_fetch(const A67Supervisor *supervisor, const A67Replica *self)
{
	int active = 0;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Fetch *fetch = supervisor->replicas[i]->fetch;

		if (fetch == NULL)
			continue;
		if (strcmp(a67_fetch_digest(fetch), self->desired->digest) == 0 &&
			!a67_cache_has(supervisor->dir, self->desired->digest))
			return false;
		active++;
	}
	return active < FETCHES_MAX;
}

static void
begin_fetch(A67Supervisor *supervisor, A67Replica *replica, int64_t now_ms)
{
	A67FetchSource source = {.dir = supervisor->dir, .tls = supervisor->tls};
	char name[A67_STATE_NAME_SIZE];

	a67_launch_home(supervisor, replica, "");
	a67_replica_root_name(replica, name);
	source.controller_url = supervisor->identity->controller_url;
	source.node_token = supervisor->identity->node_token;
	source.pin = supervisor->identity->tls_pinned ? supervisor->identity->tls_pin : NULL;
	replica->fetch = a67_fetch_new(&source, replica->desired, name, now_ms);
	replica->due_ms = replica->fetch != NULL ? A67_NEVER : a67_deadline_in(now_ms, 1000);
}

/* Trees of earlier contents. */
static void
remove_old_roots(A67Supervisor *supervisor, const A67Replica *replica)
{
	char home[A67_STATE_NAME_SIZE];
	char keep[32];
	char name[A67_STATE_NAME_SIZE * 3];
	struct dirent *item;
	DIR *dir;
	int fd;

	a67_replica_home_name(replica, home);
	(void) snprintf(keep, sizeof(keep), "%lld", (long long) replica->content);
	fd = openat(supervisor->dir->fd, home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL)
		return;
	while ((item = readdir(dir)) != NULL)
	{
		if (item->d_name[0] < '0' || item->d_name[0] > '9' || strcmp(item->d_name, keep) == 0)
			continue;
		(void) snprintf(name, sizeof(name), "%s/%.100s", home, item->d_name);
		(void) a67_trash_put(supervisor->dir, name);
	}
	(void) closedir(dir);
}

static void
fetch_failed(A67Supervisor *supervisor, A67Replica *replica, A67FetchState kind, int64_t now_ms)
{
	bool news = strcmp(replica->error, a67_fetch_error(replica->fetch)) != 0;

	(void) snprintf(replica->error, sizeof(replica->error), "%s", a67_fetch_error(replica->fetch));
	a67_log(A67_LOG_WARNING, "replica %s: %s", replica->id, replica->error);
	a67_fetch_free(replica->fetch);
	replica->fetch = NULL;
	if (kind == A67_FETCH_WRONG)
		replica->fetch_failures++;
	if (kind == A67_FETCH_REFUSED || replica->fetch_failures >= WRONG_PACKAGE_TRIES)
	{
		(void) a67_runner_event(supervisor, replica, A67_EVENT_HOPELESS);
		return;
	}
	replica->due_ms = a67_deadline_in(now_ms, a67_backoff_next(&replica->backoff));
	if (news)
	{
		(void) a67_replica_save(supervisor->dir, replica);
		supervisor->version++;
	}
}

static void
step_fetching(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set, int64_t now_ms)
{
	A67FetchState state;

	if (replica->fetch == NULL)
	{
		if (!a67_deadline_expired(replica->due_ms, now_ms))
			return;
		if (root_exists(supervisor, replica))
			(void) a67_runner_event(supervisor, replica, A67_EVENT_FETCHED);
		else if (may_fetch(supervisor, replica))
			begin_fetch(supervisor, replica, now_ms);
		else
			replica->due_ms = a67_deadline_in(now_ms, FIRST_PROBE_GAP_MS);
		return;
	}
	state = a67_fetch_step(replica->fetch, set, now_ms);
	if (state == A67_FETCH_BUSY)
		return;
	if (state != A67_FETCH_DONE)
	{
		fetch_failed(supervisor, replica, state, now_ms);
		return;
	}
	a67_fetch_free(replica->fetch);
	replica->fetch = NULL;
	a67_backoff_reset(&replica->backoff);
	remove_old_roots(supervisor, replica);
	(void) a67_runner_event(supervisor, replica, A67_EVENT_FETCHED);
}

/* ---- health ---- */

static bool
may_probe(const A67Supervisor *supervisor)
{
	int active = 0;

	for (size_t i = 0; i < supervisor->count; i++)
		active += supervisor->replicas[i]->probe != NULL;
	return active < PROBES_MAX;
}

static void
healthy(A67Supervisor *supervisor, A67Replica *replica)
{
	replica->probe_failures = 0;
	if (replica->state != A67_REPLICA_STARTING)
		return;
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

/* Judges the end of a probe. */
static void
probed(A67Supervisor *supervisor, A67Replica *replica, A67ProbeState result, int64_t now_ms)
{
	A67Why why;
	int interval_ms = replica->desired->health_interval_ms;

	(void) a67_why(&why, 0, "%s", a67_probe_error(replica->probe));
	a67_probe_free(replica->probe);
	replica->probe = NULL;
	if (result == A67_PROBE_GOOD)
	{
		replica->probe_due_ms = a67_deadline_in(now_ms, interval_ms);
		healthy(supervisor, replica);
		return;
	}
	if (replica->state == A67_REPLICA_STARTING)
	{
		replica->probe_gap_ms = replica->probe_gap_ms * 3 / 2;
		if (replica->probe_gap_ms > interval_ms)
			replica->probe_gap_ms = interval_ms;
		replica->probe_due_ms = a67_deadline_in(now_ms, replica->probe_gap_ms);
		(void) snprintf(replica->error, sizeof(replica->error), "%s", why.text);
		return;
	}
	replica->probe_due_ms = a67_deadline_in(now_ms, interval_ms);
	if (++replica->probe_failures >= replica->desired->health_retries)
		sick(supervisor, replica, why.text);
}

static void
step_health(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set, int64_t now_ms)
{
	A67ProbeState state;
	A67Why why;

	if (replica->state == A67_REPLICA_STARTING && a67_deadline_expired(replica->due_ms, now_ms))
	{
		(void) a67_why(&why, 0, "not healthy %d s after its start: %.200s",
					   START_PATIENCE_MS / 1000, replica->error);
		sick(supervisor, replica, why.text);
		return;
	}
	if (replica->probe != NULL)
	{
		state = a67_probe_step(replica->probe, set, now_ms);
		if (state != A67_PROBE_BUSY)
			probed(supervisor, replica, state, now_ms);
		return;
	}
	if (!a67_deadline_expired(replica->probe_due_ms, now_ms))
		return;
	if (replica->desired->app_type == A67_APP_WORKER)
	{
		replica->probe_due_ms = A67_NEVER;
		healthy(supervisor, replica);
		return;
	}
	if (may_probe(supervisor))
		replica->probe = a67_probe_new(replica->port, replica->desired->health_path,
									   replica->desired->health_timeout_ms, now_ms);
	if (replica->probe == NULL)
		replica->probe_due_ms = a67_deadline_in(now_ms, FIRST_PROBE_GAP_MS);
}

/* ---- the loop's part ---- */

void
a67_runner_prepare(A67Replica *replica, A67PollSet *set, int64_t now_ms)
{
	/* Children are announced by SIGCHLD; only adopted processes need their pidfd watched. */
	replica->pidfd_at = -1;
	if (replica->process.pid != 0 && !replica->process.child)
		replica->pidfd_at = a67_poll_add(set, replica->process.pidfd, POLLIN);
	if (replica->fetch != NULL)
		a67_fetch_prepare(replica->fetch, set, now_ms);
	if (replica->probe != NULL)
		a67_probe_prepare(replica->probe, set, now_ms);
	else
		a67_poll_until(set, replica->probe_due_ms);
	a67_poll_until(set, replica->due_ms);
	a67_poll_until(set, replica->kill_ms);
}

void
a67_runner_step(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
				int64_t now_ms)
{
	if (a67_poll_ready(set, replica->pidfd_at))
	{
		replica->pidfd_at = -1;
		a67_runner_exited(supervisor, replica, "process ended");
		return;
	}
	if (a67_deadline_expired(replica->kill_ms, now_ms))
	{
		a67_process_signal(&replica->process, SIGKILL);
		replica->kill_ms = a67_deadline_in(now_ms, KILL_AGAIN_MS);
	}
	switch (replica->state)
	{
		case A67_REPLICA_FETCHING:
			step_fetching(supervisor, replica, set, now_ms);
			break;
		case A67_REPLICA_STARTING:
		case A67_REPLICA_RUNNING:
			step_health(supervisor, replica, set, now_ms);
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
