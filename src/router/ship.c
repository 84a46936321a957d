/*
 * ship.c - the text of a statement for shards, and the values that are sent with it.
 *
 * The text is PostgreSQL's own: pg_get_querydef of a changed copy of the query (ship_row.c),
 * written with the virtual schema alone on the search path, so that names of its tables and types
 * stay unqualified, and under settings that make constants readable under any other. What can be
 * shipped is decided in ship_check.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "router/ship_part.h"
#include "router/wire.h"

typedef struct Extract
{
	const A67Database *database;
	List *values; /* constants to be sent as parameters */
	List *params;
} Extract;

/* ---- parameters ---- */

/*
 * $n for the expression. Equal ones share a number, as they may be compared with each other (GROUP
 * BY).
 */
static Node *
parameter(Extract *extract, Node *expr)
{
	Param *param = makeNode(Param);
	Node *result = (Node *) param;
	int at = 0;
	ListCell *cell;

	foreach(cell, extract->params)
	{
		if (equal(lfirst(cell), expr))
			break;
		at++;
	}
	if (cell == NULL)
		extract->params = lappend(extract->params, copyObject(expr));
	param->paramkind = PARAM_EXTERN;
	param->paramid = at + 1;
	param->paramtype = exprType(expr);
	param->paramtypmod = exprTypmod(expr);
	param->paramcollid = exprCollation(expr);
	param->location = -1;
	if (!a67_wire_builtin(param->paramtype))
		result = (Node *) makeRelabelType((Expr *) param, param->paramtype, -1, param->paramcollid,
										  COERCE_EXPLICIT_CAST);
	if (OidIsValid(param->paramcollid) && param->paramcollid != get_typcollation(param->paramtype))
	{
		CollateExpr *collate = makeNode(CollateExpr);

		collate->arg = (Expr *) result;
		collate->collOid = param->paramcollid;
		collate->location = -1;
		result = (Node *) collate;
	}
	return result;
}

static Node *extract_mutator(Node *node, Extract *extract);

/*
 * Where constants stay: EXTRACT(year FROM …) has them as keywords, and ON CONFLICT must name the
 * condition of a partial index.
 */
static Node *
extract_keeping(Node *node, Extract *extract)
{
	List *values = extract->values;
	Node *result;

	extract->values = NIL;
	result = expression_tree_mutator(node, extract_mutator, extract);
	extract->values = values;
	return result;
}

static Node *
extract_mutator(Node *node, Extract *extract)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, extract_mutator, extract,
										   QTW_IGNORE_JOINALIASES);
	if (a67_ship_computed_here(extract->database, node) &&
		(list_member(extract->values, node) || !a67_ship_literal(extract->database, node)))
		return parameter(extract, node);
	if (IsA(node, OnConflictExpr) ||
		(IsA(node, FuncExpr) && ((FuncExpr *) node)->funcformat == COERCE_SQL_SYNTAX))
		return extract_keeping(node, extract);
	return expression_tree_mutator(node, extract_mutator, extract);
}

/* ---- text ---- */

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/*
 * Constants and names are written the same way whatever the session has set; AtEOXact_GUC(nesting)
 * undoes it.
 */
static int
fixed_settings(Oid schema)
{
	int nesting = NewGUCNestLevel();

	set_local("search_path", quote_identifier(get_namespace_name(schema)));
	if (DateStyle != USE_ISO_DATES)
		set_local("datestyle", "ISO");
	if (IntervalStyle != INTSTYLE_POSTGRES)
		set_local("intervalstyle", "postgres");
	if (extra_float_digits < 1)
		set_local("extra_float_digits", "1");
	if (bytea_output != BYTEA_OUTPUT_HEX)
		set_local("bytea_output", "hex");
	if (!standard_conforming_strings)
		set_local("standard_conforming_strings", "on");
	return nesting;
}

/* One line: spaces and line ends outside of quotes become one space. In place. */
static char *
one_line(char *sql)
{
	char *out = sql;
	char quote = '\0';

	for (const char *c = sql; *c != '\0'; c++)
	{
		if (quote != '\0')
			quote = *c == quote ? '\0' : quote; /* a doubled quote ends and begins again */
		else if (*c == '\'' || *c == '"')
			quote = *c;
		else if (*c == ' ' || *c == '\n')
		{
			if (out != sql && out[-1] != ' ')
				*out++ = ' ';
			continue;
		}
		*out++ = *c;
	}
	*out = '\0';
	return sql;
}

A67Shipment *
a67_ship(const A67Database *database, Query *query)
{
	return a67_ship_with(database, query, NIL);
}

A67Shipment *
a67_ship_with(const A67Database *database, Query *query, List *values)
{
	A67Shipment *shipment = palloc0(sizeof(*shipment));
	Extract extract = {.database = database, .values = values, .params = NIL};
	Query *copy = (Query *) extract_mutator((Node *) query, &extract);
	int nesting;

	a67_ship_prepare(database, copy);
	nesting = fixed_settings(database->schema_oid);
	shipment->sql = one_line(pg_get_querydef(copy, false));
	AtEOXact_GUC(true, nesting);
	shipment->params = extract.params;
	return shipment;
}
