/*
 * modify_text.c - SQL of statements that change rows by where they are; see modify_text.h.
 */
#include "postgres.h"

#include "router/modify_text.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "router/wire.h"

static const char *
table_name(Oid relid)
{
	return quote_identifier(get_rel_name(relid));
}

static const char *
column_name(Oid relid, int attno)
{
	return quote_identifier(get_attname(relid, (AttrNumber) attno, false));
}

static void
append_columns(StringInfo sql, Oid relid, List *columns)
{
	ListCell *cell;

	foreach(cell, columns)
		appendStringInfo(sql, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 column_name(relid, lfirst_int(cell)));
}

char *
a67_text_insert(Oid relid, List *columns)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", table_name(relid));
	append_columns(&sql, relid, columns);
	appendStringInfoString(&sql, ") VALUES ");
	return sql.data;
}

char *
a67_text_change(Oid relid, List *columns)
{
	StringInfoData sql;
	ListCell *cell;

	if (columns == NIL)
		return psprintf("DELETE FROM %s", table_name(relid));
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s SET ", table_name(relid));
	foreach(cell, columns)
		appendStringInfo(&sql, "%s%s = $%d", foreach_current_index(cell) > 0 ? ", " : "",
						 column_name(relid, lfirst_int(cell)), foreach_current_index(cell) + 1);
	return sql.data;
}

char *
a67_text_returning(Oid relid, List *columns)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, " RETURNING ");
	if (columns == NIL)
		appendStringInfoString(&sql, "1");
	append_columns(&sql, relid, columns);
	return sql.data;
}

char *
a67_text_same_row(Oid relid, List *columns, const bool *nulls, const bool *by_text, int first)
{
	StringInfoData sql;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfo(&sql, " WHERE ctid = (SELECT ctid FROM %s WHERE ", table_name(relid));
	foreach(cell, columns)
	{
		int i = foreach_current_index(cell);

		appendStringInfo(&sql, "%s%s", i > 0 ? " AND " : "", column_name(relid, lfirst_int(cell)));
		if (nulls[i])
			appendStringInfoString(&sql, " IS NULL");
		else
			appendStringInfo(&sql, "%s = $%d", by_text[i] ? "::text" : "", first++);
	}
	appendStringInfoString(&sql, " LIMIT 1)");
	return sql.data;
}

char *
a67_text_change_many(Oid relid, List *columns, char *const *casts)
{
	StringInfoData sql;
	ListCell *cell;

	if (columns == NIL)
		return psprintf("DELETE FROM %s WHERE ctid = ANY ($1)", table_name(relid));
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s SET ", table_name(relid));
	foreach(cell, columns)
	{
		int i = foreach_current_index(cell);

		appendStringInfo(&sql, "%s%s = a67_rows.c%d", i > 0 ? ", " : "",
						 column_name(relid, lfirst_int(cell)), i + 2);
		if (casts[i] != NULL)
			appendStringInfo(&sql, "::%s", casts[i]);
	}
	appendStringInfoString(&sql, " FROM unnest($1");
	for (int i = 0; i < list_length(columns); i++)
		appendStringInfo(&sql, ", $%d", i + 2);
	appendStringInfoString(&sql, ") a67_rows (c1");
	for (int i = 0; i < list_length(columns); i++)
		appendStringInfo(&sql, ", c%d", i + 2);
	appendStringInfo(&sql, ") WHERE %s.ctid = a67_rows.c1", table_name(relid));
	return sql.data;
}

char *
a67_text_type(const A67Database *database, Oid type)
{
	Oid element = get_element_type(type);
	HeapTuple tuple;
	Form_pg_type form;
	char *name;

	if (a67_wire_builtin(type))
		return format_type_be_qualified(type);
	if (OidIsValid(element))
		return psprintf("%s[]", a67_text_type(database, element));
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	if (form->typnamespace == database->schema_oid)
		name = pstrdup(quote_identifier(NameStr(form->typname)));
	else
		name = format_type_be_qualified(type);
	ReleaseSysCache(tuple);
	return name;
}
