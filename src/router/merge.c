/*
 * merge.c - analysis of MERGE into a virtual table; see merge.h.
 *
 * The disguise is the kind of relation in this process's relation cache. When the entry is rebuilt
 * meanwhile the disguise is gone, and the analysis fails as it would without: nothing worse can
 * come of it.
 */
#include "postgres.h"

#include "router/merge.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "utils/rel.h"

#include "router/catalog.h"

static MergeStmt *
merge_of(Node *statement)
{
	if (IsA(statement, ExplainStmt))
		statement = ((ExplainStmt *) statement)->query;
	return IsA(statement, MergeStmt) ? (MergeStmt *) statement : NULL;
}

Relation
a67_merge_disguise(RawStmt *statement)
{
	MergeStmt *merge = merge_of(statement->stmt);
	Relation target;

	if (merge == NULL)
		return NULL;
	target = table_openrv_extended(merge->relation, RowExclusiveLock, true);
	if (target == NULL)
		return NULL;
	if (target->rd_rel->relkind != RELKIND_FOREIGN_TABLE ||
		a67_table(RelationGetRelid(target)) == NULL)
	{
		table_close(target, NoLock);
		return NULL;
	}
	target->rd_rel->relkind = RELKIND_RELATION;
	return target;
}

void
a67_merge_reveal(Relation target)
{
	if (target == NULL)
		return;
	target->rd_rel->relkind = RELKIND_FOREIGN_TABLE;
	table_close(target, NoLock);
}

static bool
mend_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_RELATION &&
			a67_table(rte->relid) != NULL)
			rte->relkind = RELKIND_FOREIGN_TABLE;
		return false;
	}
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;

		if (query->utilityStmt != NULL && IsA(query->utilityStmt, ExplainStmt))
			return mend_walker(((ExplainStmt *) query->utilityStmt)->query, context);
		return query_tree_walker(query, mend_walker, context,
								 QTW_EXAMINE_RTES_BEFORE | QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, mend_walker, context);
}

void
a67_merge_mend(List *queries)
{
	(void) mend_walker((Node *) queries, NULL);
}
