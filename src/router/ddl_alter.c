/*
 * ddl_alter.c - ALTER TABLE on a virtual database; see ddl.h.
 *
 * The text between the commas of the statement and the commands of its parse tree correspond one to one. Each is done here, on the
 * shards, or both. The foreign table knows columns, types, defaults and NOT NULL; all else is the shards'.
 *
 * A default for the rows that a table already has must be the value that PostgreSQL would give them: one, computed here, when it
 * is stable; what shards compute themselves when it is volatile and each row is on one shard; from a sequence, numbers that an
 * UPDATE through the virtual table gives them.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "router/ddl_rule.h"

/* A command on its way. */
typedef struct Change
{
	A67Ddl *ddl;
	const A67Table *table;
	AlterTableCmd *command;
	int from, to; /* tokens */
	bool local;
	bool remote;
	const char *suffix; /* of the text for the shards; or NULL */
	List **constraints;
} Change;

/* What becomes of a new column's default on the shards once the column is there. */
typedef struct Later
{
	const char *column;
	const char *text; /* SET DEFAULT …, or DROP DEFAULT */
	bool fill;		  /* before: rows get the default of the column here */
} Later;

static bool
is_key(const A67Table *table, const char *column)
{
	return table->key != 0 && column != NULL &&
		   strcmp(get_attname(table->relid, table->key, false), column) == 0;
}

static void
refuse_key(const Change *change, const char *what)
{
	a67_ddl_refuse(change->ddl, change->ddl->text->tokens[change->from].start,
				   psprintf("shard key \"%s\" of table \"%s\" %s", change->command->name,
							get_rel_name(change->table->relid), what),
				   "It says which shard a row is on.");
}

static void
set_default(Change *change)
{
	Node *raw = change->command->def;
	A67Text *text = change->ddl->text;

	change->local = true;
	if (raw == NULL || !a67_ddl_uses_sequence(raw))
	{
		a67_ddl_strip(change->ddl, raw);
		return;
	}
	a67_text_replace(text, change->from, change->to,
					 psprintf("ALTER COLUMN %s DROP DEFAULT",
							  quote_identifier(change->command->name)));
}

static void
alter_type(Change *change)
{
	ColumnDef *column = castNode(ColumnDef, change->command->def);

	if (is_key(change->table, change->command->name))
		a67_ddl_check_key_type(change->ddl, change->table, column);
	a67_ddl_strip_type(change->ddl, column->typeName);
	a67_ddl_strip(change->ddl, column->raw_default);
	a67_ddl_check_expression(change->ddl, change->table, column->raw_default, false);
	column->raw_default = NULL;
	change->local = true;
}

static void
add_constraint(Change *change)
{
	Constraint *constraint = castNode(Constraint, change->command->def);

	a67_ddl_strip_constraint(change->ddl, constraint);
	*change->constraints = lappend(*change->constraints, constraint);
}

static void
add_column(Change *change)
{
	ColumnDef *column = castNode(ColumnDef, change->command->def);

	change->local = true;
	if (change->command->missing_ok &&
		get_attnum(change->table->relid, column->colname) != InvalidAttrNumber)
		change->remote = false;
	else
		a67_ddl_column(change->ddl, column, change->to, change->constraints);
}

/* Decides where the command is done, and prepares both. */
static void
prepare(Change *change)
{
	AlterTableCmd *command = change->command;

	change->local = false;
	change->remote = true;
	switch (command->subtype)
	{
		case AT_AddColumn:
			add_column(change);
			break;
		case AT_ColumnDefault:
			set_default(change);
			break;
		case AT_AlterColumnType:
			alter_type(change);
			break;
		case AT_AddConstraint:
			add_constraint(change);
			break;
		case AT_DropColumn:
			if (is_key(change->table, command->name))
				refuse_key(change, "cannot be dropped");
			change->local = true;
			break;
		case AT_DropNotNull:
			if (is_key(change->table, command->name))
				refuse_key(change, "must be NOT NULL");
			change->local = true;
			break;
		case AT_SetNotNull:
		case AT_DropExpression:
		case AT_SetStatistics:
			change->local = true;
			break;
		case AT_AddIdentity:
		case AT_SetIdentity:
		case AT_DropIdentity:
			change->local = true;
			change->remote = false;
			break;
		case AT_DropConstraint:
		case AT_AlterConstraint:
		case AT_ValidateConstraint:
		case AT_SetStorage:
		case AT_SetCompression:
		case AT_SetOptions:
		case AT_ResetOptions:
		case AT_SetRelOptions:
		case AT_ResetRelOptions:
		case AT_SetLogged:
		case AT_SetUnLogged:
			break;
		default:
			a67_ddl_refuse(change->ddl, change->ddl->text->tokens[change->from].start,
						   "this form of ALTER TABLE is not supported for virtual tables", NULL);
	}
}

static void
count_row(void *rows, int shard, const char *value)
{
	(*(int *) rows)++;
}

static bool
has_rows(const A67Table *table)
{
	int rows = 0;

	a67_ddl_ask(table->database, a67_ddl_places(table),
				psprintf("SELECT 1 FROM %s LIMIT 1", quote_identifier(get_rel_name(table->relid))),
				count_row, &rows);
	return rows > 0;
}

/* The value of an expression, as a constant in SQL. */
static char *
constant(Expr *expr)
{
	EState *estate = CreateExecutorState();
	ExprState *state = ExecPrepareExpr(expr, estate);
	Oid type = exprType((Node *) expr);
	char *text = NULL;
	Oid output;
	bool varlena;
	Datum value;
	bool null;

	value = ExecEvalExprSwitchContext(state, GetPerTupleExprContext(estate), &null);
	if (!null)
	{
		getTypeOutputInfo(type, &output, &varlena);
		text = OidOutputFunctionCall(output, value);
	}
	FreeExecutorState(estate);
	return null ? "NULL" : quote_literal_cstr(text);
}

static const Constraint *
default_clause(const ColumnDef *column)
{
	ListCell *cell;

	foreach(cell, column->constraints)
	{
		if (lfirst_node(Constraint, cell)->contype == CONSTR_DEFAULT)
			return lfirst_node(Constraint, cell);
	}
	return NULL;
}

/* Where the default's expression is in the text: first token, and the one after its last. */
static void
default_extent(const Change *change, const ColumnDef *column, int *from, int *to)
{
	const Constraint *clause = default_clause(column);
	int begin = a67_text_at(change->ddl->text, clause->location);

	*to = a67_ddl_clause_end(change->ddl, column, clause, change->to);
	*from = a67_text_find(change->ddl->text, begin, *to, "default") + 1;
}

/* What rows have until they are filled; a number draws none from the sequence. */
static const char *
placeholder(const Change *change, AttrNumber number, Expr *expr)
{
	Oid type = getBaseType(get_atttype(change->table->relid, number));

	if (type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID)
		return "1";
	return constant(expr);
}

/*
 * Gives the shards a constant for the column's default, for as long as it is added; `value` may be NULL: the default's own
 * value. Returns what puts it right afterwards.
 */
static Later *
replace_default(Change *change, Expr *expr, const char *value)
{
	const ColumnDef *column = castNode(ColumnDef, change->command->def);
	const Constraint *clause = default_clause(column);
	Later *later = palloc0(sizeof(Later));
	int from;
	int to;

	if (value == NULL)
		value = constant(expr);
	later->column = quote_identifier(column->colname);
	if (clause == NULL || a67_ddl_uses_sequence(clause->raw_expr))
	{
		/* It is the type's, or is not on the shards. */
		change->suffix = psprintf(" DEFAULT %s", value);
		later->text = "DROP DEFAULT";
		return later;
	}
	default_extent(change, column, &from, &to);
	later->text = psprintf("SET DEFAULT %s", a67_text_result(change->ddl->text, from, to));
	a67_text_replace(change->ddl->text, from, to, value);
	return later;
}

/* After the column is there: what the rows that are there get for it. Returns what is left to do on the shards. */
static Later *
prepare_default(Change *change)
{
	const ColumnDef *column = castNode(ColumnDef, change->command->def);
	Relation relation = table_open(change->table->relid, NoLock);
	AttrNumber number = get_attnum(change->table->relid, column->colname);
	Expr *expr = (Expr *) build_column_default(relation, number);
	bool generated = TupleDescAttr(relation->rd_att, number - 1)->attgenerated != '\0';
	Later *later;

	table_close(relation, NoLock);
	if (expr == NULL || generated || !contain_mutable_functions((Node *) expr) ||
		!has_rows(change->table))
		return NULL;
	if (!contain_volatile_functions((Node *) expr))
		return replace_default(change, expr, NULL);
	if (change->table->strategy != A67_REFERENCE && !a67_ddl_draws((Node *) expr))
		return NULL;
	later = replace_default(change, expr, placeholder(change, number, expr));
	later->fill = true;
	return later;
}

/* Primary keys make their columns NOT NULL, here too. */
static List *
not_null_commands(const List *constraints)
{
	List *commands = NIL;
	ListCell *outer;
	ListCell *inner;

	foreach(outer, constraints)
	{
		const Constraint *constraint = lfirst_node(Constraint, outer);

		if (constraint->contype != CONSTR_PRIMARY)
			continue;
		foreach(inner, constraint->keys)
		{
			AlterTableCmd *command = makeNode(AlterTableCmd);

			command->subtype = AT_SetNotNull;
			command->name = strVal(lfirst(inner));
			commands = lappend(commands, command);
		}
	}
	return commands;
}

static void
alter_local(A67Ddl *ddl, const AlterTableStmt *statement, List *commands)
{
	AlterTableStmt *local = makeNode(AlterTableStmt);

	if (commands == NIL)
		return;
	local->relation = makeRangeVar(ddl->database->name, statement->relation->relname,
								   statement->relation->location);
	local->cmds = commands;
	local->objtype = OBJECT_FOREIGN_TABLE;
	a67_ddl_local(ddl, (Node *) local);
}

/* Takes the statement apart; returns its Changes. */
static List *
take_apart(A67Ddl *ddl, const AlterTableStmt *statement, const A67Table *table, List **constraints)
{
	int at = a67_text_after_name(ddl->text, a67_text_at(ddl->text, statement->relation->location),
								 ddl->end);
	List *changes = NIL;
	ListCell *cell;

	if (a67_text_is(ddl->text, at, "*"))
		at++;
	foreach(cell, statement->cmds)
	{
		Change *change = palloc0(sizeof(Change));

		change->ddl = ddl;
		change->table = table;
		change->command = lfirst_node(AlterTableCmd, cell);
		change->from = at;
		change->to = a67_text_find(ddl->text, at, ddl->end, ",");
		change->constraints = constraints;
		prepare(change);
		changes = lappend(changes, change);
		at = change->to + 1;
	}
	return changes;
}

static void
fill_column(const A67Table *table, const char *column)
{
	char *sql =
		psprintf("UPDATE %s SET %s = DEFAULT",
				 quote_qualified_identifier(table->database->name, get_rel_name(table->relid)),
				 column);

	if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(sql, false, 0) != SPI_OK_UPDATE ||
		SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "column %s could not be filled", column);
}

static void
alter_remote(A67Ddl *ddl, const A67Table *table, const char *name, const List *changes,
			 const List *laters)
{
	StringInfoData sql;
	ListCell *cell;
	bool any = false;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s", quote_identifier(name));
	foreach(cell, changes)
	{
		const Change *change = lfirst(cell);

		if (!change->remote)
			continue;
		appendStringInfo(&sql, "%s %s%s", any ? "," : "",
						 a67_text_result(ddl->text, change->from, change->to),
						 change->suffix == NULL ? "" : change->suffix);
		any = true;
	}
	if (any)
		a67_ddl_send(table->database, a67_ddl_places(table), sql.data);
	foreach(cell, laters)
	{
		const Later *later = lfirst(cell);

		if (later->fill)
			fill_column(table, later->column);
		a67_ddl_send(table->database, a67_ddl_places(table),
					 psprintf("ALTER TABLE %s ALTER COLUMN %s %s", quote_identifier(name),
							  later->column, later->text));
	}
}

void
a67_ddl_alter_table(A67Ddl *ddl, AlterTableStmt *statement)
{
	const A67Table *table =
		a67_ddl_table(ddl, statement->relation, AccessExclusiveLock, statement->missing_ok);
	List *constraints = NIL;
	List *local = NIL;
	List *laters = NIL;
	List *changes;
	ListCell *cell;

	if (table == NULL)
	{
		ereport(NOTICE,
				(errmsg("relation \"%s\" does not exist, skipping", statement->relation->relname)));
		return;
	}
	changes = take_apart(ddl, statement, table, &constraints);
	foreach(cell, changes)
	{
		const Change *change = lfirst(cell);

		if (change->local)
			local = lappend(local, change->command);
	}
	alter_local(ddl, statement, copyObject(local));
	alter_local(ddl, statement, not_null_commands(constraints));
	a67_ddl_judge_relation(table->relid);

	table = a67_table(table->relid);
	foreach(cell, changes)
	{
		Change *change = lfirst(cell);
		Later *later;

		change->table = table;
		if (change->command->subtype != AT_AddColumn || !change->remote)
			continue;
		later = prepare_default(change);
		if (later != NULL)
			laters = lappend(laters, later);
	}
	foreach(cell, constraints)
		a67_ddl_check_constraint(ddl, table, lfirst_node(Constraint, cell));
	alter_remote(ddl, table, statement->relation->relname, changes, laters);
}
