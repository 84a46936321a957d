/*
 * chunk_file.h - what chunk.c and chunk_write.c share: names in the chunk store and its figures.
 */
#ifndef A67_AGENT_CHUNK_FILE_H
#define A67_AGENT_CHUNK_FILE_H

#include "chunk.h"

#define A67_CHUNK_PATH_SIZE (A67_CHUNK_NAME_SIZE + 16)

/* Relative to chunks/; dir may be A67_CHUNK_ROTTEN. */
void a67_chunk_dir_name(int dir, char out[A67_CHUNK_PATH_SIZE]);
void a67_chunk_file_name(int dir, const uint8_t *digest, char out[A67_CHUNK_PATH_SIZE]);

/* A descriptor, or -1 with errno. */
int a67_chunk_open_dir(const A67ChunkStore *store, int dir);

/* Changes the figures by one chunk, if its directory is in them. */
void a67_chunk_account(A67ChunkStore *store, int dir, uint64_t size, bool added);

#endif /* A67_AGENT_CHUNK_FILE_H */
