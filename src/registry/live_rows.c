/*
 * live_rows.c - from the tables of nodes to the live table: triggers and rebuilds.
 *
 * Triggers note what a transaction changes; a rebuild reads everything, in batches, while transactions go on
 * publishing. It is right because facts have versions, and because it starts over when, meanwhile, a node
 * was dropped or facts found no node: its snapshot may be older than those. Nodes that were in the table
 * before it began and have no row are taken out at its end.
 */
#include "postgres.h"

#include "registry/live_rows.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "platform/settings.h"
#include "platform/shmem.h"
#include "registry/live_pending.h"
#include "registry/live_table.h"

#define BATCH		   1000
#define REBUILDS_TRIED 5

static const char *const tables[A67_FACTS_KINDS] = {
	[A67_FACTS_NODE] = "node",
	[A67_FACTS_OBSERVED] = "node_observed",
	[A67_FACTS_RESERVED] = "node_reserved",
};

/* ---- reading everything ------------------------------------------------------------------------ */

/* The owner of the tables, so that row-level security and grants do not narrow what is read. */
static Oid
tables_owner(void)
{
	Oid schema = get_namespace_oid("a67_internal", false);
	Oid table = get_relname_relid(tables[A67_FACTS_NODE], schema);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table a67_internal.%s is missing", tables[A67_FACTS_NODE]);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
read_table(A67FactsKind kind, A67FactsSink sink, void *arg)
{
	StringInfoData query;
	SPIPlanPtr plan;
	Portal portal;
	int numbers[A67_FACTS_COLUMNS_MAX];

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	for (int i = 0; a67_facts_columns[kind][i] != NULL; i++)
	{
		appendStringInfo(&query, "%st.%s", i > 0 ? ", " : "", a67_facts_columns[kind][i]);
		numbers[i] = i + 1;
	}
	appendStringInfo(&query, " FROM a67_internal.%s t", tables[kind]);
	if (kind == A67_FACTS_NODE)
		appendStringInfoString(&query, " WHERE t.desired_state OPERATOR(pg_catalog.<>) 'removed'");
	plan = SPI_prepare(query.data, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query.data);
	/* Read-only: with the snapshot that is active, the same for all three tables. */
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, BATCH);
		if (SPI_processed == 0)
			break;
		CHECK_FOR_INTERRUPTS();
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			A67NodeFacts facts;

			a67_facts_read(kind, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, numbers, &facts);
			sink(&facts, arg);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

void
a67_live_as_owner(void (*body)(void *arg), void *arg)
{
	Oid user;
	int context;

	/* An error restores the user with the transaction. */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(tables_owner(), context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	body(arg);
	SPI_finish();
	SetUserIdAndSecContext(user, context);
}

typedef struct Reading
{
	A67FactsSink sink;
	void *arg;
} Reading;

static void
read_tables(void *arg)
{
	const Reading *reading = arg;

	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	for (int kind = 0; kind < A67_FACTS_KINDS; kind++)
		read_table((A67FactsKind) kind, reading->sink, reading->arg);
	PopActiveSnapshot();
}

void
a67_live_rows(A67FactsSink sink, void *arg)
{
	Reading reading = {sink, arg};

	a67_live_as_owner(read_tables, &reading);
}

/* ---- rebuilding -------------------------------------------------------------------------------- */

typedef struct Batch
{
	uint32 generation;
	int count;
	A67NodeFacts facts[BATCH];
} Batch;

static void
flush_batch(Batch *batch)
{
	A67LiveHeader *header = a67_live_header;
	uint64 missed;

	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	missed = header->missed;
	for (int i = 0; i < batch->count; i++)
	{
		uint32 place;

		a67_live_publish(&batch->facts[i]);
		place = a67_live_place(batch->facts[i].traits.id);
		if (place != A67_NO_PLACE && batch->facts[i].kind == A67_FACTS_NODE)
			a67_live_slots[place].seen = batch->generation;
	}
	/* Rows of removed nodes, and of nodes without room, are no news. */
	header->missed = missed;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	batch->count = 0;
}

static void
to_batch(const A67NodeFacts *facts, void *arg)
{
	Batch *batch = arg;

	batch->facts[batch->count++] = *facts;
	if (batch->count == BATCH)
		flush_batch(batch);
}

/* Takes out the nodes that had a place when the rebuild began, and no row. */
static void
sweep(uint32 generation)
{
	for (uint32 i = 0; i < a67_live_header->used; i++)
	{
		A67LiveSlot *slot = &a67_live_slots[i];

		if ((a67_live_nodes[i].flags & A67_NODE_USED) && slot->made < generation &&
			slot->seen < generation)
			a67_live_remove(slot->traits.id);
	}
}

/* One pass over the rows. Returns whether nothing happened that makes another one necessary. */
static bool
rebuild_once(Batch *batch)
{
	A67LiveHeader *header = a67_live_header;
	uint64 epoch;
	uint64 missed;
	bool quiet;

	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	batch->generation = ++header->generation;
	batch->count = 0;
	epoch = a67_live_epoch();
	missed = header->missed;
	header->overflowed = false;
	LWLockRelease(a67_lock(A67_LOCK_LIVE));

	a67_live_rows(to_batch, batch);
	flush_batch(batch);

	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
	quiet = a67_live_epoch() == epoch && header->missed == missed;
	if (quiet)
	{
		bool overflowed = header->overflowed;

		sweep(batch->generation);
		header->built = true;
		header->overflowed = overflowed;
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return quiet;
}

bool
a67_live_built(void)
{
	return a67_live_header != NULL && a67_live_header->built;
}

bool
a67_live_rebuild(void)
{
	Batch *batch;

	if (!a67_live_home() || RecoveryInProgress())
		return false;
	if (a67_live_header->built)
		return true;
	Assert(!TransactionIdIsValid(GetTopTransactionIdIfAny()));
	batch = palloc(sizeof(Batch));
	for (int i = 0; i < REBUILDS_TRIED && !a67_live_header->built; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) rebuild_once(batch);
	}
	pfree(batch);
	return a67_live_header->built;
}

PG_FUNCTION_INFO_V1(a67_sql_live_rebuild);

/* _live_rebuild() returns boolean; strict. Raises 25001 in a transaction that has written. */
Datum
a67_sql_live_rebuild(PG_FUNCTION_ARGS)
{
	a67_shared_require();
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot build the live node table in a transaction that has written")));
	if (a67_live_home())
	{
		LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_EXCLUSIVE);
		a67_live_header->built = false;
		LWLockRelease(a67_lock(A67_LOCK_LIVE));
	}
	PG_RETURN_BOOL(a67_live_rebuild());
}

/* ---- triggers ---------------------------------------------------------------------------------- */

static A67FactsKind
kind_of_table(const char *name)
{
	for (int kind = 0; kind < A67_FACTS_KINDS; kind++)
	{
		if (strcmp(tables[kind], name) == 0)
			return (A67FactsKind) kind;
	}
	elog(ERROR, "table \"%s\" has no facts of nodes", name);
}

static void
require_trigger(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function can only be called as a trigger")));
}

PG_FUNCTION_INFO_V1(a67_sql_live_publish);

/* _live_publish() returns trigger: after a row of the three tables has changed, or all were removed */
Datum
a67_sql_live_publish(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	int numbers[A67_FACTS_COLUMNS_MAX];
	A67FactsKind kind;
	A67NodeFacts facts;

	require_trigger(fcinfo);
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
	{
		a67_live_clear_at_commit();
		PG_RETURN_POINTER(NULL);
	}
	kind = kind_of_table(RelationGetRelationName(data->tg_relation));
	a67_facts_resolve(kind, RelationGetDescr(data->tg_relation), numbers);
	a67_facts_read(kind,
				   TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple,
				   RelationGetDescr(data->tg_relation), numbers, &facts);
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		facts.node.removed = true;
	a67_live_publish_at_commit(&facts);
	PG_RETURN_POINTER(NULL);
}

PG_FUNCTION_INFO_V1(a67_sql_version_trigger);

/* _version_trigger(column) returns trigger: before a row is updated, its version grows by one */
Datum
a67_sql_version_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	Datum version;
	bool null;
	int column;

	require_trigger(fcinfo);
	desc = RelationGetDescr(data->tg_relation);
	column = SPI_fnumber(desc, data->tg_trigger->tgargs[0]);
	if (column <= 0)
		elog(ERROR, "column \"%s\" is missing", data->tg_trigger->tgargs[0]);
	version = heap_getattr(data->tg_trigtuple, column, desc, &null);
	version = Int64GetDatum(DatumGetInt64(version) + 1);
	return PointerGetDatum(
		heap_modify_tuple_by_cols(data->tg_newtuple, desc, 1, &column, &version, &null));
}
