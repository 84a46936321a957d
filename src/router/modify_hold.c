/*
 * modify_hold.c - a plan node that reads its child to the end before it returns the first row; see
 * modify.h.
 *
 * A statement does not see its own changes. Here its changes are statements on shards, which later
 * reads of the same shards do see; so whatever the rows to change are computed from is read before
 * the first of them is changed. The rows lie in a tuplestore meanwhile: in memory up to work_mem,
 * then in a file.
 */
#include "postgres.h"

#include "router/modify.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "optimizer/optimizer.h"
#include "utils/tuplestore.h"

typedef struct HoldState
{
	CustomScanState custom; /* first: it is what the executor sees */
	Tuplestorestate *rows;	/* NULL: not read yet */
	TupleTableSlot *row;	/* reads from it; the scan's own slot is a virtual one */
} HoldState;

static Node *create_state(CustomScan *plan);

static const CustomScanMethods plan_methods = {
	.CustomName = "A67Hold",
	.CreateCustomScanState = create_state,
};

static PlanState *
child_of(CustomScanState *node)
{
	return linitial(node->custom_ps);
}

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	CustomScan *plan = castNode(CustomScan, node->ss.ps.plan);

	/* The child is read once, whatever happens to this node. */
	eflags &= ~(EXEC_FLAG_REWIND | EXEC_FLAG_BACKWARD | EXEC_FLAG_MARK);
	node->custom_ps = list_make1(ExecInitNode(linitial(plan->custom_plans), estate, eflags));
}

/* Called in the context of a row. */
static void
read_all(HoldState *state)
{
	PlanState *child = child_of(&state->custom);
	MemoryContext old = MemoryContextSwitchTo(state->custom.ss.ps.state->es_query_cxt);

	state->row = MakeSingleTupleTableSlot(
		CreateTupleDescCopy(state->custom.ss.ss_ScanTupleSlot->tts_tupleDescriptor),
		&TTSOpsMinimalTuple);
	state->rows = tuplestore_begin_heap(false, false, work_mem);
	MemoryContextSwitchTo(old);
	for (;;)
	{
		TupleTableSlot *row = ExecProcNode(child);

		if (TupIsNull(row))
			break;
		tuplestore_puttupleslot(state->rows, row);
	}
}

static TupleTableSlot *
next_row(ScanState *node)
{
	HoldState *state = (HoldState *) node;
	TupleTableSlot *slot = ExecClearTuple(node->ss_ScanTupleSlot);
	Size width = (Size) slot->tts_tupleDescriptor->natts;

	if (state->rows == NULL)
		read_all(state);
	if (!tuplestore_gettupleslot(state->rows, true, false, state->row))
		return slot;
	slot_getallattrs(state->row);
	memcpy(slot->tts_values, state->row->tts_values, width * sizeof(Datum));
	memcpy(slot->tts_isnull, state->row->tts_isnull, width * sizeof(bool));
	return ExecStoreVirtualTuple(slot);
}

static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
execute(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
forget(HoldState *state)
{
	if (state->rows == NULL)
		return;
	ExecDropSingleTupleTableSlot(state->row);
	tuplestore_end(state->rows);
	state->rows = NULL;
}

static void
rescan(CustomScanState *node)
{
	PlanState *child = child_of(node);

	forget((HoldState *) node);
	ExecScanReScan(&node->ss);
	if (node->ss.ps.chgParam != NULL)
		UpdateChangedParamSet(child, node->ss.ps.chgParam);
	if (child->chgParam == NULL)
		ExecReScan(child);
}

static void
end(CustomScanState *node)
{
	forget((HoldState *) node);
	ExecEndNode(child_of(node));
}

static const CustomExecMethods exec_methods = {
	.CustomName = "A67Hold",
	.BeginCustomScan = begin,
	.ExecCustomScan = execute,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan,
};

static Node *
create_state(CustomScan *plan)
{
	HoldState *state = (HoldState *) newNode(sizeof(HoldState), T_CustomScanState);

	state->custom.methods = &exec_methods;
	return (Node *) state;
}

Plan *
a67_modify_hold(Plan *plan)
{
	CustomScan *hold = makeNode(CustomScan);

	if (IsA(plan, CustomScan) && ((CustomScan *) plan)->methods == &plan_methods)
		return plan;
	hold->scan.plan.startup_cost = plan->total_cost;
	hold->scan.plan.total_cost = plan->total_cost + cpu_operator_cost * plan->plan_rows;
	hold->scan.plan.plan_rows = plan->plan_rows;
	hold->scan.plan.plan_width = plan->plan_width;
	hold->scan.plan.targetlist = copyObject(plan->targetlist);
	hold->custom_scan_tlist = copyObject(plan->targetlist);
	hold->custom_plans = list_make1(plan);
	hold->methods = &plan_methods;
	return &hold->scan.plan;
}
