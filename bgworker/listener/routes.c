/*
 * routes.c: the table of routes; see routes.h.
 *
 * One line per route. A path parameter becomes the argument of that name, in every kind of route; query
 * parameters do so where there is no body. Everything else about a function (its arguments, who may call
 * it, what it answers) is the function's own business.
 */
#include "listener/routes.h"

#include <stdio.h>
#include <string.h>

#include "platform/settings.h"

#define CLOSED	  true	/* needs a token */
#define OPEN	  false /* does not */

/* The ways to take a body, as {kind, argument, limit, streams}. */
#define NO_BODY	  A67_BODY_NONE, NULL, NULL, false
#define DOWNLOAD  A67_BODY_NONE, NULL, NULL, true
#define ARGS	  A67_BODY_ARGS, NULL, &a67_max_body_size, false
#define JSON(arg) A67_BODY_JSON, arg, &a67_max_body_size, false
#define RAW(arg)  A67_BODY_RAW, arg, &a67_package_max_size, true

#define GET		  A67_HTTP_GET
#define POST	  A67_HTTP_POST
#define PUT		  A67_HTTP_PUT
#define DELETE	  A67_HTTP_DELETE

#define V1		  "/api/v1/"

/* clang-format off */
const A67Route a67_routes[] = {
	{GET,    "/healthz",                           A67_ROUTE_HEALTHZ,   OPEN,   NULL,                0,   NO_BODY},
	{GET,    "/readyz",                            A67_ROUTE_READYZ,    OPEN,   NULL,                0,   NO_BODY},
	{POST,   "/rpc/{function}",                    A67_ROUTE_RPC,       OPEN,   NULL,                0,   ARGS},

	{POST,   V1 "nodes/join-tokens",               A67_ROUTE_SQL,       CLOSED, "join_token_create", 201, ARGS},
	{POST,   V1 "nodes/register",                  A67_ROUTE_SQL,       OPEN,   "node_register",     201, ARGS},
	{POST,   V1 "nodes/heartbeat",                 A67_ROUTE_HEARTBEAT, CLOSED, "node_heartbeat",    204, ARGS},
	{DELETE, V1 "nodes/{node}",                    A67_ROUTE_SQL,       CLOSED, "node_remove",       0,   NO_BODY},

	{PUT,    V1 "packages",                        A67_ROUTE_SQL,       CLOSED, "package_put",       201, RAW("content")},
	{GET,    V1 "packages/{digest}",               A67_ROUTE_SQL,       CLOSED, "package_get",       0,   DOWNLOAD},

	{POST,   V1 "deployments",                     A67_ROUTE_SQL,       CLOSED, "deployment_create", 202, JSON("manifest")},
	{POST,   V1 "deployments/{deployment}/scale",  A67_ROUTE_SQL,       CLOSED, "deployment_scale",  202, ARGS},
	{POST,   V1 "deployments/{deployment}/stop",   A67_ROUTE_SQL,       CLOSED, "deployment_stop",   202, ARGS},
	{POST,   V1 "deployments/{deployment}/start",  A67_ROUTE_SQL,       CLOSED, "deployment_start",  202, ARGS},
	{DELETE, V1 "deployments/{deployment}",        A67_ROUTE_SQL,       CLOSED, "deployment_remove", 202, NO_BODY},
	{.path = NULL},
};
/* clang-format on */

typedef struct MethodName
{
	A67HttpMethod method;
	const char *name;
} MethodName;

static const MethodName method_names[] = {
	{A67_HTTP_GET, "GET"},		   {A67_HTTP_HEAD, "HEAD"},		{A67_HTTP_POST, "POST"},
	{A67_HTTP_PUT, "PUT"},		   {A67_HTTP_DELETE, "DELETE"}, {A67_HTTP_PATCH, "PATCH"},
	{A67_HTTP_OPTIONS, "OPTIONS"},
};

/* The next segment, behind the slash at *at; *at moves to the slash after it, or to the end. */
static A67HttpStr
next_segment(const char **at, const char *end)
{
	A67HttpStr segment = {.at = *at + 1};

	while (segment.at + segment.len < end && segment.at[segment.len] != '/')
		segment.len++;
	*at = segment.at + segment.len;
	return segment;
}

/* Takes {name} of the template with its value; false when it is not a parameter or has no value. */
static bool
take_param(A67HttpStr name, A67HttpStr value, A67RouteMatch *match)
{
	int i = match->nparams;

	if (name.len < 3 || name.at[0] != '{' || i == A67_ROUTE_PARAMS)
		return false;
	if (a67_http_percent_decode(value, false, match->params[i].value, A67_PARAM_SIZE) <= 0)
		return false;
	(void) snprintf(match->params[i].name, sizeof(match->params[i].name), "%.*s",
					(int) name.len - 2, name.at + 1);
	match->nparams++;
	return true;
}

static bool
path_matches(const char *path, A67HttpStr actual, A67RouteMatch *match)
{
	const char *path_end = path + strlen(path);
	const char *actual_end = actual.at + actual.len;
	const char *a = actual.at;

	match->nparams = 0;
	if (actual.len == 0 || *a != '/')
		return false;
	while (path < path_end && a < actual_end)
	{
		A67HttpStr wanted = next_segment(&path, path_end);
		A67HttpStr given = next_segment(&a, actual_end);

		if (wanted.len == given.len && memcmp(wanted.at, given.at, given.len) == 0)
			continue;
		if (!take_param(wanted, given, match))
			return false;
	}
	return path == path_end && a == actual_end;
}

static bool
method_matches(const A67Route *route, A67HttpMethod method)
{
	bool own = route->kind == A67_ROUTE_HEALTHZ || route->kind == A67_ROUTE_READYZ;

	return route->method == method || (own && method == A67_HTTP_HEAD);
}

static void
write_allow(unsigned methods, char allow[A67_ALLOW_SIZE])
{
	size_t len = 0;

	allow[0] = '\0';
	if (methods == 0)
		return;
	methods |= 1u << A67_HTTP_OPTIONS;
	for (size_t i = 0; i < sizeof(method_names) / sizeof(method_names[0]); i++)
		if (methods & (1u << method_names[i].method))
			len += (size_t) snprintf(allow + len, A67_ALLOW_SIZE - len, "%s%s", len > 0 ? ", " : "",
									 method_names[i].name);
}

void
a67_route_find(const A67HttpHead *head, A67RouteMatch *match)
{
	unsigned methods = 0;

	memset(match, 0, sizeof(*match));
	for (const A67Route *route = a67_routes; route->path != NULL; route++)
	{
		if (!path_matches(route->path, head->path, match))
			continue;
		methods |= 1u << route->method;
		if (method_matches(route, A67_HTTP_HEAD))
			methods |= 1u << A67_HTTP_HEAD;
		if (method_matches(route, head->method))
		{
			match->route = route;
			return;
		}
	}
	match->nparams = 0;
	write_allow(methods, match->allow);
}
