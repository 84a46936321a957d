/*
 * chunk_serve.h - the chunk store as it is served: PUT, GET, HEAD, DELETE, the inventory; the work between.
 *
 * Owns the store, its scrub and the requests that wait for either.  serve.c has judged the command token before
 * anything here is called; that of a PUT is for a body with the digest of the path, so its bytes can be
 * taken as they come.  Called by serve.c and main; exposition.c and report.c read the figures.
 */
#ifndef A67_AGENT_CHUNK_SERVE_H
#define A67_AGENT_CHUNK_SERVE_H

#include "chunk_scrub.h"
#include "pollset.h"
#include "task.h"

#define A67_CHUNK_LIST_MAX 1000

typedef struct A67Chunks
{
	A67ChunkStore store;
	A67ChunkScrub scrub;
	struct A67ChunkReader *readers; /* wait for a chunk to be verified */
	unsigned int uploads;			/* under way */
	uint64_t received;				/* chunks, and bytes of them */
	uint64_t received_bytes;
	uint64_t sent;
	uint64_t sent_bytes; /* promised in answers */
} A67Chunks;

/* 0 or -errno. quota as for a67_chunk_open. */
int a67_chunks_open(A67Chunks *chunks, const A67StateDir *dir, int64_t quota, int64_t scrub_ms,
					A67Why *why);
/* After the server is closed.  Safe on one that was never opened but zeroed. */
void a67_chunks_close(A67Chunks *chunks);

/* The head of a PUT: takes the body as it comes, or refuses. */
A67HttpDecision a67_chunks_put(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest);
/* GET and HEAD. */
void a67_chunks_get(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest);
void a67_chunks_delete(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest);
void a67_chunks_list(const A67Chunks *chunks, A67HttpConn *conn);

void a67_chunks_prepare(const A67Chunks *chunks, A67PollSet *set, int64_t now_ms);
/* Right after the server's step: what it has brought becomes durable and is answered. */
void a67_chunks_step(A67Chunks *chunks, A67HttpServer *server, int64_t now_ms);

#endif /* A67_AGENT_CHUNK_SERVE_H */
