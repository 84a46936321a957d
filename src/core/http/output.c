/*
 * output.c: the writing half of a connection: bytes in ex->out first, then a slice of a file.
 *
 * Sends until everything is out, the socket is full, or this turn's share is used up; then EPOLLOUT
 * brings the next turn. On a plain socket file bytes never enter this process (sendfile).
 */
#include "engine.h"

#include <errno.h>
#include <unistd.h>

bool
a67_engine_out_pending(const A67HttpConn *conn)
{
	return conn->ex != NULL && (conn->ex->out.len > 0 || conn->ex->file.length > 0);
}

static void
count(A67HttpConn *conn, size_t n)
{
	conn->send_rate.moved += n;
	conn->server->stats.bytes_out += n;
}

static void
cannot_send(A67HttpConn *conn, ssize_t result)
{
	/* TLS that must read before it writes would be a renegotiation, and those are off. */
	if (result == A67_IO_WANT_WR)
		conn->want_write = true;
	else
		conn->doomed = true;
}

/* False: the socket is full or broken. */
static bool
send_buffer(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;

	while (ex->out.len > 0)
	{
		ssize_t n = a67_io_send(&conn->io, ex->out.data, ex->out.len, ex->file.length > 0);

		if (n <= 0)
		{
			cannot_send(conn, n);
			return false;
		}
		a67_buf_consume(&ex->out, (size_t) n);
		count(conn, (size_t) n);
	}
	/* A buffer that a large answer has blown up does not stay. */
	if (ex->out.cap > 2 * conn->server->config.high_water)
		a67_buf_free(&ex->out);
	return true;
}

static void
file_sent(Exchange *ex, uint64_t n)
{
	ex->file.length -= n;
	if (ex->file.length > 0)
		return;
	(void) close(ex->file.fd);
	ex->file.fd = -1;
}

/* TLS: the next piece of the file goes through the buffer. */
static void
load_file(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	size_t want = ex->file.length < ENGINE_TLS_STEP ? (size_t) ex->file.length : ENGINE_TLS_STEP;
	ssize_t n;

	if (!a67_buf_reserve(&ex->out, want))
	{
		conn->doomed = true;
		return;
	}
	do
		n = pread(ex->file.fd, ex->out.data + ex->out.len, want, (off_t) ex->file.offset);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
	{
		conn->doomed = true;
		return;
	}
	a67_buf_commit(&ex->out, (size_t) n);
	ex->file.offset += (uint64_t) n;
	file_sent(ex, (uint64_t) n);
}

void
a67_engine_flush(A67HttpConn *conn)
{
	Exchange *ex = conn->ex;
	uint64_t budget = ENGINE_FILE_STEP;

	while (send_buffer(conn) && ex->file.length > 0 && !conn->doomed)
	{
		size_t want = ex->file.length < budget ? (size_t) ex->file.length : (size_t) budget;
		ssize_t n;

		if (budget == 0)
		{
			conn->want_write = true;
			return;
		}
		if (conn->io.ssl != NULL)
		{
			load_file(conn);
			budget -= budget < ENGINE_TLS_STEP ? budget : ENGINE_TLS_STEP;
			continue;
		}
		n = a67_io_sendfile(&conn->io, ex->file.fd, &ex->file.offset, want);
		/* 0: the file is shorter than promised, and the head has promised it. */
		if (n <= 0)
		{
			cannot_send(conn, n);
			return;
		}
		count(conn, (size_t) n);
		file_sent(ex, (uint64_t) n);
		budget -= (uint64_t) n;
	}
}
