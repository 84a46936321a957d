/*
 * ddl_like.c - LIKE in CREATE TABLE on a virtual database; see ddl.h.
 *
 * Shards copy what they have of the other table themselves; here its columns are listed, with the parts of them that INCLUDING names.
 * Expressions go through their text, so that names in them mean columns of the new table.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_attribute.h"
#include "commands/sequence.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* The expression as a raw parse tree. */
static Node *
raw_expression(Relation relation, Node *expr)
{
	char *text = deparse_expression(
		expr, deparse_context_for(RelationGetRelationName(relation), RelationGetRelid(relation)),
		false, false);
	RawStmt *raw = linitial_node(RawStmt, raw_parser(text, RAW_PARSE_PLPGSQL_EXPR));
	const SelectStmt *select = castNode(SelectStmt, raw->stmt);

	return linitial_node(ResTarget, select->targetList)->val;
}

static Constraint *
new_constraint(ConstrType type)
{
	Constraint *constraint = makeNode(Constraint);

	constraint->contype = type;
	constraint->location = -1;
	return constraint;
}

static void
add_default(ColumnDef *column, Relation relation, const FormData_pg_attribute *attribute,
			bits32 options)
{
	bool generated = attribute->attgenerated != '\0';
	Constraint *constraint;

	if (!attribute->atthasdef ||
		(options & (generated ? CREATE_TABLE_LIKE_GENERATED : CREATE_TABLE_LIKE_DEFAULTS)) == 0)
		return;
	constraint = new_constraint(generated ? CONSTR_GENERATED : CONSTR_DEFAULT);
	constraint->generated_when = ATTRIBUTE_IDENTITY_ALWAYS;
	constraint->raw_expr =
		raw_expression(relation, build_column_default(relation, attribute->attnum));
	column->constraints = lappend(column->constraints, constraint);
}

static void
add_identity(ColumnDef *column, Relation relation, const FormData_pg_attribute *attribute,
			 bits32 options)
{
	Constraint *constraint;

	if (attribute->attidentity == '\0' || (options & CREATE_TABLE_LIKE_IDENTITY) == 0)
		return;
	constraint = new_constraint(CONSTR_IDENTITY);
	constraint->generated_when = attribute->attidentity;
	constraint->options =
		sequence_options(getIdentitySequence(RelationGetRelid(relation), attribute->attnum, false));
	column->constraints = lappend(column->constraints, constraint);
}

List *
a67_ddl_like(A67Ddl *ddl, const TableLikeClause *like)
{
	const A67Table *table = a67_ddl_table(ddl, like->relation, AccessShareLock, false);
	Relation relation = table_open(table->relid, NoLock);
	List *columns = NIL;

	a67_ddl_strip_relation(ddl, like->relation);
	for (int i = 0; i < relation->rd_att->natts; i++)
	{
		const FormData_pg_attribute *attribute = TupleDescAttr(relation->rd_att, i);
		ColumnDef *column;

		if (attribute->attisdropped)
			continue;
		column = makeColumnDef(NameStr(attribute->attname), attribute->atttypid,
							   attribute->atttypmod, attribute->attcollation);
		column->is_not_null = attribute->attnotnull;
		add_default(column, relation, attribute, like->options);
		add_identity(column, relation, attribute, like->options);
		columns = lappend(columns, column);
	}
	table_close(relation, NoLock);
	if ((like->options & CREATE_TABLE_LIKE_INDEXES) != 0)
		ddl->like = table->relid;
	return columns;
}

void
a67_ddl_check_like(const A67Ddl *ddl, const A67Table *table)
{
	const A67Table *other;

	if (!OidIsValid(ddl->like) || table->key == 0)
		return;
	other = a67_table(ddl->like);
	if (other->key == 0 || strcmp(get_attname(other->relid, other->key, false),
								  get_attname(table->relid, table->key, false)) != 0)
		a67_ddl_refuse(ddl, -1, "LIKE … INCLUDING INDEXES needs the same shard key",
					   "Leave INCLUDING INDEXES out, then create indexes that include the key.");
}
