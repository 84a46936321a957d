/*
 * buf.c - growable byte buffer with a declared maximum; see buf.h for the contract.
 *
 * Memory layout: one malloc'd block of `cap` bytes; the first `head` of them were consumed, the
 * next `len` are live, one more is kept for the closing NUL. Consuming only moves the start
 * forward; growing first slides the live bytes back, so that draining a long buffer in small
 * steps stays linear.
 */
#include "buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_ALLOCATION 64

void
a67_buf_init(A67Buf *buf, size_t max)
{
	memset(buf, 0, sizeof(*buf));
	/* The NUL needs one more byte than max. */
	buf->max = max < SIZE_MAX ? max : SIZE_MAX - 1;
}

void
a67_buf_free(A67Buf *buf)
{
	if (buf->data != NULL)
		free(buf->data - buf->head);
	a67_buf_init(buf, buf->max);
}

void
a67_buf_reset(A67Buf *buf)
{
	if (buf->data != NULL)
	{
		buf->data -= buf->head;
		buf->data[0] = '\0';
	}
	buf->head = 0;
	buf->len = 0;
	buf->failed = false;
}

static void
slide_to_start(A67Buf *buf)
{
	char *block = buf->data - buf->head;

	memmove(block, buf->data, buf->len + 1);
	buf->data = block;
	buf->head = 0;
}

/* Reallocates the block to hold at least len + extra bytes and the NUL; both are within max. */
static bool
grow(A67Buf *buf, size_t extra)
{
	size_t need = buf->len + extra + 1;
	size_t cap = buf->cap > 0 ? buf->cap : BUF_FIRST_ALLOCATION;
	char *block;

	while (cap < need)
		cap = cap <= SIZE_MAX / 2 ? cap * 2 : need;
	if (cap > buf->max + 1)
		cap = buf->max + 1;
	block = realloc(buf->data, cap);
	if (block == NULL)
		return false;
	if (buf->data == NULL)
		block[0] = '\0';
	buf->data = block;
	buf->cap = cap;
	return true;
}

bool
a67_buf_reserve(A67Buf *buf, size_t extra)
{
	if (buf->failed)
		return false;
	if (extra > a67_buf_room(buf))
	{
		buf->failed = true;
		return false;
	}
	if (buf->data != NULL && extra <= buf->cap - buf->head - buf->len - 1)
		return true;
	if (buf->data != NULL && buf->head > 0)
	{
		slide_to_start(buf);
		if (extra <= buf->cap - buf->len - 1)
			return true;
	}
	if (!grow(buf, extra))
	{
		buf->failed = true;
		return false;
	}
	return true;
}

void
a67_buf_commit(A67Buf *buf, size_t count)
{
	if (count == 0)
		return;
	buf->len += count;
	buf->data[buf->len] = '\0';
}

size_t
a67_buf_room(const A67Buf *buf)
{
	return buf->max - buf->len;
}

bool
a67_buf_append(A67Buf *buf, const void *bytes, size_t count)
{
	if (!a67_buf_reserve(buf, count))
		return false;
	if (count > 0)
		memcpy(buf->data + buf->len, bytes, count);
	a67_buf_commit(buf, count);
	return true;
}

bool
a67_buf_append_str(A67Buf *buf, const char *text)
{
	return a67_buf_append(buf, text, strlen(text));
}

bool
a67_buf_append_fmt(A67Buf *buf, const char *format, ...)
{
	va_list args;
	bool appended;

	va_start(args, format);
	appended = a67_buf_append_vfmt(buf, format, args);
	va_end(args);
	return appended;
}

bool
a67_buf_append_vfmt(A67Buf *buf, const char *format, va_list args)
{
	va_list measured;
	int count;

	if (buf->failed)
		return false;
	va_copy(measured, args);
	count = vsnprintf(NULL, 0, format, measured);
	va_end(measured);
	if (count < 0)
	{
		buf->failed = true;
		return false;
	}
	if (!a67_buf_reserve(buf, (size_t) count))
		return false;
	vsnprintf(buf->data + buf->len, (size_t) count + 1, format, args);
	a67_buf_commit(buf, (size_t) count);
	return true;
}

/*
 * Length of the UTF-8 character at bytes, 0 when it is not valid: overlong, a surrogate, above
 * U+10FFFF, cut off, or a stray continuation byte.
 */
static size_t
utf8_length(const unsigned char *bytes, size_t left)
{
	unsigned char lead = bytes[0];
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	size_t length;
	size_t i;

	if (lead < 0x80)
		return 1;
	if (lead < 0xC2 || lead > 0xF4)
		return 0;
	length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
	if (length > left)
		return 0;
	if (lead == 0xE0)
		low = 0xA0;
	else if (lead == 0xED)
		high = 0x9F;
	else if (lead == 0xF0)
		low = 0x90;
	else if (lead == 0xF4)
		high = 0x8F;
	if (bytes[1] < low || bytes[1] > high)
		return 0;
	for (i = 2; i < length; i++)
		if ((bytes[i] & 0xC0) != 0x80)
			return 0;
	return length;
}

bool
a67_utf8_is_valid(const char *text, size_t count)
{
	size_t at = 0;

	while (at < count)
	{
		size_t length = utf8_length((const unsigned char *) text + at, count - at);

		if (length == 0)
			return false;
		at += length;
	}
	return true;
}

/* Appends the escaped form of one byte that cannot stand as it is in a JSON string. */
static void
append_escape(A67Buf *buf, unsigned char byte)
{
	static const char named[] = {'"', '\\', '\b', '\f', '\n', '\r', '\t'};
	static const char letters[] = {'"', '\\', 'b', 'f', 'n', 'r', 't'};
	const char *found = memchr(named, byte, sizeof(named));

	if (found != NULL)
	{
		char escape[2] = {'\\', letters[found - named]};

		a67_buf_append(buf, escape, sizeof(escape));
	}
	else if (byte < 0x20)
		a67_buf_append_fmt(buf, "\\u%04x", byte);
	else
		a67_buf_append_str(buf, "\xEF\xBF\xBD");
}

bool
a67_buf_append_json_string(A67Buf *buf, const char *text, size_t count)
{
	const unsigned char *bytes = (const unsigned char *) text;
	size_t before = buf->len;
	size_t plain_from = 0;
	size_t at = 0;

	a67_buf_append(buf, "\"", 1);
	while (at < count && !buf->failed)
	{
		size_t length = utf8_length(bytes + at, count - at);

		if (length > 0 && bytes[at] >= 0x20 && bytes[at] != '"' && bytes[at] != '\\')
		{
			at += length;
			continue;
		}
		a67_buf_append(buf, bytes + plain_from, at - plain_from);
		append_escape(buf, bytes[at]);
		plain_from = ++at;
	}
	if (plain_from < at)
		a67_buf_append(buf, bytes + plain_from, at - plain_from);
	a67_buf_append(buf, "\"", 1);
	if (buf->failed && buf->len > before)
	{
		buf->len = before;
		buf->data[before] = '\0';
	}
	return !buf->failed;
}

void
a67_buf_consume(A67Buf *buf, size_t count)
{
	if (count >= buf->len)
	{
		bool failed = buf->failed;

		a67_buf_reset(buf);
		buf->failed = failed;
		return;
	}
	buf->data += count;
	buf->head += count;
	buf->len -= count;
}

const char *
a67_buf_text(const A67Buf *buf)
{
	return buf->data != NULL ? buf->data : "";
}
