/*
 * modify_copies.c - changes of the copies of a row of a reference table; see modify.h.
 *
 * A ctid says nothing on other shards, and this server does not know which columns are unique: a
 * copy is the row with the same values, and of several such rows any one, so that all shards keep
 * the same rows whatever their order is.
 */
#include "postgres.h"

#include "router/modify.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "router/modify_text.h"
#include "router/remote.h"

struct A67ModifyCopies
{
	const A67Table *table;
	const char *set;
	int set_count;
	TupleDesc desc;
	List *columns; /* that a row is known by */
	bool *by_text; /* of each: its type has no equality */
	Datum *values; /* of the row as it was */
	bool *nulls;
	Oid *types; /* of SET's parameters, then of the columns that are not null */

	/* For rows that are null where the last one was */
	MemoryContext context;
	bool *known_nulls;
	const char *sql; /* NULL: none yet */
	A67Encoder *encoder;
};

A67ModifyCopies *
a67_modify_copies(const A67Table *table, const char *set, int count, const Oid *types,
				  TupleDesc desc)
{
	A67ModifyCopies *copies = palloc0(sizeof(A67ModifyCopies));

	copies->table = table;
	copies->set = set;
	copies->set_count = count;
	copies->desc = desc;
	copies->by_text = palloc0(desc->natts * sizeof(bool));
	copies->values = palloc0(desc->natts * sizeof(Datum));
	copies->nulls = palloc0(desc->natts * sizeof(bool));
	copies->known_nulls = palloc0(desc->natts * sizeof(bool));
	copies->types = palloc0((count + desc->natts) * sizeof(Oid));
	memcpy(copies->types, types, count * sizeof(Oid));
	copies->context =
		AllocSetContextCreate(CurrentMemoryContext, "a67 copies of a row", ALLOCSET_SMALL_SIZES);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			continue;
		copies->by_text[list_length(copies->columns)] =
			!OidIsValid(lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR)->eq_opr);
		copies->columns = lappend_int(copies->columns, attribute->attnum);
	}
	return copies;
}

static Datum
as_text(Oid type, Datum value)
{
	Oid function;
	bool is_varlena;

	getTypeOutputInfo(type, &function, &is_varlena);
	return CStringGetTextDatum(OidOutputFunctionCall(function, value));
}

void
a67_modify_copies_old(A67ModifyCopies *copies, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum *values = palloc(copies->desc->natts * sizeof(Datum));
	bool *nulls = palloc(copies->desc->natts * sizeof(bool));
	ListCell *cell;

	heap_deform_tuple(&tuple, copies->desc, values, nulls);
	foreach(cell, copies->columns)
	{
		int i = foreach_current_index(cell);
		int place = lfirst_int(cell) - 1;

		copies->nulls[i] = nulls[place];
		copies->values[i] = values[place];
		if (copies->by_text[i] && !nulls[place])
			copies->values[i] =
				as_text(TupleDescAttr(copies->desc, place)->atttypid, values[place]);
	}
}

/* Text and encoder for rows with these nulls. */
static void
prepare(A67ModifyCopies *copies)
{
	int columns = list_length(copies->columns);
	int count = copies->set_count;
	MemoryContext old;
	ListCell *cell;

	if (copies->sql != NULL &&
		memcmp(copies->nulls, copies->known_nulls, columns * sizeof(bool)) == 0)
		return;
	MemoryContextReset(copies->context);
	old = MemoryContextSwitchTo(copies->context);
	memcpy(copies->known_nulls, copies->nulls, columns * sizeof(bool));
	copies->sql = psprintf("%s%s", copies->set,
						   a67_text_same_row(copies->table->relid, copies->columns, copies->nulls,
											 copies->by_text, count + 1));
	foreach(cell, copies->columns)
	{
		int i = foreach_current_index(cell);

		if (!copies->nulls[i])
			copies->types[count++] =
				copies->by_text[i] ? TEXTOID
								   : TupleDescAttr(copies->desc, lfirst_int(cell) - 1)->atttypid;
	}
	copies->encoder = a67_encoder(count, copies->types);
	MemoryContextSwitchTo(old);
}

static void
encode(A67ModifyCopies *copies, const Datum *values, const bool *nulls, A67Statement *statement)
{
	int columns = list_length(copies->columns);
	Datum *all = palloc((copies->set_count + columns) * sizeof(Datum));
	bool *all_nulls = palloc0((copies->set_count + columns) * sizeof(bool));
	int count = copies->set_count;

	memcpy(all, values, count * sizeof(Datum));
	memcpy(all_nulls, nulls, count * sizeof(bool));
	for (int i = 0; i < columns; i++)
	{
		if (!copies->nulls[i])
			all[count++] = copies->values[i];
	}
	a67_encode(copies->encoder, all, all_nulls, statement);
}

int64
a67_modify_copies_change(A67ModifyCopies *copies, const Datum *values, const bool *nulls,
						 int64 first)
{
	const A67Database *database = copies->table->database;
	int count = database->shard_count - 1;
	A67Statement statement = {.prepare = true, .effect = A67_EFFECT_WRITE};
	A67Dispatch dispatches[A67_SHARDS_MAX];
	A67Fanout *fanout;

	if (first == 0 || count == 0)
		return first;
	prepare(copies);
	statement.sql = copies->sql;
	encode(copies, values, nulls, &statement);
	for (int i = 0; i < count; i++)
		dispatches[i] = (A67Dispatch){.target = &database->shards[i + 1], .statement = &statement};
	fanout = a67_fanout_start(dispatches, count, NULL, NULL);
	for (int i = 0; i < count; i++)
	{
		if (a67_fanout_affected_by(fanout, i) != 1)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("copies of reference table \"%s\" differ",
							get_rel_name(copies->table->relid)),
					 errdetail("Shard \"%s\" does not have a row that shard \"%s\" has.",
							   database->shards[i + 1].name, database->shards[0].name),
					 errhint("Somebody changed the table on one shard alone. Make the copies "
							 "equal again.")));
	}
	a67_fanout_end(fanout);
	return first;
}
