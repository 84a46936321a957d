/*
 * media.c: Content-Type, Content-Encoding and Accept-Encoding of requests; see media.h.
 *
 * A type counts as JSON when it is application/json or ends in +json; its parameters say nothing, since
 * JSON is UTF-8 in any case. Whatever is doubtful (two types, a malformed weight) counts as no.
 */
#include "listener/media.h"

#include <string.h>
#include <strings.h>

static A67HttpStr
trim(A67HttpStr text)
{
	while (text.len > 0 && (*text.at == ' ' || *text.at == '\t'))
	{
		text.at++;
		text.len--;
	}
	while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
		text.len--;
	return text;
}

/* Cuts the part before the separator off the front of *rest. */
static A67HttpStr
next_part(A67HttpStr *rest, char separator)
{
	const char *stop = rest->len > 0 ? memchr(rest->at, separator, rest->len) : NULL;
	A67HttpStr part = {rest->at, stop != NULL ? (size_t) (stop - rest->at) : rest->len};
	size_t used = stop != NULL ? part.len + 1 : part.len;

	rest->at += used;
	rest->len -= used;
	return trim(part);
}

static bool
ends_with(A67HttpStr text, const char *end)
{
	size_t len = strlen(end);

	return text.len > len && strncasecmp(text.at + text.len - len, end, len) == 0;
}

static bool
type_is_json(A67HttpStr value)
{
	A67HttpStr type = next_part(&value, ';');

	if (type.len > 0 && memchr(type.at, ',', type.len) != NULL)
		return false;
	return a67_http_str_is_nocase(type, "application/json") ||
		   (ends_with(type, "+json") && strncasecmp(type.at, "application/", 12) == 0);
}

bool
a67_media_is_json(const A67HttpHead *head)
{
	int types = 0;

	for (size_t i = 0; i < head->nheaders; i++)
	{
		const A67HttpHeader *header = &head->headers[i];

		if (a67_http_str_is_nocase(header->name, "Content-Encoding") &&
			!a67_http_str_is_nocase(header->value, "identity"))
			return false;
		if (!a67_http_str_is_nocase(header->name, "Content-Type"))
			continue;
		if (types++ > 0 || !type_is_json(header->value))
			return false;
	}
	return true;
}

/* Whether the parameters of a coding give it a weight of nothing, or one that cannot be read. */
static bool
weighs_nothing(A67HttpStr parameters)
{
	while (parameters.len > 0)
	{
		A67HttpStr weight = next_part(&parameters, ';');
		bool nothing = true;

		if (weight.len < 2 || strncasecmp(weight.at, "q=", 2) != 0)
			continue;
		for (size_t i = 2; i < weight.len; i++)
		{
			if (weight.at[i] >= '1' && weight.at[i] <= '9')
				nothing = false;
			else if (weight.at[i] != '0' && weight.at[i] != '.')
				return true;
		}
		return nothing;
	}
	return false;
}

bool
a67_media_takes_gzip(const A67HttpHead *head)
{
	bool any = false;

	for (size_t i = 0; i < head->nheaders; i++)
	{
		A67HttpStr list = head->headers[i].value;

		if (!a67_http_str_is_nocase(head->headers[i].name, "Accept-Encoding"))
			continue;
		while (list.len > 0)
		{
			A67HttpStr item = next_part(&list, ',');
			A67HttpStr coding = next_part(&item, ';');

			/* What is said of gzip itself counts more than what is said of the rest. */
			if (a67_http_str_is_nocase(coding, "gzip") || a67_http_str_is_nocase(coding, "x-gzip"))
				return !weighs_nothing(item);
			if (a67_http_str_is_nocase(coding, "*"))
				any = !weighs_nothing(item);
		}
	}
	return any;
}
