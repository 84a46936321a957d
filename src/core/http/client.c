/*
 * client.c: the life of a client: connecting, sending, waiting; see client.h.
 *
 *   CONNECT → HANDSHAKE (https) → TALK → done or failed
 * In TALK sending and receiving go on side by side, because a server may answer, and close, before it
 * has read the whole request. response.c reads the response.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "peer.h"

#include "chars.h"
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void
a67_http_client_defaults(A67HttpClientConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->max_body = 1024 * 1024;
	config->max_stream = UINT64_C(1) << 40;
	config->total_ms = 30000;
	config->idle_ms = 10000;
	config->keep_alive = true;
}

A67HttpClient *
a67_http_client_new(const A67HttpClientConfig *config)
{
	A67HttpClient *client = calloc(1, sizeof(*client));

	if (client == NULL)
		return NULL;
	client->config = *config;
	if (config->pin != NULL)
	{
		memcpy(client->pin, config->pin, sizeof(client->pin));
		client->config.pin = client->pin;
	}
	client->io.fd = -1;
	a67_buf_init(&client->out, CLIENT_OUT_BYTES);
	a67_buf_init(&client->in, A67_HTTP_HEAD_BYTES + CLIENT_BODY_READ);
	a67_buf_init(&client->body, config->max_body);
	return client;
}

static void
forget_addresses(A67HttpClient *client)
{
	if (client->addresses != NULL)
		freeaddrinfo(client->addresses);
	client->addresses = NULL;
	client->next_address = NULL;
}

static void
disconnect(A67HttpClient *client)
{
	a67_io_close(&client->io);
	forget_addresses(client);
	client->reusable = false;
}

void
a67_http_client_free(A67HttpClient *client)
{
	if (client == NULL)
		return;
	disconnect(client);
	a67_buf_free(&client->out);
	a67_buf_free(&client->in);
	a67_buf_free(&client->body);
	free(client);
}

void
a67_http_client_cancel(A67HttpClient *client)
{
	disconnect(client);
	client->state = A67_HTTP_CLIENT_IDLE;
}

void
a67_client_fail(A67HttpClient *client, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(client->error, sizeof(client->error), format, args);
	va_end(args);
	disconnect(client);
	client->state = A67_HTTP_CLIENT_FAILED;
}

void
a67_client_done(A67HttpClient *client)
{
	bool whole = client->out.len == 0 && client->unsent == 0;

	client->state = A67_HTTP_CLIENT_DONE;
	client->reusable = client->config.keep_alive && client->head.keep_alive && whole &&
					   !client->until_close && client->taken == client->in.len;
	if (!client->reusable)
		disconnect(client);
}

/* Starts a connection to the next address; fails the client when none is left. */
static void
connect_next(A67HttpClient *client)
{
	int on = 1;
	int saved = client->connect_errno;

	while (client->next_address != NULL && client->attempts++ < A67_HTTP_CLIENT_ADDRS)
	{
		const struct addrinfo *a = client->next_address;

		client->next_address = a->ai_next;
		a67_io_close(&client->io);
		client->io.fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (client->io.fd >= 0)
		{
			(void) setsockopt(client->io.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
			if (connect(client->io.fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS)
			{
				client->phase = PHASE_CONNECT;
				return;
			}
		}
		saved = errno;
	}
	a67_client_fail(client, "could not connect to %s:%u: %s", client->host, client->port,
					strerror(saved != 0 ? saved : EHOSTUNREACH));
}

static bool
resolve(A67HttpClient *client)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
	char service[8];
	int rc;

	snprintf(service, sizeof(service), "%u", client->port);
	hints.ai_flags |= AI_NUMERICSERV;
	rc = getaddrinfo(client->host, service, &hints, &client->addresses);
	if (rc == EAI_NONAME)
	{
		hints.ai_flags = AI_NUMERICSERV;
		rc = getaddrinfo(client->host, service, &hints, &client->addresses);
	}
	if (rc == 0)
	{
		client->next_address = client->addresses;
		client->attempts = 0;
		client->connect_errno = 0;
		return true;
	}
	client->addresses = NULL;
	a67_client_fail(client, "could not resolve host \"%s\": %s", client->host, gai_strerror(rc));
	return false;
}

/* Whether the kept connection leads to the same place and the server has not closed it meanwhile. */
static bool
can_reuse(A67HttpClient *client, const A67HttpUrl *url)
{
	char byte;

	return client->reusable && client->port == url->port && client->https == url->tls &&
		   strcmp(client->host, url->host) == 0 &&
		   recv(client->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
		   (errno == EAGAIN || errno == EWOULDBLOCK);
}

static bool
header_is_valid(const A67HttpField *h)
{
	static const char *const reserved[] = {"host", "connection", "content-length",
										   "transfer-encoding"};
	A67HttpStr name = {h->name, strlen(h->name)};
	size_t i;

	for (i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (a67_http_str_is_nocase(name, reserved[i]))
			return false;
	return a67_http_field_is_valid(h);
}

static bool
request_is_valid(const A67HttpClientRequest *request, const char *method, A67HttpStr path)
{
	const A67HttpField *h;
	size_t i;

	for (i = 0; method[i] != '\0'; i++)
		if (!is_token((unsigned char) method[i]))
			return false;
	if (i == 0 || path.len == 0 || path.at[0] != '/')
		return false;
	for (i = 0; i < path.len; i++)
		if ((unsigned char) path.at[i] <= 0x20 || (unsigned char) path.at[i] >= 0x7f)
			return false;
	for (h = request->headers; h != NULL && h->name != NULL; h++)
		if (!header_is_valid(h))
			return false;
	return true;
}

static bool
write_head(A67HttpClient *client, const A67HttpClientRequest *request, const char *method,
		   A67HttpStr path)
{
	const A67HttpField *h;
	A67Buf *out = &client->out;
	bool v6 = strchr(client->host, ':') != NULL;

	a67_buf_reset(out);
	a67_buf_append_fmt(out, "%s ", method);
	a67_buf_append(out, path.at, path.len);
	a67_buf_append_fmt(out, " HTTP/1.1\r\nHost: %s%s%s", v6 ? "[" : "", client->host,
					   v6 ? "]" : "");
	if (client->port != (client->https ? 443 : 80))
		a67_buf_append_fmt(out, ":%u", client->port);
	a67_buf_append_str(out, client->config.keep_alive ? "\r\n" : "\r\nConnection: close\r\n");
	for (h = request->headers; h != NULL && h->name != NULL; h++)
		a67_buf_append_fmt(out, "%s: %s\r\n", h->name, h->value);
	if (request->body != NULL || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
		strcmp(method, "PATCH") == 0)
		a67_buf_append_fmt(out, "Content-Length: %zu\r\n", request->body_len);
	return a67_buf_append_str(out, "\r\n");
}

/* Forgets the previous request and takes over this one. */
static bool
take_request(A67HttpClient *client, const A67HttpClientRequest *request, int64_t now_ms)
{
	const char *method = request->method != NULL ? request->method : "GET";
	A67HttpStr path = request->path.at != NULL ? request->path : request->url->path;

	snprintf(client->host, sizeof(client->host), "%s", request->url->host);
	client->port = request->url->port;
	client->https = request->url->tls;
	client->head_only = strcmp(method, "HEAD") == 0;
	client->unsent = request->body != NULL ? request->body_len : 0;
	client->upload = request->body;
	client->on_body = request->on_body;
	client->arg = request->arg;
	client->error[0] = '\0';
	client->more = false;
	client->now = now_ms;
	client->total_due = a67_deadline_in(now_ms, client->config.total_ms);
	client->idle_due = a67_deadline_in(now_ms, client->config.idle_ms);
	a67_buf_free(&client->body);
	a67_client_expect_response(client);
	client->state = A67_HTTP_CLIENT_BUSY;
	if (!request_is_valid(request, method, path))
		a67_client_fail(client, "cannot send a malformed request");
	else if (!write_head(client, request, method, path))
		a67_client_fail(client, "cannot send a request head of more than %d bytes",
						CLIENT_OUT_BYTES);
	else if (client->https && client->config.tls == NULL)
		a67_client_fail(client, "cannot use https without a TLS context");
	return client->state == A67_HTTP_CLIENT_BUSY;
}

int
a67_http_client_start(A67HttpClient *client, const A67HttpClientRequest *request, int64_t now_ms)
{
	bool reuse = can_reuse(client, request->url);

	if (!reuse)
		disconnect(client);
	client->reusable = false;
	if (!take_request(client, request, now_ms))
		return -EINVAL;
	if (reuse)
	{
		client->phase = PHASE_TALK;
		return 0;
	}
	if (!resolve(client))
		return -EHOSTUNREACH;
	connect_next(client);
	return client->state == A67_HTTP_CLIENT_BUSY ? 0 : -ECONNREFUSED;
}

/* Whether the connection attempt has ended, well or not. */
static bool
step_connect(A67HttpClient *client)
{
	struct pollfd p = {.fd = client->io.fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof(error);

	if (poll(&p, 1, 0) <= 0)
		return false;
	if (getsockopt(client->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error != 0)
	{
		client->connect_errno = error;
		connect_next(client);
		return true;
	}
	forget_addresses(client);
	if (client->https)
	{
		client->io.ssl = a67_tls_connect_new(client->config.tls, client->io.fd, client->host,
											 client->config.pin);
		if (client->io.ssl == NULL)
			a67_client_fail(client, "could not create a TLS session");
	}
	client->phase = PHASE_HANDSHAKE;
	return true;
}

static bool
step_handshake(A67HttpClient *client)
{
	int rc = a67_io_handshake(&client->io);
	const char *why;

	client->wants = rc == A67_IO_WANT_WR ? POLLOUT : POLLIN;
	if (rc == A67_IO_WANT_RD || rc == A67_IO_WANT_WR)
		return false;
	if (rc == A67_IO_DONE)
	{
		client->phase = PHASE_TALK;
		return true;
	}
	why = a67_tls_verify_error(client->io.ssl);
	a67_client_fail(client, "could not establish TLS with %s:%u: %s", client->host, client->port,
					why != NULL ? why : strerror(errno));
	return true;
}

/* Sends what the socket takes. A broken pipe is left to the receiving side: an answer may be there. */
static bool
step_send(A67HttpClient *client)
{
	bool head = client->out.len > 0;
	ssize_t n;

	if (client->send_broken || (!head && client->unsent == 0))
		return false;
	if (head)
		n = a67_io_send(&client->io, client->out.data, client->out.len, client->unsent > 0);
	else
		n = a67_io_send(&client->io, client->upload, client->unsent, false);
	if (n <= 0)
	{
		client->send_broken = n != A67_IO_WANT_WR;
		return false;
	}
	if (head)
		a67_buf_consume(&client->out, (size_t) n);
	else
	{
		client->upload += n;
		client->unsent -= (size_t) n;
	}
	client->idle_due = a67_deadline_in(client->now, client->config.idle_ms);
	return true;
}

static bool
step_once(A67HttpClient *client)
{
	bool sent;

	switch (client->phase)
	{
		case PHASE_CONNECT:
			return step_connect(client);
		case PHASE_HANDSHAKE:
			return step_handshake(client);
		case PHASE_TALK:
			break;
	}
	sent = step_send(client);
	return a67_client_receive(client) || sent;
}

A67HttpClientState
a67_http_client_step(A67HttpClient *client, int64_t now_ms)
{
	int steps = 0;

	if (client->state != A67_HTTP_CLIENT_BUSY)
		return client->state;
	client->now = now_ms;
	client->more = false;
	while (client->state == A67_HTTP_CLIENT_BUSY && steps < CLIENT_STEPS && step_once(client))
		steps++;
	client->more = steps == CLIENT_STEPS;
	if (client->state != A67_HTTP_CLIENT_BUSY)
		return client->state;
	if (a67_deadline_expired(client->total_due, now_ms))
		a67_client_fail(client, "no complete response from %s:%u in %u ms", client->host,
						client->port, client->config.total_ms);
	else if (a67_deadline_expired(client->idle_due, now_ms))
		a67_client_fail(client, "no progress with %s:%u for %u ms", client->host, client->port,
						client->config.idle_ms);
	return client->state;
}

int
a67_http_client_fd(const A67HttpClient *client)
{
	return client->io.fd;
}

short
a67_http_client_events(const A67HttpClient *client)
{
	if (client->state != A67_HTTP_CLIENT_BUSY)
		return 0;
	switch (client->phase)
	{
		case PHASE_CONNECT:
			return POLLOUT;
		case PHASE_HANDSHAKE:
			return client->wants;
		case PHASE_TALK:
			break;
	}
	if (!client->send_broken && (client->out.len > 0 || client->unsent > 0))
		return POLLIN | POLLOUT;
	return POLLIN;
}

int64_t
a67_http_client_next_deadline(const A67HttpClient *client, int64_t now_ms)
{
	if (client->state != A67_HTTP_CLIENT_BUSY)
		return -1;
	if (client->more)
		return 0;
	return a67_deadline_left(a67_deadline_min(client->total_due, client->idle_due), now_ms);
}

A67HttpClientState
a67_http_client_state(const A67HttpClient *client)
{
	return client->state;
}

const A67HttpHead *
a67_http_client_response(const A67HttpClient *client)
{
	return client->state == A67_HTTP_CLIENT_DONE ? &client->head : NULL;
}

const char *
a67_http_client_body(const A67HttpClient *client, size_t *len)
{
	if (len != NULL)
		*len = client->body.len;
	return a67_buf_text(&client->body);
}

const char *
a67_http_client_error(const A67HttpClient *client)
{
	return client->error;
}
