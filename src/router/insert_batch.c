/*
 * insert_batch.c - rows on their way to shards; see insert.h.
 *
 * A batch per shard: the values of its rows, written for the wire. All batches go out together, one statement a shard. The statement
 * of a single row and that of a full batch come again and are prepared; the others are not. Rows of reference tables go to
 * every shard, to the first one before the others: writers of the same row then queue there instead of holding each other up on two shards.
 * Memory: `context` holds what is between two sendings and is reset by the next row.
 */
#include "postgres.h"

#include "router/insert.h"

#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "router/remote.h"

#define ROWS_MAX   1000				 /* of a statement */
#define PARAMS_MAX 65535			 /* of a statement: the protocol's limit */
#define BYTES_MAX  (4 * 1024 * 1024) /* kept before they are sent, all shards together */

typedef struct Shard
{
	int rows;
	int room;			 /* rows that fit into the arrays */
	const char **values; /* of the tail's parameters, then of the rows */
	int *lengths;
	int *formats;
	A67Statement statement;
	List *answers; /* MinimalTuple */
	int answered;  /* of them, given back */
} Shard;

struct A67InsertBatch
{
	A67InsertTarget target;
	MemoryContext owner;
	MemoryContext context;
	A67Encoder *encoder;
	A67Decoder *decoder;
	int tail_count;
	int rows_max;
	bool copies;
	bool full;
	bool sent;
	char *sql_full;
	Oid *types; /* of the tail's parameters and of as many rows as the longest statement had */
	int types_rows;
	Shard *shards; /* by shard index */
	int *order;	   /* shard index of each row */
	int order_count;
	int order_room;
	int order_next;
	bool in_order;
};

A67InsertBatch *
a67_insert_batch(const A67InsertTarget *target)
{
	A67InsertBatch *batch = palloc0(sizeof(A67InsertBatch));
	int count = target->table->database->shard_count;

	batch->target = *target;
	batch->owner = CurrentMemoryContext;
	batch->context =
		AllocSetContextCreate(batch->owner, "a67 insert batch", ALLOCSET_DEFAULT_SIZES);
	batch->encoder = a67_encoder(target->column_count, target->column_types);
	if (target->returned != NULL)
		batch->decoder = a67_decoder(target->returned);
	batch->tail_count = target->tail_values != NULL ? target->tail_values->param_count : 0;
	if (target->single == NULL)
		batch->target.single =
			a67_insert_sql(target->head, target->tail, batch->tail_count, target->column_count, 1);
	batch->rows_max = Min(ROWS_MAX, (PARAMS_MAX - batch->tail_count) / target->column_count);
	batch->copies = target->table->strategy == A67_REFERENCE;
	batch->shards = palloc0(count * sizeof(Shard));
	return batch;
}

bool
a67_insert_batch_full(const A67InsertBatch *batch)
{
	return batch->full;
}

static pg_attribute_noreturn() void refuse_key(const A67Table *table, Datum key, bool is_null)
{
	const char *name = get_rel_name(table->relid);
	const char *column = get_attname(table->relid, table->key, false);
	Oid output;
	bool is_varlena;

	if (is_null)
		ereport(
			ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
					column, name),
			 errdetail("The column is the shard key."),
			 err_generic_string(PG_DIAG_TABLE_NAME, name),
			 err_generic_string(PG_DIAG_COLUMN_NAME, column)));
	getTypeOutputInfo(table->key_type, &output, &is_varlena);
	ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
					errmsg("no shard of table \"%s\" found for row", name),
					errdetail("Shard key of the failing row contains (%s) = (%s).", column,
							  OidOutputFunctionCall(output, key)),
					errhint("Assign the key to a shard first."),
					err_generic_string(PG_DIAG_TABLE_NAME, name)));
}

int
a67_insert_shard(const A67Table *table, Datum key, bool is_null)
{
	int shard;

	if (is_null)
		refuse_key(table, key, true);
	shard = a67_shard_of_key(table, key, table->key_type);
	if (shard < 0)
		refuse_key(table, key, false);
	return shard;
}

/* ---- filling -------------------------------------------------------------------------------- */

static void
forget(A67InsertBatch *batch)
{
	int count = batch->target.table->database->shard_count;

	memset(batch->shards, 0, count * sizeof(Shard));
	batch->order = NULL;
	batch->order_count = batch->order_room = batch->order_next = 0;
	batch->full = batch->sent = false;
	MemoryContextReset(batch->context);
}

MemoryContext
a67_insert_batch_next(A67InsertBatch *batch)
{
	if (batch->sent)
		forget(batch);
	return batch->context;
}

static void
remember_shard(A67InsertBatch *batch, int shard)
{
	if (batch->order_count == batch->order_room)
	{
		batch->order_room = Max(16, batch->order_room * 4);
		batch->order = batch->order == NULL
						   ? palloc(batch->order_room * sizeof(int))
						   : repalloc(batch->order, batch->order_room * sizeof(int));
	}
	batch->order[batch->order_count++] = shard;
}

/* Room for another row. The tail's parameters lie before the first. */
static void
reserve(A67InsertBatch *batch, Shard *shard)
{
	const A67Statement *tail = batch->target.tail_values;
	bool fresh = shard->room == 0;
	int count;

	if (shard->rows < shard->room)
		return;
	shard->room = fresh ? 1 : Min(Max(16, shard->room * 4), batch->rows_max);
	count = batch->tail_count + shard->room * batch->target.column_count;
	if (!fresh)
	{
		shard->values = repalloc(shard->values, count * sizeof(char *));
		shard->lengths = repalloc(shard->lengths, count * sizeof(int));
		shard->formats = repalloc(shard->formats, count * sizeof(int));
		return;
	}
	shard->values = palloc(count * sizeof(char *));
	shard->lengths = palloc(count * sizeof(int));
	shard->formats = palloc(count * sizeof(int));
	if (batch->tail_count == 0)
		return;
	memcpy(shard->values, tail->param_values, batch->tail_count * sizeof(char *));
	memcpy(shard->lengths, tail->param_lengths, batch->tail_count * sizeof(int));
	memcpy(shard->formats, tail->param_formats, batch->tail_count * sizeof(int));
}

/* Parameter types for so many rows. */
static void
prepare_types(A67InsertBatch *batch, const Oid *row_types, int rows)
{
	int columns = batch->target.column_count;
	int count = batch->tail_count + rows * columns;

	if (rows <= batch->types_rows)
		return;
	if (batch->types != NULL)
		pfree(batch->types);
	batch->types = MemoryContextAlloc(batch->owner, count * sizeof(Oid));
	for (int i = 0; i < batch->tail_count; i++)
		batch->types[i] = batch->target.tail_values->param_types[i];
	for (int i = batch->tail_count; i < count; i++)
		batch->types[i] = row_types[(i - batch->tail_count) % columns];
	batch->types_rows = rows;
}

void
a67_insert_batch_add(A67InsertBatch *batch, int index, const Datum *values, const bool *nulls)
{
	Shard *shard = &batch->shards[batch->copies ? 0 : index];
	int columns = batch->target.column_count;
	A67Statement row = {0};
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	int at;

	Assert(!batch->sent);
	a67_encode(batch->encoder, values, nulls, &row);
	reserve(batch, shard);
	at = batch->tail_count + shard->rows * columns;
	memcpy(shard->values + at, row.param_values, columns * sizeof(char *));
	memcpy(shard->lengths + at, row.param_lengths, columns * sizeof(int));
	memcpy(shard->formats + at, row.param_formats, columns * sizeof(int));
	shard->rows++;
	prepare_types(batch, row.param_types, shard->room);
	if (batch->decoder != NULL)
		remember_shard(batch, (int) (shard - batch->shards));
	batch->full = shard->rows == batch->rows_max ||
				  MemoryContextMemAllocated(batch->context, false) > BYTES_MAX;
	MemoryContextSwitchTo(old);
}

/* ---- sending -------------------------------------------------------------------------------- */

char *
a67_insert_sql(const char *head, const char *tail, int tail_count, int columns, int rows)
{
	StringInfoData sql;
	int number = tail_count;

	initStringInfo(&sql);
	appendStringInfoString(&sql, head);
	for (int row = 0; row < rows; row++)
	{
		appendStringInfoString(&sql, row == 0 ? "(" : ", (");
		for (int i = 0; i < columns; i++)
			appendStringInfo(&sql, i == 0 ? "$%d" : ", $%d", ++number);
		appendStringInfoChar(&sql, ')');
	}
	appendStringInfoString(&sql, tail);
	return sql.data;
}

/* The text of a full batch comes again and is kept. */
static const char *
statement_sql(A67InsertBatch *batch, int rows)
{
	const A67InsertTarget *target = &batch->target;
	MemoryContext old;
	char *sql;

	if (rows == 1)
		return target->single;
	if (rows == batch->rows_max && batch->sql_full != NULL)
		return batch->sql_full;
	old = MemoryContextSwitchTo(rows == batch->rows_max ? batch->owner : batch->context);
	sql = a67_insert_sql(target->head, target->tail, batch->tail_count, target->column_count, rows);
	if (rows == batch->rows_max)
		batch->sql_full = sql;
	MemoryContextSwitchTo(old);
	return sql;
}

static void
make_statement(A67InsertBatch *batch, Shard *shard)
{
	shard->statement = (A67Statement){
		.sql = statement_sql(batch, shard->rows),
		.param_count = batch->tail_count + shard->rows * batch->target.column_count,
		.param_types = batch->types,
		.param_values = shard->values,
		.param_lengths = shard->lengths,
		.param_formats = shard->formats,
		.binary_result = batch->decoder != NULL && a67_decoder_binary(batch->decoder),
		.prepare = shard->rows == 1 || shard->rows == batch->rows_max,
		.effect = A67_EFFECT_WRITE,
	};
}

static void
keep_answers(A67InsertBatch *batch, Shard *shard, PGresult *result)
{
	TupleDesc desc = batch->target.returned;
	Datum *values = palloc(desc->natts * sizeof(Datum));
	bool *nulls = palloc(desc->natts * sizeof(bool));

	for (int row = 0; row < PQntuples(result); row++)
	{
		a67_decoder_shard(batch->decoder,
						  batch->target.table->database->shards[shard - batch->shards].name);
		a67_decode(batch->decoder, result, row, values, nulls);
		shard->answers = lappend(shard->answers, heap_form_minimal_tuple(desc, values, nulls));
	}
	pfree(values);
	pfree(nulls);
}

/* Sends the statements of `count` shards, waits, and returns rows stored. */
static int64
exchange(A67InsertBatch *batch, const A67Dispatch *dispatches, const int *indexes, int count)
{
	A67Fanout *fanout = a67_fanout_start(dispatches, count, NULL, NULL);
	PGresult *result;
	int64 stored;
	int which;

	while ((result = a67_fanout_next(fanout, &which)) != NULL)
		if (batch->decoder != NULL && !(batch->copies && indexes[which] > 0))
			keep_answers(batch, &batch->shards[indexes[which]], result);
	stored = a67_fanout_affected(fanout);
	if (batch->target.totals != NULL)
		a67_remote_totals_add(batch->target.totals, indexes, a67_fanout_use(fanout), count);
	a67_fanout_end(fanout);
	return stored;
}

/* The same rows to every shard. Answers and count are the first one's. */
static int64
send_copies(A67InsertBatch *batch)
{
	const A67Database *database = batch->target.table->database;
	A67Dispatch dispatches[A67_SHARDS_MAX];
	int indexes[A67_SHARDS_MAX];
	int64 stored;

	for (int i = 0; i < database->shard_count; i++)
	{
		dispatches[i] =
			(A67Dispatch){.target = &database->shards[i], .statement = &batch->shards[0].statement};
		indexes[i] = i;
	}
	make_statement(batch, &batch->shards[0]);
	stored = exchange(batch, dispatches, indexes, 1);
	if (database->shard_count > 1)
		(void) exchange(batch, dispatches + 1, indexes + 1, database->shard_count - 1);
	return stored;
}

static int64
send_parts(A67InsertBatch *batch, bool alone)
{
	const A67Database *database = batch->target.table->database;
	A67Dispatch dispatches[A67_SHARDS_MAX];
	int indexes[A67_SHARDS_MAX];
	int count = 0;

	for (int i = 0; i < database->shard_count; i++)
	{
		Shard *shard = &batch->shards[i];

		if (shard->rows == 0)
			continue;
		make_statement(batch, shard);
		dispatches[count] =
			(A67Dispatch){.target = &database->shards[i], .statement = &shard->statement};
		indexes[count++] = i;
	}
	if (count == 1)
		batch->shards[indexes[0]].statement.alone = alone;
	return count > 0 ? exchange(batch, dispatches, indexes, count) : 0;
}

int64
a67_insert_batch_send(A67InsertBatch *batch, bool alone)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	int64 stored = batch->copies ? send_copies(batch) : send_parts(batch, alone);

	MemoryContextSwitchTo(old);
	batch->sent = true;
	batch->in_order = true;
	for (int i = 0; i < batch->target.table->database->shard_count; i++)
		if (list_length(batch->shards[i].answers) != batch->shards[i].rows)
			batch->in_order = false;
	return stored;
}

/* ---- answers -------------------------------------------------------------------------------- */

/* The shard whose answer is next; NULL when there are no more. */
static Shard *
next_answered(A67InsertBatch *batch)
{
	if (batch->in_order)
	{
		if (batch->order_next == batch->order_count)
			return NULL;
		return &batch->shards[batch->order[batch->order_next++]];
	}
	for (int i = 0; i < batch->target.table->database->shard_count; i++)
		if (batch->shards[i].answered < list_length(batch->shards[i].answers))
			return &batch->shards[i];
	return NULL;
}

bool
a67_insert_batch_answer(A67InsertBatch *batch, TupleTableSlot *slot)
{
	Shard *shard;

	ExecClearTuple(slot);
	if (!batch->sent || batch->decoder == NULL)
		return false;
	shard = next_answered(batch);
	if (shard == NULL)
		return false;
	ExecForceStoreMinimalTuple(list_nth(shard->answers, shard->answered++), slot, false);
	return true;
}
