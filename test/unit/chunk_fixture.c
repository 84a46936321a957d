/*
 * chunk_fixture.c - a chunk store of one's own, what to put into it, and a disk that rots.
 */

#include "chunk_scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

#include <sodium.h>

#include "unit.h"

#define NOW_S	 INT64_C(1750000000)
#define SIZE	 300000
#define INTERVAL 1000000 /* ms */

static A67StateDir dir;
static A67ChunkStore store;
static int done_count;
static int done_err;

static inline void
store_open(int64_t quota)
{
	A67Why why = {""};

	CHECK_INT(a67_chunk_open(&store, &dir, quota, &why), 0);
	CHECK_STR(why.text, "");
	store.reserve_bytes = 0;
	while (a67_chunk_count(&store))
		;
}

static inline bool
begin(void)
{
	static char path[64];
	A67Why why;

	(void) snprintf(path, sizeof(path), "/tmp/a67-chunk-XXXXXX");
	if (mkdtemp(path) == NULL || a67_statedir_open(&dir, path, 0, &why) != 0)
		return false;
	store_open(INT64_C(1) << 30);
	return true;
}

static inline int
remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	return remove(path);
}

static inline void
end(void)
{
	a67_chunk_close(&store);
	CHECK_INT(nftw(dir.path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
	a67_statedir_close(&dir);
}

static inline void
done(A67ChunkOp *op)
{
	done_count++;
	done_err = op->err;
}

/* Bytes that number has, and their digest. */
static inline const uint8_t *
content(unsigned int number, size_t size, uint8_t digest[A67_CHUNK_DIGEST_BYTES])
{
	static uint8_t bytes[SIZE];

	memset(bytes, (int) number, size);
	memcpy(bytes, &number, size < sizeof(number) ? size : sizeof(number));
	(void) crypto_hash_sha256(digest, bytes, size);
	return bytes;
}

static inline int
put(unsigned int number, size_t size, uint8_t digest[A67_CHUNK_DIGEST_BYTES])
{
	const uint8_t *bytes = content(number, size, digest);
	A67ChunkWriter *writer;
	A67ChunkOp op = {.done = done};
	int err = a67_chunk_begin(&store, digest, size, false, &writer);

	if (err == 0)
		err = a67_chunk_write(writer, bytes, size);
	if (err == 0)
		err = a67_chunk_finish(writer, NOW_S);
	if (err != 0)
	{
		a67_chunk_drop(writer);
		return err;
	}
	done_count = 0;
	a67_chunk_commit(&store, &op, writer);
	a67_chunk_flush(&store);
	CHECK_INT(done_count, 1);
	return done_err;
}

static inline int
look(const uint8_t *digest, A67ChunkFile *file)
{
	int err = a67_chunk_read(&store, digest, file);

	if (err == 0)
		(void) close(file->fd);
	return err;
}

static inline int
removal(const uint8_t *digest)
{
	A67ChunkOp op = {.done = done};
	int err = a67_chunk_remove(&store, &op, digest);

	if (err != 0)
		return err;
	a67_chunk_flush(&store);
	return done_err;
}

static inline void
path_of(const uint8_t *digest, char path[256])
{
	char name[A67_CHUNK_NAME_SIZE];

	(void) a67_hex_encode(digest, A67_CHUNK_DIGEST_BYTES, name, sizeof(name));
	(void) snprintf(path, 256, "%.100s/chunks/%.2s/%s", dir.path, name, name);
}

/* Changes a byte of a stored chunk as a bad disk would: behind everybody's back. */
static inline void
rot(const uint8_t *digest, off_t at, bool unseen)
{
	char path[256];
	struct stat st;
	struct timespec times[2];
	uint8_t byte = 0;
	int fd;

	path_of(digest, path);
	CHECK_INT(chmod(path, 0600), 0);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0 && fstat(fd, &st) == 0 && pread(fd, &byte, 1, at) == 1);
	byte ^= 0x10;
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (unseen)
		CHECK_INT(futimens(fd, times), 0);
	(void) close(fd);
}

static inline A67ChunkVerdict
verify(const uint8_t *digest, int64_t now_s)
{
	A67ChunkCheck check;
	A67ChunkFile file;
	A67ChunkVerdict verdict;

	if (a67_chunk_read(&store, digest, &file) != 0 ||
		a67_chunk_check_begin(&check, digest, file.fd) != 0)
		return A67_CHUNK_GONE;
	do
		verdict = a67_chunk_check_step(&store, &check, now_s);
	while (verdict == A67_CHUNK_MORE || verdict == A67_CHUNK_WAIT);
	a67_chunk_check_end(&check);
	return verdict;
}

static unsigned int counted;

static inline int
count_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	counted += kind == FTW_F;
	return 0;
}

static inline unsigned int
files_in(const char *part)
{
	char path[256];

	counted = 0;
	(void) snprintf(path, sizeof(path), "%.100s/chunks/%s", dir.path, part);
	CHECK_INT(nftw(path, count_entry, 8, FTW_PHYS), 0);
	return counted;
}
