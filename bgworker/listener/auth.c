/*
 * auth.c: bearer tokens of requests; see auth.h.
 *
 * A header that is present must be right: a bad token is never taken for no token. Only the roles that a
 * request may run under are let through, whatever a token says.
 */
#include "listener/auth.h"

#include <string.h>
#include <strings.h>

static const char *const served_roles[] = {"a67_user", "a67_node", "a67_admin"};

static bool
role_is_served(const char *role)
{
	for (size_t i = 0; i < sizeof(served_roles) / sizeof(served_roles[0]); i++)
		if (strcmp(role, served_roles[i]) == 0)
			return true;
	return false;
}

static int
count_headers(const A67HttpHead *head, const char *name)
{
	int count = 0;

	for (size_t i = 0; i < head->nheaders; i++)
		count += a67_http_str_is_nocase(head->headers[i].name, name);
	return count;
}

A67Caller
a67_bearer(const A67HttpHead *head, A67HttpStr *token, const char **why)
{
	static const char scheme[] = "Bearer ";
	const A67HttpStr *value = a67_http_header(head, "Authorization");
	size_t skip = sizeof(scheme) - 1;

	if (value == NULL)
		return A67_CALLER_ANONYMOUS;
	if (count_headers(head, "Authorization") > 1)
	{
		*why = "more than one Authorization header";
		return A67_CALLER_REFUSED;
	}
	if (value->len <= skip || strncasecmp(value->at, scheme, skip) != 0)
	{
		*why = "Authorization is not a bearer token";
		return A67_CALLER_REFUSED;
	}
	while (skip < value->len && value->at[skip] == ' ')
		skip++;
	*token = (A67HttpStr){value->at + skip, value->len - skip};
	return A67_CALLER_TOKEN;
}

A67Caller
a67_caller(const A67HttpHead *head, const A67Keyring *keys, int64_t now_s, A67JwtClaims *claims)
{
	const A67JwtCheck check = {keys, A67_JWT_AUDIENCE, now_s};
	A67HttpStr token = {0};
	A67Caller caller = a67_bearer(head, &token, &claims->refusal);

	if (caller != A67_CALLER_TOKEN)
		return caller;
	if (keys->count == 0)
		return A67_CALLER_UNKNOWN;
	if (!a67_jwt_verify_hs256(token.at, token.len, &check, claims))
		return A67_CALLER_REFUSED;
	if (!role_is_served(claims->role))
	{
		claims->refusal = "token is for a role that is not served";
		return A67_CALLER_REFUSED;
	}
	return A67_CALLER_TOKEN;
}
