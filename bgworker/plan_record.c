/*
 * plan_record.c - moves work from SQL to HTTP and answers back; see plan_record.h for the contract.
 *
 * Owns the requests in flight and the results not yet recorded; both outlive ticks, transactions and errors,
 * and are lost with the process, which is harmless: plans start from rows. No network I/O happens while a
 * transaction is open. Memory: fetch.c's malloc for requests and results; the two prepared statements live
 * as long as the process; all else is in scratch. File descriptors are reserved with the server.
 */
#include "postgres.h"

#include "plan_record.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/pace.h"
#include "net/fetch.h"
#include "platform/clock.h"
#include "platform/settings.h"

/* Descriptors for open and idle connections, the epoll descriptor and curl's own pair. */
#define EXTRA_DESCRIPTORS 4

typedef struct PlanRecord
{
	A67Fetch *fetch;
	char *plan_sql;
	char *record_sql;
	SPIPlanPtr plan;
	SPIPlanPtr record;
	A67FetchResult *results[A67_RECORD_MAX]; /* taken from fetch, not yet recorded */
	int result_count;
	int64 oldest_ms; /* when the first of them came */
	int attempts;	 /* failed ones for this batch */
	int descriptors; /* reserved with the server */
	int concurrency; /* what that is enough for */
	bool lagging;	 /* rows were dropped from the queue: said once */
} PlanRecord;

/* Reserves descriptors for as many connections as configured, or as the server can spare. */
static int
reserve_descriptors(PlanRecord *state)
{
	int wanted = 2 * a67_push_concurrency + EXTRA_DESCRIPTORS;

	while (state->descriptors < wanted && AcquireExternalFD())
		state->descriptors++;
	while (state->descriptors > wanted)
	{
		ReleaseExternalFD();
		state->descriptors--;
	}
	return Max((state->descriptors - EXTRA_DESCRIPTORS) / 2, 1);
}

static void
follow_settings(const A67Worker *worker, PlanRecord *state)
{
	if (worker->def->guarded)
	{
		a67_fetch_set_guard(state->fetch, !a67_outbound_private);
		if (!a67_fetch_set_ca_file(state->fetch, a67_outbound_ca_file))
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	if (state->concurrency == a67_push_concurrency)
		return;
	state->concurrency = a67_push_concurrency;
	a67_fetch_set_concurrency(state->fetch, reserve_descriptors(state));
}

void *
a67_plan_record_start(A67Worker *worker)
{
	PlanRecord *state = MemoryContextAllocZero(worker->life, sizeof(PlanRecord));
	const char *name = worker->def->name;
	MemoryContext context = MemoryContextSwitchTo(worker->life);

	state->plan_sql = psprintf("SELECT key, method, url, token, body, timeout_ms, headers, pin "
							   "FROM a67_internal._%s_plan($1)",
							   name);
	state->record_sql =
		psprintf("SELECT a67_internal._%s_record($1, $2, $3, $4, $5)::integer", name);
	MemoryContextSwitchTo(context);
	state->fetch = a67_fetch_create(1, a67_now_ms());
	if (state->fetch == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not initialize HTTP client")));
	follow_settings(worker, state);
	worker->fd = a67_fetch_fd(state->fetch);
	return state;
}

void
a67_plan_record_stop(A67Worker *worker, void *opaque)
{
	PlanRecord *state = opaque;

	worker->fd = -1;
	for (int i = 0; i < state->result_count; i++)
		a67_fetch_release(state->fetch, state->results[i]);
	state->result_count = 0;
	a67_fetch_free(state->fetch);
	state->fetch = NULL;
}

/* A statement of this worker, prepared once; SPI must be connected. */
static SPIPlanPtr
prepared(SPIPlanPtr *plan, const char *sql, int count, Oid *types)
{
	if (*plan != NULL)
		return *plan;
	*plan = SPI_prepare(sql, count, types);
	if (*plan == NULL || SPI_keepplan(*plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql);
	return *plan;
}

/* ---- plan ---- */

static char *
column(const SPITupleTable *rows, uint64 row, int number)
{
	return SPI_getvalue(rows->vals[row], rows->tupdesc, number);
}

/* The seventh column: an array of texts; a null among them is a header that nothing can be sent with. */
static void
copy_fields(const SPITupleTable *rows, uint64 row, A67FetchRequest *request)
{
	bool null;
	Datum array = SPI_getbinval(rows->vals[row], rows->tupdesc, 7, &null);
	const char **fields;
	Datum *values;
	bool *nulls;

	request->fields = NULL;
	request->field_count = 0;
	if (null)
		return;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &request->field_count);
	fields = palloc(sizeof(char *) * (request->field_count + 1));
	for (int i = 0; i < request->field_count; i++)
		fields[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	request->fields = fields;
}

/* The planned rows, copied into the current context. */
static A67FetchRequest *
copy_rows(const SPITupleTable *rows, uint64 count)
{
	A67FetchRequest *requests = palloc(sizeof(A67FetchRequest) * (count + 1));

	for (uint64 row = 0; row < count; row++)
	{
		A67FetchRequest *request = &requests[row];
		bool null;

		request->key = column(rows, row, 1);
		request->method = column(rows, row, 2);
		request->url = column(rows, row, 3);
		request->token = column(rows, row, 4);
		request->body = column(rows, row, 5);
		request->timeout_ms =
			DatumGetInt32(SPI_getbinval(rows->vals[row], rows->tupdesc, 6, &null));
		if (null)
			request->timeout_ms = a67_push_timeout;
		copy_fields(rows, row, request);
		request->pin = column(rows, row, 8);
	}
	return requests;
}

/* Asks SQL for work, in a transaction of its own; the rows are in scratch. */
static A67FetchRequest *
plan(A67Worker *worker, PlanRecord *state, uint64 *count)
{
	Oid types[1] = {TIMESTAMPTZOID};
	Datum now[1] = {TimestampTzGetDatum(GetCurrentTimestamp())};
	A67FetchRequest *requests;
	MemoryContext spi;

	a67_worker_begin(worker, state->plan_sql);
	if (SPI_execute_plan(prepared(&state->plan, state->plan_sql, lengthof(types), types), now, NULL,
						 false, A67_FETCH_QUEUE_MAX) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" is not a query", state->plan_sql);
	*count = SPI_processed;
	spi = MemoryContextSwitchTo(worker->scratch);
	requests = copy_rows(SPI_tuptable, *count);
	MemoryContextSwitchTo(spi);
	a67_worker_commit(worker);
	return requests;
}

/* Queues the planned rows, as many as there is room for; one without a key is no work at all. */
static void
submit(PlanRecord *state, const A67FetchRequest *requests, uint64 count)
{
	int64 now = a67_now_ms();

	for (uint64 i = 0; i < count; i++)
	{
		if (a67_fetch_submit(state->fetch, &requests[i], now) == A67_FETCH_FULL)
			return;
	}
}

/* Drops what has waited too long to be sent; says so once per spell. */
static void
drop_stale(A67Worker *worker, PlanRecord *state)
{
	size_t dropped = a67_fetch_expire(state->fetch, A67_PLAN_WAIT_MS, a67_now_ms());

	if (dropped > 0 && !state->lagging)
		ereport(LOG, (errmsg("worker \"%s\" cannot keep up: dropped %zu planned requests",
							 worker->def->name, dropped),
					  errhint("Increase a67.push_concurrency.")));
	if (dropped > 0)
		state->lagging = true;
	else if (a67_fetch_waiting(state->fetch) == 0)
		state->lagging = false;
}

/* ---- record ---- */

/* An answer's bytes as text of the database: what is not valid there becomes "?". */
static Datum
body_text(const A67FetchResult *result)
{
	char *text = palloc(result->body_len + 1);
	size_t in = 0;
	size_t out = 0;

	while (in < result->body_len)
	{
		size_t left = result->body_len - in;
		int len = pg_encoding_mblen(PG_UTF8, result->body + in);

		if ((size_t) len > left || result->body[in] == '\0' ||
			!pg_verify_mbstr(PG_UTF8, result->body + in, len, true))
		{
			text[out++] = '?';
			in++;
			continue;
		}
		memcpy(text + out, result->body + in, len);
		out += len;
		in += len;
	}
	text[out] = '\0';
	return CStringGetTextDatum(pg_any_to_server(text, (int) out, PG_UTF8));
}

typedef struct RecordArrays
{
	Datum keys[A67_RECORD_MAX];
	Datum statuses[A67_RECORD_MAX];
	Datum bodies[A67_RECORD_MAX];
	Datum errors[A67_RECORD_MAX];
	bool body_nulls[A67_RECORD_MAX];
	bool error_nulls[A67_RECORD_MAX];
} RecordArrays;

static void
fill_arrays(RecordArrays *arrays, const PlanRecord *state)
{
	for (int i = 0; i < state->result_count; i++)
	{
		const A67FetchResult *result = state->results[i];

		arrays->keys[i] = CStringGetTextDatum(result->key);
		arrays->statuses[i] = Int32GetDatum(result->status);
		arrays->body_nulls[i] = result->body == NULL;
		arrays->bodies[i] = result->body == NULL ? (Datum) 0 : body_text(result);
		arrays->error_nulls[i] = result->error == NULL;
		arrays->errors[i] = result->error == NULL ? (Datum) 0 : CStringGetTextDatum(result->error);
	}
}

static Datum
text_array(Datum *values, bool *nulls, int count)
{
	int bound = 1;

	return PointerGetDatum(
		construct_md_array(values, nulls, 1, &count, &bound, TEXTOID, -1, false, TYPALIGN_INT));
}

static int32
call_record(A67Worker *worker, PlanRecord *state)
{
	static Oid types[5] = {TIMESTAMPTZOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	RecordArrays *arrays = palloc(sizeof(RecordArrays));
	Datum values[5];
	int count = state->result_count;
	int32 more = 0;
	bool null;

	fill_arrays(arrays, state);
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = text_array(arrays->keys, NULL, count);
	values[2] = PointerGetDatum(
		construct_array(arrays->statuses, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[3] = text_array(arrays->bodies, arrays->body_nulls, count);
	values[4] = text_array(arrays->errors, arrays->error_nulls, count);
	a67_worker_begin(worker, state->record_sql);
	if (SPI_execute_plan(prepared(&state->record, state->record_sql, lengthof(types), types),
						 values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" is not a query", state->record_sql);
	if (SPI_processed == 1)
	{
		more = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
		if (null)
			more = 0;
	}
	a67_worker_commit(worker);
	return more;
}

static void
release_results(PlanRecord *state)
{
	for (int i = 0; i < state->result_count; i++)
		a67_fetch_release(state->fetch, state->results[i]);
	state->result_count = 0;
	state->attempts = 0;
}

/*
 * Records the batch. If that throws, the results stay for the next attempt, and are dropped after too many:
 * the next plan finds out again what they said.
 */
static void
record(A67Worker *worker, PlanRecord *state)
{
	if (state->result_count == 0)
		return;
	if (state->attempts == A67_RECORD_ATTEMPTS)
	{
		ereport(WARNING, (errmsg("worker \"%s\" drops %d results that cannot be recorded",
								 worker->def->name, state->result_count)));
		release_results(state);
		return;
	}
	state->attempts++;
	if (call_record(worker, state) > 0)
		worker->again = true;
	release_results(state);
}

/* Takes finished results into the batch; returns whether the batch is full. */
static bool
collect(PlanRecord *state)
{
	while (state->result_count < A67_RECORD_MAX)
	{
		A67FetchResult *result = a67_fetch_take(state->fetch);

		if (result == NULL)
			return false;
		if (state->result_count == 0)
			state->oldest_ms = a67_now_ms();
		state->results[state->result_count++] = result;
	}
	return true;
}

/* Everything finished by now: full batches at once, the rest when nothing else is open or it has waited. */
static void
record_due(A67Worker *worker, PlanRecord *state)
{
	while (collect(state))
		record(worker, state);
	if (state->result_count == 0)
		return;
	if (a67_fetch_open(state->fetch) == 0 || a67_now_ms() - state->oldest_ms >= A67_RECORD_DELAY_MS)
		record(worker, state);
}

/* ---- the definition's functions ---- */

void
a67_plan_record_ready(A67Worker *worker, void *opaque)
{
	PlanRecord *state = opaque;

	a67_fetch_run(state->fetch, a67_now_ms());
	record_due(worker, state);
}

void
a67_plan_record_tick(A67Worker *worker, void *opaque)
{
	PlanRecord *state = opaque;
	A67FetchRequest *requests;
	uint64 count;

	follow_settings(worker, state);
	drop_stale(worker, state);
	requests = plan(worker, state, &count);
	submit(state, requests, count);
	a67_plan_record_ready(worker, opaque);
}

int64
a67_plan_record_deadline_ms(A67Worker *worker, void *opaque)
{
	PlanRecord *state = opaque;
	int64 deadline = a67_fetch_deadline_ms(state->fetch);

	if (state->result_count > 0)
		deadline = a67_deadline_min(deadline, state->oldest_ms + A67_RECORD_DELAY_MS);
	return deadline;
}
