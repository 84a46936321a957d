/*
 * router_sql.c - SQL faces of keys and shards: shard_of, shard_key_text, shard_hash, and what triggers tell the cache.
 *
 * Only turns SQL values into calls of key.h and catalog.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "router/catalog.h"
#include "router/key.h"
#include "router/prune.h"

/* Type of the first argument, an anyelement; checked once a statement to be one for keys. */
static Oid
key_type(FunctionCallInfo fcinfo)
{
	Oid type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	const char *why;

	if (fcinfo->flinfo->fn_extra != NULL)
		return type;
	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of the key");
	if (!a67_key_supported(type, InvalidOid, &why))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("values of type %s cannot be shard keys", format_type_be(type)),
						errdetail("%s", why)));
	fcinfo->flinfo->fn_extra = fcinfo->flinfo;
	return type;
}

PG_FUNCTION_INFO_V1(a67_sql_shard_key_text);

/* shard_key_text(key anyelement) returns text; strict */
Datum
a67_sql_shard_key_text(PG_FUNCTION_ARGS)
{
	StringInfoData text;

	initStringInfo(&text);
	a67_key_text(&text, PG_GETARG_DATUM(0), key_type(fcinfo));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

PG_FUNCTION_INFO_V1(a67_sql_shard_hash);

/* shard_hash(key anyelement) returns bigint; strict */
Datum
a67_sql_shard_hash(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) a67_key_hash(PG_GETARG_DATUM(0), key_type(fcinfo)));
}

/* Any right on the table will do: who may use it may know where its rows are. For others it does not exist, name included. */
static const A67Table *
table_argument(Oid relid)
{
	const AclMode any = ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE;
	const A67Table *table;

	if (get_rel_name(relid) == NULL || pg_class_aclmask(relid, GetUserId(), any, ACLMASK_ANY) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", relid)));
	table = a67_table(relid);
	if (table == NULL)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a virtual table", get_rel_name(relid))));
	return table;
}

/* The type to read a key as: CHECKs of domains, which are expressions of users, are not run on the way to a shard. */
static Oid
input_type(Oid type)
{
	Oid base = getBaseType(type);
	Oid element = get_element_type(base);

	return OidIsValid(element) ? get_array_type(getBaseType(element)) : base;
}

PG_FUNCTION_INFO_V1(a67_sql_shard_of);

/* shard_of(relation regclass, key text) returns text; strict */
Datum
a67_sql_shard_of(PG_FUNCTION_ARGS)
{
	const A67Table *table = table_argument(PG_GETARG_OID(0));
	Oid input;
	Oid parameter;
	Datum key;
	int shard;

	if (table->strategy == A67_REFERENCE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is a reference table", get_rel_name(table->relid)),
						errdetail("Its rows are on every shard.")));
	if (table->strategy == A67_LOCAL)
		shard = table->home;
	else
	{
		Oid type = input_type(table->key_type);

		getTypeInputInfo(type, &input, &parameter);
		key = OidInputFunctionCall(input, text_to_cstring(PG_GETARG_TEXT_PP(1)), parameter, -1);
		shard = a67_shard_of_key(table, key, type);
	}
	if (shard < 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(table->database->shards[shard].name));
}

PG_FUNCTION_INFO_V1(a67_sql_database_changed);

/* _database_changed(database text) returns void; strict */
Datum
a67_sql_database_changed(PG_FUNCTION_ARGS)
{
	char *name = psprintf("a67_%s", text_to_cstring(PG_GETARG_TEXT_PP(0)));
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server != NULL)
		a67_database_changed(server->serverid);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_shards_where);

/* _shards_where(relation regclass, condition text) returns text[]; strict */
Datum
a67_sql_shards_where(PG_FUNCTION_ARGS)
{
	const A67Table *table = table_argument(PG_GETARG_OID(0));
	char *sql = psprintf("SELECT FROM %s WHERE %s",
						 DatumGetCString(DirectFunctionCall1(regclassout, PG_GETARG_DATUM(0))),
						 text_to_cstring(PG_GETARG_TEXT_PP(1)));
	List *parsed = raw_parser(sql, RAW_PARSE_DEFAULT);
	Query *query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed), sql, NULL, 0, NULL);
	Bitmapset *shards = a67_prune(table, list_make1(query->jointree->quals), 1, NULL);
	ArrayBuildState *names = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	int shard = -1;

	while ((shard = bms_next_member(shards, shard)) >= 0)
		accumArrayResult(names, CStringGetTextDatum(table->database->shards[shard].name), false,
						 TEXTOID, CurrentMemoryContext);
	PG_RETURN_DATUM(makeArrayResult(names, CurrentMemoryContext));
}

PG_FUNCTION_INFO_V1(a67_sql_shard_try);

/* _shard_try(connection text, shard text, sql text, trusted boolean) returns text; strict */
Datum
a67_sql_shard_try(PG_FUNCTION_ARGS)
{
	PGresult *result =
		a67_shard_try(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)),
					  text_to_cstring(PG_GETARG_TEXT_PP(2)), PG_GETARG_BOOL(3));
	text *answer = NULL;

	if (PQntuples(result) > 0 && PQnfields(result) > 0 && !PQgetisnull(result, 0, 0))
		answer = cstring_to_text(PQgetvalue(result, 0, 0));
	PQclear(result);
	if (answer == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(answer);
}
