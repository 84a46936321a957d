/*
 * conn.c: one connection of the engine: its states, turns, deadlines and end.
 *
 *   HANDSHAKE → IDLE → HEAD → BODY → ANSWER → IDLE …      (keep-alive; HEAD when bytes are waiting)
 *                                    ANSWER → LINGER → closed
 *                                    ANSWER → WS → LINGER           (101: see ws.c)
 * A turn takes steps until nothing more can be done without waiting, or until it has had its share.
 * Handlers run inside a turn; what they do to other connections only wakes those.
 */
#include "engine.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tls.h"

A67HttpConn *
a67_engine_conn_new(A67HttpServer *server, int fd, uint32_t slot)
{
	struct epoll_event event = {.events = EPOLLIN};
	A67HttpConn *conn = calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	conn->watch = WATCH_CONN;
	conn->server = server;
	conn->slot = slot;
	conn->io.fd = fd;
	conn->fresh = true;
	conn->interest = EPOLLIN;
	conn->state = server->config.tls != NULL ? CONN_HANDSHAKE : CONN_IDLE;
	conn->state_due = a67_deadline_in(server->now, server->config.header_ms);
	conn->body_rate.due = A67_NEVER;
	conn->send_rate.due = A67_NEVER;
	if (server->config.tls != NULL)
		conn->io.ssl = a67_tls_accept_new(server->config.tls, fd);
	event.data.ptr = conn;
	if ((server->config.tls != NULL && conn->io.ssl == NULL) ||
		epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
	{
		if (conn->io.ssl != NULL)
			a67_tls_free(conn->io.ssl);
		free(conn);
		return NULL;
	}
	a67_http_deadlines_set(&server->deadlines, &conn->timer, conn->state_due);
	return conn;
}

void
a67_engine_conn_close(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;

	conn->doomed = true;
	if (conn->ws != NULL)
		a67_engine_ws_free(conn);
	else if (server->config.callbacks.on_close != NULL)
		server->config.callbacks.on_close(conn);
	conn->state = CONN_CLOSED;
	a67_http_deadlines_remove(&server->deadlines, &conn->timer);
	a67_engine_exchange_free(conn);
	/* Closing alone would not do if the descriptor had been duplicated by a child. */
	(void) epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, conn->io.fd, NULL);
	a67_io_close(&conn->io);
	a67_engine_release_slot(server, conn);
}

static bool
step_handshake(A67HttpConn *conn)
{
	switch (a67_io_handshake(&conn->io))
	{
		case A67_IO_DONE:
			conn->state = CONN_IDLE;
			conn->readable = true;
			return true;
		case A67_IO_WANT_RD:
			return false;
		case A67_IO_WANT_WR:
			conn->want_write = true;
			return false;
		default:
			conn->server->stats.client_errors++;
			conn->doomed = true;
			return false;
	}
}

/* The 101 is out: from here on the connection is a WebSocket. */
static void
become_websocket(A67HttpConn *conn)
{
	const Exchange *ex = conn->ex;

	if (!a67_engine_ws_begin(conn, ex->in.data + ex->taken, ex->in.len - ex->taken))
		conn->doomed = true;
	a67_engine_exchange_free(conn);
}

/* The answer is out: keeps the connection for the next request, or ends it. */
static void
finish_exchange(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;
	bool linger = conn->ex->linger;

	server->stats.responses++;
	conn->fresh = false;
	conn->paused = false;
	if (conn->ws != NULL)
	{
		become_websocket(conn);
		return;
	}
	if (conn->ex->keep_alive && !server->draining)
	{
		a67_engine_next_request(conn);
		return;
	}
	if (!linger)
	{
		conn->doomed = true;
		return;
	}
	a67_engine_exchange_free(conn);
	a67_io_shutdown(&conn->io);
	conn->state = CONN_LINGER;
	conn->state_due = a67_deadline_in(server->now, server->config.linger_ms);
	conn->readable = true;
}

/* Tells the handler that there is room again. */
static bool
step_drain(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	A67HttpServer *server = conn->server;

	if (ex == NULL || ex->answer != ANSWER_STREAM || !ex->drain_wanted ||
		ex->out.len > server->config.high_water / 2)
		return false;
	ex->drain_wanted = false;
	if (server->config.callbacks.on_drain == NULL)
		return false;
	server->config.callbacks.on_drain(conn);
	return true;
}

/* Does one thing; false when nothing can be done before the next event. */
static bool
step(A67HttpConn *conn)
{
	if (!conn->want_write && a67_engine_out_pending(conn))
		a67_engine_flush(conn);
	if (conn->doomed)
		return false;
	if (conn->ex != NULL && conn->ex->answer == ANSWER_ENDED && !a67_engine_out_pending(conn))
	{
		finish_exchange(conn);
		return true;
	}
	if (step_drain(conn))
		return true;
	switch ((ConnState) conn->state)
	{
		case CONN_HANDSHAKE:
			return step_handshake(conn);
		case CONN_IDLE:
		case CONN_HEAD:
			return a67_engine_read_head(conn);
		case CONN_BODY:
			return a67_engine_read_body(conn);
		case CONN_WS:
			return a67_engine_ws_step(conn);
		case CONN_LINGER:
			return a67_engine_discard(conn);
		case CONN_ANSWER:
		case CONN_CLOSED:
			break;
	}
	/* A handler may have answered, or written more, inside the step. */
	return !conn->want_write && a67_engine_out_pending(conn);
}

static bool
is_reading(const A67HttpConn *conn)
{
	return conn->state != CONN_ANSWER && !(conn->state == CONN_BODY && conn->paused);
}

static void
watch(A67HttpConn *conn)
{
	struct epoll_event event = {.data.ptr = conn};

	/* While an answer is pending, input is only switched off once some has come. */
	if (is_reading(conn) || ((conn->interest & EPOLLIN) != 0 && !conn->readable))
		event.events |= EPOLLIN;
	if (conn->want_write)
		event.events |= EPOLLOUT;
	if (event.events == conn->interest)
		return;
	conn->interest = event.events;
	(void) epoll_ctl(conn->server->epoll_fd, EPOLL_CTL_MOD, conn->io.fd, &event);
}

static void
start_window(A67HttpConn *conn, RateWindow *w, uint32_t rate, uint64_t most)
{
	const A67HttpConfig *config = &conn->server->config;

	w->due = a67_deadline_in(conn->server->now, config->rate_window_ms);
	w->moved = 0;
	w->wanted = (uint64_t) rate * config->rate_window_ms / 1000;
	if (w->wanted > most)
		w->wanted = most;
}

/* Opens and closes the rate windows as bodies come and answers wait. */
static void
watch_rates(A67HttpConn *conn)
{
	const A67HttpConfig *config = &conn->server->config;
	const Exchange *ex = conn->ex;

	if (conn->state != CONN_BODY || conn->paused || config->body_min_rate == 0)
		conn->body_rate.due = A67_NEVER;
	else if (conn->body_rate.due == A67_NEVER)
		start_window(conn, &conn->body_rate, config->body_min_rate,
					 ex->head.content_length > 0
						 ? (uint64_t) ex->head.content_length - ex->body_bytes
						 : UINT64_MAX);
	if (!a67_engine_out_pending(conn) || config->send_min_rate == 0)
		conn->send_rate.due = A67_NEVER;
	else if (conn->send_rate.due == A67_NEVER)
		start_window(conn, &conn->send_rate, config->send_min_rate, ex->out.len + ex->file.length);
}

static void
settle(A67HttpConn *conn)
{
	int64_t due;

	watch(conn);
	watch_rates(conn);
	if (conn->state == CONN_ANSWER && conn->ex->answer != ANSWER_NONE)
		conn->state_due = A67_NEVER;
	due = a67_deadline_min(conn->state_due,
						   a67_deadline_min(conn->body_rate.due, conn->send_rate.due));
	a67_http_deadlines_set(&conn->server->deadlines, &conn->timer, due);
}

void
a67_engine_conn_turn(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;
	int steps = 0;

	if (conn->state == CONN_CLOSED)
		return;
	server->current = conn;
	while (!conn->doomed && steps < ENGINE_TURN_STEPS && step(conn))
		steps++;
	server->current = NULL;
	if (server->draining && conn->state == CONN_IDLE)
		conn->doomed = true;
	if (conn->doomed)
	{
		a67_engine_conn_close(conn);
		return;
	}
	settle(conn);
	if (steps == ENGINE_TURN_STEPS)
		a67_engine_wake(conn);
}

void
a67_engine_conn_events(A67HttpConn *conn, uint32_t events)
{
	if (conn->state == CONN_CLOSED)
		return;
	if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
		conn->readable = true;
	if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
		conn->want_write = false;
	/* Nobody is left to take the answer; these two events cannot be switched off. */
	if ((events & (EPOLLERR | EPOLLHUP)) != 0 && !is_reading(conn))
		conn->doomed = true;
	a67_engine_conn_turn(conn);
}

static void
state_timeout(A67HttpConn *conn)
{
	conn->state_due = A67_NEVER;
	switch ((ConnState) conn->state)
	{
		case CONN_HEAD:
			a67_engine_fail(conn, 408, "request head did not arrive in time", false);
			break;
		case CONN_BODY:
			a67_engine_fail(conn, 408, "request body did not arrive in time", false);
			break;
		case CONN_ANSWER:
			a67_engine_fail(conn, 504, "no answer in time", true);
			break;
		case CONN_WS:
			a67_engine_ws_timeout(conn);
			break;
		default:
			conn->doomed = true;
			break;
	}
}

void
a67_engine_conn_timeout(A67HttpConn *conn)
{
	int64_t now = conn->server->now;

	/* A keep-alive pause that ends, or a peer that lingers, is nobody's fault; ws.c counts its own. */
	if (a67_deadline_expired(conn->state_due, now))
	{
		conn->server->stats.timeouts +=
			conn->state != CONN_IDLE && conn->state != CONN_WS && conn->state != CONN_LINGER;
		state_timeout(conn);
	}
	else if (a67_deadline_expired(conn->body_rate.due, now) &&
			 conn->body_rate.moved < conn->body_rate.wanted)
	{
		conn->server->stats.timeouts++;
		a67_engine_fail(conn, 408, "request body arrives too slowly", false);
	}
	else if (a67_deadline_expired(conn->send_rate.due, now) &&
			 conn->send_rate.moved < conn->send_rate.wanted)
	{
		conn->server->stats.timeouts++;
		conn->doomed = true;
	}
	/* Windows that have passed start again in the turn. */
	if (a67_deadline_expired(conn->body_rate.due, now))
		conn->body_rate.due = A67_NEVER;
	if (a67_deadline_expired(conn->send_rate.due, now))
		conn->send_rate.due = A67_NEVER;
	a67_engine_conn_turn(conn);
}

A67HttpServer *
a67_http_conn_server(A67HttpConn *conn)
{
	return conn->server;
}

void *
a67_http_conn_user(const A67HttpConn *conn)
{
	return conn->user;
}

void
a67_http_conn_set_user(A67HttpConn *conn, void *user)
{
	conn->user = user;
}

const A67HttpHead *
a67_http_conn_request(const A67HttpConn *conn)
{
	return conn->ex != NULL && conn->ex->head_given ? &conn->ex->head : NULL;
}

/* The peer's address as the system knows it; false when it is no IP address. */
static bool
ask_peer(int fd, A67Ip *ip)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (getpeername(fd, (struct sockaddr *) &sa, &len) < 0)
		return false;
	if (sa.ss_family == AF_INET)
		*ip = a67_ip_of_v4(&((struct sockaddr_in *) &sa)->sin_addr);
	else if (sa.ss_family == AF_INET6)
		memcpy(ip->bytes, &((struct sockaddr_in6 *) &sa)->sin6_addr, sizeof(ip->bytes));
	else
		return false;
	return true;
}

const A67Ip *
a67_http_conn_peer(A67HttpConn *conn)
{
	if (!conn->peer_asked)
	{
		conn->peer_is_ip = ask_peer(conn->io.fd, &conn->peer);
		conn->peer_asked = true;
	}
	return conn->peer_is_ip ? &conn->peer : NULL;
}

A67HttpHandle
a67_http_conn_handle(const A67HttpConn *conn)
{
	A67HttpHandle handle = {0, 0};

	if (conn->doomed || (conn->ws == NULL && (conn->ex == NULL || !conn->ex->head_given ||
											  conn->ex->answer == ANSWER_ENDED)))
		return handle;
	handle.slot = conn->slot;
	handle.generation = conn->server->slots[conn->slot].generation;
	return handle;
}

void
a67_http_body_pause(A67HttpConn *conn)
{
	conn->paused = true;
}

void
a67_http_body_resume(A67HttpConn *conn)
{
	conn->paused = false;
	/* Whatever the socket has not announced while nobody asked. */
	conn->readable = true;
	a67_engine_wake(conn);
}
