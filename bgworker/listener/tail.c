/*
 * tail.c: followers of output; see tail.h.
 *
 * A wake-up by a67.log_put() makes the listener ask, within GAP_MS, how far the followed deployments have got; and
 * once in SAFETY_MS, because a wake-up is only a hint. At most PAGES_MAX pages are being read at once. A client that
 * is slow is not read for: what it has not taken yet stays in the database, or is pruned there and told of.
 */
#include "postgres.h"

#include "listener/tail.h"

#include <time.h>

#include "core/encode.h"
#include "listener/log_page.h"
#include "platform/clock.h"

#define GAP_MS		  200
#define SAFETY_MS	  5000
#define RETRY_MS	  1000
#define CHECK_MS	  60000 /* a page is asked for at least so often: the session may have ended */
#define BEAT_MS		  15000 /* between two signs of life */
#define PAGES_MAX	  4
#define FOLLOWERS_MAX 256
#define OF_ONE_USER	  8
#define PENDING_MAX	  (64 * 1024) /* unsent: no further page */
#define PENDING_MS	  100		  /* until it is looked at again */
#define EVENT_MAX	  (4 * 1024 * 1024)
#define PARAMS_MAX	  (64 * 1024)

typedef struct Follower
{
	dlist_node node;
	struct A67Tails *tails;
	A67HttpHandle handle;
	char *role; /* claims and params stand behind it */
	char *claims;
	char *params; /* of its questions, but for the position; without the closing bracket */
	char request_id[A67_REQUEST_ID_SIZE];
	uint8 owner[16];
	int64 expires_at;
	int64 ask_at;  /* its next page is due; A67_NEVER: when there is something new */
	int64 beat_at; /* its next sign of life */
	bool begun;	   /* the client has the head of the answer */
	bool asking;
	bool gone;							 /* freed with the answer to its question */
	bool placed;						 /* reached holds */
	int64 reached;						 /* everything up to it has been sent */
	char deployment[A67_UUID_TEXT_SIZE]; /* once the first page has come */
	int place;							 /* in the question for heads; -1: not in it */
} Follower;

typedef struct A67Tails
{
	A67Listener *listener;
	dlist_head all;
	int count;
	int pages;	  /* being read */
	bool asking;  /* for heads */
	bool dirty;	  /* woken since the last question for heads */
	bool stirred; /* somebody has something to do now */
	uint32 wakes;
	int64 asked_at;
	int64 next;
} A67Tails;

static const A67HttpField headers[] = {{"Content-Type", "text/event-stream; charset=utf-8"},
									   {"Cache-Control", "no-store"},
									   {"X-Accel-Buffering", "no"},
									   {NULL, NULL}};

void
a67_tails_init(A67Listener *listener)
{
	A67Tails *tails = MemoryContextAllocZero(listener->worker->life, sizeof(*tails));

	tails->listener = listener;
	dlist_init(&tails->all);
	tails->next = A67_NEVER;
	listener->tails = tails;
}

/* ---- life -------------------------------------------------------------------------------------- */

static A67HttpConn *
conn_of(const Follower *one)
{
	return a67_http_conn_find(one->tails->listener->server, one->handle);
}

/* Takes it out of the list; frees it now or with the answer that it waits for. */
static void
leave(Follower *one)
{
	if (!one->gone)
	{
		dlist_delete(&one->node);
		one->tails->count--;
	}
	one->gone = true;
	if (one->asking)
		return;
	free(one->role);
	free(one);
}

static void
refuse(Follower *one, int status)
{
	A67HttpConn *conn = conn_of(one);
	A67Refusal refusal = {.status = status, .message = "output cannot be read now"};

	if (status == 404)
		refusal.message = "deployment does not exist";
	else if (status == 401 || status == 403)
		refusal.message = "session has ended";
	else if (status == 400)
		refusal.message = "a parameter of the request is not valid";
	if (conn != NULL)
	{
		a67_access_log(a67_http_conn_request(conn), one->request_id, "", status, 0);
		a67_reply_refuse(conn, &refusal);
	}
	leave(one);
}

/* Says why there is no more, and ends the answer. */
static void
end(Follower *one, const char *why)
{
	A67HttpConn *conn = conn_of(one);
	char text[128];
	int len = snprintf(text, sizeof(text), "event: end\ndata: %s\n\n", why);

	if (conn != NULL && a67_http_respond_write(conn, text, (size_t) len) == 0)
		(void) a67_http_respond_end(conn);
	else if (conn != NULL)
		a67_http_respond_abort(conn);
	leave(one);
}

/* ---- pages ------------------------------------------------------------------------------------- */

static bool
begin(Follower *one, A67HttpConn *conn)
{
	if (one->begun)
		return true;
	one->begun = a67_http_respond_begin(conn, 200, headers, -1) == 0;
	one->beat_at = a67_deadline_in(a67_now_ms(), BEAT_MS);
	if (one->begun)
		a67_access_log(a67_http_conn_request(conn), one->request_id, "", 200, 0);
	return one->begun;
}

static void
take_page(Follower *one, const char *body, size_t len)
{
	A67HttpConn *conn = conn_of(one);
	int64 now = a67_now_ms();
	A67LogPage page = {.reached = 0};
	A67Buf event;
	bool good;

	a67_buf_init(&event, EVENT_MAX);
	good = a67_log_page_read(body, len, &page, &event);
	if (conn == NULL)
		leave(one);
	else if (!good && !one->begun)
		refuse(one, 500);
	else if (!good)
		end(one, "output cannot be read");
	else if (!begin(one, conn) ||
			 (event.len > 0 && a67_http_respond_write(conn, event.data, event.len) != 0))
	{
		a67_http_respond_abort(conn);
		leave(one);
	}
	else
	{
		memcpy(one->deployment, page.deployment, sizeof(one->deployment));
		one->placed = true;
		one->reached = page.reached;
		one->ask_at = page.more ? now : a67_deadline_in(now, CHECK_MS);
		if (event.len > 0)
			one->beat_at = a67_deadline_in(now, BEAT_MS);
	}
	a67_buf_free(&event);
}

static void
page_answered(void *asker, int status, const char *body, size_t len)
{
	Follower *one = asker;
	A67Tails *tails = one->tails;

	one->asking = false;
	tails->pages--;
	tails->stirred = tails->listener->stirred = true;
	if (one->gone)
		leave(one);
	else if (status < 300)
		take_page(one, body, len);
	else if (!one->begun)
		refuse(one, status);
	else if (status >= 500 || status == 429)
		one->ask_at = a67_deadline_in(a67_now_ms(), RETRY_MS);
	else
		end(one, status == 404 ? "deployment was removed" : "session has ended");
}

static void
ask_page(Follower *one, int64 now)
{
	A67Question question = {
		.function = "deployment_log_feed",
		.role = one->role,
		.claims = one->claims,
		.answered = page_answered,
		.asker = one,
	};
	A67Buf params;

	a67_buf_init(&params, PARAMS_MAX);
	a67_buf_append_str(&params, one->params);
	if (one->placed)
		a67_buf_append_fmt(&params, ",\"after\",\"%lld\"", (long long) one->reached);
	a67_buf_append_str(&params, "]");
	question.params = a67_buf_text(&params);
	one->ask_at = A67_NEVER;
	one->asking = !params.failed && a67_job_ask(one->tails->listener, &question);
	a67_buf_free(&params);
	if (one->asking)
		one->tails->pages++;
	else
		one->ask_at = a67_deadline_in(now, RETRY_MS);
}

/* ---- news -------------------------------------------------------------------------------------- */

static void
heads_answered(void *asker, int status, const char *body, size_t len)
{
	A67Tails *tails = asker;
	int64 heads[FOLLOWERS_MAX];
	int count = status < 300 ? a67_log_heads_read(body, len, heads, FOLLOWERS_MAX) : -1;
	int64 now = a67_now_ms();
	dlist_mutable_iter iter;

	tails->asking = false;
	tails->stirred = tails->listener->stirred = true;
	dlist_foreach_modify(iter, &tails->all)
	{
		Follower *one = dlist_container(Follower, node, iter.cur);

		if (one->place < 0 || one->place >= count || !one->placed)
			continue;
		if (heads[one->place] < 0)
			end(one, "deployment was removed");
		else if (heads[one->place] != one->reached && !one->asking)
			one->ask_at = now;
	}
}

static void
ask_heads(A67Tails *tails, int64 now)
{
	A67Question question = {.function = "_log_heads", .answered = heads_answered, .asker = tails};
	A67Buf params;
	dlist_iter iter;
	int count = 0;

	a67_buf_init(&params, PARAMS_MAX);
	a67_buf_append_str(&params, "[\"deployments\",\"{");
	dlist_foreach(iter, &tails->all)
	{
		Follower *one = dlist_container(Follower, node, iter.cur);

		one->place = one->placed ? count++ : -1;
		if (one->placed)
			a67_buf_append_fmt(&params, "%s%s", count > 1 ? "," : "", one->deployment);
	}
	a67_buf_append_str(&params, "}\"]");
	question.params = a67_buf_text(&params);
	tails->asking = count > 0 && !params.failed && a67_job_ask(tails->listener, &question);
	a67_buf_free(&params);
	tails->asked_at = now;
	tails->dirty = tails->dirty && count > 0 && !tails->asking;
}

/* ---- admission --------------------------------------------------------------------------------- */

bool
a67_tails_wants(const A67Visit *visit)
{
	static const char *const yes[] = {"true", "t", "yes", "on", "1"};
	char text[8];
	long len;

	if (visit->match.route->kind != A67_ROUTE_LOGS || visit->head->query.at == NULL ||
		visit->head->method != A67_HTTP_GET)
		return false;
	len = a67_http_query_param(visit->head->query, "follow", text, sizeof(text));
	for (size_t i = 0; len > 0 && i < lengthof(yes); i++)
		if (strcmp(text, yes[i]) == 0)
			return true;
	return false;
}

/* The arguments that path and query give; false when there are others, or too many. */
static bool
append_params(A67Buf *params, const A67Visit *visit)
{
	static const char *const names[] = {"tail", "since", "replica"};
	A67HttpStr query = visit->head->query;
	char value[256];
	int known = 1; /* follow */
	int given = 1;

	for (size_t i = 0; i < query.len; i++)
		given += query.at[i] == '&';
	a67_buf_append_str(params, "[\"deployment\",");
	a67_buf_append_json_string(params, visit->match.params[0].value,
							   strlen(visit->match.params[0].value));
	for (size_t i = 0; i < lengthof(names); i++)
	{
		long len = a67_http_query_param(query, names[i], value, sizeof(value));

		if (len == A67_HTTP_NO_PARAM)
			continue;
		if (len < 0)
			return false;
		known++;
		a67_buf_append_fmt(params, ",\"%s\",", names[i]);
		a67_buf_append_json_string(params, value, (size_t) len);
	}
	return known == given && !params->failed;
}

/* Copies what its questions need; false when out of memory. */
static bool
take_identity(Follower *one, const A67JwtClaims *claims, const A67Buf *params)
{
	size_t role_size = strlen(claims->role) + 1;
	size_t claims_size = claims->json_len + 1;
	int64 left_s = claims->exp - (int64) time(NULL);

	one->role = malloc(role_size + claims_size + params->len + 1);
	if (one->role == NULL)
		return false;
	one->claims = one->role + role_size;
	one->params = one->claims + claims_size;
	memcpy(one->role, claims->role, role_size);
	memcpy(one->claims, claims->json, claims_size);
	memcpy(one->params, params->data, params->len + 1);
	one->expires_at = a67_deadline_in(a67_now_ms(), Min(left_s, INT32_MAX) * 1000);
	return a67_uuid_from_text(claims->sub, strlen(claims->sub), one->owner);
}

/* The position that the client has seen already, if it says so. */
static void
take_position(Follower *one, const A67HttpHead *head)
{
	const A67HttpStr *seen = a67_http_header(head, "Last-Event-ID");
	int64 value = 0;

	if (seen == NULL || seen->len == 0 || seen->len > 18)
		return;
	for (size_t i = 0; i < seen->len; i++)
	{
		if (seen->at[i] < '0' || seen->at[i] > '9')
			return;
		value = value * 10 + (seen->at[i] - '0');
	}
	one->reached = value;
	one->placed = true;
}

/* How many there are of that user; those whose client has left meanwhile leave with it. */
static int
count_of(A67Tails *tails, const uint8 owner[16])
{
	dlist_mutable_iter iter;
	int count = 0;

	dlist_foreach_modify(iter, &tails->all)
	{
		Follower *one = dlist_container(Follower, node, iter.cur);

		if (conn_of(one) == NULL)
			leave(one);
		else
			count += memcmp(one->owner, owner, sizeof(one->owner)) == 0;
	}
	return count;
}

static A67HttpDecision
turn_away(const A67Visit *visit, int status, const char *message)
{
	A67Refusal refusal = {.status = status, .message = message};

	a67_access_log(visit->head, visit->request_id, visit->address, status, 0);
	a67_reply_refuse(visit->conn, &refusal);
	return (A67HttpDecision){.verdict = A67_HTTP_ANSWERED};
}

A67HttpDecision
a67_tails_admit(const A67Visit *visit, const A67JwtClaims *claims)
{
	A67Tails *tails = visit->listener->tails;
	Follower *one = calloc(1, sizeof(*one));
	A67Buf params;
	bool known;
	bool taken;

	a67_buf_init(&params, PARAMS_MAX / 2);
	known = append_params(&params, visit);
	taken = one != NULL && take_identity(one, claims, &params);
	a67_buf_free(&params);
	if (!known || !taken || count_of(tails, one->owner) >= OF_ONE_USER ||
		tails->count >= FOLLOWERS_MAX)
	{
		if (one != NULL)
			free(one->role);
		free(one);
		if (!known)
			return turn_away(visit, 400, "a parameter of the request is not known or not valid");
		if (!taken)
			return turn_away(visit, 503, "out of memory");
		return turn_away(visit, 429, "too many followers");
	}
	one->tails = tails;
	one->handle = a67_http_conn_handle(visit->conn);
	memcpy(one->request_id, visit->request_id, sizeof(one->request_id));
	one->beat_at = A67_NEVER;
	one->place = -1;
	take_position(one, visit->head);
	dlist_push_tail(&tails->all, &one->node);
	tails->count++;
	tails->stirred = visit->listener->stirred = true;
	return (A67HttpDecision){.verdict = A67_HTTP_BUFFER};
}

/* ---- time -------------------------------------------------------------------------------------- */

/* What is due of one follower; when something will be. */
static void
look_after(Follower *one, int64 now)
{
	A67Tails *tails = one->tails;
	A67HttpConn *conn = conn_of(one);
	bool slow = conn != NULL && a67_http_respond_pending(conn) > PENDING_MAX;

	if (conn == NULL)
	{
		leave(one);
		return;
	}
	if (a67_deadline_expired(one->expires_at, now))
	{
		if (one->begun)
			end(one, "token has expired");
		else
			refuse(one, 401);
		return;
	}
	if (a67_deadline_expired(one->beat_at, now))
	{
		if (!slow)
			(void) a67_http_respond_write(conn, ":\n\n", 3);
		one->beat_at = a67_deadline_in(now, BEAT_MS);
	}
	if (a67_deadline_expired(one->ask_at, now) && !one->asking && !slow && tails->pages < PAGES_MAX)
		ask_page(one, now);
	tails->next = a67_deadline_min(tails->next, one->expires_at);
	tails->next = a67_deadline_min(tails->next, one->beat_at);
	/* One that must wait for its turn is looked at when a page has come. */
	if (slow)
		tails->next = a67_deadline_min(tails->next, a67_deadline_in(now, PENDING_MS));
	else if (!one->asking && one->ask_at > now)
		tails->next = a67_deadline_min(tails->next, one->ask_at);
}

void
a67_tails_run(A67Listener *listener)
{
	A67Tails *tails = listener->tails;
	uint32 wakes = pg_atomic_read_u32(&listener->worker->slot->wakes);
	int64 now = a67_now_ms();
	int64 heads_at;
	dlist_mutable_iter iter;

	tails->dirty = tails->dirty || wakes != tails->wakes;
	tails->wakes = wakes;
	if (tails->count == 0)
	{
		tails->next = A67_NEVER;
		return;
	}
	heads_at = a67_deadline_in(tails->asked_at, tails->dirty ? GAP_MS : SAFETY_MS);
	if (!tails->asking && a67_deadline_expired(heads_at, now))
	{
		ask_heads(tails, now);
		heads_at = a67_deadline_in(now, SAFETY_MS);
	}
	if (tails->stirred || a67_deadline_expired(tails->next, now))
	{
		tails->stirred = false;
		tails->next = A67_NEVER;
		dlist_foreach_modify(iter, &tails->all)
			look_after(dlist_container(Follower, node, iter.cur), now);
	}
	if (!tails->asking)
		tails->next = a67_deadline_min(tails->next, heads_at);
}

int64
a67_tails_deadline(const A67Listener *listener)
{
	const A67Tails *tails = listener->tails;

	return tails->stirred ? 0 : tails->next;
}
