/*
 * redact.c - finds calls of functions that take secrets.  See redact.h.
 *
 * The table names families of functions, public and private: whoever adds a function that takes a secret adds
 * it here unless its family is there already.
 */
#include "crypto/redact.h"

#include <string.h>
#include <strings.h>

/* Beginnings of names, behind an optional underscore. */
static const char *const families[] = {
	"auth_",	   "base32",	"channel_",	  "credential_",   "database_create", "database_role",
	"deployment_", "env_",		"event_send", "hmac",		   "hook_",			  "jwt_",
	"key_",		   "manifest_", "mail_",	  "node_register", "notifier",		  "oauth_",
	"otp_",		   "password",	"provider_",  "secret_",	   "shard_try",		  "signing_key",
	"totp",		   "token_",	"vault_",
};

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

static bool
is_word(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9') || c == '$';
}

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_family(const char *word, size_t len)
{
	if (len > 1 && *word == '_')
	{
		word++;
		len--;
	}
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
	{
		size_t size = strlen(families[i]);

		if (len >= size && strncasecmp(word, families[i], size) == 0)
			return true;
	}
	return false;
}

/* The next word at or behind *at, and its length; NULL at the end. */
static const char *
next_word(const char **at, size_t *len)
{
	const char *word;

	while (**at != '\0' && !is_letter(**at))
	{
		/* A number swallows the letters behind it. */
		if (!is_word(**at))
			(*at)++;
		else
			while (is_word(**at))
				(*at)++;
	}
	word = *at;
	while (is_word(**at))
		(*at)++;
	*len = (size_t) (*at - word);
	return *len > 0 ? word : NULL;
}

bool
a67_text_calls_secret(const char *text)
{
	const char *word;
	size_t len;

	if (text == NULL)
		return false;
	while ((word = next_word(&text, &len)) != NULL)
	{
		const char *next = text;

		if (!is_family(word, len))
			continue;
		while (is_space(*next) || *next == '"')
			next++;
		if (*next == '(' || *next == '/' || *next == '-')
			return true;
	}
	return false;
}

/* A name at *at: plain, folded to lower case, or quoted. */
static bool
take_name(const char *at, char name[A67_NAME_SIZE])
{
	bool quoted = *at == '"';
	size_t len = 0;

	for (at += quoted; *at != '\0' && len < A67_NAME_SIZE - 1; at++)
	{
		if (quoted && *at == '"' && *++at != '"')
			break;
		if (!quoted && !is_word(*at))
			break;
		name[len++] = !quoted && *at >= 'A' && *at <= 'Z' ? (char) (*at + 'a' - 'A') : *at;
	}
	name[len] = '\0';
	return len > 0;
}

bool
a67_text_executes(const char *text, char name[A67_NAME_SIZE])
{
	const char *word;
	size_t len;

	name[0] = '\0';
	if (text == NULL)
		return false;
	while ((word = next_word(&text, &len)) != NULL)
	{
		const char *next = text;

		if (len != strlen("execute") || strncasecmp(word, "execute", len) != 0)
			continue;
		while (is_space(*next))
			next++;
		return take_name(next, name);
	}
	return false;
}
