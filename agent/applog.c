/*
 * applog.c - bounded logs of applications.  See applog.h.
 */
#include "applog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define COPY_BYTES 65536

static void
log_name(const char *replica, const char *suffix, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "logs/%s.log%s", replica, suffix);
}

static int
open_log(const A67StateDir *dir, const char *replica, const char *suffix, int flags)
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
	return open_log(dir, replica, "", O_WRONLY | O_CREAT | O_APPEND);
}

/* Copies [from, to) of one file to the end of another; stops at the first fault. */
static void
copy_range(int in, int out, off_t from, off_t to)
{
	char chunk[COPY_BYTES];

	while (from < to)
	{
		size_t want = to - from < (off_t) sizeof(chunk) ? (size_t) (to - from) : sizeof(chunk);
		ssize_t n = pread(in, chunk, want, from);

		if (n <= 0 || write(out, chunk, (size_t) n) != n)
			return;
		from += n;
	}
}

void
a67_applog_check(const A67StateDir *dir, const char *replica)
{
	struct stat st;
	int in = open_log(dir, replica, "", O_RDWR);
	int out;

	if (in < 0)
		return;
	if (fstat(in, &st) == 0 && st.st_size > A67_APPLOG_MAX_BYTES)
	{
		out = open_log(dir, replica, ".1", O_WRONLY | O_CREAT | O_TRUNC);
		if (out >= 0)
		{
			copy_range(in, out, st.st_size - A67_APPLOG_MAX_BYTES, st.st_size);
			(void) close(out);
		}
		if (ftruncate(in, 0) != 0)
			a67_log(A67_LOG_WARNING, "could not cut the log of replica %s", replica);
	}
	(void) close(in);
}

/* Appends the last `bytes` of one file; returns how many there were, or -errno. */
static ssize_t
tail_file(const A67StateDir *dir, const char *replica, const char *suffix, size_t bytes,
		  A67Buf *out)
{
	struct stat st;
	int fd = open_log(dir, replica, suffix, O_RDONLY);
	ssize_t n = 0;

	if (fd < 0)
		return fd;
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
	return n;
}

int
a67_applog_tail(const A67StateDir *dir, const char *replica, size_t bytes, A67Buf *out)
{
	struct stat st;
	char name[A67_STATE_NAME_SIZE];
	ssize_t n;

	if (bytes > a67_buf_room(out))
		bytes = a67_buf_room(out);
	log_name(replica, "", name);
	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	/* Just after a rotation the end of the older file is the better part of the answer. */
	if (st.st_size < (off_t) bytes)
		(void) tail_file(dir, replica, ".1", bytes - (size_t) st.st_size, out);
	n = tail_file(dir, replica, "", bytes - out->len < bytes ? bytes - out->len : bytes, out);
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

	log_name(replica, "", name);
	a67_statedir_remove(dir, name);
	log_name(replica, ".1", name);
	a67_statedir_remove(dir, name);
}
