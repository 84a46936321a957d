/*
 * combine_split.c - one level of a query, taken apart: what shards compute, and what PostgreSQL does with it here.
 *
 * Three ways, tried in this order:
 *   whole   each shard computes the level; order and LIMIT are done again here
 *   groups  shards group and aggregate their rows, and the aggregates are put together here
 *   rows    shards compute FROM and WHERE; DISTINCT and LIMIT are done there, and here again, when nothing comes before them here
 * The level's FROM becomes one relation, the shards' answers. Conditions that cannot be sent stay here; then only rows can be split. What has an
 * obstacle, whichever, leaves the level as it was: scans take over, which are always right.
 */
#include "postgres.h"

#include "router/combine_part.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "router/ship.h"

/* ---- LIMIT */

static Expr *
bounded(MinMaxOp op, Expr *expr, int64 bound)
{
	MinMaxExpr *result = makeNode(MinMaxExpr);
	Const *constant = makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(bound), false,
								FLOAT8PASSBYVAL);

	result->minmaxtype = INT8OID;
	result->op = op;
	result->args = list_make2(expr, constant);
	result->location = -1;
	return (Expr *) result;
}

/* Null becomes more rows than there are, nonsense becomes none: it is told of here. */
static Expr *
row_count(Node *expr)
{
	return bounded(IS_GREATEST, bounded(IS_LEAST, (Expr *) copyObject(expr), PG_INT64_MAX / 2), 0);
}

/* As many rows as LIMIT and OFFSET look at. */
static Node *
rows_to_send(Query *query)
{
	Expr *count = row_count(query->limitCount);

	if (query->limitOffset != NULL)
		count = (Expr *) makeFuncExpr(F_INT8PL, INT8OID,
									  list_make2(count, row_count(query->limitOffset)), InvalidOid,
									  InvalidOid, COERCE_EXPLICIT_CALL);
	return eval_const_expressions(NULL, (Node *) count);
}

/* ---- the two queries */

typedef struct Work
{
	Query *query; /* the level; not changed */
	ParamListInfo params;
	A67Analysis *analysis;
	List *keys;			/* of the source */
	List *local_quals;	/* conditions of WHERE that stay here */
	List *remote_quals; /* and those that go */
	A67Split split;
	Query *local;
} Work;

static Query *
flat_copy(const Query *query)
{
	Query *copy = makeNode(Query);

	*copy = *query;
	return copy;
}

static Expr *
conjunction(List *quals)
{
	return quals == NIL ? NULL : make_ands_explicit(quals);
}

/* A query over the level's FROM that has no columns yet. */
static Query *
bare_remote(Work *work)
{
	Query *remote = flat_copy(work->query);

	remote->jointree =
		makeFromExpr(work->query->jointree->fromlist, (Node *) conjunction(work->remote_quals));
	remote->targetList = remote->groupClause = remote->groupingSets = NIL;
	remote->distinctClause = remote->sortClause = remote->windowClause = NIL;
	remote->havingQual = remote->limitCount = remote->limitOffset = NULL;
	remote->limitOption = LIMIT_OPTION_COUNT;
	remote->hasAggs = remote->hasWindowFuncs = remote->hasDistinctOn = false;
	return remote;
}

static void
start_split(Work *work, Query *remote, bool groups)
{
	ListCell *lc;

	memset(&work->split, 0, sizeof(work->split));
	work->split.database = work->analysis->database;
	work->split.keys = work->keys;
	work->split.remote = remote;
	work->split.groups = groups;
	foreach(lc, work->query->targetList)
		work->split.last_ref =
			Max(work->split.last_ref, ((TargetEntry *) lfirst(lc))->ressortgroupref);
}

/* The level over the shards' answers; expressions are still those of the level. */
static void
start_local(Work *work)
{
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = A67_REMOTE_RTI;
	work->local = flat_copy(work->query);
	work->local->jointree = makeFromExpr(list_make1(ref), NULL);
	work->local->setOperations = NULL;
	work->local->targetList = NIL;
}

static void
add_local_entry(Work *work, const TargetEntry *like, Expr *expr)
{
	TargetEntry *entry = flatCopyTargetEntry((TargetEntry *) like);

	entry->expr = expr;
	work->local->targetList = lappend(work->local->targetList, entry);
}

/* Sends what was split, if it can be. */
static bool
finish(Work *work)
{
	Query *remote = work->split.remote;
	RangeTblEntry *rte;

	if (work->split.failed)
		return false;
	if (remote->targetList == NIL)
		a67_split_column(&work->split, (Expr *) makeBoolConst(true, false), NULL);
	remote->hasAggs = remote->hasAggs || contain_agg_clause((Node *) remote->targetList);
	a67_drop_unused_ctes(remote);
	if (a67_ship_obstacle(work->split.database, remote) != NULL)
		return false;
	rte = a67_remote_relation(work->analysis, remote, work->params);
	if (rte == NULL)
		return false;
	work->local->rtable = list_make1(rte);
	a67_drop_unused_ctes(work->local);
	return true;
}

static bool
can_send(const A67Analysis *analysis)
{
	return analysis->spread == A67_SPREAD_ONE || analysis->spread == A67_SPREAD_EACH ||
		   analysis->spread == A67_SPREAD_COPIES;
}

/* ---- whole */

static bool
is_limited(const Query *query)
{
	return query->limitCount != NULL || query->limitOffset != NULL;
}

static bool
is_single(const Query *query)
{
	return list_length(query->jointree->fromlist) == 1 &&
		   IsA(linitial(query->jointree->fromlist), RangeTblRef);
}

/* One table and conditions: what scans do, too, and with a choice of ways. */
static bool
is_scan(const Query *query)
{
	return query->setOperations == NULL && !query->hasAggs && query->groupClause == NIL &&
		   query->groupingSets == NIL && query->havingQual == NULL && query->windowClause == NIL &&
		   query->distinctClause == NIL && !is_limited(query) && is_single(query);
}

/* The parts need their order and LIMIT done again. */
static void
order_again(Work *work, Query *remote)
{
	ListCell *lc;

	if (work->query->limitCount != NULL)
		remote->limitCount = rows_to_send(work->query);
	else if (!remote->hasDistinctOn)
		remote->sortClause = NIL;
	foreach(lc, remote->targetList)
	{
		TargetEntry *entry = lfirst(lc);
		bool sorts =
			entry->ressortgroupref > 0 &&
			get_sortgroupref_clause_noerr(entry->ressortgroupref, work->query->sortClause) != NULL;

		if (!entry->resjunk || !sorts)
			continue;
		entry = flatCopyTargetEntry(entry);
		entry->resjunk = false;
		lfirst(lc) = entry;
	}
}

static bool
split_whole(Work *work)
{
	Query *remote = flat_copy(work->query);
	bool each;
	int column = 0;
	ListCell *lc;

	remote->limitCount = remote->limitOffset = NULL;
	work->analysis = a67_analyse(remote, work->params);
	if (!can_send(work->analysis))
		return false;
	each = work->analysis->spread == A67_SPREAD_EACH;
	remote->targetList = list_copy(remote->targetList);
	if (each)
		order_again(work, remote);
	else
		*remote = *work->query;
	start_split(work, remote, false);
	start_local(work);
	foreach(lc, remote->targetList)
	{
		TargetEntry *entry = lfirst(lc);
		TargetEntry *original = list_nth(work->query->targetList, foreach_current_index(lc));
		Var *var = makeVarFromTargetEntry(A67_REMOTE_RTI, entry);

		if (entry->resjunk)
			continue;
		var->varattno = ++column;
		add_local_entry(work, original, (Expr *) var);
		((TargetEntry *) llast(work->local->targetList))->resno = column;
	}
	work->local->groupClause = work->local->groupingSets = NIL;
	work->local->windowClause = work->local->distinctClause = NIL;
	work->local->havingQual = NULL;
	work->local->hasAggs = work->local->hasWindowFuncs = false;
	work->local->hasTargetSRFs = work->local->hasDistinctOn = false;
	if (!each)
	{
		work->local->sortClause = NIL;
		work->local->limitCount = work->local->limitOffset = NULL;
		work->local->limitOption = LIMIT_OPTION_COUNT;
	}
	return finish(work);
}

/* ---- groups */

static bool
split_groups(Work *work)
{
	Query *query = work->query;
	ListCell *lc;

	if (work->local_quals != NIL)
		return false;
	start_split(work, bare_remote(work), true);
	if (query->groupingSets != NIL || a67_adds_groups((Node *) query->targetList, &work->split) ||
		a67_adds_groups(query->havingQual, &work->split))
		work->split.keys = NIL;
	start_local(work);
	foreach(lc, query->groupClause)
	{
		SortGroupClause *clause = lfirst(lc);
		Node *expr = get_sortgroupclause_expr(clause, query->targetList);

		a67_split_group(&work->split, (Expr *) expr, clause);
	}
	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst(lc);

		add_local_entry(work, entry, (Expr *) a67_split_localize(&work->split, entry->expr));
	}
	work->local->havingQual = a67_split_localize(&work->split, query->havingQual);
	return finish(work);
}

/* ---- rows */

/* Clauses over the shards' columns; NIL when one of them is none. */
static List *
remote_clauses(Work *work, List *clauses)
{
	List *mapped = NIL;
	ListCell *lc;

	foreach(lc, clauses)
	{
		SortGroupClause *clause = copyObject((SortGroupClause *) lfirst(lc));
		Node *expr = get_sortgroupclause_expr(clause, work->query->targetList);
		TargetEntry *column = a67_split_find(&work->split, (Expr *) expr);

		if (column == NULL)
			return NIL;
		if (column->ressortgroupref == 0)
			column->ressortgroupref = ++work->split.last_ref;
		clause->tleSortGroupRef = column->ressortgroupref;
		mapped = lappend(mapped, clause);
	}
	return mapped;
}

/* DISTINCT and LIMIT go to the shards when all that comes before them is done there; whether one did. */
static bool
push_reduction(Work *work, bool all_sent)
{
	Query *query = work->query;
	Query *remote = work->split.remote;
	List *order;

	if (work->local_quals != NIL || query->windowClause != NIL)
		return false;
	order = remote_clauses(work, query->sortClause);
	if (query->distinctClause != NIL)
	{
		if (!all_sent || (query->hasDistinctOn && order == NIL && query->sortClause != NIL))
			return false;
		remote->distinctClause = remote_clauses(work, query->distinctClause);
		remote->hasDistinctOn = query->hasDistinctOn;
		if (remote->distinctClause == NIL)
			return false;
		if (query->hasDistinctOn)
			remote->sortClause = order;
	}
	if (query->limitCount == NULL || (query->hasTargetSRFs && !all_sent) ||
		(order == NIL && query->sortClause != NIL))
		return remote->distinctClause != NIL;
	remote->sortClause = order;
	remote->limitCount = rows_to_send(query);
	remote->limitOption = query->limitOption;
	return true;
}

static bool
is_sent(Work *work, Expr *expr)
{
	return work->local_quals == NIL && !contain_windowfuncs((Node *) expr) &&
		   !checkExprHasSubLink((Node *) expr) &&
		   !(IsA(expr, Var) && ((Var *) expr)->varattno <= 0) &&
		   a67_ship_obstacle_expr(work->split.database, (Node *) expr) == NULL;
}

/* `reduce`: DISTINCT and LIMIT as well. Rows of a single relation are better scanned. */
static bool
split_rows(Work *work, bool reduce)
{
	Query *query = work->query;
	bool all_sent = true;
	bool reduced;
	ListCell *lc;

	start_split(work, bare_remote(work), false);
	start_local(work);
	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst(lc);
		bool sent = is_sent(work, entry->expr);

		all_sent &= sent;
		add_local_entry(work, entry,
						sent ? a67_split_column(&work->split, entry->expr, entry->resname)
							 : (Expr *) a67_split_localize(&work->split, entry->expr));
	}
	work->local->jointree->quals = a67_split_localize(&work->split, conjunction(work->local_quals));
	reduced = reduce && push_reduction(work, all_sent);
	if (!reduced && is_single(query))
		return false;
	work->local->hasTargetSRFs = expression_returns_set((Node *) work->local->targetList);
	return finish(work);
}

/* ---- the level */

/* Which conditions of WHERE go to the shards: all that can, without those on subqueries if these are what keeps rows from being parts. */
static bool
divide_conditions(Work *work, const A67Database *database)
{
	Query *source = flat_copy(work->query);

	for (int with_subqueries = 1; with_subqueries >= 0; with_subqueries--)
	{
		ListCell *lc;

		work->local_quals = work->remote_quals = NIL;
		foreach(lc, make_ands_implicit((Expr *) work->query->jointree->quals))
		{
			Node *qual = lfirst(lc);

			if (a67_ship_obstacle_expr(database, qual) != NULL ||
				(!with_subqueries && checkExprHasSubLink(qual)))
				work->local_quals = lappend(work->local_quals, qual);
			else
				work->remote_quals = lappend(work->remote_quals, qual);
		}
		source->jointree =
			makeFromExpr(work->query->jointree->fromlist, (Node *) conjunction(work->remote_quals));
		work->analysis = a67_analyse_source(source, work->params, &work->keys);
		if (can_send(work->analysis))
			return true;
	}
	return false;
}

static bool
split_source(Work *work)
{
	Query *query = work->query;
	A67Analysis *any = a67_analyse(query, work->params);

	if (query->setOperations != NULL || any->database == NULL ||
		!divide_conditions(work, any->database))
		return false;
	if (query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
		query->havingQual != NULL)
		return split_groups(work);
	return split_rows(work, true) || split_rows(work, false);
}

/* As it is, or with the values of its independent subqueries as parameters. */
static bool
split_lifted(Work *work, Query *query)
{
	List *lifted = NIL;

	work->query = query;
	if (split_whole(work) || split_source(work))
		return true;
	if (!query->hasSubLinks)
		return false;
	work->query = a67_lift(query, &lifted);
	if (lifted == NIL || !(split_whole(work) || split_source(work)))
		return false;
	work->local = (Query *) a67_lower((Node *) work->local, lifted);
	work->local->hasSubLinks = true;
	return true;
}

bool
a67_split_query(Query *query, ParamListInfo params)
{
	Work work = {.params = params};

	if (is_scan(query) || !split_lifted(&work, copyObject(a67_query_flat(query))))
		return false;
	*query = *work.local;
	return true;
}
