/*
 * insert_plan.c - plans of INSERT into virtual tables whose rows are routed here, one by one.
 *
 * PostgreSQL plans the statement as it does for any foreign table; the ModifyTable on top of that plan is then replaced by
 * the node of insert.c, which takes over its source, its RETURNING list and its initial plans. ON CONFLICT, which PostgreSQL's planner refuses for
 * foreign tables, is taken out before and sent to the shards as text: an arbiter must hold the shard key, because an index on a
 * shard sees that shard's rows only. Left to modify.c (NULL): tables with triggers, and views with check options. Called by planner.c.
 */
#include "postgres.h"

#include "router/insert.h"

#include "access/sysattr.h"
#include "catalog/heap.h"
#include "access/table.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "router/key.h"
#include "router/planner.h"
#include "router/ship.h"

/* RETURNING while it is being turned from columns of the table to columns that come back. */
typedef struct Returned
{
	int varno;
	Oid relid;
	TupleDesc desc;	 /* of the table */
	List *scan_list; /* TargetEntry of the columns that come back */
} Returned;

static pg_attribute_noreturn() void refuse(const char *what, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s", what),
			 detail != NULL ? errdetail("%s", detail) : 0, hint != NULL ? errhint("%s", hint) : 0));
}

/* ---- ON CONFLICT -------------------------------------------------------------------------------- */

static bool
is_key_column(const A67Table *table, Node *node, int varno)
{
	node = strip_implicit_coercions(node);
	return IsA(node, Var) && ((Var *) node)->varno == varno && ((Var *) node)->varlevelsup == 0 &&
		   ((Var *) node)->varattno == table->key;
}

static bool
arbiter_has_key(const A67Table *table, const OnConflictExpr *conflict, int varno)
{
	ListCell *lc;

	foreach(lc, conflict->arbiterElems)
	{
		InferenceElem *element = lfirst_node(InferenceElem, lc);

		if (is_key_column(table, element->expr, varno))
			return true;
	}
	return false;
}

/* A67InsertPlan.arbiter */
static List *
arbiter_columns(const Query *query)
{
	const OnConflictExpr *conflict = query->onConflict;
	List *columns = NIL;
	const char *why;
	ListCell *lc;

	if (conflict == NULL || conflict->action != ONCONFLICT_UPDATE)
		return NIL;
	if (conflict->arbiterWhere != NULL)
		columns = list_make1_int(A67_ARBITER_OTHER);
	foreach(lc, conflict->arbiterElems)
	{
		Var *var = (Var *) lfirst_node(InferenceElem, lc)->expr;
		bool plain = IsA(var, Var) && a67_key_supported(var->vartype, var->varcollid, &why);

		columns = lappend_int(columns, plain ? var->varattno : A67_ARBITER_OTHER);
	}
	return columns;
}

/* An update that could move the row to another shard. */
static bool
moves_key(const A67Table *table, const OnConflictExpr *conflict, int varno)
{
	ListCell *lc;

	foreach(lc, conflict->onConflictSet)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry->resjunk || entry->resno != table->key)
			continue;
		if (!is_key_column(table, (Node *) entry->expr, conflict->exclRelIndex) &&
			!is_key_column(table, (Node *) entry->expr, varno))
			return true;
	}
	return false;
}

static void
check_conflict(const A67Table *table, const Query *query)
{
	const OnConflictExpr *conflict = query->onConflict;
	const char *name = get_rel_name(table->relid);
	const char *obstacle;
	Bitmapset *columns = NULL;
	Node *parts;

	if (conflict == NULL)
		return;
	if (table->key != 0 && conflict->arbiterElems != NIL &&
		!arbiter_has_key(table, conflict, query->resultRelation))
		refuse(psprintf("ON CONFLICT on table \"%s\" must name the shard key", name),
			   "A unique index without the shard key is unique on each shard only.",
			   psprintf("Add column \"%s\" to the conflict target.",
						get_attname(table->relid, table->key, false)));
	if (table->key != 0 && moves_key(table, conflict, query->resultRelation))
		refuse(psprintf("ON CONFLICT DO UPDATE cannot change the shard key of table \"%s\"", name),
			   "The row would have to move to another shard.",
			   "Update the row with a statement of its own.");
	parts = (Node *) list_make4(conflict->arbiterElems, conflict->arbiterWhere,
								conflict->onConflictSet, conflict->onConflictWhere);
	if (checkExprHasSubLink(parts))
		refuse(psprintf("subqueries in ON CONFLICT are not supported for table \"%s\"", name),
			   "The shard that finds the conflict does not hold the rows of other tables.",
			   "Compute the value in the rows to be inserted and refer to it as excluded.");
	pull_varattnos(parts, query->resultRelation, &columns);
	pull_varattnos(parts, conflict->exclRelIndex, &columns);
	if (bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, columns))
		refuse(psprintf("whole rows in ON CONFLICT are not supported for table \"%s\"", name), NULL,
			   "Name the columns.");
	obstacle = a67_ship_obstacle_expr(table->database, parts);
	if (obstacle != NULL)
		refuse(
			psprintf("ON CONFLICT for table \"%s\" has an expression that shards cannot evaluate",
					 name),
			obstacle, "Compute the value in the rows to be inserted and refer to it as excluded.");
}

/* ---- text for shards -------------------------------------------------------------------------------- */

/*
 * The statement without rows, "INSERT INTO … DEFAULT VALUES ON CONFLICT …". Of the range table only the target and
 * "excluded" count; the places of the others stay, for the Vars' sake.
 */
static A67Shipment *
ship_conflict(const A67Table *table, const Query *query)
{
	Query *frame = makeNode(Query);
	ListCell *lc;

	frame->commandType = CMD_INSERT;
	frame->resultRelation = query->resultRelation;
	frame->jointree = makeFromExpr(NIL, NULL);
	frame->onConflict = copyObject(query->onConflict);
	frame->onConflict->exclRelTlist = NIL;
	frame->canSetTag = true;
	foreach(lc, query->rtable)
	{
		int index = foreach_current_index(lc) + 1;
		RangeTblEntry *entry = makeNode(RangeTblEntry);

		if (index == query->resultRelation || index == query->onConflict->exclRelIndex)
			entry = copyObject(lfirst_node(RangeTblEntry, lc));
		else
		{
			entry->rtekind = RTE_RESULT;
			entry->eref = makeAlias("*RESULT*", NIL);
		}
		frame->rtable = lappend(frame->rtable, entry);
	}
	return a67_ship(table->database, frame);
}

/* Where the text says DEFAULT VALUES outside of quoted names; only names come before. */
static char *
find_default_values(char *sql)
{
	bool quoted = false;

	for (char *c = sql; *c != '\0'; c++)
	{
		if (*c == '"')
			quoted = !quoted;
		else if (!quoted && strncmp(c, "DEFAULT VALUES", 14) == 0)
			return c;
	}
	elog(ERROR, "unexpected text of an INSERT: %s", sql);
}

static void
append_names(StringInfo out, Oid relid, List *columns)
{
	ListCell *lc;

	foreach(lc, columns)
		appendStringInfo(out, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_identifier(get_attname(relid, lfirst_int(lc), false)));
}

/* Fills head and tail; returns the expressions of the tail's parameters. */
static List *
write_statement(A67InsertPlan *plan, const A67Table *table, const Query *query, List *returned)
{
	StringInfoData head;
	StringInfoData tail;
	List *params = NIL;

	initStringInfo(&head);
	initStringInfo(&tail);
	if (query->onConflict != NULL)
	{
		A67Shipment *shipment = ship_conflict(table, query);
		char *middle = find_default_values(shipment->sql);

		appendBinaryStringInfo(&head, shipment->sql, middle - shipment->sql);
		appendStringInfoString(&tail, middle + strlen("DEFAULT VALUES"));
		params = shipment->params;
	}
	else
		appendStringInfo(&head, "INSERT INTO %s ", quote_identifier(get_rel_name(table->relid)));
	appendStringInfoChar(&head, '(');
	append_names(&head, table->relid, plan->columns);
	appendStringInfo(&head, ") %sVALUES ",
					 query->override == OVERRIDING_SYSTEM_VALUE ? "OVERRIDING SYSTEM VALUE " : "");
	if (returned != NIL)
	{
		appendStringInfoString(&tail, " RETURNING ");
		append_names(&tail, table->relid, returned);
	}
	plan->head = head.data;
	plan->tail = tail.data;
	plan->single =
		a67_insert_sql(head.data, tail.data, list_length(params), list_length(plan->columns), 1);
	return params;
}

/* ---- RETURNING -------------------------------------------------------------------------------- */

/* A column of the table; system columns come back as the shards have them. */
static Var *
make_column(int varno, TupleDesc desc, AttrNumber attno)
{
	const FormData_pg_attribute *column =
		attno > 0 ? TupleDescAttr(desc, attno - 1) : SystemAttributeDefinition(attno);

	return makeVar(varno, attno, column->atttypid, column->atttypmod, column->attcollation, 0);
}

/* Refers to the column among those that come back; it is added when it is new. */
static Var *
returned_column(Returned *returned, AttrNumber attno)
{
	Var *column = make_column(returned->varno, returned->desc, attno);
	AttrNumber place = 0;
	ListCell *lc;

	foreach(lc, returned->scan_list)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (equal(entry->expr, column))
			place = entry->resno;
	}
	if (place == 0)
	{
		place = list_length(returned->scan_list) + 1;
		returned->scan_list =
			lappend(returned->scan_list,
					makeTargetEntry((Expr *) column, place,
									get_attname(returned->relid, attno, false), false));
	}
	return makeVar(INDEX_VAR, place, column->vartype, column->vartypmod, column->varcollid, 0);
}

static Node *
returned_row(Returned *returned, const Var *whole)
{
	RowExpr *row = makeNode(RowExpr);

	row->row_typeid = whole->vartype;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->location = -1;
	for (int attno = 1; attno <= returned->desc->natts; attno++)
		row->args = lappend(row->args, TupleDescAttr(returned->desc, attno - 1)->attisdropped
										   ? (Expr *) makeNullConst(INT4OID, -1, InvalidOid)
										   : (Expr *) returned_column(returned, attno));
	return (Node *) row;
}

static Node *
returned_mutator(Node *node, void *context)
{
	Returned *returned = context;
	Var *var = (Var *) node;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Var) || var->varno != returned->varno)
		return expression_tree_mutator(node, returned_mutator, context);
	if (var->varattno == TableOidAttributeNumber)
		return (Node *) makeConst(OIDOID, -1, InvalidOid, sizeof(Oid),
								  ObjectIdGetDatum(returned->relid), false, true);
	if (var->varattno == 0)
		return returned_row(returned, var);
	return (Node *) returned_column(returned, var->varattno);
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Columns whose values were given or have a default here: what else the table has is left to the shards, as generated columns are. */
static List *
sent_columns(const Query *query, TupleDesc desc)
{
	List *columns = NIL;
	ListCell *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (!entry->resjunk)
			columns = lappend_int(columns, entry->resno);
	}
	for (int i = 0; i < desc->natts && columns == NIL; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && column->attgenerated == '\0')
			columns = list_make1_int(i + 1);
	}
	if (columns == NIL)
		refuse("INSERT into a virtual table without columns is not supported", NULL, NULL);
	return columns;
}

static bool
reads_table_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		const RangeTblEntry *entry = (RangeTblEntry *) node;

		return entry->rtekind == RTE_RELATION && entry->relid == *(Oid *) context;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_table_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_table_walker, context);
}

/* Whether the rows to insert are computed from the table that they go to. */
static bool
reads_itself(const Query *query, Oid relid)
{
	ListCell *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, lc);

		if (entry->rtekind == RTE_SUBQUERY && reads_table_walker((Node *) entry->subquery, &relid))
			return true;
		if (entry->rtekind == RTE_VALUES &&
			reads_table_walker((Node *) entry->values_lists, &relid))
			return true;
	}
	return reads_table_walker((Node *) query->cteList, &relid);
}

/* Whether RETURNING is of columns and constants alone: an error in it would come when a row is stored already. */
static bool
returns_plainly(List *returning)
{
	ListCell *lc;

	foreach(lc, returning)
	{
		Expr *expr = lfirst_node(TargetEntry, lc)->expr;

		if (!IsA(expr, Var) && !IsA(expr, Const) && !IsA(expr, RowExpr))
			return false;
	}
	return true;
}

/* Puts the node in the place of the ModifyTable on top. */
static Plan *
replace_top(ModifyTable *top, const A67Table *table, Query *query, Relation rel)
{
	CustomScan *scan = a67_insert_scan();
	A67InsertPlan plan = {.relid = table->relid};
	Returned returned = {.varno = query->resultRelation,
						 .relid = table->relid,
						 .desc = RelationGetDescr(rel),
						 .scan_list = NIL};
	List *names = NIL;
	List *params;
	ListCell *lc;

	plan.columns = sent_columns(query, RelationGetDescr(rel));
	plan.arbiter = arbiter_columns(query);
	plan.hold = reads_itself(query, table->relid);
	if (top->returningLists != NIL)
	{
		scan->scan.plan.targetlist =
			(List *) returned_mutator((Node *) linitial(top->returningLists), &returned);
		if (returned.scan_list == NIL)
			(void) returned_column(&returned, linitial_int(plan.columns));
		foreach(lc, returned.scan_list)
			names = lappend_int(names, ((Var *) lfirst_node(TargetEntry, lc)->expr)->varattno);
	}
	plan.alone = !query->hasModifyingCTE && returns_plainly(scan->scan.plan.targetlist);
	params = write_statement(&plan, table, query, names);
	foreach(lc, params)
		scan->custom_exprs = lappend(scan->custom_exprs, expression_planner(lfirst(lc)));
	scan->custom_scan_tlist = returned.scan_list;
	scan->custom_plans = list_make1(outerPlan(top));
	scan->custom_private = a67_insert_pack(&plan);
	scan->custom_relids = bms_make_singleton(query->resultRelation);
	scan->scan.plan.startup_cost = top->plan.startup_cost;
	scan->scan.plan.total_cost = top->plan.total_cost;
	scan->scan.plan.plan_rows = top->plan.plan_rows;
	scan->scan.plan.plan_width = top->plan.plan_width;
	scan->scan.plan.initPlan = top->plan.initPlan;
	scan->scan.plan.extParam = top->plan.extParam;
	scan->scan.plan.allParam = top->plan.allParam;
	return &scan->scan.plan;
}

static bool
has_insert_trigger(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	return triggers != NULL &&
		   (triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
			triggers->trig_insert_instead_row || triggers->trig_insert_before_statement ||
			triggers->trig_insert_after_statement);
}

PlannedStmt *
a67_plan_insert(Query *query, const char *query_string, int cursor_options, ParamListInfo params)
{
	const A67Table *table;
	PlannedStmt *planned;
	Query *source;
	Relation rel;
	bool combined;

	if (query->commandType != CMD_INSERT)
		return NULL;
	table = a67_table(rt_fetch(query->resultRelation, query->rtable)->relid);
	if (table == NULL)
		return NULL;
	rel = table_open(table->relid, NoLock);
	if (query->withCheckOptions != NIL || has_insert_trigger(rel))
	{
		if (query->onConflict != NULL)
			refuse("ON CONFLICT is not supported for virtual tables with triggers or check options",
				   NULL, NULL);
		table_close(rel, NoLock);
		return NULL;
	}
	check_conflict(table, query);
	source = copyObject(query);
	source->onConflict = NULL;
	combined = a67_combine(source, params);
	planned = standard_planner(source, query_string, cursor_options, params);
	if (combined)
		a67_combine_finish(planned, query);
	if (!IsA(planned->planTree, ModifyTable))
		elog(ERROR, "unexpected plan of an INSERT: %d", (int) nodeTag(planned->planTree));
	planned->planTree = replace_top((ModifyTable *) planned->planTree, table, query, rel);
	table_close(rel, NoLock);
	return planned;
}
