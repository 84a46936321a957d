/*
 * routes.c: the table of routes; see routes.h.
 *
 * One line per route. A path parameter becomes the argument of that name, in every kind of route; query
 * parameters do so where there is no body. The first route that fits counts. Everything else about a function (its arguments, who may call
 * it, what it answers) is the function's own business.
 */
#include "listener/routes.h"

#include <stdio.h>
#include <string.h>

#include "platform/settings.h"

#define CLOSED		true  /* needs a token */
#define OPEN		false /* does not */

/* The ways to take a body, as {kind, argument, limit, streams}. */
#define NO_BODY		A67_BODY_NONE, NULL, NULL, false
#define DOWNLOAD	A67_BODY_NONE, NULL, NULL, true
#define GIVEN(arg)	A67_BODY_NONE, arg, NULL, false
#define ARGS		A67_BODY_ARGS, NULL, &a67_max_body_size, false
#define TOKEN(arg)	A67_BODY_ARGS, arg, &a67_max_body_size, false
#define JSON(arg)	A67_BODY_JSON, arg, &a67_max_body_size, false
#define RAW(arg)	A67_BODY_RAW, arg, &a67_package_max_size, true

#define GET			A67_HTTP_GET
#define POST		A67_HTTP_POST
#define PUT			A67_HTTP_PUT
#define DELETE		A67_HTTP_DELETE
#define PATCH		A67_HTTP_PATCH

#define KIND(name)	A67_ROUTE_##name
#define CLASS(name) A67_CLASS_##name

#define V1			"/api/v1/"

/* clang-format off */
const A67Route a67_routes[] = {
	/* First because most requests are heartbeats: the table is searched from here. */
	{POST,   V1 "nodes/heartbeat",                 KIND(HEARTBEAT), CLASS(HEARTBEAT), CLOSED, "node_heartbeat",       204, ARGS},

	{GET,    "/healthz",                           KIND(HEALTHZ),   CLASS(HEALTH),    OPEN,   NULL,                   0,   NO_BODY},
	{GET,    "/readyz",                            KIND(READYZ),    CLASS(HEALTH),    OPEN,   NULL,                   0,   NO_BODY},
	{GET,    "/ws",                                KIND(WEBSOCKET), CLASS(READ),      OPEN,   NULL,                   0,   NO_BODY},
	{GET,    "/openapi.json",                      KIND(OPENAPI),   CLASS(READ),      OPEN,   "openapi",              0,   GIVEN("routes")},
	{GET,    "/rpc/{function}",                    KIND(RPC),       CLASS(READ),      OPEN,   NULL,                   0,   NO_BODY},
	{POST,   "/rpc/{function}",                    KIND(RPC),       CLASS(WRITE),     OPEN,   NULL,                   0,   ARGS},

	{POST,   V1 "auth/register",                   KIND(SQL),       CLASS(AUTH),      OPEN,   "auth_register",        201, ARGS},
	{POST,   V1 "auth/login",                      KIND(SQL),       CLASS(AUTH),      OPEN,   "auth_login",           0,   ARGS},
	{POST,   V1 "auth/refresh",                    KIND(BEARER),    CLASS(AUTH),      CLOSED, "auth_refresh",         0,   TOKEN("refresh_token")},
	{POST,   V1 "auth/logout",                     KIND(SQL),       CLASS(AUTH),      CLOSED, "auth_logout",          0,   ARGS},
	{GET,    V1 "auth/me",                         KIND(SQL),       CLASS(READ),      CLOSED, "auth_me",              0,   NO_BODY},
	{POST,   V1 "auth/password",                   KIND(SQL),       CLASS(AUTH),      CLOSED, "auth_password_change", 0,   ARGS},
	{POST,   V1 "auth/mfa/enroll",                 KIND(SQL),       CLASS(AUTH),      CLOSED, "auth_mfa_enroll",      0,   ARGS},
	{POST,   V1 "auth/mfa/confirm",                KIND(SQL),       CLASS(AUTH),      CLOSED, "auth_mfa_confirm",     0,   ARGS},
	{POST,   V1 "auth/mfa/disable",                KIND(SQL),       CLASS(AUTH),      CLOSED, "auth_mfa_disable",     0,   ARGS},

	{GET,    V1 "nodes",                           KIND(SQL),       CLASS(READ),      CLOSED, "node_list",            0,   NO_BODY},
	{GET,    V1 "nodes/join-tokens",               KIND(SQL),       CLASS(READ),      CLOSED, "join_token_list",      0,   NO_BODY},
	{POST,   V1 "nodes/join-tokens",               KIND(SQL),       CLASS(WRITE),     CLOSED, "join_token_create",    201, ARGS},
	{DELETE, V1 "nodes/join-tokens/{join_token_id}", KIND(SQL),     CLASS(WRITE),     CLOSED, "join_token_revoke",    0,   NO_BODY},
	{POST,   V1 "nodes/find",                      KIND(SQL),       CLASS(READ),      CLOSED, "node_find",            0,   JSON("criteria")},
	{POST,   V1 "nodes/select",                    KIND(SQL),       CLASS(READ),      CLOSED, "node_select",          0,   ARGS},
	{POST,   V1 "nodes/register",                  KIND(SQL),       CLASS(AUTH),      OPEN,   "node_register",        201, ARGS},
	{POST,   V1 "nodes/logs",                      KIND(SQL),       CLASS(HEARTBEAT), CLOSED, "log_put",              0,   ARGS},
	{GET,    V1 "nodes/{node}",                    KIND(SQL),       CLASS(READ),      CLOSED, "node_get",             0,   NO_BODY},
	{GET,    V1 "nodes/{node}/stats",              KIND(SQL),       CLASS(READ),      CLOSED, "node_stats",           0,   NO_BODY},
	{GET,    V1 "system/metrics",                  KIND(SQL),       CLASS(READ),      CLOSED, "system_metrics",       0,   NO_BODY},
	{PATCH,  V1 "nodes/{node}",                    KIND(SQL),       CLASS(WRITE),     CLOSED, "node_update",          0,   JSON("changes")},
	{DELETE, V1 "nodes/{node}",                    KIND(SQL),       CLASS(WRITE),     CLOSED, "node_deregister",      0,   NO_BODY},
	{POST,   V1 "nodes/{node}/drain",              KIND(SQL),       CLASS(WRITE),     CLOSED, "node_drain",           0,   ARGS},
	{POST,   V1 "nodes/{node}/maintenance",        KIND(SQL),       CLASS(WRITE),     CLOSED, "node_maintenance",     0,   ARGS},
	{POST,   V1 "nodes/{node}/activate",           KIND(SQL),       CLASS(WRITE),     CLOSED, "node_activate",        0,   ARGS},

	{GET,    V1 "providers",                       KIND(SQL),       CLASS(READ),      CLOSED, "provider_list",        0,   NO_BODY},
	{PUT,    V1 "providers/{name}",                KIND(SQL),       CLASS(WRITE),     CLOSED, "provider_set",         0,   JSON("changes")},
	{DELETE, V1 "providers/{name}",                KIND(SQL),       CLASS(WRITE),     CLOSED, "provider_remove",      0,   NO_BODY},
	{GET,    V1 "regions",                         KIND(SQL),       CLASS(READ),      CLOSED, "region_list",          0,   NO_BODY},
	{PUT,    V1 "regions/{name}",                  KIND(SQL),       CLASS(WRITE),     CLOSED, "region_set",           0,   ARGS},
	{DELETE, V1 "regions/{name}",                  KIND(SQL),       CLASS(WRITE),     CLOSED, "region_remove",        0,   NO_BODY},

	{PUT,    V1 "packages",                        KIND(SQL),       CLASS(BULK),      CLOSED, "package_put",          201, RAW("content")},
	{POST,   V1 "packages",                        KIND(SQL),       CLASS(WRITE),     CLOSED, "package_build",        201, JSON("files")},
	{GET,    V1 "packages",                        KIND(SQL),       CLASS(READ),      CLOSED, "package_list",         0,   NO_BODY},
	{GET,    V1 "packages/{digest}",               KIND(SQL),       CLASS(BULK),      CLOSED, "package_get",          0,   DOWNLOAD},
	{DELETE, V1 "packages/{digest}",               KIND(SQL),       CLASS(WRITE),     CLOSED, "package_remove",       0,   NO_BODY},

	{POST,   V1 "manifests/check",                 KIND(SQL),       CLASS(READ),      CLOSED, "manifest_check",       0,   JSON("manifest")},
	{GET,    V1 "manifests/schema",                KIND(SQL),       CLASS(READ),      CLOSED, "manifest_schema",      0,   NO_BODY},

	{GET,    V1 "secrets",                         KIND(SQL),       CLASS(READ),      CLOSED, "secret_list",          0,   NO_BODY},
	{POST,   V1 "secrets",                         KIND(SQL),       CLASS(WRITE),     CLOSED, "secret_set",           0,   ARGS},
	{PUT,    V1 "secrets/{name}",                  KIND(SQL),       CLASS(WRITE),     CLOSED, "secret_set",           0,   ARGS},
	{DELETE, V1 "secrets/{name}",                  KIND(SQL),       CLASS(WRITE),     CLOSED, "secret_remove",        0,   NO_BODY},

	{GET,    V1 "deployments",                     KIND(SQL),       CLASS(READ),      CLOSED, "deployment_list",      0,   NO_BODY},
	{POST,   V1 "deployments",                     KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_create",    202, JSON("manifest")},
	{GET,    V1 "deployments/{deployment}",        KIND(SQL),       CLASS(READ),      CLOSED, "deployment_get",       0,   NO_BODY},
	{POST,   V1 "deployments/{deployment}/scale",  KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_scale",     202, ARGS},
	{POST,   V1 "deployments/{deployment}/stop",   KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_stop",      202, ARGS},
	{POST,   V1 "deployments/{deployment}/start",  KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_start",     202, ARGS},
	{POST,   V1 "deployments/{deployment}/run",    KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_run",       202, ARGS},
	{GET,    V1 "deployments/{deployment}/runs",   KIND(SQL),       CLASS(READ),      CLOSED, "deployment_runs",      0,   NO_BODY},
	{GET,    V1 "deployments/{deployment}/logs",   KIND(LOGS),      CLASS(READ),      CLOSED, "deployment_log_text",  0,   NO_BODY},
	{PUT,    V1 "deployments/{deployment}",        KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_update",    202, JSON("manifest")},
	{POST,   V1 "deployments/{deployment}/rollback", KIND(SQL),     CLASS(WRITE),     CLOSED, "deployment_rollback",  202, ARGS},
	{POST,   V1 "deployments/{deployment}/pause",  KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_pause",     202, ARGS},
	{POST,   V1 "deployments/{deployment}/resume", KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_resume",    202, ARGS},
	{POST,   V1 "deployments/{deployment}/abort",  KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_abort",     202, ARGS},
	{POST,   V1 "deployments/{deployment}/promote", KIND(SQL),      CLASS(WRITE),     CLOSED, "deployment_promote",   202, ARGS},
	{GET,    V1 "deployments/{deployment}/explain", KIND(SQL),      CLASS(READ),      CLOSED, "deployment_explain",   0,   NO_BODY},
	{DELETE, V1 "deployments/{deployment}",        KIND(SQL),       CLASS(WRITE),     CLOSED, "deployment_remove",    202, NO_BODY},

	{POST,   V1 "credentials",                     KIND(SQL),       CLASS(WRITE),     CLOSED, "credential_set",       0,   ARGS},
	{GET,    V1 "credentials",                     KIND(SQL),       CLASS(READ),      CLOSED, "credential_list",      0,   NO_BODY},
	{GET,    V1 "credentials/{credential}",        KIND(SQL),       CLASS(READ),      CLOSED, "credential_get",       0,   NO_BODY},
	{POST,   V1 "credentials/{credential}/refresh", KIND(SQL),      CLASS(WRITE),     CLOSED, "credential_refresh",   0,   ARGS},
	{DELETE, V1 "credentials/{credential}",        KIND(SQL),       CLASS(WRITE),     CLOSED, "credential_revoke",    0,   NO_BODY},

	{GET,    V1 "vault",                           KIND(SQL),       CLASS(READ),      CLOSED, "vault_item_list",      0,   NO_BODY},
	{PUT,    V1 "vault/{name}",                    KIND(SQL),       CLASS(WRITE),     CLOSED, "vault_item_put",       0,   ARGS},
	{GET,    V1 "vault/{name}",                    KIND(SQL),       CLASS(READ),      CLOSED, "vault_item_get",       0,   NO_BODY},
	{DELETE, V1 "vault/{name}",                    KIND(SQL),       CLASS(WRITE),     CLOSED, "vault_item_remove",    0,   NO_BODY},

	{POST,   V1 "databases/{database}/query",      KIND(SQL),       CLASS(QUERY),     CLOSED, "database_query",       0,   ARGS},
	{POST,   V1 "databases",                       KIND(SQL),       CLASS(QUERY),     CLOSED, "database_create",      201, ARGS},
	{GET,    V1 "databases",                       KIND(SQL),       CLASS(READ),      CLOSED, "database_list",        0,   NO_BODY},
	{GET,    V1 "databases/{database}",            KIND(SQL),       CLASS(READ),      CLOSED, "database_get",         0,   NO_BODY},
	{GET,    V1 "databases/{database}/schema",     KIND(SQL),       CLASS(READ),      CLOSED, "database_schema",      0,   NO_BODY},
	{DELETE, V1 "databases/{database}",            KIND(SQL),       CLASS(WRITE),     CLOSED, "database_drop",        0,   NO_BODY},
	{GET,    V1 "databases/{database}/roles",      KIND(SQL),       CLASS(READ),      CLOSED, "database_role_list",   0,   NO_BODY},
	{POST,   V1 "databases/{database}/roles",      KIND(SQL),       CLASS(WRITE),     CLOSED, "database_role_create", 201, ARGS},
	{DELETE, V1 "databases/{database}/roles/{name}", KIND(SQL),     CLASS(WRITE),     CLOSED, "database_role_drop",   0,   NO_BODY},

	{GET,    V1 "events",                          KIND(SQL),       CLASS(READ),      CLOSED, "event_list",           0,   NO_BODY},
	{GET,    V1 "alerts",                          KIND(SQL),       CLASS(READ),      CLOSED, "alert_list",           0,   NO_BODY},
	{POST,   V1 "alerts/{alert}/ack",              KIND(SQL),       CLASS(WRITE),     CLOSED, "alert_ack",            0,   ARGS},
	{POST,   V1 "alerts/{alert}/resolve",          KIND(SQL),       CLASS(WRITE),     CLOSED, "alert_resolve",        0,   ARGS},

	{GET,    V1 "channels",                        KIND(SQL),       CLASS(READ),      CLOSED, "channel_list",         0,   NO_BODY},
	{POST,   V1 "channels",                        KIND(SQL),       CLASS(WRITE),     CLOSED, "channel_create",       201, ARGS},
	{GET,    V1 "channels/{channel}",              KIND(SQL),       CLASS(READ),      CLOSED, "channel_get",          0,   NO_BODY},
	{PATCH,  V1 "channels/{channel}",              KIND(SQL),       CLASS(WRITE),     CLOSED, "channel_update",       0,   ARGS},
	{DELETE, V1 "channels/{channel}",              KIND(SQL),       CLASS(WRITE),     CLOSED, "channel_remove",       0,   NO_BODY},
	{POST,   V1 "channels/{channel}/test",         KIND(SQL),       CLASS(WRITE),     CLOSED, "channel_test",         202, ARGS},
	{GET,    V1 "outbox",                          KIND(SQL),       CLASS(READ),      CLOSED, "outbox_list",          0,   NO_BODY},
	{GET,    V1 "outbox/{message}",                KIND(SQL),       CLASS(READ),      CLOSED, "outbox_get",           0,   NO_BODY},
	{POST,   V1 "outbox/{message}/retry",          KIND(SQL),       CLASS(WRITE),     CLOSED, "outbox_retry",         202, ARGS},

	{GET,    V1 "system/vault",                    KIND(SQL),       CLASS(READ),      CLOSED, "vault_status",         0,   NO_BODY},
	{POST,   V1 "system/vault/seal",               KIND(SQL),       CLASS(WRITE),     CLOSED, "vault_seal",           0,   ARGS},
	{POST,   V1 "system/vault/rotate",             KIND(SQL),       CLASS(WRITE),     CLOSED, "vault_rotate",         202, ARGS},
	{.path = NULL},
};
/* clang-format on */

#define BULK_MS		(5 * 60 * 1000)

/* How long a function of each class may run; a67.request_timeout may say less, but not for bulk. */
static const int class_ms[A67_CLASSES] = {
	[A67_CLASS_HEALTH] = 10000, [A67_CLASS_AUTH] = 10000,	   [A67_CLASS_READ] = 15000,
	[A67_CLASS_WRITE] = 30000,	[A67_CLASS_HEARTBEAT] = 30000, [A67_CLASS_BULK] = BULK_MS,
	[A67_CLASS_QUERY] = 30000,
};

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
	return route->method == method || (route->method == A67_HTTP_GET && method == A67_HTTP_HEAD);
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

/* Functions without a route of their own that wait for shards. */
static const char *const queries[] = {"database_ddl", "table_create", "table_import"};

/* A function is of the same class by whichever path it is called: /rpc is no way round a limit. */
static A67RouteClass
class_of(const A67RouteMatch *match)
{
	if (match->route->kind != A67_ROUTE_RPC)
		return match->route->class;
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
		if (strcmp(queries[i], match->params[0].value) == 0)
			return A67_CLASS_QUERY;
	for (const A67Route *route = a67_routes; route->path != NULL; route++)
		if (route->function != NULL && strcmp(route->function, match->params[0].value) == 0)
			return route->class;
	return match->route->class;
}

static unsigned
methods_of(const A67Route *route)
{
	unsigned head = route->method == A67_HTTP_GET ? 1u << A67_HTTP_HEAD : 0;

	return head | (1u << route->method);
}

void
a67_route_find(const A67HttpHead *head, A67RouteMatch *match)
{
	bool whole_server = head->path.len == 1 && *head->path.at == '*';
	unsigned methods = 0;

	memset(match, 0, sizeof(*match));
	for (const A67Route *route = a67_routes; route->path != NULL; route++)
	{
		if (!whole_server && !path_matches(route->path, head->path, match))
			continue;
		methods |= methods_of(route);
		if (!whole_server && method_matches(route, head->method))
		{
			match->route = route;
			match->class = class_of(match);
			return;
		}
	}
	match->nparams = 0;
	write_allow(methods, match->allow);
}

int
a67_class_time(A67RouteClass class)
{
	int ms = class_ms[class];

	if (class != A67_CLASS_BULK && a67_request_timeout < ms)
		return a67_request_timeout;
	return ms;
}

static const char *
method_name(A67HttpMethod method)
{
	for (size_t i = 0; i < sizeof(method_names) / sizeof(method_names[0]); i++)
		if (method_names[i].method == method)
			return method_names[i].name;
	return "";
}

static const char *
body_name(const A67Route *route)
{
	static const char *const names[] = {
		[A67_BODY_NONE] = "none",
		[A67_BODY_ARGS] = "json",
		[A67_BODY_JSON] = "whole",
		[A67_BODY_RAW] = "raw",
	};

	return route->kind == A67_ROUTE_BEARER ? "bearer" : names[route->body];
}

void
a67_routes_describe(A67Buf *json)
{
	const char *separator = "[";

	for (const A67Route *route = a67_routes; route->path != NULL; route++)
	{
		if (route->function == NULL || route->kind == A67_ROUTE_OPENAPI)
			continue;
		/* The table needs no escapes. */
		a67_buf_append_fmt(json,
						   "%s{\"method\":\"%s\",\"path\":\"%s\",\"function\":\"%s\","
						   "\"body\":\"%s\",\"auth\":%s}",
						   separator, method_name(route->method), route->path, route->function,
						   body_name(route), route->token ? "true" : "false");
		separator = ",";
	}
	a67_buf_append_str(json, "]");
}
