/*
 * http_listener_test.c - the parts of the listener that need no server: the route table, the messages
 * between listener and api worker, media types and codings, SQLSTATE to status, request ids.
 */
#include "core/buf.h"
#include "listener/media.h"
#include "listener/reply.h"
#include "listener/routes.h"
#include "listener/status.h"
#include "listener/wire.h"

#include "unit.h"

/* The settings that the route table points to. */
int a67_max_body_size = 1000;
int a67_package_max_size = 2000;
int a67_request_timeout = 20000;

static A67RouteMatch
find(const char *method, const char *path)
{
	static char request[4096];
	static A67HttpHead head;
	A67RouteMatch match;
	int len = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", method, path);

	memset(&match, 0, sizeof(match));
	CHECK(a67_http_parse_request(request, (size_t) len, 0, NULL, &head) > 0);
	a67_route_find(&head, &match);
	return match;
}

static void
routes_are_found(void)
{
	A67RouteMatch match = find("GET", "/healthz");

	REQUIRE(match.route != NULL);
	CHECK_INT(match.route->kind, A67_ROUTE_HEALTHZ);
	match = find("POST", "/rpc/deployment_create");
	REQUIRE(match.route != NULL && match.nparams == 1);
	CHECK_INT(match.route->kind, A67_ROUTE_RPC);
	CHECK_STR(match.params[0].value, "deployment_create");
	match = find("PUT", "/api/v1/packages");
	REQUIRE(match.route != NULL);
	CHECK_STR(match.route->function, "package_put");
	CHECK_STR(match.route->body_arg, "content");
	CHECK(match.route->max_body == &a67_package_max_size);
	CHECK(match.route->token);
}

static void
literals_win_over_parameters(void)
{
	A67RouteMatch match = find("POST", "/api/v1/nodes/register");

	REQUIRE(match.route != NULL);
	CHECK_STR(match.route->function, "node_register");
	CHECK(!match.route->token);
	CHECK_INT(match.nparams, 0);
}

static void
parameters_are_decoded(void)
{
	A67RouteMatch match = find("POST", "/api/v1/deployments/my%20app%2Fx/scale");

	REQUIRE(match.route != NULL && match.nparams == 1);
	CHECK_STR(match.params[0].name, "deployment");
	CHECK_STR(match.params[0].value, "my app/x");
}

static void
other_paths_are_not_found(void)
{
	static const char *const paths[] = {
		"/",
		"/nope",
		"/healthz/",
		"//healthz",
		"/rpc",
		"/rpc/",
		"/rpc/a/b",
		"/api/v1/deployments//scale",
		"/api/v1/packages/%00",
		"/HEALTHZ",
		"/api/v1/deployments/x/scale/",
	};
	char path[1024];

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
	{
		A67RouteMatch match = find("POST", paths[i]);

		CHECK(match.route == NULL);
		CHECK_STR(match.allow, "");
		CHECK_INT(match.nparams, 0);
	}
	/* A parameter as long as its room, with the NUL, is one too long. */
	memset(path, 'a', sizeof(path));
	memcpy(path, "/rpc/", 5);
	path[5 + A67_PARAM_SIZE] = '\0';
	CHECK(find("POST", path).route == NULL);
	path[5 + A67_PARAM_SIZE - 1] = '\0';
	CHECK(find("POST", path).route != NULL);
}

static void
wrong_methods_say_what_is_allowed(void)
{
	A67RouteMatch match = find("POST", "/healthz");

	CHECK(match.route == NULL);
	CHECK_STR(match.allow, "GET, HEAD, OPTIONS");
	match = find("OPTIONS", "/api/v1/packages");
	CHECK(match.route == NULL);
	CHECK_STR(match.allow, "GET, HEAD, POST, PUT, OPTIONS");
	match = find("POST", "/api/v1/packages/abc");
	CHECK(match.route == NULL);
	CHECK_STR(match.allow, "GET, HEAD, DELETE, OPTIONS");
	match = find("OPTIONS", "*");
	CHECK(match.route == NULL);
	CHECK_STR(match.allow, "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
}

static void
head_finds_what_get_does(void)
{
	A67RouteMatch match = find("HEAD", "/api/v1/packages/abc");

	REQUIRE(match.route != NULL && match.nparams == 1);
	CHECK_INT(match.route->method, A67_HTTP_GET);
	CHECK(find("HEAD", "/readyz").route != NULL);
	CHECK(find("HEAD", "/api/v1/auth/login").route == NULL);
	CHECK(find("OPTIONS", "/readyz").route == NULL);
}

static void
classes_hold_for_every_path_of_a_function(void)
{
	CHECK_INT(find("GET", "/healthz").class, A67_CLASS_HEALTH);
	CHECK_INT(find("POST", "/api/v1/auth/login").class, A67_CLASS_AUTH);
	CHECK_INT(find("POST", "/rpc/auth_login").class, A67_CLASS_AUTH);
	CHECK_INT(find("POST", "/rpc/auth%5Flogin").class, A67_CLASS_AUTH);
	CHECK_INT(find("GET", "/rpc/auth_login").class, A67_CLASS_AUTH);
	CHECK_INT(find("POST", "/rpc/package_put").class, A67_CLASS_BULK);
	CHECK_INT(find("POST", "/rpc/version").class, A67_CLASS_WRITE);
	CHECK_INT(find("GET", "/rpc/version").class, A67_CLASS_READ);
}

static void
times_are_bounded_by_the_setting(void)
{
	CHECK_INT(a67_class_time(A67_CLASS_AUTH), 10000);
	CHECK_INT(a67_class_time(A67_CLASS_READ), 15000);
	CHECK_INT(a67_class_time(A67_CLASS_WRITE), 20000);
	CHECK_INT(a67_class_time(A67_CLASS_BULK), 300000);
	a67_request_timeout = 3000;
	for (A67RouteClass class = 0; class < A67_CLASSES; class ++)
		CHECK_INT(a67_class_time(class), class == A67_CLASS_BULK ? 300000 : 3000);
	a67_request_timeout = 20000;
}

static void
table_is_described(void)
{
	A67Buf json;

	a67_buf_init(&json, 65536);
	a67_routes_describe(&json);
	REQUIRE(!json.failed);
	CHECK(strstr(a67_buf_text(&json),
				 "{\"method\":\"POST\",\"path\":\"/api/v1/auth/refresh\",\"function\":"
				 "\"auth_refresh\",\"body\":\"bearer\",\"auth\":true}") != NULL);
	CHECK(strstr(a67_buf_text(&json), "healthz") == NULL);
	CHECK(strstr(a67_buf_text(&json), "openapi") == NULL);
	CHECK(strstr(a67_buf_text(&json), "/rpc/") == NULL);
	CHECK(json.data[0] == '[' && json.data[json.len - 1] == ']');
	a67_buf_free(&json);
	a67_buf_init(&json, 100);
	a67_routes_describe(&json);
	CHECK(json.failed);
	a67_buf_free(&json);
}

static const A67HttpHead *
head_with(const char *headers)
{
	static char request[1024];
	static A67HttpHead head;
	int len = snprintf(request, sizeof(request), "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", headers);

	CHECK(a67_http_parse_request(request, (size_t) len, 0, NULL, &head) > 0);
	return &head;
}

static void
json_is_told_by_its_type(void)
{
	static const char *const good[] = {
		"",
		"Content-Type: application/json\r\n",
		"content-type: APPLICATION/JSON ; charset=utf-8\r\n",
		"Content-Type: application/merge-patch+json\r\n",
		"Content-Encoding: identity\r\n",
	};
	static const char *const bad[] = {
		"Content-Type:\r\n",
		"Content-Type: json\r\n",
		"Content-Type: +json\r\n",
		"Content-Type: text/json\r\n",
		"Content-Type: application/jsonp\r\n",
		"Content-Type: application/json, application/json\r\n",
		"Content-Type: application/json\r\nContent-Type: application/json\r\n",
		"Content-Type: ;application/json\r\n",
		"Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(a67_media_is_json(head_with(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!a67_media_is_json(head_with(bad[i])));
}

static void
codings_are_weighed(void)
{
	static const char *const good[] = {
		"gzip", "GZip", "x-gzip", "br, gzip", "gzip;q=0.001", "gzip ; q=1", "*", "br, *;q=0.1",
	};
	static const char *const bad[] = {
		"", "br", "gzipx", "gzip;q=0", "gzip; q=0.000", "*, gzip;q=0", "*;q=0", "gzip;q=", ",;,",
	};
	char headers[128];

	CHECK(!a67_media_takes_gzip(head_with("")));
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		(void) snprintf(headers, sizeof(headers), "Accept-Encoding: %s\r\n", good[i]);
		CHECK(a67_media_takes_gzip(head_with(headers)));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		(void) snprintf(headers, sizeof(headers), "Accept-Encoding: %s\r\n", bad[i]);
		CHECK(!a67_media_takes_gzip(head_with(headers)));
	}
	CHECK(a67_media_takes_gzip(head_with("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n")));
}

/* What a row of the table may not be, however it is edited. */
static void
table_is_consistent(void)
{
	for (const A67Route *route = a67_routes; route->path != NULL; route++)
	{
		bool sql = route->kind == A67_ROUTE_SQL || route->kind == A67_ROUTE_HEARTBEAT ||
				   route->kind == A67_ROUTE_BEARER || route->kind == A67_ROUTE_OPENAPI ||
				   route->kind == A67_ROUTE_LOGS;
		bool own_argument = route->body == A67_BODY_JSON || route->body == A67_BODY_RAW ||
							route->kind == A67_ROUTE_BEARER || route->kind == A67_ROUTE_OPENAPI;

		CHECK(route->path[0] == '/');
		CHECK((route->function != NULL) == sql);
		CHECK((route->max_body != NULL) == (route->body != A67_BODY_NONE));
		CHECK((route->body_arg != NULL) == own_argument);
		CHECK(route->class < A67_CLASSES);
		CHECK(!route->streams || route->class == A67_CLASS_BULK);
		CHECK(route->method != A67_HTTP_GET || route->body == A67_BODY_NONE);
		CHECK(route->status == 0 || (route->status >= 200 && route->status < 300));
	}
}

static A67Call
sample_call(void)
{
	A67Call call = {
		.timeout_ms = 1234,
		.status = 201,
		.body_length = 5000000000,
		.body_kind = A67_BODY_RAW,
		.has_body = true,
		.anonymous = true,
		.function = "package_put",
		.body_arg = "content",
		.params = "[]",
		.role = "a67_anon",
		.claims = "",
		.method = "PUT",
		.path = "/api/v1/packages",
		.headers = "{\"host\":\"a\"}",
		.request_id = "r1",
		.address = "127.0.0.1",
		.gzip = true,
		.note = true,
	};

	return call;
}

static void
calls_survive_the_wire(void)
{
	A67Call call = sample_call();
	A67Call got;
	A67Buf buf;

	a67_buf_init(&buf, A67_WIRE_CALL);
	REQUIRE(a67_wire_put_call(&buf, &call));
	a67_wire_set_timeout(&buf, 77);
	REQUIRE(a67_wire_get_call(buf.data, buf.len, &got));
	CHECK_INT(got.timeout_ms, 77);
	CHECK_INT(got.status, 201);
	CHECK_INT(got.body_length, 5000000000);
	CHECK_INT(got.body_kind, A67_BODY_RAW);
	CHECK(got.has_body && got.anonymous);
	CHECK_STR(got.function, "package_put");
	CHECK_STR(got.claims, "");
	CHECK_STR(got.headers, "{\"host\":\"a\"}");
	CHECK_STR(got.request_id, "r1");
	CHECK_STR(got.address, "127.0.0.1");
	CHECK(got.gzip && got.note && !got.safe);
	a67_buf_free(&buf);
}

static void
calls_that_do_not_fit_are_refused(void)
{
	A67Call call = sample_call();
	A67Buf buf;

	a67_buf_init(&buf, 64);
	CHECK(!a67_wire_put_call(&buf, &call));
	a67_buf_free(&buf);
}

/* Every cut, in memory of exactly that size for the sanitizer to watch. */
static void
cut_messages_are_refused(void)
{
	A67Call call = sample_call();
	A67Call got;
	A67AnswerHead head = {.status = 200, .content_length = -1, .nfields = 1};
	A67AnswerHead got_head;
	A67Buf buf;
	A67Buf head_buf;

	head.fields[0].name = "Content-Type";
	head.fields[0].value = "text/plain";
	a67_buf_init(&buf, A67_WIRE_CALL);
	a67_buf_init(&head_buf, A67_WIRE_HEAD);
	REQUIRE(a67_wire_put_call(&buf, &call) && a67_wire_put_head(&head_buf, &head));
	for (size_t len = 0; len < buf.len; len++)
	{
		char *copy = malloc(len + 1);

		REQUIRE(copy != NULL);
		memcpy(copy + 1, buf.data, len);
		CHECK(!a67_wire_get_call(copy + 1, len, &got));
		if (len < head_buf.len)
		{
			memcpy(copy + 1, head_buf.data, len);
			CHECK(!a67_wire_get_head(copy + 1, len, &got_head));
		}
		free(copy);
	}
	CHECK(!a67_wire_get_head(buf.data, buf.len, &got_head));
	CHECK(!a67_wire_get_call(head_buf.data, head_buf.len, &got));
	a67_buf_append(&buf, "x", 1);
	CHECK(!a67_wire_get_call(buf.data, buf.len, &got));
	a67_buf_free(&buf);
	a67_buf_free(&head_buf);
}

static void
heads_survive_the_wire(void)
{
	A67AnswerHead head = {.status = 404, .content_length = 12, .nfields = A67_WIRE_HEADERS};
	A67AnswerHead got;
	A67Buf buf;

	for (int i = 0; i < A67_WIRE_HEADERS; i++)
	{
		head.fields[i].name = "X-Name";
		head.fields[i].value = i % 2 == 0 ? "" : "value";
	}
	a67_buf_init(&buf, A67_WIRE_HEAD);
	REQUIRE(a67_wire_put_head(&buf, &head));
	REQUIRE(a67_wire_get_head(buf.data, buf.len, &got));
	CHECK_INT(got.status, 404);
	CHECK_INT(got.content_length, 12);
	CHECK_INT(got.nfields, A67_WIRE_HEADERS);
	CHECK_STR(got.fields[A67_WIRE_HEADERS - 1].value, "value");
	a67_buf_free(&buf);
}

static void
sqlstates_become_statuses(void)
{
	static const struct
	{
		const char *sqlstate;
		int status;
		int anonymous;
	} rows[] = {
		{"22023", 400, 400}, {"22P02", 400, 400}, {"23505", 409, 409}, {"23503", 409, 409},
		{"23514", 400, 400}, {"42501", 403, 401}, {"42883", 404, 404}, {"42725", 400, 400},
		{"28000", 403, 403}, {"40001", 503, 503}, {"40P01", 503, 503}, {"53300", 503, 503},
		{"57014", 504, 504}, {"57P01", 503, 503}, {"08006", 503, 503}, {"P0001", 400, 400},
		{"XX000", 500, 500}, {"42P10", 400, 400}, {"38000", 500, 500}, {"PT404", 404, 404},
		{"PT410", 410, 410}, {"PT503", 503, 503}, {"PT200", 500, 500}, {"PT6xx", 500, 500},
		{"PT4x4", 500, 500}, {"P0002", 500, 500}, {"25006", 405, 405}, {"25001", 500, 500},
		{"0A000", 400, 400}, {"42601", 400, 400}, {"42P01", 404, 404}, {"54000", 400, 400},
		{"55P03", 503, 503}, {"PT504", 504, 504},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		CHECK_INT(a67_status_of_sqlstate(rows[i].sqlstate, false), rows[i].status);
		CHECK_INT(a67_status_of_sqlstate(rows[i].sqlstate, true), rows[i].anonymous);
	}
	CHECK(a67_status_is_retryable("40001") && a67_status_is_retryable("53100"));
	CHECK(a67_status_is_retryable("PT503") && !a67_status_is_retryable("57014"));
	CHECK(a67_status_is_internal("XX001") && !a67_status_is_internal("58000"));
}

static void
check_id(const char *header, bool kept)
{
	char request[512];
	char id[A67_REQUEST_ID_SIZE];
	static A67HttpHead head;
	uint64_t random = 1;
	int len = snprintf(request, sizeof(request),
					   "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: %s\r\n\r\n", header);

	CHECK(a67_http_parse_request(request, (size_t) len, 0, NULL, &head) > 0);
	a67_request_id(&head, &random, id);
	if (kept)
		CHECK_STR(id, header);
	else
		CHECK_INT((int64_t) strspn(id, "0123456789abcdef"), 32);
}

static void
request_ids_are_kept_when_sane(void)
{
	char id[A67_REQUEST_ID_SIZE + 1];

	memset(id, 'a', sizeof(id));
	id[A67_REQUEST_ID_SIZE - 1] = '\0';
	check_id(id, true);
	id[A67_REQUEST_ID_SIZE - 1] = 'a';
	id[A67_REQUEST_ID_SIZE] = '\0';
	check_id(id, false);
	check_id("0af7651916cd43dd8448eb211c80319c", true);
	check_id("A-b_c.9", true);
	check_id("a b", false);
	check_id("a\"b", false);
	check_id("", false);
}

UNIT_MAIN("http_listener", UNIT(routes_are_found), UNIT(literals_win_over_parameters),
		  UNIT(parameters_are_decoded), UNIT(other_paths_are_not_found),
		  UNIT(wrong_methods_say_what_is_allowed), UNIT(head_finds_what_get_does),
		  UNIT(classes_hold_for_every_path_of_a_function), UNIT(times_are_bounded_by_the_setting),
		  UNIT(table_is_consistent), UNIT(table_is_described), UNIT(json_is_told_by_its_type),
		  UNIT(codings_are_weighed), UNIT(calls_survive_the_wire),
		  UNIT(calls_that_do_not_fit_are_refused), UNIT(cut_messages_are_refused),
		  UNIT(heads_survive_the_wire), UNIT(sqlstates_become_statuses),
		  UNIT(request_ids_are_kept_when_sane));
