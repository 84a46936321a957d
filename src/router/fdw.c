/*
 * fdw.c - wrapper a67_fdw: its routines, and how its scans run; planning is in fdw_plan.c, changes
 * are in modify.c.
 *
 * A scan's rows are those of an A67RemoteScan with only the columns that the plan wants; the others
 * are null. Scans for UPDATE and DELETE carry where a row is: ctid, and the id of its shard in the
 * place of cmin.
 */
#include "postgres.h"

#include "router/fdw.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "router/combine_join.h"
#include "router/modify.h"
#include "router/remote_run.h"

typedef struct FdwScanState
{
	A67RemoteScan *remote;
	const A67Database *database;
	A67RemoteRow row;
	int count;			 /* columns fetched */
	AttrNumber *attnums; /* of each; ctid is the last */
	bool has_ctid;
	bool locates; /* for a node that changes rows */
} FdwScanState;

static TupleDesc
fetched_desc(TupleDesc desc, List *attnums)
{
	TupleDesc fetched = CreateTemplateTupleDesc(list_length(attnums));
	AttrNumber place = 1;
	ListCell *cell;

	foreach(cell, attnums)
	{
		if (lfirst_int(cell) > 0)
			TupleDescCopyEntry(fetched, place, desc, (AttrNumber) lfirst_int(cell));
		else
			TupleDescInitEntry(fetched, place, "ctid", TIDOID, -1, 0);
		place++;
	}
	return fetched;
}

static void
begin_scan(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
	List *attnums = (List *) lsecond(plan->fdw_private);
	FdwScanState *state = palloc0(sizeof(FdwScanState));
	A67Remote *remote = a67_remote_unpack((List *) linitial(plan->fdw_private));
	TupleDesc desc = RelationGetDescr(node->ss.ss_currentRelation);
	ListCell *cell;

	state->count = list_length(attnums);
	state->attnums = palloc(state->count * sizeof(AttrNumber));
	foreach(cell, attnums)
		state->attnums[foreach_current_index(cell)] = (AttrNumber) lfirst_int(cell);
	state->has_ctid = state->count > 0 && state->attnums[state->count - 1] < 0;
	state->locates = state->has_ctid && remote->effect == A67_EFFECT_LOCK;
	state->row.values = palloc(state->count * sizeof(Datum));
	state->row.nulls = palloc(state->count * sizeof(bool));
	state->database = a67_table(remote->relid)->database;
	state->remote =
		a67_remote_begin(remote, plan->fdw_exprs, &node->ss.ps, fetched_desc(desc, attnums));
	if ((eflags & EXEC_FLAG_REWIND) != 0)
		a67_remote_keep(state->remote);
	node->fdw_state = state;
}

/* Only a heap tuple has system columns. */
static void
store_located(const FdwScanState *state, TupleTableSlot *slot, ItemPointer ctid)
{
	HeapTuple tuple =
		heap_form_tuple(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);

	tuple->t_self = *ctid;
	tuple->t_data->t_ctid = *ctid;
	HeapTupleHeaderSetXmin(tuple->t_data, InvalidTransactionId);
	HeapTupleHeaderSetXmax(tuple->t_data, InvalidTransactionId);
	HeapTupleHeaderSetCmin(tuple->t_data,
						   (CommandId) state->database->shards[state->row.shard].shard_id);
	ExecStoreHeapTuple(tuple, slot, false);
}

static TupleTableSlot *
next_row(ForeignScanState *node)
{
	FdwScanState *state = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	ItemPointer ctid = NULL;

	ExecClearTuple(slot);
	if (!a67_remote_fetch(state->remote, &state->row))
		return slot;
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	for (int i = 0; i < state->count; i++)
	{
		int place = state->attnums[i] - 1;

		if (place < 0)
		{
			ctid = (ItemPointer) DatumGetPointer(state->row.values[i]);
			continue;
		}
		slot->tts_values[place] = state->row.values[i];
		slot->tts_isnull[place] = state->row.nulls[i];
	}
	if (state->locates && ctid != NULL)
		store_located(state, slot, ctid);
	else
		ExecStoreVirtualTuple(slot);
	if (ctid != NULL)
		slot->tts_tid = *ctid;
	return slot;
}

static void
rescan(ForeignScanState *node)
{
	a67_remote_rescan(((FdwScanState *) node->fdw_state)->remote);
}

static void
end_scan(ForeignScanState *node)
{
	if (node->fdw_state != NULL)
		a67_remote_end(((FdwScanState *) node->fdw_state)->remote);
}

static void
explain_scan(ForeignScanState *node, ExplainState *es)
{
	a67_remote_explain(((FdwScanState *) node->fdw_state)->remote, es);
}

PG_FUNCTION_INFO_V1(a67_sql_fdw_handler);

/* _fdw_handler() returns fdw_handler */
Datum
a67_sql_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	a67_fdw_plan_routines(routine);
	routine->GetForeignJoinPaths = a67_join_paths;
	routine->BeginForeignScan = begin_scan;
	routine->IterateForeignScan = next_row;
	routine->ReScanForeignScan = rescan;
	routine->EndForeignScan = end_scan;
	routine->ExplainForeignScan = explain_scan;
	routine->AnalyzeForeignTable = a67_fdw_analyze;
	routine->ExecForeignTruncate = a67_fdw_truncate;
	a67_modify_plan_routines(routine);
	a67_modify_routines(routine);
	PG_RETURN_POINTER(routine);
}
