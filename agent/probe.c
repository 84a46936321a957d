/*
 * probe.c - health checks by core's HTTP client, or by a bare connection.  See probe.h.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/http/client.h"

struct A67Probe
{
	A67HttpClient *client; /* NULL: connect only */
	int fd;				   /* connect only */
	int64_t deadline_ms;
	int poll_at;
	bool answered; /* the body of a 2xx has begun: good, whatever follows */
	A67ProbeState state;
	A67Why why;
};

/* Only 2xx answers stream here; their first byte settles it. */
static int
body_began(void *arg, const char *data, size_t len)
{
	A67Probe *probe = arg;

	probe->answered = true;
	return -ECANCELED;
}

static A67ProbeState
settle(A67Probe *probe, A67ProbeState state)
{
	probe->state = state;
	return state;
}

static bool
begin_http(A67Probe *probe, int port, const char *path, int timeout_ms, int64_t now_ms)
{
	static const A67HttpField headers[] = {{"User-Agent", "a67-agent"}, {NULL, NULL}};
	A67HttpClientConfig config;
	A67HttpUrl url = {.tls = false, .port = (uint16_t) port, .host = "127.0.0.1"};
	A67HttpClientRequest request = {
		.url = &url, .headers = headers, .on_body = body_began, .arg = probe};

	a67_http_client_defaults(&config);
	config.tls = NULL;
	config.max_body = 65536;
	config.max_stream = 65536;
	config.total_ms = (uint32_t) timeout_ms;
	config.idle_ms = (uint32_t) timeout_ms;
	config.keep_alive = false;
	probe->client = a67_http_client_new(&config);
	if (probe->client == NULL)
		return false;
	url.path.at = request.path.at = path;
	url.path.len = request.path.len = strlen(path);
	if (a67_http_client_start(probe->client, &request, now_ms) != 0)
	{
		(void) a67_why(&probe->why, -EIO, "%.200s", a67_http_client_error(probe->client));
		(void) settle(probe, A67_PROBE_BAD);
	}
	return true;
}

static bool
begin_connect(A67Probe *probe, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	probe->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe->fd < 0)
		return false;
	if (connect(probe->fd, (struct sockaddr *) &address, sizeof(address)) == 0)
		(void) settle(probe, A67_PROBE_GOOD);
	else if (errno != EINPROGRESS)
	{
		(void) a67_why(&probe->why, -errno, "could not connect to port %d: %s", port,
					   strerror(errno));
		(void) settle(probe, A67_PROBE_BAD);
	}
	return true;
}

A67Probe *
a67_probe_new(int port, const char *path, int timeout_ms, int64_t now_ms)
{
	A67Probe *probe = calloc(1, sizeof(*probe));
	bool begun;

	if (probe == NULL)
		return NULL;
	probe->fd = -1;
	probe->poll_at = -1;
	probe->deadline_ms = a67_deadline_in(now_ms, timeout_ms);
	begun = path != NULL ? begin_http(probe, port, path, timeout_ms, now_ms)
						 : begin_connect(probe, port);
	if (begun)
		return probe;
	a67_probe_free(probe);
	return NULL;
}

void
a67_probe_free(A67Probe *probe)
{
	if (probe == NULL)
		return;
	a67_http_client_free(probe->client);
	if (probe->fd >= 0)
		(void) close(probe->fd);
	free(probe);
}

void
a67_probe_prepare(A67Probe *probe, A67PollSet *set, int64_t now_ms)
{
	int64_t wait = -1;

	if (probe->state != A67_PROBE_BUSY)
	{
		a67_poll_until(set, now_ms);
		return;
	}
	if (probe->client != NULL)
	{
		probe->poll_at = a67_poll_add(set, a67_http_client_fd(probe->client),
									  a67_http_client_events(probe->client));
		wait = a67_http_client_next_deadline(probe->client, now_ms);
	}
	else
		probe->poll_at = a67_poll_add(set, probe->fd, POLLOUT);
	a67_poll_until(set, wait >= 0 ? a67_deadline_in(now_ms, wait) : probe->deadline_ms);
}

static A67ProbeState
step_http(A67Probe *probe, int64_t now_ms)
{
	int status;

	switch (a67_http_client_step(probe->client, now_ms))
	{
		case A67_HTTP_CLIENT_BUSY:
			return A67_PROBE_BUSY;
		case A67_HTTP_CLIENT_DONE:
			status = a67_http_client_response(probe->client)->status;
			if (status >= 200 && status < 400)
				return settle(probe, A67_PROBE_GOOD);
			(void) a67_why(&probe->why, -EPROTO, "health check answered %d", status);
			return settle(probe, A67_PROBE_BAD);
		default:
			if (probe->answered)
				return settle(probe, A67_PROBE_GOOD);
			(void) a67_why(&probe->why, -EIO, "%.200s", a67_http_client_error(probe->client));
			return settle(probe, A67_PROBE_BAD);
	}
}

static A67ProbeState
step_connect(A67Probe *probe)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err == 0)
		return settle(probe, A67_PROBE_GOOD);
	(void) a67_why(&probe->why, -err, "could not connect: %s", strerror(err));
	return settle(probe, A67_PROBE_BAD);
}

A67ProbeState
a67_probe_step(A67Probe *probe, const A67PollSet *set, int64_t now_ms)
{
	if (probe->state != A67_PROBE_BUSY)
		return probe->state;
	if (probe->client != NULL)
	{
		if (a67_poll_ready(set, probe->poll_at) ||
			a67_http_client_next_deadline(probe->client, now_ms) == 0)
			return step_http(probe, now_ms);
		return A67_PROBE_BUSY;
	}
	if (a67_poll_ready(set, probe->poll_at))
		return step_connect(probe);
	if (a67_deadline_expired(probe->deadline_ms, now_ms))
	{
		(void) a67_why(&probe->why, -ETIMEDOUT, "connection timed out");
		return settle(probe, A67_PROBE_BAD);
	}
	return A67_PROBE_BUSY;
}

const char *
a67_probe_error(const A67Probe *probe)
{
	return probe->why.text;
}
