/*
 * shard_cleanup.c - bringing links back to rest: cancelling what runs, throwing answers away, COMMIT and ROLLBACK.
 *
 * Nothing here throws or can be interrupted: it runs while transactions end. Instead all of it is bounded in time, and a
 * connection that does not come to rest in time is closed.
 */
#include "postgres.h"

#include "net/shard_link.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/timeout.h"

#include "core/pace.h"
#include "net/shard_error.h"
#include "net/shard_wait.h"
#include "platform/clock.h"

#define SETTLE_MS 1000 /* after a cancel; a new connection costs less than waiting for longer */

static TimeoutId cancel_timer;
static bool cancel_timer_known;
static volatile int cancel_socket = -1;
static volatile sig_atomic_t cancel_late;

static void
handle_cancel_late(void)
{
	int saved_errno = errno;

	cancel_late = true;
	shutdown(cancel_socket, SHUT_RDWR);
	errno = saved_errno;
}

/* PQcancel opens a socket, which gets the lowest free number. */
static int
next_descriptor(void)
{
	int next = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (next >= 0)
		close(next);
	return next;
}

bool
a67_link_cancel(A67Link *link, int64 deadline_ms)
{
	char ignored[256];
	PGcancel *cancel;
	int64 left_ms = a67_deadline_left(deadline_ms, a67_now_ms());
	bool sent;

	if (link->conn == NULL || left_ms <= 0)
		return false;
	if (!cancel_timer_known)
	{
		cancel_timer = RegisterTimeout(USER_TIMEOUT, handle_cancel_late);
		cancel_timer_known = true;
	}
	cancel = PQgetCancel(link->conn);
	cancel_socket = next_descriptor();
	if (cancel == NULL || cancel_socket < 0)
	{
		PQfreeCancel(cancel);
		return false;
	}
	/* PQcancel waits for the server without any limit. Shutting its socket makes it return. */
	cancel_late = false;
	enable_timeout_after(cancel_timer, (int) Min(left_ms, A67_CANCEL_MS));
	sent = PQcancel(cancel, ignored, sizeof(ignored)) == 1;
	disable_timeout(cancel_timer, false);
	cancel_socket = -1;
	PQfreeCancel(cancel);
	return sent && !cancel_late;
}

/* Sends what is left to send, waits for more to read. False when the connection is broken or the time is up. */
static bool
pump(A67Link *link, int64 deadline_ms)
{
	A67Wait wait = {.link = link};
	int flushed;

	if (a67_deadline_expired(deadline_ms, a67_now_ms()))
		return false;
	flushed = PQflush(link->conn);
	if (flushed < 0 || PQsocket(link->conn) == PGINVALID_SOCKET)
		return false;
	wait.write = flushed > 0;
	if (!a67_link_wait(&wait, 1, deadline_ms, false))
		return false;
	return !wait.ready || PQconsumeInput(link->conn) == 1;
}

/*
 * Reads until the connection is at rest. The last result that tells of success or failure goes to *last, if last is given.
 * Without time (deadline 0) only what is there already.
 */
static bool
settle(A67Link *link, int64 deadline_ms, PGresult **last)
{
	PGconn *conn = link->conn;
	bool silent = false;

	for (;;)
	{
		PGresult *result;
		ExecStatusType status;

		while (PQisBusy(conn))
			if (!pump(link, deadline_ms))
				return false;
		result = PQgetResult(conn);
		if (PQstatus(conn) != CONNECTION_OK)
		{
			PQclear(result);
			return false;
		}
		if (result == NULL && PQpipelineStatus(conn) == PQ_PIPELINE_OFF)
			return true;
		/* Twice in a row it means that libpq gave up: it had no memory. */
		if (result == NULL && silent)
			return false;
		silent = result == NULL;
		if (silent)
			continue;
		status = PQresultStatus(result);
		if (last != NULL && (*last == NULL || status == PGRES_FATAL_ERROR))
		{
			PQclear(*last);
			*last = result;
		}
		else
			PQclear(result);
		if (status == PGRES_PIPELINE_SYNC && PQexitPipelineMode(conn) == 1)
			return true;
		if (status == PGRES_COPY_IN && PQputCopyEnd(conn, "given up") < 0)
			return false;
	}
}

bool
a67_link_abandon(A67Link *link, int64 deadline_ms)
{
	if (link->conn == NULL)
		return false;
	link->user = NULL;
	/* Often all that is left has come already. */
	if (PQconsumeInput(link->conn) == 1 && settle(link, 0, NULL))
	{
		link->dirty = false;
		return true;
	}
	/* A shard that is told to stop says so at once, unless it is amid a row of hundreds of megabytes. */
	if (PQstatus(link->conn) == CONNECTION_OK && a67_link_cancel(link, deadline_ms) &&
		settle(link, Min(deadline_ms, a67_now_ms() + SETTLE_MS), NULL))
	{
		link->dirty = false;
		return true;
	}
	a67_link_close(link);
	return false;
}

void
a67_link_run(A67LinkRun *runs, int count, int64 deadline_ms)
{
	for (int i = 0; i < count; i++)
	{
		A67Link *link = runs[i].link;

		runs[i].result = NULL;
		runs[i].sent = link->conn != NULL && PQsendQuery(link->conn, runs[i].sql) == 1;
		if (runs[i].sent)
			PQflush(link->conn);
	}
	for (int i = 0; i < count; i++)
	{
		A67Link *link = runs[i].link;

		if (runs[i].sent && settle(link, deadline_ms, &runs[i].result))
			continue;
		/* A farewell is an answer too; anything else is half of one. */
		if (runs[i].result != NULL && (PQresultStatus(runs[i].result) != PGRES_FATAL_ERROR ||
									   a67_shard_sqlstate(runs[i].result) == 0))
		{
			PQclear(runs[i].result);
			runs[i].result = NULL;
		}
		if (link->endpoint != NULL)
			a67_endpoint_failed(link->endpoint, ERRCODE_CONNECTION_FAILURE, a67_now_ms());
		a67_link_close(link);
	}
}
