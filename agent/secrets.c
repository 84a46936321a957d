/*
 * secrets.c - where the files of secrets lie, and their replacement.  See secrets.h.
 *
 * /dev/shm is open to every user of the machine, so each directory is checked after it was made: ours,
 * and closed to others.  Everything below a directory is reached by descriptor, never through a link.
 */
#include "secrets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BASES		2
#define NODE_PREFIX "a67-"
#define SLACK_BYTES 262144 /* for directories, and a page for each file */
#define SWEEP_MAX	4096

static const char *
base(int i)
{
	return i == 0 ? "/dev/shm" : getenv("XDG_RUNTIME_DIR");
}

/* Whether it is a file system in memory with so much room. */
static bool
is_memory(const char *path, size_t bytes)
{
	struct statfs fs;

	if (path == NULL || path[0] != '/' || statfs(path, &fs) != 0)
		return false;
	return (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC) &&
		   (fs.f_type == RAMFS_MAGIC ||
			(uint64_t) fs.f_bavail * (uint64_t) fs.f_bsize >= (uint64_t) bytes + SLACK_BYTES);
}

/* A descriptor of a directory that is ours, for nobody else to write to and for no others to list; or -errno. */
static int
open_private(int at, const char *path)
{
	struct stat st;
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 026) == 0)
		return fd;
	(void) close(fd);
	return -EPERM;
}

static int
make_private(int at, const char *path)
{
	if (mkdirat(at, path, 0700) != 0 && errno != EEXIST)
		return -errno;
	return open_private(at, path);
}

/* Lets an application with a user of its own pass the directory (group 0), or look into it. */
static int
admit(int fd, gid_t group)
{
	if (group != 0 && fchown(fd, (uid_t) -1, group) != 0)
		return -errno;
	return fchmod(fd, group != 0 ? 0750 : 0711) == 0 ? 0 : -errno;
}

/* Makes <base>/a67-<node>/<replica>. */
static int
make_in_memory(const char *in, const A67SecretsPlace *place, char path[A67_SECRETS_PATH_SIZE])
{
	char parent[A67_SECRETS_PATH_SIZE];
	int n = snprintf(parent, sizeof(parent), "%s/" NODE_PREFIX "%s", in, place->node_id);
	int parent_fd;
	int fd;
	int err;

	if (n < 0 || (size_t) n + 1 + strlen(place->replica) >= sizeof(parent))
		return -ENAMETOOLONG;
	parent_fd = make_private(AT_FDCWD, parent);
	if (parent_fd < 0)
		return parent_fd;
	fd = make_private(parent_fd, place->replica);
	err = fd < 0 ? fd : 0;
	if (err == 0 && place->group != 0)
		err = admit(parent_fd, 0);
	if (err == 0 && place->group != 0)
		err = admit(fd, place->group);
	(void) close(parent_fd);
	if (fd >= 0)
		(void) close(fd);
	if (err != 0)
		return err;
	(void) snprintf(path, A67_SECRETS_PATH_SIZE, "%.*s/%s", n, parent, place->replica);
	return 0;
}

static int
make_in_state(const A67SecretsPlace *place, char path[A67_SECRETS_PATH_SIZE], A67Why *why)
{
	char name[A67_STATE_NAME_SIZE];
	int fd;
	int err;

	(void) snprintf(name, sizeof(name), "apps/%s", place->replica);
	if (mkdirat(place->dir->fd, name, 0700) != 0 && errno != EEXIST)
		return a67_why(why, -errno, "could not make \"%s\": %s", name, strerror(errno));
	(void) snprintf(name, sizeof(name), "apps/%s/secrets", place->replica);
	fd = make_private(place->dir->fd, name);
	err = fd < 0 ? fd : place->group != 0 ? admit(fd, place->group) : 0;
	if (fd >= 0)
		(void) close(fd);
	if (err != 0)
		return a67_why(why, err, "could not make \"%s\": %s", name, strerror(-err));
	(void) snprintf(path, A67_SECRETS_PATH_SIZE, "%s/%s", place->dir->path, name);
	return 0;
}

int
a67_secrets_choose(const A67SecretsPlace *place, size_t bytes, char path[A67_SECRETS_PATH_SIZE],
				   A67Why *why)
{
	for (int i = 0; i < BASES; i++)
	{
		if (is_memory(base(i), bytes) && make_in_memory(base(i), place, path) == 0)
			return 0;
	}
	return make_in_state(place, path, why);
}

static int
write_value(int dir_fd, const char *name, json_t *value)
{
	char temp[NAME_MAX + 1];
	const char *at = json_string_value(value);
	size_t left = json_string_length(value);
	struct stat st;
	int err = 0;
	int fd;

	/* No variable begins with a dot. */
	if (snprintf(temp, sizeof(temp), ".%s", name) >= (int) sizeof(temp))
		return -ENAMETOOLONG;
	fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* The directory's group is the application's, where it has one. */
	if (fstat(dir_fd, &st) != 0 ||
		((st.st_mode & 040) != 0 &&
		 (fchown(fd, (uid_t) -1, st.st_gid) != 0 || fchmod(fd, 0640) != 0)))
		err = -errno;
	while (left > 0 && err == 0)
	{
		ssize_t n = write(fd, at, left);

		if (n < 0 && errno != EINTR)
			err = -errno;
		at += n > 0 ? n : 0;
		left -= n > 0 ? (size_t) n : 0;
	}
	if (close(fd) != 0 && err == 0)
		err = -errno;
	if (err == 0 && renameat(dir_fd, temp, dir_fd, name) != 0)
		err = -errno;
	if (err != 0)
		(void) unlinkat(dir_fd, temp, 0);
	return err;
}

/* The directory and the one above it, made again where something has removed them. */
static int
open_place(const char *path)
{
	char parent[A67_SECRETS_PATH_SIZE];
	char *slash;
	int parent_fd;
	int fd;

	(void) snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (slash == NULL)
		return -EINVAL;
	*slash = '\0';
	parent_fd = make_private(AT_FDCWD, parent);
	if (parent_fd < 0)
		return parent_fd;
	fd = make_private(parent_fd, slash + 1);
	(void) close(parent_fd);
	return fd;
}

int
a67_secrets_write(const char *path, json_t *secrets, A67Why *why)
{
	const char *name;
	json_t *value;
	int fd = open_place(path);
	int err = fd < 0 ? fd : 0;

	json_object_foreach(secrets, name, value)
	{
		if (err == 0)
			err = write_value(fd, name, value);
	}
	if (fd >= 0)
		(void) close(fd);
	if (err != 0)
		return a67_why(why, err, "could not write files of secrets: %s", strerror(-err));
	return 0;
}

void
a67_secrets_remove(const char *path)
{
	char parent[A67_SECRETS_PATH_SIZE];
	int fd = path[0] != '\0' ? open_private(AT_FDCWD, path) : -ENOENT;
	char *slash;

	if (fd < 0)
		return;
	(void) close(fd);
	a67_directory_remove(path);
	(void) snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (slash == NULL)
		return;
	*slash = '\0';
	slash = strrchr(parent, '/');
	/* The node's own directory goes with the last replica in it. */
	if (slash != NULL && strncmp(slash + 1, NODE_PREFIX, strlen(NODE_PREFIX)) == 0)
		(void) rmdir(parent);
}

static void
sweep_base(const char *parent, bool (*keep)(void *arg, const char *path), void *arg)
{
	char path[A67_SECRETS_PATH_SIZE + NAME_MAX + 2];
	int fd = open_private(AT_FDCWD, parent);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *item;

	if (dir == NULL)
	{
		if (fd >= 0)
			(void) close(fd);
		return;
	}
	for (int i = 0; i < SWEEP_MAX && (item = readdir(dir)) != NULL; i++)
	{
		(void) snprintf(path, sizeof(path), "%s/%s", parent, item->d_name);
		if (item->d_name[0] != '.' && strlen(path) < A67_SECRETS_PATH_SIZE && !keep(arg, path))
			a67_secrets_remove(path);
	}
	(void) closedir(dir);
}

void
a67_secrets_sweep(const char *node_id, bool (*keep)(void *arg, const char *path), void *arg)
{
	char parent[A67_SECRETS_PATH_SIZE];

	for (int i = 0; i < BASES; i++)
	{
		if (base(i) == NULL || base(i)[0] != '/')
			continue;
		if (snprintf(parent, sizeof(parent), "%s/" NODE_PREFIX "%s", base(i), node_id) <
			(int) sizeof(parent))
			sweep_base(parent, keep, arg);
	}
}
