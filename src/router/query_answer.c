/*
 * query_answer.c - rows of a statement as JSON, within limits.
 *
 * Values are written as to_json() writes them; the commonest types without calling it. Rows are counted and measured as they come, so
 * that what is too much ends the statement at once.
 */
#include "postgres.h"

#include "router/query.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/makefuncs.h"
#include "platform/settings.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct Column
{
	Oid type;
	FmgrInfo convert; /* to_json, or the output function of a number */
} Column;

struct A67QueryAnswer
{
	DestReceiver receiver; /* must be first */
	StringInfoData columns;
	StringInfoData data;
	int64 rows;
	Column *column;
	MemoryContext context; /* of all of this */
	MemoryContext row;
};

static bool
is_integer(Oid type)
{
	return type == INT4OID || type == INT8OID || type == INT2OID;
}

/* to_json() finds the type of its argument in the call's expression. */
static void
prepare_column(Column *column, Oid type)
{
	Oid output;
	bool varlena;

	column->type = type;
	if (is_integer(type))
	{
		getTypeOutputInfo(type, &output, &varlena);
		fmgr_info(output, &column->convert);
		return;
	}
	fmgr_info(F_TO_JSON, &column->convert);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSON, JSONOID,
											 list_make1(makeNullConst(type, -1, InvalidOid)),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   &column->convert);
}

static void
begin(DestReceiver *self, int operation, TupleDesc desc)
{
	A67QueryAnswer *answer = (A67QueryAnswer *) self;
	MemoryContext old = MemoryContextSwitchTo(answer->context);

	answer->column = palloc0(sizeof(Column) * Max(desc->natts, 1));
	resetStringInfo(&answer->columns);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		appendStringInfoString(&answer->columns, i > 0 ? ",{\"name\":" : "{\"name\":");
		escape_json(&answer->columns, NameStr(attribute->attname));
		appendStringInfoString(&answer->columns, ",\"type\":");
		escape_json(&answer->columns,
					format_type_with_typemod(attribute->atttypid, attribute->atttypmod));
		appendStringInfoChar(&answer->columns, '}');
		prepare_column(&answer->column[i], attribute->atttypid);
	}
	MemoryContextSwitchTo(old);
}

static void
write_value(StringInfo data, Column *column, Datum value)
{
	text *json;

	if (column->type == TEXTOID || column->type == VARCHAROID)
		escape_json(data, TextDatumGetCString(value));
	else if (column->type == BOOLOID)
		appendStringInfoString(data, DatumGetBool(value) ? "true" : "false");
	else if (is_integer(column->type))
		appendStringInfoString(data, OutputFunctionCall(&column->convert, value));
	else
	{
		json = DatumGetTextPP(FunctionCall1(&column->convert, value));
		appendBinaryStringInfo(data, VARDATA_ANY(json), (int) VARSIZE_ANY_EXHDR(json));
	}
}

static void
check_size(const A67QueryAnswer *answer)
{
	if (answer->rows > a67_query_rows)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("answer has more than %d rows", a67_query_rows),
						errhint("Ask for less with WHERE or LIMIT.")));
	if (answer->data.len > a67_query_size)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("answer has more than %d bytes", a67_query_size),
						errhint("Ask for fewer rows or columns.")));
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	A67QueryAnswer *answer = (A67QueryAnswer *) self;
	MemoryContext old = MemoryContextSwitchTo(answer->row);
	int count = slot->tts_tupleDescriptor->natts;

	slot_getallattrs(slot);
	answer->rows++;
	appendStringInfoString(&answer->data, answer->rows > 1 ? ",[" : "[");
	for (int i = 0; i < count; i++)
	{
		if (i > 0)
			appendStringInfoChar(&answer->data, ',');
		if (slot->tts_isnull[i])
			appendStringInfoString(&answer->data, "null");
		else
			write_value(&answer->data, &answer->column[i], slot->tts_values[i]);
		check_size(answer);
	}
	appendStringInfoChar(&answer->data, ']');
	check_size(answer);
	MemoryContextSwitchTo(old);
	MemoryContextReset(answer->row);
	return true;
}

static void
nothing(DestReceiver *self)
{
}

A67QueryAnswer *
a67_query_answer(void)
{
	A67QueryAnswer *answer = palloc0(sizeof(*answer));

	answer->receiver.receiveSlot = receive;
	answer->receiver.rStartup = begin;
	answer->receiver.rShutdown = nothing;
	answer->receiver.rDestroy = nothing;
	answer->receiver.mydest = DestNone;
	answer->context = CurrentMemoryContext;
	answer->row = AllocSetContextCreate(CurrentMemoryContext, "a67 row", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&answer->columns);
	initStringInfo(&answer->data);
	return answer;
}

DestReceiver *
a67_query_receiver(A67QueryAnswer *answer)
{
	return &answer->receiver;
}

void
a67_query_answer_write(const A67QueryAnswer *answer, StringInfo json)
{
	appendStringInfo(json, "\"rows_returned\":" INT64_FORMAT ",\"columns\":[%s],\"data\":[",
					 answer->rows, answer->columns.data);
	appendBinaryStringInfo(json, answer->data.data, answer->data.len);
	appendStringInfoChar(json, ']');
}
