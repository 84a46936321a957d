/*
 * modify_plan.c - planning changes of rows through the wrapper; see modify.h.
 */
#include "postgres.h"

#include "router/modify.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/appendinfo.h"
#include "optimizer/inherit.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "router/fdw.h"
#include "router/modify_text.h"

/* ---- what is in fdw_private */

#define FLAG_RETURNING 1
#define FLAG_MOVES	   2
#define FLAG_JOINED	   4
#define FLAG_QUEUED	   8

List *
a67_modify_pack(const A67ModifyPlan *plan)
{
	int flags = (plan->has_returning ? FLAG_RETURNING : 0) | (plan->moves ? FLAG_MOVES : 0) |
				(plan->joined ? FLAG_JOINED : 0) | (plan->queued ? FLAG_QUEUED : 0);
	List *texts = list_make4(makeString(plan->set), makeString(plan->insert),
							 makeString(plan->conflict), makeString(plan->returning));

	return list_make5(list_make2_int((int) plan->operation, flags), texts, plan->set_columns,
					  plan->insert_columns, plan->returned);
}

A67ModifyPlan *
a67_modify_unpack(List *packed)
{
	A67ModifyPlan *plan = palloc(sizeof(A67ModifyPlan));
	List *numbers = (List *) linitial(packed);
	List *texts = (List *) lsecond(packed);
	int flags = lsecond_int(numbers);

	*plan = (A67ModifyPlan){
		.operation = (CmdType) linitial_int(numbers),
		.set = strVal(linitial(texts)),
		.insert = strVal(lsecond(texts)),
		.conflict = strVal(lthird(texts)),
		.returning = strVal(lfourth(texts)),
		.set_columns = (List *) lthird(packed),
		.insert_columns = (List *) lfourth(packed),
		.returned = (List *) list_nth(packed, 4),
		.has_returning = (flags & FLAG_RETURNING) != 0,
		.moves = (flags & FLAG_MOVES) != 0,
		.joined = (flags & FLAG_JOINED) != 0,
		.queued = (flags & FLAG_QUEUED) != 0,
	};
	return plan;
}

/* ---- where a row is */

static void
add_targets(PlannerInfo *root, Index rti, RangeTblEntry *rte, Relation relation)
{
	const A67Table *table = a67_table(RelationGetRelid(relation));
	Var *var = makeVar(rti, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0);

	add_row_identity_var(root, var, rti, A67_MODIFY_CTID);
	var = makeVar(rti, A67_FDW_SHARD_ATTRIBUTE, CIDOID, -1, InvalidOid, 0);
	add_row_identity_var(root, var, rti, A67_MODIFY_SHARD);
	if (table != NULL && table->strategy == A67_REFERENCE)
	{
		var = makeVar(rti, InvalidAttrNumber, RECORDOID, -1, InvalidOid, 0);
		add_row_identity_var(root, var, rti, A67_MODIFY_ROW);
	}
}

/* ---- columns */

/* Columns that hold what they were given: shards compute generated ones themselves. */
static List *
stored_columns(TupleDesc desc)
{
	List *columns = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && attribute->attgenerated == '\0')
			columns = lappend_int(columns, attribute->attnum);
	}
	return columns;
}

static List *
updated_columns(PlannerInfo *root, Index rti, Relation relation)
{
	List *stored = stored_columns(RelationGetDescr(relation));
	List *columns = NIL;
	Bitmapset *updated;
	ListCell *cell;

	/* Triggers may change more than the statement names. */
	if (relation->trigdesc != NULL && relation->trigdesc->trig_update_before_row)
		return stored;
	updated = get_rel_all_updated_cols(root, find_base_rel(root, (int) rti));
	foreach(cell, stored)
	{
		if (bms_is_member(lfirst_int(cell) - FirstLowInvalidHeapAttributeNumber, updated))
			columns = lappend_int(columns, lfirst_int(cell));
	}
	return columns;
}

static bool
has_after_triggers(const TriggerDesc *triggers, CmdType operation)
{
	if (triggers == NULL)
		return false;
	return operation == CMD_INSERT	 ? triggers->trig_insert_after_row
		   : operation == CMD_UPDATE ? triggers->trig_update_after_row
									 : triggers->trig_delete_after_row;
}

/*
 * Those that RETURNING, check options and triggers look at: shards may have stored something else
 * than what was sent.
 */
static List *
returned_columns(Relation relation, CmdType operation, Index rti, List *uses)
{
	TupleDesc desc = RelationGetDescr(relation);
	Bitmapset *attrs = NULL;
	List *columns = NIL;
	bool all = has_after_triggers(relation->trigdesc, operation);

	pull_varattnos((Node *) uses, rti, &attrs);
	all |= bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, attrs);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped &&
			(all || bms_is_member(attribute->attnum - FirstLowInvalidHeapAttributeNumber, attrs)))
			columns = lappend_int(columns, attribute->attnum);
	}
	return columns;
}

/* ---- plans */

static bool
has_row_triggers(const TriggerDesc *triggers, CmdType operation)
{
	if (triggers == NULL)
		return false;
	return has_after_triggers(triggers, operation) ||
		   (operation == CMD_INSERT	  ? triggers->trig_insert_before_row
			: operation == CMD_UPDATE ? triggers->trig_update_before_row
									  : triggers->trig_delete_before_row);
}

/* Whether the query, or one in it, reads a virtual table. */
static bool
reads_shards_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_shards_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			   a67_table(rte->relid) != NULL;
	}
	if (IsA(node, FuncExpr))
	{
		/* What combine.c put into the place of tables. */
		Oid schema = get_func_namespace(((FuncExpr *) node)->funcid);

		if (schema == get_namespace_oid("a67_internal", true))
			return true;
	}
	return expression_tree_walker(node, reads_shards_walker, context);
}

/* Whether the expression has a subquery, planned by now, that reads a virtual table. */
static bool
has_late_read_walker(Node *node, PlannerInfo *root)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (IsA(node, SubPlan))
	{
		PlannerInfo *subroot = list_nth(root->glob->subroots, ((SubPlan *) node)->plan_id - 1);

		return reads_shards_walker((Node *) subroot->parse, NULL);
	}
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
	{
		foreach(cell, root->init_plans)
		{
			SubPlan *plan = lfirst_node(SubPlan, cell);

			if (list_member_int(plan->setParam, ((Param *) node)->paramid))
				return has_late_read_walker((Node *) plan, root);
		}
		return false;
	}
	return expression_tree_walker(node, has_late_read_walker, root);
}

/* INSERT at the top of a statement is insert.c's. */
static void
check_returning(PlannerInfo *root, CmdType operation, List *returning)
{
	if (operation == CMD_INSERT && root->parent_root == NULL)
		return;
	if (has_late_read_walker((Node *) returning, root))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("subqueries on virtual tables in RETURNING are not supported here"),
						errdetail("They would see the rows after the change instead of before it."),
						errhint("Return the columns, and run the query in another statement.")));
}

static void
fill_columns(A67ModifyPlan *plan, PlannerInfo *root, Index rti, Relation relation)
{
	const A67Table *table = a67_table(RelationGetRelid(relation));

	plan->set = plan->insert = "";
	plan->insert_columns = stored_columns(RelationGetDescr(relation));
	if (plan->operation == CMD_UPDATE)
	{
		plan->set_columns = updated_columns(root, rti, relation);
		plan->moves = table->key > 0 && list_member_int(plan->set_columns, table->key);
	}
	if (plan->operation != CMD_INSERT)
		plan->set = a67_text_change(table->relid, plan->set_columns);
	if (plan->operation == CMD_INSERT || plan->moves)
		plan->insert = a67_text_insert(table->relid, plan->insert_columns);
}

/*
 * Whether the node's source is read whole before the first row is changed. INSERT at the top is
 * insert.c's, which sees to that itself.
 */
static bool
must_hold(const PlannerInfo *root, const ModifyTable *node, const Relation relation)
{
	if (node->operation != CMD_INSERT)
		return true;
	return (root->parent_root != NULL || node->withCheckOptionLists != NIL ||
			has_row_triggers(relation->trigdesc, CMD_INSERT)) &&
		   !IsA(outerPlan(&node->plan), Result) && !IsA(outerPlan(&node->plan), ValuesScan);
}

static List *
plan_modify(PlannerInfo *root, ModifyTable *node, Index rti, int place)
{
	RangeTblEntry *rte = planner_rt_fetch(rti, root);
	Relation relation = table_open(rte->relid, NoLock);
	const A67Table *table = a67_table(rte->relid);
	A67ModifyPlan plan = {.operation = node->operation, .conflict = "", .returning = ""};
	List *returning = NIL;
	List *checks = NIL;

	if (node->returningLists != NIL)
		returning = list_nth(node->returningLists, place);
	if (node->withCheckOptionLists != NIL)
		checks = list_nth(node->withCheckOptionLists, place);
	check_returning(root, node->operation, returning);
	fill_columns(&plan, root, rti, relation);
	plan.returned = returned_columns(relation, node->operation, rti, list_make2(returning, checks));
	plan.has_returning = returning != NIL || plan.returned != NIL;
	if (plan.has_returning)
		plan.returning = a67_text_returning(rte->relid, plan.returned);
	if (node->onConflictAction == ONCONFLICT_NOTHING)
		plan.conflict = " ON CONFLICT DO NOTHING";
	plan.joined = bms_membership(root->all_baserels) == BMS_MULTIPLE;
	plan.queued = root->parent_root == NULL && node->canSetTag && !plan.has_returning &&
				  checks == NIL && !has_row_triggers(relation->trigdesc, node->operation) &&
				  table->strategy != A67_REFERENCE && list_length(node->resultRelations) == 1;
	if (must_hold(root, node, relation))
		outerPlan(&node->plan) = a67_modify_hold(outerPlan(&node->plan));
	table_close(relation, NoLock);
	return a67_modify_pack(&plan);
}

A67ModifyPlan *
a67_modify_insert_plan(Relation relation, OnConflictAction conflict, bool returning)
{
	A67ModifyPlan *plan = palloc0(sizeof(A67ModifyPlan));
	TupleDesc desc = RelationGetDescr(relation);

	plan->operation = CMD_INSERT;
	plan->set = "";
	plan->conflict = conflict == ONCONFLICT_NOTHING ? " ON CONFLICT DO NOTHING" : "";
	plan->returning = "";
	plan->insert_columns = stored_columns(desc);
	plan->insert = a67_text_insert(RelationGetRelid(relation), plan->insert_columns);
	plan->has_returning = returning || has_after_triggers(relation->trigdesc, CMD_INSERT);
	if (plan->has_returning)
	{
		for (int i = 0; i < desc->natts; i++)
		{
			if (!TupleDescAttr(desc, i)->attisdropped)
				plan->returned = lappend_int(plan->returned, i + 1);
		}
		plan->returning = a67_text_returning(RelationGetRelid(relation), plan->returned);
	}
	return plan;
}

static int
updatable(Relation relation)
{
	return (1 << CMD_INSERT) | (1 << CMD_UPDATE) | (1 << CMD_DELETE);
}

static void
explain_modify(ModifyTableState *state, ResultRelInfo *info, List *packed, int place,
			   ExplainState *es)
{
	A67ModifyPlan *plan = a67_modify_unpack(packed);

	if (!es->verbose)
		return;
	if (plan->set[0] != '\0')
		ExplainPropertyText("Remote SQL",
							psprintf("%s WHERE ctid = …%s", plan->set, plan->returning), es);
	if (plan->insert[0] != '\0')
		ExplainPropertyText("Remote SQL",
							psprintf("%s…%s%s", plan->insert, plan->conflict, plan->returning), es);
}

void
a67_modify_plan_routines(FdwRoutine *routine)
{
	routine->AddForeignUpdateTargets = add_targets;
	routine->PlanForeignModify = plan_modify;
	routine->IsForeignRelUpdatable = updatable;
	routine->ExplainForeignModify = explain_modify;
}
