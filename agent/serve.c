/*
 * serve.c - the agent's endpoints on core's HTTP engine.  See serve.h and docs/protocol.md.
 */
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "clock.h"

#define CLIENTS_MAX	   64
#define HEADER_MS	   5000
#define IDLE_MS		   60000
#define BODY_MS		   15000
#define ANSWER_MS	   15000
#define EXPOSITION_MAX (1 << 20)
#define EVENTS_A_STEP  64
#define REPLICAS_PATH  "/v1/replicas"
#define CHUNKS_PATH	   "/v1/chunks"

typedef struct Call
{
	A67Serve *serve;
	A67HttpConn *conn;
	const A67HttpHead *req;
	const char *body;
	size_t body_len;
	char id[A67_CHUNK_NAME_SIZE]; /* of the replica, or the digest of the chunk, in the path */
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
} Call;

typedef void (*Handler)(const Call *call);

static const A67HttpField json_headers[] = {{"Content-Type", "application/json"}, {NULL, NULL}};
static const A67HttpField prometheus_headers[] = {
	{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}, {NULL, NULL}};

static void
answer_json(const Call *call, int status, json_t *doc)
{
	char *text = doc != NULL ? json_dumps(doc, JSON_COMPACT) : NULL;

	json_decref(doc);
	if (text == NULL || a67_http_respond(call->conn, status, json_headers, text, strlen(text)) != 0)
		(void) a67_http_respond_error(call->conn, 503, NULL, "out of memory");
	free(text);
}

/* Statuses of the supervisor's refusals. */
static void
answer_refusal(const Call *call, int err, const A67Why *why)
{
	int status = 500;

	if (err == -EINVAL || err == -EFBIG)
		status = 400;
	else if (err == -ENOENT)
		status = 404;
	else if (err == -ESTALE)
		status = 409;
	else if (err == -EBUSY || err == -ENOMEM)
		status = 503;
	else if (err == -ENOSPC)
		status = 507;
	(void) a67_http_respond_error(call->conn, status, NULL, why->text);
}

/* ---- handlers ---- */

static void
get_health(const Call *call)
{
	const A67Serve *serve = call->serve;

	if (!serve->identity->registered)
	{
		(void) a67_http_respond_error(call->conn, 503, NULL, "not registered yet");
		return;
	}
	answer_json(call, 200,
				json_pack("{s:s,s:s,s:s,s:s,s:I}", "status", "ok", "node_id",
						  serve->identity->node_id, "version", A67_VERSION, "boot_id",
						  serve->control->boot_id, "replicas",
						  (json_int_t) a67_supervisor_wanted(serve->supervisor)));
}

static void
get_metrics(const Call *call)
{
	A67Buf text;

	a67_buf_init(&text, EXPOSITION_MAX);
	if (!a67_exposition(call->serve, &text) ||
		a67_http_respond(call->conn, 200, prometheus_headers, text.data, text.len) != 0)
		(void) a67_http_respond_error(call->conn, 503, NULL, "metrics are too large");
	a67_buf_free(&text);
}

static void
get_replicas(const Call *call)
{
	answer_json(call, 200, a67_supervisor_report(call->serve->supervisor));
}

static void
put_replica(const Call *call)
{
	A67Why why;
	A67Replica *replica = NULL;
	A67Desired *desired =
		a67_desired_parse(call->body != NULL ? call->body : "", call->body_len, &why);
	int err;

	if (desired == NULL)
	{
		answer_refusal(call, -EINVAL, &why);
		return;
	}
	err = a67_host_refuse(call->serve->supervisor->host, desired, &why);
	if (err != 0)
		a67_desired_free(desired);
	else
		err = a67_supervisor_put(call->serve->supervisor, call->id, desired, &replica, &why);
	if (err != 0)
		answer_refusal(call, err, &why);
	else
		answer_json(call, 202, a67_replica_report(replica));
}

/* A parameter that is a whole number from 0.  -ENOENT: not there; -EINVAL: not a number. */
static int
number_param(const Call *call, const char *name, int64_t *out)
{
	char text[32];
	char *end;
	long len = a67_http_query_param(call->req->query, name, text, sizeof(text));

	if (len == A67_HTTP_NO_PARAM)
		return -ENOENT;
	if (len < 1 || text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' ? 0 : -EINVAL;
}

static void
delete_replica(const Call *call)
{
	A67Why why;
	A67Replica *replica = NULL;
	int64_t generation = A67_GENERATION_ANY;
	int err;

	/* Without a generation: whatever it is. So the controller ends replicas it knows nothing of. */
	if (number_param(call, "generation", &generation) == -EINVAL)
	{
		(void) a67_http_respond_error(call->conn, 400, NULL,
									  "parameter \"generation\" must be an integer from 0");
		return;
	}
	err = a67_supervisor_delete(call->serve->supervisor, call->id, generation, &replica, &why);
	if (err != 0)
		answer_refusal(call, err, &why);
	else if (replica->state == A67_REPLICA_STOPPED)
		(void) a67_http_respond(call->conn, 204, NULL, NULL, 0);
	else
		answer_json(call, 202, a67_replica_report(replica));
}

static void
get_logs(const Call *call)
{
	a67_follow(call->serve->logs, call->conn, call->req, call->id);
}

static void
list_chunks(const Call *call)
{
	a67_chunks_list(call->serve->chunks, call->conn);
}

static void
get_chunk(const Call *call)
{
	a67_chunks_get(call->serve->chunks, call->conn, call->digest);
}

static void
delete_chunk(const Call *call)
{
	a67_chunks_delete(call->serve->chunks, call->conn, call->digest);
}

static A67HttpDecision
put_chunk(const Call *call)
{
	return a67_chunks_put(call->serve->chunks, call->conn, call->digest);
}

/* ---- routes ---- */

typedef struct ServeRoute
{
	const char *path; /* exact, or before and after the id */
	const char *tail; /* NULL: exact */
	A67HttpMethod method;
	bool command; /* needs a command token */
	uint64_t max_body;
	Handler handle;
	bool digest; /* stands in the path in place of an id */
	bool fresh;	 /* repeated to a later agent it would do harm */
	/* In place of handle: the body has that digest, so the token is judged and spent at the head. */
	A67HttpDecision (*begin)(const Call *call);
} ServeRoute;

static const ServeRoute routes[] = {
	{.path = "/health", .method = A67_HTTP_GET, .handle = get_health},
	{.path = "/metrics", .method = A67_HTTP_GET, .handle = get_metrics},
	{.path = REPLICAS_PATH, .method = A67_HTTP_GET, .command = true, .handle = get_replicas},
	{.path = REPLICAS_PATH "/",
	 .tail = "",
	 .method = A67_HTTP_PUT,
	 .command = true,
	 .max_body = A67_DESIRED_MAX_BYTES,
	 .handle = put_replica},
	{.path = REPLICAS_PATH "/",
	 .tail = "",
	 .method = A67_HTTP_DELETE,
	 .command = true,
	 .handle = delete_replica},
	{.path = REPLICAS_PATH "/",
	 .tail = "/logs",
	 .method = A67_HTTP_GET,
	 .command = true,
	 .handle = get_logs},
	{.path = CHUNKS_PATH, .method = A67_HTTP_GET, .command = true, .handle = list_chunks},
	{.path = CHUNKS_PATH "/",
	 .tail = "",
	 .method = A67_HTTP_PUT,
	 .command = true,
	 .digest = true,
	 .begin = put_chunk},
	{.path = CHUNKS_PATH "/",
	 .tail = "",
	 .method = A67_HTTP_GET,
	 .command = true,
	 .digest = true,
	 .handle = get_chunk},
	{.path = CHUNKS_PATH "/",
	 .tail = "",
	 .method = A67_HTTP_DELETE,
	 .command = true,
	 .digest = true,
	 .fresh = true,
	 .handle = delete_chunk},
};

/* Whether the path is the route's; what it names goes to call. */
static bool
path_matches(const ServeRoute *route, A67HttpStr path, Call *call)
{
	uint8_t bytes[A67_UUID_BYTES];
	size_t lead = strlen(route->path);
	size_t uuid = A67_UUID_TEXT_SIZE - 1;

	if (route->tail == NULL)
		return a67_http_str_is(path, route->path);
	if (route->digest)
	{
		if (path.len != lead + A67_CHUNK_NAME_SIZE - 1 || memcmp(path.at, route->path, lead) != 0 ||
			!a67_chunk_parse(path.at + lead, path.len - lead, call->digest))
			return false;
		return a67_hex_encode(call->digest, sizeof(call->digest), call->id, sizeof(call->id));
	}
	if (path.len != lead + uuid + strlen(route->tail) || memcmp(path.at, route->path, lead) != 0 ||
		memcmp(path.at + lead + uuid, route->tail, strlen(route->tail)) != 0 ||
		!a67_uuid_from_text(path.at + lead, uuid, bytes))
		return false;
	a67_uuid_to_text(bytes, call->id);
	return true;
}

/* The route, or NULL with *status 404 or 405. */
static const ServeRoute *
find_route(const A67HttpHead *req, Call *call, int *status)
{
	*status = 404;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
	{
		bool head = req->method == A67_HTTP_HEAD && routes[i].method == A67_HTTP_GET;

		if (!path_matches(&routes[i], req->path, call))
			continue;
		if (req->method == routes[i].method || head)
			return &routes[i];
		*status = 405;
	}
	return NULL;
}

/* Judges the command token: all but the body with head_only, all with the body or its digest in call. */
static int
check_command(const Call *call, const ServeRoute *route, bool head_only, A67Why *why)
{
	A67Serve *serve = call->serve;
	const A67HttpHead *req = call->req;
	const A67HttpStr *header = a67_http_header(req, "authorization");
	static const char scheme[] = "bearer ";
	bool by_next = false;
	int err;
	A67CommandCheck check = {
		.controller_key = serve->identity->controller_key,
		.next_key = serve->identity->has_next ? serve->identity->next_key : NULL,
		.by_next = &by_next,
		.node_id = serve->identity->node_id,
		.method = req->method_name.at,
		.method_len = req->method_name.len,
		.target = req->target.at,
		.target_len = req->target.len,
		.body = call->body,
		.body_len = call->body_len,
		.body_sha256 = route->begin != NULL ? call->id : NULL,
		.head_only = head_only,
		.not_before_s = route->fresh ? serve->began_s : 0,
		.now_s = a67_clock_wall_ms() / 1000,
	};

	if (!serve->identity->registered)
		return a67_why(why, -EACCES, "this node is not registered yet");
	if (header == NULL || header->len < sizeof(scheme) - 1 ||
		strncasecmp(header->at, scheme, sizeof(scheme) - 1) != 0)
		return a67_why(why, -EACCES, "a command token is needed");
	err = a67_command_verify(&check, header->at + sizeof(scheme) - 1,
							 header->len - (sizeof(scheme) - 1), serve->replay, why);
	if (err == 0 && by_next && !head_only)
	{
		A67Why unsaved;

		a67_log(A67_LOG_INFO, "the controller has a new key");
		a67_identity_promote_key(serve->identity);
		/* Without it a restart knows both keys again, and this repeats itself. */
		if (a67_identity_save(serve->dir, serve->identity, &unsaved) != 0)
			a67_log(A67_LOG_WARNING, "%s", unsaved.text);
	}
	return err;
}

static A67HttpDecision
on_head(A67HttpConn *conn, const A67HttpHead *req)
{
	A67Serve *serve = a67_http_server_arg(a67_http_conn_server(conn));
	Call call = {.serve = serve, .conn = conn, .req = req};
	static A67Why why; /* outlives the call; the engine copies it */
	A67HttpDecision decision = {.verdict = A67_HTTP_REJECT};
	const ServeRoute *route = find_route(req, &call, &decision.status);
	int err = 0;

	if (route == NULL)
	{
		decision.message = decision.status == 404 ? "no such path" : "no such method on this path";
		return decision;
	}
	/* Without a body to be spared, on_request checks everything at once. */
	if (route->command && (route->max_body > 0 || route->begin != NULL))
		err = check_command(&call, route, route->begin == NULL, &why);
	if (err != 0)
	{
		serve->commands_refused++;
		decision.status = err == -EBUSY ? 503 : 401;
		decision.message = why.text;
		return decision;
	}
	if (route->begin != NULL)
	{
		serve->commands_ok++;
		/* A decision holds nothing of the call. */
		/* cppcheck-suppress returnDanglingLifetime */
		return route->begin(&call);
	}
	decision.verdict = A67_HTTP_BUFFER;
	decision.max_body = route->max_body;
	return decision;
}

static void
on_request(A67HttpConn *conn, const A67HttpHead *req, const char *body, size_t len)
{
	A67Serve *serve = a67_http_server_arg(a67_http_conn_server(conn));
	Call call = {.serve = serve, .conn = conn, .req = req, .body = body, .body_len = len};
	int status;
	A67Why why;
	A67Task *task = a67_http_conn_user(conn);
	const ServeRoute *route;
	int err;

	if (task != NULL && task->on_whole != NULL)
	{
		task->on_whole(task, conn);
		return;
	}
	route = find_route(req, &call, &status);
	if (route == NULL)
	{
		(void) a67_http_respond_error(conn, status, NULL, NULL);
		return;
	}
	if (route->command)
	{
		err = check_command(&call, route, false, &why);
		if (err != 0)
		{
			serve->commands_refused++;
			(void) a67_http_respond_error(conn, err == -EBUSY ? 503 : 401, NULL, why.text);
			return;
		}
		serve->commands_ok++;
		a67_supervisor_heard(serve->supervisor);
	}
	route->handle(&call);
}

/* ---- requests that go on: see task.h ---- */

static int
on_body(A67HttpConn *conn, const char *data, size_t len)
{
	A67Task *task = a67_http_conn_user(conn);

	return task != NULL && task->on_body != NULL ? task->on_body(task, conn, data, len) : -EPROTO;
}

static void
on_drain(A67HttpConn *conn)
{
	A67Task *task = a67_http_conn_user(conn);

	if (task != NULL && task->on_drain != NULL)
		task->on_drain(task, conn);
}

static void
on_close(A67HttpConn *conn)
{
	A67Task *task = a67_http_conn_user(conn);

	if (task != NULL && task->on_close != NULL)
		task->on_close(task, conn);
}

static int64_t
wall_seconds(void *arg)
{
	return a67_clock_wall_ms() / 1000;
}

/* ---- the loop's part ---- */

int
a67_serve_open(A67Serve *serve, struct ssl_ctx_st *tls, const char *address, uint16_t port,
			   A67Why *why)
{
	A67HttpConfig config;
	int err;

	memset(serve, 0, sizeof(*serve));
	serve->poll_at = -1;
	serve->began_s = a67_clock_wall_ms() / 1000;
	serve->replay = calloc(1, sizeof(*serve->replay));
	if (serve->replay == NULL)
		return a67_why(why, -ENOMEM, "out of memory");
	a67_replay_init(serve->replay);
	a67_http_config_defaults(&config);
	config.callbacks.on_head = on_head;
	config.callbacks.on_request = on_request;
	config.callbacks.on_body = on_body;
	config.callbacks.on_drain = on_drain;
	config.callbacks.on_close = on_close;
	config.callbacks.wall_seconds = wall_seconds;
	config.arg = serve;
	config.tls = tls;
	config.max_clients = CLIENTS_MAX;
	config.makes_room = true;
	config.max_body = A67_DESIRED_MAX_BYTES;
	config.max_response = 2 * EXPOSITION_MAX;
	config.header_ms = HEADER_MS;
	config.idle_ms = IDLE_MS;
	config.body_ms = BODY_MS;
	config.answer_ms = ANSWER_MS;
	serve->server = a67_http_server_new(&config);
	if (serve->server == NULL)
		return a67_why(why, -errno, "could not make the server: %s", strerror(errno));
	err = a67_http_server_listen(serve->server, address, port, false, &serve->port);
	if (err != 0)
		return a67_why(why, err, "could not listen on %s port %u: %s", address, port,
					   strerror(-err));
	return 0;
}

void
a67_serve_close(A67Serve *serve)
{
	if (serve->server != NULL)
		a67_http_server_free(serve->server);
	free(serve->replay);
	serve->server = NULL;
	serve->replay = NULL;
}

void
a67_serve_prepare(A67Serve *serve, A67PollSet *set, int64_t now_ms)
{
	int64_t wait = a67_http_server_next_deadline(serve->server, now_ms);

	serve->poll_at = a67_poll_add(set, a67_http_server_fd(serve->server), POLLIN);
	if (wait >= 0)
		a67_poll_until(set, a67_deadline_in(now_ms, wait));
}

void
a67_serve_step(A67Serve *serve, int64_t now_ms)
{
	int err;

	a67_http_server_set_now(serve->server, now_ms);
	err = a67_http_server_run(serve->server, now_ms, EVENTS_A_STEP);
	if (err < 0)
		a67_log(A67_LOG_ERROR, "server: %s", strerror(-err));
}
