/*
 * select.h - one selection: what is asked for, over which nodes, and the answer in local memory.
 *
 * Between the SQL faces and the core: opens a view of the nodes, finds the nodes that the request names,
 * runs the placement and copies what callers want to know of the chosen, so that nothing refers to shared
 * memory afterwards. Called by select_sql.c.
 */
#ifndef A67_SELECT_H
#define A67_SELECT_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/placement.h"
#include "registry/live_facts.h"

/* A node that the request says something about, by its id. */
typedef struct A67NamedNode
{
	uint8 node_id[16];
	uint32 replicas;
	bool avoided;
	bool excluded; /* somebody else fills it at this moment */
	bool barred;   /* the app does not allow it */
} A67NamedNode;

/* A node that was chosen, as it was at that moment. */
typedef struct A67ChosenNode
{
	A67PlaceChoice choice;
	A67ScoreParts parts;
	uint8 node_id[16];
	double km; /* from the client; negative: unknown */
	char name[A67_NODE_NAME_SIZE];
	char region[A67_NODE_NAME_SIZE];
	char provider[A67_NODE_NAME_SIZE];
} A67ChosenNode;

typedef struct A67Selection
{
	A67PlaceRequest request; /* owner, view, marks and turn are filled in by a67_select() */
	uint8 owner_id[16];
	TimestampTz now;
	bool seeded; /* the caller chose the seed: round robin starts there too */
	A67NamedNode *named;
	uint32 named_count;

	A67ChosenNode *chosen; /* palloc'd */
	int placed;
	A67PlaceReport report; /* when fewer were placed than asked for */
} A67Selection;

/* Fills in chosen, placed and report. May throw. */
void a67_select(A67Selection *selection);

/* The composite score of each of the named nodes, negative for one that the view has not. May throw. */
void a67_select_scores(A67Selection *selection, double *scores);

/* Why the rest found no node, as full sentences; palloc'd. */
char *a67_select_shortage(const A67Selection *selection);

/*
 * Raises the error of a selection for `replicas` that was not complete: "all nodes failed" when nothing but
 * failure keeps every node out, else "insufficient capacity". `note` is added to the detail.
 */
pg_attribute_noreturn() void a67_select_raise(const A67Selection *selection, int replicas,
											  const char *note);

#endif /* A67_SELECT_H */
