/*
 * fdw_query.c - the remote statement of a scan: SELECT columns FROM table WHERE clauses; see fdw.h.
 *
 * The statement is built as a Query, whose text ship.c makes. What clauses say of other relations
 * and of results of subqueries is known only while the local plan runs: such expressions are
 * replaced by external parameters with numbers that no statement has (stand-ins), and put back in
 * the list of parameters that comes out.
 */
#include "postgres.h"

#include "router/fdw.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "router/prune.h"
#include "router/ship.h"

#define STAND_IN_FIRST (1 << 20)

/* Turns a local expression into one over the remote table (number 1). */
typedef struct Localise
{
	Index relid;	 /* of the table in the local plan */
	List *originals; /* expressions that stand-ins are for */
} Localise;

/* ---- stand-ins */

typedef struct Look
{
	Index relid;
	bool own;		/* has Vars of the table */
	bool elsewhere; /* has something known only while the plan runs */
	bool open;		/* has a CaseTestExpr or the like, whose value is set further up */
	bool hopeless;	/* has what cannot be a parameter: subplans, placeholders of outer joins */
} Look;

static bool
look_walker(Node *node, Look *look)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
			if (((Var *) node)->varno == (int) look->relid && ((Var *) node)->varlevelsup == 0)
				look->own = true;
			else
				look->elsewhere = true;
			break;
		case T_Param:
			look->elsewhere |= ((Param *) node)->paramkind != PARAM_EXTERN;
			break;
		case T_CaseTestExpr:
		case T_CoerceToDomainValue:
			look->open = true;
			break;
		case T_PlaceHolderVar:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_CurrentOfExpr:
			look->hopeless = true;
			return true;
		case T_CaseWhen: /* which walkers do not know and mutators show us */
			return look_walker((Node *) ((CaseWhen *) node)->expr, look) ||
				   look_walker((Node *) ((CaseWhen *) node)->result, look);
		default:
			break;
	}
	return expression_tree_walker(node, look_walker, look);
}

static Look
look_at(Node *node, Index relid)
{
	Look look = {.relid = relid};

	(void) look_walker(node, &look);
	return look;
}

static bool
may_stand_alone(Node *node, const Look *look)
{
	if (!look->elsewhere || look->own || look->hopeless || IsA(node, List) || IsA(node, CaseWhen))
		return false;
	if (look->open && !IsA(node, CaseExpr) && !IsA(node, ArrayCoerceExpr))
		return false;
	return get_typtype(exprType(node)) != TYPTYPE_PSEUDO;
}

static Node *
make_stand_in(Node *original, Localise *localise)
{
	Param *param = makeNode(Param);
	int place = 0;
	ListCell *cell;

	foreach(cell, localise->originals)
	{
		if (equal(lfirst(cell), original))
			break;
		place++;
	}
	if (cell == NULL)
		localise->originals = lappend(localise->originals, original);
	param->paramkind = PARAM_EXTERN;
	param->paramid = STAND_IN_FIRST + place;
	param->paramtype = exprType(original);
	param->paramtypmod = exprTypmod(original);
	param->paramcollid = exprCollation(original);
	param->location = -1;
	return (Node *) param;
}

static Node *
localise_mutator(Node *node, Localise *localise)
{
	Look look;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varno == (int) localise->relid && var->varlevelsup == 0)
		{
			var = copyObject(var);
			var->varno = 1;
			var->varnosyn = 1;
			var->varattnosyn = var->varattno;
			return (Node *) var;
		}
		return make_stand_in(node, localise);
	}
	look = look_at(node, localise->relid);
	if (may_stand_alone(node, &look))
		return make_stand_in(node, localise);
	return expression_tree_mutator(node, localise_mutator, localise);
}

static Node *
put_back_mutator(Node *node, List *originals)
{
	if (node == NULL)
		return NULL;
	if (originals != NIL && IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN &&
		((Param *) node)->paramid >= STAND_IN_FIRST)
		return copyObject(list_nth(originals, ((Param *) node)->paramid - STAND_IN_FIRST));
	return expression_tree_mutator(node, put_back_mutator, originals);
}

static bool
has_param_walker(Node *node, bool *stand_ins)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		return (((Param *) node)->paramid >= STAND_IN_FIRST) == *stand_ins;
	return expression_tree_walker(node, has_param_walker, stand_ins);
}

bool
a67_fdw_shippable(RelOptInfo *rel, const A67Table *table, Expr *clause)
{
	Localise localise = {.relid = rel->relid, .originals = NIL};
	Node *remote;

	if (look_at((Node *) clause, rel->relid).hopeless ||
		contain_volatile_functions((Node *) clause))
		return false;
	remote = localise_mutator((Node *) clause, &localise);
	return a67_ship_obstacle_expr(table->database, remote) == NULL;
}

bool
a67_fdw_key_is_fixed(RelOptInfo *rel, const A67Table *table, List *clauses)
{
	Localise localise = {.relid = rel->relid, .originals = NIL};

	return a67_key_equals(table, (List *) localise_mutator((Node *) clauses, &localise), 1) != NULL;
}

/* ---- the query */

static bool
wanted(const Bitmapset *attrs, AttrNumber attno)
{
	return bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, attrs);
}

static void
add_column(List **tlist, List **attnums, Var *var, const char *name)
{
	*tlist = lappend(*tlist, makeTargetEntry((Expr *) var, (AttrNumber) (list_length(*tlist) + 1),
											 pstrdup(name), false));
	*attnums = lappend_int(*attnums, var->varattno);
}

static List *
make_columns(const A67FdwScan *scan, List **attnums)
{
	Relation relation = table_open(scan->table->relid, NoLock);
	TupleDesc desc = RelationGetDescr(relation);
	List *tlist = NIL;

	*attnums = NIL;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped ||
			(!wanted(scan->attrs, 0) && !wanted(scan->attrs, attribute->attnum)))
			continue;
		add_column(&tlist, attnums,
				   makeVar(1, attribute->attnum, attribute->atttypid, attribute->atttypmod,
						   attribute->attcollation, 0),
				   NameStr(attribute->attname));
	}
	if (wanted(scan->attrs, SelfItemPointerAttributeNumber))
		add_column(&tlist, attnums,
				   makeVar(1, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0), "ctid");
	table_close(relation, NoLock);
	return tlist;
}

static RangeTblEntry *
make_entry(const A67FdwScan *scan)
{
	RangeTblEntry *rte = copyObject(planner_rt_fetch(scan->rel->relid, scan->root));

	rte->inh = true;	  /* else it is written as ONLY */
	rte->inFromCl = true; /* not so for a table that is changed */
	rte->securityQuals = NIL;
	rte->tablesample = NULL;
	return rte;
}

static Query *
make_query(const A67FdwScan *scan, List *clauses, List **attnums)
{
	Query *query = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(make_entry(scan));
	query->jointree =
		makeFromExpr(list_make1(ref), clauses == NIL ? NULL : (Node *) make_ands_explicit(clauses));
	query->targetList = make_columns(scan, attnums);
	if (scan->lock != LCS_NONE)
	{
		RowMarkClause *mark = makeNode(RowMarkClause);

		mark->rti = 1;
		mark->strength = scan->lock;
		mark->waitPolicy = scan->wait;
		query->rowMarks = list_make1(mark);
		query->hasForUpdate = true;
	}
	if (scan->limit >= 0)
	{
		query->limitCount = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
											   Int64GetDatum(scan->limit), false, FLOAT8PASSBYVAL);
		query->limitOption = LIMIT_OPTION_COUNT;
	}
	return query;
}

/* ---- shards */

static List *
shard_ids(const A67Table *table, const Bitmapset *shards)
{
	List *ids = NIL;
	int shard = -1;

	while ((shard = bms_next_member(shards, shard)) >= 0)
		ids = lappend_int(ids, table->database->shards[shard].shard_id);
	return ids;
}

/*
 * Clauses that external parameters of the statement are in, which say more about the key when it
 * runs.
 */
static bool
prunes_later(const A67Table *table, List *clauses)
{
	bool stand_ins = false;
	ListCell *cell;

	foreach(cell, clauses)
	{
		Bitmapset *attrs = NULL;

		pull_varattnos((Node *) lfirst(cell), 1, &attrs);
		if (wanted(attrs, table->key) && has_param_walker((Node *) lfirst(cell), &stand_ins))
			return true;
	}
	return false;
}

static List *
without_stand_ins(List *clauses)
{
	bool stand_ins = true;
	List *kept = NIL;
	ListCell *cell;

	foreach(cell, clauses)
	{
		if (!has_param_walker((Node *) lfirst(cell), &stand_ins))
			kept = lappend(kept, lfirst(cell));
	}
	return kept;
}

/* Fills where, shard_ids, quals; returns the key's expression for KEY. */
static Expr *
set_where(A67Remote *remote, const A67FdwScan *scan, List *clauses)
{
	const A67Table *table = scan->table;
	Expr *key;

	if (table->strategy == A67_REFERENCE && scan->lock == LCS_NONE)
	{
		remote->where = A67_WHERE_ANY;
		return NULL;
	}
	if (table->strategy == A67_REFERENCE || table->strategy == A67_LOCAL)
	{
		/* Writers of copies take turns on the first one. */
		remote->where = A67_WHERE_LIST;
		remote->shard_ids = list_make1_int(table->database->shards[Max(table->home, 0)].shard_id);
		return NULL;
	}
	key = a67_key_equals(table, clauses, 1);
	if (key != NULL && !IsA(key, Const))
	{
		remote->where = A67_WHERE_KEY;
		remote->only_rows = true;
		return key;
	}
	clauses = without_stand_ins(clauses);
	remote->shard_ids = shard_ids(table, a67_prune(table, clauses, 1, NULL));
	remote->where = A67_WHERE_LIST;
	if (prunes_later(table, clauses))
	{
		remote->where = A67_WHERE_PRUNE;
		remote->quals = clauses;
	}
	return NULL;
}

A67Remote *
a67_fdw_query(const A67FdwScan *scan, List **exprs, List **attnums)
{
	A67Remote *remote = palloc0(sizeof(A67Remote));
	Localise localise = {.relid = scan->rel->relid, .originals = NIL};
	List *clauses = (List *) localise_mutator((Node *) scan->clauses, &localise);
	Query *query = make_query(scan, clauses, attnums);
	A67Shipment *shipment = a67_ship(scan->table->database, query);
	Expr *key = set_where(remote, scan, clauses);

	*exprs = list_copy(shipment->params);
	if (key != NULL)
		*exprs = lappend(*exprs, key);
	*exprs = (List *) put_back_mutator((Node *) *exprs, localise.originals);
	remote->sql = shipment->sql;
	remote->relid = scan->table->relid;
	remote->param_count = list_length(shipment->params);
	remote->key_count = key == NULL ? 0 : 1;
	remote->command = CMD_SELECT;
	remote->effect = scan->lock == LCS_NONE ? A67_EFFECT_READ : A67_EFFECT_LOCK;
	remote->returns = true;
	remote->prepare = remote->param_count > 0;
	remote->strategy = "scan";
	return remote;
}
