/*
 * modify_check.c - statements whose parts would see each other's changes; see modify.h.
 *
 * All parts of a statement see the rows as they were before it. On one server a snapshot sees to
 * that. Here each change is a statement on shards, and a read that reaches a shard after it would
 * find it done. A part reads all it needs before it changes anything itself; but nobody knows in
 * which order parts run. So they must not touch the same table, unless all but one only insert.
 */
#include "postgres.h"

#include "router/modify.h"

#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

/* What one part of the statement reads: the main query, or one in WITH that changes rows. */
typedef struct Reads
{
	Query *top;		/* whose WITH names are looked up */
	List *relids;	/* virtual tables */
	List *followed; /* names of queries in WITH that were looked into */
} Reads;

static CommonTableExpr *
find_cte(Query *top, const char *name)
{
	ListCell *cell;

	foreach(cell, top->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);

		if (strcmp(cte->ctename, name) == 0)
			return cte;
	}
	return NULL;
}

static bool
changes_rows(const CommonTableExpr *cte)
{
	return IsA(cte->ctequery, Query) && ((Query *) cte->ctequery)->commandType != CMD_SELECT;
}

static bool reads_walker(Node *node, Reads *reads);

/*
 * What a query in WITH reads, its reader reads when it runs; one that changes rows is a part of its
 * own.
 */
static void
follow_cte(Reads *reads, char *name)
{
	CommonTableExpr *cte = find_cte(reads->top, name);
	ListCell *cell;

	foreach(cell, reads->followed)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return;
	}
	reads->followed = lappend(reads->followed, name);
	if (cte != NULL && !changes_rows(cte))
		(void) reads_walker(cte->ctequery, reads);
}

static bool
reads_walker(Node *node, Reads *reads)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_walker, reads,
								 QTW_EXAMINE_RTES_BEFORE |
									 (node == (Node *) reads->top ? QTW_IGNORE_CTE_SUBQUERIES : 0));
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE)
			follow_cte(reads, rte->ctename);
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			a67_table(rte->relid) != NULL)
			reads->relids = lappend_oid(reads->relids, rte->relid);
		return false;
	}
	return expression_tree_walker(node, reads_walker, reads);
}

/* Tables that the part reads; INSERT names its target without reading it. */
static List *
reads_of(Query *top, Query *part)
{
	Reads reads = {.top = top, .relids = NIL, .followed = NIL};

	(void) reads_walker((Node *) part, &reads);
	if (part->commandType == CMD_INSERT)
		reads.relids =
			list_delete_oid(reads.relids, rt_fetch(part->resultRelation, part->rtable)->relid);
	return reads.relids;
}

static bool
names_part(Query *top, Query *select, Node *from, const Query *part)
{
	if (IsA(from, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) from)->rtindex, select->rtable);
		CommonTableExpr *cte = rte->rtekind == RTE_CTE ? find_cte(top, rte->ctename) : NULL;

		return cte != NULL && cte->ctequery == (Node *) part;
	}
	if (IsA(from, JoinExpr) && ((JoinExpr *) from)->jointype == JOIN_INNER)
		return names_part(top, select, ((JoinExpr *) from)->larg, part) ||
			   names_part(top, select, ((JoinExpr *) from)->rarg, part);
	return false;
}

/*
 * Whether every row that the main query, an INSERT, stores is joined with one of the part. Then
 * that one has read all it needs before the first row is stored.
 */
static bool
comes_first(Query *top, const Query *part)
{
	ListCell *cell;
	ListCell *item;

	if (top->commandType != CMD_INSERT)
		return false;
	foreach(cell, top->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind != RTE_SUBQUERY || rte->subquery->setOperations != NULL)
			continue;
		foreach(item, rte->subquery->jointree->fromlist)
		{
			if (names_part(top, rte->subquery, lfirst(item), part))
				return true;
		}
	}
	return false;
}

static void
check_part(Query *top, Query *part, Query *writer)
{
	Oid relid = rt_fetch(writer->resultRelation, writer->rtable)->relid;

	if (part == writer || !list_member_oid(reads_of(top, part), relid) ||
		(writer == top && comes_first(top, part)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("table \"%s\" is changed by one part of the statement and read by another",
					get_rel_name(relid)),
			 errdetail("The other part would see the changes on some shards."),
			 errhint("Use two statements in one transaction.")));
}

void
a67_modify_check(Query *query)
{
	List *parts = list_make1(query);
	ListCell *cell;
	ListCell *other;

	foreach(cell, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);

		if (changes_rows(cte))
			parts = lappend(parts, cte->ctequery);
	}
	if (list_length(parts) == 1)
		return;
	foreach(cell, parts)
	{
		Query *writer = lfirst_node(Query, cell);

		if (writer->commandType == CMD_SELECT || writer->resultRelation == 0 ||
			a67_table(rt_fetch(writer->resultRelation, writer->rtable)->relid) == NULL)
			continue;
		foreach(other, parts)
			check_part(query, lfirst_node(Query, other), writer);
	}
}
