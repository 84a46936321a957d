/*
 * probe.c - health checks by core's HTTP client, by a bare connection, or by a command.  See probe.h.
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

#define TAIL_BYTES 256 /* of what a command writes: its last line goes into a complaint */

struct A67Probe
{
	A67HttpClient *client; /* NULL: connect, or a command */
	int fd;				   /* the connection, or the output of the command; -1: closed */
	bool command;
	pid_t pid; /* of the command until it has ended */
	char tail[TAIL_BYTES + 1];
	size_t tail_len;
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

A67Probe *
a67_probe_command(const A67Process *process, int output, int timeout_ms, int64_t now_ms)
{
	A67Probe *probe = calloc(1, sizeof(*probe));

	if (probe == NULL)
	{
		a67_process_signal(process, SIGKILL);
		(void) close(output);
		return NULL;
	}
	probe->fd = output;
	probe->command = true;
	probe->pid = process->pid;
	probe->poll_at = -1;
	probe->deadline_ms = a67_deadline_in(now_ms, timeout_ms);
	return probe;
}

/* Unreaped, so the pid names its group surely. */
static void
kill_command(const A67Probe *probe)
{
	if (probe->pid > 1)
		(void) kill(-probe->pid, SIGKILL);
}

pid_t
a67_probe_pid(const A67Probe *probe)
{
	return probe != NULL ? probe->pid : 0;
}

void
a67_probe_free(A67Probe *probe)
{
	if (probe == NULL)
		return;
	kill_command(probe);
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
		probe->poll_at = a67_poll_add(set, probe->fd, probe->command ? POLLIN : POLLOUT);
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

/* Keeps the end of what the command writes; reads all there is, so that it never waits for us. */
static void
read_output(A67Probe *probe)
{
	char chunk[4096];
	ssize_t n;

	while (probe->fd >= 0 && (n = read(probe->fd, chunk, sizeof(chunk))) != 0)
	{
		size_t got = (size_t) n;
		size_t keep;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		if (got > TAIL_BYTES)
			got = TAIL_BYTES;
		keep = probe->tail_len + got > TAIL_BYTES ? TAIL_BYTES - got : probe->tail_len;
		memmove(probe->tail, probe->tail + probe->tail_len - keep, keep);
		memcpy(probe->tail + keep, chunk + n - got, got);
		probe->tail_len = keep + got;
	}
	/* The other end is closed: nothing more to wait for there. */
	if (probe->fd >= 0)
		(void) close(probe->fd);
	probe->fd = -1;
}

/* The last line that is not empty. */
static const char *
last_line(A67Probe *probe)
{
	char *line;

	while (probe->tail_len > 0 && strchr("\r\n \t", probe->tail[probe->tail_len - 1]) != NULL)
		probe->tail_len--;
	probe->tail[probe->tail_len] = '\0';
	line = memrchr(probe->tail, '\n', probe->tail_len);
	return line != NULL ? line + 1 : probe->tail;
}

void
a67_probe_ended(A67Probe *probe, const siginfo_t *info)
{
	bool exited = info->si_code == CLD_EXITED;

	/* What it has left running in its group ends with it. */
	kill_command(probe);
	probe->pid = 0;
	if (probe->state != A67_PROBE_BUSY)
		return;
	read_output(probe);
	if (exited && info->si_status == 0)
	{
		(void) settle(probe, A67_PROBE_GOOD);
		return;
	}
	(void) a67_why(&probe->why, -EPROTO, "health check command %s %d%s%.200s",
				   exited ? "exited with status" : "was killed by signal", info->si_status,
				   probe->tail_len > 0 ? ": " : "", last_line(probe));
	(void) settle(probe, A67_PROBE_BAD);
}

static A67ProbeState
step_command(A67Probe *probe, const A67PollSet *set, int64_t now_ms)
{
	if (a67_poll_ready(set, probe->poll_at))
		read_output(probe);
	if (!a67_deadline_expired(probe->deadline_ms, now_ms))
		return A67_PROBE_BUSY;
	(void) a67_why(&probe->why, -ETIMEDOUT, "health check command took too long%s%.200s",
				   probe->tail_len > 0 ? ": " : "", last_line(probe));
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
	if (probe->command)
		return step_command(probe, set, now_ms);
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
