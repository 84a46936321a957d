/*
 * rollout_sql.c - SQL faces of the rollout state machine (core/rollout.h).
 *
 * Reads a view from jsonb by a table of its fields and writes the step as jsonb; decides nothing. Called by
 * the reconciler's functions and by those of the owner's commands.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "core/rollout.h"
#include "platform/errors.h"

typedef enum FieldKind
{
	FIELD_COUNT,
	FIELD_NUMBER
} FieldKind;

typedef struct Field
{
	const char *name;
	FieldKind kind;
	size_t offset;
} Field;

#define COUNT(name)                                        \
	{                                                      \
#name, FIELD_COUNT, offsetof(A67RolloutView, name) \
	}
#define NUMBER(name)                                        \
	{                                                       \
#name, FIELD_NUMBER, offsetof(A67RolloutView, name) \
	}
#define SIDE(prefix, side, name)                                                                   \
	{                                                                                              \
		prefix #name, FIELD_COUNT, offsetof(A67RolloutView, side) + offsetof(A67RolloutSide, name) \
	}
#define SIDE_NUMBER(prefix, side, name)                                     \
	{                                                                       \
		prefix #name, FIELD_NUMBER,                                         \
			offsetof(A67RolloutView, side) + offsetof(A67RolloutSide, name) \
	}
#define SIDE_FIELDS(prefix, side)                                                        \
	SIDE(prefix, side, replicas), SIDE(prefix, side, wanted), SIDE(prefix, side, ready), \
		SIDE(prefix, side, total), SIDE(prefix, side, requests),                         \
		SIDE_NUMBER(prefix, side, failures), SIDE_NUMBER(prefix, side, latency_ms)

/* What a view has besides its strategy, state, phase, test and steps, which are texts and an array. */
static const Field fields[] = {
	COUNT(step),
	COUNT(weight),
	COUNT(surge),
	COUNT(unavailable),
	COUNT(observe_ms),
	COUNT(deadline_ms),
	COUNT(phase_ms),
	COUNT(idle_ms),
	COUNT(failures),
	COUNT(sick),
	COUNT(restarts),
	COUNT(auto_rollback),
	COUNT(promoted),
	COUNT(aborted),
	COUNT(counted),
	COUNT(min_requests),
	NUMBER(max_error_rate),
	NUMBER(max_latency_ratio),
	SIDE_FIELDS("old_", old_side),
	SIDE_FIELDS("new_", new_side),
};

static JsonbValue *
field_of(Jsonb *view, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&view->root, name, (int) strlen(name), NULL);

	if (value == NULL || value->type == jbvNull)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("view of a rollout lacks \"%s\"", name)));
	return value;
}

static double
number_of(const JsonbValue *value, const char *name)
{
	if (value->type == jbvBool)
		return value->val.boolean ? 1 : 0;
	if (value->type != jbvNumeric)
		a67_error_parameter(name, "It must be a number or a boolean.");
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
}

/* Whole, and within 32 bits. */
static int32
count_of(double value)
{
	if (!(value > 0))
		return 0;
	return value < PG_INT32_MAX ? (int32) value : PG_INT32_MAX;
}

static void
read_fields(Jsonb *json, A67RolloutView *view)
{
	for (size_t i = 0; i < lengthof(fields); i++)
	{
		double value = number_of(field_of(json, fields[i].name), fields[i].name);
		char *at = (char *) view + fields[i].offset;
		int32 count = count_of(value);

		if (fields[i].kind == FIELD_COUNT)
			memcpy(at, &count, sizeof(count));
		else
			memcpy(at, &value, sizeof(value));
	}
}

static int32
name_of(Jsonb *json, const char *field, int (*parse)(const char *))
{
	JsonbValue *value = field_of(json, field);
	int found = -1;

	if (value->type == jbvString)
		found = parse(pnstrdup(value->val.string.val, value->val.string.len));
	if (found < 0)
		a67_error_parameter(field, "It is not known.");
	return found;
}

static int
test_parse(const char *name)
{
	static const char *const names[] = {"none", "open", "passed", "failed"};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], name) == 0)
			return (int) i;
	}
	return -1;
}

static void
read_steps(Jsonb *json, A67RolloutView *view)
{
	JsonbValue *steps = field_of(json, "steps");
	JsonbContainer *array = steps->type == jbvBinary ? steps->val.binary.data : NULL;

	if (array == NULL || !JsonContainerIsArray(array) ||
		JsonContainerSize(array) > A67_ROLLOUT_STEPS_MAX)
		a67_error_parameter("steps", "It must be an array of at most 20 percentages.");
	view->step_count = (int32) JsonContainerSize(array);
	for (int32 i = 0; i < view->step_count; i++)
		view->steps[i] = count_of(number_of(getIthJsonbValueFromContainer(array, i), "steps"));
}

PG_FUNCTION_INFO_V1(a67_sql_rollout_step);

/* _rollout_step(view jsonb) returns jsonb; strict: A67RolloutView and A67RolloutStep by their names */
Datum
a67_sql_rollout_step(PG_FUNCTION_ARGS)
{
	Jsonb *json = PG_GETARG_JSONB_P(0);
	A67RolloutView view;
	A67RolloutStep step;

	if (!JB_ROOT_IS_OBJECT(json))
		a67_error_parameter("view", "It must be an object.");
	memset(&view, 0, sizeof(view));
	read_fields(json, &view);
	view.kind = name_of(json, "strategy", a67_rollout_kind_parse);
	view.state = name_of(json, "state", a67_rollout_state_parse);
	view.phase = name_of(json, "phase", a67_rollout_phase_parse);
	view.test = name_of(json, "test", test_parse);
	read_steps(json, &view);
	step = a67_rollout_step(&view);
	PG_RETURN_DATUM(DirectFunctionCall1(
		jsonb_in,
		CStringGetDatum(psprintf(
			"{\"state\":\"%s\",\"phase\":\"%s\",\"step\":%d,\"weight\":%d,\"old_target\":%d,"
			"\"new_target\":%d,\"progress\":%d,\"reason\":\"%s\"}",
			a67_rollout_state_name(step.state), a67_rollout_phase_name(step.phase), step.step,
			step.weight, step.old_target, step.new_target, step.progress,
			a67_rollout_reason_name(step.reason)))));
}

PG_FUNCTION_INFO_V1(a67_sql_rollout_order);

/* _rollout_order(state text, wanted text) returns text; strict: the next state, NULL when it is refused */
Datum
a67_sql_rollout_order(PG_FUNCTION_ARGS)
{
	int state = a67_rollout_state_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int order = a67_rollout_order_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	A67RolloutState next;

	if (state < 0)
		a67_error_parameter("state", "There is no such state of a rollout.");
	if (order < 0)
		a67_error_parameter("wanted", "There is no such order.");
	if (!a67_rollout_order((A67RolloutState) state, (A67RolloutOrder) order, &next))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(a67_rollout_state_name(next)));
}
