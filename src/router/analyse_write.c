/*
 * analyse_write.c - INSERT, UPDATE, DELETE and MERGE on the shards.
 *
 * A write to a distributed table can be done by each shard when what it reads lies there too, and by one shard when all of it is bound. A row that
 * is inserted must carry its key from where it is made, or have a known one; a key may not change. Reference tables are written on every shard
 * alike, from copies only.
 */
#include "postgres.h"

#include "router/analyse_dist.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"

#include "router/key.h"

static const A67Table *
target_of(A67Level *level)
{
	RangeTblEntry *rte = rt_fetch(level->query->resultRelation, level->query->rtable);

	return rte->relkind == RELKIND_FOREIGN_TABLE ? a67_table(rte->relid) : NULL;
}

/* Whether assignments leave the key as it is. */
static bool
keeps_key(const A67Table *table, int rti, List *assignments)
{
	ListCell *lc;

	foreach(lc, assignments)
	{
		TargetEntry *entry = lfirst(lc);
		Var *var = (Var *) entry->expr;

		if (entry->resjunk || entry->resno != table->key)
			continue;
		if (!IsA(var, Var) || var->varno != rti || var->varattno != table->key ||
			var->varlevelsup != 0)
			return false;
	}
	return true;
}

static void
add_anchor(A67Dist *dist, const A67Table *table, List *terms, int home)
{
	A67Anchor *anchor = palloc(sizeof(*anchor));

	anchor->table = table;
	anchor->terms = terms;
	anchor->home = home;
	dist->anchors = lappend(list_copy(dist->anchors), anchor);
}

/* What new rows of `table` leave of the dist of what they are made from, of which the level's facts hold. */
static void
place_new_rows(A67Level *level, A67Dist *dist, const A67Table *table, List *targets)
{
	TargetEntry *entry = get_tle_by_resno(targets, table->key);
	A67Carrier *carrier;
	List *terms = NIL;

	dist->copies = false;
	carrier = entry == NULL ? NULL : a67_carrier_of(dist->carriers, (Node *) entry->expr);
	if (dist->part && carrier != NULL && !carrier->nullable && a67_colocated(carrier->table, table))
		return;
	dist->part = false;
	if (entry != NULL)
	{
		Expr *key = a67_fact_strip((Node *) entry->expr);

		if (IsA(key, Var) || a67_fact_known((Node *) key))
			terms = a67_fact_terms(level, level->facts, key, table->key_type);
	}
	if (terms == NIL)
		dist->bound = false;
	else if (dist->bound)
		add_anchor(dist, table, terms, -1);
}

static A67Dist *
dist_of_insert(A67Level *level, const A67Table *table)
{
	Query *query = level->query;
	A67Dist *dist = a67_dist_level_source(level, true);
	OnConflictExpr *conflict = query->onConflict;

	if (table->strategy == A67_REFERENCE)
		return dist->copies ? dist
							: a67_dist_mixed(level, "It fills a reference table from others.");
	if (table->strategy == A67_LOCAL)
	{
		dist->copies = dist->part = false;
		if (dist->bound)
			add_anchor(dist, table, NIL, table->home);
	}
	else
		place_new_rows(level, dist, table, query->targetList);
	if (conflict != NULL && table->strategy != A67_LOCAL &&
		!keeps_key(table, query->resultRelation, conflict->onConflictSet))
		return a67_dist_mixed(level, "It changes the key that says where a row is.");
	if (!dist->part && !dist->bound)
		return a67_dist_mixed(level, "It inserts rows that are made elsewhere.");
	return dist;
}

static A67Dist *
dist_of_change(A67Level *level, const A67Table *table)
{
	Query *query = level->query;
	A67Dist *dist = a67_dist_level_source(level, true);
	bool carried = false;
	ListCell *lc;

	if (table->strategy == A67_REFERENCE)
		return dist->copies ? dist
							: a67_dist_mixed(level, "It changes a reference table by others.");
	if (table->strategy != A67_LOCAL && query->commandType == CMD_UPDATE &&
		!keeps_key(table, query->resultRelation, query->targetList))
		return a67_dist_mixed(level, "It changes the key that says where a row is.");
	foreach(lc, dist->carriers)
	{
		A67Carrier *carrier = lfirst(lc);
		Var *var = (Var *) carrier->expr;

		carried |= IsA(var, Var) && var->varno == query->resultRelation &&
				   var->varattno == table->key && !carrier->nullable;
	}
	dist->copies = false;
	dist->part = dist->part && carried;
	if (dist->part)
		dist->carriers = a67_dist_outputs(level, dist);
	return dist;
}

/* MERGE: rows of the source that match nothing count too, so its condition says nothing about them. */
static A67Dist *
dist_of_merge(A67Level *level, const A67Table *table)
{
	Query *query = level->query;
	FromExpr *from = query->jointree;
	List *facts = a67_facts_of(level, NIL, from->quals);
	A67Dist *target;
	A67Dist *dist;
	ListCell *lc;

	if (table->strategy == A67_REFERENCE)
		return a67_dist_mixed(level, "It merges into a reference table.");
	if (checkExprHasSubLink(from->quals))
		return a67_dist_mixed(level, "Its condition has a subquery.");
	target = a67_dist_leaf(level, query->resultRelation, facts, NIL);
	level->query = copyObject(query);
	level->query->jointree->quals = NULL;
	dist = a67_dist_level_source(level, true);
	level->query = query;
	/* Where the rows of the source are, all rows are that match them. */
	if (!a67_dist_joined(dist, target, facts))
		a67_dist_bind(dist, dist, target);
	foreach(lc, query->mergeActionList)
	{
		MergeAction *action = lfirst(lc);

		if (table->strategy == A67_LOCAL)
			break;
		if (action->commandType == CMD_INSERT)
			place_new_rows(level, dist, table, action->targetList);
		else if (action->commandType == CMD_UPDATE &&
				 !keeps_key(table, query->resultRelation, action->targetList))
			return a67_dist_mixed(level, "It changes the key that says where a row is.");
	}
	dist->copies = dist->part = false;
	if (!dist->bound)
		return a67_dist_mixed(level, "It merges rows of different shards.");
	return dist;
}

A67Dist *
a67_dist_write(A67Level *level)
{
	const A67Table *table;

	if (level->query->commandType == CMD_UTILITY)
		return a67_dist_mixed(level, "It is no query.");
	table = target_of(level);
	if (table == NULL)
	{
		level->question->foreign = true;
		return a67_dist_mixed(level, "It writes to a relation that is no virtual table.");
	}
	if (level->question->database == NULL)
		level->question->database = table->database;
	else if (level->question->database != table->database)
		return a67_dist_mixed(level, "It concerns several virtual databases.");
	switch (level->query->commandType)
	{
		case CMD_INSERT:
			return dist_of_insert(level, table);
		case CMD_MERGE:
			return dist_of_merge(level, table);
		default:
			return dist_of_change(level, table);
	}
}
