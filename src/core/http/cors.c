/*
 * cors.c: cross-origin resource sharing as the Fetch standard has it; see cors.h.
 *
 * A listed origin is named in the answer and may send credentials; "*" is answered with "*" and may
 * not. With a list the answer depends on the origin, and Vary tells caches so, whoever asked.
 */
#include "cors.h"

#include <stdio.h>
#include <string.h>

#define ALLOWED_HEADERS "Authorization, Content-Type, X-Request-Id, traceparent"
#define EXPOSED_HEADERS                                                                 \
	"X-Request-Id, Location, ETag, Retry-After, RateLimit-Limit, RateLimit-Remaining, " \
	"RateLimit-Reset"
#define MAX_AGE_S "600"

/* Moves *at over spaces and commas to the next origin; its length, 0 at the end. */
static size_t
next_origin(const char **at)
{
	*at += strspn(*at, ", \t\r\n");
	return strcspn(*at, ", \t\r\n");
}

/* scheme://host[:port], as browsers write it: lower case, nothing behind. */
static bool
is_origin(const char *text, size_t len)
{
	static const char host[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]";
	size_t skip = 0;

	if (len >= 8 && memcmp(text, "https://", 8) == 0)
		skip = 8;
	else if (len >= 7 && memcmp(text, "http://", 7) == 0)
		skip = 7;
	return skip > 0 && len > skip && len < A67_CORS_ORIGIN_BYTES &&
		   strspn(text + skip, host) >= len - skip;
}

bool
a67_cors_origins_ok(const char *origins, char *err, size_t err_size)
{
	const char *at = origins;
	size_t len;

	if (strcmp(origins, "*") == 0)
		return true;
	for (int count = 0; (len = next_origin(&at)) > 0; at += len)
	{
		if (++count > A67_CORS_ORIGINS)
		{
			(void) snprintf(err, err_size, "There are more than %d origins.", A67_CORS_ORIGINS);
			return false;
		}
		if (is_origin(at, len))
			continue;
		(void) snprintf(err, err_size,
						"\"%.*s\" is not an origin like \"https://app.example.org\", nor is the "
						"whole setting \"*\".",
						len > 64 ? 64 : (int) len, at);
		return false;
	}
	return true;
}

static bool
is_listed(const char *origins, A67HttpStr origin)
{
	size_t len;

	for (; (len = next_origin(&origins)) > 0; origins += len)
		if (len == origin.len && memcmp(origins, origin.at, len) == 0)
			return true;
	return false;
}

static void
add(A67Cors *cors, int *n, const char *name, const char *value)
{
	cors->fields[(*n)++] = (A67HttpField){name, value};
	cors->fields[*n] = (A67HttpField){NULL, NULL};
}

void
a67_cors_fields(const char *origins, const A67HttpHead *head, const char *allow, A67Cors *cors)
{
	const A67HttpStr *origin;
	bool any = strcmp(origins, "*") == 0;
	int n = 0;

	cors->fields[0] = (A67HttpField){NULL, NULL};
	cors->preflight = false;
	if (origins[strspn(origins, ", \t\r\n")] == '\0')
		return;
	if (!any)
		add(cors, &n, "Vary", "Origin");
	origin = a67_http_header(head, "Origin");
	if (origin == NULL || origin->len >= sizeof(cors->origin) ||
		(!any && !is_listed(origins, *origin)))
		return;
	memcpy(cors->origin, origin->at, origin->len);
	cors->origin[origin->len] = '\0';
	add(cors, &n, "Access-Control-Allow-Origin", any ? "*" : cors->origin);
	if (!any)
		add(cors, &n, "Access-Control-Allow-Credentials", "true");
	cors->preflight = head->method == A67_HTTP_OPTIONS &&
					  a67_http_header(head, "Access-Control-Request-Method") != NULL;
	if (!cors->preflight)
	{
		add(cors, &n, "Access-Control-Expose-Headers", EXPOSED_HEADERS);
		return;
	}
	add(cors, &n, "Access-Control-Allow-Methods", allow);
	add(cors, &n, "Access-Control-Allow-Headers", ALLOWED_HEADERS);
	add(cors, &n, "Access-Control-Max-Age", MAX_AGE_S);
}
