/*
 * shard_part.c - one statement on one shard; see shard_part.h.
 *
 * When nothing has to go ahead of the statement it is sent plainly; that is the path of a prepared point query: one send,
 * one wait, one receive. Otherwise libpq's pipeline mode carries settings, BEGIN, SAVEPOINT and PREPARE ahead of it: the first
 * that fails makes the shard skip the rest, and the statement with it.
 */
#include "postgres.h"

#include "net/shard_part.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "net/shard_connect.h"
#include "net/shard_error.h"
#include "net/shard_session.h"
#include "platform/clock.h"
#include "platform/settings.h"

#define TRIES 3

/* libpq found no memory. What it had is gone, and the connection with it; the shard is not to blame. */
static void
starve(A67Part *part)
{
	A67Link *link = part->link;

	if (link->depth > 0)
		link->lost = true;
	a67_link_close(link);
	part->state = A67_PART_DONE;
	a67_shard_raise_memory(NameStr(link->name));
}

/* ---- sending ---- */

static bool
send_plain(A67Part *part)
{
	const A67Statement *s = part->statement;
	PGconn *conn = part->link->conn;

	if (part->prepared != NULL)
		return PQsendQueryPrepared(conn, a67_prepared_name(part->prepared), s->param_count,
								   s->param_values, s->param_lengths, s->param_formats,
								   s->binary_result) == 1;
	return PQsendQueryParams(conn, s->sql, s->param_count, s->param_types, s->param_values,
							 s->param_lengths, s->param_formats, s->binary_result) == 1;
}

static bool
send_pipeline(A67Part *part, List *before)
{
	const A67Statement *s = part->statement;
	PGconn *conn = part->link->conn;
	ListCell *cell;
	bool ok = PQenterPipelineMode(conn) == 1;

	foreach(cell, before)
		ok = ok && PQsendQueryParams(conn, lfirst(cell), 0, NULL, NULL, NULL, NULL, 0) == 1;
	if (part->preparing)
		ok = ok && PQsendPrepare(conn, a67_prepared_name(part->prepared), s->sql, s->param_count,
								 s->param_types) == 1;
	part->pipeline = true;
	part->before = list_length(before) + part->preparing;
	return ok && send_plain(part) && PQpipelineSync(conn) == 1;
}

/* What has to be sent ahead; the link's state counts it as done from now on. */
static List *
collect_before(A67Part *part)
{
	A67Link *link = part->link;
	int depth = link->depth;
	List *before = a67_transaction_setup(link, part->statement->effect, part->alone, NIL);
	const char *settings;
	ListCell *cell;

	part->own = depth == 0 && link->depth > 0;
	part->inside = link->depth > 0;
	settings = a67_session_setup(link, part->target->schema, a67_shard_timeout);
	if (settings != NULL)
	{
		/* After BEGIN, which must be first; before any SAVEPOINT, so that they last as long as the transaction. */
		before = list_insert_nth(before, part->own ? 1 : 0, unconstify(char *, settings));
		link->equal_inside = part->inside;
	}
	foreach(cell, link->leftover)
		before = lappend(before, psprintf("DEALLOCATE %s", (char *) lfirst(cell)));
	list_free_deep(link->leftover);
	link->leftover = NIL;
	return before;
}

static void
send(A67Part *part)
{
	A67Link *link = part->link;
	List *before;
	bool ok;

	part->state = A67_PART_RUNNING;
	part->deadline_ms = a67_now_ms() + a67_shard_timeout;
	part->pipeline = part->cancelled = part->late = false;
	part->before = 0;
	part->attempts++;
	part->use.replica = link->key.replica_id != 0;
	INSTR_TIME_SET_CURRENT(part->started);
	part->preparing = false;
	part->prepared =
		part->statement->prepare ? a67_prepared(link, part->statement, &part->preparing) : NULL;
	before = collect_before(part);
	link->dirty = true;
	if (before == NIL && !part->preparing)
		ok = send_plain(part) && PQsetSingleRowMode(link->conn) == 1;
	else
		ok = send_pipeline(part, before);
	/* When the connection is broken, reading finds that too, and says more. */
	if (!ok && PQstatus(link->conn) == CONNECTION_OK)
		starve(part);
	part->flushing = PQflush(link->conn) > 0;
}

/* ---- finding a connection ---- */

static void
keep_link(A67Part *part, A67Link *link)
{
	part->link = link;
	part->use.name = NameStr(link->name);
	link->user = part;
	link->drain = a67_fanout_drain;
}

/* The link that is connected already, unless it is better not to use it. */
static bool
take_connected(A67Part *part)
{
	A67Link *link = a67_link(part->target, 0);

	a67_transaction_check(link);
	if (link->user != NULL || link->dirty)
	{
		a67_link_clear(link);
		a67_transaction_check(link);
	}
	if (link->depth == 0 && link->endpoint != NULL && link->conn != NULL &&
		a67_endpoint_is_open(link->endpoint))
		return false;
	if (!a67_link_take(link))
		return false;
	/* A write that commits by itself cannot be repeated when it falls into a connection that was closed long ago. */
	if (part->alone && part->statement->effect != A67_EFFECT_READ && link->depth == 0 &&
		!a67_link_is_alive(link))
	{
		a67_link_close(link);
		return false;
	}
	keep_link(part, link);
	return true;
}

/* Reads outside of transactions may be answered by a replica, whose snapshot is another one. */
static bool
replica_ok(const A67Part *part)
{
	return part->statement != NULL && part->statement->effect == A67_EFFECT_READ &&
		   XactIsoLevel != XACT_SERIALIZABLE && (part->alone || !IsolationUsesXactSnapshot());
}

static void
miss(A67Part *part, A67Want *want)
{
	if (part->statement->effect != A67_EFFECT_READ || !a67_partial_leave_out(part->target->name))
		a67_link_connect_error(want);
	part->use.name = part->target->name;
	part->use.missing = true;
	part->state = A67_PART_DONE;
}

static void
connect(A67Part **parts, int count)
{
	A67Want *wants = palloc0(sizeof(A67Want) * count);

	for (int i = 0; i < count; i++)
		wants[i] = (A67Want){.target = parts[i]->target,
							 .replica_ok = replica_ok(parts[i]),
							 .attempts = parts[i]->attempts};
	a67_link_connect(wants, count);
	for (int i = 0; i < count; i++)
	{
		if (wants[i].link == NULL)
			continue;
		keep_link(parts[i], wants[i].link);
		if (wants[i].link->key.replica_id != 0)
			ereport(NOTICE, (errmsg("a replica answers for shard \"%s\"", parts[i]->target->name),
							 errdetail("It may lag behind.")));
	}
	for (int i = 0; i < count; i++)
		if (wants[i].link == NULL)
			miss(parts[i], &wants[i]);
	pfree(wants);
}

/* Whether an earlier part has the shard: this one is sent when that one is done. */
static bool
is_taken(const A67Part *parts, const A67Part *part)
{
	for (const A67Part *other = parts; other < part; other++)
		if (other->state != A67_PART_DONE && other->target->shard_id == part->target->shard_id)
			return true;
	return false;
}

void
a67_part_start(A67Part *parts, int count)
{
	A67Part *missing[A67_SHARDS_MAX];
	int missing_count = 0;

	for (int i = 0; i < count; i++)
	{
		A67Part *part = &parts[i];

		if (part->state == A67_PART_WAITING && missing_count < A67_SHARDS_MAX &&
			!is_taken(parts, part) && !take_connected(part))
			missing[missing_count++] = part;
	}
	if (missing_count > 0)
		connect(missing, missing_count);
	for (int i = 0; i < count; i++)
		if (parts[i].state == A67_PART_WAITING && parts[i].link != NULL)
			send(&parts[i]);
}

/* ---- reading ---- */

static void
rest(A67Part *part)
{
	A67Link *link = part->link;
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	part->use.elapsed = now;
	INSTR_TIME_SUBTRACT(part->use.elapsed, part->started);
	part->state = A67_PART_DONE;
	if (link->user == part)
		link->user = NULL;
}

/* Back to the start with another connection. */
static void
repeat(A67Part *part)
{
	a67_transaction_forget(part->link);
	a67_link_close(part->link);
	PQclear(part->error);
	part->error = NULL;
	part->link = NULL;
	part->prepared = NULL;
	part->state = A67_PART_WAITING;
	a67_part_start(part, 1);
}

/* The shard said that it ended our session, before it did anything lasting. */
static bool
was_shut_down(int sqlstate)
{
	return sqlstate == ERRCODE_ADMIN_SHUTDOWN || sqlstate == ERRCODE_CRASH_SHUTDOWN ||
		   sqlstate == ERRCODE_CANNOT_CONNECT_NOW || sqlstate == ERRCODE_IDLE_SESSION_TIMEOUT;
}

/* libpq had no room for a row, and then takes what follows it for garbage: the shard is not at fault. It has no code for this. */
static bool
ran_out_of_memory(const A67Link *link)
{
	return link->conn != NULL && strstr(PQerrorMessage(link->conn), "allocate memory") != NULL;
}

/* The connection is gone. Either the statement is sent again or this throws. */
static void
lost(A67Part *part)
{
	A67Link *link = part->link;
	int sqlstate = part->error != NULL ? a67_shard_sqlstate(part->error) : 0;
	bool read = part->statement->effect == A67_EFFECT_READ;
	bool harmless =
		!part->answered && (part->own || (!part->inside && (read || was_shut_down(sqlstate))));
	bool unknown = !read && !part->inside;

	rest(part);
	if (part->own)
		a67_transaction_forget(link);
	if (!unknown && ran_out_of_memory(link))
	{
		link->lost |= link->depth > 0;
		a67_link_close(link);
		a67_shard_raise_memory(NameStr(link->name));
	}
	a67_link_lose(link, sqlstate != 0 ? sqlstate : ERRCODE_CONNECTION_FAILURE);
	if (harmless && part->attempts < TRIES)
	{
		repeat(part);
		return;
	}
	PQclear(part->error);
	part->error = NULL;
	if (read && harmless && a67_partial_leave_out(NameStr(link->name)))
	{
		part->use.missing = true;
		return;
	}
	a67_shard_raise_lost(NameStr(link->name), unknown && !harmless);
}

/* The shard forgot a prepared statement, or may not use its plan any more. Nothing was done then. */
static bool
is_stale(const A67Part *part, int sqlstate)
{
	return part->prepared != NULL && !part->answered &&
		   (sqlstate == ERRCODE_UNDEFINED_PSTATEMENT || sqlstate == ERRCODE_FEATURE_NOT_SUPPORTED);
}

static void
raise_error(A67Part *part)
{
	A67Link *link = part->link;
	PGresult *error = part->error;
	int sqlstate = a67_shard_sqlstate(error);
	int64 elapsed_ms = (int64) INSTR_TIME_GET_MILLISEC(part->use.elapsed);

	part->error = NULL;
	if (sqlstate == ERRCODE_QUERY_CANCELED && part->cancelled && !part->late)
		CHECK_FOR_INTERRUPTS();
	if (sqlstate == ERRCODE_QUERY_CANCELED && (part->late || elapsed_ms >= a67_shard_timeout))
	{
		PQclear(error);
		if (part->statement->effect != A67_EFFECT_READ || part->answered ||
			!a67_partial_leave_out(NameStr(link->name)))
			a67_shard_raise_timeout(NameStr(link->name));
		part->use.missing = true;
		return;
	}
	a67_shard_raise(NameStr(link->name), error);
}

/* All answers were read; the connection is at rest. */
static void
finish(A67Part *part)
{
	A67Link *link = part->link;
	int sqlstate;

	rest(part);
	link->dirty = false;
	if (likely(part->error == NULL))
	{
		/* It was done before the wish to cancel it arrived: to say otherwise would be wrong. */
		if (unlikely(part->cancelled) && !part->inside)
			QueryCancelPending = false;
		a67_endpoint_succeeded(link->endpoint);
		a67_link_count(link);
		a67_link_release(link);
		return;
	}
	sqlstate = a67_shard_sqlstate(part->error);
	/* What was set in the same flush, outside of a transaction, was taken back with it. */
	if (part->pipeline && !part->inside)
		link->equal = false;
	if (part->unprepared)
		a67_prepared_forget(link, part->prepared);
	else if (is_stale(part, sqlstate))
	{
		a67_prepared_forget(link, part->prepared);
		part->prepared = NULL;
		if ((!part->inside || part->own) && part->attempts < TRIES)
		{
			repeat(part);
			return;
		}
	}
	a67_link_release(link);
	raise_error(part);
}

static void
count_row(A67ShardUse *use, const PGresult *result)
{
	int columns = PQnfields(result);

	use->rows++;
	for (int i = 0; i < columns; i++)
		use->bytes += PQgetlength(result, 0, i);
}

static void
count_affected(A67Part *part, PGresult *result)
{
	const char *text = PQcmdTuples(result);

	part->answered = true;
	if (text[0] != '\0')
		part->affected += strtoll(text, NULL, 10);
}

/* The NULL after the answers to one statement: the next one's are to come, or none. False when all is read. */
static bool
next_statement(A67Part *part)
{
	if (!part->pipeline)
		return false;
	if (part->before > 0 && --part->before == 0)
	{
		if (part->preparing && part->error == NULL)
			a67_prepared_done(part->prepared);
		PQsetSingleRowMode(part->link->conn);
	}
	return true;
}

/* Whether the result is to be handed out; else it is dealt with. */
static bool
take_result(A67Part *part, PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_SINGLE_TUPLE:
			/* libpq may still be in the mode of the statement before. */
			if (part->before > 0)
				break;
			if (!part->answered)
				a67_link_count(part->link);
			part->answered = true;
			count_row(&part->use, result);
			return true;
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
			if (part->before == 0)
				count_affected(part, result);
			break;
		case PGRES_PIPELINE_ABORTED:
		case PGRES_PIPELINE_SYNC:
		case PGRES_EMPTY_QUERY:
			break;
		default:
			/* Made up by libpq while the connection lives: it had no memory. */
			if (a67_shard_sqlstate(result) == 0 && PQstatus(part->link->conn) == CONNECTION_OK)
			{
				PQclear(result);
				starve(part);
			}
			if (part->error == NULL)
			{
				part->error = result;
				part->unprepared = part->preparing && part->before > 0;
				return false;
			}
			break;
	}
	PQclear(result);
	return false;
}

PGresult *
a67_part_read(A67Part *part)
{
	PGconn *conn = part->link->conn;
	bool end = false;
	bool silent = false; /* the last answer was that there is none */

	while (!end)
	{
		PGresult *result;

		/* A dead connection would stay busy for ever; PQgetResult tells what came before its end. */
		if (PQisBusy(conn) && PQstatus(conn) == CONNECTION_OK)
			return NULL;
		result = PQgetResult(conn);
		if (result == NULL)
		{
			end = !next_statement(part);
			/* Without memory for what the shard sends, libpq gives up in the middle and says no more. */
			if (silent)
				starve(part);
			silent = true;
		}
		else
		{
			silent = false;
			end = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
			if (take_result(part, result))
				return result;
		}
		end |= PQstatus(conn) != CONNECTION_OK;
	}
	/* From here on the part may have another connection. */
	if (PQstatus(conn) != CONNECTION_OK)
		lost(part);
	else
	{
		if (part->pipeline)
			PQexitPipelineMode(conn);
		finish(part);
	}
	return NULL;
}

void
a67_part_pump(A67Part *part)
{
	PGconn *conn = part->link->conn;

	if (part->flushing)
		part->flushing = PQflush(conn) > 0;
	if (PQconsumeInput(conn) != 1 && PQstatus(conn) == CONNECTION_OK)
		starve(part);
}

/* ---- interrupts and time ---- */

bool
a67_part_is_interruptible(const A67Part *part)
{
	/* A write that commits by itself: only the shard can say whether it was done. */
	return part->inside || part->statement->effect == A67_EFFECT_READ;
}

void
a67_part_interrupt(A67Part *part)
{
	if (part->cancelled)
		return;
	part->cancelled = true;
	a67_link_cancel(part->link, a67_now_ms() + A67_CANCEL_MS);
}

void
a67_part_time_out(A67Part *part, int64 until_ms)
{
	A67Link *link = part->link;
	bool unknown = !a67_part_is_interruptible(part);

	if (!part->late)
	{
		/* The shard should have noticed by itself. Now it has a last chance to tell what became of the statement. */
		part->late = true;
		part->deadline_ms = until_ms;
		part->cancelled = true;
		a67_link_cancel(link, until_ms);
		return;
	}
	rest(part);
	if (part->own)
		a67_transaction_forget(link);
	a67_link_lose(link, ERRCODE_QUERY_CANCELED);
	if (unknown)
		a67_shard_raise_lost(NameStr(link->name), true);
	if (part->statement->effect != A67_EFFECT_READ || part->answered ||
		!a67_partial_leave_out(NameStr(link->name)))
		a67_shard_raise_timeout(NameStr(link->name));
	part->use.missing = true;
}
