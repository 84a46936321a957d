/*
 * api_worker.c: the process that calls functions of schema a67 on behalf of HTTP requests.
 *
 * Its session user is a67_authenticator, which owns nothing; each call runs in one transaction under the
 * role of the request's token, as PostgREST does it: SET LOCAL ROLE, request.* settings, the check that
 * comes before, the call, response.* read back, COMMIT, then the answer, then a session like new. An error becomes an answer;
 * only FATAL, or a failure outside of a call, ends the process, and the listener starts another.
 * What fails for want of rights, or of a good token, is put on record before it is answered. Nothing is answered before COMMIT except streamed octets, whose truncation the client can see.
 *
 * Query cancels come from the statement timer and from the listener when a client leaves. They are held
 * back everywhere but in run_call, so a late one cannot hit the wrong place.
 *
 * Memory: `request` holds all of one call and is reset after it; plans live in plan.c's cache.
 * Exit code: 0 when the listener has gone, else 1; never restarted by the postmaster.
 */
#include "postgres.h"

#include "listener/listener.h"

#include "access/xact.h"
#include "crypto/guarded.h"
#include "executor/spi.h"
#include "listener/answer.h"
#include "listener/call.h"
#include "listener/exchange.h"
#include "listener/session.h"
#include "listener/status.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "platform/errors.h"
#include "platform/settings.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#define BODY_FIRST_ALLOC 8192
#define BODY_ALLOC_MAX	 ((int64_t) 512 * 1024 * 1024) /* trusted to an announcement */

typedef struct ApiWorker
{
	A67Exchange exchange;
	MemoryContext request;
	A67Call call;		 /* points into `request` */
	StringInfoData body; /* VARHDRSZ spare bytes, then the body */
	bool body_whole;	 /* LAST or ABORT has been taken */
	bool head_sent;		 /* a streamed answer has begun */
	bool head_only;		 /* HEAD: no body is sent */
	bool denied;		 /* the call was refused for want of rights or of a good token */
} ApiWorker;

/* An answer that is sent after COMMIT. */
typedef struct Answer
{
	bool streamed; /* begun already: only its end is left */
	A67AnswerHead head;
	A67AnswerBody body;
} Answer;

/* ---- taking a request -------------------------------------------------------------------------- */

/* The call's texts point into the queue; what follows would overwrite them. */
static void
keep_call(A67Call *call)
{
	call->function = pstrdup(call->function);
	call->body_arg = pstrdup(call->body_arg);
	call->params = pstrdup(call->params);
	call->role = pstrdup(call->role);
	call->claims = pstrdup(call->claims);
	call->method = pstrdup(call->method);
	call->path = pstrdup(call->path);
	call->headers = pstrdup(call->headers);
	call->request_id = pstrdup(call->request_id);
	call->address = pstrdup(call->address);
}

/* Waits for the next message that belongs to the body. True at its end; *aborted tells which end. */
static bool
next_body_message(ApiWorker *worker, StringInfo into, bool *aborted)
{
	const void *message;
	Size len;
	A67Frame frame = a67_exchange_receive(&worker->exchange, &message, &len);

	if (frame != A67_FRAME_BODY && frame != A67_FRAME_LAST && frame != A67_FRAME_ABORT)
		elog(FATAL, "message of type %d inside a request body", (int) frame);
	*aborted = frame == A67_FRAME_ABORT;
	worker->body_whole = frame != A67_FRAME_BODY;
	if (into != NULL && frame != A67_FRAME_ABORT)
		appendBinaryStringInfo(into, (const char *) message + 1, (int) (len - 1));
	return worker->body_whole;
}

/* Gathers the body. False when the client went away meanwhile. */
static bool
take_body(ApiWorker *worker)
{
	bool aborted = false;

	initStringInfo(&worker->body);
	if (worker->call.body_length > BODY_FIRST_ALLOC)
		enlargeStringInfo(&worker->body,
						  (int) Min(worker->call.body_length, BODY_ALLOC_MAX) + VARHDRSZ);
	appendStringInfoSpaces(&worker->body, VARHDRSZ);
	while (!worker->body_whole)
		next_body_message(worker, &worker->body, &aborted);
	return !aborted;
}

/* After an error while gathering: the rest of the body must not be taken for the next request. */
static void
skip_body(ApiWorker *worker)
{
	bool aborted;

	while (!worker->body_whole)
		next_body_message(worker, NULL, &aborted);
}

/* Fills the head in memory that outlives the transaction. */
static void
answer_head(ApiWorker *worker, Answer *answer, int success, const char *type)
{
	MemoryContext old = MemoryContextSwitchTo(worker->request);

	a67_answer_head(&answer->head, success, type);
	MemoryContextSwitchTo(old);
}

/* ---- running it -------------------------------------------------------------------------------- */

static void
start_timer(const A67Call *call)
{
	enable_timeout_after(STATEMENT_TIMEOUT, Max(call->timeout_ms, 1));
}

static void
stop_timer(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
}

static void
check_spi(int code, int wanted)
{
	if (code != wanted)
		elog(ERROR, "call of an API function failed: %s", SPI_result_code_string(code));
}

/* One value: fills the answer, whose body goes to the request's memory. */
static void
run_value(ApiWorker *worker, A67Target *target, Answer *answer)
{
	bool is_void = target->returns == A67_RETURNS_VOID;
	int success = worker->call.status;
	bool isnull = true;
	Datum value = (Datum) 0;

	check_spi(SPI_execute_plan(target->plan, target->values, NULL, false, 0), SPI_OK_SELECT);
	if (success == 0)
		success = is_void ? 204 : 200;
	answer_head(worker, answer, success, is_void ? NULL : A67_TYPE_JSON);
	answer->body.data = MemoryContextStrdup(worker->request, "null");
	answer->body.len = is_void ? 0 : strlen(answer->body.data);
	if (!is_void && SPI_processed > 0)
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		text *json = DatumGetTextPP(value);
		char *utf8 = pg_server_to_client(VARDATA_ANY(json), (int) VARSIZE_ANY_EXHDR(json));

		answer->body.len = utf8 == VARDATA_ANY(json) ? VARSIZE_ANY_EXHDR(json) : strlen(utf8);
		answer->body.data = MemoryContextAlloc(worker->request, answer->body.len + 1);
		memcpy(answer->body.data, utf8, answer->body.len);
	}
}

/* Sends one row's octets; the client's pace must not count as the function's time. */
static void
send_row(ApiWorker *worker)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

	if (!isnull)
	{
		bytea *octets = DatumGetByteaPP(value);

		a67_answer_piece(&worker->exchange, VARDATA_ANY(octets), VARSIZE_ANY_EXHDR(octets), true);
	}
}

/*
 * Octets: sent row by row, so that memory is bounded by one row. The first row is made before the head
 * goes out: a function that refuses does so with a proper status.
 */
static void
run_octets(ApiWorker *worker, A67Target *target, Answer *answer)
{
	Portal portal = SPI_cursor_open(NULL, target->plan, target->values, NULL, false);
	int success = worker->call.status != 0 ? worker->call.status : 200;

	for (;;)
	{
		start_timer(&worker->call);
		SPI_cursor_fetch(portal, true, 1);
		stop_timer();
		if (!worker->head_sent)
		{
			answer_head(worker, answer, success, A67_TYPE_OCTETS);
			a67_answer_begin(&worker->exchange, &answer->head);
			worker->head_sent = true;
		}
		if (SPI_processed == 0 || worker->head_only)
			break;
		send_row(worker);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	answer->streamed = true;
}

/* What is safe by the rules of HTTP changes no data, whatever its function would like. */
static bool
reads_only(const A67Call *call)
{
	return strcmp(call->method, "GET") == 0 || strcmp(call->method, "HEAD") == 0;
}

static void
run_call(ApiWorker *worker, Answer *answer)
{
	A67Target target;

	RESUME_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING,
						   psprintf("%s %s", worker->call.method, worker->call.path));
	start_timer(&worker->call);
	StartTransactionCommand();
	if (reads_only(&worker->call))
		XactReadOnly = true;
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	a67_session_enter(&worker->call);
	a67_call_resolve(&worker->call, &worker->body, &target);
	if (target.returns == A67_RETURNS_OCTETS)
		run_octets(worker, &target, answer);
	else
		run_value(worker, &target, answer);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	stop_timer();
	HOLD_CANCEL_INTERRUPTS();
}

/*
 * Errors of callers are theirs to read; a stream that is cancelled has lost its client. Wrong SQL is wrong in a function, unless it
 * is a caller's: then it is marked as nothing for the log.
 */
static bool
is_worth_a_log(const ApiWorker *worker, const ErrorData *error)
{
	int status = a67_status_of_sqlstate(unpack_sql_state(error->sqlerrcode), false);
	int class = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	if (worker->head_sent)
		return error->sqlerrcode != ERRCODE_QUERY_CANCELED;
	return status >= 500 ||
		   (status == 400 &&
			(class == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
			 class == ERRCODE_FEATURE_NOT_SUPPORTED || class == ERRCODE_CARDINALITY_VIOLATION));
}

/* Inside PG_CATCH: turns the error into an answer and the session back to working order. */
static void
recover(ApiWorker *worker, Answer *answer)
{
	ErrorData *error;
	MemoryContext old;

	HOLD_INTERRUPTS();
	HOLD_CANCEL_INTERRUPTS(); /* the error has zeroed the count */
	disable_all_timeouts(false);
	QueryCancelPending = false;
	old = MemoryContextSwitchTo(worker->request);
	error = CopyErrorData();
	MemoryContextSwitchTo(old);
	if (is_worth_a_log(worker, error))
		EmitErrorReport();
	AbortCurrentTransaction();
	PortalErrorCleanup();
	FlushErrorState();
	RESUME_INTERRUPTS();

	MemoryContextSwitchTo(worker->request);
	skip_body(worker);
	memset(answer, 0, sizeof(*answer));
	answer->body.data = a67_answer_error(&answer->head, error, worker->call.anonymous);
	answer->body.len = strlen(answer->body.data);
	worker->denied = error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
					 error->sqlerrcode == A67_ERRCODE_UNAUTHORIZED;
}

static void
describe_call(void *arg)
{
	const A67Call *call = arg;

	errcontext("request %s: %s %s", call->request_id, call->method, call->path);
}

/* Runs the call and says whether the client is still there to hear the answer. */
static bool
perform(ApiWorker *worker, Answer *answer)
{
	ErrorContextCallback context = {.previous = error_context_stack,
									.callback = describe_call,
									.arg = &worker->call};
	volatile bool wanted = true;

	error_context_stack = &context;
	PG_TRY();
	{
		wanted = take_body(worker);
		if (wanted)
			run_call(worker, answer);
	}
	PG_CATCH();
	{
		recover(worker, answer);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	return wanted;
}

static void
serve(ApiWorker *worker, const void *message, Size len)
{
	Answer answer = {0};
	bool wanted;

	MemoryContextSwitchTo(worker->request);
	if (!a67_wire_get_call(message, len, &worker->call))
		elog(FATAL, "malformed message from the listener");
	keep_call(&worker->call);
	worker->body_whole = !worker->call.has_body;
	worker->head_sent = false;
	worker->head_only = strcmp(worker->call.method, "HEAD") == 0;
	worker->denied = worker->call.note;
	/* A cancel meant for the call before has been delivered by now. */
	QueryCancelPending = false;

	wanted = !worker->call.note && perform(worker, &answer);
	if (worker->denied)
		a67_session_record_refusal(&worker->call);
	if (!wanted || answer.streamed)
		a67_exchange_send(&worker->exchange, A67_FRAME_END, NULL, 0, true);
	else if (worker->head_sent)
		a67_exchange_send(&worker->exchange, A67_FRAME_BROKEN, NULL, 0, true);
	else
	{
		a67_answer_compress(&answer.head, &answer.body, worker->call.gzip);
		a67_answer_send(&worker->exchange, &answer.head, &answer.body, worker->head_only);
	}
	QueryCancelPending = false;
	a67_session_reset();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(worker->request);
}

void
a67_api_worker_main(Datum arg)
{
	static ApiWorker worker;
	const void *message;
	Size len;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	a67_secret_process();
	if (!a67_exchange_open(&worker.exchange, DatumGetUInt32(arg)))
		proc_exit(0);
	BackgroundWorkerInitializeConnection(a67_database, A67_SESSION_ROLE, 0);
	worker.request = AllocSetContextCreate(TopMemoryContext, "request", ALLOCSET_DEFAULT_SIZES);
	HOLD_CANCEL_INTERRUPTS();
	a67_session_prepare();
	a67_exchange_send(&worker.exchange, A67_FRAME_READY, NULL, 0, true);
	for (;;)
	{
		A67Frame frame = a67_exchange_receive(&worker.exchange, &message, &len);

		if (frame == A67_FRAME_CALL)
			serve(&worker, message, len);
		else if (frame != A67_FRAME_ABORT)
			elog(FATAL, "message of type %d between requests", (int) frame);
	}
}
