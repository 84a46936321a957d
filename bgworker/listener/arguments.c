/*
 * arguments.c: what a request gives a function to work on; see arguments.h.
 *
 * JSON is parsed here, once, with its depth and encoding checked first. A text of path or query becomes
 * JSON by the type of its argument: an array from a comma list or PostgreSQL's {…}, json and rows from JSON,
 * everything else a string, which is converted here on trial, so that a malformed one can be named.
 * Memory: the caller's current context.
 */
#include "postgres.h"

#include "listener/arguments.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#define JSON_DEPTH_MAX 128

/* The parser recurses: an honest document is nowhere near this deep. */
static void
check_json_depth(const char *text, Size len)
{
	int depth = 0;
	bool quoted = false;

	for (Size i = 0; i < len; i++)
	{
		if (quoted)
		{
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				quoted = false;
		}
		else if (text[i] == '"')
			quoted = true;
		else if (text[i] == '{' || text[i] == '[')
			depth++;
		else if (text[i] == '}' || text[i] == ']')
			depth--;
		if (depth > JSON_DEPTH_MAX)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("JSON is nested deeper than %d levels", JSON_DEPTH_MAX)));
	}
}

static Jsonb *
parse_text(char *text)
{
	check_json_depth(text, strlen(text));
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static Jsonb *
parse_json(const char *text, Size len)
{
	if (memchr(text, '\0', len) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("request body contains a NUL byte")));
	return parse_text(pg_any_to_server(text, (int) len, PG_UTF8));
}

static Jsonb *
parse_object(const char *text, Size len)
{
	Jsonb *object = parse_json(text, len);

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("request body is not a JSON object"),
						errdetail("The fields of the object are the arguments of the function.")));
	return object;
}

static void
add_name(A67Given *given, char *name)
{
	if (given->count == FUNC_MAX_ARGS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("request has more than %d fields", FUNC_MAX_ARGS)));
	for (int i = 0; i < given->count; i++)
		if (strcmp(given->names[i], name) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("field \"%s\" is given twice", name)));
	given->names[given->count++] = name;
}

static void
add_fields(A67Given *given, Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_KEY)
			add_name(given, pnstrdup(value.val.string.val, value.val.string.len));
}

/* The listener's own array: name, text, name, text … */
static void
add_texts(A67Given *given, const char *params)
{
	Jsonb *list = parse_json(params, strlen(params));
	JsonbIterator *it = JsonbIteratorInit(&list->root);
	JsonbIteratorToken token;
	JsonbValue value;
	bool named = false;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char *text;

		if (token != WJB_ELEM)
			continue;
		text = pnstrdup(value.val.string.val, value.val.string.len);
		named = !named;
		if (named)
			add_name(given, text);
		else
			given->texts[given->ntexts++] = text;
	}
}

void
a67_given_read(const A67Call *call, StringInfo body, A67Given *given)
{
	const char *text = body->data + VARHDRSZ;
	Size len = body->len - VARHDRSZ;

	given->count = 0;
	given->ntexts = 0;
	given->fields = NULL;
	given->body_at = -1;
	given->body = (Datum) 0;
	if (strcmp(call->params, "[]") != 0)
		add_texts(given, call->params);
	if (call->body_kind == A67_BODY_ARGS && len > 0)
	{
		given->fields = parse_object(text, len);
		add_fields(given, given->fields);
	}
	if (call->body_kind == A67_BODY_JSON)
		given->body = JsonbPGetDatum(parse_json(text, len));
	else if (call->body_kind == A67_BODY_RAW)
	{
		SET_VARSIZE(body->data, body->len);
		given->body = PointerGetDatum(body->data);
	}
	else
		return;
	given->body_at = given->count;
	add_name(given, pstrdup(call->body_arg));
}

/* ---- texts to JSON ------------------------------------------------------------------------------ */

/* An error context callback: the client learns which field it is about. */
static void
name_field(void *arg)
{
	errdetail("Field: %s.", (const char *) arg);
}

static Datum
convert(const char *text, Oid type)
{
	Oid input;
	Oid parameter;

	getTypeInputInfo(type, &input, &parameter);
	return OidInputFunctionCall(input, pstrdup(text), parameter, -1);
}

static void
append_list(StringInfo json, const char *text, Oid element)
{
	const char *separator = "[";

	while (*text != '\0')
	{
		size_t len = strcspn(text, ",");
		char *item = pnstrdup(text, len);

		(void) convert(item, element);
		appendStringInfoString(json, separator);
		escape_json(json, item);
		separator = ",";
		text += len;
		if (*text == ',')
			text++;
	}
	appendStringInfoString(json, *separator == '[' ? "[]" : "]");
}

/* The name keeps clear of the type "text", which a macro here needs. */
static void
append_value(StringInfo json, char *value, Oid type)
{
	Oid base = getBaseType(type);
	Oid element = get_element_type(base);

	if (OidIsValid(element) && value[0] == '{')
		appendStringInfoString(json, TextDatumGetCString(
										 DirectFunctionCall1(array_to_json, convert(value, type))));
	else if (OidIsValid(element))
		append_list(json, value, element);
	else if (base == JSONOID || base == JSONBOID || get_typtype(base) == TYPTYPE_COMPOSITE)
	{
		(void) parse_text(value);
		appendStringInfoString(json, value);
	}
	else
	{
		(void) convert(value, type);
		escape_json(json, value);
	}
}

Jsonb *
a67_given_bind(const A67Given *given, const Oid *types)
{
	ErrorContextCallback context = {.previous = error_context_stack, .callback = name_field};
	StringInfoData json;
	Datum texts;

	if (given->ntexts == 0 && given->fields != NULL)
		return given->fields;
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	error_context_stack = &context;
	for (int i = 0; i < given->ntexts; i++)
	{
		context.arg = given->names[i];
		if (i > 0)
			appendStringInfoChar(&json, ',');
		escape_json(&json, given->names[i]);
		appendStringInfoChar(&json, ':');
		append_value(&json, given->texts[i], types[i]);
	}
	error_context_stack = context.previous;
	appendStringInfoChar(&json, '}');
	texts = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	if (given->fields == NULL)
		return DatumGetJsonbP(texts);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(given->fields), texts));
}
