/*
 * copy.c - COPY statements of virtual tables; see copy.h.
 *
 * Decides what PostgreSQL's own COPY decides before it reads: privileges, files, WHERE. FREEZE is accepted and does nothing: it is
 * about how rows are stored. Tables with triggers of their own
 * are left to PostgreSQL, which stores row by row through modify.c.
 */
#include "postgres.h"

#include "router/copy.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_authid.h"
#include "commands/copyfrom_internal.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* ---- COPY TO -------------------------------------------------------------------------------- */

/* COPY (SELECT columns FROM table) TO …, which PostgreSQL streams from the plan of the query. */
static PlannedStmt *
copy_of_query(PlannedStmt *original, Relation rel)
{
	PlannedStmt *statement = copyObject(original);
	CopyStmt *copy = (CopyStmt *) statement->utilityStmt;
	SelectStmt *select = makeNode(SelectStmt);
	ListCell *lc;

	foreach(lc, CopyGetAttnums(RelationGetDescr(rel), rel, copy->attlist))
	{
		char *name = get_attname(RelationGetRelid(rel), lfirst_int(lc), false);
		ResTarget *target = makeNode(ResTarget);
		ColumnRef *column = makeNode(ColumnRef);

		column->fields = list_make1(makeString(name));
		column->location = -1;
		target->val = (Node *) column;
		target->location = -1;
		select->targetList = lappend(select->targetList, target);
	}
	select->fromClause = list_make1(makeRangeVar(get_namespace_name(RelationGetNamespace(rel)),
												 pstrdup(RelationGetRelationName(rel)), -1));
	copy->query = (Node *) select;
	copy->relation = NULL;
	copy->attlist = NIL;
	return statement;
}

/* ---- COPY FROM -------------------------------------------------------------------------------- */

static void
check_file(const CopyStmt *copy)
{
	const char *role = copy->is_program ? "pg_execute_server_program" : "pg_read_server_files";

	if (copy->filename == NULL ||
		has_privs_of_role(GetUserId(), copy->is_program ? ROLE_PG_EXECUTE_SERVER_PROGRAM
														: ROLE_PG_READ_SERVER_FILES))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("must be superuser or have privileges of the %s role to COPY from %s", role,
				copy->is_program ? "an external program" : "a file"),
		 errhint(
			 "Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.")));
}

/* They are not computed yet when WHERE is. */
static void
refuse_generated(Node *clause, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	Bitmapset *columns = NULL;

	pull_varattnos(clause, 1, &columns);
	for (int attno = 1; attno <= desc->natts; attno++)
	{
		const FormData_pg_attribute *column = TupleDescAttr(desc, attno - 1);

		if (column->attgenerated == '\0' || column->attisdropped ||
			!(bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, columns) ||
			  bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, columns)))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("generated columns are not supported in COPY FROM WHERE conditions"),
				 errdetail("Column \"%s\" is a generated column.", NameStr(column->attname))));
	}
}

/* The WHERE clause, ready for the executor: an implicitly ANDed list. */
static Node *
transform_where(ParseState *pstate, ParseNamespaceItem *item, Node *clause, Relation rel)
{
	addNSItemToQuery(pstate, item, false, true, true);
	clause = transformExpr(pstate, clause, EXPR_KIND_COPY_WHERE);
	clause = coerce_to_boolean(pstate, clause, "WHERE");
	assign_expr_collations(pstate, clause);
	refuse_generated(clause, rel);
	clause = eval_const_expressions(NULL, clause);
	clause = (Node *) canonicalize_qual((Expr *) clause, false);
	return (Node *) make_ands_implicit((Expr *) clause);
}

static uint64
copy_from(const A67Table *table, Relation rel, const CopyStmt *copy, const char *query_string)
{
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;
	Node *where = NULL;
	CopyFromState from;
	uint64 stored;
	ListCell *lc;

	pstate->p_sourcetext = query_string;
	item = addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL, false, false);
	item->p_rte->requiredPerms = ACL_INSERT;
	if (copy->whereClause != NULL)
		where = transform_where(pstate, item, copy->whereClause, rel);
	foreach(lc, CopyGetAttnums(RelationGetDescr(rel), rel, copy->attlist))
		item->p_rte->insertedCols =
			bms_add_member(item->p_rte->insertedCols,
						   lfirst_int(lc) - FirstLowInvalidHeapAttributeNumber);
	ExecCheckRTPerms(pstate->p_rtable, true);
	if (XactReadOnly)
		PreventCommandIfReadOnly("COPY FROM");
	from = BeginCopyFrom(pstate, rel, where, copy->filename, copy->is_program, NULL, copy->attlist,
						 copy->options);
	stored = a67_copy_from(table, rel, from);
	EndCopyFrom(from);
	free_parsestate(pstate);
	return stored;
}

static bool
has_insert_trigger(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	return triggers != NULL &&
		   (triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
			triggers->trig_insert_before_statement || triggers->trig_insert_after_statement);
}

bool
a67_copy(PlannedStmt **statement, const char *query_string, QueryCompletion *completion)
{
	const CopyStmt *copy = (const CopyStmt *) (*statement)->utilityStmt;
	LOCKMODE lock = copy->is_from ? RowExclusiveLock : AccessShareLock;
	const A67Table *table;
	Relation rel;
	bool done = false;
	Oid relid;

	if (copy->relation == NULL)
		return false;
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE ||
		a67_table(relid) == NULL)
		return false;
	if (copy->is_from)
		check_file(copy);
	rel = table_openrv(copy->relation, lock);
	table = a67_table(RelationGetRelid(rel));
	if (table != NULL && !copy->is_from)
		*statement = copy_of_query(*statement, rel);
	else if (table != NULL && !has_insert_trigger(rel))
	{
		uint64 stored = copy_from(table, rel, copy, query_string);

		if (completion != NULL)
			SetQueryCompletion(completion, CMDTAG_COPY, stored);
		done = true;
	}
	table_close(rel, NoLock);
	return done;
}
