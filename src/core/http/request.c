/*
 * request.c: the reading half of a connection: heads, bodies, and what is thrown away.
 *
 * Input goes into ex->in: the head stays at its front, unmoved, while the request lives, because the
 * parsed head points into it; body bytes pass behind it. Nothing is received while an answer is
 * pending, so a client that pipelines fills at most this buffer and then the socket's.
 */
#include "engine.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
clear_exchange(Exchange *ex)
{
	/* The header array is left alone: head.nheaders says how much of it counts. */
	memset(&ex->head, 0, offsetof(A67HttpHead, headers));
	memset(&ex->head.content_length, 0, sizeof(ex->head) - offsetof(A67HttpHead, content_length));
	a67_http_chunked_init(&ex->chunked);
	ex->seen = 0;
	ex->head_len = 0;
	ex->taken = 0;
	ex->verdict = A67_HTTP_BUFFER;
	ex->max_body = 0;
	ex->body_bytes = 0;
	ex->file.fd = -1;
	ex->file.length = 0;
	ex->answer = ANSWER_NONE;
	ex->answer_left = -1;
	ex->answer_chunked = false;
	ex->bodiless = false;
	ex->drain_wanted = false;
	ex->head_given = false;
	ex->keep_alive = false;
	ex->linger = true;
}

static Exchange *
new_exchange(const A67HttpConfig *config)
{
	Exchange *ex = malloc(sizeof(*ex));

	if (ex == NULL)
		return NULL;
	a67_buf_init(&ex->in, config->head.head_bytes + ENGINE_BODY_READ);
	a67_buf_init(&ex->body, 0);
	a67_buf_init(&ex->extra, ENGINE_EXTRA_BYTES);
	a67_buf_init(&ex->out, config->max_response + ENGINE_HEAD_ROOM);
	return ex;
}

/* Short requests on many connections follow each other: they share one exchange and its buffers. */
static bool
make_exchange(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;

	conn->ex = server->spare != NULL ? server->spare : new_exchange(&server->config);
	server->spare = NULL;
	if (conn->ex == NULL)
		return false;
	clear_exchange(conn->ex);
	return true;
}

static void
free_exchange(Exchange *ex)
{
	a67_buf_free(&ex->in);
	a67_buf_free(&ex->body);
	a67_buf_free(&ex->extra);
	a67_buf_free(&ex->out);
	free(ex);
}

/* Whether it is small, and made under the present limits. */
static bool
is_worth_keeping(const Exchange *ex, const A67HttpConfig *config)
{
	return ex->in.cap <= ENGINE_SPARE_BYTES && ex->extra.cap <= ENGINE_SPARE_BYTES &&
		   ex->out.cap <= ENGINE_SPARE_BYTES &&
		   ex->in.max == config->head.head_bytes + ENGINE_BODY_READ &&
		   ex->out.max == config->max_response + ENGINE_HEAD_ROOM;
}

void
a67_engine_exchange_free(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;
	Exchange *ex = conn->ex;

	if (ex == NULL)
		return;
	conn->ex = NULL;
	if (ex->file.fd >= 0)
		(void) close(ex->file.fd);
	if (server->spare != NULL || !is_worth_keeping(ex, &server->config))
	{
		free_exchange(ex);
		return;
	}
	a67_buf_reset(&ex->in);
	a67_buf_free(&ex->body);
	a67_buf_reset(&ex->extra);
	a67_buf_reset(&ex->out);
	server->spare = ex;
}

void
a67_engine_spare_free(A67HttpServer *server)
{
	if (server->spare != NULL)
		free_exchange(server->spare);
	server->spare = NULL;
}

void
a67_engine_next_request(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	A67HttpServer *server = conn->server;

	if (ex->taken == ex->in.len)
	{
		a67_engine_exchange_free(conn);
		conn->state = CONN_IDLE;
		conn->state_due = a67_deadline_in(server->now, server->config.idle_ms);
		return;
	}
	a67_buf_consume(&ex->in, ex->taken);
	a67_buf_free(&ex->body);
	a67_buf_reset(&ex->extra);
	a67_buf_reset(&ex->out);
	clear_exchange(ex);
	conn->state = CONN_HEAD;
	conn->state_due = a67_deadline_in(server->now, server->config.header_ms);
}

/* Receives behind what ex->in holds. False: nothing came (wait), or the connection is doomed. */
static bool
receive(A67HttpConn *conn, size_t room)
{
	Exchange *ex = conn->ex;
	ssize_t n;

	if (!a67_buf_reserve(&ex->in, room))
	{
		conn->doomed = true;
		return false;
	}
	n = a67_io_recv(&conn->io, ex->in.data + ex->in.len, room);
	if (n > 0)
	{
		a67_buf_commit(&ex->in, (size_t) n);
		conn->server->stats.bytes_in += (uint64_t) n;
		/* A short read has emptied the socket; epoll tells when there is more. */
		if ((size_t) n < room)
			conn->readable = false;
		return true;
	}
	if (n == A67_IO_WANT_RD)
		conn->readable = false;
	else if (n == A67_IO_WANT_WR)
		conn->want_write = true;
	else
		conn->doomed = true;
	return false;
}

static bool
may_receive(const A67HttpConn *conn)
{
	return conn->readable || a67_io_has_pending(&conn->io);
}

/* The whole request is here: it is the handler's turn. */
static void
request_done(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	A67HttpServer *server = conn->server;
	bool buffered = ex->verdict == A67_HTTP_BUFFER;

	conn->state = CONN_ANSWER;
	conn->state_due = server->config.answer_ms > 0
						  ? a67_deadline_in(server->now, server->config.answer_ms)
						  : A67_NEVER;
	server->config.callbacks.on_request(conn, &ex->head, buffered ? a67_buf_text(&ex->body) : NULL,
										buffered ? ex->body.len : 0);
}

static void
refuse(A67HttpConn *conn, int status, const char *message)
{
	if (a67_http_respond_error(conn, status, NULL, message) < 0)
		a67_engine_fail(conn, 500, "request was refused without a valid status", true);
}

/* Carries out what on_head has decided. */
static void
obey(A67HttpConn *conn, const A67HttpDecision *decision)
{
	Exchange *ex = conn->ex;
	bool buffered = decision->verdict == A67_HTTP_BUFFER;
	bool wants_body = buffered || decision->verdict == A67_HTTP_STREAM;

	ex->verdict = decision->verdict;
	ex->max_body = decision->max_body;
	if (buffered && ex->max_body > conn->server->config.max_body)
		ex->max_body = conn->server->config.max_body;
	a67_buf_init(&ex->body, (size_t) (buffered ? ex->max_body : 0));
	if (decision->body_ms > 0 && conn->state == CONN_BODY)
		conn->state_due = a67_deadline_in(conn->server->now, decision->body_ms);
	if (!conn->doomed && ex->answer == ANSWER_NONE)
	{
		if (decision->verdict == A67_HTTP_ANSWERED)
			a67_engine_fail(conn, 500, "request was not answered", true);
		else if (decision->verdict == A67_HTTP_REJECT)
			refuse(conn, decision->status, decision->message);
		else if (ex->head.content_length > 0 && (uint64_t) ex->head.content_length > ex->max_body)
			a67_engine_fail(conn, 413, "request body is too large", true);
	}
	/* Only now: an answer that begins while a body is unread must not keep the connection. */
	if (!wants_body)
		conn->state = CONN_ANSWER;
}

/* Makes room for body bytes behind the head before anyone gets a pointer into it. */
static bool
make_body_room(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	const char *before = ex->in.data;
	size_t here = ex->in.len - ex->head_len;
	size_t room = ENGINE_BODY_READ;

	if (!ex->head.chunked && ex->head.content_length < ENGINE_BODY_READ)
		room = (size_t) ex->head.content_length;
	if (here < room && !a67_buf_reserve(&ex->in, room - here))
		return false;
	return ex->in.data == before ||
		   a67_http_parse_request(ex->in.data, ex->in.len, 0, &conn->server->config.head,
								  &ex->head) > 0;
}

static void
head_done(A67HttpConn *conn, size_t len)
{
	static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
	A67HttpServer *server = conn->server;
	Exchange *ex = conn->ex;
	A67HttpDecision decision = {.verdict = A67_HTTP_BUFFER, .max_body = server->config.max_body};
	bool has_body = ex->head.chunked || ex->head.content_length > 0;

	server->stats.requests++;
	ex->head_len = len;
	ex->taken = len;
	ex->head_given = true;
	if (has_body && !make_body_room(conn))
	{
		conn->doomed = true;
		return;
	}
	conn->state = has_body ? CONN_BODY : CONN_ANSWER;
	conn->state_due = server->config.body_ms > 0
						  ? a67_deadline_in(server->now, server->config.body_ms)
						  : A67_NEVER;
	if (server->config.callbacks.on_head != NULL)
		decision = server->config.callbacks.on_head(conn, &ex->head);
	obey(conn, &decision);
	if (conn->doomed || ex->answer == ANSWER_ENDED || ex->verdict == A67_HTTP_ANSWERED)
		return;
	if (!has_body)
		request_done(conn);
	else if (ex->head.expect_continue && ex->answer == ANSWER_NONE && ex->in.len == ex->taken &&
			 !a67_buf_append(&ex->out, interim, sizeof(interim) - 1))
		conn->doomed = true;
}

bool
a67_engine_read_head(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;
	size_t max = server->config.head.head_bytes;
	Exchange *ex;
	int rc;

	if (conn->ex == NULL || conn->ex->seen == conn->ex->in.len)
	{
		if (!may_receive(conn))
			return false;
		if (conn->ex == NULL && !make_exchange(conn))
		{
			conn->doomed = true;
			return false;
		}
		ex = conn->ex;
		/* One byte less than a power of two, for the buffer's closing NUL. */
		if (!receive(conn, max - ex->in.len < ENGINE_FIRST_READ ? max - ex->in.len
																: ENGINE_FIRST_READ - 1))
		{
			if (ex->in.len == 0)
				a67_engine_exchange_free(conn);
			return false;
		}
		if (conn->state == CONN_IDLE && !conn->fresh)
			conn->state_due = a67_deadline_in(server->now, server->config.header_ms);
		conn->state = CONN_HEAD;
	}
	ex = conn->ex;
	rc = a67_http_parse_request(ex->in.data, ex->in.len, ex->seen, &server->config.head, &ex->head);
	ex->seen = ex->in.len;
	if (rc > 0)
		head_done(conn, (size_t) rc);
	else if (rc != A67_HTTP_INCOMPLETE)
		a67_engine_fail(conn, -rc, ex->head.error, true);
	return true;
}

/* Passes one piece of decoded body on. */
static void
deliver(A67HttpConn *conn, const char *data, size_t len)
{
	Exchange *ex = conn->ex;

	ex->body_bytes += len;
	conn->body_rate.moved += len;
	if (ex->body_bytes > ex->max_body)
		a67_engine_fail(conn, 413, "request body is too large", true);
	else if (ex->verdict == A67_HTTP_BUFFER)
	{
		if (!a67_buf_append(&ex->body, data, len))
			a67_engine_fail(conn, 503, "out of memory", true);
	}
	else if (conn->server->config.callbacks.on_body != NULL &&
			 conn->server->config.callbacks.on_body(conn, data, len) != 0 &&
			 ex->answer != ANSWER_ENDED)
		a67_engine_fail(conn, 500, "could not take the request body", true);
}

/* Decodes one piece of what ex->in holds. */
static void
decode(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	const char *at = ex->in.data + ex->taken;
	size_t len = ex->in.len - ex->taken;
	A67HttpStr piece;
	size_t used;
	int rc;

	if (!ex->head.chunked)
	{
		uint64_t left = (uint64_t) ex->head.content_length - ex->body_bytes;

		piece.len = left < len ? (size_t) left : len;
		ex->taken += piece.len;
		deliver(conn, at, piece.len);
		if (conn->state == CONN_BODY && ex->body_bytes == (uint64_t) ex->head.content_length)
			request_done(conn);
		return;
	}
	rc = a67_http_chunked_next(&ex->chunked, at, len, &piece, &used);
	ex->taken += used;
	if (rc == A67_HTTP_CHUNK_DATA)
		deliver(conn, piece.at, piece.len);
	else if (rc == A67_HTTP_CHUNK_END)
		request_done(conn);
	else if (rc < 0)
		a67_engine_fail(conn, -rc, "malformed chunked body", true);
}

bool
a67_engine_read_body(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	size_t room;

	if (conn->paused)
		return false;
	if (ex->taken == ex->in.len)
	{
		if (!may_receive(conn))
			return false;
		/* The bytes behind the head are used up: their room is free again. */
		ex->in.len = ex->head_len;
		ex->taken = ex->head_len;
		room = ex->in.cap - ex->in.head - ex->in.len - 1;
		if (!receive(conn, room))
			return false;
	}
	while (conn->state == CONN_BODY && !conn->paused && !conn->doomed && ex->taken < ex->in.len)
		decode(conn);
	return true;
}

bool
a67_engine_discard(A67HttpConn *conn)
{
	char unread[8192];
	ssize_t n;

	if (!may_receive(conn))
		return false;
	n = a67_io_recv(&conn->io, unread, sizeof(unread));
	if (n == A67_IO_WANT_RD)
		conn->readable = false;
	else if (n == A67_IO_WANT_WR)
		conn->want_write = true;
	else if (n <= 0)
		conn->doomed = true;
	else
		conn->discarded += (uint64_t) n;
	if (conn->discarded > ENGINE_LINGER_BYTES)
		conn->doomed = true;
	return n > 0;
}
