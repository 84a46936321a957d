/*
 * shard_try.c - a connection to a string that is not stored yet, for one query; see shard.h.
 *
 * Not a link: it has no place and no breaker, and is closed when the query is done.
 */
#include "postgres.h"

#include "net/shard_link.h"

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/wait_event.h"

#include "core/pace.h"
#include "net/shard_address.h"
#include "net/shard_error.h"
#include "platform/clock.h"
#include "platform/settings.h"

static pg_attribute_noreturn() void refuse(const char *name, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg("could not connect to shard \"%s\"", name), errdetail_internal("%s", why)));
}

static void
wait_socket(PGconn *conn, bool write, int64 deadline_ms, const char *name)
{
	int64 now_ms = a67_now_ms();
	int events;

	if (a67_deadline_expired(deadline_ms, now_ms))
		refuse(name, "It did not answer in time.");
	events = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT |
								   (write ? WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE),
							   PQsocket(conn), a67_deadline_timeout(deadline_ms, now_ms),
							   PG_WAIT_EXTENSION);
	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
establish(PGconn *conn, int64 deadline_ms, const char *name)
{
	PostgresPollingStatusType poll = PGRES_POLLING_WRITING;
	int sqlstate;

	while (poll != PGRES_POLLING_OK && poll != PGRES_POLLING_FAILED &&
		   PQstatus(conn) != CONNECTION_BAD)
	{
		wait_socket(conn, poll == PGRES_POLLING_WRITING, deadline_ms, name);
		poll = PQconnectPoll(conn);
	}
	if (PQstatus(conn) != CONNECTION_OK)
		refuse(name, a67_address_failure(conn, &sqlstate));
}

static PGresult *
query(PGconn *conn, const char *sql, int64 deadline_ms, const char *name)
{
	PGresult *last = NULL;
	PGresult *result;

	PQsetnonblocking(conn, 1);
	if (PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) != 1)
		refuse(name, "The connection was lost.");
	while (PQflush(conn) > 0)
		wait_socket(conn, true, deadline_ms, name);
	do
	{
		while (PQisBusy(conn))
		{
			wait_socket(conn, false, deadline_ms, name);
			if (PQconsumeInput(conn) != 1)
				break;
		}
		result = PQgetResult(conn);
		if (result != NULL)
		{
			PQclear(last);
			last = result;
		}
	} while (result != NULL && PQstatus(conn) == CONNECTION_OK);
	return last;
}

static void
ignore_notice(void *arg, const PGresult *result)
{
}

PGresult *
a67_shard_try(const char *connection, const char *name, const char *sql, bool trusted)
{
	A67ShardAddress address = {.connection = pstrdup(connection), .trusted = trusted};
	int64 deadline_ms = a67_now_ms() + a67_shard_connect_timeout;
	PGconn *volatile conn = NULL;
	PGresult *volatile result = NULL;
	const char *why = NULL;

	if (!AcquireExternalFD())
		refuse(name, "Too many files are open here.");
	PG_TRY();
	{
		conn = a67_address_start(&address, &why);
		if (conn == NULL)
			refuse(name, why);
		PQsetNoticeReceiver(conn, ignore_notice, NULL);
		establish(conn, deadline_ms, name);
		if (!a67_address_login_ok(&address, conn))
			refuse(name, A67_ADDRESS_NO_LOGIN);
		PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
		result = query(conn, sql, deadline_ms, name);
	}
	PG_FINALLY();
	{
		if (conn != NULL)
			PQfinish(conn);
		ReleaseExternalFD();
		a67_address_wipe(&address);
	}
	PG_END_TRY();
	if (result == NULL)
		refuse(name, "The connection was lost.");
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		a67_shard_raise(name, result);
	return result;
}
