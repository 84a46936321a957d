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

#include "listener/auth.h"
#include "listener/media.h"
#include "platform/clock.h"
#include "platform/settings.h"

#define ANON_ROLE	 "a67_anon"
#define ANSWER_MAX	 (2 * 1024 * 1024) /* of a question */
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
append_param(A67Buf *json, A67HttpStr name, A67HttpStr value)
{
	if (json->len > 1)
		a67_buf_append_str(json, ",");
	a67_buf_append_json_string(json, name.at, name.len);
	a67_buf_append_str(json, ",");
	a67_buf_append_json_string(json, value.at, value.len);
}

static A67HttpStr
text_of(const char *text)
{
	return (A67HttpStr){.at = text, .len = strlen(text)};
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
		append_param(json, text_of(name), text_of(value));
		at = stop + 1;
	}
	return true;
}

/* The argument that is neither in the path nor in the query: the route's own. */
static void
append_own(A67Buf *json, const A67HttpHead *head, const A67Route *route)
{
	const char *why;
	A67HttpStr token;
	A67Buf table;

	if (route->kind == A67_ROUTE_BEARER && a67_bearer(head, &token, &why) == A67_CALLER_TOKEN)
		append_param(json, text_of(route->body_arg), token);
	if (route->kind != A67_ROUTE_OPENAPI)
		return;
	a67_buf_init(&table, A67_WIRE_CALL);
	a67_routes_describe(&table);
	append_param(json, text_of(route->body_arg),
				 (A67HttpStr){.at = a67_buf_text(&table), .len = table.len});
	json->failed = json->failed || table.failed;
	a67_buf_free(&table);
}

/* Arguments from the path and the query, which a67_job_check_query has passed. */
static void
append_params(A67Buf *json, const A67HttpHead *head, const A67RouteMatch *match)
{
	a67_buf_append_str(json, "[");
	if (head->query.at != NULL)
		append_query(json, head->query);
	for (int i = 0; i < match->nparams && match->route->kind != A67_ROUTE_RPC; i++)
		append_param(json, text_of(match->params[i].name), text_of(match->params[i].value));
	append_own(json, head, match->route);
	a67_buf_append_str(json, "]");
}

const char *
a67_job_check_query(const A67HttpHead *head, const A67Route *route)
{
	A67Buf scratch;
	bool ok;

	if (head->query.at == NULL || head->query.len == 0)
		return NULL;
	if (route->body != A67_BODY_NONE || route->kind == A67_ROUTE_OPENAPI)
		return "query parameters are not accepted here";
	a67_buf_init(&scratch, A67_WIRE_CALL);
	a67_buf_append_str(&scratch, "[");
	ok = append_query(&scratch, head->query);
	a67_buf_free(&scratch);
	return ok ? NULL : "malformed query, or too much of it";
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

static A67Job *
make_job(const A67Visit *visit)
{
	A67Job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->listener = visit->listener;
	job->route = visit->match.route;
	job->class = visit->match.class;
	job->began = a67_now_ms();
	job->deadline = a67_deadline_in(job->began, a67_request_timeout);
	memcpy(job->request_id, visit->request_id, sizeof(job->request_id));
	memcpy(job->address, visit->address, sizeof(job->address));
	a67_buf_init(&job->call, A67_WIRE_CALL);
	a67_buf_init(&job->upload, A67_UPLOAD_MAX * 2);
	return job;
}

A67Job *
a67_job_new(const A67Visit *visit)
{
	A67Job *job = make_job(visit);

	if (job == NULL)
		return NULL;
	job->state = A67_JOB_BODY;
	job->streams = job->route->streams;
	job->handle = a67_http_conn_handle(visit->conn);
	job->has_body = visit->head->chunked || visit->head->content_length > 0;
	a67_http_conn_set_user(visit->conn, job);
	return job;
}

static const char *
function_of(const A67RouteMatch *match)
{
	if (match->route->kind == A67_ROUTE_RPC)
		return match->params[0].value;
	return match->route->function != NULL ? match->route->function : "";
}

/* What a call and a note say alike. */
static A67Call
start_call(const A67Job *job, const A67RouteMatch *match, const A67JwtClaims *claims)
{
	return (A67Call){
		.anonymous = claims == NULL,
		.function = function_of(match),
		.body_arg = "",
		.params = "[]",
		.role = claims != NULL ? claims->role : ANON_ROLE,
		.claims = claims != NULL ? claims->json : "",
		.headers = "{}",
		.request_id = job->request_id,
		.address = job->address,
	};
}

/* Adds method and path, and packs the message. */
static bool
put_call(A67Job *job, A67Call *call, const A67HttpHead *head)
{
	char *path = copy_text(head->path);
	char *method = copy_text(head->method_name);
	bool ok = path != NULL && method != NULL;

	call->path = path;
	call->method = method;
	ok = ok && a67_wire_put_call(&job->call, call);
	free(path);
	free(method);
	return ok;
}

bool
a67_job_write_call(A67Job *job, const A67HttpHead *head, const A67RouteMatch *match,
				   const A67JwtClaims *claims)
{
	const A67Route *route = match->route;
	A67Call call = start_call(job, match, claims);
	A67Buf headers;
	A67Buf params;
	bool ok;

	if (claims != NULL)
		memcpy(job->caller, claims->sub, Min(strlen(claims->sub), sizeof(job->caller)));
	a67_buf_init(&headers, A67_WIRE_CALL);
	a67_buf_init(&params, A67_WIRE_CALL);
	append_headers(&headers, head);
	append_params(&params, head, match);
	call.status = route->status;
	call.body_length = head->content_length;
	call.body_kind = (uint8_t) route->body;
	call.has_body = job->has_body;
	call.safe = route->kind == A67_ROUTE_RPC && route->method == A67_HTTP_GET;
	/* Secrets are not compressed together with what a stranger may have chosen. */
	call.gzip = job->class != A67_CLASS_AUTH && a67_media_takes_gzip(head);
	call.body_arg = route->body_arg != NULL ? route->body_arg : "";
	call.params = a67_buf_text(&params);
	call.headers = a67_buf_text(&headers);
	ok = !headers.failed && !params.failed && put_call(job, &call, head);
	a67_buf_free(&headers);
	a67_buf_free(&params);
	return ok;
}

A67Job *
a67_job_new_note(const A67Visit *visit, const A67JwtClaims *claims)
{
	A67Job *job = make_job(visit);
	A67Call call;

	if (job == NULL)
		return NULL;
	job->note = true;
	job->gone = true;
	call = start_call(job, &visit->match, claims);
	call.note = true;
	if (put_call(job, &call, visit->head))
		return job;
	a67_job_free(job);
	return NULL;
}

bool
a67_job_ask(A67Listener *listener, const A67Question *question)
{
	A67Visit visit = {.listener = listener, .match = {.class = A67_CLASS_READ}};
	A67Job *job;
	A67Call call;

	a67_request_id_new(&listener->random, visit.request_id);
	job = make_job(&visit);
	if (job == NULL)
		return false;
	job->gone = true;
	job->answered = question->answered;
	job->asker = question->asker;
	a67_buf_init(&job->answer, ANSWER_MAX);
	call = (A67Call){
		.own = question->role == NULL,
		.function = question->function,
		.body_arg = "",
		.params = question->params,
		.role = question->role != NULL ? question->role : "",
		.claims = question->role != NULL ? question->claims : "",
		.method = "POST",
		.path = "/ws",
		.headers = "{}",
		.request_id = job->request_id,
		.address = "",
	};
	if (!a67_wire_put_call(&job->call, &call))
	{
		a67_job_free(job);
		return false;
	}
	if (call.own)
		dlist_push_head(&listener->waiting, &job->node);
	else
		dlist_push_tail(&listener->waiting, &job->node);
	job->state = A67_JOB_WAITING;
	listener->stirred = true;
	return true;
}

void
a67_job_answer(A67Job *job, int status)
{
	if (status < 300 && job->answer.failed)
		status = 500;
	job->answered(job->asker, status, status < 300 ? a67_buf_text(&job->answer) : NULL,
				  status < 300 ? job->answer.len : 0);
	a67_job_free(job);
}

void
a67_job_free(A67Job *job)
{
	job->listener->body_reserved -= job->reserved;
	a67_buf_free(&job->call);
	a67_buf_free(&job->upload);
	a67_buf_free(&job->answer);
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
a67_access_log(const A67HttpHead *head, const char *request_id, const char *address, int status,
			   int64 ms)
{
	if (!message_level_is_interesting(DEBUG1))
		return;
	ereport(DEBUG1,
			(errmsg_internal("%s %.*s %.*s %d %lld ms %s", address, (int) head->method_name.len,
							 head->method_name.at, (int) head->path.len, head->path.at, status,
							 (long long) ms, request_id)));
}
