/*
 * call.c: which function of schema a67 a request means, and with which arguments.
 *
 * Decides by name and by the names of the arguments given: every one must exist, none without a default
 * may be missing, and exactly one overload must fit. Functions that the caller may not execute do not
 * take part, so that their signatures show in no message; a safe call takes none that may change data.
 * What the arguments are worth is up to arguments.c. Called by api_worker.c; memory: the caller's current
 * context.
 */
#include "postgres.h"

#include "listener/call.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "listener/arguments.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Why one function does not fit. */
typedef struct Misfit
{
	const char *unknown; /* a given name that it does not have */
	const char *missing; /* an argument that it needs */
} Misfit;

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
		{
			function->result_name = function->named_result || names == NULL ? NULL : names[i];
			function->named_result = true;
		}
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
fits(A67Function *function, const A67Given *given, Misfit *misfit)
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
refuse_unknown(const char *name, bool denied, bool unsafe)
{
	if (unsafe)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("function \"%s\" may change data", name), errhint("Call it with POST.")));
	if (denied)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function \"%s\"", name)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("function \"%s\" does not exist", name)));
}

/* Chooses among all functions of that name; *function is filled. */
static void
choose(const A67Call *call, const A67Given *given, A67Function *function)
{
	const char *name = call->function;
	Oid schema = get_namespace_oid(call->own ? A67_OWN_SCHEMA : A67_API_SCHEMA, false);
	bool schema_usable = pg_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	bool denied = false;
	bool unsafe = false;
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
		if (call->safe && proc->provolatile == PROVOLATILE_VOLATILE)
		{
			unsafe = true;
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
		refuse_unknown(name, denied, unsafe);
	if (fitting == 0)
		refuse_misfit(name, &misfit, visible);
	if (fitting > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
				 errmsg("more than one variant of function \"%s\" takes these arguments", name)));
}

/* The argument that the body as a whole becomes, or -1. */
static int
find_body_argument(const A67Call *call, const A67Given *given, const A67Function *function)
{
	Oid wanted = call->body_kind == A67_BODY_RAW ? BYTEAOID : JSONBOID;
	int at;

	if (given->body_at < 0)
		return -1;
	at = argument_index(function, given->names[given->body_at]);
	if (function->types[at] != wanted)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("argument \"%s\" of function \"%s\" is not of type %s",
							   call->body_arg, call->function, format_type_be(wanted))));
	return at;
}

void
a67_call_resolve(const A67Call *call, StringInfo body, A67Target *target)
{
	A67Given given;
	A67Function function = {0};
	Oid types[FUNC_MAX_ARGS];

	a67_given_read(call, body, &given);
	choose(call, &given, &function);
	for (int i = 0; i < given.ntexts; i++)
		types[i] = function.types[argument_index(&function, given.names[i])];
	target->values[0] = JsonbPGetDatum(a67_given_bind(&given, types));
	target->values[1] = given.body;
	target->plan =
		a67_plan_get(&function, find_body_argument(call, &given, &function), &target->returns);
}
