/*
 * modify.c - rows that are changed one by one, on the shards that they are on; see modify.h.
 *
 * A row that keeps its shard is changed by ctid. One whose key now belongs to another shard is
 * deleted here and inserted there, in one transaction. A row of a reference table is changed by
 * ctid on the first shard, which says whether it is still there; then its copies on the other
 * shards, found by their values, must be there too. New values were computed once, before.
 */
#include "postgres.h"

#include "router/modify.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "router/fdw.h"
#include "router/insert.h"
#include "router/modify_text.h"

/* Rows of one INSERT, and values that fit into its 65,535 parameters. */
#define ROWS_MAX   1000
#define PARAMS_MAX 65535

typedef struct ModifyState
{
	A67ModifyPlan *plan;
	const A67Table *table;
	Relation relation;
	MemoryContext context;
	MemoryContext row_context; /* what one change needs */
	A67ModifyQueue *queue;	   /* NULL: every row is waited for */
	A67InsertBatch *insert;	   /* rows of INSERT, and those that move */
	TupleDesc returned;		   /* of the columns that come back; NULL: nothing does */
	TupleTableSlot *answer;	   /* reads what INSERT brings back */
	A67Decoder *decoder;
	A67Encoder *by_ctid; /* set columns, then ctid */
	A67ModifyCopies *copies;
	const char *sql;
	const char *sql_delete;
	A67Encoder *ctid_only;
	AttrNumber ctid_attno; /* in the source's rows */
	AttrNumber shard_attno;
	AttrNumber row_attno;
} ModifyState;

/* ---- beginning and end */

static TupleDesc
columns_desc(TupleDesc desc, List *columns)
{
	TupleDesc result = CreateTemplateTupleDesc(list_length(columns));
	ListCell *cell;

	foreach(cell, columns)
		TupleDescCopyEntry(result, (AttrNumber) (foreach_current_index(cell) + 1), desc,
						   (AttrNumber) lfirst_int(cell));
	return result;
}

static Oid *
column_types(TupleDesc desc, List *columns)
{
	Oid *types = palloc((list_length(columns) + 1) * sizeof(Oid));
	ListCell *cell;

	foreach(cell, columns)
		types[foreach_current_index(cell)] = TupleDescAttr(desc, lfirst_int(cell) - 1)->atttypid;
	return types;
}

A67InsertBatch *
a67_modify_insert(const A67ModifyPlan *plan, const A67Table *table, TupleDesc desc,
				  TupleDesc returned)
{
	A67InsertTarget target = {
		.table = table,
		.head = plan->insert,
		.tail = psprintf("%s%s", plan->conflict, plan->returning),
		.column_count = list_length(plan->insert_columns),
		.column_types = column_types(desc, plan->insert_columns),
		.returned = returned,
	};

	target.single = a67_insert_sql(target.head, target.tail, 0, target.column_count, 1);
	return a67_insert_batch(&target);
}

static void
begin_insert(ModifyState *state)
{
	state->insert = a67_modify_insert(state->plan, state->table, RelationGetDescr(state->relation),
									  state->returned);
	if (state->returned != NULL)
		state->answer = MakeSingleTupleTableSlot(state->returned, &TTSOpsVirtual);
}

/* UPDATE and DELETE: statements by ctid, which is the last parameter. */
static void
begin_change(ModifyState *state)
{
	TupleDesc desc = RelationGetDescr(state->relation);
	int count = list_length(state->plan->set_columns);
	Oid *types = column_types(desc, state->plan->set_columns);
	Oid tid = TIDOID;

	types[count] = TIDOID;
	state->by_ctid = a67_encoder(count + 1, types);
	state->sql =
		psprintf("%s WHERE ctid = $%d%s", state->plan->set, count + 1, state->plan->returning);
	if (state->plan->moves)
	{
		state->ctid_only = a67_encoder(1, &tid);
		state->sql_delete =
			psprintf("%s WHERE ctid = $1", a67_text_change(state->table->relid, NIL));
	}
	if (state->table->strategy == A67_REFERENCE)
		state->copies = a67_modify_copies(state->table, state->plan->set, count, types, desc);
	if (state->plan->queued)
		state->queue = a67_modify_queue(state->plan, state->table, desc);
}

static void
find_places(ModifyState *state, List *tlist)
{
	state->ctid_attno = ExecFindJunkAttributeInTlist(tlist, A67_MODIFY_CTID);
	state->shard_attno = ExecFindJunkAttributeInTlist(tlist, A67_MODIFY_SHARD);
	state->row_attno = ExecFindJunkAttributeInTlist(tlist, A67_MODIFY_ROW);
	if (!AttributeNumberIsValid(state->ctid_attno) || !AttributeNumberIsValid(state->shard_attno))
		elog(ERROR, "rows to change do not say where they are");
}

static ModifyState *
make_state(A67ModifyPlan *plan, ResultRelInfo *info)
{
	ModifyState *state = palloc0(sizeof(ModifyState));

	state->plan = plan;
	state->relation = info->ri_RelationDesc;
	state->table = a67_table(RelationGetRelid(state->relation));
	state->context = CurrentMemoryContext;
	state->row_context =
		AllocSetContextCreate(state->context, "a67 change of a row", ALLOCSET_SMALL_SIZES);
	if (plan->has_returning)
	{
		state->returned = columns_desc(RelationGetDescr(state->relation), plan->returned);
		state->decoder = a67_decoder(state->returned);
	}
	info->ri_FdwState = state;
	return state;
}

static void
begin(ModifyTableState *node, ResultRelInfo *info, List *packed, int place, int eflags)
{
	ModifyState *state;

	if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) != 0)
		return;
	state = make_state(a67_modify_unpack(packed), info);
	if (state->plan->insert[0] != '\0')
		begin_insert(state);
	if (state->plan->operation == CMD_INSERT)
		return;
	find_places(state, outerPlanState(node)->plan->targetlist);
	begin_change(state);
}

/* Rows that a partitioned table routes here, and COPY. */
static void
begin_routed(ModifyTableState *node, ResultRelInfo *info)
{
	ModifyTable *above = castNode(ModifyTable, node->ps.plan);
	A67ModifyPlan *plan;

	if (info->ri_FdwState != NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("rows cannot move into virtual table \"%s\", which the same "
							   "statement updates",
							   RelationGetRelationName(info->ri_RelationDesc))));
	plan = a67_modify_insert_plan(info->ri_RelationDesc,
								  above == NULL ? ONCONFLICT_NONE : above->onConflictAction,
								  info->ri_returningList != NIL);
	begin_insert(make_state(plan, info));
}

static void
end(EState *estate, ResultRelInfo *info)
{
	ModifyState *state = info->ri_FdwState;

	if (state != NULL && state->queue != NULL)
		a67_modify_queue_finish(state->queue);
}

static void
end_routed(EState *estate, ResultRelInfo *info)
{
	info->ri_FdwState = NULL;
}

/* ---- rows */

/* Values of columns, where they lie in the slot. */
static void
take_columns(TupleTableSlot *slot, List *columns, Datum *values, bool *nulls)
{
	ListCell *cell;

	if (columns != NIL)
		slot_getallattrs(slot);
	foreach(cell, columns)
	{
		values[foreach_current_index(cell)] = slot->tts_values[lfirst_int(cell) - 1];
		nulls[foreach_current_index(cell)] = slot->tts_isnull[lfirst_int(cell) - 1];
	}
}

/* Puts what came back over what was sent. */
static void
merge_returned(const ModifyState *state, TupleTableSlot *slot, const Datum *values,
			   const bool *nulls)
{
	int natts = slot->tts_tupleDescriptor->natts;
	MemoryContext old = MemoryContextSwitchTo(slot->tts_mcxt);
	HeapTuple tuple;
	Datum *all = palloc0(natts * sizeof(Datum));
	bool *all_nulls = palloc(natts * sizeof(bool));
	ListCell *cell;

	memset(all_nulls, true, natts * sizeof(bool));
	foreach(cell, state->plan->returned)
	{
		all[lfirst_int(cell) - 1] = values[foreach_current_index(cell)];
		all_nulls[lfirst_int(cell) - 1] = nulls[foreach_current_index(cell)];
	}
	tuple = heap_form_tuple(slot->tts_tupleDescriptor, all, all_nulls);
	pfree(all);
	pfree(all_nulls);
	MemoryContextSwitchTo(old);
	ExecForceStoreHeapTuple(tuple, slot, true);
}

static int
new_shard(const ModifyState *state, TupleTableSlot *slot)
{
	bool is_null;
	Datum key;

	if (state->table->strategy == A67_REFERENCE)
		return 0;
	if (state->table->strategy == A67_LOCAL)
		return state->table->home;
	key = slot_getattr(slot, state->table->key, &is_null);
	return a67_insert_shard(state->table, key, is_null);
}

static void
add_row(ModifyState *state, TupleTableSlot *slot)
{
	int count = list_length(state->plan->insert_columns);
	MemoryContext old = MemoryContextSwitchTo(state->row_context);
	Datum *values = palloc(count * sizeof(Datum));
	bool *nulls = palloc(count * sizeof(bool));

	take_columns(slot, state->plan->insert_columns, values, nulls);
	a67_insert_batch_add(state->insert, new_shard(state, slot), values, nulls);
	MemoryContextSwitchTo(old);
}

/* ---- INSERT */

static TupleTableSlot **
insert_rows(EState *estate, ResultRelInfo *info, TupleTableSlot **slots,
			TupleTableSlot **plan_slots, int *count)
{
	ModifyState *state = info->ri_FdwState;
	int64 stored = 0;

	MemoryContextReset(state->row_context);
	for (int i = 0; i < *count; i++)
	{
		(void) a67_insert_batch_next(state->insert);
		add_row(state, slots[i]);
		if (a67_insert_batch_full(state->insert) || i + 1 == *count)
			stored += a67_insert_batch_send(state->insert, false);
	}
	*count = (int) stored;
	return slots;
}

static TupleTableSlot *
insert_row(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	ModifyState *state = info->ri_FdwState;
	int count = 1;

	(void) insert_rows(estate, info, &slot, &plan_slot, &count);
	if (count == 0)
		return NULL;
	if (state->returned != NULL && a67_insert_batch_answer(state->insert, state->answer))
		merge_returned(state, slot, state->answer->tts_values, state->answer->tts_isnull);
	return slot;
}

/* Rows come one by one where each is asked about. */
static int
batch_size(ResultRelInfo *info)
{
	ModifyState *state = info->ri_FdwState;
	TriggerDesc *triggers = info->ri_TrigDesc;

	if (info->ri_projectReturning != NULL || info->ri_WithCheckOptions != NIL ||
		(triggers != NULL && (triggers->trig_insert_before_row || triggers->trig_insert_after_row)))
		return 1;
	if (state == NULL)
		return ROWS_MAX;
	return Max(1, Min(ROWS_MAX, PARAMS_MAX / Max(1, list_length(state->plan->insert_columns))));
}

/* ---- UPDATE and DELETE */

static ItemPointer
row_ctid(const ModifyState *state, TupleTableSlot *plan_slot)
{
	bool is_null;
	Datum ctid = ExecGetJunkAttribute(plan_slot, state->ctid_attno, &is_null);

	if (is_null)
		elog(ERROR, "ctid is NULL");
	return (ItemPointer) DatumGetPointer(ctid);
}

static int
row_shard(const ModifyState *state, TupleTableSlot *plan_slot)
{
	bool is_null;
	Datum shard = ExecGetJunkAttribute(plan_slot, state->shard_attno, &is_null);
	int index =
		is_null ? -1 : a67_shard_index(state->table->database, (int32) DatumGetCommandId(shard));

	if (index < 0)
		elog(ERROR, "a row to change is on no shard");
	return index;
}

/* Runs a statement on one shard; what comes back goes into the slot. Rows changed. */
static int64
run_on(ModifyState *state, int shard, A67Statement *statement, TupleTableSlot *slot)
{
	A67Dispatch dispatch = {.target = &state->table->database->shards[shard],
							.statement = statement};
	A67Fanout *fanout = a67_fanout_start(&dispatch, 1, NULL, NULL);
	PGresult *result;
	int which;
	int64 changed;

	while ((result = a67_fanout_next(fanout, &which)) != NULL)
	{
		Datum *values = palloc(state->returned->natts * sizeof(Datum));
		bool *nulls = palloc(state->returned->natts * sizeof(bool));

		if (PQntuples(result) == 0 || slot == NULL)
			continue;
		a67_decoder_shard(state->decoder, dispatch.target->name);
		a67_decode(state->decoder, result, 0, values, nulls);
		merge_returned(state, slot, values, nulls);
	}
	changed = a67_fanout_affected(fanout);
	a67_fanout_end(fanout);
	return changed;
}

static int64
change_by_ctid(ModifyState *state, int shard, TupleTableSlot *slot, ItemPointer ctid)
{
	int count = list_length(state->plan->set_columns);
	Datum *values = palloc((count + 1) * sizeof(Datum));
	bool *nulls = palloc((count + 1) * sizeof(bool));
	A67Statement statement = {
		.sql = state->sql,
		.binary_result = state->returned != NULL && a67_decoder_binary(state->decoder),
		.prepare = true,
		.effect = A67_EFFECT_WRITE,
	};

	take_columns(slot, state->plan->set_columns, values, nulls);
	values[count] = PointerGetDatum(ctid);
	nulls[count] = false;
	a67_encode(state->by_ctid, values, nulls, &statement);
	if (state->copies != NULL)
		return a67_modify_copies_change(state->copies, values, nulls,
										run_on(state, shard, &statement, slot));
	return run_on(state, shard, &statement, slot);
}

/* The row goes to another shard. False when it was gone already. */
static bool
move_row(ModifyState *state, int from, TupleTableSlot *slot, ItemPointer ctid)
{
	Datum value = PointerGetDatum(ctid);
	bool is_null = false;
	A67Statement statement = {
		.sql = state->sql_delete,
		.prepare = true,
		.effect = A67_EFFECT_WRITE,
	};

	a67_encode(state->ctid_only, &value, &is_null, &statement);
	if (run_on(state, from, &statement, NULL) == 0)
		return false;
	(void) a67_insert_batch_next(state->insert);
	add_row(state, slot);
	(void) a67_insert_batch_send(state->insert, false);
	if (state->returned != NULL && a67_insert_batch_answer(state->insert, state->answer))
		merge_returned(state, slot, state->answer->tts_values, state->answer->tts_isnull);
	return true;
}

/* Into the queue; true unless the row was there before. */
static bool
queue_row(ModifyState *state, int shard, TupleTableSlot *slot, ItemPointer ctid, bool delete)
{
	int to = state->plan->moves ? new_shard(state, slot) : shard;
	List *columns = to != shard ? state->plan->insert_columns : state->plan->set_columns;
	Datum *values = palloc(list_length(columns) * sizeof(Datum));
	bool *nulls = palloc(list_length(columns) * sizeof(bool));

	if (delete)
		return a67_modify_queue_change(state->queue, shard, ctid, NULL, NULL);
	take_columns(slot, columns, values, nulls);
	if (to == shard)
		return a67_modify_queue_change(state->queue, shard, ctid, values, nulls);
	if (!a67_modify_queue_change(state->queue, shard, ctid, NULL, NULL))
		return false;
	a67_modify_queue_insert(state->queue, to, values, nulls);
	return true;
}

static TupleTableSlot *
change_row(ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot, bool delete)
{
	ModifyState *state = info->ri_FdwState;
	int shard = row_shard(state, plan_slot);
	ItemPointer ctid = row_ctid(state, plan_slot);
	MemoryContext old;
	bool changed;

	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	if (state->copies != NULL)
	{
		bool is_null;

		a67_modify_copies_old(state->copies,
							  ExecGetJunkAttribute(plan_slot, state->row_attno, &is_null));
	}
	if (state->queue != NULL)
		changed = queue_row(state, shard, slot, ctid, delete);
	else if (!delete &&state->plan->moves && new_shard(state, slot) != shard)
		changed = move_row(state, shard, slot, ctid);
	else
		changed = change_by_ctid(state, shard, slot, ctid) > 0;
	MemoryContextSwitchTo(old);
	return changed ? slot : NULL;
}

static TupleTableSlot *
update_row(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	return change_row(info, slot, plan_slot, false);
}

static TupleTableSlot *
delete_row(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	return change_row(info, slot, plan_slot, true);
}

void
a67_modify_routines(FdwRoutine *routine)
{
	routine->BeginForeignModify = begin;
	routine->ExecForeignInsert = insert_row;
	routine->ExecForeignBatchInsert = insert_rows;
	routine->GetForeignModifyBatchSize = batch_size;
	routine->ExecForeignUpdate = update_row;
	routine->ExecForeignDelete = delete_row;
	routine->EndForeignModify = end;
	routine->BeginForeignInsert = begin_routed;
	routine->EndForeignInsert = end_routed;
}
