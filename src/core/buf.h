/*
 * buf.h - growable byte buffer with a declared maximum.
 *
 * Owns its memory (malloc); decides nothing about what the bytes mean. A buffer never holds more
 * than `max` bytes. The first call that would exceed it, or that finds no memory, appends
 * nothing and sets `failed`; every later append returns false too, so a chain of appends needs
 * one check at its end. Once anything has been appended, data[len] is a NUL byte: text can be
 * read as a C string. Used by the HTTP engine, the agent, SQL faces and tests; one owner per
 * buffer, no locking.
 */
#ifndef A67_BUF_H
#define A67_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__GNUC__)
#define A67_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#else
#define A67_PRINTF(format_at, args_at)
#endif

typedef struct A67Buf
{
	char *data;	 /* first live byte, or NULL before the first append */
	size_t len;	 /* live bytes */
	size_t head; /* consumed bytes kept in front of data until they are needed */
	size_t cap;	 /* bytes allocated, counted from data - head, NUL included */
	size_t max;	 /* len never exceeds this */
	bool failed; /* sticky: an append was refused */
} A67Buf;

/* Makes an empty buffer that may grow to max bytes; allocates nothing and cannot fail. */
void a67_buf_init(A67Buf *buf, size_t max);

/* Frees the memory and leaves an empty, usable buffer with the same maximum.  Safe to repeat. */
void a67_buf_free(A67Buf *buf);

/* Empties the buffer and clears `failed`, keeping the memory for reuse. */
void a67_buf_reset(A67Buf *buf);

/*
 * Makes room for extra more bytes at data + len, for a caller that fills them itself (recv) and
 * then reports them with a67_buf_commit. False, with `failed` set, when max or memory is hit.
 */
bool a67_buf_reserve(A67Buf *buf, size_t extra);

/* Adds count bytes that the caller has written at data + len after a reserve of at least count. */
void a67_buf_commit(A67Buf *buf, size_t count);

/* How many bytes may be added before max is hit. */
size_t a67_buf_room(const A67Buf *buf);

/* Appends bytes; `bytes` must not point into this buffer.  All or nothing. */
bool a67_buf_append(A67Buf *buf, const void *bytes, size_t count);

/* Appends a C string without its NUL.  All or nothing. */
bool a67_buf_append_str(A67Buf *buf, const char *text);

/* Appends printf output; arguments must not point into this buffer.  All or nothing. */
bool a67_buf_append_fmt(A67Buf *buf, const char *format, ...) A67_PRINTF(2, 3);
bool a67_buf_append_vfmt(A67Buf *buf, const char *format, va_list args) A67_PRINTF(2, 0);

/*
 * Appends count bytes of UTF-8 as a JSON string with its quotes. Control characters, quotes and
 * backslashes are escaped; each byte that is not valid UTF-8 becomes U+FFFD, so the result is
 * always valid JSON. All or nothing.
 */
bool a67_buf_append_json_string(A67Buf *buf, const char *text, size_t count);

/* Whether all of it is well-formed UTF-8. */
bool a67_utf8_is_valid(const char *text, size_t count);

/* Drops count bytes from the front (all of them when there are fewer).  O(1). */
void a67_buf_consume(A67Buf *buf, size_t count);

/* The content as a C string, "" when nothing was ever appended.  Valid until the next call. */
const char *a67_buf_text(const A67Buf *buf);

#endif /* A67_BUF_H */
