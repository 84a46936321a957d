/*
 * analyse_fact.c - equalities that conditions state, and what follows from them.
 *
 * A fact is an equality of two sides that holds for every row in question: a column of this level, a column of an outer level, or
 * an expression without columns that is not volatile. Only the default equality of a type counts, under a
 * deterministic collation: then equal keys have the same canonical text. Facts are strict: neither side is null.
 */
#include "postgres.h"

#include "router/analyse_dist.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "router/key.h"

typedef struct Fact
{
	Expr *left;
	Expr *right;
} Fact;

/* Integers as wider integers or numeric: the same digits. */
static bool
is_widening(Oid function)
{
	switch (function)
	{
		case F_INT4_INT2:
		case F_INT8_INT2:
		case F_INT8_INT4:
		case F_NUMERIC_INT2:
		case F_NUMERIC_INT4:
		case F_NUMERIC_INT8:
			return true;
		default:
			return false;
	}
}

Expr *
a67_fact_strip(Node *node)
{
	for (;;)
	{
		if (node != NULL && IsA(node, RelabelType))
		{
			RelabelType *relabel = (RelabelType *) node;
			Oid family = a67_key_family(exprType((Node *) relabel->arg));

			/* As bpchar, texts are equal that differ in trailing blanks. */
			if (!OidIsValid(family) || family != a67_key_family(relabel->resulttype) ||
				getBaseType(relabel->resulttype) == BPCHAROID)
				return (Expr *) node;
			node = (Node *) relabel->arg;
		}
		else if (node != NULL && IsA(node, FuncExpr) && is_widening(((FuncExpr *) node)->funcid) &&
				 list_length(((FuncExpr *) node)->args) == 1)
			node = (Node *) linitial(((FuncExpr *) node)->args);
		else
			return (Expr *) node;
	}
}

bool
a67_fact_plain(Node *expr)
{
	Oid collation = exprCollation(expr);

	return !OidIsValid(collation) || get_collation_isdeterministic(collation);
}

bool
a67_fact_reaches_out(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varlevelsup > 0;
	return expression_tree_walker(node, a67_fact_reaches_out, context);
}

bool
a67_fact_is_equality(OpExpr *op)
{
	Oid type = exprType(linitial(op->args));
	TypeCacheEntry *entry = lookup_type_cache(getBaseType(type), TYPECACHE_BTREE_OPFAMILY);
	List *families;
	bool found;

	if (!OidIsValid(entry->btree_opf))
		return false;
	if (OidIsValid(op->inputcollid) && !get_collation_isdeterministic(op->inputcollid))
		return false;
	families = get_mergejoin_opfamilies(op->opno);
	found = list_member_oid(families, entry->btree_opf);
	list_free(families);
	return found;
}

/* Whether an expression needs a row, or a plan, to be computed. */
static bool
needs_row_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Param:
			return ((Param *) node)->paramkind != PARAM_EXTERN &&
				   ((Param *) node)->paramkind != PARAM_EXEC;
		case T_Var:
		case T_SubLink:
		case T_Aggref:
		case T_WindowFunc:
		case T_GroupingFunc:
		case T_CurrentOfExpr:
		case T_PlaceHolderVar:
		case T_Query:
			return true;
		default:
			return expression_tree_walker(node, needs_row_walker, context);
	}
}

bool
a67_fact_known(Node *node)
{
	if (IsA(node, Const) || IsA(node, Param))
		return !needs_row_walker(node, NULL);
	return !needs_row_walker(node, NULL) && !expression_returns_set(node) &&
		   !contain_volatile_functions(node);
}

/* Dates and timestamps can be equal, too, but have other texts. */
static bool
same_family(Node *one, Node *other)
{
	return a67_key_family(exprType(one)) == a67_key_family(exprType(other));
}

/* A side that facts may have, or NULL. */
static Expr *
side_of(A67Level *level, Node *node)
{
	Expr *expr = a67_fact_strip(node);

	if (IsA(expr, Var))
		return ((Var *) expr)->varattno > 0 ? expr : NULL;
	return a67_fact_known((Node *) expr) ? expr : NULL;
}

List *
a67_facts_of(A67Level *level, List *facts, Node *quals)
{
	OpExpr *op = (OpExpr *) quals;
	Expr *left;
	Expr *right;
	Fact *fact;

	if (quals == NULL)
		return facts;
	if (IsA(quals, List))
	{
		ListCell *lc;

		foreach(lc, (List *) quals)
			facts = a67_facts_of(level, facts, lfirst(lc));
		return facts;
	}
	if (is_andclause(quals))
		return a67_facts_of(level, facts, (Node *) ((BoolExpr *) quals)->args);
	if (!IsA(quals, OpExpr) || list_length(op->args) != 2)
		return facts;
	left = side_of(level, linitial(op->args));
	right = left == NULL ? NULL : side_of(level, lsecond(op->args));
	if (right == NULL || (!IsA(left, Var) && !IsA(right, Var)) || !a67_fact_is_equality(op) ||
		!same_family((Node *) left, (Node *) right))
		return facts;
	fact = palloc(sizeof(*fact));
	fact->left = left;
	fact->right = right;
	/* A new list each time: facts of a join's side are not those of the other. */
	return lappend(list_copy(facts), fact);
}

/* All that facts make equal to the expression, itself first. */
static List *
class_of(List *facts, Expr *expr)
{
	List *members = list_make1(expr);
	bool grown = true;

	while (grown)
	{
		ListCell *lc;

		grown = false;
		foreach(lc, facts)
		{
			Fact *fact = lfirst(lc);
			bool left = list_member(members, fact->left);
			bool right = list_member(members, fact->right);

			if (left == right)
				continue;
			members = lappend(members, left ? fact->right : fact->left);
			grown = true;
		}
	}
	return members;
}

bool
a67_fact_equal(List *facts, Expr *one, Expr *other)
{
	return equal(one, other) || list_member(class_of(facts, one), other);
}

List *
a67_fact_terms(A67Level *level, List *facts, Expr *expr, Oid key_type)
{
	List *terms = NIL;
	ListCell *lc;

	foreach(lc, class_of(facts, expr))
	{
		Expr *member = lfirst(lc);
		A67Term *term;

		if (a67_key_family(exprType((Node *) member)) != a67_key_family(key_type) ||
			(IsA(member, Var) && ((Var *) member)->varlevelsup == 0))
			continue;
		term = palloc(sizeof(*term));
		term->depth = A67_DEPTH_CONST;
		term->expr = member;
		if (IsA(member, Var))
		{
			Var *var = copyObject((Var *) member);

			term->depth = level->depth - (int) var->varlevelsup;
			var->varlevelsup = 0;
			term->expr = (Expr *) var;
		}
		terms = lappend(terms, term);
	}
	return terms;
}

List *
a67_fact_vars(List *facts, Expr *expr)
{
	List *vars = NIL;
	ListCell *lc;

	foreach(lc, class_of(facts, expr))
	{
		Expr *member = lfirst(lc);

		if (member != expr && IsA(member, Var) && ((Var *) member)->varlevelsup == 0)
			vars = lappend(vars, member);
	}
	return vars;
}

bool
a67_fact_stated(List *facts, Expr *expr)
{
	ListCell *lc;

	foreach(lc, facts)
	{
		Fact *fact = lfirst(lc);

		if (equal(fact->left, expr) || equal(fact->right, expr))
			return true;
	}
	return false;
}
