/*
 * server.c: sockets, slots, deadlines and the event batch of the engine; see server.h and engine.h.
 *
 * Decides who gets in and when anything runs; conn.c decides what a connection does with its turn.
 * A slot's generation grows with every request and every connection, so that a late answer finds
 * neither the next request nor the next client.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH_EVENTS 256
#define BACKLOG		 1024

void
a67_http_config_defaults(A67HttpConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->max_clients = 1024;
	config->head.head_bytes = A67_HTTP_HEAD_BYTES;
	config->head.line_bytes = A67_HTTP_LINE_BYTES;
	config->head.headers = A67_HTTP_MAX_HEADERS;
	config->max_body = 1024 * 1024;
	config->max_response = 16 * 1024 * 1024;
	config->high_water = 64 * 1024;
	config->header_ms = 10000;
	config->idle_ms = 60000;
	config->body_ms = 0;
	config->answer_ms = 60000;
	config->rate_window_ms = 5000;
	config->body_min_rate = 1024;
	config->send_min_rate = 1024;
	config->linger_ms = 2000;
}

static bool
config_is_valid(const A67HttpConfig *c)
{
	return c->callbacks.on_request != NULL && c->max_clients >= 1 && c->max_clients <= 1000000 &&
		   c->head.head_bytes >= 64 && c->head.head_bytes <= 1024 * 1024 &&
		   c->head.line_bytes >= 16 && c->head.line_bytes <= c->head.head_bytes &&
		   c->head.headers >= 1 && c->head.headers <= A67_HTTP_MAX_HEADERS &&
		   c->max_body <= SIZE_MAX / 4 && c->max_response >= 4096 &&
		   c->max_response <= SIZE_MAX / 4 && c->high_water >= 1 &&
		   c->high_water <= c->max_response && c->header_ms > 0 && c->idle_ms > 0 &&
		   c->rate_window_ms > 0 && c->linger_ms > 0;
}

/* Makes slots for that many clients; there are never fewer than there have been. */
static bool
make_slots(A67HttpServer *server, uint32_t count)
{
	Slot *slots;
	uint32_t i;

	if (count <= server->nslots)
		return true;
	if (!a67_http_deadlines_grow(&server->deadlines, count))
		return false;
	slots = realloc(server->slots, count * sizeof(*slots));
	if (slots == NULL)
		return false;
	/* The new ones go in front of the free list, in order. */
	for (i = server->nslots; i < count; i++)
		slots[i] = (Slot){.generation = 1, .next_free = i + 1 < count ? i + 2 : server->free_slot};
	server->free_slot = server->nslots + 1;
	server->slots = slots;
	server->nslots = count;
	return true;
}

static bool
allocate(A67HttpServer *server)
{
	if (!a67_http_deadlines_init(&server->deadlines, server->config.max_clients) ||
		!make_slots(server, server->config.max_clients))
		return false;
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return server->epoll_fd >= 0;
}

A67HttpServer *
a67_http_server_new(const A67HttpConfig *config)
{
	A67HttpServer *server;

	if (!config_is_valid(config))
	{
		errno = EINVAL;
		return NULL;
	}
	server = calloc(1, sizeof(*server));
	if (server == NULL)
		return NULL;
	server->config = *config;
	server->epoll_fd = -1;
	server->accept_again = A67_NEVER;
	server->drain_due = A67_NEVER;
	server->date_second = -1;
	if (allocate(server))
		return server;
	a67_http_server_free(server);
	errno = ENOMEM;
	return NULL;
}

int
a67_http_server_reconfigure(A67HttpServer *server, const A67HttpConfig *config)
{
	A67HttpConfig next = *config;

	next.callbacks = server->config.callbacks;
	next.arg = server->config.arg;
	next.tls = server->config.tls;
	if (!config_is_valid(&next))
		return -EINVAL;
	if (!make_slots(server, next.max_clients))
		return -ENOMEM;
	server->config = next;
	/* Its buffers have the old limits. */
	a67_engine_spare_free(server);
	return 0;
}

int
a67_http_server_set_tls(A67HttpServer *server, struct ssl_ctx_st *tls)
{
	if (tls == NULL || server->config.tls == NULL)
		return -EINVAL;
	server->config.tls = tls;
	return 0;
}

static void
close_listeners(A67HttpServer *server)
{
	while (server->nlisteners > 0)
		(void) close(server->listeners[--server->nlisteners].fd);
	server->accept_again = A67_NEVER;
}

static void
bury(A67HttpServer *server)
{
	while (server->graveyard != NULL)
	{
		A67HttpConn *conn = server->graveyard;

		server->graveyard = conn->next_dead;
		free(conn);
	}
}

/* One turn for each that asked for one; those asking again get it in the next run. */
static void
run_ready(A67HttpServer *server)
{
	A67HttpConn *conn = server->ready;

	server->ready = NULL;
	while (conn != NULL)
	{
		A67HttpConn *next = conn->next_ready;

		conn->ready = false;
		a67_engine_conn_turn(conn);
		conn = next;
	}
}

void
a67_http_server_free(A67HttpServer *server)
{
	uint32_t i;

	if (server == NULL)
		return;
	close_listeners(server);
	for (i = 0; i < server->nslots; i++)
		if (server->slots[i].conn != NULL)
			a67_engine_conn_close(server->slots[i].conn);
	bury(server);
	a67_engine_spare_free(server);
	a67_http_deadlines_free(&server->deadlines);
	free(server->slots);
	if (server->epoll_fd >= 0)
		(void) close(server->epoll_fd);
	free(server);
}

static bool
numeric_address(const char *addr, uint16_t port, struct sockaddr_storage *sa, socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) sa;

	memset(sa, 0, sizeof(*sa));
	if (inet_pton(AF_INET, addr, &v4->sin_addr) == 1)
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		*len = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, addr, &v6->sin6_addr) == 1)
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		*len = sizeof(*v6);
		return true;
	}
	return false;
}

static int
bind_listener(int fd, const struct sockaddr_storage *sa, socklen_t len, bool reuse_port)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	if (sa->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *) sa, len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static uint16_t
port_of(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *) &sa, &len) < 0)
		return 0;
	return sa.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *) &sa)->sin6_port)
									: ntohs(((struct sockaddr_in *) &sa)->sin_port);
}

int
a67_http_server_listen(A67HttpServer *server, const char *addr, uint16_t port, bool reuse_port,
					   uint16_t *bound_port)
{
	Listener *listener = &server->listeners[server->nlisteners];
	struct epoll_event event = {.events = EPOLLIN};
	struct sockaddr_storage sa;
	socklen_t len;
	int rc;

	if (server->nlisteners == ENGINE_LISTENERS)
		return -ENOSPC;
	if (server->draining)
		return -ESHUTDOWN;
	if (!numeric_address(addr, port, &sa, &len))
		return -EINVAL;
	listener->watch = WATCH_LISTENER;
	listener->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return -errno;
	rc = bind_listener(listener->fd, &sa, len, reuse_port);
	event.data.ptr = listener;
	if (rc == 0 && epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, listener->fd, &event) < 0)
		rc = -errno;
	if (rc < 0)
	{
		(void) close(listener->fd);
		return rc;
	}
	if (bound_port != NULL)
		*bound_port = port_of(listener->fd);
	server->nlisteners++;
	return 0;
}

static void
watch_listeners(A67HttpServer *server, uint32_t events)
{
	int i;

	for (i = 0; i < server->nlisteners; i++)
	{
		struct epoll_event event = {.events = events, .data.ptr = &server->listeners[i]};

		(void) epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listeners[i].fd, &event);
	}
}

/* Says 503 as well as it can be said without waiting. */
static void
turn_away(A67HttpServer *server, int fd)
{
	const A67HttpField *stamp = a67_engine_stamp(server);
	char answer[512];
	int len = snprintf(answer, sizeof(answer),
					   "HTTP/1.1 503 Service Unavailable\r\n"
					   "Content-Type: application/json\r\nConnection: close\r\n"
					   "Retry-After: 1\r\nContent-Length: 74\r\n%s%s%s%s\r\n"
					   "{\"code\":\"HTTP503\",\"message\":\"too many "
					   "clients\",\"details\":null,\"hint\":null}",
					   stamp != NULL ? stamp->name : "", stamp != NULL ? ": " : "",
					   stamp != NULL ? stamp->value : "", stamp != NULL ? "\r\n" : "");
	char unread[1024];

	server->stats.refused++;
	if (server->config.tls == NULL && len > 0 && (size_t) len < sizeof(answer))
	{
		(void) !send(fd, answer, (size_t) len, MSG_NOSIGNAL | MSG_DONTWAIT);
		(void) shutdown(fd, SHUT_WR);
		/* Unread input would turn the close into a reset, which may overtake the answer. */
		(void) !recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
	}
	(void) close(fd);
}

/* Since when the connection has been waiting for a whole request; A67_NEVER: it has one, or another use. */
static int64_t
waiting_since(const A67HttpConn *conn)
{
	if (conn->state == CONN_IDLE && !conn->fresh)
		return conn->state_due - conn->server->config.idle_ms;
	if (conn->state == CONN_HANDSHAKE || conn->state == CONN_IDLE || conn->state == CONN_HEAD)
		return conn->state_due - conn->server->config.header_ms;
	return A67_NEVER;
}

/* Stalled clients make way for a new one; those whose request is under way do not. */
static void
make_room(A67HttpServer *server)
{
	A67HttpConn *oldest = NULL;
	int64_t since = A67_NEVER;

	for (uint32_t i = 0; i < server->nslots; i++)
	{
		A67HttpConn *conn = server->slots[i].conn;

		if (conn == NULL || waiting_since(conn) >= since)
			continue;
		oldest = conn;
		since = waiting_since(conn);
	}
	if (oldest == NULL)
		return;
	server->stats.refused++;
	a67_engine_conn_close(oldest);
}

static int
admit(A67HttpServer *server, int fd)
{
	uint32_t index = server->free_slot;
	Slot *slot;

	if (index == 0 || server->stats.clients >= server->config.max_clients)
		return -EMFILE;
	slot = &server->slots[index - 1];
	slot->conn = a67_engine_conn_new(server, fd, index - 1);
	if (slot->conn == NULL)
		return -ENOMEM;
	server->free_slot = slot->next_free;
	server->stats.accepted++;
	server->stats.clients++;
	return 0;
}

int
a67_http_server_adopt(A67HttpServer *server, int fd, int64_t now_ms)
{
	int flags = fcntl(fd, F_GETFL);
	int on = 1;

	a67_http_server_set_now(server, now_ms);
	if (server->draining)
		return -ESHUTDOWN;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	/* Fails harmlessly on anything but TCP. */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return admit(server, fd);
}

static void
accept_clients(A67HttpServer *server, Listener *listener)
{
	int on = 1;
	int i;

	for (i = 0; i < ENGINE_ACCEPTS && server->nlisteners > 0; i++)
	{
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
		{
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			{
				watch_listeners(server, 0);
				server->accept_again = a67_deadline_in(server->now, ENGINE_ACCEPT_PAUSE);
				return;
			}
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				return;
			continue;
		}
		(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (server->config.makes_room && server->stats.clients >= server->config.max_clients)
			make_room(server);
		if (admit(server, fd) < 0)
			turn_away(server, fd);
	}
}

void
a67_engine_release_slot(A67HttpServer *server, A67HttpConn *conn)
{
	Slot *slot = &server->slots[conn->slot];

	a67_engine_expire_handle(conn);
	slot->conn = NULL;
	slot->next_free = server->free_slot;
	server->free_slot = conn->slot + 1;
	server->stats.clients--;
	conn->next_dead = server->graveyard;
	server->graveyard = conn;
}

void
a67_engine_expire_handle(A67HttpConn *conn)
{
	Slot *slot = &conn->server->slots[conn->slot];

	if (++slot->generation == 0)
		slot->generation = 1;
}

void
a67_engine_wake(A67HttpConn *conn)
{
	A67HttpServer *server = conn->server;

	if (conn->ready || conn == server->current || conn->state == CONN_CLOSED)
		return;
	conn->ready = true;
	conn->next_ready = server->ready;
	server->ready = conn;
}

int
a67_http_server_fd(const A67HttpServer *server)
{
	return server->epoll_fd;
}

void
a67_http_server_set_now(A67HttpServer *server, int64_t now_ms)
{
	/* Time never goes back: deadlines already set stay meaningful. */
	if (now_ms > server->now)
		server->now = now_ms;
}

static void
run_deadlines(A67HttpServer *server)
{
	A67HttpTimer *timer;

	while ((timer = a67_http_deadlines_pop(&server->deadlines, server->now)) != NULL)
		a67_engine_conn_timeout(
			(A67HttpConn *) (void *) ((char *) timer - offsetof(A67HttpConn, timer)));
	if (a67_deadline_expired(server->accept_again, server->now))
	{
		server->accept_again = A67_NEVER;
		watch_listeners(server, EPOLLIN);
	}
}

/*
 * Wakes every connection of a draining server. An idle one reads once more, so that a request that
 * is already here is served, and closes if there is none.
 */
static void
wake_all(A67HttpServer *server, bool doom)
{
	uint32_t i;

	for (i = 0; i < server->nslots; i++)
	{
		A67HttpConn *conn = server->slots[i].conn;

		if (conn == NULL)
			continue;
		conn->readable = true;
		conn->doomed = conn->doomed || doom;
		a67_engine_wake(conn);
	}
}

int
a67_http_server_run(A67HttpServer *server, int64_t now_ms, int max_events)
{
	struct epoll_event events[BATCH_EVENTS];
	int n;
	int i;

	a67_http_server_set_now(server, now_ms);
	if (max_events < 1 || max_events > BATCH_EVENTS)
		max_events = BATCH_EVENTS;
	n = epoll_wait(server->epoll_fd, events, max_events, 0);
	if (n < 0 && errno != EINTR)
		return -errno;
	for (i = 0; i < n; i++)
	{
		/* Both structs begin with their kind. */
		if (*(WatchKind *) events[i].data.ptr == WATCH_LISTENER)
			accept_clients(server, events[i].data.ptr);
		else
			a67_engine_conn_events(events[i].data.ptr, events[i].events);
	}
	run_deadlines(server);
	if (server->draining && a67_deadline_expired(server->drain_due, server->now))
		wake_all(server, true);
	run_ready(server);
	bury(server);
	return n > 0 ? n : 0;
}

int64_t
a67_http_server_next_deadline(const A67HttpServer *server, int64_t now_ms)
{
	int64_t due =
		a67_deadline_min(a67_http_deadlines_next(&server->deadlines), server->accept_again);

	if (server->ready != NULL)
		return 0;
	if (server->stats.clients > 0)
		due = a67_deadline_min(due, server->drain_due);
	return due == A67_NEVER ? -1 : a67_deadline_left(due, now_ms);
}

void
a67_http_server_drain(A67HttpServer *server, int64_t deadline_ms)
{
	server->draining = true;
	server->drain_due = deadline_ms;
	close_listeners(server);
	wake_all(server, false);
}

bool
a67_http_server_drained(const A67HttpServer *server)
{
	return server->draining && server->stats.clients == 0;
}

void
a67_http_server_stats(const A67HttpServer *server, A67HttpStats *stats)
{
	*stats = server->stats;
}

void *
a67_http_server_arg(const A67HttpServer *server)
{
	return server->config.arg;
}

A67HttpConn *
a67_http_conn_find(A67HttpServer *server, A67HttpHandle handle)
{
	Slot *slot;

	if (handle.generation == 0 || handle.slot >= server->nslots)
		return NULL;
	slot = &server->slots[handle.slot];
	if (slot->conn == NULL || slot->generation != handle.generation || slot->conn->doomed)
		return NULL;
	return slot->conn;
}
