/*
 * whole.h - what whole.c (which statements run on shards as they are) tells whole_plan.c (their
 * plans).
 */
#ifndef A67_ROUTER_WHOLE_H
#define A67_ROUTER_WHOLE_H

#include "postgres.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

#include "router/analyse.h"
#include "router/remote.h"

typedef struct A67Whole
{
	Query *query; /* as it came */
	ParamListInfo params;
	A67Analysis *analysis;
	A67Remote remote;
	List *keys;	  /* expressions, for A67_WHERE_KEY */
	Query *part;  /* what is sent */
	bool ordered; /* rows of several shards are put in order here, and cut by the LIMIT */
} A67Whole;

/* The plan of a statement that has no obstacle (ship.h). Fills in the rest of `remote`. */
PlannedStmt *a67_whole_plan(A67Whole *whole, int cursor_options);

/* A walker: whether a parameter is in the expression. The context is not used. */
bool a67_has_param(Node *node, void *context);

#endif /* A67_ROUTER_WHOLE_H */
