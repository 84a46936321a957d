/*
 * analyse_level.c - a query on the shards, from its source upwards: sublinks, grouping, DISTINCT, windows, LIMIT, CTEs.
 *
 * What is bound to one shard stays so whatever is made of it. A part stays a part as long as no row of the result is made of rows of
 * several shards: groups, windows and DISTINCT must have the key in them, and nothing may count rows across shards.
 */
#include "postgres.h"

#include "router/analyse_dist.h"

#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"

#include "router/key.h"

void
a67_level_init(A67Level *level, A67Level *parent, A67Question *question, Query *query)
{
	memset(level, 0, sizeof(*level));
	level->parent = parent;
	level->question = question;
	level->query = query;
	level->depth = parent == NULL ? A67_DEPTH_TOP : parent->depth + 1;
	if (query->cteList != NIL)
		level->with = palloc0(list_length(query->cteList) * sizeof(A67Dist *));
}

/* ---- sublinks */

typedef struct Sublinks
{
	List *found;
} Sublinks;

static bool
sublinks_walker(Node *node, Sublinks *sublinks)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, SubLink))
	{
		sublinks->found = lappend(sublinks->found, node);
		return sublinks_walker(((SubLink *) node)->testexpr, sublinks);
	}
	return expression_tree_walker(node, sublinks_walker, sublinks);
}

/* Sublinks of the level: those of FROM and WHERE, or all. */
static List *
sublinks_of(Query *query, bool all)
{
	Sublinks sublinks = {.found = NIL};

	if (!query->hasSubLinks)
		return NIL;
	if (all)
		query_tree_walker(query, sublinks_walker, &sublinks,
						  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES |
							  QTW_IGNORE_JOINALIASES);
	else
	{
		sublinks_walker((Node *) query->jointree, &sublinks);
		range_table_walker(query->rtable, sublinks_walker, &sublinks,
						   QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES |
							   QTW_IGNORE_JOINALIASES);
	}
	return sublinks.found;
}

/*
 * key IN (SELECT key …): rows of other shards are not equal to the key, whatever else is compared, so they matter neither to IN nor to NOT IN.
 */
static bool
tests_key(SubLink *sublink, const A67Dist *outer, const A67Dist *inner)
{
	List *tests;
	ListCell *lc;

	if (sublink->subLinkType != ANY_SUBLINK || !inner->part ||
		!a67_colocated(outer->table, inner->table))
		return false;
	tests = make_ands_implicit((Expr *) sublink->testexpr);
	foreach(lc, tests)
	{
		OpExpr *test = lfirst(lc);
		A67Carrier *key;
		Expr *tested;
		ListCell *lo;

		if (!IsA(test, OpExpr) || list_length(test->args) != 2 || !a67_fact_is_equality(test))
			continue;
		key = a67_carrier_of(outer->carriers, linitial(test->args));
		tested = a67_fact_strip(lsecond(test->args));
		if (key == NULL || key->nullable || !IsA(tested, Param) ||
			((Param *) tested)->paramkind != PARAM_SUBLINK)
			continue;
		foreach(lo, inner->carriers)
		{
			A67Carrier *output = lfirst(lo);

			if (!output->nullable && output->resno == ((Param *) tested)->paramid)
				return true;
		}
	}
	return false;
}

/* What a sublink leaves of the dist of the rows it is computed for. */
static void
apply_sublink(A67Level *level, A67Dist *dist, SubLink *sublink)
{
	A67Dist *inner = a67_dist_query(level, level->question, (Query *) sublink->subselect);

	if (inner->copies)
		return;
	dist->copies = false;
	if (dist->part && !a67_dist_tied(inner, level->depth, dist->table, dist->carriers) &&
		!tests_key(sublink, dist, inner))
		dist->part = false;
	if (dist->bound && !inner->bound && dist->part && tests_key(sublink, dist, inner))
		return;
	a67_dist_bind(dist, dist, inner);
	if (!dist->part && !dist->bound)
		a67_dist_mixed(level, "It has a subquery over rows of other shards.");
}

/* ---- the source */

/* Columns that are equal to the key are as good as it, and never null. */
static void
extend_carriers(A67Level *level, A67Dist *dist)
{
	List *extended = NIL;
	ListCell *lc;

	foreach(lc, dist->carriers)
	{
		A67Carrier *carrier = lfirst(lc);
		List *equals = a67_fact_vars(level->facts, carrier->expr);
		ListCell *le;

		extended = lappend(extended, carrier);
		foreach(le, equals)
		{
			A67Carrier *more = palloc0(sizeof(*more));

			more->table = carrier->table;
			more->expr = lfirst(le);
			if (a67_fact_plain((Node *) more->expr) &&
				a67_key_family(exprType((Node *) more->expr)) ==
					a67_key_family(carrier->table->key_type))
				extended = lappend(extended, more);
		}
		if (carrier->nullable && a67_fact_stated(level->facts, carrier->expr))
		{
			A67Carrier *solid = palloc(sizeof(*solid));

			*solid = *carrier;
			solid->nullable = false;
			llast(extended) = solid;
		}
	}
	dist->carriers = extended;
}

void
a67_level_resolve(A67Level *level, A67Dist *dist)
{
	List *outer = NIL;
	ListCell *lc;

	foreach(lc, dist->anchors)
	{
		A67Anchor *anchor = lfirst(lc);
		A67Anchor *rest = palloc(sizeof(*rest));
		bool here = false;
		ListCell *lt;

		*rest = *anchor;
		rest->terms = NIL;
		foreach(lt, anchor->terms)
		{
			A67Term *term = lfirst(lt);

			if (term->depth < level->depth)
				rest->terms = lappend(rest->terms, term);
			else if (term->depth == level->depth)
			{
				A67Carrier *carrier = a67_carrier_of(level->leaf_carriers, (Node *) term->expr);

				here |= carrier != NULL && a67_colocated(carrier->table, anchor->table);
			}
		}
		if (here)
			continue;
		if (rest->terms == NIL && rest->home < 0)
		{
			dist->bound = false;
			return;
		}
		outer = lappend(outer, rest);
	}
	dist->anchors = outer;
}

A67Dist *
a67_dist_level_source(A67Level *level, bool all_sublinks)
{
	A67Dist *dist = a67_dist_source(level);
	ListCell *lc;

	if (dist->part)
		extend_carriers(level, dist);
	foreach(lc, sublinks_of(level->query, all_sublinks))
		apply_sublink(level, dist, lfirst(lc));
	return dist;
}

/* ---- what is made of the source */

/* Whether rows that these clauses take for one have the same key. */
static bool
clauses_have_key(List *clauses, List *targets, List *carriers)
{
	ListCell *lc;

	foreach(lc, clauses)
	{
		Node *expr = get_sortgroupclause_expr(lfirst(lc), targets);
		A67Carrier *carrier = a67_carrier_of(carriers, expr);

		if (carrier != NULL && !carrier->nullable && a67_fact_plain(expr))
			return true;
	}
	return false;
}

/* Every grouping set must have the key in it. */
static bool
sets_have_key(Query *query, List *carriers)
{
	ListCell *lc;

	if (query->groupingSets == NIL)
		return clauses_have_key(query->groupClause, query->targetList, carriers);
	foreach(lc, expand_grouping_sets(query->groupingSets, query->groupDistinct, 4096))
	{
		List *clauses = NIL;
		ListCell *lr;

		foreach(lr, (List *) lfirst(lc))
			clauses = lappend(clauses, get_sortgroupref_clause(lfirst_int(lr), query->groupClause));
		if (!clauses_have_key(clauses, query->targetList, carriers))
			return false;
	}
	return true;
}

/* Why a query over a part is none itself, or NULL. */
static const char *
obstacle_to_part(Query *query, List *carriers)
{
	ListCell *lc;

	if ((query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
		 query->havingQual != NULL) &&
		!sets_have_key(query, carriers))
		return "It groups rows of different shards.";
	foreach(lc, query->windowClause)
	{
		if (!clauses_have_key(((WindowClause *) lfirst(lc))->partitionClause, query->targetList,
							  carriers))
			return "It has a window over rows of different shards.";
	}
	if (query->distinctClause != NIL &&
		!clauses_have_key(query->distinctClause, query->targetList, carriers))
		return "It has DISTINCT over rows of different shards.";
	if (query->limitCount != NULL || query->limitOffset != NULL)
		return "It limits rows of different shards.";
	return NULL;
}

/* What a carrier is equal to outside of the level. */
static List *
terms_outside(A67Level *level, A67Carrier *carrier)
{
	List *terms =
		list_concat_copy(carrier->terms, a67_fact_terms(level, level->facts, carrier->expr,
														carrier->table->key_type));
	ListCell *lc;

	foreach(lc, terms)
	{
		if (((A67Term *) lfirst(lc))->depth >= level->depth)
			terms = foreach_delete_current(terms, lc);
	}
	return terms;
}

List *
a67_query_outputs(Query *query)
{
	return query->commandType == CMD_SELECT ? query->targetList : query->returningList;
}

List *
a67_dist_outputs(A67Level *level, const A67Dist *source)
{
	List *outputs = NIL;
	ListCell *lc;

	foreach(lc, a67_query_outputs(level->query))
	{
		TargetEntry *entry = lfirst(lc);
		A67Carrier *carrier =
			entry->resjunk ? NULL : a67_carrier_of(source->carriers, (Node *) entry->expr);
		A67Carrier *output;

		if (carrier == NULL)
			continue;
		output = palloc0(sizeof(*output));
		output->table = carrier->table;
		output->resno = entry->resno;
		output->nullable = carrier->nullable;
		output->terms = terms_outside(level, carrier);
		outputs = lappend(outputs, output);
	}
	return outputs;
}

static A67Dist *
dist_of_select(A67Level *level)
{
	A67Dist *dist = a67_dist_level_source(level, true);

	if (dist->part)
	{
		const char *obstacle = obstacle_to_part(level->query, dist->carriers);

		dist->carriers = a67_dist_outputs(level, dist);
		if (obstacle != NULL)
		{
			dist->part = false;
			if (!dist->bound)
				return a67_dist_mixed(level, obstacle);
		}
	}
	return dist;
}

/* The limit of a union, and sublinks in it. */
static A67Dist *
dist_of_set(A67Level *level)
{
	Query *query = level->query;
	A67Dist *dist = a67_dist_set(level, query->setOperations);
	ListCell *lc;

	foreach(lc, sublinks_of(query, true))
		apply_sublink(level, dist, lfirst(lc));
	if (dist->part && (query->limitCount != NULL || query->limitOffset != NULL))
	{
		dist->part = false;
		if (!dist->bound)
			return a67_dist_mixed(level, "It limits rows of different shards.");
	}
	return dist;
}

/* CTEs that change rows do so once, where the statement runs. */
static void
apply_writes(A67Level *level, A67Dist *dist)
{
	ListCell *lc;

	foreach(lc, level->query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);
		A67Dist *write;

		if (((Query *) cte->ctequery)->commandType == CMD_SELECT)
			continue;
		write = a67_dist_with_nth(level, foreach_current_index(lc));
		if (write->copies && dist->copies)
			continue;
		dist->part = dist->part && write->part && a67_colocated(dist->table, write->table);
		if (dist->part)
			dist->shards = bms_union(dist->shards, write->shards);
		dist->quals = NIL;
		dist->copies = false;
		if (write->copies)
			dist->bound = false;
		else
			a67_dist_bind(dist, dist, write);
	}
}

A67Dist *
a67_dist_query(A67Level *parent, A67Question *question, Query *query)
{
	A67Level level;
	A67Dist *dist;

	check_stack_depth();
	a67_level_init(&level, parent, question, query);
	if (query->commandType != CMD_SELECT)
		dist = a67_dist_write(&level);
	else if (query->setOperations != NULL)
		dist = dist_of_set(&level);
	else
		dist = dist_of_select(&level);
	if (query->hasModifyingCTE)
		apply_writes(&level, dist);
	if (!dist->part)
		dist->carriers = NIL;
	if (dist->bound)
		a67_level_resolve(&level, dist);
	return dist;
}
