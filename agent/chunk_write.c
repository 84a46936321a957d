/*
 * chunk_write.c - chunks coming in, becoming durable in groups, going.  See chunk.h.
 *
 * A group is what one turn of the loop has brought: the contents are sent to the disk side by side, and
 * each directory is synced once for all names in it that came or went.
 */
#include "chunk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <openssl/evp.h>

/* Bytes after which what has come is sent on its way to the disk, so that little is left to be synced. */
#define WRITE_BEHIND (UINT64_C(1) << 20)

struct A67ChunkWriter
{
	A67ChunkStore *store;
	int fd; /* of the temporary file; -1: the bytes are only compared */
	uint32_t serial;
	uint64_t size;
	uint64_t written;
	uint64_t behind;   /* bytes on their way to the disk */
	uint64_t promised; /* in the store's figures */
	EVP_MD_CTX *hash;
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
};

static void
temp_name(uint32_t serial, char out[A67_CHUNK_PATH_SIZE])
{
	(void) snprintf(out, A67_CHUNK_PATH_SIZE, "tmp/%08x", serial);
}

/* ---- writing ---- */

static int
check_room(const A67ChunkStore *store, uint64_t size)
{
	struct statvfs fs;

	if (store->counted <= A67_CHUNK_FANOUT)
		return -EAGAIN;
	if (store->bytes + store->promised_bytes + size > store->quota_bytes)
		return -EDQUOT;
	if (fstatvfs(store->fd, &fs) != 0)
		return -errno;
	return (uint64_t) fs.f_bavail * fs.f_frsize <
				   store->reserve_bytes + store->promised_bytes + size
			   ? -ENOSPC
			   : 0;
}

static int
open_temp(A67ChunkWriter *writer)
{
	A67ChunkStore *store = writer->store;
	char temp[A67_CHUNK_PATH_SIZE];

	writer->serial = ++store->serial;
	temp_name(writer->serial, temp);
	writer->fd =
		openat(store->fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
	return writer->fd >= 0 ? 0 : -errno;
}

int
a67_chunk_begin(A67ChunkStore *store, const uint8_t digest[A67_CHUNK_DIGEST_BYTES], uint64_t size,
				bool stored, A67ChunkWriter **out)
{
	A67ChunkWriter *writer;
	int err = size > A67_CHUNK_MAX_BYTES ? -EFBIG : stored ? 0 : check_room(store, size);

	*out = NULL;
	if (err != 0)
		return err;
	writer = calloc(1, sizeof(*writer));
	if (writer == NULL)
		return -ENOMEM;
	writer->store = store;
	writer->fd = -1;
	writer->size = size;
	memcpy(writer->digest, digest, A67_CHUNK_DIGEST_BYTES);
	writer->promised = stored ? 0 : size;
	store->promised_bytes += writer->promised;
	writer->hash = EVP_MD_CTX_new();
	if (writer->hash == NULL || EVP_DigestInit_ex(writer->hash, EVP_sha256(), NULL) != 1)
		err = -ENOMEM;
	else if (!stored)
		err = open_temp(writer);
	if (err == 0)
		*out = writer;
	else
		a67_chunk_drop(writer);
	return err;
}

int
a67_chunk_write(A67ChunkWriter *writer, const void *data, size_t len)
{
	int err = 0;

	if (len > writer->size - writer->written)
		return -EFBIG;
	if (EVP_DigestUpdate(writer->hash, data, len) != 1)
		return -ENOMEM;
	if (writer->fd >= 0)
		err = a67_write_all(writer->fd, data, len);
	writer->written += len;
	if (err != 0 || writer->fd < 0 || writer->written - writer->behind < WRITE_BEHIND)
		return err;
	/* Asks for no guarantee: fdatasync gives that. */
	(void) sync_file_range(writer->fd, (off_t) writer->behind,
						   (off_t) (writer->written - writer->behind), SYNC_FILE_RANGE_WRITE);
	writer->behind = writer->written;
	return 0;
}

int
a67_chunk_finish(A67ChunkWriter *writer, int64_t now_s)
{
	uint8_t digest[EVP_MAX_MD_SIZE];

	if (writer->written != writer->size || EVP_DigestFinal_ex(writer->hash, digest, NULL) != 1 ||
		memcmp(digest, writer->digest, A67_CHUNK_DIGEST_BYTES) != 0)
		return -EBADMSG;
	if (writer->fd >= 0)
		a67_chunk_set_mark(writer->fd, now_s);
	return 0;
}

static void
free_writer(A67ChunkWriter *writer)
{
	writer->store->promised_bytes -= writer->promised;
	if (writer->fd >= 0)
		(void) close(writer->fd);
	EVP_MD_CTX_free(writer->hash);
	free(writer);
}

void
a67_chunk_drop(A67ChunkWriter *writer)
{
	char temp[A67_CHUNK_PATH_SIZE];

	if (writer == NULL)
		return;
	if (writer->fd >= 0)
	{
		temp_name(writer->serial, temp);
		(void) unlinkat(writer->store->fd, temp, 0);
	}
	free_writer(writer);
}

/* ---- durability ---- */

static void
queue(A67ChunkStore *store, A67ChunkOp *op, A67ChunkWriter *writer, int dir)
{
	A67ChunkOp **last = &store->ops;

	op->writer = writer;
	op->dir = dir;
	op->err = 0;
	op->next = NULL;
	while (*last != NULL)
		last = &(*last)->next;
	*last = op;
}

void
a67_chunk_commit(A67ChunkStore *store, A67ChunkOp *op, A67ChunkWriter *writer)
{
	queue(store, op, writer, writer->digest[0]);
	/* Several of them reach the disk side by side. */
	(void) sync_file_range(writer->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* Removes a file of one directory.  0 or -errno. */
static int
remove_file(A67ChunkStore *store, int dir, const uint8_t *digest)
{
	char name[A67_CHUNK_PATH_SIZE];
	struct stat st;

	if (!store->present[dir])
		return -ENOENT;
	a67_chunk_file_name(dir, digest, name);
	if (fstatat(store->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		unlinkat(store->fd, name, 0) != 0)
		return -errno;
	a67_chunk_account(store, dir, (uint64_t) st.st_size, false);
	store->dirty[dir] = 1;
	store->changed = true;
	return 0;
}

int
a67_chunk_remove(A67ChunkStore *store, A67ChunkOp *op, const uint8_t digest[A67_CHUNK_DIGEST_BYTES])
{
	int err = remove_file(store, digest[0], digest);
	int aside = remove_file(store, A67_CHUNK_ROTTEN, digest);

	if (err != 0 && (err != -ENOENT || aside != 0))
		return err;
	queue(store, op, NULL, err == 0 ? digest[0] : A67_CHUNK_ROTTEN);
	return 0;
}

/* Makes the content durable, then gives it its name. */
static int
publish(A67ChunkStore *store, A67ChunkWriter *writer)
{
	int dir = writer->digest[0];
	char temp[A67_CHUNK_PATH_SIZE];
	char name[A67_CHUNK_PATH_SIZE];
	struct stat old;
	bool replaces;

	if (fdatasync(writer->fd) != 0)
		return -errno;
	if (!store->present[dir])
	{
		a67_chunk_dir_name(dir, name);
		if (mkdirat(store->fd, name, 0700) != 0 && errno != EEXIST)
			return -errno;
		store->present[dir] = 1;
		store->root_dirty = true;
	}
	temp_name(writer->serial, temp);
	a67_chunk_file_name(dir, writer->digest, name);
	replaces = fstatat(store->fd, name, &old, AT_SYMLINK_NOFOLLOW) == 0;
	if (renameat(store->fd, temp, store->fd, name) != 0)
		return -errno;
	if (replaces)
		a67_chunk_account(store, dir, (uint64_t) old.st_size, false);
	a67_chunk_account(store, dir, writer->size, true);
	store->dirty[dir] = 1;
	store->changed = true;
	if (store->rotten > 0)
		(void) remove_file(store, A67_CHUNK_ROTTEN, writer->digest);
	return 0;
}

/* Syncs what changed among names; the result of each directory goes to its place in errs. */
static void
sync_names(A67ChunkStore *store, int errs[A67_CHUNK_FANOUT + 1])
{
	int root = store->root_dirty && fsync(store->fd) != 0 ? -errno : 0;

	store->root_dirty = root != 0;
	/* What fails is tried again with the next change, not in every turn of the loop. */
	store->changed = false;
	for (int i = 0; i <= A67_CHUNK_FANOUT; i++)
	{
		int fd;

		errs[i] = root;
		if (!store->dirty[i])
			continue;
		fd = a67_chunk_open_dir(store, i);
		if (fd < 0 || fsync(fd) != 0)
			errs[i] = -errno;
		else
			store->dirty[i] = 0;
		if (fd >= 0)
			(void) close(fd);
	}
}

void
a67_chunk_flush(A67ChunkStore *store)
{
	int errs[A67_CHUNK_FANOUT + 1];
	A67ChunkOp *op = store->ops;

	if (op == NULL && !store->changed)
		return;
	store->ops = NULL;
	for (A67ChunkOp *one = op; one != NULL; one = one->next)
		if (one->writer != NULL)
			one->err = publish(store, one->writer);
	sync_names(store, errs);
	while (op != NULL)
	{
		A67ChunkOp *next = op->next;

		if (op->err == 0)
			op->err = errs[op->dir];
		/* Published or not: the name of the temporary file, if it is still there, goes. */
		if (op->writer != NULL)
		{
			if (op->err == 0)
				free_writer(op->writer);
			else
				a67_chunk_drop(op->writer);
		}
		op->writer = NULL;
		op->done(op);
		op = next;
	}
}
