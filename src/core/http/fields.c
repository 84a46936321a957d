/*
 * fields.c: looking things up in a parsed head: headers, reason phrases, escapes, query parameters.
 *
 * The second half of parser.h; pure like the first. Decoding refuses what it does not understand
 * (half an escape, an encoded NUL) instead of passing it through.
 */
#include "parser.h"

#include "chars.h"

#include <string.h>

static unsigned char
lower(unsigned char b)
{
	return b >= 'A' && b <= 'Z' ? (unsigned char) (b + 32) : b;
}

bool
a67_http_str_is(A67HttpStr s, const char *text)
{
	return s.at != NULL && strlen(text) == s.len && memcmp(s.at, text, s.len) == 0;
}

bool
a67_http_str_is_nocase(A67HttpStr s, const char *text)
{
	size_t i;

	if (s.at == NULL)
		return false;
	for (i = 0; i < s.len; i++)
		if (text[i] == '\0' || lower((unsigned char) s.at[i]) != lower((unsigned char) text[i]))
			return false;
	return text[i] == '\0';
}

const A67HttpStr *
a67_http_header(const A67HttpHead *head, const char *name)
{
	size_t i;

	for (i = 0; i < head->nheaders; i++)
		if (a67_http_str_is_nocase(head->headers[i].name, name))
			return &head->headers[i].value;
	return NULL;
}

bool
a67_http_field_is_valid(const A67HttpField *field)
{
	const char *at;

	if (field->name[0] == '\0' || field->value == NULL)
		return false;
	for (at = field->name; *at != '\0'; at++)
		if (!is_token((unsigned char) *at))
			return false;
	for (at = field->value; *at != '\0'; at++)
		if (!is_text((unsigned char) *at))
			return false;
	return true;
}

const char *
a67_http_reason(int status)
{
	static const struct
	{
		int status;
		const char *reason;
	} table[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{206, "Partial Content"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{422, "Unprocessable Content"},
		{425, "Too Early"},
		{426, "Upgrade Required"},
		{428, "Precondition Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].reason;
	return "Unknown";
}

/* Decodes one character at s[*i], moving *i behind it; -1 when malformed or NUL. */
static int
decode_one(A67HttpStr s, size_t *i, bool plus_is_space)
{
	char c = s.at[*i];
	int high;
	int low;

	*i += 1;
	if (c == '+' && plus_is_space)
		return ' ';
	if (c != '%')
		return c == '\0' ? -1 : (unsigned char) c;
	if (s.len - *i < 2)
		return -1;
	high = hex_value((unsigned char) s.at[*i]);
	low = hex_value((unsigned char) s.at[*i + 1]);
	*i += 2;
	if (high < 0 || low < 0 || (high == 0 && low == 0))
		return -1;
	return high * 16 + low;
}

long
a67_http_percent_decode(A67HttpStr src, bool plus_is_space, char *dst, size_t dst_size)
{
	size_t i = 0;
	size_t n = 0;

	if (dst_size == 0)
		return -1;
	while (i < src.len)
	{
		int c = decode_one(src, &i, plus_is_space);

		if (c < 0 || n + 1 >= dst_size)
			return -1;
		dst[n++] = (char) c;
	}
	dst[n] = '\0';
	return (long) n;
}

/* Compares an encoded name with a plain one; a malformed one is unequal. */
static bool
same_name(A67HttpStr encoded, const char *name)
{
	size_t i = 0;

	while (i < encoded.len)
	{
		int c = decode_one(encoded, &i, true);

		if (c < 0 || c != (unsigned char) *name)
			return false;
		name++;
	}
	return *name == '\0';
}

long
a67_http_query_param(A67HttpStr query, const char *name, char *dst, size_t dst_size)
{
	size_t i = 0;

	while (query.at != NULL && i < query.len)
	{
		const char *at = query.at + i;
		const char *stop = memchr(at, '&', query.len - i);
		size_t len = stop != NULL ? (size_t) (stop - at) : query.len - i;
		const char *equals = memchr(at, '=', len);
		A67HttpStr key = {at, equals != NULL ? (size_t) (equals - at) : len};
		A67HttpStr value = {at + key.len, 0};

		if (equals != NULL)
		{
			value.at = equals + 1;
			value.len = len - key.len - 1;
		}
		if (same_name(key, name))
			return a67_http_percent_decode(value, true, dst, dst_size);
		i += len + 1;
	}
	return A67_HTTP_NO_PARAM;
}
