/*
 * query_param.c - parameters of a statement from JSON.
 *
 * Types are found as PREPARE finds them: from where a parameter stands, text where nothing tells. A value is converted as PostgreSQL reads its text: a
 * string as it is, numbers and booleans as they are written, null as NULL; for json and jsonb any value as JSON; for an array type a
 * JSON array, nested ones for more dimensions; for all other types an object or array as its JSON text.
 */
#include "postgres.h"

#include "router/query.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#define PARAMS_MAX 1000

static void
write_quoted(StringInfo out, const char *text)
{
	appendStringInfoChar(out, '"');
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, *text);
	}
	appendStringInfoChar(out, '"');
}

static char *
scalar_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		default:
			return pstrdup(value->val.boolean ? "true" : "false");
	}
}

static char *
json_text(JsonbValue *value)
{
	Jsonb *json = JsonbValueToJsonb(value);

	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

static void write_array(StringInfo out, JsonbContainer *container, bool of_json);

/* One element of PostgreSQL's {…}. */
static void
write_element(StringInfo out, JsonbValue *value, bool of_json)
{
	if (value->type == jbvNull)
		appendStringInfoString(out, "NULL");
	else if (value->type == jbvBinary && !of_json && JsonContainerIsArray(value->val.binary.data))
		write_array(out, value->val.binary.data, of_json);
	else if (value->type == jbvBinary || of_json)
		write_quoted(out, json_text(value));
	else
		write_quoted(out, scalar_text(value));
}

static void
write_array(StringInfo out, JsonbContainer *container, bool of_json)
{
	uint32 count = JsonContainerSize(container);

	check_stack_depth();
	appendStringInfoChar(out, '{');
	for (uint32 i = 0; i < count; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		write_element(out, getIthJsonbValueFromContainer(container, i), of_json);
	}
	appendStringInfoChar(out, '}');
}

static bool
is_json(Oid type)
{
	Oid base = getBaseType(type);

	return base == JSONOID || base == JSONBOID;
}

/* The text that the type's input function reads. */
static char *
value_text(JsonbValue *value, Oid type)
{
	Oid element = get_element_type(getBaseType(type));
	StringInfoData text;

	if (is_json(type))
		return json_text(value);
	if (value->type != jbvBinary)
		return scalar_text(value);
	if (!OidIsValid(element) || !JsonContainerIsArray(value->val.binary.data))
		return json_text(value);
	initStringInfo(&text);
	write_array(&text, value->val.binary.data, is_json(element));
	return text.data;
}

/* An error context callback: which parameter it is about. */
static void
name_param(void *arg)
{
	errdetail("Field: params, number %d.", *(int *) arg);
}

static void
read_param(ParamExternData *param, JsonbValue *value, Oid type)
{
	Oid input;
	Oid io_param;

	param->ptype = type;
	param->pflags = PARAM_FLAG_CONST;
	param->isnull = value->type == jbvNull;
	getTypeInputInfo(type, &input, &io_param);
	/* Domains may refuse null. */
	param->value =
		OidInputFunctionCall(input, param->isnull ? NULL : value_text(value, type), io_param, -1);
}

static void
check_given(Jsonb *given, int count)
{
	int have = given == NULL ? 0 : (int) JB_ROOT_COUNT(given);

	if (given != NULL && (!JB_ROOT_IS_ARRAY(given) || JB_ROOT_IS_SCALAR(given)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("params must be an array"),
						errdetail("Field: params.")));
	if (have != count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query has %d parameters, but %d are given", count, have),
				 errdetail("Field: params."), errhint("Parameters are written $1, $2 and so on.")));
}

void
a67_query_bind(const RawStmt *statement, const char *text, Jsonb *given, A67QueryParams *params)
{
	ErrorContextCallback context = {.previous = error_context_stack, .callback = name_param};
	int number;

	params->count = 0;
	params->types = NULL;
	params->values = NULL;
	/* Analysis changes the tree. */
	(void) parse_analyze_varparams((RawStmt *) copyObjectImpl(statement), text, &params->types,
								   &params->count, NULL);
	if (params->count > PARAMS_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("query has more than %d parameters", PARAMS_MAX),
						errdetail("Field: params.")));
	check_given(given, params->count);
	if (params->count == 0)
		return;
	params->values = makeParamList(params->count);
	context.arg = &number;
	error_context_stack = &context;
	for (int i = 0; i < params->count; i++)
	{
		number = i + 1;
		if (params->types[i] == InvalidOid || params->types[i] == UNKNOWNOID)
			params->types[i] = TEXTOID;
		read_param(&params->values->params[i],
				   getIthJsonbValueFromContainer(&given->root, (uint32) i), params->types[i]);
	}
	error_context_stack = context.previous;
}
