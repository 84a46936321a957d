/*
 * job.c: one request on its way to an api worker.
 *
 * Owns making a job and its CALL message, and freeing it. The message holds copies of everything, so a
 * job outlives its client; only a buffered body stays in the engine's memory, and dispatch.c stops
 * reading it when the client goes. Called inside the engine's callbacks: malloc only, nothing throws.
 */
#include "postgres.h"

#include "listener/state.h"

#include <ctype.h>

#include "platform/clock.h"

#define ANON_ROLE	 "a67_anon"
#define QUERY_PARAMS 32
#define QUERY_NAME	 64
#define QUERY_VALUE	 2048

static bool
same_name(A67HttpStr a, A67HttpStr b)
{
	return a.len == b.len && pg_strncasecmp(a.at, b.at, a.len) == 0;
}

static bool
is_secret(A67HttpStr name)
{
	return a67_http_str_is_nocase(name, "authorization") ||
		   a67_http_str_is_nocase(name, "proxy-authorization");
}

/* Whether a header of that name stands before number i. */
static bool
seen_before(const A67HttpHead *head, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (same_name(head->headers[j].name, head->headers[i].name))
			return true;
	return false;
}

/* All values of the name of header number first, as one JSON string. */
static void
append_values(A67Buf *json, const A67HttpHead *head, size_t first)
{
	A67Buf all;

	a67_buf_init(&all, A67_WIRE_CALL);
	for (size_t i = first; i < head->nheaders; i++)
	{
		if (!same_name(head->headers[i].name, head->headers[first].name))
			continue;
		if (i > first)
			a67_buf_append_str(&all, ", ");
		a67_buf_append(&all, head->headers[i].value.at, head->headers[i].value.len);
	}
	json->failed = json->failed || all.failed;
	a67_buf_append_json_string(json, a67_buf_text(&all), all.len);
	a67_buf_free(&all);
}

/* The headers as a JSON object with names in lower case, without what authenticates. */
static void
append_headers(A67Buf *json, const A67HttpHead *head)
{
	char name[128];

	a67_buf_append_str(json, "{");
	for (size_t i = 0; i < head->nheaders; i++)
	{
		A67HttpStr given = head->headers[i].name;

		if (is_secret(given) || given.len >= sizeof(name) || seen_before(head, i))
			continue;
		for (size_t c = 0; c < given.len; c++)
			name[c] = (char) tolower((unsigned char) given.at[c]);
		if (json->len > 1)
			a67_buf_append_str(json, ",");
		a67_buf_append_json_string(json, name, given.len);
		a67_buf_append_str(json, ":");
		append_values(json, head, i);
	}
	a67_buf_append_str(json, "}");
}

static void
append_param(A67Buf *json, const char *name, const char *value)
{
	if (json->len > 1)
		a67_buf_append_str(json, ",");
	a67_buf_append_json_string(json, name, strlen(name));
	a67_buf_append_str(json, ":");
	a67_buf_append_json_string(json, value, strlen(value));
}

/* Adds the parameters of a=1&b=2; false when it is malformed or there is too much of it. */
static bool
append_query(A67Buf *json, A67HttpStr query)
{
	const char *at = query.at;
	const char *end = query.at + query.len;
	char name[QUERY_NAME];
	char value[QUERY_VALUE];

	for (int count = 0; at < end; count++)
	{
		const char *stop = memchr(at, '&', (size_t) (end - at));
		const char *equals;
		A67HttpStr left;
		A67HttpStr right;

		if (stop == NULL)
			stop = end;
		equals = memchr(at, '=', (size_t) (stop - at));
		if (count == QUERY_PARAMS || equals == NULL)
			return false;
		left = (A67HttpStr){.at = at, .len = (size_t) (equals - at)};
		right = (A67HttpStr){.at = equals + 1, .len = (size_t) (stop - equals - 1)};
		if (a67_http_percent_decode(left, true, name, sizeof(name)) <= 0 ||
			a67_http_percent_decode(right, true, value, sizeof(value)) < 0)
			return false;
		append_param(json, name, value);
		at = stop + 1;
	}
	return true;
}

/* Arguments from the path and the query, which a67_job_query_ok has passed. */
static void
append_params(A67Buf *json, const A67HttpHead *head, const A67RouteMatch *match)
{
	a67_buf_append_str(json, "{");
	if (head->query.at != NULL)
		append_query(json, head->query);
	for (int i = 0; i < match->nparams && match->route->kind != A67_ROUTE_RPC; i++)
		append_param(json, match->params[i].name, match->params[i].value);
	a67_buf_append_str(json, "}");
}

bool
a67_job_query_ok(const A67HttpHead *head, const A67Route *route)
{
	A67Buf scratch;
	bool ok;

	if (head->query.at == NULL || head->query.len == 0)
		return true;
	if (route->body != A67_BODY_NONE)
		return false;
	a67_buf_init(&scratch, A67_WIRE_CALL);
	a67_buf_append_str(&scratch, "{");
	ok = append_query(&scratch, head->query);
	a67_buf_free(&scratch);
	return ok;
}

static char *
copy_text(A67HttpStr text)
{
	char *copy = malloc(text.len + 1);

	if (copy == NULL)
		return NULL;
	memcpy(copy, text.at, text.len);
	copy[text.len] = '\0';
	return copy;
}

A67Job *
a67_job_new(A67Listener *listener, A67HttpConn *conn, const A67Route *route)
{
	const A67HttpHead *head = a67_http_conn_request(conn);
	A67Job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->listener = listener;
	job->state = A67_JOB_BODY;
	job->route = route;
	job->handle = a67_http_conn_handle(conn);
	job->has_body = head->chunked || head->content_length > 0;
	job->began = a67_now_ms();
	a67_request_id(head, &listener->random, job->request_id);
	a67_buf_init(&job->call, A67_WIRE_CALL);
	a67_buf_init(&job->upload, A67_UPLOAD_MAX * 2);
	a67_http_conn_set_user(conn, job);
	return job;
}

bool
a67_job_write_call(A67Job *job, const A67HttpHead *head, const A67RouteMatch *match,
				   const A67JwtClaims *claims)
{
	const A67Route *route = match->route;
	A67Buf headers;
	A67Buf params;
	char *path = copy_text(head->path);
	char *method = copy_text(head->method_name);
	bool ok;

	a67_buf_init(&headers, A67_WIRE_CALL);
	a67_buf_init(&params, A67_WIRE_CALL);
	append_headers(&headers, head);
	append_params(&params, head, match);
	ok = path != NULL && method != NULL && !headers.failed && !params.failed;
	if (ok)
	{
		A67Call call = {
			.status = route->status,
			.body_length = head->content_length,
			.body_kind = (uint8_t) route->body,
			.has_body = job->has_body,
			.anonymous = claims == NULL,
			.function = route->kind == A67_ROUTE_RPC ? match->params[0].value : route->function,
			.body_arg = route->body_arg != NULL ? route->body_arg : "",
			.params = a67_buf_text(&params),
			.role = claims != NULL ? claims->role : ANON_ROLE,
			.claims = claims != NULL ? claims->json : "",
			.method = method,
			.path = path,
			.headers = a67_buf_text(&headers),
			.request_id = job->request_id,
		};

		ok = a67_wire_put_call(&job->call, &call);
	}
	a67_buf_free(&headers);
	a67_buf_free(&params);
	free(path);
	free(method);
	return ok;
}

void
a67_job_free(A67Job *job)
{
	job->listener->body_reserved -= job->reserved;
	a67_buf_free(&job->call);
	a67_buf_free(&job->upload);
	free(job->beat);
	free(job);
}

void
a67_job_part(A67Job *job)
{
	A67HttpConn *conn = a67_http_conn_find(job->listener->server, job->handle);

	if (conn == NULL && !job->gone)
	{
		job->state = A67_JOB_OVER;
		return;
	}
	if (conn != NULL)
		a67_http_conn_set_user(conn, NULL);
	a67_job_free(job);
}

void
a67_access_log(const A67HttpHead *head, const char *request_id, int status, int64 ms)
{
	if (!message_level_is_interesting(DEBUG1))
		return;
	ereport(DEBUG1, (errmsg_internal("%.*s %.*s %d %lld ms %s", (int) head->method_name.len,
									 head->method_name.at, (int) head->path.len, head->path.at,
									 status, (long long) ms, request_id)));
}
