/*
 * chunk_range.h - what a GET asks of one chunk: all of it, a part, or nothing because it is known.
 *
 * Pure: RFC 9110's conditional and range headers for an entity that never changes.  Called by
 * chunk_serve.c.
 */
#ifndef A67_AGENT_CHUNK_RANGE_H
#define A67_AGENT_CHUNK_RANGE_H

#include "core/http/parser.h"

typedef struct A67ChunkSpan
{
	int status; /* 200, 206, 304 or 416 */
	uint64_t offset;
	uint64_t length;
} A67ChunkSpan;

/*
 * tag: the entity tag with its quotes.  Ranges other than one of bytes are ignored, as the RFC
 * allows, and so are malformed ones.
 */
A67ChunkSpan a67_chunk_span(const A67HttpHead *req, const char *tag, uint64_t size);

#endif /* A67_AGENT_CHUNK_RANGE_H */
