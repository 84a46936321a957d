/*
 * remote.c - a run of an A67Remote: parameters, shards, rows; see remote.h.
 *
 * Memory: what lives as long as the plan node is in the context that a67_remote_begin was called
 * in; what lives as long as one run (parameters, fan-out, rows that were put aside) in
 * `run_context`; one row in `row_context`. A node that runs once, as those of point queries do,
 * needs no context but the last, and that only for values that are not passed by value.
 *
 * Rows are put aside in a tuplestore when somebody else needs a connection that still has some
 * (drain), and when they will be read again (keep). The extra last column of the store is the shard
 * that a row came from.
 */
#include "postgres.h"

#include "router/remote.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/tuplestore.h"

#include "platform/errors.h"
#include "router/remote_run.h"

typedef struct ParamState
{
	ExprState *state;
	Oid type;
} ParamState;

struct A67RemoteScan
{
	const A67Remote *remote;
	PlanState *parent;
	MemoryContext context;
	MemoryContext run_context;
	MemoryContext row_context;
	ResourceOwner owner;
	ParamState *params; /* parameters, then keys */
	A67Encoder *encoder;
	A67Decoder *decoder;
	TupleDesc desc;

	/* the run */
	bool started;
	bool rewinds; /* said to be read more than once */
	bool keep;	  /* rows of this run */
	A67Statement statement;
	A67Dispatch *dispatches;
	int *shards; /* of each dispatch: index */
	int count;
	int sent;		   /* dispatches that went out */
	int base;		   /* the first of those in the fan-out */
	A67Fanout *fanout; /* NULL: nothing was sent, or it is over */
	int64 affected;	   /* by the first of copies */
	PGresult *result;
	int row;   /* next in result */
	int which; /* dispatch that it is of */
	Tuplestorestate *store;
	TupleTableSlot *stored; /* reads from it */
	bool complete;			/* all rows are in the store */
	A67RemoteTotals *totals;
};

/* ---- beginning and end */

static void
begin_params(A67RemoteScan *scan, List *exprs)
{
	int count = list_length(exprs);
	Oid *types = palloc(count * sizeof(Oid));
	int i = 0;
	ListCell *cell;

	Assert(count == scan->remote->param_count + scan->remote->key_count);
	scan->params = palloc(count * sizeof(ParamState));
	foreach(cell, exprs)
	{
		Expr *expr = (Expr *) lfirst(cell);

		types[i] = exprType((Node *) expr);
		scan->params[i] = (ParamState){
			.state = ExecInitExpr(expr, scan->parent),
			.type = types[i],
		};
		i++;
	}
	scan->encoder = a67_encoder(scan->remote->param_count, types);
}

A67RemoteScan *
a67_remote_begin(const A67Remote *remote, List *exprs, PlanState *parent, TupleDesc desc)
{
	A67RemoteScan *scan = palloc0(sizeof(A67RemoteScan));

	scan->remote = remote;
	scan->parent = parent;
	scan->context = CurrentMemoryContext;
	scan->owner = CurrentResourceOwner;
	scan->desc = desc;
	begin_params(scan, exprs);
	if (remote->returns)
		scan->decoder = a67_decoder(desc);
	if (parent->state->es_instrument != 0)
		scan->totals = palloc0(sizeof(A67RemoteTotals));
	return scan;
}

void
a67_remote_keep(A67RemoteScan *scan)
{
	scan->rewinds = scan->keep = true;
}

static MemoryContext
row_context(A67RemoteScan *scan)
{
	if (scan->row_context == NULL)
		scan->row_context =
			AllocSetContextCreate(scan->context, "a67 remote row", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(scan->row_context);
	return scan->row_context;
}

static void
end_fanout(A67RemoteScan *scan)
{
	if (scan->fanout == NULL)
		return;
	if (scan->totals != NULL)
		a67_remote_totals_add(scan->totals, scan->shards + scan->base, a67_fanout_use(scan->fanout),
							  scan->sent - scan->base);
	a67_fanout_end(scan->fanout);
	scan->fanout = NULL;
	scan->result = NULL;
}

/* The first run lives in the node's own context; those after it in one that goes with them. */
static void
end_run(A67RemoteScan *scan)
{
	end_fanout(scan);
	if (scan->store != NULL)
		tuplestore_end(scan->store);
	scan->store = NULL;
	scan->complete = false;
	scan->started = false;
	if (scan->run_context != NULL)
		MemoryContextReset(scan->run_context);
	else
		scan->run_context =
			AllocSetContextCreate(scan->context, "a67 remote run", ALLOCSET_DEFAULT_SIZES);
}

static MemoryContext
run_context(const A67RemoteScan *scan)
{
	return scan->run_context != NULL ? scan->run_context : scan->context;
}

/* ---- where to send it */

static Datum
evaluate(A67RemoteScan *scan, int which, bool *is_null)
{
	return ExecEvalExpr(scan->params[which].state, scan->parent->ps_ExprContext, is_null);
}

static Bitmapset *
find_shards(A67RemoteScan *scan, const A67Table *table)
{
	const A67Remote *remote = scan->remote;
	A67RemoteKey *keys = palloc(remote->key_count * sizeof(A67RemoteKey));

	for (int i = 0; i < remote->key_count; i++)
	{
		keys[i].value = evaluate(scan, remote->param_count + i, &keys[i].is_null);
		keys[i].type = scan->params[remote->param_count + i].type;
	}
	return a67_remote_shards(remote, table, keys, scan->parent->state->es_param_list_info);
}

/* ---- sending */

static void
make_statement(A67RemoteScan *scan)
{
	const A67Remote *remote = scan->remote;
	Datum *values = palloc(remote->param_count * sizeof(Datum));
	bool *nulls = palloc(remote->param_count * sizeof(bool));

	for (int i = 0; i < remote->param_count; i++)
		values[i] = evaluate(scan, i, &nulls[i]);
	scan->statement = (A67Statement){
		.sql = remote->sql,
		.effect = remote->effect,
		.prepare = remote->prepare,
		.binary_result = remote->returns && a67_decoder_binary(scan->decoder),
		.alone = remote->whole && scan->count == 1 && a67_alone(scan->parent->state),
	};
	a67_encode(scan->encoder, values, nulls, &scan->statement);
}

static void drain(void *owner);

/*
 * Copies are changed on the first shard before the others: writers of the same row meet there, not
 * on several shards at once.
 */
static void
send(A67RemoteScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(run_context(scan));

	scan->base = scan->sent;
	scan->sent = scan->remote->copies && scan->base == 0 ? 1 : scan->count;
	scan->fanout =
		a67_fanout_start(scan->dispatches + scan->base, scan->sent - scan->base, drain, scan);
	MemoryContextSwitchTo(old);
}

/* When the first is done. False when there are no others. */
static bool
send_rest(A67RemoteScan *scan)
{
	if (scan->sent == scan->count)
		return false;
	scan->affected = a67_fanout_affected(scan->fanout);
	end_fanout(scan);
	send(scan);
	return true;
}

/* Whether the error means that the shard is not to be had. */
static bool
is_unavailable(int sqlstate)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_CONNECTION_EXCEPTION ||
		   sqlstate == A67_ERRCODE_UNAVAILABLE || sqlstate == ERRCODE_TOO_MANY_CONNECTIONS;
}

/*
 * A read that every shard can answer alike: when one is not to be had before it sent a row, the next
 * is asked. The part of net's work that failed is cleared away with the run's memory.
 */
static void
send_to_any(A67RemoteScan *scan, const A67Database *database)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int left = database->shard_count;

	while (scan->result == NULL && left > 0)
	{
		left--;
		PG_TRY();
		{
			scan->sent = 0;
			send(scan);
			scan->result = a67_fanout_next(scan->fanout, &scan->which);
			scan->row = 0;
			left = 0;
		}
		PG_CATCH();
		{
			int next = (scan->shards[0] + 1) % database->shard_count;

			if (left == 0 || !is_unavailable(geterrcode()) || IsTransactionBlock())
				PG_RE_THROW();
			MemoryContextSwitchTo(context);
			FlushErrorState();
			scan->fanout = NULL;
			scan->shards[0] = next;
			scan->dispatches[0].target = &database->shards[next];
		}
		PG_END_TRY();
	}
	if (scan->result != NULL)
		a67_decoder_shard(scan->decoder, scan->dispatches[0].target->name);
}

static void
start(A67RemoteScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(run_context(scan));
	const A67Table *table = a67_table(scan->remote->relid);
	Bitmapset *shards;
	int shard = -1;

	if (table == NULL)
		elog(ERROR, "relation %u is no virtual table", scan->remote->relid);
	shards = find_shards(scan, table);
	scan->started = true;
	scan->count = bms_num_members(shards);
	scan->complete = scan->count == 0;
	if (scan->count > 0)
	{
		make_statement(scan);
		scan->dispatches = palloc(scan->count * sizeof(A67Dispatch));
		scan->shards = palloc(scan->count * sizeof(int));
		for (int i = 0; (shard = bms_next_member(shards, shard)) >= 0; i++)
		{
			scan->shards[i] = shard;
			scan->dispatches[i] = (A67Dispatch){
				.target = &table->database->shards[shard],
				.statement = &scan->statement,
			};
		}
		scan->sent = 0;
		if (scan->remote->where == A67_WHERE_ANY && scan->remote->effect == A67_EFFECT_READ)
			send_to_any(scan, table->database);
		else
			send(scan);
	}
	MemoryContextSwitchTo(old);
}

/* ---- rows */

/* The next row from the shards: in scan->result at scan->row - 1; false when there are no more. */
static bool
advance(A67RemoteScan *scan)
{
	int which = 0;

	for (;;)
	{
		if (scan->result != NULL && scan->row < PQntuples(scan->result))
		{
			scan->row++;
			return true;
		}
		scan->result = NULL;
		if (scan->fanout == NULL)
			return false;
		scan->result = a67_fanout_next(scan->fanout, &which);
		if (scan->result == NULL && !send_rest(scan))
			return false;
		scan->row = 0;
		scan->which = scan->base + which;
		if (scan->remote->copies && scan->which != 0)
			scan->result = NULL;
		a67_decoder_shard(scan->decoder, scan->dispatches[scan->which].target->name);
	}
}

static void
make_store(A67RemoteScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(run_context(scan));
	ResourceOwner old_owner = CurrentResourceOwner;

	CurrentResourceOwner = scan->owner;
	scan->store = tuplestore_begin_heap(scan->keep, false, work_mem);
	CurrentResourceOwner = old_owner;
	MemoryContextSwitchTo(scan->context);
	if (scan->stored == NULL)
	{
		int width = scan->desc->natts;
		TupleDesc desc = CreateTemplateTupleDesc(width + 1);

		for (int i = 1; i <= width; i++)
			TupleDescCopyEntry(desc, (AttrNumber) i, scan->desc, (AttrNumber) i);
		TupleDescInitEntry(desc, (AttrNumber) (width + 1), "shard", INT4OID, -1, 0);
		scan->stored = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	}
	MemoryContextSwitchTo(old);
}

/* Puts all rows that are still to come into the store. */
static void
put_aside(A67RemoteScan *scan)
{
	int width = scan->desc->natts;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "a67 remote rows aside",
												  ALLOCSET_DEFAULT_SIZES);
	Datum *values = palloc((width + 1) * sizeof(Datum));
	bool *nulls = palloc((width + 1) * sizeof(bool));

	if (scan->store == NULL)
		make_store(scan);
	nulls[width] = false;
	while (advance(scan))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		a67_decode(scan->decoder, scan->result, scan->row - 1, values, nulls);
		values[width] = Int32GetDatum(scan->shards[scan->which]);
		tuplestore_putvalues(scan->store, scan->stored->tts_tupleDescriptor, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	scan->complete = true;
	pfree(values);
	pfree(nulls);
	MemoryContextDelete(context);
}

/* Somebody else needs a connection of ours. */
static void
drain(void *owner)
{
	A67RemoteScan *scan = owner;

	if (scan->remote->returns && scan->fanout != NULL && !scan->complete)
		put_aside(scan);
}

bool
a67_remote_fetch(A67RemoteScan *scan, A67RemoteRow *row)
{
	MemoryContext old;

	if (!scan->started)
	{
		start(scan);
		if (scan->keep && !scan->complete)
			put_aside(scan);
	}
	if (scan->store != NULL)
	{
		int width = scan->desc->natts;

		if (!tuplestore_gettupleslot(scan->store, true, false, scan->stored))
			return false;
		slot_getallattrs(scan->stored);
		memcpy(row->values, scan->stored->tts_values, width * sizeof(Datum));
		memcpy(row->nulls, scan->stored->tts_isnull, width * sizeof(bool));
		row->shard = DatumGetInt32(scan->stored->tts_values[width]);
		return true;
	}
	if (!advance(scan))
		return false;
	old = MemoryContextSwitchTo(row_context(scan));
	a67_decode(scan->decoder, scan->result, scan->row - 1, row->values, row->nulls);
	MemoryContextSwitchTo(old);
	row->shard = scan->shards[scan->which];
	return true;
}

bool
a67_remote_next(A67RemoteScan *scan, TupleTableSlot *slot)
{
	A67RemoteRow row = {.values = slot->tts_values, .nulls = slot->tts_isnull, .shard = -1};

	ExecClearTuple(slot);
	if (!a67_remote_fetch(scan, &row))
		return false;
	ExecStoreVirtualTuple(slot);
	return true;
}

/* Copies that are equal change alike. */
static void
check_copies(A67RemoteScan *scan)
{
	for (int i = 0; i < scan->sent - scan->base; i++)
	{
		if (a67_fanout_affected_by(scan->fanout, i) == scan->affected)
			continue;
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("copies of reference table \"%s\" differ",
							   get_rel_name(scan->remote->relid)),
						errdetail("Shards \"%s\" and \"%s\" have different rows.",
								  scan->dispatches[0].target->name,
								  scan->dispatches[scan->base + i].target->name),
						errhint("Somebody changed the table on one shard alone. Make the copies "
								"equal again.")));
	}
}

/* All of a write that is still to be done. Rows changed. */
static int64
finish_write(A67RemoteScan *scan)
{
	int64 affected;

	if (scan->fanout == NULL)
		return 0;
	affected = a67_fanout_affected(scan->fanout);
	(void) send_rest(scan);
	if (!scan->remote->copies || scan->base == 0)
		return affected;
	check_copies(scan);
	return scan->affected;
}

int64
a67_remote_run(A67RemoteScan *scan)
{
	Assert(!scan->remote->returns);
	if (!scan->started)
		start(scan);
	return finish_write(scan);
}

/*
 * Rows that were kept are read again. Rows that were not are asked for again, with new parameters if
 * they changed; if they did not, it may go on like that, and this time they are kept.
 */
void
a67_remote_rescan(A67RemoteScan *scan)
{
	bool same = scan->parent->chgParam == NULL;

	if (!scan->started)
		return;
	if (scan->keep && scan->complete && same)
	{
		if (scan->store != NULL)
			tuplestore_rescan(scan->store);
		return;
	}
	end_run(scan);
	scan->keep = same || scan->rewinds;
}

/* A write has happened whole, even when nobody wants the rest of its rows. */
void
a67_remote_end(A67RemoteScan *scan)
{
	if (scan->started && scan->remote->effect == A67_EFFECT_WRITE)
		(void) finish_write(scan);
	end_run(scan);
	if (scan->stored != NULL)
		ExecDropSingleTupleTableSlot(scan->stored);
	scan->stored = NULL;
}

void
a67_remote_explain(A67RemoteScan *scan, ExplainState *es)
{
	/* What it did is known when it is over. A write that nobody read to the end still goes on. */
	if (scan->remote->effect != A67_EFFECT_WRITE || scan->sent == scan->count)
		end_fanout(scan);
	a67_remote_describe(scan->remote, scan->totals, es);
}
