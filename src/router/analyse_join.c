/*
 * analyse_join.c - how the rows of FROM and WHERE lie on the shards.
 *
 * Goes down the tree of joins with what is known of the rows that matter: conditions that every row of the result fulfils hold for the
 * rows of each relation that can become part of one. Below the nullable side of a join its own condition counts too; as facts are
 * strict, those from above hold there as well: a row that is made of nulls instead of a match fulfils none that speaks of its columns. Then goes up and
 * says for each join whether shards can compute it by themselves.
 */
#include "postgres.h"

#include "router/analyse_dist.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

#include "router/prune.h"

static A67Dist *dist_of_node(A67Level *level, Node *node, List *facts, List *quals);

A67Dist *
a67_dist_copies(void)
{
	A67Dist *dist = palloc0(sizeof(*dist));

	dist->copies = true;
	dist->bound = true;
	return dist;
}

A67Dist *
a67_dist_mixed(A67Level *level, const char *reason)
{
	if (level->question->reason == NULL)
		level->question->reason = reason;
	return palloc0(sizeof(A67Dist));
}

void
a67_dist_bind(A67Dist *result, const A67Dist *one, const A67Dist *other)
{
	result->bound = one->bound && other->bound;
	if (result->bound)
		result->anchors = list_concat_copy(one->anchors, other->anchors);
}

A67Carrier *
a67_carrier_of(List *carriers, Node *expr)
{
	Expr *bare = a67_fact_strip(expr);
	ListCell *lc;

	foreach(lc, carriers)
	{
		A67Carrier *carrier = lfirst(lc);

		if (equal(carrier->expr, bare))
			return carrier;
	}
	return NULL;
}

bool
a67_dist_tied(const A67Dist *dist, int depth, const A67Table *table, List *carriers)
{
	ListCell *lc;

	if (!dist->bound)
		return false;
	foreach(lc, dist->anchors)
	{
		A67Anchor *anchor = lfirst(lc);
		bool tied = false;
		ListCell *lt;

		foreach(lt, anchor->terms)
		{
			A67Term *term = lfirst(lt);

			if (term->depth == depth && a67_carrier_of(carriers, (Node *) term->expr) != NULL)
				tied = true;
		}
		if (!tied || !a67_colocated(anchor->table, table))
			return false;
	}
	return true;
}

/* ---- relations */

static A67Anchor *
anchor_make(const A67Table *table, List *terms, int home)
{
	A67Anchor *anchor = palloc(sizeof(*anchor));

	anchor->table = table;
	anchor->terms = terms;
	anchor->home = home;
	return anchor;
}

static A67Carrier *
carrier_make(const A67Table *table, Expr *expr, bool nullable)
{
	A67Carrier *carrier = palloc0(sizeof(*carrier));

	carrier->table = table;
	carrier->expr = expr;
	carrier->nullable = nullable;
	return carrier;
}

/* A distributed table is bound when its key is equal to something, or when constants leave one shard. */
static void
bind_table(A67Level *level, A67Dist *dist, List *facts)
{
	const A67Table *table = dist->table;
	A67Carrier *key = linitial(dist->carriers);
	List *terms = a67_fact_terms(level, facts, key->expr, table->key_type);
	int home = -1;

	if (bms_num_members(dist->shards) <= 1)
		home = bms_is_empty(dist->shards) ? bms_next_member(a67_shards_of_table(table), -1)
										  : bms_singleton_member(dist->shards);
	if (terms == NIL && home < 0)
		return;
	dist->bound = true;
	dist->anchors = list_make1(anchor_make(table, terms, home));
}

/* Conditions on the table alone that speak of its key, with the relation as number 1: as prune.h wants them in a plan. */
static List *
quals_of_key(List *quals, int rti, AttrNumber key)
{
	List *own = NIL;
	ListCell *lc;

	foreach(lc, quals)
	{
		Node *qual = lfirst(lc);
		Bitmapset *columns = NULL;
		int only;

		if (checkExprHasSubLink(qual) || contain_volatile_functions(qual) ||
			!bms_get_singleton_member(pull_varnos(NULL, qual), &only) || only != rti ||
			a67_fact_reaches_out(qual, NULL))
			continue;
		pull_varattnos(qual, rti, &columns);
		if (!bms_is_member(key - FirstLowInvalidHeapAttributeNumber, columns))
			continue;
		qual = copyObject(qual);
		ChangeVarNodes(qual, rti, 1, 0);
		own = lappend(own, qual);
	}
	return own;
}

static A67Dist *
dist_of_distributed(A67Level *level, const A67Table *table, int rti, List *facts, List *quals)
{
	A67Dist *dist = palloc0(sizeof(*dist));
	Oid type;
	Oid collation;
	int32 typmod;
	Var *key;

	get_atttypetypmodcoll(table->relid, table->key, &type, &typmod, &collation);
	key = makeVar(rti, table->key, type, typmod, collation, 0);
	dist->part = true;
	dist->table = table;
	dist->carriers = list_make1(carrier_make(table, (Expr *) key, false));
	dist->qual_table = table;
	dist->quals = quals_of_key(quals, rti, table->key);
	dist->shards = a67_prune(table, dist->quals, 1, level->question->params);
	bind_table(level, dist, facts);
	return dist;
}

static A67Dist *
dist_of_table(A67Level *level, RangeTblEntry *rte, int rti, List *facts, List *quals)
{
	A67Question *question = level->question;
	const A67Table *table = rte->relkind == RELKIND_FOREIGN_TABLE ? a67_table(rte->relid) : NULL;
	A67Dist *dist;

	if (table == NULL || (rte->inh && has_subclass(rte->relid)))
	{
		question->foreign = true;
		return a67_dist_mixed(level, "It reads relations that are not virtual tables.");
	}
	if (question->database == NULL)
		question->database = table->database;
	else if (question->database != table->database)
	{
		question->foreign = true;
		return a67_dist_mixed(level, "It reads tables of several virtual databases.");
	}
	if (table->strategy == A67_REFERENCE)
		return a67_dist_copies();
	if (table->strategy != A67_LOCAL)
		return dist_of_distributed(level, table, rti, facts, quals);
	dist = palloc0(sizeof(*dist));
	dist->bound = true;
	dist->anchors = list_make1(anchor_make(table, NIL, table->home));
	return dist;
}

/* The facts that a subquery's output brings along: what its keys are equal to inside holds outside. */
static void
bind_carriers(A67Level *level, A67Dist *dist, List *facts)
{
	ListCell *lc;

	foreach(lc, dist->carriers)
	{
		A67Carrier *carrier = lfirst(lc);
		List *terms = list_concat_copy(carrier->terms, a67_fact_terms(level, facts, carrier->expr,
																	  dist->table->key_type));

		if (terms == NIL || dist->bound)
			continue;
		dist->bound = true;
		dist->anchors = list_make1(anchor_make(dist->table, terms, -1));
	}
}

/* A query's result as a relation of the level: its columns become Vars. */
static A67Dist *
dist_as_relation(A67Level *level, const A67Dist *result, Query *query, int rti, List *facts)
{
	A67Dist *dist = palloc(sizeof(*dist));
	ListCell *lc;

	*dist = *result;
	dist->carriers = NIL;
	foreach(lc, result->carriers)
	{
		A67Carrier *output = lfirst(lc);
		TargetEntry *entry = get_tle_by_resno(a67_query_outputs(query), output->resno);
		A67Carrier *carrier = palloc(sizeof(*carrier));

		*carrier = *output;
		carrier->expr = (Expr *) makeVarFromTargetEntry(rti, entry);
		dist->carriers = lappend(dist->carriers, carrier);
	}
	if (dist->part)
		bind_carriers(level, dist, facts);
	return dist;
}

A67Dist *
a67_dist_leaf(A67Level *level, int rti, List *facts, List *quals)
{
	RangeTblEntry *rte = rt_fetch(rti, level->query->rtable);

	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return dist_of_table(level, rte, rti, facts, quals);
		case RTE_SUBQUERY:
			if (rte->security_barrier)
				return a67_dist_mixed(level, "It reads a view with security_barrier.");
			return dist_as_relation(level, a67_dist_query(level, level->question, rte->subquery),
									rte->subquery, rti, facts);
		case RTE_CTE:
		{
			Query *query = NULL;
			A67Dist *dist = a67_dist_with(level, rte, &query);

			if (dist != NULL)
				return dist_as_relation(level, dist, query, rti, facts);
			level->question->foreign = true;
			return a67_dist_mixed(level, "It reads a CTE of an outer query.");
		}
		case RTE_FUNCTION:
		case RTE_TABLEFUNC:
		case RTE_VALUES:
		case RTE_RESULT:
			return a67_dist_copies();
		default:
			return a67_dist_mixed(level, "It reads a relation that only exists here.");
	}
}

/* ---- joins */

bool
a67_dist_joined(const A67Dist *left, const A67Dist *right, List *facts)
{
	ListCell *ll;
	ListCell *lr;

	if (!left->part || !right->part || !a67_colocated(left->table, right->table))
		return false;
	foreach(ll, left->carriers)
	{
		A67Carrier *one = lfirst(ll);

		foreach(lr, right->carriers)
		{
			A67Carrier *other = lfirst(lr);

			if (a67_fact_equal(facts, one->expr, other->expr))
				return true;
		}
	}
	return false;
}

static List *
carriers_nullable(List *carriers)
{
	List *result = NIL;
	ListCell *lc;

	foreach(lc, carriers)
	{
		A67Carrier *carrier = palloc(sizeof(*carrier));

		*carrier = *(A67Carrier *) lfirst(lc);
		carrier->nullable = true;
		result = lappend(result, carrier);
	}
	return result;
}

/* `result` becomes the part that `base` is. */
static void
part_as(A67Dist *result, const A67Dist *base, List *more_carriers)
{
	result->part = true;
	result->table = base->table;
	result->shards = base->shards;
	result->qual_table = base->qual_table;
	result->quals = base->quals;
	result->carriers = list_concat_copy(base->carriers, more_carriers);
}

static void
inner_parts(A67Level *level, A67Dist *result, const A67Dist *one, const A67Dist *other, List *facts)
{
	if (a67_dist_joined(one, other, facts))
	{
		/* Where the rows of one are, all rows are that join with them. */
		if (!result->bound && (one->bound || other->bound))
		{
			result->bound = true;
			result->anchors = one->bound ? one->anchors : other->anchors;
		}
		part_as(result, one->quals != NIL ? one : other,
				one->quals != NIL ? other->carriers : one->carriers);
		result->shards = bms_intersect(one->shards, other->shards);
	}
	else if (one->part &&
			 (other->copies || a67_dist_tied(other, level->depth, one->table, one->carriers)))
		part_as(result, one, NIL);
	else if (other->part && one->copies)
		part_as(result, other, NIL);
}

static A67Dist *
join_inner(A67Level *level, const A67Dist *one, const A67Dist *other, List *facts)
{
	A67Dist *result = palloc0(sizeof(*result));

	result->copies = one->copies && other->copies;
	a67_dist_bind(result, one, other);
	inner_parts(level, result, one, other, facts);
	if (!result->copies && !result->part && !result->bound)
		return a67_dist_mixed(level, "It joins rows of different shards.");
	return result;
}

/* `kept`: every row of it is in the result, with nulls when nothing of the other side joins. */
static A67Dist *
join_outer(A67Level *level, const A67Dist *kept, const A67Dist *other, List *facts)
{
	A67Dist *result = palloc0(sizeof(*result));

	result->copies = kept->copies && other->copies;
	a67_dist_bind(result, kept, other);
	if (a67_dist_joined(kept, other, facts))
	{
		if (!result->bound && kept->bound)
		{
			result->bound = true;
			result->anchors = kept->anchors;
		}
		part_as(result, kept, carriers_nullable(other->carriers));
	}
	else if (kept->part &&
			 (other->copies || a67_dist_tied(other, level->depth, kept->table, kept->carriers)))
		part_as(result, kept, NIL);
	if (!result->copies && !result->part && !result->bound)
		return a67_dist_mixed(level, "It has an outer join of rows of different shards.");
	return result;
}

/* COALESCE(one, other) of a full join: what USING and natural joins make of its keys; never null. */
static List *
carriers_merged(const A67Dist *one, const A67Dist *other, List *carriers)
{
	ListCell *ll;
	ListCell *lr;

	foreach(ll, one->carriers)
	{
		foreach(lr, other->carriers)
		{
			A67Carrier *left = lfirst(ll);
			A67Carrier *right = lfirst(lr);
			CoalesceExpr *merged;

			if (left->nullable || right->nullable ||
				exprType((Node *) left->expr) != exprType((Node *) right->expr))
				continue;
			merged = makeNode(CoalesceExpr);
			merged->coalescetype = exprType((Node *) left->expr);
			merged->coalescecollid = exprCollation((Node *) left->expr);
			merged->args = list_make2(left->expr, right->expr);
			merged->location = -1;
			carriers = lappend(carriers, carrier_make(left->table, (Expr *) merged, false));
		}
	}
	return carriers;
}

static A67Dist *
join_full(A67Level *level, const A67Dist *one, const A67Dist *other, List *facts)
{
	A67Dist *result = palloc0(sizeof(*result));

	result->copies = one->copies && other->copies;
	a67_dist_bind(result, one, other);
	if (a67_dist_joined(one, other, facts))
	{
		part_as(result, one, NIL);
		result->carriers = carriers_merged(one, other,
										   list_concat(carriers_nullable(one->carriers),
													   carriers_nullable(other->carriers)));
		result->shards = bms_union(one->shards, other->shards);
		result->quals = NIL;
	}
	if (!result->copies && !result->part && !result->bound)
		return a67_dist_mixed(level, "It has a full join of rows of different shards.");
	return result;
}

/* ---- the tree */

/* Adds conjuncts to a list of conditions. */
static List *
conjuncts(List *quals, Node *condition)
{
	if (condition == NULL)
		return quals;
	return list_concat_copy(quals, make_ands_implicit((Expr *) condition));
}

/* Those that no row made of nulls fulfils: they hold for the rows of a relation whose side of a join may be nulls. */
static List *
strict_quals(List *quals)
{
	List *strict = NIL;
	ListCell *lc;

	foreach(lc, quals)
	{
		Node *qual = lfirst(lc);
		int only;

		if (bms_get_singleton_member(pull_varnos(NULL, qual), &only) &&
			bms_is_member(only, find_nonnullable_rels(qual)))
			strict = lappend(strict, qual);
	}
	return strict;
}

static A67Dist *
dist_of_from(A67Level *level, FromExpr *from, List *facts, List *quals)
{
	A67Dist *dist = NULL;
	ListCell *lc;

	quals = conjuncts(quals, from->quals);
	foreach(lc, from->fromlist)
	{
		A67Dist *next = dist_of_node(level, lfirst(lc), facts, quals);

		dist = dist == NULL ? next : join_inner(level, dist, next, facts);
	}
	return dist == NULL ? a67_dist_copies() : dist;
}

static A67Dist *
dist_of_join(A67Level *level, JoinExpr *join, List *facts, List *quals)
{
	Node *condition = join->quals;
	List *joined_facts = a67_facts_of(level, facts, condition);
	List *kept_quals = strict_quals(quals);
	List *other_quals;
	A67Dist *left;
	A67Dist *right;

	switch (join->jointype)
	{
		case JOIN_INNER:
			other_quals = conjuncts(quals, condition);
			left = dist_of_node(level, join->larg, joined_facts, other_quals);
			right = dist_of_node(level, join->rarg, joined_facts, other_quals);
			return join_inner(level, left, right, joined_facts);
		case JOIN_LEFT:
			other_quals = conjuncts(kept_quals, condition);
			left = dist_of_node(level, join->larg, facts, quals);
			right = dist_of_node(level, join->rarg, joined_facts, other_quals);
			return join_outer(level, left, right, joined_facts);
		case JOIN_RIGHT:
			other_quals = conjuncts(kept_quals, condition);
			left = dist_of_node(level, join->larg, joined_facts, other_quals);
			right = dist_of_node(level, join->rarg, facts, quals);
			return join_outer(level, right, left, joined_facts);
		default:
			left = dist_of_node(level, join->larg, facts, kept_quals);
			right = dist_of_node(level, join->rarg, facts, kept_quals);
			return join_full(level, left, right, a67_facts_of(level, NIL, condition));
	}
}

static A67Dist *
dist_of_node(A67Level *level, Node *node, List *facts, List *quals)
{
	A67Dist *dist;

	if (IsA(node, FromExpr))
		return dist_of_from(level, (FromExpr *) node, facts, quals);
	if (IsA(node, JoinExpr))
		return dist_of_join(level, (JoinExpr *) node, facts, quals);
	dist = a67_dist_leaf(level, ((RangeTblRef *) node)->rtindex, facts, quals);
	level->leaf_carriers = list_concat(level->leaf_carriers, dist->carriers);
	return dist;
}

/* What holds for every row of the result. */
static List *
facts_of_tree(A67Level *level, List *facts, Node *node)
{
	ListCell *lc;

	if (IsA(node, FromExpr))
	{
		facts = a67_facts_of(level, facts, ((FromExpr *) node)->quals);
		foreach(lc, ((FromExpr *) node)->fromlist)
			facts = facts_of_tree(level, facts, lfirst(lc));
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr *join = (JoinExpr *) node;

		if (join->jointype == JOIN_INNER)
			facts = a67_facts_of(level, facts, join->quals);
		if (join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT)
			facts = facts_of_tree(level, facts, join->larg);
		if (join->jointype == JOIN_INNER || join->jointype == JOIN_RIGHT)
			facts = facts_of_tree(level, facts, join->rarg);
	}
	return facts;
}

A67Dist *
a67_dist_source(A67Level *level)
{
	Node *tree = (Node *) level->query->jointree;

	level->facts = facts_of_tree(level, NIL, tree);
	return dist_of_node(level, tree, level->facts, NIL);
}
