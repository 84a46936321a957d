/*
 * chunk_scrub.c - see chunk_scrub.h.
 *
 * The scrub goes through the directories in order, again and again, at a pace that brings it round four times in
 * an interval; in each it takes the chunks whose last verification is five eighths of an interval ago. So
 * the next round takes what this one has just missed, and there is time left to hash.  It keeps no state beyond the files, which know when they were verified.
 */
#include "chunk_scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/evp.h>

#define STEP_BYTES	 (256 * 1024)
#define READ_BYTES	 (64 * 1024)
#define AHEAD_BYTES	 (1024 * 1024)
#define WAIT_MS		 10
#define WAITS_MAX	 20 /* then the read may take its time */
#define ROUNDS		 4	/* in an interval */
#define LOOK_AT_ONCE 64
#define FUTURE_S	 60 /* a mark may be ahead of the clock by */

/* ---- one chunk ---- */

int
a67_chunk_check_begin(A67ChunkCheck *check, const uint8_t digest[A67_CHUNK_DIGEST_BYTES], int fd)
{
	int err = 0;

	memset(check, 0, sizeof(*check));
	memcpy(check->digest, digest, A67_CHUNK_DIGEST_BYTES);
	check->fd = fd;
	check->hash = EVP_MD_CTX_new();
	if (fstat(fd, &check->before) != 0)
		err = -errno;
	else if (check->hash == NULL || EVP_DigestInit_ex(check->hash, EVP_sha256(), NULL) != 1)
		err = -ENOMEM;
	if (err != 0)
		a67_chunk_check_end(check);
	return err;
}

void
a67_chunk_check_end(A67ChunkCheck *check)
{
	if (check->fd >= 0)
		(void) close(check->fd);
	check->fd = -1;
	EVP_MD_CTX_free(check->hash);
	check->hash = NULL;
}

/* Reads what is in the page cache; what is not is asked for, with -EAGAIN. */
static ssize_t
read_cached(A67ChunkCheck *check, void *buf, size_t size)
{
	struct iovec into = {buf, size};
	ssize_t n = -1;

	errno = EOPNOTSUPP;
	if (check->waits < WAITS_MAX)
		n = preadv2(check->fd, &into, 1, (off_t) check->at, RWF_NOWAIT);
	if (n < 0 && errno == EAGAIN)
	{
		if (check->waits++ == 0)
			(void) posix_fadvise(check->fd, (off_t) check->at, AHEAD_BYTES, POSIX_FADV_WILLNEED);
		return -EAGAIN;
	}
	/* Not every file system knows how not to wait. */
	if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
		n = pread(check->fd, buf, size, (off_t) check->at);
	return n >= 0 ? n : -errno;
}

/* All bytes have been read, or no more come. */
static A67ChunkVerdict
conclude(A67ChunkStore *store, A67ChunkCheck *check, int64_t now_s, int read_error)
{
	const char *wrong = "its bytes have another digest";
	uint8_t digest[EVP_MAX_MD_SIZE];
	struct stat now;

	if (read_error != 0)
		wrong = strerror(-read_error);
	else if (EVP_DigestFinal_ex(check->hash, digest, NULL) != 1 || fstat(check->fd, &now) != 0 ||
			 now.st_size != check->before.st_size ||
			 (a67_chunk_mark(&now) == 0 && (now.st_mtim.tv_sec != check->before.st_mtim.tv_sec ||
											now.st_mtim.tv_nsec != check->before.st_mtim.tv_nsec)))
		return A67_CHUNK_GONE;
	else if (memcmp(digest, check->digest, A67_CHUNK_DIGEST_BYTES) == 0)
	{
		a67_chunk_set_mark(check->fd, now_s);
		return A67_CHUNK_GOOD;
	}
	return a67_chunk_set_aside(store, check->digest, &check->before, wrong) ? A67_CHUNK_BAD
																			: A67_CHUNK_GONE;
}

A67ChunkVerdict
a67_chunk_check_step(A67ChunkStore *store, A67ChunkCheck *check, int64_t now_s)
{
	char buf[READ_BYTES];
	uint64_t until = check->at + STEP_BYTES;
	struct stat now;

	/* Another check may have been quicker. */
	if (fstat(check->fd, &now) == 0 && a67_chunk_mark(&now) > a67_chunk_mark(&check->before))
		return A67_CHUNK_GOOD;
	while (check->at < until)
	{
		ssize_t n = read_cached(check, buf, sizeof(buf));

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return A67_CHUNK_WAIT;
		if (n <= 0)
			return conclude(store, check, now_s, (int) n);
		if (EVP_DigestUpdate(check->hash, buf, (size_t) n) != 1)
			return A67_CHUNK_GONE;
		check->at += (uint64_t) n;
		check->waits = 0;
	}
	return A67_CHUNK_MORE;
}

/* ---- all of them ---- */

void
a67_chunk_scrub_init(A67ChunkScrub *scrub, int64_t interval_ms, int dir)
{
	memset(scrub, 0, sizeof(*scrub));
	scrub->interval_ms = interval_ms;
	scrub->dir = dir;
	scrub->check.fd = -1;
}

void
a67_chunk_scrub_end(A67ChunkScrub *scrub)
{
	a67_chunk_check_end(&scrub->check);
}

/* Whether it was verified within that many milliseconds. */
static bool
verified_within(int64_t age_ms, int64_t verified_s, int64_t now_s)
{
	return verified_s > 0 && verified_s <= now_s + FUTURE_S &&
		   (now_s - verified_s) * 1000 <= age_ms;
}

bool
a67_chunk_is_fresh(const A67ChunkScrub *scrub, int64_t verified_s, int64_t now_s)
{
	return verified_within(scrub->interval_ms, verified_s, now_s);
}

/* Begins with the next chunk that is due behind the last one; false when the directory has no more. */
static bool
next_chunk(A67ChunkScrub *scrub, const A67ChunkStore *store, int64_t now_s)
{
	A67ChunkItem items[LOOK_AT_ONCE];
	A67ChunkFile file;
	int count =
		a67_chunk_list(store, scrub->dir, scrub->inside ? scrub->after : NULL, items, LOOK_AT_ONCE);

	for (int i = 0; i < count; i++)
	{
		memcpy(scrub->after, items[i].digest, sizeof(scrub->after));
		scrub->inside = true;
		if (verified_within(scrub->interval_ms / 8 * 5, items[i].verified_s, now_s) ||
			a67_chunk_read(store, items[i].digest, &file) != 0)
			continue;
		/* From the disk, not from memory: that is what may have rotted. */
		(void) posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
		(void) a67_chunk_check_begin(&scrub->check, items[i].digest, file.fd);
		return true;
	}
	return count == LOOK_AT_ONCE;
}

/* On to the next directory that is there. */
static void
next_dir(A67ChunkScrub *scrub, const A67ChunkStore *store, int64_t now_ms)
{
	int64_t pause_ms = 0;

	scrub->inside = false;
	do
	{
		scrub->dir = (scrub->dir + 1) % A67_CHUNK_FANOUT;
		pause_ms += scrub->interval_ms / ROUNDS / A67_CHUNK_FANOUT;
	} while (!store->present[scrub->dir] && scrub->dir != 0);
	scrub->due_ms = a67_deadline_in(now_ms, pause_ms > 0 ? pause_ms : 1);
}

static void
step_check(A67ChunkScrub *scrub, A67ChunkStore *store, int64_t now_ms, int64_t now_s)
{
	uint64_t before = scrub->check.at;
	A67ChunkVerdict verdict = a67_chunk_check_step(store, &scrub->check, now_s);
	uint64_t bytes = scrub->check.at - before;

	scrub->checked_bytes += bytes;
	scrub->due_ms = a67_deadline_in(now_ms, verdict == A67_CHUNK_WAIT
												? WAIT_MS
												: (int64_t) (bytes * 1000 / A67_CHUNK_SCRUB_RATE));
	if (verdict == A67_CHUNK_MORE || verdict == A67_CHUNK_WAIT)
		return;
	if (verdict != A67_CHUNK_GONE)
		scrub->checked++;
	/* Hot or not, it was not here for us. */
	(void) posix_fadvise(scrub->check.fd, 0, 0, POSIX_FADV_DONTNEED);
	a67_chunk_check_end(&scrub->check);
}

void
a67_chunk_scrub_step(A67ChunkScrub *scrub, A67ChunkStore *store, int64_t now_ms, int64_t now_s)
{
	if (store->count == 0 || !a67_deadline_expired(scrub->due_ms, now_ms))
		return;
	if (scrub->check.fd >= 0)
		step_check(scrub, store, now_ms, now_s);
	else if (!next_chunk(scrub, store, now_s))
		next_dir(scrub, store, now_ms);
}
