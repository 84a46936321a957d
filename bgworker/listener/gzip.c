/*
 * gzip.c: compressing the body of an answer; see gzip.h.
 *
 * zlib's memory comes from the current context, without throwing, so that nothing is left behind whatever
 * happens. The level favours speed: JSON shrinks well at any level.
 */
#include "postgres.h"

#include "listener/gzip.h"

#include <zlib.h>

#include "utils/memutils.h"

#define LEVEL		3
#define GZIP_WINDOW (15 + 16) /* 32 kB, with a gzip header */
#define MEMORY		8
#define INPUT_MAX	((Size) 512 * 1024 * 1024)

static voidpf
allocate(voidpf context, uInt items, uInt size)
{
	return MemoryContextAllocExtended(context, (Size) items * size, MCXT_ALLOC_NO_OOM);
}

static void
release(voidpf context, voidpf memory)
{
	pfree(memory);
}

char *
a67_gzip(const char *data, Size len, Size *out_len)
{
	z_stream stream = {.zalloc = allocate, .zfree = release, .opaque = CurrentMemoryContext};
	char *out;
	int rc;

	if (len > INPUT_MAX)
		return NULL;
	out = palloc_extended(len, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (out == NULL ||
		deflateInit2(&stream, LEVEL, Z_DEFLATED, GZIP_WINDOW, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		return NULL;
	/* zlib reads through a pointer that is not const for reasons of age. */
	stream.next_in = (Bytef *) (uintptr_t) data;
	stream.avail_in = (uInt) len;
	stream.next_out = (Bytef *) out;
	stream.avail_out = (uInt) len;
	rc = deflate(&stream, Z_FINISH);
	*out_len = stream.total_out;
	(void) deflateEnd(&stream);
	return rc == Z_STREAM_END ? out : NULL;
}
