/*
 * ddl_expression.c - expressions that shards will compute on their own: whether they mean there what they mean here; see ddl_rule.h.
 *
 * What a row does not enter into, and is not immutable, is the session's: its user, its settings, chance. Sessions on shards are
 * others. Functions of users do not exist on shards; the shards say so themselves.
 */
#include "postgres.h"

#include "router/ddl_rule.h"

#include "access/table.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "router/query_allow.h"

static bool
is_sequence_function(Oid function, void *context)
{
	return function == F_NEXTVAL || function == F_CURRVAL || function == F_LASTVAL ||
		   function == F_SETVAL_REGCLASS_INT8 || function == F_SETVAL_REGCLASS_INT8_BOOL;
}

static bool
draws_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, NextValueExpr) || check_functions_in_node(node, is_sequence_function, context))
		return true;
	return expression_tree_walker(node, draws_walker, context);
}

bool
a67_ddl_draws(Node *expr)
{
	return draws_walker(expr, NULL);
}

static bool
is_clock_function(Oid function)
{
	return function == F_NOW || function == F_TRANSACTION_TIMESTAMP ||
		   function == F_STATEMENT_TIMESTAMP || function == F_CLOCK_TIMESTAMP;
}

static bool
is_clock(Node *node)
{
	if (IsA(node, FuncExpr))
		return is_clock_function(((FuncExpr *) node)->funcid);
	if (!IsA(node, SQLValueFunction))
		return false;
	switch (((SQLValueFunction *) node)->op)
	{
		case SVFOP_CURRENT_DATE:
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return true;
		default:
			return false;
	}
}

/* True when the node itself asks for what only this session knows. */
static bool
session_walker(Node *node, void *clock)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction) ||
		(IsA(node, FuncExpr) &&
		 func_volatile(((FuncExpr *) node)->funcid) != PROVOLATILE_IMMUTABLE &&
		 !contain_var_clause(node)))
	{
		if (!is_clock(node) || !*(bool *) clock)
			return true;
	}
	return expression_tree_walker(node, session_walker, clock);
}

void
a67_ddl_check_expression(const A67Ddl *ddl, const A67Table *table, Node *raw, bool clock)
{
	ParseState *state;
	Relation relation;
	Node *expr;

	if (raw == NULL)
		return;
	state = make_parsestate(NULL);
	state->p_sourcetext = ddl->text->source;
	relation = table_open(table->relid, NoLock);
	addNSItemToQuery(
		state, addRangeTableEntryForRelation(state, relation, AccessShareLock, NULL, false, true),
		true, true, true);
	expr = transformExpr(state, copyObject(raw),
						 clock ? EXPR_KIND_CHECK_CONSTRAINT : EXPR_KIND_ALTER_COL_TRANSFORM);
	table_close(relation, NoLock);
	free_parsestate(state);
	if (session_walker(expr, &clock) || (!clock && contain_volatile_functions(expr)))
		a67_ddl_refuse(
			ddl, exprLocation(raw),
			"expression depends on the session, or on chance, and shards compute it on their own",
			"Shards have sessions of their own: another user, other settings.");
}

/* A superuser in his own session, not one who speaks for somebody else. */
static bool
by_operator(void)
{
	const char *claims = GetConfigOption("request.jwt.claims", true, false);

	return superuser_arg(GetSessionUserId()) && (claims == NULL || *claims == '\0');
}

void
a67_ddl_judge_relation(Oid relid)
{
	if (!by_operator())
		a67_allow_relation(relid);
}

void
a67_ddl_judge_type(Oid type)
{
	if (!by_operator())
		a67_allow_type(type);
}
