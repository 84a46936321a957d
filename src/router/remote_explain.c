/*
 * remote_explain.c - what EXPLAIN shows of remote statements; see remote_run.h.
 */
#include "postgres.h"

#include "router/remote_run.h"

#include "commands/explain.h"

void
a67_remote_totals_add(A67RemoteTotals *totals, const int *indexes, const A67ShardUse *use,
					  int count)
{
	totals->runs++;
	for (int i = 0; i < count; i++)
	{
		A67ShardUse *sum = &totals->shards[indexes[i]];

		sum->name = use[i].name;
		sum->rows += use[i].rows;
		sum->bytes += use[i].bytes;
		INSTR_TIME_ADD(sum->elapsed, use[i].elapsed);
		sum->replica |= use[i].replica;
		sum->missing |= use[i].missing;
	}
}

/* In the order of the database's shards. */
static List *
shard_names(const A67Remote *remote, const A67Table *table)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, remote->shard_ids)
	{
		int shard = a67_shard_index(table->database, lfirst_int(cell));

		if (shard >= 0)
			names = lappend(names, pstrdup(table->database->shards[shard].name));
	}
	return names;
}

static void
describe_where(const A67Remote *remote, ExplainState *es)
{
	const A67Table *table = a67_table(remote->relid);

	switch (remote->where)
	{
		case A67_WHERE_LIST:
			ExplainPropertyList("Shards", shard_names(remote, table), es);
			break;
		case A67_WHERE_ANY:
			ExplainPropertyText("Shards", "any one", es);
			break;
		case A67_WHERE_KEY:
			ExplainPropertyText("Shards", "the one of the key", es);
			break;
		case A67_WHERE_PRUNE:
			ExplainPropertyList("Shards", list_make1("those of the conditions"), es);
			break;
	}
}

static void
describe_use(const A67ShardUse *use, ExplainState *es)
{
	const char *note = use->missing ? ", left out" : use->replica ? ", from a replica" : "";

	if (es->format == EXPLAIN_FORMAT_TEXT)
	{
		appendStringInfoSpaces(es->str, es->indent * 2);
		if (es->timing)
			appendStringInfo(
				es->str, "Shard %s: rows=" INT64_FORMAT " bytes=" INT64_FORMAT " time=%.3f ms%s\n",
				use->name, use->rows, use->bytes, INSTR_TIME_GET_MILLISEC(use->elapsed), note);
		else
			appendStringInfo(es->str, "Shard %s: rows=" INT64_FORMAT " bytes=" INT64_FORMAT "%s\n",
							 use->name, use->rows, use->bytes, note);
		return;
	}
	ExplainOpenGroup("Shard", NULL, true, es);
	ExplainPropertyText("Shard", use->name, es);
	ExplainPropertyInteger("Rows", NULL, use->rows, es);
	ExplainPropertyInteger("Bytes", NULL, use->bytes, es);
	if (es->timing)
		ExplainPropertyFloat("Time", "ms", INSTR_TIME_GET_MILLISEC(use->elapsed), 3, es);
	ExplainPropertyBool("Replica", use->replica, es);
	ExplainPropertyBool("Left Out", use->missing, es);
	ExplainCloseGroup("Shard", NULL, true, es);
}

void
a67_remote_describe(const A67Remote *remote, const A67RemoteTotals *totals, ExplainState *es)
{
	ExplainPropertyText("Strategy", remote->strategy, es);
	describe_where(remote, es);
	ExplainPropertyText("Remote SQL", remote->sql, es);
	if (totals == NULL || totals->runs == 0 || !es->analyze)
		return;
	if (totals->runs > 1)
		ExplainPropertyInteger("Remote Runs", NULL, totals->runs, es);
	ExplainOpenGroup("Shard Use", "Shard Use", false, es);
	for (int i = 0; i < A67_SHARDS_MAX; i++)
	{
		if (totals->shards[i].name != NULL)
			describe_use(&totals->shards[i], es);
	}
	ExplainCloseGroup("Shard Use", "Shard Use", false, es);
}
