/*
 * replica.c - construction, state file and report of a replica.  See replica.h.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "applog.h"
#include "clock.h"

#define RESTART_BASE_MS 500
#define RESTART_CAP_MS	30000

A67Replica *
a67_replica_new(const char *id, uint64_t seed)
{
	A67Replica *replica = calloc(1, sizeof(*replica));

	if (replica == NULL)
		return NULL;
	(void) snprintf(replica->id, sizeof(replica->id), "%s", id);
	replica->state = A67_REPLICA_STOPPED;
	replica->process.pidfd = -1;
	replica->pidfd_at = -1;
	replica->due_ms = replica->probe_due_ms = A67_NEVER;
	replica->kill_ms = replica->linger_ms = A67_NEVER;
	replica->since_ms = a67_clock_wall_ms();
	replica->blocked = A67_REPLICA_EVENT_COUNT;
	replica->exit_code = -1;
	replica->duration_ms = -1;
	a67_backoff_init(&replica->backoff, RESTART_BASE_MS, RESTART_CAP_MS, seed);
	return replica;
}

void
a67_replica_free(A67Replica *replica)
{
	if (replica == NULL)
		return;
	a67_fetch_free(replica->fetch);
	a67_probe_free(replica->probe);
	a67_process_forget(&replica->process);
	a67_desired_free(replica->desired);
	free(replica);
}

void
a67_replica_state_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "replicas/%s.json", replica->id);
}

void
a67_replica_home_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "apps/%s", replica->id);
}

void
a67_replica_root_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "apps/%s/%lld", replica->id,
					(long long) replica->content);
}

void
a67_replica_run_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "apps/%s/run.%lld", replica->id,
					(long long) replica->content);
}

bool
a67_replica_is_run(const A67Replica *replica)
{
	return replica->desired != NULL && replica->desired->app_type == A67_APP_CRON;
}

void
a67_replica_keep_log(const A67StateDir *dir, A67Replica *replica)
{
	A67Buf tail;

	a67_buf_init(&tail, A67_LOG_TAIL_BYTES);
	(void) a67_applog_tail(dir, replica->id, A67_LOG_TAIL_BYTES, &tail);
	(void) snprintf(replica->log_tail, sizeof(replica->log_tail), "%s", a67_buf_text(&tail));
	a67_buf_free(&tail);
}

/* Bytes that are not UTF-8 would make jansson refuse the whole document. */
static json_t *
loose_text(const char *text)
{
	A67Buf quoted;
	json_t *value = NULL;

	if (text[0] == '\0')
		return json_null();
	a67_buf_init(&quoted, strlen(text) * 6 + 16);
	if (a67_buf_append_json_string(&quoted, text, strlen(text)))
		value = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
	a67_buf_free(&quoted);
	return value != NULL ? value : json_null();
}

static json_t *
number_or_null(int64_t value)
{
	return value > 0 ? json_integer(value) : json_null();
}

/* An end that could not be written down yet is told all the same: nobody shall rely on the process. */
static const char *
reported_state(const A67Replica *replica)
{
	if (replica->process.pid == 0 && replica->blocked != A67_REPLICA_EVENT_COUNT &&
		(replica->state == A67_REPLICA_STARTING || replica->state == A67_REPLICA_RUNNING))
		return a67_machine_report_name(A67_REPLICA_UNHEALTHY);
	return a67_machine_report_name(replica->state);
}

static json_t *
time_or_null(int64_t wall_ms)
{
	char text[A67_TIME_SIZE];

	if (wall_ms <= 0)
		return json_null();
	a67_clock_format(wall_ms, text);
	return json_string(text);
}

/* What only a run has. */
static int
report_run(const A67Replica *replica, json_t *doc)
{
	bool over = replica->state == A67_REPLICA_FINISHED || replica->state == A67_REPLICA_FAILED;

	return json_object_set_new(doc, "started_at", time_or_null(replica->started_ms)) |
		   json_object_set_new(doc, "exit_code",
							   over && replica->exit_code >= 0 ? json_integer(replica->exit_code)
															   : json_null()) |
		   json_object_set_new(doc, "duration_ms",
							   over && replica->duration_ms >= 0
								   ? json_integer((json_int_t) replica->duration_ms)
								   : json_null());
}

json_t *
a67_replica_report(const A67Replica *replica)
{
	json_t *doc =
		json_pack("{s:s,s:I,s:s,s:o,s:o,s:I,s:o,s:o,s:o}", "id", replica->id, "generation",
				  (json_int_t) replica->generation, "state", reported_state(replica), "port",
				  number_or_null(replica->port), "pid", number_or_null(replica->process.pid),
				  "restarts", (json_int_t) replica->restarts, "error", loose_text(replica->error),
				  "log_tail", loose_text(replica->log_tail), "since",
				  time_or_null(replica->since_ms));

	if (doc != NULL && a67_replica_is_run(replica) && report_run(replica, doc) != 0)
	{
		json_decref(doc);
		return NULL;
	}
	return doc;
}

static json_t *
process_json(const A67Replica *replica)
{
	if (replica->process.pid == 0)
		return json_null();
	return json_pack("{s:i,s:I}", "pid", (int) replica->process.pid, "start",
					 (json_int_t) replica->process.start_ticks);
}

static json_t *
desired_json(const A67Replica *replica)
{
	return replica->desired != NULL ? a67_desired_json(replica->desired) : json_null();
}

/* The text of the state file; to be freed, NULL when out of memory. */
static char *
state_text(const A67Replica *replica)
{
	json_t *doc =
		json_pack("{s:i,s:s,s:s,s:s,s:I,s:I,s:o,s:b,s:o,s:I,s:s,s:i,s:s,s:b,s:I,s:o,s:o,s:I}",
				  "format", 1, "id", replica->id, "boot", a67_clock_boot_id(), "state",
				  a67_machine_state_name(replica->state), "generation",
				  (json_int_t) replica->generation, "content", (json_int_t) replica->content,
				  "desired", desired_json(replica), "intent", (int) replica->intent, "process",
				  process_json(replica), "uid", (json_int_t) replica->uid, "cgroup",
				  replica->cgroup, "port", replica->port, "secrets_dir", replica->secrets_dir,
				  "renewal", (int) replica->renewal, "restarts", (json_int_t) replica->restarts,
				  "error", loose_text(replica->error), "log_tail", loose_text(replica->log_tail),
				  "since_ms", (json_int_t) replica->since_ms);
	char *text = NULL;

	if (doc != NULL && a67_replica_is_run(replica) &&
		json_object_set_new(doc, "run",
							json_pack("{s:b,s:I,s:i,s:I}", "begun", (int) replica->begun,
									  "started_ms", (json_int_t) replica->started_ms, "exit_code",
									  replica->exit_code, "duration_ms",
									  (json_int_t) replica->duration_ms)) != 0)
	{
		json_decref(doc);
		return NULL;
	}
	if (doc != NULL)
		text = json_dumps(doc, JSON_COMPACT);
	json_decref(doc);
	return text;
}

typedef int (*Writer)(const A67StateDir *dir, const char *name, const void *bytes, size_t len,
					  A67Why *why);

static int
save(const A67StateDir *dir, A67Replica *replica, Writer writer)
{
	char name[A67_STATE_NAME_SIZE];
	char *text = state_text(replica);
	bool before = replica->unsaved;
	A67Why why;
	int err;

	a67_replica_state_name(replica, name);
	if (text == NULL)
		err = a67_why(&why, -ENOMEM, "could not write \"%s\": out of memory", name);
	else
		err = writer(dir, name, text, strlen(text), &why);
	free(text);
	replica->unsaved = err != 0;
	/* A disk that stays full is worth one line a replica. */
	if (err != 0 && !before)
		a67_log(A67_LOG_ERROR, "%s", why.text);
	return err;
}

int
a67_replica_save(const A67StateDir *dir, A67Replica *replica)
{
	return save(dir, replica, a67_statedir_write);
}

int
a67_replica_save_in_place(const A67StateDir *dir, A67Replica *replica)
{
	return save(dir, replica, a67_statedir_overwrite);
}

static void
take_text(json_t *doc, const char *name, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(doc, name));

	(void) snprintf(out, size, "%s", text != NULL ? text : "");
}

static bool
take_process(json_t *doc, A67Process *process)
{
	json_t *value = json_object_get(doc, "process");
	json_int_t pid = json_integer_value(json_object_get(value, "pid"));

	if (json_is_null(value))
		return true;
	if (pid < 2 || pid > INT32_MAX)
		return false;
	process->pid = (pid_t) pid;
	process->start_ticks = (uint64_t) json_integer_value(json_object_get(value, "start"));
	return true;
}

static void
take_run(json_t *doc, A67Replica *replica)
{
	json_t *run = json_object_get(doc, "run");

	if (!json_is_object(run))
		return;
	replica->begun = json_is_true(json_object_get(run, "begun"));
	replica->started_ms = json_integer_value(json_object_get(run, "started_ms"));
	replica->exit_code = (int) json_integer_value(json_object_get(run, "exit_code"));
	replica->duration_ms = json_integer_value(json_object_get(run, "duration_ms"));
}

/* False with the reason in why. */
static bool
take_document(A67Replica *replica, json_t *doc, A67Why *why)
{
	const char *id = json_string_value(json_object_get(doc, "id"));
	const char *state = json_string_value(json_object_get(doc, "state"));
	const char *boot = json_string_value(json_object_get(doc, "boot"));
	json_t *generation = json_object_get(doc, "generation");
	json_t *desired = json_object_get(doc, "desired");
	json_t *whole;

	if (json_integer_value(json_object_get(doc, "format")) != 1 || id == NULL || state == NULL ||
		strcmp(id, replica->id) != 0 || !a67_machine_parse_state(state, &replica->state) ||
		!json_is_integer(generation) || !take_process(doc, &replica->process))
	{
		(void) a67_why(why, -EINVAL, "not the state of this replica");
		return false;
	}
	replica->started = replica->process.pid != 0;
	/* After a reboot the pid is somebody else's, and files may lack what was never synced. */
	replica->rebooted = boot == NULL || strcmp(boot, a67_clock_boot_id()) != 0;
	if (replica->rebooted)
		replica->process.pid = 0;
	replica->generation = json_integer_value(generation);
	replica->content = json_integer_value(json_object_get(doc, "content"));
	replica->intent = json_is_true(json_object_get(doc, "intent"));
	replica->uid = (uid_t) json_integer_value(json_object_get(doc, "uid"));
	replica->port = (int) json_integer_value(json_object_get(doc, "port"));
	replica->renewal = json_is_true(json_object_get(doc, "renewal"));
	replica->restarts = json_integer_value(json_object_get(doc, "restarts"));
	replica->since_ms = json_integer_value(json_object_get(doc, "since_ms"));
	take_text(doc, "cgroup", replica->cgroup, sizeof(replica->cgroup));
	take_text(doc, "secrets_dir", replica->secrets_dir, sizeof(replica->secrets_dir));
	take_text(doc, "error", replica->error, sizeof(replica->error));
	take_text(doc, "log_tail", replica->log_tail, sizeof(replica->log_tail));
	take_run(doc, replica);
	if (!json_is_object(desired))
		return true;
	whole = json_copy(desired);
	if (whole == NULL || json_object_set(whole, "generation", generation) != 0)
	{
		json_decref(whole);
		(void) a67_why(why, -ENOMEM, "out of memory");
		return false;
	}
	replica->desired = a67_desired_from_json(whole, why);
	json_decref(whole);
	return replica->desired != NULL;
}

A67Replica *
a67_replica_load(const A67StateDir *dir, const char *id, uint64_t seed)
{
	char name[A67_STATE_NAME_SIZE];
	A67Replica *replica = a67_replica_new(id, seed);
	A67Buf text;
	A67Why why;
	json_t *doc = NULL;
	bool good;

	if (replica == NULL)
		return NULL;
	a67_buf_init(&text, A67_REPLICA_MAX_BYTES);
	a67_replica_state_name(replica, name);
	good = a67_statedir_read(dir, name, &text, &why) == 0;
	if (good)
	{
		doc = json_loadb(a67_buf_text(&text), text.len, JSON_REJECT_DUPLICATES, NULL);
		good = json_is_object(doc);
		if (!good)
			(void) a67_why(&why, -EINVAL, "not a JSON object");
	}
	good = good && take_document(replica, doc, &why);
	json_decref(doc);
	a67_buf_free(&text);
	if (good)
		return replica;
	a67_statedir_quarantine(dir, name, why.text);
	a67_replica_free(replica);
	return NULL;
}
