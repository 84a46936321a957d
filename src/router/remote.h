/*
 * remote.h - a statement for shards inside a local plan: its description, and what runs it.
 *
 * A67Remote is what the planner decides; as a List (a67_remote_pack) it lies in custom_private or
 * fdw_private, so that plans can be copied and cached. The expressions for parameters and keys lie
 * in custom_exprs or fdw_exprs, where the planner maintains them: first the parameters, then the
 * keys. A67RemoteScan is a run of it: parameters and shards are found when it starts (and again at
 * a rescan whose parameters changed), rows are converted (binary where all column types have it:
 * built-in types only) and come in no particular order. Used by custom.c (whole queries, parts of
 * split ones) and fdw.c (scans).
 */
#ifndef A67_ROUTER_REMOTE_H
#define A67_ROUTER_REMOTE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "commands/explain.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"

#include "net/shard.h"
#include "router/catalog.h"

/* How the shards are found. */
typedef enum A67Where
{
	A67_WHERE_LIST, /* shard_ids */
	A67_WHERE_ANY,	/* one shard, whichever is well: reference tables */
	A67_WHERE_KEY,	/* the one shard of the values of all keys; if none has any: see only_rows */
	A67_WHERE_PRUNE /* a67_prune of `quals` with the parameters' values, of shard_ids */
} A67Where;

typedef struct A67Remote
{
	char *sql;
	Oid relid; /* a virtual table of the database; for KEY and PRUNE the one whose key counts */
	A67Where where;
	List *shard_ids; /* integers */
	int param_count; /* expressions before the keys */
	int key_count;
	List *quals;	 /* PRUNE: Vars have varno 1; external parameters */
	CmdType command; /* CMD_SELECT also for what returns rows without changing any */
	A67Effect effect;
	bool returns; /* rows come back */
	bool copies;  /* all shards change the same rows (reference tables): those of the first count */
	bool whole;	  /* the whole local statement */
	bool prepare;
	bool only_rows; /* KEY without a shard: there is nothing to ask for; else any shard is asked */
	const char *strategy; /* for EXPLAIN: "one shard", "all in one", "split", "scan" … */
} A67Remote;

List *a67_remote_pack(const A67Remote *remote);
A67Remote *a67_remote_unpack(List *packed);

typedef struct A67RemoteScan A67RemoteScan;

/*
 * `exprs`: parameters, then keys, as planned; `parent` evaluates them; rows are of `desc`. Sends
 * nothing yet.
 */
A67RemoteScan *a67_remote_begin(const A67Remote *remote, List *exprs, PlanState *parent,
								TupleDesc desc);

/*
 * Stores the next row into the slot (heap tuple or virtual slots); false at the end. The first call
 * sends the statement.
 */
bool a67_remote_next(A67RemoteScan *scan, TupleTableSlot *slot);

/* For statements that return nothing: runs it; rows changed. */
int64 a67_remote_run(A67RemoteScan *scan);

/*
 * Rows will be read more than once with the same parameters: they are kept. Before the first row.
 */
void a67_remote_keep(A67RemoteScan *scan);

void a67_remote_rescan(A67RemoteScan *scan);
void a67_remote_end(A67RemoteScan *scan);

/*
 * Whether the statement that is being executed is all that its local transaction will do, so that
 * shards may commit what it does at once. Knows only of what the client sent: true too seldom
 * rather than too often.
 */
bool a67_alone(const EState *estate);

/* EXPLAIN's properties: strategy, shards, SQL; with ANALYZE rows, bytes and time of each shard. */

void a67_remote_explain(A67RemoteScan *scan, ExplainState *es);

/*
 * Values for shards: parameter arrays for a statement (binary where the type is built in and has
 * it, else text under net's settings), and rows from results. Used by remote.c, insert.c, modify.c.
 */
typedef struct A67Encoder A67Encoder;
A67Encoder *a67_encoder(int count, const Oid *types);
/* Fills the statement's param_* arrays, which live in the current context. */
void a67_encode(A67Encoder *encoder, const Datum *values, const bool *nulls,
				A67Statement *statement);

typedef struct A67Decoder A67Decoder;
A67Decoder *a67_decoder(TupleDesc desc);
bool
a67_decoder_binary(const A67Decoder *decoder); /* whether results are to be asked for in binary */
/*
 * Row `row` of a result into values and nulls, in the current context. Columns beyond desc are left
 * to the caller. Errors name the shard, if it is not NULL.
 */
void a67_decode(A67Decoder *decoder, PGresult *result, int row, Datum *values, bool *nulls);
void a67_decoder_shard(A67Decoder *decoder, const char *name);

#endif /* A67_ROUTER_REMOTE_H */
