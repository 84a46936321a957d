/*
 * live_facts.h - what rows say of a node, on its way into the live node table.
 *
 * Three tables have each a part of it, with a version that grows with every change of the row: the table
 * takes no older facts, in whatever order transactions reach it. Facts are read from tuples of these tables
 * (by triggers and rebuilds), wait for the commit of their transaction, and are published then.
 */
#ifndef A67_LIVE_FACTS_H
#define A67_LIVE_FACTS_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"

#include "core/placement.h"

#define A67_NODE_NAME_SIZE 64 /* with its end; also of regions and providers */

typedef enum A67FactsKind
{
	A67_FACTS_NODE,		/* a67_internal.node */
	A67_FACTS_OBSERVED, /* a67_internal.node_observed */
	A67_FACTS_RESERVED, /* a67_internal.node_reserved */
	A67_FACTS_KINDS
} A67FactsKind;

typedef struct A67NodeFacts
{
	A67FactsKind kind;
	int64 version;
	A67Traits traits; /* the id always; the rest of A67_FACTS_NODE */
	union
	{
		struct
		{
			uint8 owner_id[16];
			int64 memory_bytes;
			int64 disk_bytes;
			int32 cpu_milli;
			uint32 max_connections;
			uint8 services;
			bool active;
			bool removed; /* not wanted here any more */
			char name[A67_NODE_NAME_SIZE];
			char region[A67_NODE_NAME_SIZE];
			char provider[A67_NODE_NAME_SIZE];
		} node;
		struct
		{
			uint8 status; /* A67NodeStatus */
			bool near_quota;
			float cpu_percent;
			float memory_percent;
			float latency_ms;
			uint32 active_connections;
			TimestampTz metrics_at; /* 0: never */
		} observed;
		struct
		{
			int64 memory_bytes;
			int64 disk_bytes;
			int32 cpu_milli;
		} reserved;
	};
} A67NodeFacts;

/* The columns that facts of a kind are read from, ended by NULL. */
extern const char *const *const a67_facts_columns[A67_FACTS_KINDS];

#define A67_FACTS_COLUMNS_MAX 13

/* Their numbers in a table's row type; raises when one is missing. */
void a67_facts_resolve(A67FactsKind kind, TupleDesc desc, int numbers[A67_FACTS_COLUMNS_MAX]);

/* Reads facts. Throws, 22023, when a node's labels are more or other than selection can look for. */
void a67_facts_read(A67FactsKind kind, HeapTuple tuple, TupleDesc desc, const int *numbers,
					A67NodeFacts *facts);

/* Numbers for what requests and nodes name: equal for equal ones, never 0 for one that is there. */
uint64 a67_facts_hash(const char *text, size_t length);
bool a67_facts_service(const char *name, size_t length, uint8 *bit);

/*
 * Numbers of the pairs of a JSON object of scalars, at most A67_LABELS_MAX; throws 22023 for anything
 * else, naming `field`. Returns how many.
 */
uint32 a67_facts_labels(Datum jsonb, const char *field, uint64 labels[A67_LABELS_MAX]);

/* Thousandths of a core: of what there is, rounded down, and of what is needed, rounded up. */
int32 a67_cpu_milli_there(double cores);
int32 a67_cpu_milli_needed(double cores);

/* live_pending.c: publishes the facts, or drops the node, when the current transaction commits. */
void a67_live_publish_at_commit(const A67NodeFacts *facts);

/* The same for everything: the table is built anew. */
void a67_live_clear_at_commit(void);

#endif /* A67_LIVE_FACTS_H */
