/*
 * service.c: the engine's callbacks: who is let in, what is answered at once, what becomes a job.
 *
 * Decides in this order: route, method, token, query, size of the body, room for it. What is refused is
 * refused at the head, before any of the body is taken. Health and everyday heartbeats end here; the
 * rest goes to dispatch.c. Runs inside a67_http_server_run: malloc only, nothing throws or waits.
 */
#include "postgres.h"

#include "listener/state.h"

#include <time.h>

#include "core/encode.h"
#include "crypto/keyring.h"
#include "crypto/master_key.h"
#include "listener/auth.h"
#include "listener/beat.h"
#include "listener/edge.h"
#include "listener/media.h"
#include "listener/tail.h"
#include "listener/ws.h"
#include "platform/clock.h"
#include "platform/settings.h"
#include "utils/timestamp.h"

#define CHALLENGE "Bearer realm=\"a67\""

static const A67HttpDecision answered = {.verdict = A67_HTTP_ANSWERED};

static A67HttpDecision
refuse(const A67Visit *visit, const A67Refusal *refusal)
{
	a67_access_log(visit->head, visit->request_id, visit->address, refusal->status, 0);
	a67_reply_refuse(visit->conn, refusal);
	return answered;
}

/* The same when there is a job already: it ends here. */
static void
refuse_job(A67Job *job, A67HttpConn *conn, const A67Refusal *refusal)
{
	a67_access_log(a67_http_conn_request(conn), job->request_id, job->address, refusal->status,
				   a67_now_ms() - job->began);
	a67_http_conn_set_user(conn, NULL);
	a67_reply_refuse(conn, refusal);
	a67_job_free(job);
}

static const A67Refusal queue_full = {.status = 503,
									  .message = "too many requests are waiting",
									  .extra = {"Retry-After", "1"}};
static const A67Refusal no_memory = {.status = 503,
									 .message = "out of memory",
									 .extra = {"Retry-After", "1"}};
static const A67Refusal no_keys = {.status = 503,
								   .message = "signing keys are not loaded yet",
								   .extra = {"Retry-After", "1"}};
static const A67Refusal vault_sealed = {
	.status = 503,
	.code = "PT503",
	.message = "vault is sealed",
	.details = "No token can be verified. An administrator opens it with a67.vault_unseal().",
	.extra = {"Retry-After", "10"},
};
static const A67Refusal no_token = {.status = 401,
									.message = "token is required",
									.extra = {"WWW-Authenticate", CHALLENGE}};
static const A67Refusal wrong_role = {.status = 403, .message = "only nodes send heartbeats"};

static const A67Refusal not_json = {
	.status = 415,
	.message = "request body is not JSON",
	.details = "The Content-Type of this request must be application/json.",
};

/* Why no token can be verified now. */
static const A67Refusal *
keys_missing(void)
{
	return a67_vault_is_sealed() ? &vault_sealed : &no_keys;
}

static A67Refusal
bad_token(const char *why)
{
	return (A67Refusal){
		.status = 401,
		.message = "token is not valid",
		.details = why,
		.extra = {"WWW-Authenticate", CHALLENGE ", error=\"invalid_token\""},
	};
}

static A67HttpDecision
refuse_token(const A67Visit *visit, const char *why)
{
	A67Refusal refusal = bad_token(why);

	a67_note_refusal(visit, NULL);
	return refuse(visit, &refusal);
}

/* No route: unknown path, wrong method, or a question about methods. */
static A67HttpDecision
refuse_route(const A67Visit *visit)
{
	A67Refusal refusal = {.status = 404, .message = "no such path"};

	if (visit->match.allow[0] != '\0')
	{
		refusal.status = 405;
		refusal.message = "method is not allowed here";
		refusal.extra = (A67HttpField){"Allow", visit->match.allow};
	}
	if (visit->head->method != A67_HTTP_OPTIONS || visit->match.allow[0] == '\0')
		return refuse(visit, &refusal);
	a67_reply_empty(visit->conn, 204, refusal.extra);
	return answered;
}

/* ---- health ------------------------------------------------------------------------------------ */

static A67HttpDecision
answer_health(const A67Visit *visit)
{
	bool alive = visit->match.route->kind == A67_ROUTE_HEALTHZ;
	bool keys = visit->listener->keys.count > 0;
	bool workers = a67_pool_ready(visit->listener) > 0;
	A67Buf json;

	if (alive || (keys && workers))
	{
		a67_reply_json(visit->conn, 200, alive ? "{\"status\":\"ok\"}" : "{\"status\":\"ready\"}");
		return answered;
	}
	a67_buf_init(&json, 1024);
	a67_buf_append_str(&json, "{\"status\":\"not ready\",\"reasons\":[");
	if (!keys)
		a67_buf_append_fmt(&json, "\"%s\"",
						   a67_vault_is_sealed() ? "vault is sealed"
												 : "signing keys are not loaded");
	if (!workers)
		a67_buf_append_fmt(&json, "%s\"no api worker is connected\"", keys ? "" : ",");
	a67_buf_append_str(&json, "]}");
	a67_reply_json(visit->conn, 503, a67_buf_text(&json));
	a67_buf_free(&json);
	return answered;
}

/* ---- heads ------------------------------------------------------------------------------------- */

/* Checks the body's announced size and type; true when the request was refused. */
static bool
refuse_body(const A67Visit *visit)
{
	const A67HttpHead *head = visit->head;
	const A67Route *route = visit->match.route;
	A67Refusal refusal = {.status = 413, .message = "request body is too large"};
	char details[64];

	if (!head->chunked && head->content_length <= 0)
		return false;
	if (route->max_body == NULL)
	{
		refusal.status = 400;
		refusal.message = "this request takes no body";
	}
	else if (head->content_length > *route->max_body)
	{
		snprintf(details, sizeof(details), "The limit is %d bytes.", *route->max_body);
		refusal.details = details;
	}
	else if (route->body != A67_BODY_RAW && !a67_media_is_json(head))
		refusal = not_json;
	else
		return false;
	refuse(visit, &refusal);
	return true;
}

/* Sets memory aside for a body that is kept whole; false when there is too much of that. */
static bool
reserve_body(A67Job *job, const A67HttpHead *head)
{
	A67Listener *listener = job->listener;
	size_t size = head->chunked ? (size_t) *job->route->max_body : (size_t) head->content_length;

	if (!job->has_body || job->streams)
		return true;
	/* A body alone always fits, whatever the settings say. */
	if (listener->body_reserved > 0 && size + listener->body_reserved > A67_BODY_BUDGET)
		return false;
	job->reserved = size;
	listener->body_reserved += size;
	return true;
}

/* Makes the job of an admitted request; heartbeats show their token when they are whole. */
static A67HttpDecision
accept_job(const A67Visit *visit, const A67JwtClaims *claims)
{
	const A67Route *route = visit->match.route;
	A67HttpDecision decision = {.verdict = route->streams ? A67_HTTP_STREAM : A67_HTTP_BUFFER};
	A67Job *job = a67_job_new(visit);

	if (job == NULL)
		return refuse(visit, &no_memory);
	decision.max_body = route->max_body != NULL ? (uint64) *route->max_body : 0;
	if (!reserve_body(job, visit->head) ||
		(route->kind != A67_ROUTE_HEARTBEAT &&
		 !a67_job_write_call(job, visit->head, &visit->match, claims)))
		refuse_job(job, visit->conn, &no_memory);
	else if (job->has_body && job->streams && !a67_dispatch_enqueue(job))
		refuse_job(job, visit->conn, &queue_full);
	else
		return decision;
	return answered;
}

static A67HttpDecision
accept_limited(const A67Visit *visit, const A67JwtClaims *claims)
{
	if (!a67_edge_limit(visit->conn, visit->match.class, visit->address, claims))
		return refuse(visit, &a67_edge_too_many);
	return accept_job(visit, claims);
}

/* Output as it comes: an answer that goes on. */
static A67HttpDecision
follow(const A67Visit *visit, const A67JwtClaims *claims)
{
	if (!a67_edge_limit(visit->conn, visit->match.class, visit->address, claims))
		return refuse(visit, &a67_edge_too_many);
	return a67_tails_admit(visit, claims);
}

/* The token is for the function to judge: it may have expired, or be of another kind. */
static A67HttpDecision
admit_bearer(const A67Visit *visit)
{
	const char *why = NULL;
	A67HttpStr token;

	switch (a67_bearer(visit->head, &token, &why))
	{
		case A67_CALLER_TOKEN:
			return accept_limited(visit, NULL);
		case A67_CALLER_REFUSED:
			return refuse_token(visit, why);
		default:
			return refuse(visit, &no_token);
	}
}

static A67HttpDecision
admit(const A67Visit *visit)
{
	A67Listener *listener = visit->listener;
	const A67Route *route = visit->match.route;
	A67JwtClaims claims = {0};
	A67Caller caller;

	if (route->kind == A67_ROUTE_BEARER)
		return admit_bearer(visit);
	if (route->kind == A67_ROUTE_HEARTBEAT && a67_http_header(visit->head, "Authorization") != NULL)
		return accept_job(visit, NULL);
	caller = a67_caller(visit->head, &listener->keys, (int64) time(NULL), &claims);
	if (caller == A67_CALLER_REFUSED)
		return refuse_token(visit, claims.refusal);
	if (caller == A67_CALLER_UNKNOWN)
		return refuse(visit, keys_missing());
	if (caller == A67_CALLER_ANONYMOUS && route->token)
		return refuse(visit, &no_token);
	if (caller == A67_CALLER_TOKEN && a67_tails_wants(visit))
		return follow(visit, &claims);
	return accept_limited(visit, caller == A67_CALLER_TOKEN ? &claims : NULL);
}

static A67HttpDecision
on_head(A67HttpConn *conn, const A67HttpHead *head)
{
	A67Listener *listener = a67_http_server_arg(a67_http_conn_server(conn));
	A67Visit visit = {.listener = listener, .conn = conn, .head = head};
	A67Refusal bad_query = {.status = 400, .code = "22023"};

	a67_request_id(head, &listener->random, visit.request_id);
	(void) a67_http_respond_also(conn, (A67HttpField[]){{A67_REQUEST_ID, visit.request_id},
														{NULL, NULL}});
	a67_route_find(head, &visit.match);
	if (!a67_edge_arrive(&visit))
		return refuse(&visit, &a67_edge_too_many);
	if (visit.match.route == NULL)
		return refuse_route(&visit);
	if (refuse_body(&visit))
		return answered;
	(void) a67_keyring_snapshot(&listener->keys);
	if (visit.match.class == A67_CLASS_HEALTH)
		return answer_health(&visit);
	if (visit.match.route->kind == A67_ROUTE_WEBSOCKET)
		return a67_sockets_upgrade(&visit);
	bad_query.message = a67_job_check_query(head, visit.match.route);
	if (bad_query.message != NULL)
		return refuse(&visit, &bad_query);
	return admit(&visit);
}

/* The engine answers a request that never got as far as on_head. */
static const A67HttpField *
stamp(void *arg)
{
	A67Listener *listener = arg;

	a67_request_id_new(&listener->random, listener->stamp);
	listener->stamp_field = (A67HttpField){A67_REQUEST_ID, listener->stamp};
	return &listener->stamp_field;
}

/* ---- heartbeats -------------------------------------------------------------------------------- */

/*
 * Looks whether the live table takes the beat. If not, and it is a beat at all, the job notes it for the time
 * when SQL has accepted it.
 */
static bool
beat_in_place(A67Job *job, const uint8 node_id[16])
{
	A67Beat beat;
	uint64 epoch;

	if (!a67_beat_parse(job->body, job->body_len, &beat))
		return false;
	epoch = a67_live_epoch();
	if (a67_live_beat(node_id, &beat, GetCurrentTimestamp()) == A67_LIVE_STORED)
		return true;
	job->beat = malloc(sizeof(*job->beat));
	if (job->beat == NULL)
		return false;
	memcpy(job->beat->node_id, node_id, sizeof(job->beat->node_id));
	job->beat->beat = beat;
	job->beat->epoch = epoch;
	return false;
}

static void
beat_taken(A67Job *job, A67HttpConn *conn)
{
	a67_http_conn_set_user(conn, NULL);
	a67_reply_empty(conn, 204, (A67HttpField){NULL, NULL});
	a67_job_free(job);
}

static void
refuse_beat(A67Job *job, A67HttpConn *conn, const A67Refusal *refusal, const A67JwtClaims *claims)
{
	A67Visit visit = {
		.listener = job->listener,
		.conn = conn,
		.head = a67_http_conn_request(conn),
		.match = {.route = job->route, .class = job->class},
	};

	memcpy(visit.request_id, job->request_id, sizeof(visit.request_id));
	memcpy(visit.address, job->address, sizeof(visit.address));
	a67_note_refusal(&visit, claims);
	refuse_job(job, conn, refusal);
}

static A67TokenLook
look_at(const A67Job *job, A67HttpStr token)
{
	return (A67TokenLook){token.at, token.len, job->listener->keys.version, (int64) time(NULL)};
}

/* A beat whose token was not seen before, or that SQL must see: as above, by the book. */
static bool
full_beat_needs_sql(A67Job *job, A67HttpConn *conn, bool seen)
{
	A67Listener *listener = job->listener;
	const A67HttpHead *head = a67_http_conn_request(conn);
	A67JwtClaims claims = {0};
	A67Caller caller = a67_caller(head, &listener->keys, (int64) time(NULL), &claims);
	A67Refusal refusal = bad_token(claims.refusal);
	A67RouteMatch match = {.route = job->route, .class = job->class};
	uint8 node_id[16];
	A67HttpStr token;
	bool is_node;

	if (caller == A67_CALLER_UNKNOWN)
		refuse_job(job, conn, keys_missing());
	else if (caller != A67_CALLER_TOKEN)
		refuse_beat(job, conn, &refusal, NULL);
	else if (strcmp(claims.role, "a67_node") != 0)
		refuse_beat(job, conn, &wrong_role, &claims);
	else if (!seen && !a67_edge_limit(conn, job->class, job->address, &claims))
		refuse_job(job, conn, &a67_edge_too_many);
	else
	{
		is_node = a67_uuid_from_text(claims.sub, strlen(claims.sub), node_id);
		if (!seen && is_node && a67_bearer(head, &token, &claims.refusal) == A67_CALLER_TOKEN)
		{
			A67TokenLook look = look_at(job, token);

			a67_token_cache_add(&listener->tokens, &look, claims.exp, node_id);
		}
		if (!seen && is_node && beat_in_place(job, node_id))
			beat_taken(job, conn);
		else if (!a67_job_write_call(job, head, &match, &claims))
			refuse_job(job, conn, &no_memory);
		else
			return true;
	}
	return false;
}

/* A whole heartbeat: answers it, or leaves it ready for SQL (true). */
static bool
heartbeat_needs_sql(A67Job *job, A67HttpConn *conn, const A67HttpHead *head)
{
	A67Listener *listener = job->listener;
	A67HttpStr token = {0};
	const char *why;
	uint8 node_id[16];
	A67TokenLook look;

	if (a67_bearer(head, &token, &why) != A67_CALLER_TOKEN)
		return full_beat_needs_sql(job, conn, false);
	look = look_at(job, token);
	if (!a67_token_cache_find(&listener->tokens, &look, node_id))
		return full_beat_needs_sql(job, conn, false);
	if (!a67_edge_limit_beat(conn, node_id))
		refuse_job(job, conn, &a67_edge_too_many);
	else if (beat_in_place(job, node_id))
		beat_taken(job, conn);
	else
		return full_beat_needs_sql(job, conn, true);
	return false;
}

/* ---- bodies and ends --------------------------------------------------------------------------- */

static int
on_body(A67HttpConn *conn, const char *data, size_t len)
{
	A67Job *job = a67_http_conn_user(conn);

	if (job == NULL || !a67_buf_append(&job->upload, data, len))
		return -1;
	job->listener->stirred = true;
	if (job->upload.len >= A67_UPLOAD_MAX)
	{
		job->upload_paused = true;
		a67_http_body_pause(conn);
	}
	return 0;
}

static void
on_request(A67HttpConn *conn, const A67HttpHead *head, const char *body, size_t len)
{
	A67Job *job = a67_http_conn_user(conn);

	if (job == NULL)
		return;
	job->listener->stirred = true;
	if (job->state != A67_JOB_BODY)
	{
		job->upload_whole = true;
		return;
	}
	job->body = body;
	job->body_len = len;
	job->deadline = a67_deadline_in(a67_now_ms(), a67_request_timeout);
	if (job->route->kind == A67_ROUTE_HEARTBEAT && !heartbeat_needs_sql(job, conn, head))
		return;
	if (!a67_dispatch_enqueue(job))
		refuse_job(job, conn, &queue_full);
}

static void
on_drain(A67HttpConn *conn)
{
	A67Job *job = a67_http_conn_user(conn);

	if (job == NULL || job->slot == NULL)
		return;
	job->slot->paused = false;
	job->listener->stirred = true;
}

static void
on_close(A67HttpConn *conn)
{
	A67Job *job = a67_http_conn_user(conn);

	if (job == NULL)
		return;
	a67_http_conn_set_user(conn, NULL);
	a67_dispatch_abandon(job);
}

static int64_t
wall_seconds(void *arg)
{
	return (int64_t) time(NULL);
}

const A67HttpCallbacks a67_service_callbacks = {
	.on_head = on_head,
	.on_body = on_body,
	.on_request = on_request,
	.on_drain = on_drain,
	.on_close = on_close,
	.stamp = stamp,
	.wall_seconds = wall_seconds,
};
