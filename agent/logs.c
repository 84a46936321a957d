/*
 * logs.c - the table of logs, looking at them, giving up their heads.  See logs.h.
 */
#include "logs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "clock.h"

#define GAP_FIRST_MS	20
#define GAP_FOLLOWED_MS 100
#define GAP_MOST_MS		250
#define GONE_MS			30000 /* for the controller to take the end of a log whose replica is gone */
#define FOLLOWED_TIMES	8	  /* as much is kept for a follower that is behind */
#define FREE_PART		32	  /* a log takes no more than that part of the free disk */
#define KEPT_LEAST		(64 * 1024)
#define SUFFIX			".log"

/* ---- the table ---- */

A67AppLog *
a67_logs_find(const A67Logs *logs, const char *replica)
{
	for (size_t i = 0; i < logs->count; i++)
		if (strcmp(logs->items[i]->id, replica) == 0)
			return logs->items[i];
	return NULL;
}

static A67AppLog *
add(A67Logs *logs, const char *replica)
{
	A67AppLog *log = logs->count < A67_TABLE_MAX ? malloc(sizeof(*log)) : NULL;

	if (log == NULL)
		return NULL;
	a67_applog_load(logs->dir, log, replica);
	logs->items[logs->count++] = log;
	return log;
}

static void
drop(A67Logs *logs, size_t index)
{
	A67AppLog *log = logs->items[index];

	a67_followers_leave(logs, log);
	a67_applog_remove(logs->dir, log->id);
	free(log);
	logs->items[index] = logs->items[--logs->count];
}

/* Logs of an agent before this one, whose replicas may be gone. */
static void
find_left(A67Logs *logs)
{
	int fd = openat(logs->dir->fd, "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	uint8_t bytes[A67_UUID_BYTES];
	char id[A67_UUID_TEXT_SIZE];

	if (listing == NULL)
	{
		if (fd >= 0)
			(void) close(fd);
		return;
	}
	while ((entry = readdir(listing)) != NULL)
	{
		size_t len = strlen(entry->d_name);

		if (len != A67_UUID_TEXT_SIZE - 1 + strlen(SUFFIX) ||
			strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) != 0 ||
			!a67_uuid_from_text(entry->d_name, A67_UUID_TEXT_SIZE - 1, bytes))
			continue;
		a67_uuid_to_text(bytes, id);
		if (a67_logs_find(logs, id) == NULL && add(logs, id) == NULL)
			a67_applog_remove(logs->dir, id);
	}
	(void) closedir(listing);
}

static bool
has_log(const A67Replica *replica)
{
	return replica->desired != NULL || replica->process.pid != 0;
}

void
a67_logs_sync(A67Logs *logs, int64_t now_ms)
{
	A67Supervisor *supervisor = logs->supervisor;

	/* Version 1: the supervisor has not looked at its state files yet. */
	if (supervisor->version <= 1 || (logs->synced && logs->version == supervisor->version))
		return;
	logs->version = supervisor->version;
	if (!logs->synced)
		find_left(logs);
	logs->synced = true;
	for (size_t i = 0; i < logs->count; i++)
	{
		const A67Replica *replica = a67_supervisor_find(supervisor, logs->items[i]->id);

		if (replica != NULL && has_log(replica))
			logs->items[i]->gone_ms = A67_NEVER;
		else if (logs->items[i]->gone_ms == A67_NEVER)
			logs->items[i]->gone_ms = a67_deadline_in(now_ms, GONE_MS);
	}
	for (size_t i = 0; i < supervisor->count; i++)
		if (has_log(supervisor->replicas[i]) &&
			a67_logs_find(logs, supervisor->replicas[i]->id) == NULL)
			(void) add(logs, supervisor->replicas[i]->id);
	logs->look_ms = now_ms;
	logs->gap_ms = GAP_FIRST_MS;
}

void
a67_logs_open(A67Logs *logs, const A67StateDir *dir, A67Supervisor *supervisor)
{
	memset(logs, 0, sizeof(*logs));
	logs->dir = dir;
	logs->supervisor = supervisor;
	logs->kept = A67_LOG_KEPT_BYTES;
	logs->shipped = true;
	logs->look_ms = A67_NEVER;
	logs->gap_ms = GAP_FIRST_MS;
}

void
a67_logs_close(A67Logs *logs)
{
	for (size_t i = 0; i < logs->count; i++)
		free(logs->items[i]);
	logs->count = 0;
}

/* ---- giving up ---- */

/* What every log may keep: all of them together never fill the disk. */
static int64_t
kept_now(const A67Logs *logs, int64_t most)
{
	struct statvfs st;
	int64_t share;

	if (fstatvfs(logs->dir->fd, &st) != 0)
		return most;
	share = (int64_t) (st.f_bavail / FREE_PART) * (int64_t) st.f_frsize;
	if (share < KEPT_LEAST)
		share = KEPT_LEAST;
	return share < most ? share : most;
}

static void
trim(A67Logs *logs, A67AppLog *log)
{
	int64_t from = log->end - logs->kept;
	int64_t need;

	/* Not a look at the disk for logs that are small whatever it says. */
	if (log->end - log->start <= KEPT_LEAST + A67_LOG_GRAIN_BYTES)
		return;
	need = a67_followers_need(logs, log);
	if (from > need)
		from = need > log->end - FOLLOWED_TIMES * logs->kept
				   ? need
				   : log->end - FOLLOWED_TIMES * logs->kept;
	if (from < log->end - kept_now(logs, log->end - from))
		from = log->end - kept_now(logs, log->end - from);
	(void) a67_applog_trim(logs->dir, log, from);
}

/* Whether the log can go: nobody needs what is left of it. */
static bool
is_done(const A67Logs *logs, const A67AppLog *log, int64_t now_ms)
{
	if (log->gone_ms == A67_NEVER)
		return false;
	return !logs->shipped || log->unwanted || log->acked >= log->end ||
		   a67_deadline_expired(log->gone_ms, now_ms);
}

static void
look(A67Logs *logs, int64_t now_ms)
{
	int64_t wall_ms = a67_clock_wall_ms();
	int64_t most = logs->followers != NULL ? GAP_FOLLOWED_MS : GAP_MOST_MS;
	bool grown = false;

	for (size_t i = 0; i < logs->count; i++)
	{
		if (a67_applog_look(logs->dir, logs->items[i], wall_ms))
			grown = true;
		trim(logs, logs->items[i]);
	}
	for (size_t i = logs->count; i-- > 0;)
		if (is_done(logs, logs->items[i], now_ms))
			drop(logs, i);
	logs->gap_ms = grown ? GAP_FIRST_MS : 2 * logs->gap_ms;
	if (logs->gap_ms > most)
		logs->gap_ms = most;
	logs->look_ms = logs->count > 0 ? a67_deadline_in(now_ms, logs->gap_ms) : A67_NEVER;
}

void
a67_logs_prepare(A67Logs *logs, A67PollSet *set, int64_t now_ms)
{
	a67_logs_sync(logs, now_ms);
	a67_poll_until(set, logs->look_ms);
}

void
a67_logs_step(A67Logs *logs, int64_t now_ms)
{
	a67_logs_sync(logs, now_ms);
	if (!a67_deadline_expired(logs->look_ms, now_ms))
		return;
	look(logs, now_ms);
	a67_followers_run(logs, now_ms);
}

/* ---- metrics ---- */

typedef int64_t (*Value)(const A67AppLog *log);

static int64_t
value_end(const A67AppLog *log)
{
	return log->end;
}

static int64_t
value_acked(const A67AppLog *log)
{
	return log->acked;
}

typedef struct Series
{
	const char *name;
	const char *help;
	Value value;
} Series;

static const Series series[] = {
	{"a67_replica_log_bytes_total", "Bytes of output.", value_end},
	{"a67_replica_log_shipped_bytes_total", "Of these, up to where the controller has been told.",
	 value_acked},
	{"a67_replica_log_dropped_bytes_total",
	 "Of these, what was given up before the controller had it.", a67_applog_dropped},
};

void
a67_logs_exposition(const A67Logs *logs, A67Buf *out)
{
	for (size_t s = 0; s < sizeof(series) / sizeof(series[0]); s++)
	{
		(void) a67_buf_append_fmt(out, "# HELP %s %s\n# TYPE %s counter\n", series[s].name,
								  series[s].help, series[s].name);
		for (size_t i = 0; i < logs->count; i++)
			(void) a67_buf_append_fmt(out, "%s{replica=\"%s\"} %lld\n", series[s].name,
									  logs->items[i]->id,
									  (long long) series[s].value(logs->items[i]));
	}
	(void) a67_buf_append_fmt(out,
							  "# HELP a67_agent_log_missed_bytes_total Bytes that were gone before "
							  "a follower read them.\n# TYPE a67_agent_log_missed_bytes_total "
							  "counter\na67_agent_log_missed_bytes_total %lld\n",
							  (long long) logs->missed);
}
