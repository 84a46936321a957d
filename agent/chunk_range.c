/*
 * chunk_range.c - see chunk_range.h.
 */
#include "chunk_range.h"

#include <string.h>
#include <strings.h>

/* Digits at *at as a number, as large as it gets; false when there are none. */
static bool
take_number(A67HttpStr text, size_t *at, uint64_t *out)
{
	size_t from = *at;

	*out = 0;
	while (*at < text.len && text.at[*at] >= '0' && text.at[*at] <= '9')
	{
		uint64_t digit = (uint64_t) (text.at[(*at)++] - '0');

		*out = *out > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *out * 10 + digit;
	}
	return *at > from;
}

/* "bytes=first-last", "bytes=first-" or "bytes=-count"; false for all else. */
static bool
parse_range(A67HttpStr text, uint64_t size, A67ChunkSpan *span)
{
	static const char unit[] = "bytes=";
	size_t at = sizeof(unit) - 1;
	uint64_t first;
	uint64_t last;
	bool has_first;
	bool has_last;

	if (text.len < at || strncasecmp(text.at, unit, at) != 0)
		return false;
	has_first = take_number(text, &at, &first);
	if (at == text.len || text.at[at++] != '-')
		return false;
	has_last = take_number(text, &at, &last);
	if (at != text.len || (!has_first && !has_last) || (has_first && has_last && last < first))
		return false;
	if (!has_first)
	{
		first = last < size ? size - last : 0;
		span->status = last == 0 || size == 0 ? 416 : 206;
	}
	else
		span->status = first < size ? 206 : 416;
	if (!has_first || !has_last || last >= size)
		last = size - 1;
	span->offset = first;
	span->length = span->status == 206 ? last - first + 1 : 0;
	return true;
}

/* Whether a list of entity tags has this one ("*": it has all); weak ones count. */
static bool
has_tag(A67HttpStr list, const char *tag)
{
	size_t len = strlen(tag);
	size_t at = 0;

	if (a67_http_str_is(list, "*"))
		return true;
	while (at < list.len)
	{
		size_t end = at;

		while (end < list.len && list.at[end] != ',')
			end++;
		while (at < end && (list.at[at] == ' ' || list.at[at] == '\t'))
			at++;
		if (end - at >= 2 && memcmp(list.at + at, "W/", 2) == 0)
			at += 2;
		if (end - at >= len && memcmp(list.at + at, tag, len) == 0 &&
			strspn(list.at + at + len, " \t") >= end - at - len)
			return true;
		at = end + 1;
	}
	return false;
}

A67ChunkSpan
a67_chunk_span(const A67HttpHead *req, const char *tag, uint64_t size)
{
	A67ChunkSpan span = {200, 0, size};
	const A67HttpStr *known = a67_http_header(req, "if-none-match");
	const A67HttpStr *range = a67_http_header(req, "range");
	const A67HttpStr *same = a67_http_header(req, "if-range");

	if (known != NULL && has_tag(*known, tag))
		span.status = 304;
	else if (range != NULL && req->method == A67_HTTP_GET &&
			 (same == NULL || a67_http_str_is(*same, tag)) && !parse_range(*range, size, &span))
		span = (A67ChunkSpan){200, 0, size};
	return span;
}
