/*
 * analyse_with.c - CTEs on the shards.
 *
 * A CTE lies on the shards as its query does. What a recursive one does is found from an assumption: its rows lie as those of the first term
 * do; as long as the recursive term, looked at under the assumption, does not bear it out, the assumption is weakened.
 */
#include "postgres.h"

#include "router/analyse_dist.h"

#include "parser/parsetree.h"

static A67Dist *
without_terms(A67Dist *dist)
{
	bool solid;

	dist->carriers = a67_carriers_shared(dist->carriers, dist->carriers, &solid);
	dist->quals = NIL;
	return dist;
}

static int
count_nullable(List *carriers)
{
	int count = 0;
	ListCell *lc;

	foreach(lc, carriers)
		count += ((A67Carrier *) lfirst(lc))->nullable;
	return count;
}

/* What of the assumption holds for both terms; *weaker tells whether it is less. */
static A67Dist *
weaken(const A67Dist *assumed, const A67Dist *term, SetOperationStmt *operation, bool *weaker)
{
	A67Dist *dist = palloc0(sizeof(*dist));
	bool solid = false;

	dist->copies = assumed->copies && term->copies;
	a67_dist_bind(dist, assumed, term);
	if (dist->bound)
		dist->anchors = list_union_ptr(assumed->anchors, term->anchors);
	if (assumed->part && term->part && a67_colocated(assumed->table, term->table))
	{
		dist->carriers = a67_carriers_shared(assumed->carriers, term->carriers, &solid);
		dist->part = solid || operation->all;
		dist->table = assumed->table;
		dist->shards = assumed->shards;
	}
	*weaker = dist->copies != assumed->copies || dist->part != assumed->part ||
			  dist->bound != assumed->bound ||
			  list_length(dist->carriers) != list_length(assumed->carriers) ||
			  count_nullable(dist->carriers) != count_nullable(assumed->carriers);
	return dist;
}

/* Carriers by place, of a branch of the union. */
static A67Dist *
dist_of_term(A67Level *level, Node *term)
{
	A67Dist *dist = palloc(sizeof(*dist));

	*dist = *a67_dist_set(level, term);
	return dist;
}

static A67Dist *
dist_of_recursive(A67Level *level, int nth)
{
	CommonTableExpr *cte = list_nth(level->query->cteList, nth);
	Query *query = (Query *) cte->ctequery;
	SetOperationStmt *operation = (SetOperationStmt *) query->setOperations;
	A67Level inner;
	bool weaker = true;

	if (query->commandType != CMD_SELECT || operation == NULL || operation->op != SETOP_UNION ||
		query->limitCount != NULL || query->limitOffset != NULL || query->cteList != NIL)
		return a67_dist_mixed(level, "It has a recursive query of an unusual form.");
	a67_level_init(&inner, level, level->question, query);
	level->with[nth] = without_terms(dist_of_term(&inner, operation->larg));
	while (weaker)
		level->with[nth] =
			weaken(level->with[nth], dist_of_term(&inner, operation->rarg), operation, &weaker);
	return level->with[nth];
}

A67Dist *
a67_dist_with_nth(A67Level *level, int nth)
{
	CommonTableExpr *cte = list_nth(level->query->cteList, nth);

	if (level->with[nth] == NULL)
		level->with[nth] = cte->cterecursive
							   ? dist_of_recursive(level, nth)
							   : a67_dist_query(level, level->question, (Query *) cte->ctequery);
	return level->with[nth];
}

A67Dist *
a67_dist_with(A67Level *level, RangeTblEntry *rte, Query **query)
{
	Index up = rte->ctelevelsup;
	ListCell *lc;

	while (level != NULL && up-- > 0)
		level = level->parent;
	*query = NULL;
	if (level != NULL)
	{
		foreach(lc, level->query->cteList)
		{
			CommonTableExpr *cte = lfirst(lc);

			if (strcmp(cte->ctename, rte->ctename) != 0)
				continue;
			*query = (Query *) cte->ctequery;
			return a67_dist_with_nth(level, foreach_current_index(lc));
		}
	}
	return NULL;
}
