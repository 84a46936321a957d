/*
 * ddl_column.c - a column's definition, split into what is done here and what the shards do; see ddl.h.
 *
 * Here: type, NOT NULL, default, identity, generation. On the shards: everything but what draws from a sequence, which there is
 * only one of, here: serial types become their integer types, identity and such defaults are cut out of the text.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "nodes/nodeFuncs.h"
#include "nodes/value.h"

static bool
uses_sequence_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncCall))
	{
		const char *name = strVal(llast(((FuncCall *) node)->funcname));

		if (strcmp(name, "nextval") == 0 || strcmp(name, "currval") == 0 ||
			strcmp(name, "lastval") == 0 || strcmp(name, "setval") == 0)
			return true;
	}
	return raw_expression_tree_walker(node, uses_sequence_walker, context);
}

bool
a67_ddl_uses_sequence(Node *raw)
{
	return uses_sequence_walker(raw, NULL);
}

/* Cuts `schema .` off a qualified name. */
static void
strip_qualifier(A67Ddl *ddl, int location)
{
	int token = a67_text_at(ddl->text, location);

	if (location >= 0 && a67_text_is(ddl->text, token + 1, "."))
		a67_text_replace(ddl->text, token, token + 2, "");
}

void
a67_ddl_strip_type(A67Ddl *ddl, const TypeName *type)
{
	const char *schema;

	if (list_length(type->names) < 2)
		return;
	schema = strVal(list_nth(type->names, list_length(type->names) - 2));
	if (strcmp(schema, "pg_catalog") == 0)
		return;
	a67_ddl_check_schema(ddl, schema, type->location);
	strip_qualifier(ddl, type->location);
}

void
a67_ddl_strip_relation(A67Ddl *ddl, const RangeVar *relation)
{
	a67_ddl_check_schema(ddl, relation->schemaname, relation->location);
	if (relation->schemaname != NULL)
		strip_qualifier(ddl, relation->location);
}

static bool
strip_walker(Node *node, void *ddl)
{
	if (node == NULL)
		return false;
	if (IsA(node, TypeName))
		a67_ddl_strip_type(ddl, (TypeName *) node);
	return raw_expression_tree_walker(node, strip_walker, ddl);
}

void
a67_ddl_strip(A67Ddl *ddl, Node *raw)
{
	(void) strip_walker(raw, ddl);
}

void
a67_ddl_strip_constraint(A67Ddl *ddl, const Constraint *constraint)
{
	ListCell *cell;

	a67_ddl_strip(ddl, constraint->raw_expr);
	a67_ddl_strip(ddl, constraint->where_clause);
	foreach(cell, constraint->exclusions)
		a67_ddl_strip(ddl, linitial_node(IndexElem, lfirst_node(List, cell))->expr);
	if (constraint->pktable != NULL)
		a67_ddl_strip_relation(ddl, constraint->pktable);
}

/* The integer type of a serial one, or NULL. */
static const char *
serial_type(const TypeName *type)
{
	static const char *const types[][2] = {
		{"smallserial", "smallint"}, {"serial2", "smallint"}, {"serial", "integer"},
		{"serial4", "integer"},		 {"bigserial", "bigint"}, {"serial8", "bigint"},
	};

	if (list_length(type->names) != 1)
		return NULL;
	for (size_t i = 0; i < lengthof(types); i++)
	{
		if (strcmp(strVal(linitial(type->names)), types[i][0]) == 0)
			return types[i][1];
	}
	return NULL;
}

static void
replace_type(A67Ddl *ddl, const ColumnDef *column)
{
	const char *integer = serial_type(column->typeName);
	int token = a67_text_at(ddl->text, column->typeName->location);

	if (integer != NULL)
		a67_text_replace(ddl->text, token, token + 1, psprintf("%s NOT NULL", integer));
	else
		a67_ddl_strip_type(ddl, column->typeName);
}

int
a67_ddl_clause_end(const A67Ddl *ddl, const ColumnDef *column, const Constraint *constraint,
				   int end)
{
	ListCell *cell;

	foreach(cell, column->constraints)
	{
		const Constraint *other = lfirst_node(Constraint, cell);

		if (other->location > constraint->location)
			end = Min(end, a67_text_at(ddl->text, other->location));
	}
	if (column->collClause != NULL && column->collClause->location > constraint->location)
		end = Min(end, a67_text_at(ddl->text, column->collClause->location));
	return end;
}

static void
replace_constraint(A67Ddl *ddl, const ColumnDef *column, const Constraint *constraint, int end,
				   const char *replacement)
{
	a67_text_replace(ddl->text, a67_text_at(ddl->text, constraint->location),
					 a67_ddl_clause_end(ddl, column, constraint, end), replacement);
}

void
a67_ddl_column(A67Ddl *ddl, ColumnDef *column, int end, List **constraints)
{
	List *kept = NIL;
	ListCell *cell;

	if (column->fdwoptions != NIL)
		a67_ddl_refuse(ddl, column->location, "columns of virtual tables have no options", NULL);
	replace_type(ddl, column);
	foreach(cell, column->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, cell);

		switch (constraint->contype)
		{
			case CONSTR_DEFAULT:
				if (a67_ddl_uses_sequence(constraint->raw_expr))
					replace_constraint(ddl, column, constraint, end, "");
				else
					a67_ddl_strip(ddl, constraint->raw_expr);
				kept = lappend(kept, constraint);
				break;
			case CONSTR_IDENTITY:
				replace_constraint(ddl, column, constraint, end, "NOT NULL");
				kept = lappend(kept, constraint);
				break;
			case CONSTR_NULL:
			case CONSTR_NOTNULL:
			case CONSTR_GENERATED:
				a67_ddl_strip(ddl, constraint->raw_expr);
				kept = lappend(kept, constraint);
				break;
			case CONSTR_CHECK:
				a67_ddl_strip(ddl, constraint->raw_expr);
				*constraints = lappend(*constraints, constraint);
				break;
			case CONSTR_PRIMARY:
				column->is_not_null = true;
				/* FALLTHROUGH */
			case CONSTR_UNIQUE:
				constraint->keys = list_make1(makeString(column->colname));
				*constraints = lappend(*constraints, constraint);
				break;
			case CONSTR_FOREIGN:
				constraint->fk_attrs = list_make1(makeString(column->colname));
				a67_ddl_strip_relation(ddl, constraint->pktable);
				*constraints = lappend(*constraints, constraint);
				break;
			default: /* DEFERRABLE and the like, of constraints that only the shards have */
				break;
		}
	}
	column->constraints = kept;
	column->compression = NULL;
}
