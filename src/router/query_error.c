/*
 * query_error.c - errors of hostile statements, in terms of the text that the caller sent.
 *
 * Positions count characters of that text and stand in the detail, where every door shows them. Such errors are the caller's
 * to read and do not go to the server's log, which a caller could fill and would find other people's values in.
 */
#include "postgres.h"

#include "router/query.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "platform/settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#define DISTANCE_MAX 3 /* letters; and less than half of the name */

/* ---- the name that is not known ---------------------------------------------------------------- */

typedef struct Search
{
	const char *text;
	int position; /* of the error, in characters from 1 */
	const char *name;
} Search;

static bool
find_name(Node *node, void *context)
{
	Search *search = context;

	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
	{
		RangeVar *range = (RangeVar *) node;

		if (range->location >= 0 &&
			pg_mbstrlen_with_len(search->text, range->location) + 1 == search->position)
			search->name = range->relname;
		return search->name != NULL;
	}
	return raw_expression_tree_walker(node, find_name, context);
}

/* The relation that stands at this place of the text, or NULL. */
static const char *
name_at(const char *text, int position)
{
	Search search = {.text = text, .position = position};
	List *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	Node *node = list_length(statements) == 1 ? linitial_node(RawStmt, statements)->stmt : NULL;

	if (node != NULL && IsA(node, ExplainStmt))
		node = ((ExplainStmt *) node)->query;
	(void) find_name(node, &search);
	return search.name;
}

static int
distance(const char *one, const char *other, int most)
{
	int one_len = (int) strlen(one);
	int other_len = (int) strlen(other);

	if (one_len > 255 || other_len > 255)
		return most + 1;
	return varstr_levenshtein_less_equal(one, one_len, other, other_len, 1, 1, 1, most, true);
}

static bool
is_readable(const FormData_pg_class *class)
{
	return strchr("rpfvm", class->relkind) != NULL &&
		   pg_class_aclcheck(class->oid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* The nearest name of a relation in the schema that the current user may read; NULL when none is near. */
static char *
nearest_name(const char *wanted, Oid schema)
{
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	int least = Min(DISTANCE_MAX, (int) strlen(wanted) / 2) + 1;
	char *nearest = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	/* No index has the schema first: a look through the catalog, once for an error. */
	ScanKeyInit(&key, Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(schema));
	scan = systable_beginscan(classes, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);
		int found = distance(wanted, NameStr(class->relname), least);

		if (found >= least || !is_readable(class))
			continue;
		least = found;
		nearest = pstrdup(NameStr(class->relname));
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return nearest;
}

static void
suggest_table(ErrorData *error, const char *text, Oid schema)
{
	const char *wanted = name_at(text, error->internalpos);
	char *nearest = wanted != NULL ? nearest_name(wanted, schema) : NULL;

	if (nearest != NULL)
		error->hint = psprintf("Perhaps you meant the table \"%s\".", nearest);
}

/* ---- positions and limits ---------------------------------------------------------------------- */

static bool
is_in_text(const ErrorData *error, const char *text)
{
	return error->internalpos > 0 && error->internalquery != NULL &&
		   strcmp(error->internalquery, text) == 0;
}

static void
add_detail(ErrorData *error, char *detail)
{
	error->detail = error->detail == NULL ? detail : psprintf("%s %s", error->detail, detail);
}

/* Doors that show no context still say which shard it was: net has put it there as the line shard "NAME". */
static void
add_shard(ErrorData *error)
{
	static const char line[] = "shard \"";
	const char *at = error->context;

	while (at != NULL && strncmp(at, line, strlen(line)) != 0)
	{
		at = strchr(at, '\n');
		at = at != NULL ? at + 1 : NULL;
	}
	if (at == NULL)
		return;
	at += strlen(line);
	add_detail(error, psprintf("Shard: %.*s.", (int) strcspn(at, "\"\n"), at));
}

/* "Field: query, line 1, column 15 (position 15)." behind what is there already. */
static void
add_place(ErrorData *error, const char *text)
{
	int line = 1;
	int column = 1;

	for (int i = 1; i < error->internalpos && *text != '\0'; i++)
	{
		column = *text == '\n' ? 1 : column + 1;
		line += *text == '\n';
		text += pg_mblen(text);
	}
	add_detail(error, psprintf("Field: query, line %d, column %d (position %d).", line, column,
							   error->internalpos));
}

/* What the means of the frame, not those of the server, have run out of. */
static void
name_limit(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
		error->message =
			psprintf("query takes more memory than %d MB", (int) (a67_query_memory / 1024));
	else
		error->message = pstrdup("query needs too much temporary space");
	error->sqlerrcode = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
	error->detail = NULL;
	error->hint = pstrdup("Ask for less, or let the query sort and group fewer rows at once.");
}

/* Errors of what is behind us are the operator's too. */
static bool
is_of_caller(int code)
{
	int class = ERRCODE_TO_CATEGORY(code);

	return class != ERRCODE_INTERNAL_ERROR && class != ERRCODE_CONNECTION_EXCEPTION &&
		   class != ERRCODE_INSUFFICIENT_RESOURCES && class != ERRCODE_SYSTEM_ERROR &&
		   class != ERRCODE_OPERATOR_INTERVENTION;
}

void
a67_query_explain_error(ErrorData *error, const char *text, Oid schema)
{
	if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY ||
		error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
		name_limit(error);
	if (is_in_text(error, text))
	{
		if (error->sqlerrcode == ERRCODE_UNDEFINED_TABLE && error->hint == NULL)
			suggest_table(error, text, schema);
		add_place(error, text);
	}
	add_shard(error);
	if (is_of_caller(error->sqlerrcode))
		error->output_to_server = false;
	/* The context is the statement; only we have a use for it, where the fault is ours. */
	else if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INTERNAL_ERROR)
		error->hide_ctx = true;
}
