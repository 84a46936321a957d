/*
 * node_sql.c - SQL faces of the node state machine, of back-off, and of the question who is an operator.
 *
 * Parses names and numbers; the decisions are core/nodefsm.c and the roles of the server. Called from SQL.
 */
#include "postgres.h"

#include "common/base64.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "core/encode.h"
#include "core/http/tls.h"
#include "core/nodefsm.h"
#include "core/pace.h"
#include "platform/errors.h"
#include "registry/caller.h"

#define DOUBLINGS_MAX 30

static A67NodeStatus
status_arg(FunctionCallInfo fcinfo, int number)
{
	A67NodeStatus status;

	if (!a67_node_status_parse(text_to_cstring(PG_GETARG_TEXT_PP(number)), &status))
		a67_error_parameter("status", "There is no such status of a node.");
	return status;
}

static uint32_t
count_arg(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_GETARG_INT32(number) < 0)
		a67_error_parameter(name, "It must not be negative.");
	return (uint32_t) PG_GETARG_INT32(number);
}

PG_FUNCTION_INFO_V1(a67_sql_node_step);

/*
 * _node_step(status text, failures integer, goods integer, sign text, flaps float8, elapsed_s float8,
 * hold boolean) returns table (status text, failures integer, goods integer, flaps float8); strict,
 * one row. flaps are those of elapsed_s ago; hold keeps nodes from becoming failed.
 */
Datum
a67_sql_node_step(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67NodeLimits limits = A67_NODE_LIMITS_DEFAULT;
	A67NodeHealth health = {.status = status_arg(fcinfo, 0)};
	A67NodeHealth before;
	double flaps = a67_node_flaps_fade(PG_GETARG_FLOAT8(4), PG_GETARG_FLOAT8(5));
	A67NodeSign sign;
	Datum values[4];
	bool nulls[4] = {false};

	health.failures = count_arg(fcinfo, 1, "failures");
	health.goods = count_arg(fcinfo, 2, "goods");
	if (!a67_node_sign_parse(text_to_cstring(PG_GETARG_TEXT_PP(3)), &sign))
		a67_error_parameter("sign", "There is no such sign.");
	before = health;
	limits.hold = PG_GETARG_BOOL(6);
	limits.recover_after = a67_node_recover_after(flaps);
	InitMaterializedSRF(fcinfo, 0);

	health = a67_nodefsm_step(health, sign, &limits);
	if (a67_node_fell(before, health))
		flaps = Min(flaps + 1.0, A67_NODE_FLAPS_MAX);
	values[0] = CStringGetTextDatum(a67_node_status_name(health.status));
	values[1] = Int32GetDatum((int32) Min(health.failures, (uint32_t) PG_INT32_MAX));
	values[2] = Int32GetDatum((int32) Min(health.goods, (uint32_t) PG_INT32_MAX));
	values[3] = Float8GetDatum(flaps);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	PG_RETURN_VOID();
}

/* A number, 0 where it is not known. */
static double
number_arg(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? 0.0 : PG_GETARG_FLOAT8(number);
}

PG_FUNCTION_INFO_V1(a67_sql_node_beat_sign);

/*
 * _node_beat_sign(status text, cpu_percent float8, memory_percent float8, requests float8, failures float8)
 * returns text: the sign of a fresh heartbeat. Figures that are NULL speak for the node; status must not be.
 */
Datum
a67_sql_node_beat_sign(PG_FUNCTION_ARGS)
{
	double rate = a67_node_error_rate(number_arg(fcinfo, 3), number_arg(fcinfo, 4));
	A67NodeSign sign;

	if (PG_ARGISNULL(0))
		a67_error_parameter("status", "It must not be null.");
	sign = a67_nodefsm_beat_sign(status_arg(fcinfo, 0), number_arg(fcinfo, 1),
								 number_arg(fcinfo, 2), rate);
	PG_RETURN_TEXT_P(cstring_to_text(a67_node_sign_name(sign)));
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

PG_FUNCTION_INFO_V1(a67_sql_node_pin);

/*
 * _node_pin(public_key text) returns text; strict: what fetch.h calls the pin of the server whose key that is,
 * an Ed25519 key in base64url. Of a text that is no key: a pin that no server has.
 */
Datum
a67_sql_node_pin(PG_FUNCTION_ARGS)
{
	text *public_key = PG_GETARG_TEXT_PP(0);
	uint8_t key[A67_TLS_SEED_BYTES];
	uint8_t pin[A67_TLS_PIN_BYTES];
	char digits[45] = "";
	size_t count = 0;

	if (!a67_base64url_decode(VARDATA_ANY(public_key), VARSIZE_ANY_EXHDR(public_key), key,
							  sizeof(key), &count) ||
		count != sizeof(key) || a67_tls_ed25519_pin(key, pin) != 0)
		memset(pin, 0, sizeof(pin));
	(void) pg_b64_encode((const char *) pin, sizeof(pin), digits, sizeof(digits) - 1);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("sha256//%s", digits)));
}

PG_FUNCTION_INFO_V1(a67_sql_is_admin);

/* _is_admin() returns boolean: the caller, outside SECURITY DEFINER functions, may act as a67_admin */
Datum
a67_sql_is_admin(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(a67_caller_is_admin());
}
