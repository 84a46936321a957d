/*
 * shard_copy.c - COPY to shards; see shard.h.
 *
 * A COPY has its link to itself until it ends, and is always part of a remote transaction. What is put is
 * gathered in chunks; of what a shard does not take at once, QUEUE_BYTES wait in libpq's memory, more make the caller wait,
 * and while it waits all shards are served. A shard that reports an error in the middle is noticed at the next
 * chunk, through a look at the socket, as libpq itself would not read it before the end.
 */
#include "postgres.h"

#include "net/shard_part.h"

#include <sys/socket.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/pace.h"
#include "net/shard_connect.h"
#include "net/shard_error.h"
#include "net/shard_session.h"
#include "net/shard_wait.h"
#include "platform/clock.h"
#include "platform/settings.h"

#define CHUNK_BYTES (64 * 1024)
#define QUEUE_BYTES (1024 * 1024)

struct A67CopyIn
{
	MemoryContextCallback callback;
	A67Link *link;
	bool begun; /* the shard has agreed */
	char *chunk;
	size_t used;
	size_t queued;			/* bytes that libpq had when a flush last left some; 0: all was sent */
	struct A67CopyIn *next; /* of those that are open in this process */
};

static A67CopyIn *open_copies;

static void
in_the_way(void *user)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot run a statement on a shard while COPY uses its connection")));
}

/* The connection is of no use any more: it broke, or libpq has no memory to go on. */
static void
lose(A67Link *link)
{
	if (PQstatus(link->conn) == CONNECTION_OK)
	{
		link->lost = link->depth > 0;
		a67_link_close(link);
		a67_shard_raise_memory(NameStr(link->name));
	}
	a67_link_lose(link, ERRCODE_CONNECTION_FAILURE);
	a67_shard_raise_lost(NameStr(link->name), false);
}

static A67Link *
take_link(const A67ShardTarget *target, void *user)
{
	A67Link *link = a67_link(target, 0);

	a67_transaction_check(link);
	a67_link_clear(link);
	a67_transaction_check(link);
	if (!a67_link_take(link) || !a67_link_is_alive(link))
	{
		A67Want want = {.target = target};

		if (link->depth > 0)
			lose(link);
		a67_link_close(link);
		a67_link_connect(&want, 1);
		if (want.link == NULL)
			a67_link_connect_error(&want);
	}
	link->user = user;
	link->drain = in_the_way;
	return link;
}

/* Waits until the links can go on: sends, reads. Throws at the deadline. */
static void
serve(A67Wait *waits, int count, int64 deadline_ms)
{
	if (!a67_link_wait(waits, count, deadline_ms, true) &&
		a67_deadline_expired(deadline_ms, a67_now_ms()))
	{
		NameData name = waits[0].link->name;

		a67_link_lose(waits[0].link, ERRCODE_QUERY_CANCELED);
		a67_shard_raise_timeout(NameStr(name));
	}
	for (int i = 0; i < count; i++)
		if (waits[i].ready && PQconsumeInput(waits[i].link->conn) != 1)
			lose(waits[i].link);
}

static void
serve_one(A67Link *link, int64 deadline_ms)
{
	int flushed = PQflush(link->conn);
	A67Wait wait = {.link = link, .write = flushed > 0};

	if (flushed < 0)
		lose(link);
	serve(&wait, 1, deadline_ms);
}

/* The next result, waited for. */
static PGresult *
await_result(A67Link *link, int64 deadline_ms)
{
	PGresult *result;

	while (PQisBusy(link->conn))
		serve_one(link, deadline_ms);
	result = PQgetResult(link->conn);
	if (PQstatus(link->conn) != CONNECTION_OK)
	{
		PQclear(result);
		lose(link);
	}
	return result;
}

/*
 * Sends COPY, and ahead of it what the session and transaction lack, as one simple query: libpq allows no pipeline with COPY.
 * There is no time-out on the shard, as only silence counts.
 */
static void
send_copy(A67Link *link, const char *schema, const char *sql)
{
	int depth = link->depth;
	List *before = a67_transaction_setup(link, A67_EFFECT_WRITE, false, NIL);
	const char *settings = a67_session_setup(link, schema, 0);
	StringInfoData all;
	ListCell *cell;

	if (settings != NULL)
		before = list_insert_nth(before, depth == 0 && link->depth > 0 ? 1 : 0,
								 unconstify(char *, settings));
	link->equal_inside |= settings != NULL;
	initStringInfo(&all);
	foreach(cell, before)
		appendStringInfo(&all, "%s; ", (char *) lfirst(cell));
	appendStringInfoString(&all, sql);
	link->dirty = true;
	if (PQsendQuery(link->conn, all.data) != 1 || PQflush(link->conn) < 0)
		lose(link);
	pfree(all.data);
}

/* Waits for the shard to agree to COPY. */
static void
await_copy(A67Link *link)
{
	int64 deadline_ms = a67_now_ms() + a67_shard_timeout;
	PGresult *result;

	while ((result = await_result(link, deadline_ms)) != NULL)
	{
		ExecStatusType status = PQresultStatus(result);

		if (status == PGRES_FATAL_ERROR)
			a67_shard_raise(NameStr(link->name), result);
		PQclear(result);
		if (status == PGRES_COPY_IN)
		{
			a67_link_count(link);
			return;
		}
	}
	elog(ERROR, "shard \"%s\" did not begin COPY", NameStr(link->name));
}

static void
forget_copy_in(void *arg)
{
	A67CopyIn *copy = arg;
	A67CopyIn **place = &open_copies;

	while (*place != NULL && *place != copy)
		place = &(*place)->next;
	if (*place != NULL)
		*place = copy->next;
	if (copy->link != NULL && copy->link->user == copy)
		copy->link->user = NULL;
	copy->link = NULL;
}

A67CopyIn *
a67_copy_in_start(const A67ShardTarget *target, const char *sql)
{
	A67CopyIn *copy = palloc0(sizeof(*copy));

	copy->chunk = palloc(CHUNK_BYTES);
	copy->next = open_copies;
	open_copies = copy;
	copy->callback = (MemoryContextCallback){.func = forget_copy_in, .arg = copy};
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &copy->callback);
	copy->link = take_link(target, copy);
	send_copy(copy->link, target->schema, sql);
	return copy;
}

static void
flush(A67CopyIn *copy)
{
	int flushed = PQflush(copy->link->conn);

	if (flushed < 0)
		lose(copy->link);
	if (flushed == 0)
		copy->queued = 0;
}

/* Waits until less than the maximum is queued for this one; the others are served too. */
static void
wait_for_room(A67CopyIn *copy)
{
	int64 deadline_ms = a67_now_ms() + a67_shard_timeout;

	while (copy->queued >= QUEUE_BYTES)
	{
		A67Wait waits[A67_SHARDS_MAX];
		int count = 1;

		waits[0] = (A67Wait){.link = copy->link, .write = true};
		for (A67CopyIn *other = open_copies; other != NULL && count < A67_SHARDS_MAX;
			 other = other->next)
			if (other != copy && other->link != NULL && other->queued > 0)
				waits[count++] = (A67Wait){.link = other->link, .write = true};
		serve(waits, count, deadline_ms);
		for (A67CopyIn *other = open_copies; other != NULL; other = other->next)
			if (other->link != NULL && other->queued > 0)
				flush(other);
	}
}

/* Ends the COPY; its result, an error included, in *rows. */
static void
collect_result(A67CopyIn *copy, int64 *rows)
{
	A67Link *link = copy->link;
	int64 deadline_ms = a67_now_ms() + a67_shard_timeout;
	PGresult *error = NULL;
	PGresult *result;

	while ((result = await_result(link, deadline_ms)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_FATAL_ERROR && error == NULL)
		{
			error = result;
			continue;
		}
		*rows += strtoll(PQcmdTuples(result), NULL, 10);
		PQclear(result);
	}
	link->dirty = false;
	link->user = NULL;
	copy->link = NULL;
	if (error != NULL)
		a67_shard_raise(NameStr(link->name), error);
}

/* Whether the shard has begun to report an error. Under TLS that shows at the end only. */
static bool
has_failed(const A67Link *link)
{
	char type;

	return !PQsslInUse(link->conn) && recv(link->socket, &type, 1, MSG_PEEK | MSG_DONTWAIT) == 1 &&
		   type == 'E';
}

static void
send_chunk(A67CopyIn *copy)
{
	A67Link *link = copy->link;
	int64 ignored = 0;

	if (!copy->begun)
		await_copy(link);
	copy->begun = true;
	if (copy->used == 0)
		return;
	if (has_failed(link))
	{
		if (PQputCopyEnd(link->conn, NULL) != 1)
			lose(link);
		collect_result(copy, &ignored);
		elog(ERROR, "shard \"%s\" ended COPY too early", NameStr(link->name));
	}
	if (PQputCopyData(link->conn, copy->chunk, (int) copy->used) != 1)
		lose(link);
	copy->queued += copy->used;
	copy->used = 0;
	flush(copy);
	if (copy->queued >= QUEUE_BYTES)
		wait_for_room(copy);
	CHECK_FOR_INTERRUPTS();
}

void
a67_copy_in_put(A67CopyIn *copy, const char *data, size_t len)
{
	while (len > 0)
	{
		size_t part = Min(len, CHUNK_BYTES - copy->used);

		memcpy(copy->chunk + copy->used, data, part);
		copy->used += part;
		data += part;
		len -= part;
		if (copy->used == CHUNK_BYTES)
			send_chunk(copy);
	}
}

int64
a67_copy_in_finish(A67CopyIn **copies, int count)
{
	int64 rows = 0;

	for (int i = 0; i < count; i++)
	{
		send_chunk(copies[i]);
		if (PQputCopyEnd(copies[i]->link->conn, NULL) != 1)
			lose(copies[i]->link);
		flush(copies[i]);
	}
	for (int i = 0; i < count; i++)
		collect_result(copies[i], &rows);
	return rows;
}
