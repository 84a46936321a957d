/*
 * chunk.c - the chunk store as a whole, and reading it: figures, listings, what is put aside.  See chunk.h.
 *
 * What is counted is what was counted at the start plus what happened since; a directory that the count
 * has not reached yet changes nothing in the figures.
 */
#include "chunk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <dirent.h>

#define RESERVE_PERCENT	  10
#define RESERVE_MAX_BYTES (UINT64_C(2) << 30)
/* Fraction of a second of a modification time that says "verified"; survives a resolution of 1 us. */
#define MARK_NS			  670067000

void
a67_chunk_dir_name(int dir, char out[A67_CHUNK_PATH_SIZE])
{
	if (dir == A67_CHUNK_ROTTEN)
		(void) snprintf(out, A67_CHUNK_PATH_SIZE, "rotten");
	else
		(void) snprintf(out, A67_CHUNK_PATH_SIZE, "%02x", (unsigned) dir);
}

void
a67_chunk_file_name(int dir, const uint8_t *digest, char out[A67_CHUNK_PATH_SIZE])
{
	size_t len;

	a67_chunk_dir_name(dir, out);
	len = strlen(out);
	out[len++] = '/';
	(void) a67_hex_encode(digest, A67_CHUNK_DIGEST_BYTES, out + len, A67_CHUNK_PATH_SIZE - len);
}

bool
a67_chunk_parse(const char *text, size_t len, uint8_t digest[A67_CHUNK_DIGEST_BYTES])
{
	for (size_t i = 0; i < len; i++)
		if (text[i] >= 'A' && text[i] <= 'F')
			return false;
	return a67_hex_decode(text, len, digest, A67_CHUNK_DIGEST_BYTES);
}

/* ---- the store as a whole ---- */

int
a67_chunk_open_dir(const A67ChunkStore *store, int dir)
{
	char name[A67_CHUNK_PATH_SIZE];

	a67_chunk_dir_name(dir, name);
	return openat(store->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* What was coming in when an agent ended. */
static int
remove_temps(const A67ChunkStore *store)
{
	int fd = openat(store->fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (entries == NULL)
	{
		int err = -errno;

		if (fd >= 0)
			(void) close(fd);
		return err;
	}
	while ((entry = readdir(entries)) != NULL)
		if (entry->d_name[0] != '.')
			(void) unlinkat(fd, entry->d_name, 0);
	(void) closedir(entries);
	return 0;
}

static int
make_dirs(A67ChunkStore *store, const A67StateDir *dir)
{
	if (mkdirat(dir->fd, "chunks", 0700) != 0 && errno != EEXIST)
		return -errno;
	store->fd = openat(dir->fd, "chunks", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (store->fd < 0)
		return -errno;
	if ((mkdirat(store->fd, "tmp", 0700) != 0 && errno != EEXIST) ||
		(mkdirat(store->fd, "rotten", 0700) != 0 && errno != EEXIST))
		return -errno;
	return fsync(store->fd) == 0 && fsync(dir->fd) == 0 ? 0 : -errno;
}

static void
skip_absent(A67ChunkStore *store)
{
	while (store->counted < A67_CHUNK_ROTTEN && !store->present[store->counted])
		store->counted++;
}

int
a67_chunk_open(A67ChunkStore *store, const A67StateDir *dir, int64_t quota, A67Why *why)
{
	struct statvfs fs = {0};
	uint64_t disk;
	int err;

	memset(store, 0, sizeof(*store));
	store->fd = -1;
	err = make_dirs(store, dir);
	if (err == 0)
		err = remove_temps(store);
	if (err == 0 && fstatvfs(store->fd, &fs) != 0)
		err = -errno;
	if (err != 0)
	{
		a67_chunk_close(store);
		return a67_why(why, err, "could not open the chunk store \"%s/chunks\": %s", dir->path,
					   strerror(-err));
	}
	disk = (uint64_t) fs.f_blocks * fs.f_frsize;
	store->reserve_bytes = disk / 100 * RESERVE_PERCENT;
	if (store->reserve_bytes > RESERVE_MAX_BYTES)
		store->reserve_bytes = RESERVE_MAX_BYTES;
	store->quota_bytes = quota >= 0 ? (uint64_t) quota : disk / 100 * (uint64_t) -quota;
	for (int i = 0; i <= A67_CHUNK_FANOUT; i++)
	{
		char name[A67_CHUNK_PATH_SIZE];

		a67_chunk_dir_name(i, name);
		store->present[i] = faccessat(store->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	}
	skip_absent(store);
	/* Without chunks there is nothing to wait for. */
	if (store->counted == A67_CHUNK_ROTTEN)
		(void) a67_chunk_count(store);
	return 0;
}

void
a67_chunk_close(A67ChunkStore *store)
{
	if (store->fd >= 0)
		(void) close(store->fd);
	store->fd = -1;
}

void
a67_chunk_account(A67ChunkStore *store, int dir, uint64_t size, bool added)
{
	uint64_t *number = dir == A67_CHUNK_ROTTEN ? &store->rotten : &store->count;

	if (dir >= store->counted)
		return;
	*number += added ? 1 : (uint64_t) -1;
	store->bytes += added ? size : (uint64_t) -size;
}

bool
a67_chunk_count(A67ChunkStore *store)
{
	int dir = store->counted;
	int fd;
	DIR *entries;
	const struct dirent *entry;

	if (dir > A67_CHUNK_ROTTEN)
		return false;
	store->counted++;
	fd = a67_chunk_open_dir(store, dir);
	entries = fd >= 0 ? fdopendir(fd) : NULL;
	while (entries != NULL && (entry = readdir(entries)) != NULL)
	{
		uint8_t digest[A67_CHUNK_DIGEST_BYTES];
		struct stat st;

		if (a67_chunk_parse(entry->d_name, strlen(entry->d_name), digest) &&
			fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			a67_chunk_account(store, dir, (uint64_t) st.st_size, true);
	}
	if (entries != NULL)
		(void) closedir(entries);
	else if (fd >= 0)
		(void) close(fd);
	skip_absent(store);
	return store->counted <= A67_CHUNK_ROTTEN;
}

/* ---- reading ---- */

int64_t
a67_chunk_mark(const struct stat *st)
{
	return st->st_mtim.tv_nsec == MARK_NS && st->st_mtim.tv_sec > 0 ? st->st_mtim.tv_sec : 0;
}

void
a67_chunk_set_mark(int fd, int64_t now_s)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
									  {.tv_sec = now_s, .tv_nsec = MARK_NS}};

	/* Where it cannot be written, the chunk is hashed more often than it need be. */
	(void) futimens(fd, times);
}

int
a67_chunk_read(const A67ChunkStore *store, const uint8_t digest[A67_CHUNK_DIGEST_BYTES],
			   A67ChunkFile *out)
{
	char name[A67_CHUNK_PATH_SIZE];
	struct stat st;
	int err;

	a67_chunk_file_name(digest[0], digest, name);
	out->fd = openat(store->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (out->fd < 0)
	{
		err = -errno;
		a67_chunk_file_name(A67_CHUNK_ROTTEN, digest, name);
		if (err == -ENOENT && faccessat(store->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			err = -EBADMSG;
		return err;
	}
	err = fstat(out->fd, &st) != 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -ENOENT;
	if (err != 0)
	{
		(void) close(out->fd);
		out->fd = -1;
		return err;
	}
	out->size = (uint64_t) st.st_size;
	out->verified_s = a67_chunk_mark(&st);
	return 0;
}

bool
a67_chunk_set_aside(A67ChunkStore *store, const uint8_t digest[A67_CHUNK_DIGEST_BYTES],
					const struct stat *seen, const char *why)
{
	char name[A67_CHUNK_PATH_SIZE];
	char aside[A67_CHUNK_PATH_SIZE];
	struct stat old = {0};
	struct stat st;
	bool replaces;

	a67_chunk_file_name(digest[0], digest, name);
	a67_chunk_file_name(A67_CHUNK_ROTTEN, digest, aside);
	replaces = fstatat(store->fd, aside, &old, AT_SYMLINK_NOFOLLOW) == 0;
	if (fstatat(store->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_ino != seen->st_ino)
		return false;
	if (renameat(store->fd, name, store->fd, aside) != 0)
	{
		a67_log(A67_LOG_ERROR, "chunk %.64s is rotten (%s) and could not be put aside: %s",
				strchr(name, '/') + 1, why, strerror(errno));
		return true;
	}
	a67_log(A67_LOG_ERROR, "chunk %.64s is rotten and put aside: %s", strchr(name, '/') + 1, why);
	if (replaces)
		a67_chunk_account(store, A67_CHUNK_ROTTEN, (uint64_t) old.st_size, false);
	a67_chunk_account(store, digest[0], (uint64_t) st.st_size, false);
	a67_chunk_account(store, A67_CHUNK_ROTTEN, (uint64_t) st.st_size, true);
	/* A crash may bring it back; then it is found again. */
	store->dirty[digest[0]] = store->dirty[A67_CHUNK_ROTTEN] = 1;
	store->changed = true;
	return true;
}

static int
compare_digests(const void *left, const void *right)
{
	return memcmp(left, right, A67_CHUNK_DIGEST_BYTES);
}

typedef struct Names
{
	uint8_t (*digests)[A67_CHUNK_DIGEST_BYTES];
	size_t count;
	size_t room;
} Names;

static bool
add_name(Names *names, const uint8_t *digest)
{
	if (names->count == names->room)
	{
		size_t room = names->room == 0 ? 512 : 2 * names->room;
		void *grown = realloc(names->digests, room * A67_CHUNK_DIGEST_BYTES);

		if (grown == NULL)
			return false;
		names->digests = grown;
		names->room = room;
	}
	memcpy(names->digests[names->count++], digest, A67_CHUNK_DIGEST_BYTES);
	return true;
}

/* The digests behind `after` in one directory, in order. */
static int
read_names(DIR *entries, int dir, const uint8_t *after, Names *names)
{
	const struct dirent *entry;

	while ((entry = readdir(entries)) != NULL)
	{
		uint8_t digest[A67_CHUNK_DIGEST_BYTES];

		if (!a67_chunk_parse(entry->d_name, strlen(entry->d_name), digest) ||
			(dir != A67_CHUNK_ROTTEN && digest[0] != dir) ||
			(after != NULL && memcmp(digest, after, sizeof(digest)) <= 0))
			continue;
		if (!add_name(names, digest))
			return -ENOMEM;
	}
	if (names->count > 0)
		qsort(names->digests, names->count, A67_CHUNK_DIGEST_BYTES, compare_digests);
	return 0;
}

int
a67_chunk_list(const A67ChunkStore *store, int dir, const uint8_t *after, A67ChunkItem *items,
			   size_t max)
{
	Names names = {0};
	size_t found = 0;
	int fd = store->present[dir] ? a67_chunk_open_dir(store, dir) : -1;
	DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
	int err;

	if (entries == NULL)
	{
		err = !store->present[dir] || errno == ENOENT ? 0 : -errno;
		if (fd >= 0)
			(void) close(fd);
		return err;
	}
	err = read_names(entries, dir, after, &names);
	for (size_t i = 0; err == 0 && i < names.count && found < max; i++)
	{
		char name[A67_CHUNK_NAME_SIZE];
		struct stat st;

		(void) a67_hex_encode(names.digests[i], A67_CHUNK_DIGEST_BYTES, name, sizeof(name));
		/* It may have gone since. */
		if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
			continue;
		memcpy(items[found].digest, names.digests[i], A67_CHUNK_DIGEST_BYTES);
		items[found].size = (uint64_t) st.st_size;
		items[found++].verified_s = a67_chunk_mark(&st);
	}
	free(names.digests);
	(void) closedir(entries);
	return err != 0 ? err : (int) found;
}
