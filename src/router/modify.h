/*
 * modify.h - what the parts of changing rows through the wrapper share: modify_plan.c decides,
 * modify.c runs, modify_queue.c sends many at once, modify_hold.c computes all rows before the
 * first is changed.
 *
 * This is for what cannot be pushed to shards whole: new values that only this server can compute,
 * rows found by joins with other tables, shard keys that change. A row is found again by its shard
 * and ctid, and stays locked from the scan on. Copies of a row of a reference table are found by
 * their values.
 */
#ifndef A67_ROUTER_MODIFY_H
#define A67_ROUTER_MODIFY_H

#include "postgres.h"

#include "access/sysattr.h"
#include "foreign/fdwapi.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "storage/itemptr.h"

#include "router/catalog.h"
#include "router/insert.h"

/* Names of the columns that carry where a row is. */
#define A67_MODIFY_CTID	 "ctid"
#define A67_MODIFY_SHARD "a67_shard"
#define A67_MODIFY_ROW	 "wholerow" /* of reference tables; as PostgreSQL names it */

/* The plan's part, as it lies in fdw_private. */
typedef struct A67ModifyPlan
{
	CmdType operation;
	char *set; /* UPDATE table SET column = $2 …; DELETE FROM table: without WHERE */
	char
		*insert; /* INSERT INTO table (…) VALUES: for INSERT, and rows that move to another shard */
	char *conflict;	   /* ON CONFLICT DO NOTHING, or empty */
	char *returning;   /* RETURNING …, or empty */
	List *set_columns; /* attribute numbers, in the order of the text */
	List *insert_columns;
	List *returned;
	bool has_returning; /* although perhaps no column is returned */
	bool moves;			/* the key is assigned */
	bool joined;		/* a row can be found more than once */
	bool queued;		/* nobody asks what became of a single row */
} A67ModifyPlan;

List *a67_modify_pack(const A67ModifyPlan *plan);
A67ModifyPlan *a67_modify_unpack(List *packed);

/* A plan that inserts rows which come without one: `returning` asks for all columns. */
A67ModifyPlan *a67_modify_insert_plan(Relation relation, OnConflictAction conflict, bool returning);

/* ---- modify_plan.c and modify.c: routines of the wrapper */
void a67_modify_plan_routines(FdwRoutine *routine);
void a67_modify_routines(FdwRoutine *routine);

/*
 * Rows for the plan's INSERT; what comes back is of `returned` (NULL: nothing). In the current
 * context.
 */
A67InsertBatch *a67_modify_insert(const A67ModifyPlan *plan, const A67Table *table, TupleDesc desc,
								  TupleDesc returned);

/*
 * ---- modify_check.c: refuses (0A000) a statement that changes a virtual table in WITH while
 * another part of it reads the same table. For queries that were not sent to shards whole.
 */
void a67_modify_check(Query *query);

/*
 * ---- modify_hold.c: puts a node on top of the plan that reads it to its end before it returns the
 * first row. Once for each plan.
 */
Plan *a67_modify_hold(Plan *plan);

/*
 * ---- modify_queue.c: changes of many rows, sent to their shards together. A queue is for the
 * table and the columns of one plan.
 */
typedef struct A67ModifyQueue A67ModifyQueue;

A67ModifyQueue *a67_modify_queue(const A67ModifyPlan *plan, const A67Table *table, TupleDesc desc);

/*
 * Sets the row's columns to values (one for each of the plan's set_columns), or deletes it when
 * `values` is NULL. False when the row was in the queue before: the first change of a row counts.
 * Values are copied.
 */
bool a67_modify_queue_change(A67ModifyQueue *queue, int shard, ItemPointer ctid,
							 const Datum *values, const bool *nulls);

/* A row that moves there; values of the plan's insert_columns. */
void a67_modify_queue_insert(A67ModifyQueue *queue, int shard, const Datum *values,
							 const bool *nulls);

/* Sends what is left. */
void a67_modify_queue_finish(A67ModifyQueue *queue);

/*
 * ---- modify_copies.c: the same change to the copies of a row of a reference table, which was made
 * on the first shard. `set` has `count` parameters of `types`.
 */
typedef struct A67ModifyCopies A67ModifyCopies;

A67ModifyCopies *a67_modify_copies(const A67Table *table, const char *set, int count,
								   const Oid *types, TupleDesc desc);

/* The row as it was, a composite value. */
void a67_modify_copies_old(A67ModifyCopies *copies, Datum row);

/*
 * Changes them all when the first shard changed its own; throws when one is not there. Rows changed
 * on the first.
 */
int64 a67_modify_copies_change(A67ModifyCopies *copies, const Datum *values, const bool *nulls,
							   int64 first);

#endif /* A67_ROUTER_MODIFY_H */
