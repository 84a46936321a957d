/*
 * call.c: which function of schema a67 a request means, and with which arguments.
 *
 * Decides by name and by the names of the arguments given: every one must exist, none without a default
 * may be missing, and exactly one overload must fit. Functions that the caller may not execute do not
 * take part, so that their signatures show in no message. JSON is parsed here, once, with its depth and
 * encoding checked first. Called by api_worker.c; memory: the caller's current context.
 */
#include "postgres.h"

#include "listener/call.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define JSON_DEPTH_MAX 128

/* The arguments as the request names them. */
typedef struct Given
{
	int count;
	char *names[FUNC_MAX_ARGS];
	int body_at; /* index of the argument that the whole body is, or -1 */
} Given;

/* Why one function does not fit. */
typedef struct Misfit
{
	const char *unknown; /* a given name that it does not have */
	const char *missing; /* an argument that it needs */
} Misfit;

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
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("request body is nested deeper than %d levels", JSON_DEPTH_MAX)));
	}
}

static Jsonb *
parse_json(const char *text, Size len)
{
	char *server_text;

	if (memchr(text, '\0', len) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("request body contains a NUL byte")));
	check_json_depth(text, len);
	server_text = pg_any_to_server(text, (int) len, PG_UTF8);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(server_text)));
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
add_name(Given *given, char *name)
{
	if (given->count == FUNC_MAX_ARGS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("request has more than %d fields", FUNC_MAX_ARGS)));
	for (int i = 0; i < given->count; i++)
		if (strcmp(given->names[i], name) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("field \"%s\" is given in the path and in the body", name)));
	given->names[given->count++] = name;
}

static void
add_fields(Given *given, Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_KEY)
			add_name(given, pnstrdup(value.val.string.val, value.val.string.len));
}

/* Fills the parameters of the target and the names of all arguments given. */
static void
read_arguments(const A67Call *call, StringInfo body, A67Target *target, Given *given)
{
	Jsonb *named = parse_object(call->params, strlen(call->params));
	char *text = body->data + VARHDRSZ;
	Size len = body->len - VARHDRSZ;

	given->count = 0;
	given->body_at = -1;
	add_fields(given, named);
	if (call->body_kind == A67_BODY_ARGS && len > 0)
	{
		Jsonb *fields = parse_object(text, len);

		add_fields(given, fields);
		named = DatumGetJsonbP(
			DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(fields), JsonbPGetDatum(named)));
	}
	target->values[0] = JsonbPGetDatum(named);
	target->values[1] = (Datum) 0;
	if (call->body_kind == A67_BODY_JSON)
		target->values[1] = JsonbPGetDatum(parse_json(text, len));
	else if (call->body_kind == A67_BODY_RAW)
	{
		SET_VARSIZE(body->data, body->len);
		target->values[1] = PointerGetDatum(body->data);
	}
	else
		return;
	given->body_at = given->count;
	add_name(given, pstrdup(call->body_arg));
}

/* Reads the input arguments of a function. False when HTTP cannot express a call of it. */
static bool
describe(HeapTuple tuple, A67Function *function)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	Oid *types;
	char **names;
	char *modes;
	int all = get_func_arg_info(tuple, &types, &names, &modes);

	if (proc->prokind != PROKIND_FUNCTION || OidIsValid(proc->provariadic) ||
		(get_typtype(proc->prorettype) == TYPTYPE_PSEUDO && proc->prorettype != VOIDOID &&
		 proc->prorettype != RECORDOID))
		return false;
	memset(function, 0, sizeof(*function));
	function->ndefaults = proc->pronargdefaults;
	function->names = palloc0(sizeof(char *) * Max(all, 1));
	function->types = palloc0(sizeof(Oid) * Max(all, 1));
	for (int i = 0; i < all; i++)
	{
		char mode = modes != NULL ? modes[i] : FUNC_PARAM_IN;

		if (mode != FUNC_PARAM_IN)
			function->named_result = true;
		if (mode != FUNC_PARAM_IN && mode != FUNC_PARAM_INOUT)
			continue;
		if (get_typtype(types[i]) == TYPTYPE_PSEUDO)
			return false;
		if (names != NULL && names[i] != NULL && names[i][0] != '\0')
			function->names[function->nargs] = names[i];
		function->types[function->nargs++] = types[i];
	}
	return true;
}

static int
argument_index(const A67Function *function, const char *name)
{
	for (int i = 0; i < function->nargs; i++)
		if (function->names[i] != NULL && strcmp(function->names[i], name) == 0)
			return i;
	return -1;
}

/* Marks the given arguments; true when they fit the function. */
static bool
fits(A67Function *function, const Given *given, Misfit *misfit)
{
	misfit->unknown = misfit->missing = NULL;
	for (int i = 0; i < given->count; i++)
	{
		int at = argument_index(function, given->names[i]);

		if (at < 0)
		{
			misfit->unknown = given->names[i];
			return false;
		}
		function->given[at / 64] |= UINT64CONST(1) << (at % 64);
	}
	for (int i = 0; i < function->nargs - function->ndefaults; i++)
		if (!A67_ARG_GIVEN(function, i))
		{
			misfit->missing = function->names[i] != NULL ? function->names[i] : "(unnamed)";
			return false;
		}
	return true;
}

static void
refuse_misfit(const char *name, const Misfit *misfit, int overloads)
{
	if (overloads > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("no variant of function \"%s\" takes these arguments", name)));
	if (misfit->unknown != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown field \"%s\"", misfit->unknown),
						errdetail("Function \"%s\" has no such argument.", name)));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("missing field \"%s\"", misfit->missing),
					errdetail("Function \"%s\" needs this argument.", name)));
}

static void
refuse_unknown(const char *name, bool denied)
{
	if (denied)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function \"%s\"", name)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("function \"%s\" does not exist", name)));
}

/* Chooses among all functions of that name; *function is filled. */
static void
choose(const char *name, const Given *given, A67Function *function)
{
	Oid schema = get_namespace_oid(A67_API_SCHEMA, false);
	bool schema_usable = pg_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	bool denied = false;
	int visible = 0;
	int fitting = 0;
	Misfit misfit = {0};

	for (int i = 0; i < list->n_members; i++)
	{
		HeapTuple tuple = &list->members[i]->tuple;
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
		A67Function candidate;

		if (proc->pronamespace != schema || !describe(tuple, &candidate))
			continue;
		if (!schema_usable || pg_proc_aclcheck(proc->oid, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		{
			denied = true;
			continue;
		}
		visible++;
		if (!fits(&candidate, given, &misfit))
			continue;
		fitting++;
		candidate.tuple = heap_copytuple(tuple);
		*function = candidate;
	}
	ReleaseSysCacheList(list);
	if (visible == 0)
		refuse_unknown(name, denied);
	if (fitting == 0)
		refuse_misfit(name, &misfit, visible);
	if (fitting > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
				 errmsg("more than one variant of function \"%s\" takes these arguments", name)));
}

void
a67_call_resolve(const A67Call *call, StringInfo body, A67Target *target)
{
	Given given;
	A67Function function = {0};
	int body_arg = -1;

	read_arguments(call, body, target, &given);
	choose(call->function, &given, &function);
	if (given.body_at >= 0)
	{
		Oid wanted = call->body_kind == A67_BODY_RAW ? BYTEAOID : JSONBOID;

		body_arg = argument_index(&function, given.names[given.body_at]);
		if (function.types[body_arg] != wanted)
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("argument \"%s\" of function \"%s\" is not of type %s",
								   call->body_arg, call->function, format_type_be(wanted))));
	}
	target->plan = a67_plan_get(&function, body_arg, &target->returns);
}
