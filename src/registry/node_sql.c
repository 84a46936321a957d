/*
 * node_sql.c - SQL faces of the node state machine, of back-off, and of the question who is an operator.
 *
 * Parses names and numbers; the decisions are core/nodefsm.c and the roles of the server. Called from SQL.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "core/nodefsm.h"
#include "core/pace.h"
#include "platform/errors.h"

#define DOUBLINGS_MAX 30

PG_FUNCTION_INFO_V1(a67_sql_node_step);

/*
 * _node_step(status text, failures integer, goods integer, sign text)
 * returns table (status text, failures integer, goods integer); strict, one row
 */
Datum
a67_sql_node_step(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67NodeHealth health;
	A67NodeSign sign;
	Datum values[3];
	bool nulls[3] = {false};

	if (!a67_node_status_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &health.status))
		a67_error_parameter("status", "There is no such status of a node.");
	if (PG_GETARG_INT32(1) < 0)
		a67_error_parameter("failures", "It must not be negative.");
	if (PG_GETARG_INT32(2) < 0)
		a67_error_parameter("goods", "It must not be negative.");
	if (!a67_node_sign_parse(text_to_cstring(PG_GETARG_TEXT_PP(3)), &sign))
		a67_error_parameter("sign", "There is no such sign.");
	health.failures = (uint32_t) PG_GETARG_INT32(1);
	health.goods = (uint32_t) PG_GETARG_INT32(2);
	InitMaterializedSRF(fcinfo, 0);

	health = a67_nodefsm_step(health, sign, NULL);
	values[0] = CStringGetTextDatum(a67_node_status_name(health.status));
	values[1] = Int32GetDatum((int32) Min(health.failures, (uint32_t) PG_INT32_MAX));
	values[2] = Int32GetDatum((int32) Min(health.goods, (uint32_t) PG_INT32_MAX));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_backoff_ms);

/*
 * _backoff_ms(attempt integer, base_ms integer, cap_ms integer, seed bigint) returns integer; strict
 *
 * Between half and all of base * 2^(attempt - 1), which is at most cap: never shorter than for the attempt
 * before, until the cap. The same seed gives the same delay.
 */
Datum
a67_sql_backoff_ms(PG_FUNCTION_ARGS)
{
	int32 attempt = PG_GETARG_INT32(0);
	int64 base = PG_GETARG_INT32(1);
	int64 cap = PG_GETARG_INT32(2);
	uint64_t state = (uint64_t) PG_GETARG_INT64(3);
	int64 most;

	if (attempt < 1)
		a67_error_parameter("attempt", "It must be at least 1.");
	if (base < 1)
		a67_error_parameter("base_ms", "It must be at least 1.");
	if (cap < base)
		a67_error_parameter("cap_ms", "It must not be less than \"base_ms\".");
	most = Min(base << Min(attempt - 1, DOUBLINGS_MAX), cap);
	PG_RETURN_INT32((int32) (most - (int64) a67_random_below(&state, (uint64_t) (most / 2 + 1))));
}

PG_FUNCTION_INFO_V1(a67_sql_is_admin);

/* _is_admin() returns boolean: the caller, outside SECURITY DEFINER functions, may act as a67_admin */
Datum
a67_sql_is_admin(PG_FUNCTION_ARGS)
{
	Oid admin = get_role_oid("a67_admin", true);
	Oid caller = GetOuterUserId();

	PG_RETURN_BOOL(OidIsValid(admin) ? has_privs_of_role(caller, admin) : superuser_arg(caller));
}
