/*
 * chars.h: the character classes of RFC 9110 that several files of this folder ask for.
 *
 * Private to core/http. No locale, no table: a comparison or two per byte.
 */
#ifndef A67_CORE_HTTP_CHARS_H
#define A67_CORE_HTTP_CHARS_H

#include <stdbool.h>
#include <string.h>

static inline bool
is_digit(unsigned char b)
{
	return b >= '0' && b <= '9';
}

static inline bool
is_alnum(unsigned char b)
{
	return is_digit(b) || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
}

/* tchar: methods and field names. */
static inline bool
is_token(unsigned char b)
{
	return is_alnum(b) || (b != '\0' && strchr("!#$%&'*+-.^_`|~", b) != NULL);
}

static inline bool
is_blank(unsigned char b)
{
	return b == ' ' || b == '\t';
}

/* Visible characters, blanks and obs-text: what a field value may hold. */
static inline bool
is_text(unsigned char b)
{
	return b == '\t' || (b >= 0x20 && b != 0x7f);
}

static inline int
hex_value(unsigned char b)
{
	if (is_digit(b))
		return b - '0';
	if (b >= 'a' && b <= 'f')
		return b - 'a' + 10;
	if (b >= 'A' && b <= 'F')
		return b - 'A' + 10;
	return -1;
}

#endif
