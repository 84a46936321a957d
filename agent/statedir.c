/*
 * statedir.c - lock, durable replacement, quarantine and removal of the agent's files.
 *
 * Removal of trees is cut into steps, because the loop that calls it must not stand still for the
 * fifty thousand files that an application may have left.  See statedir.h.
 */
#include "statedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LOCK_POLL_MS 20
#define TRASH_TRIES	 64

static const char *const parts[] = {"replicas", "apps", "cache", "logs", "trash"};

/* mkdir -p; only the last directory gets 0700 of us. */
static int
make_path(const char *path)
{
	char step[A67_STATE_PATH_SIZE];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(step))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= len; i++)
	{
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(step, path, i);
		step[i] = '\0';
		if (mkdir(step, path[i] == '\0' ? 0700 : 0755) != 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int
take_lock(A67StateDir *dir, int wait_ms)
{
	dir->lock_fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (dir->lock_fd < 0)
		return -errno;
	for (int waited = 0;; waited += LOCK_POLL_MS)
	{
		if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (waited >= wait_ms)
			return -EAGAIN;
		(void) poll(NULL, 0, LOCK_POLL_MS);
	}
}

static int
check_owner(const A67StateDir *dir, A67Why *why)
{
	struct stat st;

	if (fstat(dir->fd, &st) != 0)
		return a67_why(why, -errno, "could not examine state directory \"%s\": %s", dir->path,
					   strerror(errno));
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return a67_why(why, -EPERM, "state directory \"%s\" belongs to or is writable by others",
					   dir->path);
	return 0;
}

int
a67_statedir_open(A67StateDir *dir, const char *path, int wait_ms, A67Why *why)
{
	char real[PATH_MAX];
	int err;

	dir->fd = dir->lock_fd = -1;
	err = make_path(path);
	if (err != 0)
		return a67_why(why, err, "could not make state directory \"%s\": %s", path, strerror(-err));
	if (realpath(path, real) == NULL || strlen(real) >= sizeof(dir->path))
		return a67_why(why, -ENAMETOOLONG, "cannot use state directory \"%s\"", path);
	memcpy(dir->path, real, strlen(real) + 1);
	dir->fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd < 0)
		return a67_why(why, -errno, "could not open state directory \"%s\": %s", real,
					   strerror(errno));
	err = check_owner(dir, why);
	if (err != 0)
		return err;
	err = take_lock(dir, wait_ms);
	if (err == -EAGAIN)
		return a67_why(why, err, "another agent uses state directory \"%s\"", real);
	if (err != 0)
		return a67_why(why, err, "could not lock state directory \"%s\": %s", real, strerror(-err));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
	{
		if (mkdirat(dir->fd, parts[i], 0700) != 0 && errno != EEXIST)
			return a67_why(why, -errno, "could not make \"%s/%s\": %s", real, parts[i],
						   strerror(errno));
	}
	return 0;
}

void
a67_statedir_close(A67StateDir *dir)
{
	if (dir->lock_fd > 0)
		(void) close(dir->lock_fd);
	if (dir->fd > 0)
		(void) close(dir->fd);
	dir->fd = dir->lock_fd = -1;
}

int
a67_write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0)
	{
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t) n;
	}
	return 0;
}

/* Makes the rename of name itself durable. */
static int
sync_parent(const A67StateDir *dir, const char *name)
{
	char parent[A67_STATE_NAME_SIZE];
	const char *slash = strchr(name, '/');
	int fd;
	int err = 0;

	if (slash == NULL)
		return fsync(dir->fd) == 0 ? 0 : -errno;
	(void) snprintf(parent, sizeof(parent), "%.*s", (int) (slash - name), name);
	fd = openat(dir->fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0)
		err = -errno;
	(void) close(fd);
	return err;
}

int
a67_statedir_write(const A67StateDir *dir, const char *name, const void *bytes, size_t len,
				   A67Why *why)
{
	char temp[A67_STATE_NAME_SIZE + 8];
	int fd;
	int err;

	(void) snprintf(temp, sizeof(temp), "%s.tmp", name);
	fd = openat(dir->fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return a67_why(why, -errno, "could not create \"%s\": %s", temp, strerror(errno));
	err = a67_write_all(fd, bytes, len);
	if (err == 0 && fsync(fd) != 0)
		err = -errno;
	if (close(fd) != 0 && err == 0)
		err = -errno;
	if (err == 0 && renameat(dir->fd, temp, dir->fd, name) != 0)
		err = -errno;
	if (err == 0)
		err = sync_parent(dir, name);
	if (err != 0)
	{
		(void) unlinkat(dir->fd, temp, 0);
		return a67_why(why, err, "could not write \"%s\": %s", name, strerror(-err));
	}
	return 0;
}

int
a67_statedir_overwrite(const A67StateDir *dir, const char *name, const void *bytes, size_t len,
					   A67Why *why)
{
	int fd = openat(dir->fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	int err;

	if (fd < 0)
		return a67_why(why, -errno, "could not open \"%s\": %s", name, strerror(errno));
	err = a67_write_all(fd, bytes, len);
	if (err == 0 && (ftruncate(fd, (off_t) len) != 0 || fsync(fd) != 0))
		err = -errno;
	if (close(fd) != 0 && err == 0)
		err = -errno;
	if (err != 0)
		return a67_why(why, err, "could not write \"%s\": %s", name, strerror(-err));
	return 0;
}

bool
a67_statedir_has_room(const A67StateDir *dir, int64_t bytes)
{
	struct statvfs fs;

	if (fstatvfs(dir->fd, &fs) != 0)
		return true;
	return (int64_t) fs.f_bavail * (int64_t) fs.f_frsize >= bytes;
}

int
a67_statedir_read(const A67StateDir *dir, const char *name, A67Buf *out, A67Why *why)
{
	int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int err = 0;

	if (fd < 0)
		return a67_why(why, -errno, "could not open \"%s\": %s", name, strerror(errno));
	for (;;)
	{
		size_t room = a67_buf_room(out);
		ssize_t n;

		if (room == 0)
		{
			err = -EFBIG;
			break;
		}
		if (room > 4096)
			room = 4096;
		if (!a67_buf_reserve(out, room))
		{
			err = -ENOMEM;
			break;
		}
		n = read(fd, out->data + out->len, room);
		if (n == 0)
			break;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			err = -errno;
			break;
		}
		a67_buf_commit(out, (size_t) n);
	}
	(void) close(fd);
	if (err != 0)
		return a67_why(why, err, "could not read \"%s\": %s", name, strerror(-err));
	return 0;
}

void
a67_statedir_quarantine(const A67StateDir *dir, const char *name, const char *why)
{
	char aside[A67_STATE_NAME_SIZE + 16];

	(void) snprintf(aside, sizeof(aside), "%s.corrupt", name);
	if (renameat(dir->fd, name, dir->fd, aside) == 0)
		a67_log(A67_LOG_ERROR, "state file \"%s\" put aside as \"%s\": %s", name, aside, why);
	else
		a67_log(A67_LOG_ERROR, "could not put state file \"%s\" aside: %s", name, strerror(errno));
}

void
a67_statedir_remove(const A67StateDir *dir, const char *name)
{
	if (unlinkat(dir->fd, name, 0) != 0 && errno != ENOENT)
		a67_log(A67_LOG_WARNING, "could not remove \"%s\": %s", name, strerror(errno));
}

int
a67_trash_put(const A67StateDir *dir, const char *name)
{
	char target[64];

	for (unsigned int i = 0; i < TRASH_TRIES; i++)
	{
		(void) snprintf(target, sizeof(target), "trash/%lx.%u", (unsigned long) getpid(), i);
		if (renameat2(dir->fd, name, dir->fd, target, RENAME_NOREPLACE) == 0 || errno == ENOENT)
			return 0;
		if (errno != EEXIST)
			break;
		/* All names may be taken while removal lags behind: make room, then look again. */
		if (i == TRASH_TRIES - 1)
			(void) a67_trash_step(dir, 4096);
	}
	a67_log(A67_LOG_WARNING, "could not move \"%s\" to the trash: %s", name, strerror(errno));
	return -errno;
}

/* One entry of the walk; directories are removed on the way back. */
static void
remove_entry(FTS *walk, FTSENT *entry)
{
	switch (entry->fts_info)
	{
		case FTS_D:
			/* An application may have taken our own permission away. */
			if ((entry->fts_statp->st_mode & S_IRWXU) != S_IRWXU)
				(void) chmod(entry->fts_accpath, 0700);
			break;
		case FTS_DNR:
			if (entry->fts_number++ == 0 && chmod(entry->fts_accpath, 0700) == 0)
				(void) fts_set(walk, entry, FTS_AGAIN);
			break;
		case FTS_DP:
			if (entry->fts_level > 0)
				(void) rmdir(entry->fts_accpath);
			break;
		default:
			(void) unlink(entry->fts_accpath);
			break;
	}
}

void
a67_directory_remove(const char *path)
{
	char *const roots[] = {(char *) path, NULL};
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	FTSENT *entry;

	while (walk != NULL && (entry = fts_read(walk)) != NULL)
	{
		if (entry->fts_info == FTS_DP)
			(void) rmdir(entry->fts_accpath);
		else if (entry->fts_info != FTS_D)
			(void) unlink(entry->fts_accpath);
	}
	if (walk != NULL)
		(void) fts_close(walk);
}

bool
a67_trash_step(const A67StateDir *dir, int entries)
{
	char path[A67_STATE_PATH_SIZE + 16];
	char *roots[] = {path, NULL};
	FTS *walk;
	FTSENT *entry;
	int done = 0;

	(void) snprintf(path, sizeof(path), "%s/trash", dir->path);
	walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	if (walk == NULL)
		return false;
	while (done < entries && (entry = fts_read(walk)) != NULL)
	{
		if (entry->fts_level == 0)
			continue;
		remove_entry(walk, entry);
		done++;
	}
	(void) fts_close(walk);
	return done >= entries;
}
