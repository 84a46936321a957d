/*
 * insert.c - the node that stores rows on shards; see insert.h.
 *
 * Pulls rows from its child, finds the shard of each and hands them to insert_batch.c, which it has send them when a batch is full and
 * at the end. A statement with one row that is the whole transaction is one round trip. Rows that are computed from
 * the table itself are all computed before the first is sent, as later ones would see earlier ones.
 */
#include "postgres.h"

#include "router/insert.h"

#include "access/xact.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "router/planner.h"

typedef struct InsertState
{
	CustomScanState css;
	A67InsertPlan *plan;
	const A67Table *table;
	List *tail_exprs; /* ExprState */
	A67Statement tail_values;
	A67InsertBatch *batch; /* NULL until the first row */
	Datum *values;		   /* of one row, the columns that are sent */
	bool *nulls;
	A67InsertTwice *twice; /* DO UPDATE of several rows */
	bool single;		   /* the child gives one row, by its kind */
	bool finished;		   /* the child has no more */
	bool sent;
	Tuplestorestate *held;
	TupleTableSlot *held_slot;
	A67RemoteTotals *totals;
} InsertState;

static Node *create_state(CustomScan *scan);
static void begin_insert(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_insert(CustomScanState *node);
static void end_insert(CustomScanState *node);
static void rescan_insert(CustomScanState *node);
static void explain_insert(CustomScanState *node, List *ancestors, ExplainState *es);

static const CustomScanMethods scan_methods = {
	.CustomName = "A67Insert",
	.CreateCustomScanState = create_state,
};

static const CustomExecMethods exec_methods = {
	.CustomName = "A67Insert",
	.BeginCustomScan = begin_insert,
	.ExecCustomScan = exec_insert,
	.EndCustomScan = end_insert,
	.ReScanCustomScan = rescan_insert,
	.ExplainCustomScan = explain_insert,
};

/* ---- the plan -------------------------------------------------------------------------------- */

List *
a67_insert_pack(const A67InsertPlan *plan)
{
	return list_make5(list_make3(makeString(plan->head), makeString(plan->tail),
								 makeString(plan->single)),
					  plan->columns, list_make1_oid(plan->relid),
					  list_make2_int(plan->hold, plan->alone), plan->arbiter);
}

A67InsertPlan *
a67_insert_unpack(List *packed)
{
	A67InsertPlan *plan = palloc(sizeof(A67InsertPlan));
	List *texts = linitial(packed);

	*plan = (A67InsertPlan){
		.head = strVal(linitial(texts)),
		.tail = strVal(lsecond(texts)),
		.single = strVal(lthird(texts)),
		.columns = lsecond(packed),
		.relid = linitial_oid(lthird(packed)),
		.hold = linitial_int(lfourth(packed)) != 0,
		.alone = lsecond_int(lfourth(packed)) != 0,
		.arbiter = list_nth(packed, 4),
	};
	return plan;
}

CustomScan *
a67_insert_scan(void)
{
	CustomScan *scan = makeNode(CustomScan);

	scan->methods = &scan_methods;
	return scan;
}

/* ---- beginning and end */

static Node *
create_state(CustomScan *scan)
{
	InsertState *state = (InsertState *) newNode(sizeof(InsertState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

static void
begin_insert(CustomScanState *node, EState *estate, int eflags)
{
	InsertState *state = (InsertState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	Plan *child = linitial(scan->custom_plans);
	int count;

	state->plan = a67_insert_unpack(scan->custom_private);
	state->table = a67_table(state->plan->relid);
	if (state->table == NULL)
		elog(ERROR, "relation %u is no virtual table", state->plan->relid);
	node->custom_ps = list_make1(ExecInitNode(child, estate, eflags));
	state->tail_exprs = ExecInitExprList(scan->custom_exprs, &node->ss.ps);
	state->single = IsA(child, Result) && outerPlan(child) == NULL &&
					((Result *) child)->resconstantqual == NULL;
	count = list_length(state->plan->columns);
	state->values = palloc(count * sizeof(Datum));
	state->nulls = palloc(count * sizeof(bool));
	if (estate->es_instrument != 0)
		state->totals = palloc0(sizeof(A67RemoteTotals));
}

static void
end_insert(CustomScanState *node)
{
	InsertState *state = (InsertState *) node;

	if (state->held != NULL)
		tuplestore_end(state->held);
	if (state->held_slot != NULL)
		ExecDropSingleTupleTableSlot(state->held_slot);
	ExecEndNode(linitial(node->custom_ps));
}

static void
rescan_insert(CustomScanState *node)
{
	elog(ERROR, "an INSERT cannot be run twice");
}

/* Values of the tail's parameters: evaluated once, as they do not depend on rows. */
static void
evaluate_tail(InsertState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	int count = list_length(state->tail_exprs);
	Datum *values = palloc(count * sizeof(Datum));
	bool *nulls = palloc(count * sizeof(bool));
	Oid *types = palloc(count * sizeof(Oid));
	ListCell *lc;

	foreach(lc, state->tail_exprs)
	{
		int i = foreach_current_index(lc);
		ExprState *expr = lfirst(lc);

		types[i] = exprType((Node *) expr->expr);
		values[i] = ExecEvalExpr(expr, econtext, &nulls[i]);
	}
	a67_encode(a67_encoder(count, types), values, nulls, &state->tail_values);
}

static void
begin_batch(InsertState *state, TupleDesc row)
{
	CustomScan *scan = (CustomScan *) state->css.ss.ps.plan;
	MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
	Oid *types = palloc(list_length(state->plan->columns) * sizeof(Oid));
	A67InsertTarget target = {
		.table = state->table,
		.head = state->plan->head,
		.tail = state->plan->tail,
		.single = state->plan->single,
		.column_count = list_length(state->plan->columns),
		.column_types = types,
		.totals = state->totals,
	};
	ListCell *lc;

	foreach(lc, state->plan->columns)
		types[foreach_current_index(lc)] = TupleDescAttr(row, lfirst_int(lc) - 1)->atttypid;
	if (state->tail_exprs != NIL)
	{
		evaluate_tail(state);
		target.tail_values = &state->tail_values;
	}
	if (scan->custom_scan_tlist != NIL)
		target.returned = state->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor;
	state->batch = a67_insert_batch(&target);
	if (state->plan->arbiter != NIL && !state->single &&
		!list_member_int(state->plan->arbiter, A67_ARBITER_OTHER))
		state->twice = a67_insert_twice(state->plan->arbiter, row);
	MemoryContextSwitchTo(old);
}

/* ---- rows -------------------------------------------------------------------------------- */

/* Runs the child to its end before anything is sent. */
static void
hold_rows(InsertState *state)
{
	PlanState *child = linitial(state->css.custom_ps);
	MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
	TupleTableSlot *slot;

	state->held = tuplestore_begin_heap(false, false, work_mem);
	state->held_slot = MakeSingleTupleTableSlot(ExecGetResultType(child), &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(old);
	while (slot = ExecProcNode(child), !TupIsNull(slot))
		tuplestore_puttupleslot(state->held, slot);
}

static TupleTableSlot *
next_row(InsertState *state)
{
	TupleTableSlot *slot;

	if (!state->plan->hold)
		slot = ExecProcNode(linitial(state->css.custom_ps));
	else
	{
		if (state->held == NULL)
			hold_rows(state);
		(void) tuplestore_gettupleslot(state->held, true, false, state->held_slot);
		slot = state->held_slot;
	}
	if (TupIsNull(slot))
		return NULL;
	slot_getallattrs(slot);
	return slot;
}

/* Index of the row's shard. */
static int
shard_of(const A67Table *table, TupleTableSlot *slot)
{
	if (table->strategy == A67_LOCAL)
		return table->home;
	if (table->strategy == A67_REFERENCE)
		return 0;
	return a67_insert_shard(table, slot->tts_values[table->key - 1],
							slot->tts_isnull[table->key - 1]);
}

/* Keeps the row in the batch. Unless it is the only one, the child may free its values with the next. */
static void
keep_row(InsertState *state, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(a67_insert_batch_next(state->batch));
	ListCell *lc;

	foreach(lc, state->plan->columns)
	{
		int from = lfirst_int(lc) - 1;
		int to = foreach_current_index(lc);
		Form_pg_attribute column = TupleDescAttr(slot->tts_tupleDescriptor, from);
		Datum value = slot->tts_values[from];

		state->nulls[to] = slot->tts_isnull[from];
		if (!state->single && !state->nulls[to] && !column->attbyval)
			value = datumCopy(value, false, column->attlen);
		state->values[to] = value;
	}
	if (state->twice != NULL)
		a67_insert_twice_check(state->twice, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
	a67_insert_batch_add(state->batch, shard_of(state->table, slot), state->values, state->nulls);
}

/*
 * Whether what is sent now is all that the local transaction does. A transaction ID says that a function in the statement
 * wrote something here; net knows what functions did on shards.
 */
static bool
is_all_there_is(const InsertState *state)
{
	return state->finished && state->plan->alone &&
		   !TransactionIdIsValid(GetTopTransactionIdIfAny()) && a67_alone(state->css.ss.ps.state);
}

static pg_attribute_noreturn() void refuse_more(void)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		 errmsg(
			 "too many rows for ON CONFLICT DO UPDATE with an expression or a condition in its target"),
		 errdetail("Whether a row is proposed twice can only be told of columns."),
		 errhint("Insert up to 1000 rows with one statement, or name columns only.")));
}

/* Takes rows until a batch is full or there are no more, and sends them. */
static void
insert_some(InsertState *state)
{
	EState *estate = state->css.ss.ps.state;
	TupleTableSlot *slot;
	bool any = false;

	while (!state->finished)
	{
		slot = next_row(state);
		if (slot == NULL)
		{
			state->finished = true;
			break;
		}
		CHECK_FOR_INTERRUPTS();
		if (state->batch == NULL)
			begin_batch(state, slot->tts_tupleDescriptor);
		else if (state->sent && list_member_int(state->plan->arbiter, A67_ARBITER_OTHER))
			refuse_more();
		keep_row(state, slot);
		any = true;
		state->finished = state->single;
		if (a67_insert_batch_full(state->batch))
			break;
	}
	if (any)
		estate->es_processed +=
			a67_insert_batch_send(state->batch, !state->sent && is_all_there_is(state));
	state->sent = true;
}

static TupleTableSlot *
exec_insert(CustomScanState *node)
{
	InsertState *state = (InsertState *) node;
	ExprContext *econtext = node->ss.ps.ps_ExprContext;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	bool returning = node->ss.ps.plan->targetlist != NIL;

	ResetExprContext(econtext);
	while (!returning || state->batch == NULL || !a67_insert_batch_answer(state->batch, slot))
	{
		if (state->finished)
			return NULL;
		insert_some(state);
	}
	if (node->ss.ps.ps_ProjInfo == NULL)
		return slot;
	econtext->ecxt_scantuple = slot;
	return ExecProject(node->ss.ps.ps_ProjInfo);
}

static void
explain_insert(CustomScanState *node, List *ancestors, ExplainState *es)
{
	InsertState *state = (InsertState *) node;
	const A67Table *table = state->table;
	A67Remote remote = {.sql = state->plan->single,
						.relid = state->plan->relid,
						.where = table->key != 0 ? A67_WHERE_KEY : A67_WHERE_LIST,
						.command = CMD_INSERT,
						.strategy = "insert"};

	for (int i = 0; i < table->database->shard_count && table->key == 0; i++)
		if (table->strategy == A67_REFERENCE || i == table->home)
			remote.shard_ids = lappend_int(remote.shard_ids, table->database->shards[i].shard_id);
	a67_remote_describe(&remote, state->totals, es);
}
