/*
 * shard.h - statements on shard databases: connections, remote transactions, rows from many shards at once.
 *
 * Owns every libpq connection of this process. One connection per endpoint and process, kept between statements,
 * counted in shared memory against a67.shard_connections, closed when idle for a67.shard_idle_timeout. Connections
 * join the local transaction as far as a statement's effect asks for it, follow savepoints, and end with it
 * (shard_transaction.c). Everything here may block (never longer than a67.shard_timeout for a statement) and throws:
 * remote errors keep SQLSTATE, detail, hint and names, with the context 'shard "NAME"'; a connection string is never
 * shown. Nothing of what it returns outlives the local transaction. Called by router only.
 */
#ifndef A67_SHARD_H
#define A67_SHARD_H

#include "postgres.h"

#include "libpq-fe.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"

#define A67_SHARDS_MAX 64 /* of one database */

/* A database to talk to. Pointers stay the caller's. */
typedef struct A67ShardTarget
{
	int32
		shard_id; /* row of a67_internal.database_shard: the connection string is read from there */
	const char *name;	/* as users know it, for messages */
	const char *schema; /* the remote schema that unqualified names are looked up in */
} A67ShardTarget;

typedef enum A67Effect
{
	A67_EFFECT_READ,  /* may be sent again, to a replica too; needs no transaction of its own */
	A67_EFFECT_LOCK,  /* reads, and takes row locks that last until the transaction ends */
	A67_EFFECT_WRITE, /* changes rows */
} A67Effect;

typedef struct A67Statement
{
	const char *sql;
	int param_count;
	const Oid *param_types; /* 0: the shard finds out */
	const char *const *param_values;
	const int *param_lengths; /* of binary values */
	const int *param_formats; /* 0 text, 1 binary */
	bool binary_result;
	bool
		prepare; /* will come again: prepared once per connection (bounded, least recently used goes) */
	A67Effect effect;
	bool
		alone; /* nothing else belongs to the local transaction: when it goes to one shard, no BEGIN and COMMIT are sent */
} A67Statement;

/* What to send where. Statement and target stay the caller's until the fan-out ends. */
typedef struct A67Dispatch
{
	const A67ShardTarget *target;
	const A67Statement *statement;
} A67Dispatch;

/* What one shard did, for EXPLAIN ANALYZE. */
typedef struct A67ShardUse
{
	const char *name;
	int64 rows; /* received, or changed */
	int64 bytes;
	instr_time elapsed; /* from sending to the last row */
	bool replica;		/* a replica answered */
	bool missing;		/* left out: unavailable, and a67.allow_partial is on */
} A67ShardUse;

typedef struct A67Fanout A67Fanout;

/*
 * Sends all statements at once and returns without waiting for answers. Allocated in the current context.
 * `drain` (may be NULL) is called with `owner` when somebody else needs one of the connections while rows are still to
 * come: it must take everything from a67_fanout_next and keep it. NULL: net keeps the results in memory itself, fit for small ones only.
 */
A67Fanout *a67_fanout_start(const A67Dispatch *dispatches, int count, void (*drain)(void *owner),
							void *owner);

/*
 * The next result with rows (PGRES_SINGLE_TUPLE: exactly one), from whichever shard has one; *which is the index of its
 * dispatch. NULL when all shards are done. Valid until the next call. Errors of any shard are thrown, after the other
 * shards were cancelled.
 */
PGresult *a67_fanout_next(A67Fanout *fanout, int *which);

/* Rows changed by all shards together, or by one. Reads everything that is still to come first. */
int64 a67_fanout_affected(A67Fanout *fanout);
int64 a67_fanout_affected_by(A67Fanout *fanout, int which);

/* use[i] belongs to dispatch i. */
const A67ShardUse *a67_fanout_use(const A67Fanout *fanout);

/* Cancels what still runs, leaves the connections usable. NULL is fine. */
void a67_fanout_end(A67Fanout *fanout);

/* COPY … FROM STDIN on one shard; several may be open at once (one per shard). Data is buffered up to a declared maximum. */
typedef struct A67CopyIn A67CopyIn;
A67CopyIn *a67_copy_in_start(const A67ShardTarget *target, const char *sql);
void a67_copy_in_put(A67CopyIn *copy, const char *data, size_t len);
/* Ends all of them at once, as waiting for one after the other would add up; returns rows stored by all. */
int64 a67_copy_in_finish(A67CopyIn **copies, int count);

/*
 * Names of shards that were left out since a67_partial_forget() (List of char *, in the current context): answers that
 * are partial are marked with them. Each was also told of in a NOTICE.
 */
List *a67_partial_shards(void);
void a67_partial_forget(void);

/* How many different shards have answered statements or COPY since a67_partial_forget(). */
int a67_shards_used(void);

/* Whether the shard is not known to be unavailable just now; for statements that any of several shards can answer. Cheap. */
bool a67_shard_is_well(const A67ShardTarget *target);

/* Tables changed: statements that were prepared on shards are prepared anew. Cheap; may be called while caches are invalidated. */
void a67_shard_statements_changed(void);

/*
 * Connects to a connection string that is not stored yet and runs one query on it; for database_create. `trusted`: it is the
 * operator's, as that of a stored database without owner. One of a user's may name a public server and a login with
 * password, nothing else. Rows as text; the caller clears the result. Errors name `name`, never the string.
 */
PGresult *a67_shard_try(const char *connection, const char *name, const char *sql, bool trusted);

#endif /* A67_SHARD_H */
