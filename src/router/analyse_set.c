/*
 * analyse_set.c - UNION, INTERSECT and EXCEPT on the shards.
 *
 * UNION ALL of parts is a part. Operations that compare rows leave a part only when a column at the same place on both sides carries the
 * key: then equal rows are on one shard. A part may be intersected with copies, or lose their rows; copies without a part are nothing.
 */
#include "postgres.h"

#include "router/analyse_dist.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "router/key.h"

static A67Carrier *
carrier_at(List *carriers, AttrNumber resno)
{
	ListCell *lc;

	foreach(lc, carriers)
	{
		A67Carrier *carrier = lfirst(lc);

		if (carrier->resno == resno)
			return carrier;
	}
	return NULL;
}

/* Whether the value keeps its canonical text when it becomes one of the operation's type. */
static bool
keeps_text(Oid type, Oid result, Oid collation)
{
	if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
		return false;
	return type == result ||
		   (a67_key_family(type) == NUMERICOID && a67_key_family(result) == NUMERICOID);
}

static A67Dist *
dist_of_branch(A67Level *level, int rti)
{
	A67Dist *dist = a67_dist_leaf(level, rti, NIL, NIL);
	List *outputs = NIL;
	ListCell *lc;

	foreach(lc, dist->carriers)
	{
		A67Carrier *output = palloc(sizeof(*output));

		*output = *(A67Carrier *) lfirst(lc);
		output->resno = castNode(Var, output->expr)->varattno;
		outputs = lappend(outputs, output);
	}
	dist->carriers = outputs;
	return dist;
}

/* Carriers that keep their text in the operation's columns. */
static List *
carriers_kept(const A67Dist *dist, SetOperationStmt *operation)
{
	List *kept = NIL;
	ListCell *lc;

	foreach(lc, dist->carriers)
	{
		A67Carrier *carrier = lfirst(lc);
		int column = carrier->resno - 1;

		if (keeps_text(exprType((Node *) carrier->expr), list_nth_oid(operation->colTypes, column),
					   list_nth_oid(operation->colCollations, column)))
			kept = lappend(kept, carrier);
	}
	return kept;
}

/* Carriers at the same places of both; `solid` tells whether one of them is never null. */
List *
a67_carriers_shared(List *left, List *right, bool *solid)
{
	List *shared = NIL;
	ListCell *lc;

	*solid = false;
	foreach(lc, left)
	{
		A67Carrier *one = lfirst(lc);
		A67Carrier *other = carrier_at(right, one->resno);
		A67Carrier *both;

		if (other == NULL)
			continue;
		both = palloc(sizeof(*both));
		*both = *one;
		both->nullable = one->nullable || other->nullable;
		both->terms = NIL;
		*solid |= !both->nullable;
		shared = lappend(shared, both);
	}
	return shared;
}

static bool
has_solid(List *carriers)
{
	ListCell *lc;

	foreach(lc, carriers)
	{
		if (!((A67Carrier *) lfirst(lc))->nullable)
			return true;
	}
	return false;
}

static void
combine_parts(A67Dist *result, const A67Dist *left, const A67Dist *right,
			  SetOperationStmt *operation)
{
	bool solid;
	List *shared = a67_carriers_shared(carriers_kept(left, operation),
									   carriers_kept(right, operation), &solid);

	if (!a67_colocated(left->table, right->table))
		return;
	if (!solid && !(operation->op == SETOP_UNION && operation->all))
		return;
	result->part = true;
	result->table = left->table;
	result->carriers = shared;
	if (operation->op == SETOP_UNION)
		result->shards = bms_union(left->shards, right->shards);
	else if (operation->op == SETOP_INTERSECT)
		result->shards = bms_intersect(left->shards, right->shards);
	else
		result->shards = left->shards;
}

static void
combine_with_copies(A67Dist *result, const A67Dist *part, SetOperationStmt *operation)
{
	List *kept = carriers_kept(part, operation);

	if (!has_solid(kept))
		return;
	result->part = true;
	result->table = part->table;
	result->carriers = kept;
	result->shards = part->shards;
}

A67Dist *
a67_dist_set(A67Level *level, Node *node)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;
	A67Dist *result;
	A67Dist *left;
	A67Dist *right;

	check_stack_depth();
	if (IsA(node, RangeTblRef))
		return dist_of_branch(level, ((RangeTblRef *) node)->rtindex);
	left = a67_dist_set(level, operation->larg);
	right = a67_dist_set(level, operation->rarg);
	result = palloc0(sizeof(*result));
	result->copies = left->copies && right->copies;
	a67_dist_bind(result, left, right);
	if (left->part && right->part)
		combine_parts(result, left, right, operation);
	else if (left->part && right->copies && operation->op != SETOP_UNION)
		combine_with_copies(result, left, operation);
	else if (left->copies && right->part && operation->op == SETOP_INTERSECT)
		combine_with_copies(result, right, operation);
	if (!result->copies && !result->part && !result->bound)
		return a67_dist_mixed(level, "It has a set operation on rows of different shards.");
	return result;
}
