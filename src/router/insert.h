/*
 * insert.h - INSERT into a virtual table: what its plan says, the node that runs it, and rows on their way to shards.
 *
 * insert_plan.c decides, insert.c runs, insert_batch.c sends. The plan is a custom scan whose child is the plan of the rows (VALUES or a
 * query): full rows of the table with every default computed here. What shards are to do beside storing (ON CONFLICT) is
 * text; RETURNING is evaluated here over the columns that come back.
 */
#ifndef A67_ROUTER_INSERT_H
#define A67_ROUTER_INSERT_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "nodes/plannodes.h"

#include "net/shard.h"
#include "router/catalog.h"
#include "router/remote_run.h"

typedef struct A67InsertPlan
{
	char *head;	   /* INSERT INTO … VALUES */
	char *tail;	   /* ON CONFLICT … RETURNING …; its parameters come first, from $1 on */
	char *single;  /* the whole statement for one row */
	List *columns; /* attribute numbers that are sent, in the order of `head` */
	Oid relid;
	List *arbiter; /* DO UPDATE: the columns that decide on a conflict */
	bool hold;	/* rows are computed from the table itself: all of them before the first is sent */
	bool alone; /* nothing in the statement can fail after a row was stored */
} A67InsertPlan;

#define A67_ARBITER_OTHER \
	0 /* in `arbiter` instead of a column: expressions, predicates, types without canonical text */

List *a67_insert_pack(const A67InsertPlan *plan);
A67InsertPlan *a67_insert_unpack(List *packed);

/* An empty custom scan of the node; the caller fills in the rest. */
CustomScan *a67_insert_scan(void);

/* ---- insert_twice.c */

typedef struct A67InsertTwice A67InsertTwice;

/* In the current context. `desc` is of the rows. */
A67InsertTwice *a67_insert_twice(List *columns, TupleDesc desc);

/* Throws 21000 when an earlier row had the same values in the columns. */
void a67_insert_twice_check(A67InsertTwice *twice, const Datum *values, const bool *nulls);

/* ---- insert_batch.c */

/* The text of the statement for so many rows of so many columns, whose parameters start after the tail's. */
char *a67_insert_sql(const char *head, const char *tail, int tail_count, int columns, int rows);

typedef struct A67InsertBatch A67InsertBatch;

/* What the batches are for; everything stays the caller's. */
typedef struct A67InsertTarget
{
	const A67Table *table;
	const char *head;
	const char *tail;
	const char *single; /* NULL: made from head and tail */
	int column_count;
	const Oid *column_types;
	const A67Statement *tail_values; /* its param_* are those of the tail; NULL: none */
	TupleDesc returned;				 /* of the columns that RETURNING names; NULL: no RETURNING */
	A67RemoteTotals *totals; /* what each shard did, for EXPLAIN ANALYZE; NULL: not wanted */
} A67InsertTarget;

/* Index of the shard that a new row with this key goes to; throws 23502 for null, 23514 when the key has no shard. */
int a67_insert_shard(const A67Table *table, Datum key, bool is_null);

/* In the current context. */
A67InsertBatch *a67_insert_batch(const A67InsertTarget *target);

/* Where the values of the next row must lie, until it was sent. Forgets the answers of the last sending. */
MemoryContext a67_insert_batch_next(A67InsertBatch *batch);

/* Keeps a row for a shard (ignored for reference tables: all). The values are not copied. */
void a67_insert_batch_add(A67InsertBatch *batch, int shard, const Datum *values, const bool *nulls);

/* Whether it must be sent before the next row. */
bool a67_insert_batch_full(const A67InsertBatch *batch);

/*
 * Sends everything and waits until it is stored; returns rows stored (or changed by ON CONFLICT). `alone`: nothing else belongs to the
 * local transaction.
 */
int64 a67_insert_batch_send(A67InsertBatch *batch, bool alone);

/* The next row of RETURNING, into a virtual slot; false when there are no more. In the order of the rows if each has an answer. */
bool a67_insert_batch_answer(A67InsertBatch *batch, TupleTableSlot *slot);

#endif /* A67_ROUTER_INSERT_H */
