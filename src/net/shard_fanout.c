/*
 * shard_fanout.c - statements on many shards at once; see shard.h.
 *
 * A fan-out lives in a memory context of its own below the caller's. When that is reset, because of an error or an early
 * end, links that still carry answers for it are marked dirty, and cleared before their next use or at the end of the transaction.
 */
#include "postgres.h"

#include "net/shard_part.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/pace.h"
#include "net/shard_wait.h"
#include "platform/clock.h"
#include "platform/settings.h"

typedef struct Kept
{
	PGresult *result;
	int which;
} Kept;

struct A67Fanout
{
	MemoryContext context;
	MemoryContextCallback callback;
	void (*drain)(void *owner);
	void *owner;
	int count;
	int running;	   /* parts that are not DONE */
	int turn;		   /* part that is read next */
	PGresult *current; /* the one handed out last */
	List *kept;		   /* Kept, in order */
	A67Part *parts;
	A67ShardUse *use;
};

static List *partial; /* of char * in TopMemoryContext */

List *
a67_partial_shards(void)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, partial)
		names = lappend(names, pstrdup(lfirst(cell)));
	return names;
}

void
a67_partial_forget(void)
{
	list_free_deep(partial);
	partial = NIL;
	a67_link_count_anew();
}

bool
a67_partial_leave_out(const char *shard)
{
	MemoryContext old;
	ListCell *cell;

	if (!a67_allow_partial)
		return false;
	ereport(NOTICE, (errmsg("shard \"%s\" is unavailable and left out of the answer", shard)));
	foreach(cell, partial)
		if (strcmp(lfirst(cell), shard) == 0)
			return true;
	old = MemoryContextSwitchTo(TopMemoryContext);
	partial = lappend(partial, pstrdup(shard));
	MemoryContextSwitchTo(old);
	return true;
}

static void
at_reset(void *arg)
{
	A67Fanout *fanout = arg;
	ListCell *cell;

	PQclear(fanout->current);
	foreach(cell, fanout->kept)
		PQclear(((Kept *) lfirst(cell))->result);
	for (int i = 0; i < fanout->count; i++)
	{
		A67Part *part = &fanout->parts[i];

		PQclear(part->error);
		if (part->link == NULL || part->link->user != part)
			continue;
		part->link->user = NULL;
		/* It was taken, but nothing was sent. */
		if (!part->link->dirty)
			a67_link_release(part->link);
	}
}

A67Fanout *
a67_fanout_start(const A67Dispatch *dispatches, int count, void (*drain)(void *owner), void *owner)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "a67 fan-out", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	A67Fanout *fanout = palloc0(sizeof(*fanout));

	fanout->context = context;
	fanout->drain = drain;
	fanout->owner = owner;
	fanout->parts = palloc0(sizeof(A67Part) * count);
	fanout->use = palloc0(sizeof(A67ShardUse) * count);
	fanout->count = fanout->running = count;
	for (int i = 0; i < count; i++)
	{
		A67Part *part = &fanout->parts[i];

		part->target = dispatches[i].target;
		part->statement = dispatches[i].statement;
		part->fanout = fanout;
		part->alone =
			part->statement->alone && (count == 1 || part->statement->effect == A67_EFFECT_READ);
	}
	fanout->callback = (MemoryContextCallback){.func = at_reset, .arg = fanout};
	MemoryContextRegisterResetCallback(context, &fanout->callback);
	a67_part_start(fanout->parts, count);
	MemoryContextSwitchTo(old);
	return fanout;
}

static PGresult *
take_kept(A67Fanout *fanout, int *which)
{
	Kept *kept = linitial(fanout->kept);

	fanout->kept = list_delete_first(fanout->kept);
	fanout->current = kept->result;
	*which = kept->which;
	return kept->result;
}

/* What is there without waiting; NULL: nothing. Counts the parts that still run. */
static PGresult *
read_some(A67Fanout *fanout, int *which)
{
	int waiting = 0;
	int running = 0;

	for (int i = 0; i < fanout->count; i++)
	{
		int at = fanout->turn;
		A67Part *part = &fanout->parts[at];

		if (part->state == A67_PART_RUNNING)
		{
			PGresult *result = a67_part_read(part);

			if (result != NULL)
			{
				*which = at;
				return result;
			}
		}
		running += part->state != A67_PART_DONE;
		waiting += part->state == A67_PART_WAITING;
		fanout->turn = at + 1 < fanout->count ? at + 1 : 0;
	}
	fanout->running = running;
	/* One whose shard was busy with another statement of this fan-out can go now. */
	if (waiting > 0)
		a67_part_start(fanout->parts, fanout->count);
	return NULL;
}

static void
wait_for_some(A67Fanout *fanout)
{
	A67Wait waits[A67_SHARDS_MAX];
	A67Part *parts[A67_SHARDS_MAX];
	int64 deadline_ms = A67_NEVER;
	bool interruptible = true;
	int64 now_ms;
	int count = 0;

	for (int i = 0; i < fanout->count && count < A67_SHARDS_MAX; i++)
	{
		A67Part *part = &fanout->parts[i];

		if (part->state != A67_PART_RUNNING)
			continue;
		waits[count] = (A67Wait){.link = part->link, .write = part->flushing};
		parts[count++] = part;
		deadline_ms = Min(deadline_ms, part->deadline_ms);
		interruptible &= a67_part_is_interruptible(part);
	}
	if (!interruptible && QueryCancelPending && !ProcDiePending)
		a67_part_interrupt(parts[0]);
	if (a67_link_wait(waits, count, deadline_ms, interruptible || ProcDiePending))
	{
		for (int i = 0; i < count; i++)
			if (waits[i].ready)
				a67_part_pump(parts[i]);
		return;
	}
	now_ms = a67_now_ms();
	for (int i = 0; i < count; i++)
		if (a67_deadline_expired(parts[i]->deadline_ms, now_ms))
			a67_part_time_out(parts[i], now_ms + A67_CANCEL_MS);
}

static PGresult *
read_next(A67Fanout *fanout, int *which)
{
	for (;;)
	{
		PGresult *result = read_some(fanout, which);

		if (result != NULL || fanout->running == 0)
			return result;
		wait_for_some(fanout);
	}
}

PGresult *
a67_fanout_next(A67Fanout *fanout, int *which)
{
	MemoryContext old;

	PQclear(fanout->current);
	fanout->current = NULL;
	if (fanout->kept != NIL)
		return take_kept(fanout, which);
	if (fanout->running == 0)
		return NULL;
	old = MemoryContextSwitchTo(fanout->context);
	fanout->current = read_next(fanout, which);
	MemoryContextSwitchTo(old);
	return fanout->current;
}

/* Reads all that is still to come, and keeps the rows if `keep`. */
static void
read_all(A67Fanout *fanout, bool keep)
{
	MemoryContext old = MemoryContextSwitchTo(fanout->context);

	while (fanout->running > 0)
	{
		int which;
		PGresult *result = read_next(fanout, &which);

		if (result != NULL && keep)
		{
			Kept *kept = palloc(sizeof(*kept));

			*kept = (Kept){.result = result, .which = which};
			fanout->kept = lappend(fanout->kept, kept);
		}
		else
			PQclear(result);
	}
	MemoryContextSwitchTo(old);
}

void
a67_fanout_drain(void *part)
{
	A67Fanout *fanout = ((A67Part *) part)->fanout;

	if (fanout->drain != NULL)
		fanout->drain(fanout->owner);
	else
		read_all(fanout, true);
	if (fanout->running > 0)
		elog(ERROR, "a fan-out was not drained");
}

int64
a67_fanout_affected_by(A67Fanout *fanout, int which)
{
	read_all(fanout, false);
	return fanout->parts[which].affected;
}

int64
a67_fanout_affected(A67Fanout *fanout)
{
	int64 sum = 0;

	for (int i = 0; i < fanout->count; i++)
		sum += a67_fanout_affected_by(fanout, i);
	return sum;
}

const A67ShardUse *
a67_fanout_use(const A67Fanout *fanout)
{
	for (int i = 0; i < fanout->count; i++)
	{
		fanout->use[i] = fanout->parts[i].use;
		if (fanout->use[i].name == NULL)
			fanout->use[i].name = fanout->parts[i].target->name;
		if (fanout->use[i].rows == 0)
			fanout->use[i].rows = fanout->parts[i].affected;
	}
	return fanout->use;
}

/*
 * Stops what nobody wants any more. A statement inside of a remote transaction is read to its end instead: to cancel it
 * would abort the transaction.
 */
static void
stop(A67Fanout *fanout)
{
	int64 deadline_ms = a67_now_ms() + A67_CLEANUP_MS;

	for (int i = 0; i < fanout->count; i++)
	{
		A67Part *part = &fanout->parts[i];

		if (part->state == A67_PART_RUNNING && part->inside)
			continue;
		if (part->state == A67_PART_RUNNING)
		{
			a67_link_abandon(part->link, deadline_ms);
			a67_link_release(part->link);
		}
		part->state = A67_PART_DONE;
	}
	read_all(fanout, false);
}

void
a67_fanout_end(A67Fanout *fanout)
{
	if (fanout == NULL)
		return;
	if (fanout->running > 0)
		stop(fanout);
	MemoryContextDelete(fanout->context);
}
