/*
 * follow.c - logs to whoever asks for them, now and as they grow.  See logs.h and docs/protocol.md.
 *
 * A follower holds its own descriptor and offset; it reads when its connection has room, so a slow one
 * costs no memory.  What is given up before it was read is told by a line in its place.
 */
#include "logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "task.h"

#define TAIL_DEFAULT_BYTES 16384
#define READ_BYTES		   (128 * 1024)
#define PENDING_MOST	   (256 * 1024) /* unsent bytes of one answer */
#define LONGEST_MS		   3600000 /* a client that has gone unnoticed is not followed for ever */

struct A67Follower
{
	A67Task task;
	A67Logs *logs;
	A67HttpHandle handle;
	char replica[A67_UUID_TEXT_SIZE];
	int fd;
	int64_t next;  /* offset of the next byte to send */
	int64_t until; /* INT64_MAX: what comes as well */
	int64_t ends_ms;
	A67Follower *link;
};

static char scratch[READ_BYTES];

/* ---- the list ---- */

static void
leave(A67Follower *follower)
{
	A67Logs *logs = follower->logs;

	for (A67Follower **at = &logs->followers; *at != NULL; at = &(*at)->link)
	{
		if (*at != follower)
			continue;
		*at = follower->link;
		logs->follower_count--;
		break;
	}
	if (follower->fd >= 0)
		(void) close(follower->fd);
	free(follower);
}

static void
finish(A67Follower *follower, A67HttpConn *conn)
{
	a67_http_conn_set_user(conn, NULL);
	(void) a67_http_respond_end(conn);
	leave(follower);
}

static void
on_close(A67Task *task, A67HttpConn *conn)
{
	a67_http_conn_set_user(conn, NULL);
	leave((A67Follower *) task);
}

int64_t
a67_followers_need(const A67Logs *logs, const A67AppLog *log)
{
	int64_t need = INT64_MAX;

	for (const A67Follower *one = logs->followers; one != NULL; one = one->link)
		if (one->next < need && strcmp(one->replica, log->id) == 0)
			need = one->next;
	return need;
}

/* ---- sending ---- */

/* Says in its place that something is missing; false when the connection has no room for it. */
static bool
tell_missing(A67Follower *follower, A67HttpConn *conn, const A67AppLog *log)
{
	char line[160];
	char at[A67_TIME_SIZE];
	int64_t missing = log->start - follower->next;
	int len;

	a67_clock_format(a67_clock_wall_ms(), at);
	len = snprintf(line, sizeof(line), "-- %s a67-agent: %lld bytes of output are missing here\n",
				   at, (long long) missing);
	if (a67_http_respond_write(conn, line, (size_t) len) != 0)
		return false;
	follower->next = log->start;
	follower->logs->missed += missing;
	return true;
}

/* The descriptor for what the log says is at `next`. */
static bool
ready_file(A67Follower *follower, const A67AppLog *log)
{
	if (follower->fd >= 0)
		return true;
	follower->fd = a67_applog_open_read(follower->logs->dir, log->id);
	return follower->fd >= 0;
}

/* Sends one piece; whether there may be more to do now. */
static bool
send_piece(A67Follower *follower, A67HttpConn *conn, A67AppLog *log)
{
	int64_t end = follower->until < log->end ? follower->until : log->end;
	int64_t left;
	ssize_t n;

	if (follower->next < log->start)
		return tell_missing(follower, conn, log);
	left = end - follower->next;
	if (left <= 0)
		return follower->next < follower->until &&
			   a67_applog_look(follower->logs->dir, log, a67_clock_wall_ms());
	if (!ready_file(follower, log))
		return false;
	n = a67_applog_read(log, follower->fd, follower->next, scratch,
						left < READ_BYTES ? (size_t) left : READ_BYTES);
	if (n <= 0 || a67_http_respond_write(conn, scratch, (size_t) n) != 0)
		return false;
	follower->next += n;
	return true;
}

/* Whether nothing will come any more. */
static bool
is_over(const A67Follower *follower, const A67AppLog *log, int64_t now_ms)
{
	const A67Replica *replica;

	if (follower->next >= follower->until || a67_deadline_expired(follower->ends_ms, now_ms))
		return true;
	if (follower->next < log->end)
		return false;
	replica = a67_supervisor_find(follower->logs->supervisor, follower->replica);
	if (replica == NULL || (replica->desired == NULL && replica->process.pid == 0))
		return true;
	return replica->process.pid == 0 &&
		   (replica->state == A67_REPLICA_FAILED || replica->state == A67_REPLICA_FINISHED ||
			replica->state == A67_REPLICA_STOPPED);
}

static void
pump(A67Follower *follower, A67HttpConn *conn, int64_t now_ms)
{
	A67AppLog *log = a67_logs_find(follower->logs, follower->replica);

	if (log == NULL)
	{
		finish(follower, conn);
		return;
	}
	while (a67_http_respond_pending(conn) < PENDING_MOST && send_piece(follower, conn, log))
		continue;
	if (is_over(follower, log, now_ms))
		finish(follower, conn);
}

static void
on_drain(A67Task *task, A67HttpConn *conn)
{
	pump((A67Follower *) task, conn, a67_clock_now_ms());
}

void
a67_followers_run(A67Logs *logs, int64_t now_ms)
{
	A67Follower *next;

	for (A67Follower *one = logs->followers; one != NULL; one = next)
	{
		A67HttpConn *conn = a67_http_conn_find(logs->server, one->handle);

		next = one->link;
		if (conn != NULL)
			pump(one, conn, now_ms);
	}
}

void
a67_followers_leave(A67Logs *logs, const A67AppLog *log)
{
	A67Follower *next;

	for (A67Follower *one = logs->followers; one != NULL; one = next)
	{
		A67HttpConn *conn = a67_http_conn_find(logs->server, one->handle);

		next = one->link;
		if (conn != NULL && strcmp(one->replica, log->id) == 0)
			finish(one, conn);
	}
}

/* ---- asking ---- */

/* RFC 3339 with a zone, to milliseconds since 1970. */
static bool
read_time(const char *text, int64_t *wall_ms)
{
	struct tm tm = {0};
	const char *at = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ms = 0;
	int hours = 0;
	int minutes = 0;
	int used = 0;

	if (at == NULL)
		return false;
	if (*at == '.')
	{
		int64_t unit = 100;

		for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10)
			ms += (*at - '0') * unit;
	}
	if (*at == '+' || *at == '-')
	{
		if (sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || used != 5 ||
			at[6] != '\0' || hours < 0 || minutes < 0 || minutes > 59)
			return false;
		if (*at == '-')
			hours = -hours, minutes = -minutes;
	}
	else if (strcmp(at, "Z") != 0)
		return false;
	*wall_ms = ((int64_t) timegm(&tm) - hours * 3600 - minutes * 60) * 1000 + ms;
	return true;
}

static bool
read_number(const char *text, int64_t *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0';
}

typedef struct Wanted
{
	bool follow;
	int64_t tail; /* -1: not said */
	bool by_offset;
	bool by_time;
	int64_t since;
} Wanted;

/* What the query asks for; NULL, or what is wrong with it. */
static const char *
read_query(A67HttpStr query, Wanted *wanted)
{
	char text[64];
	long len = a67_http_query_param(query, "follow", text, sizeof(text));

	*wanted = (Wanted){.tail = -1};
	if (len != A67_HTTP_NO_PARAM &&
		(len < 1 || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)))
		return "parameter \"follow\" must be true or false";
	wanted->follow = len > 0 && strcmp(text, "true") == 0;
	len = a67_http_query_param(query, "tail", text, sizeof(text));
	if (len != A67_HTTP_NO_PARAM && (len < 1 || !read_number(text, &wanted->tail)))
		return "parameter \"tail\" must be an integer from 0";
	len = a67_http_query_param(query, "since", text, sizeof(text));
	if (len == A67_HTTP_NO_PARAM)
		return NULL;
	wanted->by_offset = len > 0 && read_number(text, &wanted->since);
	wanted->by_time = len > 0 && !wanted->by_offset && read_time(text, &wanted->since);
	if (!wanted->by_offset && !wanted->by_time)
		return "parameter \"since\" must be an offset or an RFC 3339 time with its zone";
	return NULL;
}

static int64_t
first_offset(const A67AppLog *log, const Wanted *wanted)
{
	int64_t from = log->start;
	int64_t tail = wanted->tail;

	if (wanted->by_offset)
		from = wanted->since < log->end ? wanted->since : log->end;
	else if (wanted->by_time)
		from = a67_applog_since(log, wanted->since);
	else if (tail < 0)
		tail = TAIL_DEFAULT_BYTES;
	if (tail >= 0 && log->end - tail > from)
		from = log->end - tail;
	return from;
}

static A67Follower *
join(A67Logs *logs, A67HttpConn *conn, const A67AppLog *log, const Wanted *wanted)
{
	A67Follower *follower = calloc(1, sizeof(*follower));

	if (follower == NULL)
		return NULL;
	follower->task.on_drain = on_drain;
	follower->task.on_close = on_close;
	follower->logs = logs;
	follower->handle = a67_http_conn_handle(conn);
	memcpy(follower->replica, log->id, sizeof(follower->replica));
	follower->fd = -1;
	follower->next = first_offset(log, wanted);
	follower->until = wanted->follow ? INT64_MAX : log->end;
	follower->ends_ms = a67_deadline_in(a67_clock_now_ms(), LONGEST_MS);
	follower->link = logs->followers;
	logs->followers = follower;
	logs->follower_count++;
	a67_http_conn_set_user(conn, follower);
	return follower;
}

void
a67_follow(A67Logs *logs, A67HttpConn *conn, const A67HttpHead *req, const char *replica)
{
	char offset[24];
	A67HttpField headers[] = {{"Content-Type", "text/plain; charset=utf-8"},
							  {"X-Log-Offset", offset},
							  {NULL, NULL}};
	A67AppLog *log;
	A67Follower *follower;
	Wanted wanted;
	const char *wrong = read_query(req->query, &wanted);

	a67_logs_sync(logs, a67_clock_now_ms());
	log = a67_logs_find(logs, replica);
	if (wrong != NULL || log == NULL)
	{
		(void) a67_http_respond_error(conn, wrong != NULL ? 400 : 404, NULL,
									  wrong != NULL ? wrong : "no such replica on this node");
		return;
	}
	(void) a67_applog_look(logs->dir, log, a67_clock_wall_ms());
	follower = logs->follower_count < A67_LOG_FOLLOWERS_MAX ? join(logs, conn, log, &wanted) : NULL;
	if (follower == NULL)
	{
		(void) a67_http_respond_error(conn, 503, NULL, "too many followers of logs");
		return;
	}
	(void) snprintf(offset, sizeof(offset), "%lld", (long long) follower->next);
	if (a67_http_respond_begin(conn, 200, headers, -1) != 0)
	{
		a67_http_conn_set_user(conn, NULL);
		leave(follower);
		(void) a67_http_respond_error(conn, 503, NULL, "out of memory");
		return;
	}
	if (req->method == A67_HTTP_HEAD)
		finish(follower, conn);
	else
		pump(follower, conn, a67_clock_now_ms());
}
