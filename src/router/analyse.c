/*
 * analyse.c - the answer of an analysis; see analyse.h, and analyse_dist.h for how it is found.
 *
 * Turns the properties of the whole query into one of the spreads: one shard when it is bound to values that are known when it runs, each
 * shard when it is a part and its order is not asked for.
 */
#include "postgres.h"

#include "router/analyse.h"

#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"

#include "router/analyse_dist.h"

/* ---- join columns */

static bool
has_joins_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return ((RangeTblEntry *) node)->rtekind == RTE_JOIN;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_joins_walker, context,
								 QTW_EXAMINE_RTES_BEFORE | QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, has_joins_walker, context);
}

static Node *
flat(Query *query, void *node)
{
	return flatten_join_alias_vars(query, (Node *) node);
}

static bool flatten_walker(Node *node, void *context);

/* Of one level: everything in it that can name its join columns, subqueries below included. */
static void
flatten_level(Query *query)
{
	ListCell *lc;

	query->targetList = (List *) flat(query, query->targetList);
	query->returningList = (List *) flat(query, query->returningList);
	query->havingQual = flat(query, query->havingQual);
	query->jointree = (FromExpr *) flat(query, query->jointree);
	query->mergeActionList = (List *) flat(query, query->mergeActionList);
	query->onConflict = (OnConflictExpr *) flat(query, query->onConflict);
	foreach(lc, query->windowClause)
	{
		WindowClause *window = lfirst(lc);

		window->startOffset = flat(query, window->startOffset);
		window->endOffset = flat(query, window->endOffset);
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY && rte->lateral)
			rte->subquery = (Query *) flat(query, rte->subquery);
		rte->functions = (List *) flat(query, rte->functions);
		rte->tablefunc = (TableFunc *) flat(query, rte->tablefunc);
		rte->values_lists = (List *) flat(query, rte->values_lists);
	}
}

static bool
flatten_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		flatten_level((Query *) node);
		return query_tree_walker((Query *) node, flatten_walker, context, QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, flatten_walker, context);
}

Query *
a67_query_flat(Query *query)
{
	if (!has_joins_walker((Node *) query, NULL))
		return query;
	query = copyObject(query);
	flatten_walker((Node *) query, NULL);
	return query;
}

/* ---- which tables */

static bool
relids_walker(Node *node, List **relids)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			a67_table(rte->relid) != NULL)
			*relids = list_append_unique_oid(*relids, rte->relid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, relids_walker, relids,
								 QTW_EXAMINE_RTES_BEFORE | QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, relids_walker, relids);
}

/* ---- pins */

/* The best of equal terms: a constant, else what comes first; NULL when all are columns. */
static Expr *
known_term(const A67Anchor *anchor)
{
	Expr *found = NULL;
	ListCell *lc;

	foreach(lc, anchor->terms)
	{
		A67Term *term = lfirst(lc);

		if (term->depth != A67_DEPTH_CONST)
			continue;
		if (found == NULL || (IsA(term->expr, Const) && !IsA(found, Const)))
			found = term->expr;
	}
	return found;
}

static bool
pin_listed(List *pins, const A67Pin *pin)
{
	ListCell *lc;

	foreach(lc, pins)
	{
		A67Pin *other = lfirst(lc);

		if (pin->expr == NULL
				? other->expr == NULL && other->home == pin->home
				: equal(pin->expr, other->expr) && a67_colocated(pin->table, other->table))
			return true;
	}
	return false;
}

/* Pins of all anchors, each once; false when an anchor is a column of a query outside. */
static bool
pins_of(List *anchors, List **pins)
{
	ListCell *lc;

	*pins = NIL;
	foreach(lc, anchors)
	{
		A67Anchor *anchor = lfirst(lc);
		A67Pin *pin = palloc(sizeof(*pin));

		pin->table = anchor->table;
		pin->expr = known_term(anchor);
		pin->home = pin->expr == NULL ? anchor->home : -1;
		if (pin->expr == NULL && pin->home < 0)
			return false;
		if (!pin_listed(*pins, pin))
			*pins = lappend(*pins, pin);
	}
	return true;
}

/* ---- the answer */

static List *
outputs_of(const A67Dist *dist)
{
	List *outputs = NIL;
	ListCell *lc;

	foreach(lc, dist->carriers)
	{
		A67Carrier *carrier = lfirst(lc);

		if (!carrier->nullable && carrier->resno > 0)
			outputs = list_append_unique_int(outputs, carrier->resno);
	}
	return outputs;
}

static void
set_each(A67Analysis *analysis, const A67Dist *dist)
{
	analysis->spread = A67_SPREAD_EACH;
	analysis->table = dist->table;
	analysis->shards = bms_copy(dist->shards);
	analysis->key_outputs = outputs_of(dist);
	if (dist->quals != NIL)
	{
		analysis->table = dist->qual_table;
		analysis->quals = dist->quals;
	}
}

static void
set_spread(A67Analysis *analysis, A67Question *question, const A67Dist *dist)
{
	analysis->database = question->foreign ? NULL : question->database;
	analysis->spread = A67_SPREAD_MIXED;
	if (question->foreign || analysis->database == NULL)
		analysis->reason = question->reason;
	else if (dist->copies)
		analysis->spread = A67_SPREAD_COPIES;
	else if (dist->bound && pins_of(dist->anchors, &analysis->pins))
	{
		/* Without any pin nothing distributed can be in it: a write to copies that is no plain one. */
		if (analysis->pins != NIL)
			analysis->spread = A67_SPREAD_ONE;
	}
	else if (dist->part)
		set_each(analysis, dist);
	if (analysis->spread == A67_SPREAD_MIXED && question->reason != NULL)
		analysis->reason = question->reason;
	else if (analysis->spread == A67_SPREAD_MIXED)
		analysis->reason = "Its rows are on different shards.";
	if (analysis->pins != NIL)
		analysis->table = ((A67Pin *) linitial(analysis->pins))->table;
	else if (analysis->table == NULL)
		analysis->table = a67_table(linitial_oid(analysis->relids));
}

A67Analysis *
a67_analyse(Query *query, ParamListInfo params)
{
	A67Analysis *analysis = palloc0(sizeof(*analysis));
	A67Question question = {.params = params};

	relids_walker((Node *) query, &analysis->relids);
	if (analysis->relids == NIL)
		return analysis;
	set_spread(analysis, &question, a67_dist_query(NULL, &question, a67_query_flat(query)));
	return analysis;
}

A67Analysis *
a67_analyse_source(Query *query, ParamListInfo params, List **keys)
{
	A67Analysis *analysis = palloc0(sizeof(*analysis));
	A67Question question = {.params = params};
	A67Level level;
	A67Dist *dist;
	ListCell *lc;

	*keys = NIL;
	relids_walker((Node *) query, &analysis->relids);
	if (analysis->relids == NIL)
		return analysis;
	a67_level_init(&level, NULL, &question, a67_query_flat(query));
	dist = a67_dist_level_source(&level, false);
	if (dist->bound)
		a67_level_resolve(&level, dist);
	set_spread(analysis, &question, dist);
	foreach(lc, dist->carriers)
	{
		A67Carrier *carrier = lfirst(lc);

		if (!carrier->nullable)
			*keys = lappend(*keys, carrier->expr);
	}
	return analysis;
}
