/*
 * http_parser_fuzz.c - the head parser, the chunked decoder, escapes and URLs on arbitrary bytes.
 *
 * The first byte chooses what the rest is: q request, r response, l request under small limits,
 * c chunked body, u URL. Beyond "does not crash": input cut into pieces must give the same verdict as
 * the whole, slices must lie inside the input, and what is accepted must obey the framing rules.
 */
#include "core/http/chunked.h"
#include "core/http/client.h"
#include "core/http/parser.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                           \
	do                                                            \
	{                                                             \
		if (!(condition))                                         \
		{                                                         \
			fprintf(stderr, "broken property: %s\n", #condition); \
			abort();                                              \
		}                                                         \
	} while (0)

typedef int (*Parse)(const char *, size_t, size_t, const A67HttpLimits *, A67HttpHead *);

static bool
inside(A67HttpStr s, const char *text, size_t len)
{
	return s.at == NULL || (s.at >= text && s.len <= len && s.at <= text + len - s.len) ||
		   (s.len == 1 && s.at[0] == '/');
}

static void
check_head(const A67HttpHead *head, const char *text, size_t len)
{
	char decoded[256];
	size_t i;

	MUST(head->nheaders <= A67_HTTP_MAX_HEADERS);
	MUST(!head->chunked || (head->content_length < 0 && head->minor == 1));
	MUST(head->minor == 0 || head->minor == 1);
	MUST(inside(head->method_name, text, len) && inside(head->target, text, len));
	MUST(inside(head->path, text, len) && inside(head->query, text, len));
	MUST(inside(head->host, text, len) && inside(head->reason, text, len));
	MUST(inside(head->upgrade, text, len));
	for (i = 0; i < head->nheaders; i++)
	{
		const A67HttpHeader *h = &head->headers[i];

		MUST(inside(h->name, text, len) && inside(h->value, text, len));
		MUST(h->name.len > 0 && memchr(h->name.at, ' ', h->name.len) == NULL);
		MUST(memchr(h->value.at, '\n', h->value.len) == NULL);
		MUST(memchr(h->value.at, '\r', h->value.len) == NULL);
		MUST(memchr(h->value.at, '\0', h->value.len) == NULL);
	}
	if (a67_http_percent_decode(head->path, false, decoded, sizeof(decoded)) >= 0)
		MUST(memchr(decoded, '\0', sizeof(decoded)) != NULL);
	(void) a67_http_query_param(head->query, "a", decoded, sizeof(decoded));
	(void) a67_http_header(head, "content-length");
}

static void
fuzz_head(Parse parse, const A67HttpLimits *limits, const char *text, size_t len)
{
	static A67HttpHead whole;
	static A67HttpHead dripped;
	int rc = parse(text, len, 0, limits, &whole);
	int drip = A67_HTTP_INCOMPLETE;
	size_t seen = 0;
	size_t n;

	if (rc > 0)
		check_head(&whole, text, len);
	else
		MUST(rc == A67_HTTP_INCOMPLETE || (rc <= -400 && whole.error != NULL));
	for (n = 1; n <= len && drip == A67_HTTP_INCOMPLETE; n++)
	{
		drip = parse(text, n, seen, limits, &dripped);
		seen = n;
	}
	if (rc > 0)
	{
		MUST(drip == rc && dripped.nheaders == whole.nheaders);
		MUST(dripped.content_length == whole.content_length && dripped.chunked == whole.chunked);
	}
	else if (rc == A67_HTTP_INCOMPLETE)
		MUST(drip == A67_HTTP_INCOMPLETE);
	else
		/* An error inside an unfinished line may wait for the end of that line, never be accepted. */
		MUST(drip < 0);
}

typedef struct Decoded
{
	int rc;
	size_t used;
	size_t bytes;
	uint64_t hash;
} Decoded;

static Decoded
decode(const char *text, size_t len, size_t step)
{
	Decoded d = {A67_HTTP_CHUNK_MORE, 0, 0, 14695981039346656037u};
	A67HttpChunked state;
	A67HttpStr piece;
	size_t used;
	size_t i;

	a67_http_chunked_init(&state);
	while (d.used < len && d.rc >= 0 && d.rc != A67_HTTP_CHUNK_END)
	{
		size_t n = len - d.used < step ? len - d.used : step;

		d.rc = a67_http_chunked_next(&state, text + d.used, n, &piece, &used);
		MUST(used <= n);
		if (d.rc >= 0)
			MUST(used > 0);
		d.used += used;
		if (d.rc != A67_HTTP_CHUNK_DATA)
			continue;
		MUST(piece.len > 0 && inside(piece, text, len));
		d.bytes += piece.len;
		for (i = 0; i < piece.len; i++)
			d.hash = (d.hash ^ (unsigned char) piece.at[i]) * 1099511628211u;
	}
	return d;
}

static void
fuzz_chunked(const char *text, size_t len)
{
	Decoded whole = decode(text, len, SIZE_MAX);
	size_t step;

	for (step = 1; step <= 3; step++)
	{
		Decoded cut = decode(text, len, step);

		MUST(cut.bytes == whole.bytes && cut.hash == whole.hash);
		MUST((cut.rc < 0) == (whole.rc < 0) && (cut.rc >= 0 || cut.rc == whole.rc));
		MUST((cut.rc == A67_HTTP_CHUNK_END) == (whole.rc == A67_HTTP_CHUNK_END));
		if (whole.rc == A67_HTTP_CHUNK_END)
			MUST(cut.used == whole.used);
	}
}

static void
fuzz_url(const char *text, size_t len)
{
	char *copy = malloc(len + 1);
	A67HttpUrl url;

	if (copy == NULL)
		return;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (a67_http_url_parse(copy, &url) == 0)
	{
		MUST(url.host[0] != '\0' && strlen(url.host) < sizeof(url.host) && url.port != 0);
		MUST(url.path.len > 0 && url.path.at[0] == '/');
	}
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const A67HttpLimits small = {160, 48, 5};
	const char *text = (const char *) data + 1;

	if (size < 2 || size > 65536)
		return 0;
	switch (data[0])
	{
		case 'r':
			fuzz_head(a67_http_parse_response, NULL, text, size - 1);
			break;
		case 'l':
			fuzz_head(a67_http_parse_request, &small, text, size - 1);
			break;
		case 'c':
			fuzz_chunked(text, size - 1);
			break;
		case 'u':
			fuzz_url(text, size - 1);
			break;
		default:
			fuzz_head(a67_http_parse_request, NULL, text, size - 1);
			break;
	}
	return 0;
}
