/*
 * chunked.h: decoder of the chunked transfer coding (RFC 9112, section 7.1), strictly.
 *
 * Pure and resumable: the state is one small struct, data slices point into the caller's input.
 * Extensions and trailers are checked, counted against their caps and dropped. Bare LF, white
 * space before a size, empty or overlong sizes are refused. Called by server and client.
 */
#ifndef A67_CORE_HTTP_CHUNKED_H
#define A67_CORE_HTTP_CHUNKED_H

#include "parser.h"

#define A67_HTTP_CHUNK_DIGITS  15	 /* hexadecimal digits of one size: below 2^60 */
#define A67_HTTP_CHUNK_EXT	   256	 /* bytes of extensions on one chunk line */
#define A67_HTTP_EXT_TOTAL	   16384 /* bytes of extensions in one body */
#define A67_HTTP_TRAILER_BYTES 4096
#define A67_HTTP_TRAILER_LINES 32

typedef enum A67HttpChunkResult
{
	A67_HTTP_CHUNK_MORE, /* all input used, nothing to hand out: give more */
	A67_HTTP_CHUNK_DATA, /* *data is the next piece of the body: call again behind *used */
	A67_HTTP_CHUNK_END	 /* body and trailers are over; bytes behind *used belong to what follows */
} A67HttpChunkResult;

typedef struct A67HttpChunked
{
	uint64_t left; /* of the current chunk */
	uint32_t ext_total;
	uint16_t trailer_bytes;
	uint16_t trailer_lines;
	uint16_t ext_bytes;
	uint8_t digits;
	uint8_t state;
} A67HttpChunked;

/* A zeroed struct is ready as well. */
extern void a67_http_chunked_init(A67HttpChunked *d);

/*
 * Takes bytes from in. Returns an A67HttpChunkResult, or -400 / -431 when the coding is broken or a
 * cap is exceeded; after an error or the end, do not call again. *used is how much was taken.
 */
extern int a67_http_chunked_next(A67HttpChunked *d, const char *in, size_t len, A67HttpStr *data,
								 size_t *used);

/* Writes the line that opens a chunk of len bytes ("1f\r\n"); returns its length (at most 18). */
extern size_t a67_http_chunk_open(char out[20], size_t len);

#endif
