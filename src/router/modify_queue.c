/*
 * modify_queue.c - changes of many rows, one statement for each shard; see modify.h.
 *
 * For each shard there are rows to delete and rows to update; when there are enough of either, all
 * shards get theirs at once, as arrays. Rows to insert go after deletions, so that a key can move
 * to the place of one that moves away. What was found twice by a join is changed once, as in any
 * PostgreSQL.
 */
#include "postgres.h"

#include "router/modify.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "router/modify_text.h"
#include "router/remote.h"
#include "router/wire.h"

#define ROWS_MAX  1000				/* of one statement */
#define BYTES_MAX (4 * 1024 * 1024) /* kept, all shards together */

/* How a column's values come in an array. */
typedef struct Column
{
	int16 len;
	bool by_value;
	char align;
	Oid type; /* of the array's elements */
	char *cast;
	Oid output; /* to text; invalid: as they are */
} Column;

/* Rows of one shard that get the same statement. */
typedef struct Rows
{
	int count;
	ItemPointerData *ctids;
	Datum **values; /* of each column; NULL for deletions */
	bool **nulls;
} Rows;

typedef struct Change
{
	A67Encoder *encoder; /* an array of ctids, then arrays of the columns */
	const char *sql;
	int columns;
	Rows *rows; /* by shard index */
} Change;

/* Key of `seen`: no padding. */
typedef struct Place
{
	int32 shard;
	uint16 block_hi;
	uint16 block_lo;
	uint16 offset;
	uint16 unused;
} Place;

struct A67ModifyQueue
{
	const A67Table *table;
	MemoryContext context;	   /* the queue's own */
	MemoryContext row_context; /* what is waiting to be sent */
	Column *columns;
	Change update;
	Change delete;
	A67InsertBatch *insert; /* NULL: rows do not move */
	List *insert_columns;
	TupleDesc desc;
	bool insert_waits;
	HTAB *seen;
};

/* ---- beginning */

static void
begin_column(Column *column, const A67Database *database, Oid type)
{
	Oid base = getBaseType(type);
	bool is_varlena;

	/*
	 * Arrays of arrays would come apart, and types of users have no number that shards know: these
	 * travel as text.
	 */
	if (a67_wire_builtin(base) && !OidIsValid(get_element_type(base)) &&
		OidIsValid(get_array_type(base)))
		column->type = base;
	else
	{
		column->type = TEXTOID;
		column->cast = a67_text_type(database, type);
		getTypeOutputInfo(base, &column->output, &is_varlena);
	}
	get_typlenbyvalalign(column->type, &column->len, &column->by_value, &column->align);
}

static void
begin_change(A67ModifyQueue *queue, Change *change, List *columns)
{
	int count = list_length(columns);
	Oid *types = palloc((count + 1) * sizeof(Oid));
	char **casts = palloc0((count + 1) * sizeof(char *));

	types[0] = get_array_type(TIDOID);
	for (int i = 0; i < count; i++)
	{
		types[i + 1] = get_array_type(queue->columns[i].type);
		casts[i] = queue->columns[i].cast;
	}
	change->columns = count;
	change->encoder = a67_encoder(count + 1, types);
	change->sql = a67_text_change_many(queue->table->relid, columns, casts);
	change->rows = palloc0(queue->table->database->shard_count * sizeof(Rows));
}

A67ModifyQueue *
a67_modify_queue(const A67ModifyPlan *plan, const A67Table *table, TupleDesc desc)
{
	A67ModifyQueue *queue = palloc0(sizeof(A67ModifyQueue));
	HASHCTL control = {.keysize = sizeof(Place), .entrysize = sizeof(Place)};
	ListCell *cell;

	queue->table = table;
	queue->insert_columns = plan->insert_columns;
	queue->desc = desc;
	queue->context = CurrentMemoryContext;
	queue->row_context =
		AllocSetContextCreate(queue->context, "a67 changes", ALLOCSET_DEFAULT_SIZES);
	queue->columns = palloc0(list_length(plan->set_columns) * sizeof(Column) + 1);
	foreach(cell, plan->set_columns)
		begin_column(&queue->columns[foreach_current_index(cell)], table->database,
					 TupleDescAttr(desc, lfirst_int(cell) - 1)->atttypid);
	if (plan->operation == CMD_UPDATE)
		begin_change(queue, &queue->update, plan->set_columns);
	if (plan->operation == CMD_DELETE || plan->moves)
		begin_change(queue, &queue->delete, NIL);
	if (plan->moves)
		queue->insert = a67_modify_insert(plan, table, desc, NULL);
	control.hcxt = queue->context;
	if (plan->joined)
		queue->seen =
			hash_create("a67 changed rows", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return queue;
}

/* ---- sending */

static Datum
ctid_array(const Rows *rows)
{
	Datum *values = palloc(rows->count * sizeof(Datum));

	for (int i = 0; i < rows->count; i++)
		values[i] = PointerGetDatum(&rows->ctids[i]);
	return PointerGetDatum(construct_array(values, rows->count, TIDOID, sizeof(ItemPointerData),
										   false, TYPALIGN_SHORT));
}

static Datum
column_array(const Column *column, const Rows *rows, int which)
{
	int lower = 1;
	int count = rows->count;

	return PointerGetDatum(construct_md_array(rows->values[which], rows->nulls[which], 1, &count,
											  &lower, column->type, column->len, column->by_value,
											  column->align));
}

static void
make_statement(A67ModifyQueue *queue, Change *change, const Rows *rows, A67Statement *statement)
{
	Datum *values = palloc((change->columns + 1) * sizeof(Datum));
	bool *nulls = palloc0((change->columns + 1) * sizeof(bool));

	values[0] = ctid_array(rows);
	for (int i = 0; i < change->columns; i++)
		values[i + 1] = column_array(&queue->columns[i], rows, i);
	*statement = (A67Statement){
		.sql = change->sql,
		.prepare = true,
		.effect = A67_EFFECT_WRITE,
	};
	a67_encode(change->encoder, values, nulls, statement);
}

/* All shards at once. */
static void
send_change(A67ModifyQueue *queue, Change *change)
{
	const A67Database *database = queue->table->database;
	A67Dispatch dispatches[A67_SHARDS_MAX];
	A67Statement *statements = palloc(database->shard_count * sizeof(A67Statement));
	A67Fanout *fanout;
	int count = 0;

	for (int i = 0; change->rows != NULL && i < database->shard_count; i++)
	{
		if (change->rows[i].count == 0)
			continue;
		make_statement(queue, change, &change->rows[i], &statements[count]);
		dispatches[count] =
			(A67Dispatch){.target = &database->shards[i], .statement = &statements[count]};
		count++;
	}
	if (count == 0)
		return;
	fanout = a67_fanout_start(dispatches, count, NULL, NULL);
	(void) a67_fanout_affected(fanout);
	a67_fanout_end(fanout);
	memset(change->rows, 0, database->shard_count * sizeof(Rows));
}

/* A row whose change is waiting must not be inserted before others have left its place. */
static void
flush(A67ModifyQueue *queue)
{
	MemoryContext old = MemoryContextSwitchTo(queue->row_context);

	send_change(queue, &queue->delete);
	send_change(queue, &queue->update);
	if (queue->insert_waits)
		(void) a67_insert_batch_send(queue->insert, false);
	queue->insert_waits = false;
	MemoryContextSwitchTo(old);
	MemoryContextReset(queue->row_context);
}

void
a67_modify_queue_finish(A67ModifyQueue *queue)
{
	flush(queue);
}

/* ---- filling */

static bool
seen_before(A67ModifyQueue *queue, int shard, ItemPointer ctid)
{
	Place place = {
		.shard = shard,
		.block_hi = ctid->ip_blkid.bi_hi,
		.block_lo = ctid->ip_blkid.bi_lo,
		.offset = ctid->ip_posid,
	};
	bool found = false;

	if (queue->seen != NULL)
		(void) hash_search(queue->seen, &place, HASH_ENTER, &found);
	return found;
}

static void
make_room(Rows *rows, int columns)
{
	if (rows->ctids != NULL)
		return;
	rows->ctids = palloc(ROWS_MAX * sizeof(ItemPointerData));
	rows->values = palloc((columns + 1) * sizeof(Datum *));
	rows->nulls = palloc((columns + 1) * sizeof(bool *));
	for (int i = 0; i < columns; i++)
	{
		rows->values[i] = palloc(ROWS_MAX * sizeof(Datum));
		rows->nulls[i] = palloc(ROWS_MAX * sizeof(bool));
	}
}

static Datum
keep_value(const Column *column, Datum value)
{
	if (OidIsValid(column->output))
		return CStringGetTextDatum(a67_wire_output(column->output, value));
	if (column->len == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, column->by_value, column->len);
}

/* A place for the row in what its shard gets. */
static int
add_place(A67ModifyQueue *queue, Change *change, Rows *rows, ItemPointer ctid)
{
	MemoryContext old = MemoryContextSwitchTo(queue->row_context);

	make_room(rows, change->columns);
	MemoryContextSwitchTo(old);
	rows->ctids[rows->count] = *ctid;
	return rows->count++;
}

static void
add_values(A67ModifyQueue *queue, Rows *rows, int place, const Datum *values, const bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(queue->row_context);

	for (int i = 0; i < queue->update.columns; i++)
	{
		rows->nulls[i][place] = nulls[i];
		rows->values[i][place] = nulls[i] ? (Datum) 0 : keep_value(&queue->columns[i], values[i]);
	}
	MemoryContextSwitchTo(old);
}

bool
a67_modify_queue_change(A67ModifyQueue *queue, int shard, ItemPointer ctid, const Datum *values,
						const bool *nulls)
{
	Change *change = values == NULL ? &queue->delete : &queue->update;
	Rows *rows = &change->rows[shard];
	int place;

	if (seen_before(queue, shard, ctid))
		return false;
	place = add_place(queue, change, rows, ctid);
	if (values != NULL)
		add_values(queue, rows, place, values, nulls);
	if (rows->count == ROWS_MAX || MemoryContextMemAllocated(queue->row_context, false) > BYTES_MAX)
		flush(queue);
	return true;
}

void
a67_modify_queue_insert(A67ModifyQueue *queue, int shard, const Datum *values, const bool *nulls)
{
	int count = list_length(queue->insert_columns);
	MemoryContext old = MemoryContextSwitchTo(a67_insert_batch_next(queue->insert));
	Datum *copies = palloc0(count * sizeof(Datum));
	ListCell *cell;

	foreach(cell, queue->insert_columns)
	{
		Form_pg_attribute attribute = TupleDescAttr(queue->desc, lfirst_int(cell) - 1);
		int i = foreach_current_index(cell);

		if (!nulls[i])
			copies[i] = datumCopy(values[i], attribute->attbyval, attribute->attlen);
	}
	MemoryContextSwitchTo(old);
	a67_insert_batch_add(queue->insert, shard, copies, nulls);
	queue->insert_waits = true;
	if (a67_insert_batch_full(queue->insert))
		flush(queue);
}
