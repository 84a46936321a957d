/*
 * remote_run.h - what remote.c shares with the scans of fdw.c and with EXPLAIN.
 */
#ifndef A67_ROUTER_REMOTE_RUN_H
#define A67_ROUTER_REMOTE_RUN_H

#include "postgres.h"

#include "router/remote.h"

/* A row and where it came from. Values live until the next is fetched. */
typedef struct A67RemoteRow
{
	Datum *values; /* room for as many as the scan's description has, the caller's */
	bool *nulls;
	int shard; /* index */
} A67RemoteRow;

/* As a67_remote_next. */
bool a67_remote_fetch(A67RemoteScan *scan, A67RemoteRow *row);

/* The value of one of a statement's keys. */
typedef struct A67RemoteKey
{
	Datum value;
	bool is_null;
	Oid type;
} A67RemoteKey;

/*
 * Shard indexes, in the current context; `keys` are as many as the statement has. Empty: there is
 * nothing to ask for.
 */
Bitmapset *a67_remote_shards(const A67Remote *remote, const A67Table *table,
							 const A67RemoteKey *keys, ParamListInfo params);

/* What all runs of a scan had from each shard. */
typedef struct A67RemoteTotals
{
	int64 runs;
	A67ShardUse shards[A67_SHARDS_MAX]; /* by index; name is NULL for those not used */
} A67RemoteTotals;

/* Adds one run: use[i] is of shard indexes[i]. */
void a67_remote_totals_add(A67RemoteTotals *totals, const int *indexes, const A67ShardUse *use,
						   int count);

/* EXPLAIN's properties of a remote statement; totals may be NULL. */
void a67_remote_describe(const A67Remote *remote, const A67RemoteTotals *totals, ExplainState *es);

#endif /* A67_ROUTER_REMOTE_RUN_H */
