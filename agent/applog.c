/*
 * applog.c - one application's log file and its record.  See applog.h.
 *
 * The record is written in place, without a sync: it is short enough to be whole after a kill, and what a
 * power failure does to it the controller's answer puts right.  It is written before a hole is made, so
 * that an offset that the record still offers never reads as zeros.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "applog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "core/pace.h"

#define BLOCK_BYTES	  4096
#define RECORD_SIZE	  128
#define RECORD		  "a67log 1 %020" PRId64 " %020" PRId64 " %020" PRId64 " %020" PRId64 "\n"
#define RECORD_SCAN	  "a67log 1 %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
#define FILE_MAX	  (INT64_C(1) << 42) /* file systems end between 2 and 16 TB */
#define MARK_LEAST_MS 200

static void
log_name(const char *replica, const char *suffix, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "logs/%s.%s", replica, suffix);
}

static int
open_part(const A67StateDir *dir, const char *replica, const char *suffix, int flags)
{
	char name[A67_STATE_NAME_SIZE];
	int fd;

	log_name(replica, suffix, name);
	fd = openat(dir->fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int
a67_applog_open(const A67StateDir *dir, const char *replica)
{
	return open_part(dir, replica, "log", O_WRONLY | O_CREAT | O_APPEND);
}

int
a67_applog_open_read(const A67StateDir *dir, const char *replica)
{
	return open_part(dir, replica, "log", O_RDONLY);
}

int
a67_applog_tail(const A67StateDir *dir, const char *replica, size_t bytes, A67Buf *out)
{
	struct stat st;
	int fd = a67_applog_open_read(dir, replica);
	ssize_t n = 0;

	if (fd < 0)
		return fd;
	if (bytes > a67_buf_room(out))
		bytes = a67_buf_room(out);
	if (fstat(fd, &st) != 0)
		n = -errno;
	else if ((off_t) bytes > st.st_size)
		bytes = (size_t) st.st_size;
	if (n == 0 && bytes > 0)
	{
		if (!a67_buf_reserve(out, bytes))
			n = -ENOMEM;
		else
			n = pread(fd, out->data + out->len, bytes, st.st_size - (off_t) bytes);
	}
	if (n > 0)
		a67_buf_commit(out, (size_t) n);
	(void) close(fd);
	return n < 0 ? (int) n : 0;
}

void
a67_applog_note(const A67StateDir *dir, const char *replica, const char *text)
{
	char at[A67_TIME_SIZE];
	int fd = a67_applog_open(dir, replica);

	if (fd < 0)
		return;
	a67_clock_format(a67_clock_wall_ms(), at);
	(void) dprintf(fd, "-- %s a67-agent: %s\n", at, text);
	(void) close(fd);
}

void
a67_applog_remove(const A67StateDir *dir, const char *replica)
{
	char name[A67_STATE_NAME_SIZE];

	log_name(replica, "log", name);
	a67_statedir_remove(dir, name);
	log_name(replica, "pos", name);
	a67_statedir_remove(dir, name);
}

/* ---- the record ---- */

/* sync: the offsets of bytes that stay have changed. */
static void
save(const A67StateDir *dir, const A67AppLog *log, bool sync)
{
	char text[RECORD_SIZE];
	int fd = open_part(dir, log->id, "pos", O_WRONLY | O_CREAT);
	int len = snprintf(text, sizeof(text), RECORD, log->base, log->start, log->acked, log->dropped);

	if (fd < 0 || pwrite(fd, text, (size_t) len, 0) != len || (sync && fsync(fd) != 0))
		a67_log(A67_LOG_DEBUG, "could not record the log of replica %s: %s", log->id,
				strerror(fd < 0 ? -fd : errno));
	if (fd >= 0)
		(void) close(fd);
}

static void
load_record(const A67StateDir *dir, A67AppLog *log)
{
	char text[RECORD_SIZE + 1];
	int fd = open_part(dir, log->id, "pos", O_RDONLY);
	ssize_t n = fd >= 0 ? pread(fd, text, RECORD_SIZE, 0) : -1;

	if (fd >= 0)
		(void) close(fd);
	if (n < 0)
		return;
	text[n] = '\0';
	if (sscanf(text, RECORD_SCAN, &log->base, &log->start, &log->acked, &log->dropped) == 4 &&
		log->base >= 0 && log->start >= log->base && log->acked >= 0 && log->dropped >= 0)
		return;
	a67_log(A67_LOG_WARNING, "the record of the log of replica %s cannot be read: it begins anew",
			log->id);
	log->base = log->start = log->acked = log->dropped = 0;
}

/* All offsets grow by that much. */
static void
shift(const A67StateDir *dir, A67AppLog *log, int64_t by)
{
	log->base += by;
	log->start += by;
	log->end += by;
	for (int i = 0; i < log->mark_count; i++)
		log->marks[i].offset += by;
	save(dir, log, true);
}

/* ---- looking ---- */

static void
add_mark(A67AppLog *log, int64_t wall_ms, int64_t offset)
{
	if (log->mark_count > 0 && wall_ms - log->marks[log->mark_count - 1].wall_ms < MARK_LEAST_MS &&
		wall_ms >= log->marks[log->mark_count - 1].wall_ms)
		return;
	if (log->mark_count == A67_LOG_MARKS)
	{
		/* Every second one of the older half: what is new is known best. */
		int kept = 0;

		for (int i = 0; i < A67_LOG_MARKS; i++)
			if (i >= A67_LOG_MARKS / 2 || i % 2 == 0)
				log->marks[kept++] = log->marks[i];
		log->mark_count = kept;
	}
	log->marks[log->mark_count++] = (A67LogMark){wall_ms, offset};
}

void
a67_applog_load(const A67StateDir *dir, A67AppLog *log, const char *replica)
{
	struct stat st;
	char name[A67_STATE_NAME_SIZE];

	memset(log, 0, sizeof(*log));
	(void) snprintf(log->id, sizeof(log->id), "%s", replica);
	log->gone_ms = A67_NEVER;
	load_record(dir, log);
	log_name(replica, "log", name);
	log->end = log->base;
	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
	{
		log->end += st.st_size;
		log->grown_ms = (int64_t) st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	}
	if (log->start > log->end)
		log->start = log->end;
	/* The disk has forgotten what the controller has: what comes now is new. */
	if (log->acked > log->end)
		shift(dir, log, log->acked - log->end);
	if (log->end > log->start)
		add_mark(log, log->grown_ms, log->start);
}

bool
a67_applog_look(const A67StateDir *dir, A67AppLog *log, int64_t wall_ms)
{
	struct stat st;
	char name[A67_STATE_NAME_SIZE];
	int64_t end;

	log_name(log->id, "log", name);
	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	end = log->base + st.st_size;
	if (end < log->end)
	{
		/* Somebody has cut it. */
		log->base = log->start = log->end;
		end = log->base + st.st_size;
		save(dir, log, true);
	}
	if (end == log->end)
		return false;
	add_mark(log, wall_ms, log->end);
	log->grown_ms = wall_ms;
	log->end = end;
	return true;
}

/* ---- giving up ---- */

/* The whole file goes, whatever was asked for: the file system knows no holes, or nears its limit. */
static void
cut(const A67StateDir *dir, A67AppLog *log)
{
	int fd = open_part(dir, log->id, "log", O_WRONLY);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && ftruncate(fd, 0) == 0)
	{
		log->end = log->base + st.st_size;
		log->base = log->start = log->end;
		save(dir, log, true);
	}
	else
		a67_log(A67_LOG_WARNING, "could not cut the log of replica %s: %s", log->id,
				strerror(errno));
	(void) close(fd);
}

static void
punch(const A67StateDir *dir, A67AppLog *log, int64_t from)
{
	int fd = open_part(dir, log->id, "log", O_WRONLY);

	if (fd < 0)
		return;
	/* From the very beginning: a hole that was announced and not made is made now. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, from - log->base) != 0)
	{
		log->no_holes = errno == EOPNOTSUPP || errno == ENOSYS;
		if (!log->no_holes)
			a67_log(A67_LOG_WARNING, "could not give up output of replica %s: %s", log->id,
					strerror(errno));
	}
	(void) close(fd);
}

bool
a67_applog_trim(const A67StateDir *dir, A67AppLog *log, int64_t from)
{
	bool cuts = log->no_holes || log->end - log->base > FILE_MAX;

	from = log->base + (from - log->base) / BLOCK_BYTES * BLOCK_BYTES;
	if (from - log->start < A67_LOG_GRAIN_BYTES)
		return false;
	if (cuts)
	{
		cut(dir, log);
		from = log->start;
	}
	log->start = from;
	save(dir, log, false);
	if (!cuts)
		punch(dir, log, from);
	return true;
}

/* Sending changes nothing, so that the count never falls: a gap in front of what is on its way stays one. */
int64_t
a67_applog_dropped(const A67AppLog *log)
{
	int64_t had = log->acked;
	int64_t dropped = log->dropped;

	if (log->sent_to > had)
	{
		if (log->sent_from > had)
			dropped += log->sent_from - had;
		had = log->sent_to;
	}
	return dropped + (log->start > had ? log->start - had : 0);
}

/* ---- reading ---- */

ssize_t
a67_applog_read(const A67AppLog *log, int fd, int64_t offset, void *out, size_t size)
{
	ssize_t n;

	if (offset < log->start)
		return -ESTALE;
	do
		n = pread(fd, out, size, (off_t) (offset - log->base));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

void
a67_applog_ack(const A67StateDir *dir, A67AppLog *log, int64_t next)
{
	int64_t mine = log->acked < log->end ? log->acked : log->end;

	if (mine < log->start)
		mine = log->start;
	if (next == log->acked)
		return;
	if (log->sent_to > 0 && log->sent_from > log->acked && next > log->sent_from)
		log->dropped += log->sent_from - log->acked;
	log->acked = next;
	if (next > log->end)
		shift(dir, log, next - mine);
	else
		save(dir, log, false);
}

int64_t
a67_applog_since(const A67AppLog *log, int64_t wall_ms)
{
	int64_t from = log->start;

	if (log->grown_ms < wall_ms)
		return log->end;
	for (int i = 0; i < log->mark_count && log->marks[i].wall_ms < wall_ms; i++)
		if (log->marks[i].offset > from)
			from = log->marks[i].offset;
	return from;
}

int64_t
a67_applog_seen_ms(const A67AppLog *log, int64_t offset)
{
	int64_t wall_ms = log->grown_ms;

	for (int i = log->mark_count - 1; i >= 0; i--)
	{
		wall_ms = log->marks[i].wall_ms;
		if (log->marks[i].offset <= offset)
			break;
	}
	return wall_ms;
}
