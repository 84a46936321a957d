/*
 * fdw_truncate.c - TRUNCATE of virtual tables.
 *
 * Each shard empties all of its tables that are named in one statement, so that foreign keys among
 * them are no obstacle. The first shard goes before the others: two sessions that truncate the same
 * tables meet there and not on several shards at once.
 */
#include "postgres.h"

#include "router/fdw.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* NULL: none of the tables is on the shard. */
static char *
write_sql(List *relations, int shard, DropBehavior behavior, bool restart_sequences)
{
	StringInfoData sql;
	int count = 0;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "TRUNCATE ");
	foreach(cell, relations)
	{
		Oid relid = RelationGetRelid((Relation) lfirst(cell));

		if (!bms_is_member(shard, a67_shards_of_table(a67_table(relid))))
			continue;
		appendStringInfo(&sql, "%s%s", count++ > 0 ? ", " : "",
						 quote_identifier(get_rel_name(relid)));
	}
	if (count == 0)
		return NULL;
	appendStringInfoString(&sql, restart_sequences ? " RESTART IDENTITY" : " CONTINUE IDENTITY");
	appendStringInfoString(&sql, behavior == DROP_CASCADE ? " CASCADE" : " RESTRICT");
	return sql.data;
}

static void
run(const A67Dispatch *dispatches, int count)
{
	A67Fanout *fanout;

	if (count == 0)
		return;
	fanout = a67_fanout_start(dispatches, count, NULL, NULL);
	(void) a67_fanout_affected(fanout);
	a67_fanout_end(fanout);
}

void
a67_fdw_truncate(List *relations, DropBehavior behavior, bool restart_sequences)
{
	/* PostgreSQL passes the tables of one server at a time. */
	const A67Database *database =
		a67_table(RelationGetRelid((Relation) linitial(relations)))->database;
	A67Dispatch dispatches[A67_SHARDS_MAX];
	A67Statement *statements = palloc0(database->shard_count * sizeof(A67Statement));
	int count = 0;

	for (int i = 0; i < database->shard_count; i++)
	{
		char *sql = write_sql(relations, i, behavior, restart_sequences);

		if (sql == NULL)
			continue;
		statements[i] = (A67Statement){.sql = sql, .effect = A67_EFFECT_WRITE};
		dispatches[count++] =
			(A67Dispatch){.target = &database->shards[i], .statement = &statements[i]};
	}
	run(dispatches, Min(count, 1));
	run(dispatches + 1, count - 1);
}
