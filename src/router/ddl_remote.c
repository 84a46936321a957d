/*
 * ddl_remote.c - sends definitions to shards, and asks shards about what they have; see ddl.h.
 *
 * Everything is part of the remote transactions that end with the local one. Questions are asked on primaries and inside of them
 * too, so that they see what was defined before.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "catalog/pg_foreign_server.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "utils/builtins.h"

Bitmapset *
a67_ddl_all(const A67Database *database)
{
	return database->shard_count == 0 ? NULL : bms_add_range(NULL, 0, database->shard_count - 1);
}

Bitmapset *
a67_ddl_places(const A67Table *table)
{
	return table->strategy == A67_LOCAL ? bms_make_singleton(table->home)
										: a67_ddl_all(table->database);
}

void
a67_ddl_ask(const A67Database *database, const Bitmapset *shards, const char *sql,
			void (*take)(void *state, int shard, const char *value), void *state)
{
	A67Statement statement = {.sql = sql,
							  .effect = take == NULL ? A67_EFFECT_WRITE : A67_EFFECT_LOCK};
	A67Dispatch dispatches[A67_SHARDS_MAX];
	int indexes[A67_SHARDS_MAX];
	A67Fanout *fanout;
	PGresult *result;
	int count = 0;
	int which;

	for (int i = -1; (i = bms_next_member(shards, i)) >= 0;)
	{
		indexes[count] = i;
		dispatches[count].target = &database->shards[i];
		dispatches[count++].statement = &statement;
	}
	if (count == 0)
		return;
	fanout = a67_fanout_start(dispatches, count, NULL, NULL);
	while ((result = a67_fanout_next(fanout, &which)) != NULL)
	{
		for (int row = 0; take != NULL && row < PQntuples(result); row++)
			take(state, indexes[which],
				 PQgetisnull(result, row, 0) ? NULL : PQgetvalue(result, row, 0));
	}
	a67_fanout_end(fanout);
}

void
a67_ddl_send(const A67Database *database, const Bitmapset *shards, const char *sql)
{
	a67_ddl_ask(database, shards, sql, NULL, NULL);
}

typedef struct Answers
{
	const A67Database *database;
	ReturnSetInfo *result;
} Answers;

static void
put_answer(void *state, int shard, const char *value)
{
	Answers *answers = state;
	Datum values[2];
	bool nulls[2] = {false, value == NULL};

	values[0] = CStringGetTextDatum(answers->database->shards[shard].name);
	values[1] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
	tuplestore_putvalues(answers->result->setResult, answers->result->setDesc, values, nulls);
}

/* The shard of that name (argument `at`), or all if it is null. */
static Bitmapset *
named_shards(FunctionCallInfo fcinfo, int at, const A67Database *database)
{
	char *name;

	if (PG_ARGISNULL(at))
		return a67_ddl_all(database);
	name = text_to_cstring(PG_GETARG_TEXT_PP(at));
	for (int i = 0; i < database->shard_count; i++)
	{
		if (strcmp(database->shards[i].name, name) == 0)
			return bms_make_singleton(i);
	}
	elog(ERROR, "database \"%s\" has no shard \"%s\"", database->name, name);
	return NULL;
}

static const A67Database *
database_of(FunctionCallInfo fcinfo, int at)
{
	return a67_database_of_server(
		get_foreign_server_oid(text_to_cstring(PG_GETARG_TEXT_PP(at)), false));
}

PG_FUNCTION_INFO_V1(a67_sql_shard_ask);

/* _shard_ask(server, sql, only_shard) returns (shard text, answer text): the first column of each row. */
Datum
a67_sql_shard_ask(PG_FUNCTION_ARGS)
{
	Answers answers = {.database = database_of(fcinfo, 0),
					   .result = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	a67_ddl_ask(answers.database, named_shards(fcinfo, 2, answers.database),
				text_to_cstring(PG_GETARG_TEXT_PP(1)), put_answer, &answers);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(a67_sql_shard_tell);

/* _shard_tell(server, sql, only_shard) returns void. */
Datum
a67_sql_shard_tell(PG_FUNCTION_ARGS)
{
	const A67Database *database = database_of(fcinfo, 0);

	a67_ddl_send(database, named_shards(fcinfo, 2, database),
				 text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}
