/*
 * chunked.c: the state machine behind chunked.h, byte by byte except inside data.
 *
 * SIZE → (EXT) → SIZE_LF → DATA → DATA_CR → DATA_LF → SIZE … ; a size of zero leads to the trailers:
 * LINE → NAME → VALUE → LINE_LF → LINE … , and an empty line there ends the body.
 */
#include "chunked.h"

#include "chars.h"

#include <string.h>

enum
{
	SIZE,
	EXT,
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
	LINE,
	NAME,
	VALUE,
	LINE_LF,
	END_LF,
	OVER
};

void
a67_http_chunked_init(A67HttpChunked *d)
{
	memset(d, 0, sizeof(*d));
}

static int
in_size(A67HttpChunked *d, unsigned char b)
{
	int digit = hex_value(b);

	if (digit >= 0)
	{
		if (++d->digits > A67_HTTP_CHUNK_DIGITS)
			return -400;
		d->left = d->left * 16 + (uint64_t) digit;
		return 0;
	}
	if (d->digits == 0)
		return -400;
	if (b == ';')
		d->state = EXT;
	else if (b == '\r')
		d->state = SIZE_LF;
	else
		return -400;
	return 0;
}

static int
in_extension(A67HttpChunked *d, unsigned char b)
{
	if (b == '\r')
	{
		d->state = SIZE_LF;
		return 0;
	}
	if (!is_text(b))
		return -400;
	if (++d->ext_bytes > A67_HTTP_CHUNK_EXT || ++d->ext_total > A67_HTTP_EXT_TOTAL)
		return -431;
	return 0;
}

static int
in_trailer(A67HttpChunked *d, unsigned char b)
{
	if (++d->trailer_bytes > A67_HTTP_TRAILER_BYTES)
		return -431;
	switch (d->state)
	{
		case LINE:
			if (b == '\r')
				d->state = END_LF;
			else if (!is_token(b))
				return -400;
			else if (++d->trailer_lines > A67_HTTP_TRAILER_LINES)
				return -431;
			else
				d->state = NAME;
			return 0;
		case NAME:
			if (b == ':')
				d->state = VALUE;
			else if (!is_token(b))
				return -400;
			return 0;
		case VALUE:
			if (b == '\r')
				d->state = LINE_LF;
			else if (!is_text(b))
				return -400;
			return 0;
		default:
			if (b != '\n')
				return -400;
			d->state = d->state == END_LF ? OVER : LINE;
			return 0;
	}
}

/* One byte outside of data. */
static int
take_byte(A67HttpChunked *d, unsigned char b)
{
	switch (d->state)
	{
		case SIZE:
			return in_size(d, b);
		case EXT:
			return in_extension(d, b);
		case SIZE_LF:
			if (b != '\n')
				return -400;
			d->state = d->left > 0 ? DATA : LINE;
			return 0;
		case DATA_CR:
			if (b != '\r')
				return -400;
			d->state = DATA_LF;
			return 0;
		case DATA_LF:
			if (b != '\n')
				return -400;
			d->state = SIZE;
			d->digits = 0;
			d->ext_bytes = 0;
			return 0;
		case OVER:
			return -400;
		default:
			return in_trailer(d, b);
	}
}

int
a67_http_chunked_next(A67HttpChunked *d, const char *in, size_t len, A67HttpStr *data, size_t *used)
{
	size_t i = 0;
	int rc;

	*used = 0;
	while (i < len)
	{
		if (d->state == DATA)
		{
			data->at = in + i;
			data->len = d->left < len - i ? (size_t) d->left : len - i;
			d->left -= data->len;
			if (d->left == 0)
				d->state = DATA_CR;
			*used = i + data->len;
			return A67_HTTP_CHUNK_DATA;
		}
		rc = take_byte(d, (unsigned char) in[i++]);
		if (rc < 0)
			return rc;
		if (d->state == OVER)
		{
			*used = i;
			return A67_HTTP_CHUNK_END;
		}
	}
	*used = i;
	return A67_HTTP_CHUNK_MORE;
}

size_t
a67_http_chunk_open(char out[20], size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char reversed[16];
	size_t n = 0;
	size_t i;

	do
	{
		reversed[n++] = digits[len & 15];
		len >>= 4;
	} while (len > 0);
	for (i = 0; i < n; i++)
		out[i] = reversed[n - 1 - i];
	out[n] = '\r';
	out[n + 1] = '\n';
	return n + 2;
}
