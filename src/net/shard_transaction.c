/*
 * shard_transaction.c - remote transactions that live and die with the local one.
 *
 * A shard joins when a statement needs it: a write or a row lock, or a read under REPEATABLE READ or SERIALIZABLE, whose snapshot must
 * stay. From then on every statement on that shard is part of it, and local subtransactions become savepoints (named by level)
 * as statements need them. BEGIN and SAVEPOINT travel ahead of the statement in one flush; the RELEASE of a committed subtransaction
 * waits for the next statement and is not sent at all when the transaction ends first.
 *
 * Commit is of one phase: all shards are first made to check their deferred constraints, then all commit, before
 * the local transaction does. What remains is a shard that fails between the two: told as 08007, never as success.
 */
#include "postgres.h"

#include "net/shard_session.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "net/shard_error.h"
#include "platform/clock.h"
#include "platform/settings.h"

/* Links in remote transactions; reset when the local transaction ends. */
static bool any;

static const char *
begin_sql(void)
{
	const char *level = "READ COMMITTED";

	if (XactIsoLevel == XACT_SERIALIZABLE)
		level = "SERIALIZABLE";
	else if (XactIsoLevel == XACT_REPEATABLE_READ)
		level = "REPEATABLE READ";
	return psprintf("BEGIN ISOLATION LEVEL %s%s", level, XactReadOnly ? " READ ONLY" : "");
}

List *
a67_transaction_setup(A67Link *link, A67Effect effect, bool alone, List *before)
{
	int level = GetCurrentTransactionNestLevel();

	if (likely(link->depth == 0))
	{
		/* One statement is a transaction of its own, of the isolation level that net gives to every session. */
		if (effect == A67_EFFECT_READ ? alone || !IsolationUsesXactSnapshot()
									  : alone && !any && !IsolationUsesXactSnapshot())
			return before;
		before = lappend(before, unconstify(char *, begin_sql()));
		link->depth = 1;
		link->first_level = level;
		any = true;
	}
	if (link->release > 0)
		before = lappend(before, psprintf("RELEASE SAVEPOINT a67_%d", link->release));
	link->release = 0;
	while (link->depth < level)
		before = lappend(before, psprintf("SAVEPOINT a67_%d", ++link->depth));
	if (effect != A67_EFFECT_READ)
		link->wrote = true;
	return before;
}

void
a67_transaction_check(const A67Link *link)
{
	if (link->lost)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("connection to shard \"%s\" was lost", NameStr(link->name)),
						errdetail("What this transaction did there is lost with it."),
						errhint("Roll back, and do the transaction again.")));
}

void
a67_transaction_forget(A67Link *link)
{
	link->depth = 0;
	link->first_level = 0;
	link->release = 0;
	link->lost = false;
	link->wrote = false;
	link->equal_inside = false;
}

/* The links that the filter names, each with the command; returns how many. */
static int
collect(A67LinkRun *runs, bool (*filter)(const A67Link *), const char *sql)
{
	int count = 0;

	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
		if (filter(link) && link->conn != NULL)
			runs[count++] = (A67LinkRun){.link = link, .sql = sql};
	return count;
}

static int
count_links(void)
{
	int count = 0;

	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
		count++;
	return count;
}

static bool
is_open(const A67Link *link)
{
	return link->depth > 0;
}

static bool
is_writer(const A67Link *link)
{
	return link->depth > 0 && link->wrote;
}

/* Deferred constraints fail here, where everything can still be rolled back. */
static void
check_constraints(A67LinkRun *runs)
{
	int count = collect(runs, is_writer, "SET CONSTRAINTS ALL IMMEDIATE");
	A67Link *bad = NULL;
	PGresult *error = NULL;

	if (count < 2)
		return;
	a67_link_run(runs, count, a67_now_ms() + a67_shard_timeout);
	for (int i = 0; i < count; i++)
	{
		PGresult *result = runs[i].result;

		if (bad == NULL && (result == NULL || PQresultStatus(result) != PGRES_COMMAND_OK))
		{
			bad = runs[i].link;
			error = result;
		}
		else
			PQclear(result);
	}
	if (bad == NULL)
		return;
	if (error != NULL)
		a67_shard_raise(NameStr(bad->name), error);
	bad->lost = true;
	a67_shard_raise_lost(NameStr(bad->name), false);
}

/* COMMIT failed on a shard. error: its answer; NULL: none came. Others that have changed rows have committed. */
static pg_attribute_noreturn() void raise_commit(const A67LinkRun *run, PGresult *error, int others)
{
	const char *name = NameStr(run->link->name);
	bool known = error != NULL || !run->sent;

	if (others == 0 && known)
	{
		if (error == NULL)
			a67_shard_raise_lost(name, false);
		if (PQresultStatus(error) == PGRES_FATAL_ERROR)
			a67_shard_raise(name, error);
		PQclear(error);
		ereport(ERROR, (errcode(ERRCODE_TRANSACTION_ROLLBACK),
						errmsg("shard \"%s\" has rolled the transaction back", name)));
	}
	PQclear(error);
	ereport(ERROR,
			(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
			 errmsg("shard \"%s\" failed while the transaction committed", name),
			 known ? errdetail("It has not committed; %d other shards have.", others)
				   : errdetail("Whether it has committed is not known; %d other shards have.",
							   others),
			 errhint("Look at the rows before you try again.")));
}

/* What became of COMMIT on the shards. Of several failures one that leaves the outcome open is raised. */
static void
judge_commit(A67LinkRun *runs, int count)
{
	const A67LinkRun *bad = NULL;
	int done = 0;

	for (int i = 0; i < count; i++)
	{
		PGresult *result = runs[i].result;
		A67Link *link = runs[i].link;
		bool wrote = link->wrote;
		bool ok = result != NULL && PQresultStatus(result) == PGRES_COMMAND_OK &&
				  strcmp(PQcmdStatus(result), "COMMIT") == 0;

		a67_transaction_forget(link);
		done += ok && wrote;
		if (!ok && wrote && (bad == NULL || (bad->result != NULL && result == NULL)))
			bad = &runs[i];
	}
	for (int i = 0; i < count; i++)
		if (&runs[i] != bad)
			PQclear(runs[i].result);
	if (bad != NULL)
		raise_commit(bad, bad->result, done);
}

static void
commit(void)
{
	A67LinkRun *runs;
	int count;

	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
	{
		a67_transaction_check(link);
		if (link->depth > 0)
			a67_link_clear(link);
		a67_transaction_check(link);
	}
	runs = palloc(sizeof(A67LinkRun) * (count_links() + 1));
	check_constraints(runs);
	count = collect(runs, is_open, "COMMIT TRANSACTION");
	a67_link_run(runs, count, a67_now_ms() + a67_shard_timeout);
	judge_commit(runs, count);
}

/* Answers that nobody will read, and remote transactions, end. */
static void
roll_back(void)
{
	A67LinkRun *runs = palloc(sizeof(A67LinkRun) * (count_links() + 1));
	int64 deadline_ms = a67_now_ms() + A67_CLEANUP_MS;
	int count;

	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
		if (link->conn != NULL && (link->user != NULL || link->dirty))
			a67_link_abandon(link, deadline_ms);
	count = collect(runs, is_open, "ROLLBACK TRANSACTION");
	for (int i = 0; i < count; i++)
		runs[i].link->quiet = true;
	a67_link_run(runs, count, deadline_ms);
	for (int i = 0; i < count; i++)
	{
		runs[i].link->quiet = false;
		PQclear(runs[i].result);
	}
	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
		link->equal &= !link->equal_inside;
}

static void
at_end(void)
{
	int64 deadline_ms = a67_now_ms() + A67_CLEANUP_MS;

	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
	{
		a67_transaction_forget(link);
		if (link->dirty && link->user == NULL)
			a67_link_abandon(link, deadline_ms);
		if (!link->idle)
			a67_link_release(link);
	}
	any = false;
	a67_link_keep_time();
}

static void
at_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (any)
				commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (any)
				ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
								errmsg("cannot prepare a transaction that has worked on shards"),
								errhint("Commit it instead.")));
			break;
		case XACT_EVENT_ABORT:
			roll_back();
			at_end();
			break;
		case XACT_EVENT_COMMIT:
			at_end();
			break;
		default:
			break;
	}
}

/* The remote work of the subtransaction is from now on that of the one around it. */
static void
at_sub_commit(A67Link *link, int level)
{
	a67_transaction_check(link);
	link->depth = level - 1;
	if (link->release == 0 || level < link->release)
		link->release = level;
	link->first_level = Min(link->first_level, level - 1);
}

static void
at_sub_abort(A67Link *link, int level)
{
	A67LinkRun run = {.link = link};
	bool ok;
	char sql[80];
	int64 deadline_ms = a67_now_ms() + A67_CLEANUP_MS;

	ok = link->conn != NULL &&
		 ((link->user == NULL && !link->dirty) || a67_link_abandon(link, deadline_ms));
	snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT a67_%d; RELEASE SAVEPOINT a67_%d", level,
			 level);
	run.sql = sql;
	if (ok)
	{
		a67_link_run(&run, 1, deadline_ms);
		ok = run.result != NULL && PQresultStatus(run.result) == PGRES_COMMAND_OK;
		PQclear(run.result);
	}
	link->depth = level - 1;
	if (link->release >= level)
		link->release = 0;
	if (link->equal_inside)
		link->equal = false;
	if (ok)
		return;
	a67_link_close(link);
	/* Nothing but this subtransaction has worked there: another connection will do. */
	if (link->first_level >= level && !IsolationUsesXactSnapshot())
		a67_transaction_forget(link);
	else
		link->lost = true;
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (!any || (event != SUBXACT_EVENT_PRE_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	for (A67Link *link = a67_link_first(); link != NULL; link = link->next)
	{
		if (link->depth < level)
			continue;
		if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
			at_sub_commit(link, level);
		else
			at_sub_abort(link, level);
	}
}

void
a67_transaction_install(void)
{
	RegisterXactCallback(at_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
}
