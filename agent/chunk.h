/*
 * chunk.h - the chunks of federated files that this node keeps: blobs known by their SHA-256.
 *
 * Owns chunks/ in the state directory: chunks/ab/<digest> for what is stored, chunks/tmp/ for what is
 * coming in, chunks/rotten/<digest> for what no longer has its digest.  A name appears only when its
 * content has been verified and is durable.  That a chunk was verified, and when, is kept in the file
 * itself: as its modification time, in whole seconds, with a fraction that no clock gives by chance.
 * Any later write replaces that, and then the chunk has to be hashed before anybody gets a byte of it.
 *
 * Durability comes in groups: writers and deletions are collected, and a67_chunk_flush makes them
 * durable together.  Nothing is to be acknowledged before that.  Knows nothing of HTTP and of clocks:
 * now_s is the wall clock.  One thread.
 */
#ifndef A67_AGENT_CHUNK_H
#define A67_AGENT_CHUNK_H

#include <sys/stat.h>

#include "core/encode.h"
#include "statedir.h"

#define A67_CHUNK_DIGEST_BYTES 32
#define A67_CHUNK_NAME_SIZE	   A67_HEX_SIZE(A67_CHUNK_DIGEST_BYTES)
#define A67_CHUNK_MAX_BYTES	   (UINT64_C(64) << 20)
#define A67_CHUNK_FANOUT	   256
#define A67_CHUNK_ROTTEN	   A67_CHUNK_FANOUT /* in place of a directory's number */

typedef struct A67ChunkOp A67ChunkOp;

typedef struct A67ChunkStore
{
	int fd; /* of chunks/; -1: not open */
	uint64_t quota_bytes;
	uint64_t reserve_bytes;	 /* of the disk, which chunks never take */
	uint64_t bytes;			 /* of stored and rotten ones */
	uint64_t promised_bytes; /* of writers under way */
	uint64_t count;
	uint64_t rotten;					   /* chunks put aside */
	int counted;						   /* directories whose content is in these figures */
	uint8_t present[A67_CHUNK_FANOUT + 1]; /* directories that exist */
	uint8_t dirty[A67_CHUNK_FANOUT + 1];   /* entries changed since the last flush */
	bool root_dirty;
	bool changed;	 /* something of these has been set since */
	uint32_t serial; /* of temporary files */
	A67ChunkOp *ops; /* waiting for the flush */
} A67ChunkStore;

/* Something to be made durable; embedded by whoever waits for it. */
struct A67ChunkOp
{
	A67ChunkOp *next;
	struct A67ChunkWriter *writer; /* NULL: a deletion */
	int dir;
	int err;					  /* 0 or -errno */
	void (*done)(A67ChunkOp *op); /* called by the flush, with err set; the writer is freed */
};

typedef struct A67ChunkWriter A67ChunkWriter;

/* A chunk that is stored, opened for reading. */
typedef struct A67ChunkFile
{
	int fd;
	uint64_t size;
	int64_t verified_s; /* 0: not since its last change */
} A67ChunkFile;

typedef struct A67ChunkItem
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	uint64_t size;
	int64_t verified_s;
} A67ChunkItem;

/*
 * Makes chunks/ where missing and removes what was coming in when the last agent ended.  quota: bytes,
 * or, when negative, percent of the disk.  0 or -errno.
 */
int a67_chunk_open(A67ChunkStore *store, const A67StateDir *dir, int64_t quota, A67Why *why);
void a67_chunk_close(A67ChunkStore *store);

/* Adds one directory to the figures; false when all have been. */
bool a67_chunk_count(A67ChunkStore *store);

/* Reads 64 hex digits in lower case. */
bool a67_chunk_parse(const char *text, size_t len, uint8_t digest[A67_CHUNK_DIGEST_BYTES]);

/* ---- writing ---- */

/*
 * A writer for size bytes; stored: the chunk is here and good, the bytes are only compared.  0, -EFBIG,
 * -EDQUOT (quota), -ENOSPC (the rest of the disk is for others), -EAGAIN (not counted yet) or another
 * -errno.
 */
int a67_chunk_begin(A67ChunkStore *store, const uint8_t digest[A67_CHUNK_DIGEST_BYTES],
					uint64_t size, bool stored, A67ChunkWriter **out);
/* 0 or -errno; -EFBIG: more than was announced. */
int a67_chunk_write(A67ChunkWriter *writer, const void *data, size_t len);
/* 0, or -EBADMSG: these are not the bytes of that digest. */
int a67_chunk_finish(A67ChunkWriter *writer, int64_t now_s);
/* Leaves nothing behind.  NULL is fine. */
void a67_chunk_drop(A67ChunkWriter *writer);

/* Hands a finished writer over; op->done is called by the next flush. */
void a67_chunk_commit(A67ChunkStore *store, A67ChunkOp *op, A67ChunkWriter *writer);
/* Removes a chunk, also a rotten one.  0: done is called by the next flush; or -errno (-ENOENT). */
int a67_chunk_remove(A67ChunkStore *store, A67ChunkOp *op,
					 const uint8_t digest[A67_CHUNK_DIGEST_BYTES]);
/* Makes all of that durable.  An op may be freed by its done. */
void a67_chunk_flush(A67ChunkStore *store);

/* ---- reading ---- */

/* 0, -ENOENT, -EBADMSG (it is rotten) or another -errno. */
int a67_chunk_read(const A67ChunkStore *store, const uint8_t digest[A67_CHUNK_DIGEST_BYTES],
				   A67ChunkFile *out);
/* When the file says it was verified; 0: not since its last change. */
int64_t a67_chunk_mark(const struct stat *st);
/* Writes that into the file. */
void a67_chunk_set_mark(int fd, int64_t now_s);
/* Puts a chunk aside; false when the file that was looked at does not have that name any more. */
bool a67_chunk_set_aside(A67ChunkStore *store, const uint8_t digest[A67_CHUNK_DIGEST_BYTES],
						 const struct stat *seen, const char *why);

/*
 * Up to max chunks of one directory (or the rotten ones) whose digests are greater than `after` (NULL:
 * all), in order.  Returns how many; -errno.
 */
int a67_chunk_list(const A67ChunkStore *store, int dir, const uint8_t *after, A67ChunkItem *items,
				   size_t max);

#endif /* A67_AGENT_CHUNK_H */
