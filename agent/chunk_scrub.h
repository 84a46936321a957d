/*
 * chunk_scrub.h - looking again at what is stored: hashing a chunk in steps, and doing so with all of them.
 *
 * A check takes 256 kB at a time and does not wait for the disk: what is not in the page cache is asked
 * for and comes back later.  The scrub reads from the disk itself, one chunk after the other, so that each is
 * verified once in an interval, at a bounded rate.  A chunk that does not have its digest, or cannot be
 * read, is put aside.  Called by chunk_serve.c.
 */
#ifndef A67_AGENT_CHUNK_SCRUB_H
#define A67_AGENT_CHUNK_SCRUB_H

#include "chunk.h"
#include "core/pace.h"

#define A67_CHUNK_SCRUB_RATE (8 << 20) /* bytes a second */

struct evp_md_ctx_st;

/* One chunk being hashed. */
typedef struct A67ChunkCheck
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	int fd; /* -1: none */
	uint64_t at;
	struct stat before;
	struct evp_md_ctx_st *hash;
	unsigned int waits; /* for what comes next */
} A67ChunkCheck;

typedef enum A67ChunkVerdict
{
	A67_CHUNK_GOOD, /* and marked so */
	A67_CHUNK_BAD,	/* and put aside */
	A67_CHUNK_MORE, /* there is more to be hashed */
	A67_CHUNK_WAIT, /* and it comes from the disk: try in some ms */
	A67_CHUNK_GONE	/* it could not be looked at, or changed meanwhile: nothing is known */
} A67ChunkVerdict;

/* Takes over the descriptor, also when it fails.  0 or -errno. */
int a67_chunk_check_begin(A67ChunkCheck *check, const uint8_t digest[A67_CHUNK_DIGEST_BYTES],
						  int fd);
A67ChunkVerdict a67_chunk_check_step(A67ChunkStore *store, A67ChunkCheck *check, int64_t now_s);
/* Closes the descriptor unless it is -1.  Safe to repeat. */
void a67_chunk_check_end(A67ChunkCheck *check);

typedef struct A67ChunkScrub
{
	int64_t interval_ms;
	int64_t due_ms;
	int dir;
	bool inside; /* the directory, behind `after` */
	uint8_t after[A67_CHUNK_DIGEST_BYTES];
	A67ChunkCheck check;
	uint64_t checked; /* chunks */
	uint64_t checked_bytes;
} A67ChunkScrub;

/* Begins with that directory. */
void a67_chunk_scrub_init(A67ChunkScrub *scrub, int64_t interval_ms, int dir);
void a67_chunk_scrub_end(A67ChunkScrub *scrub);

/* Whether a chunk that was verified then need not be hashed before it is handed out. */
bool a67_chunk_is_fresh(const A67ChunkScrub *scrub, int64_t verified_s, int64_t now_s);

/* One step when it is due; a few ms at most unless the disk stands still. */
void a67_chunk_scrub_step(A67ChunkScrub *scrub, A67ChunkStore *store, int64_t now_ms,
						  int64_t now_s);

#endif /* A67_AGENT_CHUNK_SCRUB_H */
