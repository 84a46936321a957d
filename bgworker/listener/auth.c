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

static A67Caller
refuse(A67JwtClaims *claims, const char *why)
{
	claims->refusal = why;
	return A67_CALLER_REFUSED;
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
a67_caller(const A67HttpHead *head, const A67Keyring *keys, int64_t now_s, A67JwtClaims *claims)
{
	static const char scheme[] = "Bearer ";
	const A67HttpStr *value = a67_http_header(head, "Authorization");
	const A67JwtCheck check = {keys, A67_JWT_AUDIENCE, now_s};
	size_t skip = sizeof(scheme) - 1;

	if (value == NULL)
		return A67_CALLER_ANONYMOUS;
	if (count_headers(head, "Authorization") > 1)
		return refuse(claims, "more than one Authorization header");
	if (value->len <= skip || strncasecmp(value->at, scheme, skip) != 0)
		return refuse(claims, "Authorization is not a bearer token");
	if (keys->count == 0)
		return A67_CALLER_UNKNOWN;
	while (skip < value->len && value->at[skip] == ' ')
		skip++;
	if (!a67_jwt_verify_hs256(value->at + skip, value->len - skip, &check, claims))
		return A67_CALLER_REFUSED;
	if (!role_is_served(claims->role))
		return refuse(claims, "token is for a role that is not served");
	return A67_CALLER_TOKEN;
}
