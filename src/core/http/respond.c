/*
 * respond.c: answers: whole, streamed, from a file, and the engine's own errors.
 *
 * Everything is appended to ex->out and sent in the connection's turn, never here, so a handler may
 * answer from any callback without recursion. An append that hits a limit leaves the answer as it
 * was. Header names and values are checked: nothing a handler passes can split a response.
 */
#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static bool
header_is_valid(const A67HttpField *h)
{
	static const char *const reserved[] = {"date", "connection", "content-length",
										   "transfer-encoding"};
	A67HttpStr name = {h->name, strlen(h->name)};
	size_t i;

	for (i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (a67_http_str_is_nocase(name, reserved[i]))
			return false;
	return a67_http_field_is_valid(h);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", made once per second; no locale. */
static const char *
date_text(A67HttpServer *server)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	int64_t second = server->config.callbacks.wall_seconds(server->config.arg);
	time_t t = (time_t) second;
	struct tm tm;

	if (second == server->date_second)
		return server->date;
	if (gmtime_r(&t, &tm) == NULL)
		return NULL;
	server->date_second = second;
	snprintf(server->date, sizeof(server->date), "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
			 days + 3 * tm.tm_wday, (unsigned) tm.tm_mday % 100, months + 3 * tm.tm_mon,
			 (unsigned) (tm.tm_year + 1900) % 10000, (unsigned) tm.tm_hour % 100,
			 (unsigned) tm.tm_min % 100, (unsigned) tm.tm_sec % 100);
	return server->date;
}

/* Whether an answer may begin now. */
static int
may_begin(const A67HttpConn *conn, int status, const A67HttpField *headers)
{
	if (conn->doomed)
		return -EPIPE;
	if (conn->ex == NULL || !conn->ex->head_given || conn->ex->answer != ANSWER_NONE)
		return -EPROTO;
	if (status < 200 || status > 599)
		return -EINVAL;
	for (; headers != NULL && headers->name != NULL; headers++)
		if (!header_is_valid(headers))
			return -EINVAL;
	return 0;
}

static void
append_framing(A67HttpConn *conn, int status, int64_t length)
{
	Exchange *ex = conn->ex;

	ex->bodiless = ex->head.method == A67_HTTP_HEAD || status == 204 || status == 304;
	ex->answer_chunked = length < 0 && ex->head.minor > 0;
	ex->answer_left = length;
	if (status == 204 || status == 304)
		ex->answer_chunked = false;
	else if (length >= 0)
		a67_buf_append_fmt(&ex->out, "Content-Length: %lld\r\n", (long long) length);
	else if (ex->answer_chunked)
		a67_buf_append_str(&ex->out, "Transfer-Encoding: chunked\r\n");
	/* Without length or chunks only the end of the connection ends the body. */
	if (length < 0 && !ex->answer_chunked && !ex->bodiless)
		ex->keep_alive = false;
	if (!ex->keep_alive)
		a67_buf_append_str(&ex->out, "Connection: close\r\n");
	else if (ex->head.minor == 0)
		a67_buf_append_str(&ex->out, "Connection: keep-alive\r\n");
}

/* Puts the out buffer back to what it held before a failed append. */
static int
take_back(Exchange *ex, size_t len)
{
	ex->out.len = len;
	ex->out.failed = false;
	return -ENOBUFS;
}

static void
append_field(A67Buf *out, const char *name, const char *value)
{
	a67_buf_append_str(out, name);
	a67_buf_append(out, ": ", 2);
	a67_buf_append_str(out, value);
	a67_buf_append(out, "\r\n", 2);
}

static void
append_status(A67Buf *out, int status)
{
	const char digits[] = {(char) ('0' + status / 100), (char) ('0' + status / 10 % 10),
						   (char) ('0' + status % 10), ' '};

	a67_buf_append_str(out, "HTTP/1.1 ");
	a67_buf_append(out, digits, sizeof(digits));
	a67_buf_append_str(out, a67_http_reason(status));
	a67_buf_append(out, "\r\n", 2);
}

/* Writes the head of an answer; length -1 is "not known". */
static int
begin(A67HttpConn *conn, int status, const A67HttpField *headers, int64_t length)
{
	A67HttpServer *server = conn->server;
	Exchange *ex = conn->ex;
	size_t before = ex->out.len;
	const char *date = server->config.callbacks.wall_seconds != NULL ? date_text(server) : NULL;

	ex->keep_alive = ex->head.keep_alive && conn->state == CONN_ANSWER && !server->draining;
	append_status(&ex->out, status);
	if (date != NULL)
		append_field(&ex->out, "Date", date);
	for (; headers != NULL && headers->name != NULL; headers++)
		append_field(&ex->out, headers->name, headers->value);
	if (ex->extra.len > 0)
		a67_buf_append(&ex->out, ex->extra.data, ex->extra.len);
	append_framing(conn, status, length);
	if (!a67_buf_append_str(&ex->out, "\r\n"))
		return take_back(ex, before);
	ex->answer = ANSWER_STREAM;
	a67_engine_wake(conn);
	return 0;
}

/* The answer is whole: its handle dies, and a body still coming in is of no interest any more. */
static void
complete(A67HttpConn *conn)
{
	conn->ex->answer = ANSWER_ENDED;
	conn->state = CONN_ANSWER;
	a67_engine_expire_handle(conn);
	a67_engine_wake(conn);
}

int
a67_http_respond_also(A67HttpConn *conn, const A67HttpField *headers)
{
	Exchange *ex = conn->ex;
	size_t before;

	if (ex == NULL || !ex->head_given || ex->answer != ANSWER_NONE)
		return -EPROTO;
	before = ex->extra.len;
	for (; headers->name != NULL; headers++)
	{
		if (!header_is_valid(headers))
		{
			ex->extra.len = before;
			return -EINVAL;
		}
		append_field(&ex->extra, headers->name, headers->value);
	}
	if (!ex->extra.failed)
		return 0;
	ex->extra.len = before;
	ex->extra.failed = false;
	return -ENOBUFS;
}

int
a67_http_respond(A67HttpConn *conn, int status, const A67HttpField *headers, const void *body,
				 size_t len)
{
	int rc = may_begin(conn, status, headers);
	size_t before;

	if (rc < 0)
		return rc;
	if (len > conn->server->config.max_response)
		return -ENOBUFS;
	before = conn->ex->out.len;
	rc = begin(conn, status, headers, (int64_t) len);
	if (rc < 0)
		return rc;
	if (!conn->ex->bodiless && !a67_buf_append(&conn->ex->out, body, len))
	{
		conn->ex->answer = ANSWER_NONE;
		return take_back(conn->ex, before);
	}
	complete(conn);
	return 0;
}

int
a67_http_respond_error(A67HttpConn *conn, int status, const char *code, const char *message)
{
	static const A67HttpField headers[] = {{"Content-Type", "application/json"}, {NULL, NULL}};
	A67Buf json;
	char standard[16];
	int rc = -ENOBUFS;

	if (message == NULL)
		message = a67_http_reason(status);
	if (code == NULL)
	{
		snprintf(standard, sizeof(standard), "HTTP%d", status);
		code = standard;
	}
	a67_buf_init(&json, ENGINE_ERROR_BYTES);
	a67_buf_append_str(&json, "{\"code\":");
	a67_buf_append_json_string(&json, code, strlen(code));
	a67_buf_append_str(&json, ",\"message\":");
	a67_buf_append_json_string(&json, message, strlen(message));
	if (a67_buf_append_str(&json, ",\"details\":null,\"hint\":null}"))
		rc = a67_http_respond(conn, status, headers, json.data, json.len);
	a67_buf_free(&json);
	return rc;
}

const A67HttpField *
a67_engine_stamp(A67HttpServer *server)
{
	const A67HttpField *field = NULL;

	if (server->config.callbacks.stamp != NULL)
		field = server->config.callbacks.stamp(server->config.arg);
	return field != NULL && header_is_valid(field) ? field : NULL;
}

void
a67_engine_fail(A67HttpConn *conn, int status, const char *message, bool linger)
{
	Exchange *ex = conn->ex;
	const A67HttpField *stamp;

	if (status < 500 && status != 408)
		conn->server->stats.client_errors++;
	if (ex == NULL || ex->answer != ANSWER_NONE)
	{
		conn->doomed = true;
		return;
	}
	/* The handler may never have seen this request, but it gets an answer like any other. */
	stamp = ex->head_given ? NULL : a67_engine_stamp(conn->server);
	ex->head_given = true;
	if (stamp != NULL)
		(void) a67_http_respond_also(conn, (A67HttpField[]){*stamp, {NULL, NULL}});
	ex->head.keep_alive = false;
	ex->linger = linger;
	if (a67_http_respond_error(conn, status, NULL, message) < 0)
		conn->doomed = true;
}

static int
begin_file(A67HttpConn *conn, int status, const A67HttpField *headers, const A67HttpFile *file)
{
	int rc = may_begin(conn, status, headers);

	if (rc < 0)
		return rc;
	if (file->fd < 0 || file->length > INT64_MAX || file->offset > INT64_MAX - file->length)
		return -EINVAL;
	return begin(conn, status, headers, (int64_t) file->length);
}

int
a67_http_respond_file(A67HttpConn *conn, int status, const A67HttpField *headers, A67HttpFile file)
{
	int rc = begin_file(conn, status, headers, &file);

	if (rc == 0 && !conn->ex->bodiless && file.length > 0)
		conn->ex->file = file;
	else if (file.fd >= 0)
		(void) close(file.fd);
	if (rc == 0)
		complete(conn);
	return rc;
}

int
a67_http_respond_begin(A67HttpConn *conn, int status, const A67HttpField *headers,
					   int64_t content_length)
{
	int rc = may_begin(conn, status, headers);

	if (rc < 0)
		return rc;
	return content_length < -1 ? -EINVAL : begin(conn, status, headers, content_length);
}

int
a67_http_respond_write(A67HttpConn *conn, const void *data, size_t len)
{
	Exchange *ex = conn->ex;
	char line[20];
	size_t before;

	if (conn->doomed)
		return -EPIPE;
	if (ex == NULL || ex->answer != ANSWER_STREAM)
		return -EPROTO;
	if (ex->answer_left >= 0 && len > (uint64_t) ex->answer_left)
		return -EINVAL;
	if (len > conn->server->config.max_response - sizeof(line) ||
		ex->out.len > conn->server->config.max_response - sizeof(line) - len)
		return -ENOBUFS;
	before = ex->out.len;
	if (len > 0 && !ex->bodiless)
	{
		if (ex->answer_chunked)
			a67_buf_append(&ex->out, line, a67_http_chunk_open(line, len));
		a67_buf_append(&ex->out, data, len);
		if (!a67_buf_append(&ex->out, "\r\n", ex->answer_chunked ? 2 : 0))
			return take_back(ex, before);
	}
	if (ex->answer_left >= 0)
		ex->answer_left -= (int64_t) len;
	if (ex->out.len >= conn->server->config.high_water)
		ex->drain_wanted = true;
	a67_engine_wake(conn);
	return 0;
}

size_t
a67_http_respond_pending(const A67HttpConn *conn)
{
	return conn->ex != NULL ? conn->ex->out.len : 0;
}

int
a67_http_respond_end(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;

	if (conn->doomed)
		return -EPIPE;
	if (ex == NULL || ex->answer != ANSWER_STREAM)
		return -EPROTO;
	if (ex->answer_left > 0 && !ex->bodiless)
	{
		a67_http_respond_abort(conn);
		return -EINVAL;
	}
	if (ex->answer_chunked && !ex->bodiless && !a67_buf_append_str(&ex->out, "0\r\n\r\n"))
	{
		a67_http_respond_abort(conn);
		return -ENOMEM;
	}
	complete(conn);
	return 0;
}

void
a67_http_respond_abort(A67HttpConn *conn)
{
	struct linger reset = {.l_onoff = 1, .l_linger = 0};

	/* A reset tells even a client that reads until the end of the connection. */
	(void) setsockopt(conn->io.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	conn->doomed = true;
	a67_engine_wake(conn);
}
