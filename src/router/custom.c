/*
 * custom.c - the plan node that runs a statement on shards and returns what they answer.
 *
 * A custom scan over no relation, with an A67Remote in custom_private and the expressions of its
 * parameters and keys in custom_exprs. It stands for a whole statement (whole.c), which may change
 * rows, or for a part of a split one (combine.c). Everything that happens at execution is
 * remote.c's; this file ties it to the executor: rows, counts of changed rows, EXPLAIN.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#include "router/planner.h"

typedef struct RemoteState
{
	CustomScanState custom; /* first: it is what the executor sees */
	A67Remote *remote;
	A67RemoteScan *scan;
	bool finished; /* a statement without rows has run */
} RemoteState;

static Node *create_state(CustomScan *plan);

static const CustomScanMethods plan_methods = {
	.CustomName = "A67Remote",
	.CreateCustomScanState = create_state,
};

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	RemoteState *state = (RemoteState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	state->remote = a67_remote_unpack(plan->custom_private);
	state->scan = a67_remote_begin(state->remote, plan->custom_exprs, &node->ss.ps,
								   node->ss.ss_ScanTupleSlot->tts_tupleDescriptor);
	if ((eflags & EXEC_FLAG_REWIND) != 0)
		a67_remote_keep(state->scan);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	RemoteState *state = (RemoteState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (!a67_remote_next(state->scan, slot))
		return ExecClearTuple(slot);
	if (state->remote->command != CMD_SELECT)
		node->ps.state->es_processed++;
	return slot;
}

/* Rows of shards are never fetched again one by one. */
static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
execute(CustomScanState *node)
{
	RemoteState *state = (RemoteState *) node;

	if (state->remote->returns)
		return ExecScan(&node->ss, next_row, recheck_row);
	if (!state->finished)
	{
		state->finished = true;
		node->ss.ps.state->es_processed += a67_remote_run(state->scan);
	}
	return NULL;
}

static void
rescan(CustomScanState *node)
{
	RemoteState *state = (RemoteState *) node;

	ExecScanReScan(&node->ss);
	a67_remote_rescan(state->scan);
}

static void
end(CustomScanState *node)
{
	RemoteState *state = (RemoteState *) node;

	if (state->scan != NULL)
		a67_remote_end(state->scan);
}

static void
explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	a67_remote_explain(((RemoteState *) node)->scan, es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "A67Remote",
	.BeginCustomScan = begin,
	.ExecCustomScan = execute,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan,
	.ExplainCustomScan = explain,
};

static Node *
create_state(CustomScan *plan)
{
	RemoteState *state = (RemoteState *) newNode(sizeof(*state), T_CustomScanState);

	state->custom.methods = &exec_methods;
	return (Node *) state;
}

CustomScan *
a67_custom_scan(const A67Remote *remote, List *exprs, List *scan_tlist)
{
	CustomScan *scan = makeNode(CustomScan);
	ListCell *cell;

	foreach(cell, scan_tlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, cell);
		Expr *expr = tle->expr;
		Var *var = makeVar(INDEX_VAR, tle->resno, exprType((Node *) expr),
						   exprTypmod((Node *) expr), exprCollation((Node *) expr), 0);
		TargetEntry *output = flatCopyTargetEntry(tle);

		output->expr = (Expr *) var;
		scan->scan.plan.targetlist = lappend(scan->scan.plan.targetlist, output);
	}
	scan->custom_scan_tlist = scan_tlist;
	scan->custom_exprs = exprs;
	scan->custom_private = a67_remote_pack(remote);
	scan->methods = &plan_methods;
	return scan;
}

void
a67_custom_register(void)
{
	RegisterCustomScanMethods(&plan_methods);
}
