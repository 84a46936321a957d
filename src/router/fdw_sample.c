/*
 * fdw_sample.c - ANALYZE of virtual tables: a sample of the rows of all shards.
 *
 * Shards say how many rows they have (as of their own last ANALYZE or VACUUM; where there was none
 * they count), and send each row with the probability that makes the sample as large as wanted. So
 * what travels depends on the statistics target alone.
 */
#include "postgres.h"

#include "router/fdw.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/sampling.h"

/* More than wanted is sent, since less would come by chance half of the time. */
#define SURPLUS 1.1

typedef struct TableSize
{
	double rows;
	double pages;
} TableSize;

typedef struct Sample
{
	Relation relation;
	HeapTuple *rows;
	int wanted;
	int count;
	double seen;
	double skip; /* rows before the next that replaces one; negative: not known yet */
	ReservoirStateData reservoir;
	A67Decoder *decoder;
	List *columns;
	TupleDesc desc;
	MemoryContext row_context;
} Sample;

/* ---- asking shards */

/* The same statement to all shards whose rows count; one of them, for copies. */
static A67Fanout *
ask(const A67Table *table, const A67Statement *statement, A67Dispatch *dispatches, int *count)
{
	Bitmapset *shards = a67_shards_of_table(table);
	int shard = -1;

	*count = 0;
	while ((shard = bms_next_member(shards, shard)) >= 0)
	{
		dispatches[(*count)++] =
			(A67Dispatch){.target = &table->database->shards[shard], .statement = statement};
		if (table->strategy == A67_REFERENCE)
			break;
	}
	return a67_fanout_start(dispatches, *count, NULL, NULL);
}

static TableSize
sum_up(A67Fanout *fanout)
{
	TableSize size = {.rows = 0, .pages = 0};
	PGresult *result;
	int which;

	while ((result = a67_fanout_next(fanout, &which)) != NULL)
	{
		for (int row = 0; row < PQntuples(result); row++)
		{
			if (PQnfields(result) != 2)
				elog(ERROR, "shard sent %d columns instead of 2", PQnfields(result));
			size.rows += float8in_internal(PQgetvalue(result, row, 0), NULL, "double precision",
										   PQgetvalue(result, row, 0));
			size.pages += float8in_internal(PQgetvalue(result, row, 1), NULL, "double precision",
											PQgetvalue(result, row, 1));
		}
	}
	a67_fanout_end(fanout);
	return size;
}

static TableSize
ask_size(Relation relation)
{
	const A67Table *table = a67_table(RelationGetRelid(relation));
	const char *name = quote_identifier(RelationGetRelationName(relation));
	A67Statement statement = {.effect = A67_EFFECT_READ};
	A67Dispatch dispatches[A67_SHARDS_MAX];
	int count;

	/* CASE, so that only a shard that does not know counts. */
	statement.sql = psprintf(
		"SELECT CASE WHEN c.reltuples > 0 THEN c.reltuples::float8 "
		"ELSE (SELECT count(*)::float8 FROM %s) END, pg_catalog.pg_relation_size(c.oid)::float8 / 8192 "
		"FROM pg_catalog.pg_class c WHERE c.oid = %s::pg_catalog.regclass",
		name, quote_literal_cstr(name));
	return sum_up(ask(table, &statement, dispatches, &count));
}

/* ---- the sample */

/* Keeps the row with the right probability. */
static void
take_row(Sample *sample, PGresult *result, int row)
{
	int place = sample->count;
	MemoryContext old;
	Datum *values;
	bool *nulls;
	Datum *fetched;
	bool *fetched_nulls;
	ListCell *cell;

	sample->seen += 1;
	if (sample->count == sample->wanted)
	{
		if (sample->skip < 0)
			sample->skip = reservoir_get_next_S(&sample->reservoir, sample->seen, sample->wanted);
		sample->skip -= 1;
		if (sample->skip >= 0)
			return;
		place = (int) (sample->wanted * sampler_random_fract(&sample->reservoir.randstate));
		heap_freetuple(sample->rows[place]);
	}
	old = MemoryContextSwitchTo(sample->row_context);
	values = palloc0(sample->desc->natts * sizeof(Datum));
	nulls = palloc(sample->desc->natts * sizeof(bool));
	fetched = palloc((list_length(sample->columns) + 1) * sizeof(Datum));
	fetched_nulls = palloc((list_length(sample->columns) + 1) * sizeof(bool));
	memset(nulls, true, sample->desc->natts * sizeof(bool));
	a67_decode(sample->decoder, result, row, fetched, fetched_nulls);
	foreach(cell, sample->columns)
	{
		values[lfirst_int(cell) - 1] = fetched[foreach_current_index(cell)];
		nulls[lfirst_int(cell) - 1] = fetched_nulls[foreach_current_index(cell)];
	}
	MemoryContextSwitchTo(old);
	sample->rows[place] = heap_form_tuple(sample->desc, values, nulls);
	MemoryContextReset(sample->row_context);
	if (sample->count < sample->wanted)
		sample->count++;
}

static char *
sample_sql(Sample *sample, double fraction)
{
	StringInfoData sql;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	foreach(cell, sample->columns)
		appendStringInfo(&sql, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 quote_identifier(
							 NameStr(TupleDescAttr(sample->desc, lfirst_int(cell) - 1)->attname)));
	appendStringInfo(&sql, " FROM %s", quote_identifier(RelationGetRelationName(sample->relation)));
	if (fraction < 1)
		appendStringInfo(&sql, " WHERE pg_catalog.random() < %.10f", fraction);
	return sql.data;
}

static void
begin_sample(Sample *sample)
{
	TupleDesc fetched;
	ListCell *cell;

	for (int i = 0; i < sample->desc->natts; i++)
	{
		if (!TupleDescAttr(sample->desc, i)->attisdropped)
			sample->columns = lappend_int(sample->columns, i + 1);
	}
	fetched = CreateTemplateTupleDesc(list_length(sample->columns));
	foreach(cell, sample->columns)
		TupleDescCopyEntry(fetched, (AttrNumber) (foreach_current_index(cell) + 1), sample->desc,
						   (AttrNumber) lfirst_int(cell));
	sample->decoder = a67_decoder(fetched);
	sample->row_context =
		AllocSetContextCreate(CurrentMemoryContext, "a67 row of a sample", ALLOCSET_DEFAULT_SIZES);
	reservoir_init_selection_state(&sample->reservoir, sample->wanted);
}

static int
acquire_sample(Relation relation, int elevel, HeapTuple *rows, int wanted, double *total,
			   double *total_dead)
{
	Sample sample = {
		.relation = relation,
		.rows = rows,
		.wanted = wanted,
		.skip = -1,
		.desc = RelationGetDescr(relation),
	};
	TableSize size = ask_size(relation);
	double fraction = Min(1, wanted * SURPLUS / Max(size.rows, 1));
	A67Statement statement = {.effect = A67_EFFECT_READ};
	A67Dispatch dispatches[A67_SHARDS_MAX];
	A67Fanout *fanout;
	PGresult *result;
	int which;
	int count;

	begin_sample(&sample);
	statement.sql = sample_sql(&sample, fraction);
	statement.binary_result = a67_decoder_binary(sample.decoder);
	fanout = ask(a67_table(RelationGetRelid(relation)), &statement, dispatches, &count);
	while ((result = a67_fanout_next(fanout, &which)) != NULL)
	{
		a67_decoder_shard(sample.decoder, dispatches[which].target->name);
		for (int row = 0; row < PQntuples(result); row++)
			take_row(&sample, result, row);
	}
	a67_fanout_end(fanout);
	*total = fraction < 1 ? sample.seen / fraction : sample.seen;
	*total_dead = 0;
	ereport(elevel, (errmsg("\"%s\": table contains %.0f rows on %d shards, %d rows in sample",
							RelationGetRelationName(relation), *total, count, sample.count)));
	return sample.count;
}

bool
a67_fdw_analyze(Relation relation, AcquireSampleRowsFunc *sample, BlockNumber *pages)
{
	if (a67_table(RelationGetRelid(relation)) == NULL)
		return false;
	*sample = acquire_sample;
	*pages = (BlockNumber) Min(ask_size(relation).pages, (double) MaxBlockNumber);
	return true;
}
