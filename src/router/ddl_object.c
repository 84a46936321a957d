/*
 * ddl_object.c - definitions around tables: indexes, types, views, sequences, names; see ddl.h.
 *
 * Indexes exist on the shards only; views, sequences and comments only here; enums and domains on both sides under one name.
 */
#include "postgres.h"

#include "router/ddl.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "parser/parse_type.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "router/ddl_rule.h"

List *
a67_ddl_full_name(const A67Ddl *ddl, const List *name)
{
	if (list_length(name) > 2)
		a67_ddl_refuse(ddl, -1, "cross-database references are not supported", NULL);
	if (list_length(name) == 2)
		a67_ddl_check_schema(ddl, strVal(linitial(name)), -1);
	return list_make2(makeString(ddl->database->name), makeString(strVal(llast(name))));
}

void
a67_ddl_full_relation(const A67Ddl *ddl, RangeVar *relation)
{
	a67_ddl_check_schema(ddl, relation->schemaname, relation->location);
	if (relation->relpersistence == RELPERSISTENCE_TEMP)
		a67_ddl_refuse(ddl, relation->location, "a virtual database has nothing temporary", NULL);
	relation->schemaname = ddl->database->name;
}

void
a67_ddl_index(A67Ddl *ddl, IndexStmt *statement)
{
	const A67Table *table;
	ListCell *cell;

	if (statement->concurrent)
		a67_ddl_refuse(ddl, -1, "CREATE INDEX CONCURRENTLY is not supported for virtual tables",
					   "It cannot be part of a transaction; leave CONCURRENTLY out.");
	table = a67_ddl_table(ddl, statement->relation, ShareLock, false);
	a67_ddl_check_unique_index(ddl, table, statement);
	a67_ddl_strip_relation(ddl, statement->relation);
	foreach(cell, statement->indexParams)
		a67_ddl_strip(ddl, lfirst_node(IndexElem, cell)->expr);
	a67_ddl_strip(ddl, statement->whereClause);
	a67_ddl_send(table->database, a67_ddl_places(table),
				 a67_text_result(ddl->text, ddl->start, ddl->end));
}

/* The statement's text without the schema before the name that is its third word: CREATE TYPE name … */
static char *
third_word_stripped(A67Ddl *ddl, const List *name)
{
	int at = ddl->start + 2;

	if (list_length(name) == 2)
		a67_text_replace(ddl->text, at, at + 2, "");
	return a67_text_result(ddl->text, ddl->start, ddl->end);
}

static void
check_domain_default(const A67Ddl *ddl, Node *raw)
{
	if (a67_ddl_uses_sequence(raw))
		a67_ddl_refuse(ddl, exprLocation(raw), "default of a domain cannot draw from a sequence",
					   "Give the default to the column.");
}

static List **
domain_parts(A67Ddl *ddl, CreateDomainStmt *statement)
{
	ListCell *cell;

	a67_ddl_strip_type(ddl, statement->typeName);
	foreach(cell, statement->constraints)
	{
		Node *raw = lfirst_node(Constraint, cell)->raw_expr;

		check_domain_default(ddl, raw);
		a67_ddl_strip(ddl, raw);
	}
	return &statement->domainname;
}

static List **
alter_domain_parts(A67Ddl *ddl, AlterDomainStmt *statement)
{
	Node *raw = statement->def;

	if (raw != NULL && IsA(raw, Constraint))
		raw = ((Constraint *) raw)->raw_expr;
	check_domain_default(ddl, raw);
	a67_ddl_strip(ddl, raw);
	return &statement->typeName;
}

/* Labels are what is hashed: a key's must stay. */
static List **
alter_enum_parts(A67Ddl *ddl, AlterEnumStmt *statement)
{
	List *name = a67_ddl_full_name(ddl, statement->typeName);
	Oid type = typenameTypeId(NULL, makeTypeNameFromNameList(name));
	Oid relid;

	if (statement->oldVal != NULL && a67_ddl_is_key_type(ddl->database, type, &relid))
		a67_ddl_refuse(
			ddl, -1, psprintf("labels of type \"%s\" cannot be renamed", strVal(llast(name))),
			psprintf("It is the type of the shard key of table \"%s\": rows would belong on "
					 "other shards.",
					 get_rel_name(relid)));
	return &statement->typeName;
}

void
a67_ddl_type(A67Ddl *ddl, Node *statement)
{
	List **name;
	char *remote;

	switch (nodeTag(statement))
	{
		case T_CreateEnumStmt:
			name = &((CreateEnumStmt *) statement)->typeName;
			break;
		case T_AlterEnumStmt:
			name = alter_enum_parts(ddl, (AlterEnumStmt *) statement);
			break;
		case T_CreateDomainStmt:
			name = domain_parts(ddl, (CreateDomainStmt *) statement);
			break;
		default:
			name = alter_domain_parts(ddl, (AlterDomainStmt *) statement);
	}
	remote = third_word_stripped(ddl, *name);
	*name = a67_ddl_full_name(ddl, *name);
	a67_ddl_local(ddl, statement);
	a67_ddl_judge_type(typenameTypeId(NULL, makeTypeNameFromNameList(*name)));
	a67_ddl_send(ddl->database, a67_ddl_all(ddl->database), remote);
}

/* A view reads with the rights of the schema's owner: nothing outside of the schema may be in it. */
static bool
foreign_relation_walker(Node *node, void *schema)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, foreign_relation_walker, schema,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, RangeTblEntry))
	{
		const RangeTblEntry *entry = (const RangeTblEntry *) node;

		return entry->rtekind == RTE_RELATION && get_rel_namespace(entry->relid) != *(Oid *) schema;
	}
	return expression_tree_walker(node, foreign_relation_walker, schema);
}

void
a67_ddl_view(A67Ddl *ddl, ViewStmt *statement)
{
	Oid schema = ddl->database->schema_oid;
	int location = statement->view->location;
	Relation view;
	bool foreign;

	a67_ddl_full_relation(ddl, statement->view);
	a67_ddl_local(ddl, (Node *) statement);
	view = relation_open(RangeVarGetRelid(statement->view, NoLock, false), NoLock);
	/* The rule's own entries for the old and new row are of the view itself, in the schema. */
	foreign = foreign_relation_walker((Node *) get_view_query(view), &schema);
	relation_close(view, NoLock);
	if (foreign)
		a67_ddl_refuse(ddl, location,
					   "a view of a virtual database can use its own tables and views only", NULL);
	a67_ddl_judge_relation(RangeVarGetRelid(statement->view, NoLock, false));
}

void
a67_ddl_sequence(A67Ddl *ddl, Node *statement)
{
	RangeVar *name = IsA(statement, CreateSeqStmt) ? ((CreateSeqStmt *) statement)->sequence
												   : ((AlterSeqStmt *) statement)->sequence;

	a67_ddl_full_relation(ddl, name);
	a67_ddl_local(ddl, statement);
}

void
a67_ddl_comment(A67Ddl *ddl, CommentStmt *statement)
{
	List *name;

	switch (statement->objtype)
	{
		case OBJECT_TABLE:
			statement->objtype = OBJECT_FOREIGN_TABLE;
			/* FALLTHROUGH */
		case OBJECT_VIEW:
		case OBJECT_SEQUENCE:
			statement->object = (Node *) a67_ddl_full_name(ddl, castNode(List, statement->object));
			break;
		case OBJECT_COLUMN:
			name = castNode(List, statement->object);
			statement->object = (Node *) lappend(
				a67_ddl_full_name(ddl, list_copy_head(name, list_length(name) - 1)), llast(name));
			break;
		case OBJECT_TYPE:
		case OBJECT_DOMAIN:
		{
			TypeName *type = castNode(TypeName, statement->object);

			type->names = a67_ddl_full_name(ddl, type->names);
			break;
		}
		default:
			a67_ddl_refuse(ddl, -1,
						   "COMMENT is supported for tables, columns, views, sequences and types",
						   NULL);
	}
	a67_ddl_local(ddl, (Node *) statement);
}
