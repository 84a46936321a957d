/*
 * query.c - one hostile statement in its frame.
 *
 * The frame is what a SECURITY DEFINER function of a role without rights elsewhere would be, and tighter: the role cannot be changed
 * (GUC_NOT_WHILE_SEC_REST), nothing can be left behind in the session (SECURITY_RESTRICTED_OPERATION), settings come back as they were, memory,
 * temporary space and time are bounded. What the statement may consist of is query_allow.c's to decide, between rewriting and
 * planning. Callers have checked whose database it is. Works in the caller's transaction: an error takes back what the statement did.
 */
#include "postgres.h"

#include "router/query.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "net/shard.h"
#include "parser/parser.h"
#include "platform/errors.h"
#include "platform/settings.h"
#include "portability/instr_time.h"
#include "rewrite/rewriteHandler.h"
#include "router/merge.h"
#include "router/query_allow.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define TEMP_FILES "256MB"

typedef struct Frame
{
	const char *text;
	Oid schema;
	Jsonb *params;
	int guc_level;
	Oid user;
	int context;
	bool timer;
} Frame;

typedef struct Outcome
{
	A67QueryAnswer *answer;
	int64 changed; /* -1: the statement changes no rows */
} Outcome;

/* ---- the frame --------------------------------------------------------------------------------- */

static void
set_here(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

static void
set_frame_options(const Frame *frame)
{
	char *schema = get_namespace_name(frame->schema);

	set_here("search_path", psprintf("pg_catalog, %s, pg_temp", quote_identifier(schema)));
	set_here("temp_file_limit", TEMP_FILES);
	/* Limits count for one process; LLVM ends it when memory is short. */
	set_here("max_parallel_workers_per_gather", "0");
	set_here("jit", "off");
}

/* Time is bounded by whoever called us; if nobody did, by a67.request_timeout. */
static void
start_timer(Frame *frame)
{
	frame->timer = !get_timeout_active(STATEMENT_TIMEOUT);
	if (frame->timer)
		enable_timeout_after(STATEMENT_TIMEOUT, a67_request_timeout);
}

static void
stop_timer(Frame *frame)
{
	if (frame->timer)
		disable_timeout(STATEMENT_TIMEOUT, false);
	frame->timer = false;
}

/* A shard that does not answer is left out while there is still time to send the answer without it. */
static void
shorten_shard_timeout(void)
{
	int64 left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												 get_timeout_finish_time(STATEMENT_TIMEOUT));

	left = Max(left * 3 / 4, 100);
	if (left < a67_shard_timeout)
		set_here("a67.shard_timeout", psprintf("%d", (int) left));
}

static void
enter(Frame *frame, Oid role)
{
	GetUserIdAndSecContext(&frame->user, &frame->context);
	frame->guc_level = NewGUCNestLevel();
	set_frame_options(frame);
	SetUserIdAndSecContext(role, frame->context | SECURITY_LOCAL_USERID_CHANGE |
									 SECURITY_RESTRICTED_OPERATION);
	start_timer(frame);
	if (a67_allow_partial)
		shorten_shard_timeout();
}

static void
leave(Frame *frame)
{
	stop_timer(frame);
	SetUserIdAndSecContext(frame->user, frame->context);
	AtEOXact_GUC(false, frame->guc_level);
}

/* ---- the statement ----------------------------------------------------------------------------- */

/* EXPLAIN keeps its query analysed but not rewritten. */
static void
allow_explained(Query *utility, Oid schema, const char *text)
{
	ExplainStmt *explain = castNode(ExplainStmt, utility->utilityStmt);
	Query *query = copyObject(castNode(Query, explain->query));

	a67_allow_queries(QueryRewrite(query), schema, text);
}

/* Looks at what will be planned; locks on all its relations are held by now, so that it stays as it is. */
static void
allow_plan(SPIPlanPtr plan, const Frame *frame)
{
	ListCell *cell;

	foreach(cell, SPI_plan_get_plan_sources(plan))
	{
		List *queries = ((CachedPlanSource *) lfirst(cell))->query_list;

		a67_merge_mend(queries);
		if (list_length(queries) == 1 && linitial_node(Query, queries)->commandType == CMD_UTILITY)
			allow_explained(linitial_node(Query, queries), frame->schema, frame->text);
		else
			a67_allow_queries(queries, frame->schema, frame->text);
	}
}

static SPIPlanPtr
prepare(const Frame *frame, RawStmt *statement, A67QueryParams *params)
{
	Relation merged = a67_merge_disguise(statement);
	SPIPlanPtr volatile plan = NULL;

	PG_TRY();
	{
		a67_query_bind(statement, frame->text, frame->params, params);
		plan = SPI_prepare(frame->text, params->count, params->types);
	}
	PG_FINALLY();
	{
		a67_merge_reveal(merged);
	}
	PG_END_TRY();
	if (plan == NULL)
		elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* A part of an answer is one when at least one shard has answered. */
static void
check_parts(void)
{
	if (a67_partial_shards() != NIL && a67_shards_used() == 0)
		ereport(ERROR, (errcode(A67_ERRCODE_UNAVAILABLE),
						errmsg("all shards of the database are unavailable")));
}

static void
run(const Frame *frame, Outcome *outcome)
{
	A67StatementKind kind;
	RawStmt *statement = a67_allow_statement(frame->text, &kind);
	SPIExecuteOptions options = {0};
	A67QueryParams params;
	SPIPlanPtr plan;
	int code;

	if (kind != A67_STATEMENT_QUERY)
		elog(ERROR, "DDL where a query was expected");
	plan = prepare(frame, statement, &params);
	allow_plan(plan, frame);
	options.params = params.values;
	options.dest = a67_query_receiver(outcome->answer);
	code = SPI_execute_plan_extended(plan, &options);
	if (code < 0)
		elog(ERROR, "could not execute a statement: %s", SPI_result_code_string(code));
	check_parts();
	outcome->changed = code == SPI_OK_SELECT || code == SPI_OK_UTILITY ? -1 : (int64) SPI_processed;
}

/* Errors of the parser that are not yet about an inner query: it is the caller's text all the same. */
static void
place_error(void *arg)
{
	int position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(position);
	internalerrquery((const char *) arg);
}

static void
run_explained(Frame *frame, Outcome *outcome)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorContextCallback context_of = {.previous = error_context_stack,
									   .callback = place_error,
									   .arg = unconstify(char *, frame->text)};

	error_context_stack = &context_of;
	PG_TRY();
	{
		a67_memory_cap((int64) a67_query_memory * 1024);
		run(frame, outcome);
		a67_memory_uncap();
	}
	PG_CATCH();
	{
		ErrorData *error;

		/* First of all: what follows takes memory. */
		a67_memory_uncap();

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		stop_timer(frame);
		a67_query_explain_error(error, frame->text, frame->schema);
		ReThrowError(error);
	}
	PG_END_TRY();
	error_context_stack = context_of.previous;
}

/* ---- SQL --------------------------------------------------------------------------------------- */

static void
write_missing(StringInfo json)
{
	List *missing = a67_partial_shards();
	ListCell *cell;
	const char *separator = "";

	if (missing == NIL)
		return;
	appendStringInfoString(json, ",\"partial\":true,\"shards_missing\":[");
	foreach(cell, missing)
	{
		appendStringInfoString(json, separator);
		escape_json(json, lfirst(cell));
		separator = ",";
	}
	appendStringInfoChar(json, ']');
}

static Datum
write_outcome(const Outcome *outcome, const char *text, instr_time began)
{
	StringInfoData json;
	instr_time elapsed;

	INSTR_TIME_SET_CURRENT(elapsed);
	INSTR_TIME_SUBTRACT(elapsed, began);
	initStringInfo(&json);
	appendStringInfoString(&json, "{\"query\":");
	escape_json(&json, text);
	appendStringInfo(&json, ",\"execution_time_ms\":%.3f,\"shards_queried\":%d,",
					 INSTR_TIME_GET_MILLISEC(elapsed), a67_shards_used());
	if (outcome->changed >= 0)
		appendStringInfo(&json, "\"rows_affected\":" INT64_FORMAT ",", outcome->changed);
	a67_query_answer_write(outcome->answer, &json);
	write_missing(&json);
	appendStringInfoString(&json, ",\"token\":null}");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

PG_FUNCTION_INFO_V1(a67_sql_query_run);

/* _query_run(schema name, role name, query text, params jsonb) returns jsonb; params may be null */
Datum
a67_sql_query_run(PG_FUNCTION_ARGS)
{
	Frame frame = {0};
	Outcome outcome = {.changed = -1};
	Oid role = get_role_oid(NameStr(*PG_GETARG_NAME(1)), false);
	instr_time began;

	INSTR_TIME_SET_CURRENT(began);
	frame.schema = get_namespace_oid(NameStr(*PG_GETARG_NAME(0)), false);
	frame.text = text_to_cstring(PG_GETARG_TEXT_PP(2));
	frame.params = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	outcome.answer = a67_query_answer();
	a67_partial_forget();
	/* Before the frame: the session's own memory of SPI is not the statement's. */
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	enter(&frame, role);
	run_explained(&frame, &outcome);
	leave(&frame);
	SPI_finish();
	PG_RETURN_DATUM(write_outcome(&outcome, frame.text, began));
}

PG_FUNCTION_INFO_V1(a67_sql_query_is_ddl);

/* _query_is_ddl(query text) returns boolean */
Datum
a67_sql_query_is_ddl(PG_FUNCTION_ARGS)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	A67StatementKind kind = A67_STATEMENT_QUERY;
	ErrorContextCallback context_of = {.previous = error_context_stack,
									   .callback = place_error,
									   .arg = source};
	MemoryContext context = CurrentMemoryContext;

	error_context_stack = &context_of;
	PG_TRY();
	{
		(void) a67_allow_statement(source, &kind);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		a67_query_explain_error(error, source, InvalidOid);
		ReThrowError(error);
	}
	PG_END_TRY();
	error_context_stack = context_of.previous;
	PG_RETURN_BOOL(kind == A67_STATEMENT_DDL);
}
