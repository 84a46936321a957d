/*
 * query_allow.c - the rule behind query_allow.h.
 *
 * Walks whole queries, with subqueries, CTEs, sublinks and what views and defaults have become by rewriting. It does not ask for privileges:
 * PostgreSQL does, with the role of the frame. What it adds is what every role of a server may do and a tenant of it must not:
 * read catalogs and activity, wait, lock, notify, change settings, make large objects.
 * Functions are known by OID: those of initdb's catalogs cannot be replaced or shadowed.
 */
#include "postgres.h"

#include "router/query_allow.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "rewrite/rewriteSupport.h"
#include "rewrite/prs2lock.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#define COMPOSITE_DEPTH 8

typedef struct Rule
{
	Oid schema;
	const char *text; /* NULL: not a text of the caller */
	int location;	  /* of the innermost expression that has one */
} Rule;

/* Volatile functions that change and tell nothing. nextval has a rule of its own. */
static const Oid harmless[] = {F_RANDOM, F_GEN_RANDOM_UUID, F_CLOCK_TIMESTAMP, F_TIMEOFDAY};

/*
 * Functions that are not volatile and yet tell about the server, other sessions and other people's objects, or run a
 * query given as text. A "*" at the end stands for anything.
 */
static const char *const telling[] = {
	"aclexplode",
	"aclitem*",
	"binary_upgrade_*",
	"col_description",
	"current_setting",
	"database_to_xml*",
	"fmgr_*",
	"format_type",
	"has_*",
	"inet_client_*",
	"inet_server_*",
	"makeaclitem",
	"obj_description",
	"oidvectortypes",
	"pg_*",
	"query_to_xml*",
	"row_security_*",
	"schema_to_xml*",
	"shobj_description",
	"table_to_xml*",
	"to_reg*",
	"ts_debug",
	"ts_parse",
	"ts_token_type",
	"txid_*",
	/* libxml2 cannot be interrupted while it evaluates an expression. */
	"xmlexists",
	"xpath*",
};

/* Exceptions to "pg_*". */
static const char *const plain[] = {"pg_typeof",	   "pg_column_size",	 "pg_size_pretty",
									"pg_size_bytes",   "pg_client_encoding", "pg_lsn*",
									"pg_collation_for"};

pg_attribute_noreturn() static void refuse(const Rule *rule, const char *message, const char *hint);

static void
refuse(const Rule *rule, const char *message, const char *hint)
{
	int position = 0;

	if (rule->text != NULL && rule->location >= 0 && (size_t) rule->location <= strlen(rule->text))
		position = pg_mbstrlen_with_len(rule->text, rule->location) + 1;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("%s", message),
					errhint("%s", hint), position > 0 ? internalerrposition(position) : 0,
					position > 0 ? internalerrquery(rule->text) : 0));
	pg_unreachable();
}

/* ---- functions --------------------------------------------------------------------------------- */

static bool
is_one_of(const char *name, const char *const *patterns, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		size_t len = strlen(patterns[i]);

		if (patterns[i][len - 1] == '*' ? strncmp(name, patterns[i], len - 1) == 0
										: strcmp(name, patterns[i]) == 0)
			return true;
	}
	return false;
}

static bool
is_harmless(Oid function, const char *name)
{
	if (function >= FirstGenbkiObjectId || name == NULL)
		return false;
	if (func_volatile(function) == PROVOLATILE_VOLATILE)
	{
		for (size_t i = 0; i < lengthof(harmless); i++)
			if (harmless[i] == function)
				return true;
		return false;
	}
	return !is_one_of(name, telling, lengthof(telling)) || is_one_of(name, plain, lengthof(plain));
}

static bool
check_function(Oid function, void *context)
{
	char *name = get_func_name(function);

	if (!is_harmless(function, name))
		refuse(context, psprintf("function %s is not allowed here", name != NULL ? name : "?"),
			   "Built-in functions that only compute from their arguments are.");
	return false;
}

/* ---- types ------------------------------------------------------------------------------------- */

/* Types whose values stand for objects of the server: their output tells names that are none of the caller's business. */
static bool
names_objects(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case ACLITEMOID:
		case PG_NODE_TREEOID:
			return true;
		default:
			return false;
	}
}

static Oid
type_namespace(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid found = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		found = ((Form_pg_type) GETSTRUCT(tuple))->typnamespace;
		ReleaseSysCache(tuple);
	}
	return found;
}

static bool type_is_plain(Oid type, Oid schema, int depth);

static bool
parts_are_plain(Oid type, Oid schema, int depth)
{
	TupleDesc desc = lookup_rowtype_tupdesc_domain(type, -1, true);
	bool good = true;

	if (desc == NULL)
		return false;
	for (int i = 0; i < desc->natts && good; i++)
		good = TupleDescAttr(desc, i)->attisdropped ||
			   type_is_plain(TupleDescAttr(desc, i)->atttypid, schema, depth + 1);
	ReleaseTupleDesc(desc);
	return good;
}

/* Whether the type is built in and names no objects, or made of such types in the schema. */
static bool
type_is_plain(Oid type, Oid schema, int depth)
{
	Oid base = getBaseType(type);
	Oid element = get_element_type(base);
	char kind;

	if (base != type && type >= FirstGenbkiObjectId && type_namespace(type) != schema)
		return false;
	if (depth > COMPOSITE_DEPTH)
		return false;
	if (OidIsValid(element))
		return type_is_plain(element, schema, depth + 1);
	if (base < FirstGenbkiObjectId)
		return !names_objects(base);
	kind = get_typtype(base);
	if (type_namespace(base) != schema)
		return false;
	if (kind == TYPTYPE_COMPOSITE)
		return parts_are_plain(base, schema, depth);
	return kind == TYPTYPE_ENUM || kind == TYPTYPE_RANGE || kind == TYPTYPE_MULTIRANGE;
}

static void
check_type(Oid type, const Rule *rule)
{
	if (OidIsValid(type) && !type_is_plain(type, rule->schema, 0))
		refuse(
			rule, psprintf("values of type %s are not allowed here", format_type_be(type)),
			"Use built-in types that do not name objects of the server, or types of the virtual database.");
}

static void
check_types(List *types, const Rule *rule)
{
	ListCell *cell;

	foreach(cell, types)
		check_type(lfirst_oid(cell), rule);
}

/* ---- relations --------------------------------------------------------------------------------- */

static void
check_relation(Oid relid, const Rule *rule)
{
	char *name;

	if (get_rel_namespace(relid) == rule->schema)
		return;
	name = get_rel_name(relid);
	refuse(rule, psprintf("permission denied for relation \"%s\"", name != NULL ? name : "?"),
		   "Only tables of the virtual database can be used.");
}

static void
check_rte(const RangeTblEntry *rte, const Rule *rule)
{
	ListCell *cell;

	if (rte->rtekind == RTE_RELATION)
		check_relation(rte->relid, rule);
	foreach(cell, rte->functions)
		check_types(lfirst_node(RangeTblFunction, cell)->funccoltypes, rule);
	if (rte->tablefunc != NULL)
		refuse(rule, "XMLTABLE is not allowed here", "Use the functions of JSON.");
}

/* ---- expressions ------------------------------------------------------------------------------- */

/* nextval('s'): a constant that names a sequence of the schema. */
static void
check_nextval(const FuncExpr *call, const Rule *rule)
{
	Const *sequence = linitial(call->args);

	if (!IsA(sequence, Const) || sequence->constisnull || sequence->consttype != REGCLASSOID)
		refuse(rule, "nextval takes a constant here", "Write the sequence's name in quotes.");
	check_relation(DatumGetObjectId(sequence->constvalue), rule);
}

static bool walk(Node *node, void *context);

static void
check_domain(Oid type, Rule *rule)
{
	/* The memory context frees what it refers to, later. */
	DomainConstraintRef *ref = palloc0(sizeof(*ref));
	ListCell *cell;

	InitDomainConstraintRef(type, ref, CurrentMemoryContext, false);
	foreach(cell, ref->constraints)
		walk((Node *) ((DomainConstraintState *) lfirst(cell))->check_expr, rule);
}

/* Calls that have a rule of their own; true when nothing else is to be looked at. */
static bool
is_special(const FuncExpr *call, Rule *rule)
{
	if (call->funcid == F_NEXTVAL)
	{
		check_nextval(call, rule);
		return true;
	}
	if (call->funcid == F_PG_TYPEOF)
	{
		walk((Node *) call->args, rule);
		return true;
	}
	return false;
}

static void
check_expression(Node *node, Rule *rule)
{
	(void) check_functions_in_node(node, check_function, rule);
	switch (nodeTag(node))
	{
		case T_NextValueExpr:
			check_relation(((NextValueExpr *) node)->seqid, rule);
			return;
		case T_XmlExpr:
			if (((XmlExpr *) node)->op == IS_DOCUMENT)
				refuse(rule, "IS DOCUMENT is not allowed here", "Use the functions of JSON.");
			break;
		case T_TableSampleClause:
			(void) check_function(((TableSampleClause *) node)->tsmhandler, rule);
			return;
		case T_CoerceToDomain:
			check_domain(((CoerceToDomain *) node)->resulttype, rule);
			break;
		case T_Var:
		case T_Const:
		case T_Param:
		case T_Aggref:
		case T_WindowFunc:
		case T_FuncExpr:
		case T_OpExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_FieldSelect:
		case T_SubscriptingRef:
			break;
		default:
			return;
	}
	check_type(exprType(node), rule);
}

/* Relations first: where one is refused, that is the reason to tell. */
static bool
walk_query(Query *query, Rule *rule)
{
	ListCell *cell;

	foreach(cell, query->rtable)
		check_rte(lfirst_node(RangeTblEntry, cell), rule);
	return query_tree_walker(query, walk, rule, 0);
}

static bool
walk(Node *node, void *context)
{
	Rule *rule = context;
	int outer;
	bool stop;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return walk_query((Query *) node, rule);
	outer = rule->location;
	if (!IsA(node, List) && !IsA(node, TableSampleClause) && exprLocation(node) >= 0)
		rule->location = exprLocation(node);
	if (IsA(node, FuncExpr) && is_special((FuncExpr *) node, rule))
		stop = false;
	else
	{
		if (!IsA(node, List))
			check_expression(node, rule);
		stop = expression_tree_walker(node, walk, context);
	}
	rule->location = outer;
	return stop;
}

void
a67_allow_queries(List *queries, Oid schema, const char *text)
{
	Rule rule = {.schema = schema, .text = text, .location = -1};
	ListCell *cell;

	foreach(cell, queries)
	{
		Query *query = lfirst_node(Query, cell);

		if (query->commandType == CMD_UTILITY)
			elog(ERROR, "utility statement where a query was expected");
		(void) walk((Node *) query, &rule);
	}
}

/* ---- definitions ------------------------------------------------------------------------------- */

/* The query of a view, as it is stored. */
static void
check_rules(Relation relation, Rule *rule)
{
	RuleLock *rules = relation->rd_rules;

	for (int i = 0; rules != NULL && i < rules->numLocks; i++)
		(void) walk((Node *) rules->rules[i]->actions, rule);
}

static void
check_columns(Relation relation, Rule *rule)
{
	TupleDesc desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			check_type(TupleDescAttr(desc, i)->atttypid, rule);
	for (int i = 0; desc->constr != NULL && i < desc->constr->num_defval; i++)
		(void) walk(stringToNode(desc->constr->defval[i].adbin), rule);
	for (int i = 0; desc->constr != NULL && i < desc->constr->num_check; i++)
		(void) walk(stringToNode(desc->constr->check[i].ccbin), rule);
}

void
a67_allow_relation(Oid relid)
{
	Relation relation = relation_open(relid, AccessShareLock);
	Rule rule = {.schema = RelationGetNamespace(relation), .location = -1};

	check_columns(relation, &rule);
	check_rules(relation, &rule);
	relation_close(relation, NoLock);
}

void
a67_allow_type(Oid type)
{
	Rule rule = {.schema = type_namespace(type), .location = -1};

	check_type(type, &rule);
	if (get_typtype(type) == TYPTYPE_DOMAIN)
		check_domain(type, &rule);
}

/* ---- raw statements ---------------------------------------------------------------------------- */

static bool
is_query(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_SelectStmt:
			return ((const SelectStmt *) node)->intoClause == NULL;
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			return true;
		default:
			return false;
	}
}

static bool
is_ddl(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_AlterTableStmt:
		case T_RenameStmt:
		case T_IndexStmt:
		case T_DropStmt:
		case T_TruncateStmt:
		case T_CreateEnumStmt:
		case T_AlterEnumStmt:
		case T_CompositeTypeStmt:
		case T_CreateDomainStmt:
		case T_AlterDomainStmt:
		case T_CreateSeqStmt:
		case T_AlterSeqStmt:
		case T_ViewStmt:
		case T_CommentStmt:
			return true;
		default:
			return false;
	}
}

RawStmt *
a67_allow_statement(const char *text, A67StatementKind *kind)
{
	List *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	RawStmt *statement;
	Node *node;

	if (list_length(statements) != 1)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR),
						errmsg("query must be one statement, not %d", list_length(statements)),
						errdetail("Field: query.")));
	statement = linitial_node(RawStmt, statements);
	node = statement->stmt;
	*kind = A67_STATEMENT_QUERY;
	if (is_query(node) || (IsA(node, ExplainStmt) && is_query(((ExplainStmt *) node)->query)))
		return statement;
	*kind = A67_STATEMENT_DDL;
	if (is_ddl(node))
		return statement;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s is not allowed here", CreateCommandName(node)),
			 errhint("Send SELECT, INSERT, UPDATE, DELETE, EXPLAIN of these, or DDL on tables.")));
}
