/*
 * ws.c: sockets of /ws: admission, identity, sessions, what clients say; see ws.h.
 *
 * A token comes as subprotocol "bearer.<jwt>", as Authorization header, or in the first message. Its
 * signature is verified here; that its session still stands is asked of a67.request_check through the
 * pool, before anything is told, with every change of a subscription and once a minute. A bad token is
 * told by close code 4401, not by a status: a page in a browser sees nothing else. Sockets count as
 * clients of the server and are bounded with them.
 */
#include "postgres.h"

#include "listener/ws.h"

#include <time.h>

#include "core/encode.h"
#include "core/http/ws.h"
#include "crypto/keyring.h"
#include "crypto/master_key.h"
#include "listener/auth.h"
#include "platform/clock.h"

#define IDENTIFY_MS		10000
#define CHECK_MS		60000
#define CHECK_AGAIN_MS	1000   /* a changed subscription does not ask more often */
#define CHECK_RETRY_MS	2000   /* after no answer */
#define UNCHECKED_MAX	180000 /* without an answer: closed */
#define CHECKS_MAX		4	   /* questions under way */
#define MESSAGES_SECOND 20
#define PROTOCOL		"bearer."

/* ---- life -------------------------------------------------------------------------------------- */

void
a67_sockets_init(A67Listener *listener)
{
	A67Sockets *sockets = MemoryContextAllocZero(listener->worker->life, sizeof(*sockets));

	sockets->listener = listener;
	dlist_init(&sockets->all);
	dlist_init(&sockets->unchecked);
	a67_feed_init(&sockets->feed);
	if (!a67_http_deadlines_init(&sockets->timers, 64))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	listener->sockets = sockets;
}

void
a67_sockets_free(A67Listener *listener)
{
	if (listener->sockets != NULL)
		a67_http_deadlines_free(&listener->sockets->timers);
}

static A67HttpConn *
conn_of(const A67Socket *socket)
{
	return a67_http_conn_find(socket->sockets->listener->server, socket->handle);
}

static void
free_if_done(A67Socket *socket)
{
	if (!socket->gone || socket->questions > 0)
		return;
	free(socket->role);
	free(socket);
}

bool
a67_socket_answered(A67Socket *socket)
{
	socket->questions--;
	if (!socket->gone)
		return true;
	free_if_done(socket);
	return false;
}

bool
a67_socket_ask(A67Socket *socket, A67Question *question)
{
	question->asker = socket;
	if (!a67_job_ask(socket->sockets->listener, question))
		return false;
	socket->questions++;
	return true;
}

/* Nothing more is told to it, or asked about it. */
static void
retire(A67Socket *socket)
{
	socket->closing = true;
	a67_feed_leave(socket);
	if (socket->check_waits)
		dlist_delete(&socket->check);
	socket->check_waits = false;
	a67_http_deadlines_remove(&socket->sockets->timers, &socket->timer);
}

void
a67_socket_close(A67Socket *socket, int code, const char *reason)
{
	A67HttpConn *conn = conn_of(socket);

	if (socket->closing)
		return;
	retire(socket);
	if (conn != NULL)
		(void) a67_ws_close(conn, code, reason);
}

bool
a67_socket_send(A67Socket *socket, const char *text, size_t len)
{
	A67HttpConn *conn = conn_of(socket);

	if (!socket->closing && conn != NULL && a67_ws_send(conn, text, len) == 0)
		return true;
	if (!socket->closing)
		retire(socket);
	return false;
}

size_t
a67_socket_pending(const A67Socket *socket)
{
	A67HttpConn *conn = conn_of(socket);

	return conn != NULL ? a67_ws_pending(conn) : 0;
}

static void
send_error(A67Socket *socket, const char *code, const char *message)
{
	A67Buf json;

	a67_buf_init(&json, 2048);
	a67_buf_append_fmt(&json, "{\"error\":{\"code\":\"%s\",\"message\":", code);
	a67_buf_append_json_string(&json, message, strlen(message));
	a67_buf_append_str(&json, "}}");
	(void) a67_socket_send(socket, a67_buf_text(&json), json.len);
	a67_buf_free(&json);
}

static void
set_timer(A67Socket *socket)
{
	int64 due = a67_deadline_min(socket->expires_at, socket->check_at);

	if (socket->checked_at == 0)
		due = a67_deadline_min(due, socket->identify_by);
	if (!socket->closing)
		a67_http_deadlines_set(&socket->sockets->timers, &socket->timer, due);
}

/* ---- sessions ---------------------------------------------------------------------------------- */

static void
want_check(A67Socket *socket)
{
	socket->check_at = A67_NEVER;
	if (!socket->check_waits && !socket->closing)
		dlist_push_tail(&socket->sockets->unchecked, &socket->check);
	socket->check_waits = !socket->closing;
	socket->sockets->listener->stirred = true;
}

/* Nobody could say whether the session stands: asks again, but not for ever. */
static void
check_failed(A67Socket *socket, int64 now)
{
	if (socket->checked_at != 0 && now - socket->checked_at > UNCHECKED_MAX)
		a67_socket_close(socket, A67_WS_OVERLOAD, "session could not be checked");
	socket->check_at = a67_deadline_in(now, CHECK_RETRY_MS);
	set_timer(socket);
}

static void
check_answered(void *asker, int status, const char *body, size_t len)
{
	A67Socket *socket = asker;
	int64 now = a67_now_ms();

	socket->sockets->checking--;
	socket->sockets->listener->stirred = true;
	if (!a67_socket_answered(socket) || socket->closing)
		return;
	if (status >= 500)
		check_failed(socket, now);
	else if (status >= 300)
		a67_socket_close(socket, A67_WS_AUTH, "session has ended");
	else
	{
		socket->checked_at = now;
		socket->check_at = a67_deadline_in(now, CHECK_MS);
		set_timer(socket);
		a67_feed_admit(socket);
	}
}

static void
ask_checks(A67Sockets *sockets, int64 now)
{
	while (sockets->checking < CHECKS_MAX && !dlist_is_empty(&sockets->unchecked))
	{
		A67Socket *socket =
			dlist_container(A67Socket, check, dlist_pop_head_node(&sockets->unchecked));
		A67Question question = {
			.function = "request_check",
			.params = "[]",
			.role = socket->role,
			.claims = socket->claims,
			.answered = check_answered,
		};

		socket->check_waits = false;
		if (a67_socket_ask(socket, &question))
			sockets->checking++;
		else
			check_failed(socket, now);
	}
}

static void
refuse_token(A67Socket *socket, const char *why)
{
	char reason[A67_WS_REASON_BYTES];

	(void) snprintf(reason, sizeof(reason), "token is not valid: %s", why);
	a67_socket_close(socket, A67_WS_AUTH, reason);
}

/* Takes over the identity in verified claims; false when out of memory. */
static bool
take_claims(A67Socket *socket, const A67JwtClaims *claims)
{
	size_t role_size = strlen(claims->role) + 1;
	char *copy = malloc(role_size + claims->json_len + 1);
	int64 left_s = claims->exp - (int64) time(NULL);

	if (copy == NULL)
		return false;
	memcpy(copy, claims->role, role_size);
	memcpy(copy + role_size, claims->json, claims->json_len + 1);
	free(socket->role);
	socket->role = copy;
	socket->claims = copy + role_size;
	socket->expires_at = a67_deadline_in(a67_now_ms(), Min(left_s, INT32_MAX) * 1000);
	return true;
}

static void
identify(A67Socket *socket, const char *token, size_t len)
{
	A67Keyring *keys = &socket->sockets->listener->keys;
	A67JwtCheck check = {keys, A67_JWT_AUDIENCE, (int64) time(NULL)};
	A67JwtClaims claims = {0};
	uint8 owner[16];

	(void) a67_keyring_snapshot(keys);
	if (keys->count == 0)
		a67_socket_close(socket, A67_WS_OVERLOAD,
						 a67_vault_is_sealed() ? "vault is sealed"
											   : "signing keys are not loaded yet");
	else if (!a67_jwt_verify_hs256(token, len, &check, &claims))
		refuse_token(socket, claims.refusal);
	else if ((strcmp(claims.role, "a67_user") != 0 && strcmp(claims.role, "a67_admin") != 0) ||
			 !a67_uuid_from_text(claims.sub, strlen(claims.sub), owner))
		refuse_token(socket, "it is not a user's");
	else if (socket->role != NULL && memcmp(owner, socket->owner, sizeof(owner)) != 0)
		refuse_token(socket, "it is another user's");
	else if (!take_claims(socket, &claims))
		a67_socket_close(socket, A67_WS_OVERLOAD, "out of memory");
	else
	{
		memcpy(socket->owner, owner, sizeof(owner));
		want_check(socket);
		set_timer(socket);
	}
}

/* ---- what clients say -------------------------------------------------------------------------- */

static void
change(A67Socket *socket, const A67Message *message)
{
	int64 now = a67_now_ms();

	if (message->unsubscribe != 0)
		a67_feed_unsubscribe(socket, message->unsubscribe);
	if (message->subscribe != 0 && !message->has_since)
		a67_feed_subscribe(socket, message->subscribe);
	if (message->subscribe != 0 && message->has_since &&
		!a67_feed_catch_up(socket, message->subscribe, message->since))
		send_error(socket, "55006", "missed events are being sent: wait for \"subscribed\"");
	if (socket->checked_at != 0 && now - socket->checked_at >= CHECK_AGAIN_MS)
		want_check(socket);
}

static bool
is_too_fast(A67Socket *socket)
{
	int64 now = a67_now_ms();

	if (now - socket->second_at >= 1000)
	{
		socket->second_at = now;
		socket->second_messages = 0;
	}
	return ++socket->second_messages > MESSAGES_SECOND;
}

static void
on_message(A67HttpConn *conn, const char *text, size_t len)
{
	A67Socket *socket = a67_http_conn_user(conn);
	A67Message message;
	A67MessageKind kind;

	if (is_too_fast(socket))
	{
		a67_socket_close(socket, A67_WS_POLICY, "too many messages");
		return;
	}
	kind = a67_message_parse(text, len, &message);
	if (kind == A67_MESSAGE_BROKEN)
		a67_socket_close(socket, A67_WS_BAD_DATA, "message is not a JSON object");
	else if (kind == A67_MESSAGE_TOKEN)
		identify(socket, message.token, strlen(message.token));
	else if (socket->role == NULL)
		a67_socket_close(socket, A67_WS_AUTH, "the first message must bring a token");
	else if (kind == A67_MESSAGE_REFUSED)
		send_error(socket, "22023", message.error);
	else
		change(socket, &message);
	explicit_bzero(message.token, sizeof(message.token));
}

static void
on_sent(A67HttpConn *conn)
{
	A67Socket *socket = a67_http_conn_user(conn);

	/* There is room for the next page. */
	if (socket->replays != 0)
		socket->sockets->listener->stirred = true;
}

static void
on_close(A67HttpConn *conn, int code)
{
	A67Socket *socket = a67_http_conn_user(conn);

	a67_http_conn_set_user(conn, NULL);
	retire(socket);
	dlist_delete(&socket->node);
	socket->sockets->count--;
	socket->gone = true;
	free_if_done(socket);
}

/* ---- admission --------------------------------------------------------------------------------- */

static const A67HttpDecision answered = {.verdict = A67_HTTP_ANSWERED};

static A67HttpDecision
refuse(const A67Visit *visit, int status, const char *message)
{
	A67Refusal refusal = {.status = status, .message = message};

	if (status == 426)
	{
		refusal.extra = (A67HttpField){"Sec-WebSocket-Version", "13"};
		(void) a67_http_respond_also(visit->conn,
									 (A67HttpField[]){{"Upgrade", "websocket"}, {NULL, NULL}});
	}
	a67_access_log(visit->head, visit->request_id, visit->address, status, 0);
	a67_reply_refuse(visit->conn, &refusal);
	return answered;
}

/* The subprotocol to take, and the token: from it, or from the Authorization header. */
static void
find_token(const A67HttpHead *head, A67HttpStr *protocol, A67HttpStr *token)
{
	A67HttpStr offered;
	const char *why;
	size_t cursor = 0;

	*protocol = (A67HttpStr){NULL, 0};
	*token = (A67HttpStr){NULL, 0};
	while (protocol->at == NULL && a67_ws_next_protocol(head, &cursor, &offered))
		if (offered.len > strlen(PROTOCOL) && memcmp(offered.at, PROTOCOL, strlen(PROTOCOL)) == 0)
			*protocol = offered;
	if (protocol->at != NULL)
	{
		token->at = protocol->at + strlen(PROTOCOL);
		token->len = protocol->len - strlen(PROTOCOL);
	}
	else
		(void) a67_bearer(head, token, &why);
}

static A67Socket *
make_socket(A67Sockets *sockets)
{
	A67Socket *socket = calloc(1, sizeof(*socket));

	if (socket == NULL)
		return NULL;
	if ((uint32) sockets->count >= sockets->timers.capacity &&
		!a67_http_deadlines_grow(&sockets->timers, 2 * sockets->timers.capacity))
	{
		free(socket);
		return NULL;
	}
	socket->sockets = sockets;
	socket->identify_by = a67_deadline_in(a67_now_ms(), IDENTIFY_MS);
	socket->expires_at = A67_NEVER;
	socket->check_at = A67_NEVER;
	return socket;
}

A67HttpDecision
a67_sockets_upgrade(const A67Visit *visit)
{
	static const A67WsHandler handler = {on_message, on_sent, on_close};
	A67Sockets *sockets = visit->listener->sockets;
	A67HttpStr protocol;
	A67HttpStr token;
	A67Socket *socket;
	const char *why;
	int status = a67_ws_check(visit->head, &why);

	if (status != 0)
		return refuse(visit, status, why);
	find_token(visit->head, &protocol, &token);
	socket = make_socket(sockets);
	if (socket == NULL || a67_ws_accept(visit->conn, protocol, NULL, &handler) < 0)
	{
		free(socket);
		return refuse(visit, 503, "out of memory");
	}
	a67_access_log(visit->head, visit->request_id, visit->address, 101, 0);
	a67_http_conn_set_user(visit->conn, socket);
	socket->handle = a67_http_conn_handle(visit->conn);
	dlist_push_tail(&sockets->all, &socket->node);
	sockets->count++;
	set_timer(socket);
	if (token.at != NULL)
		identify(socket, token.at, token.len);
	if (socket->closing)
		a67_note_refusal(visit, NULL);
	return answered;
}

/* ---- time -------------------------------------------------------------------------------------- */

static void
timer_due(A67Socket *socket, int64 now)
{
	if (a67_deadline_expired(socket->expires_at, now))
		a67_socket_close(socket, A67_WS_AUTH, "token has expired");
	else if (socket->checked_at == 0 && a67_deadline_expired(socket->identify_by, now))
		a67_socket_close(socket, socket->role == NULL ? A67_WS_AUTH : A67_WS_OVERLOAD,
						 socket->role == NULL ? "no token came in time"
											  : "session could not be checked");
	else if (a67_deadline_expired(socket->check_at, now))
		want_check(socket);
	set_timer(socket);
}

void
a67_sockets_run(A67Listener *listener)
{
	A67Sockets *sockets = listener->sockets;
	int64 now = a67_now_ms();
	A67HttpTimer *timer;

	while ((timer = a67_http_deadlines_pop(&sockets->timers, now)) != NULL)
		timer_due((A67Socket *) ((char *) timer - offsetof(A67Socket, timer)), now);
	ask_checks(sockets, now);
	a67_feed_run(sockets);
}

int64
a67_sockets_deadline(const A67Listener *listener)
{
	const A67Sockets *sockets = listener->sockets;

	return a67_deadline_min(a67_http_deadlines_next(&sockets->timers), sockets->feed.next);
}
