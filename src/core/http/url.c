/*
 * url.c: http:// and https:// URLs, as far as the client needs them; see client.h.
 *
 * Strict and small: a host name, IPv4 or bracketed IPv6 address, an optional port, an optional path.
 * User info and fragments are refused rather than dropped.
 */
#include "client.h"

#include "chars.h"

#include <errno.h>
#include <string.h>

static bool
copy_host(A67HttpUrl *url, const char *at, size_t len, const char *punctuation)
{
	size_t i;

	if (len == 0 || len >= sizeof(url->host))
		return false;
	for (i = 0; i < len; i++)
		if (!is_alnum((unsigned char) at[i]) &&
			(at[i] == '\0' || strchr(punctuation, at[i]) == NULL))
			return false;
	memcpy(url->host, at, len);
	url->host[len] = '\0';
	return true;
}

/* Reads ":port" when there is one; false when it is malformed. */
static bool
take_port(const char **at, uint16_t *port)
{
	unsigned value = 0;

	if (**at != ':')
		return true;
	for (++*at; is_digit((unsigned char) **at) && value <= UINT16_MAX; ++*at)
		value = value * 10 + (unsigned) (**at - '0');
	if (value == 0 || value > UINT16_MAX)
		return false;
	*port = (uint16_t) value;
	return true;
}

int
a67_http_url_parse(const char *text, A67HttpUrl *url)
{
	const char *at = text;
	size_t len;

	memset(url, 0, sizeof(*url));
	url->tls = strncmp(at, "https://", 8) == 0;
	if (!url->tls && strncmp(at, "http://", 7) != 0)
		return -EINVAL;
	at += url->tls ? 8 : 7;
	url->port = url->tls ? 443 : 80;
	if (*at == '[')
	{
		len = strcspn(++at, "]");
		if (at[len] != ']' || !copy_host(url, at, len, ":."))
			return -EINVAL;
		at += len + 1;
	}
	else
	{
		len = strcspn(at, ":/");
		if (!copy_host(url, at, len, "-._"))
			return -EINVAL;
		at += len;
	}
	if (!take_port(&at, &url->port) || (*at != '\0' && *at != '/'))
		return -EINVAL;
	url->path.at = *at != '\0' ? at : "/";
	for (at = url->path.at; *at != '\0'; at++)
		if ((unsigned char) *at <= 0x20 || (unsigned char) *at >= 0x7f || *at == '#')
			return -EINVAL;
	url->path.len = (size_t) (at - url->path.at);
	return 0;
}
