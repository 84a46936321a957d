/*
 * session.c: the database session of an api worker; see session.h.
 *
 * The session user, a67_authenticator, owns nothing and may do nothing but take on the roles of tokens and
 * write audit rows. Everything a call sets is local to its transaction; what functions set beyond that is
 * undone by a67_session_reset.
 */
#include "postgres.h"

#include "listener/session.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "listener/call.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

static const char *
server_text(const char *utf8)
{
	return pg_any_to_server(utf8, (int) strlen(utf8), PG_UTF8);
}

/* A value that RESET ALL comes back to. */
static void
set_for_session(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_USERSET, PGC_S_OVERRIDE);
}

static void
set_for_call(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
							 false);
}

void
a67_session_prepare(void)
{
	StartTransactionCommand();
	set_for_session("client_encoding", "UTF8");
	set_for_session("timezone", "UTC");
	set_for_session("search_path", "pg_catalog, " A67_API_SCHEMA ", pg_temp");
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* A query without a result worth reading, prepared at its first use. */
typedef struct Statement
{
	const char *query;
	int nargs;
	Oid types[2];
	SPIPlanPtr plan;
} Statement;

static void
run(Statement *statement, Datum *values, const char *nulls)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->query, statement->nargs, statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", statement->query,
				 SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	if (SPI_execute_plan(statement->plan, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", statement->query);
}

/* Whether the token is a user's. Nodes have no sessions that could have ended. */
static bool
is_of_user(const A67Call *call)
{
	return strcmp(call->role, "a67_user") == 0 || strcmp(call->role, "a67_admin") == 0;
}

void
a67_session_enter(const A67Call *call)
{
	static Statement check = {.query = "SELECT " A67_API_SCHEMA ".request_check()"};

	if (!call->own)
		set_for_call("role", call->role);
	if (superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" is a superuser and cannot serve requests", call->role)));
	set_for_call("request.jwt.claims", server_text(call->claims));
	set_for_call("request.method", call->method);
	set_for_call("request.path", server_text(call->path));
	set_for_call("request.headers", server_text(call->headers));
	set_for_call("request.id", call->request_id);
	set_for_call("request.address", call->address);
	if (!call->own && is_of_user(call))
		run(&check, NULL, NULL);
}

/* What DISCARD ALL would do, except for plans, which hold nothing of the caller. */
void
a67_session_reset(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PortalHashTableDeleteAll();
	SetConfigOption("role", "none", PGC_USERSET, PGC_S_SESSION);
	ResetAllOptions();
	DropAllPreparedStatements();
	Async_UnlistenAll();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetTempTableNamespace();
	ResetSequenceCaches();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
record_refusal(const A67Call *call)
{
	static Statement audit = {
		.query = "SELECT a67_internal._audit('request.denied', 'refused', $1,"
				 " (pg_catalog.jsonb($2) OPERATOR(pg_catalog.->>) 'sub')::pg_catalog.uuid)",
		.nargs = 2,
		.types = {TEXTOID, TEXTOID},
	};
	Datum values[2] = {(Datum) 0, (Datum) 0};
	const char *nulls = call->anonymous ? " n" : "  ";

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	set_for_call("request.id", call->request_id);
	set_for_call("request.address", call->address);
	values[0] = CStringGetTextDatum(
		server_text(psprintf("%s %s %s", call->method, call->path, call->function)));
	if (!call->anonymous)
		values[1] = CStringGetTextDatum(server_text(call->claims));
	run(&audit, values, nulls);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
a67_session_record_refusal(const A67Call *call)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		record_refusal(call);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		HOLD_CANCEL_INTERRUPTS(); /* the error has zeroed the count */
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}
