/*
 * cron_sql.c - SQL faces of schedules: what is wrong with one, and when it comes due.
 *
 * Called by the manifest's checker and by what runs cron apps (sql/api/cron.sql).
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/cron.h"

#define MINUTE_USECS  (60 * USECS_PER_SEC)
/* From 1970 to 2000, where timestamps begin. */
#define EPOCH_MINUTES ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 1440)

PG_FUNCTION_INFO_V1(a67_sql_cron_fault);
PG_FUNCTION_INFO_V1(a67_sql_cron_expand);
PG_FUNCTION_INFO_V1(a67_sql_cron_next);
PG_FUNCTION_INFO_V1(a67_sql_cron_previous);

/* _cron_fault(schedule text) returns text: NULL when it is a schedule; strict. */
Datum
a67_sql_cron_fault(PG_FUNCTION_ARGS)
{
	char fault[A67_CRON_FAULT_SIZE];
	A67Cron cron;

	if (a67_cron_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &cron, fault))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(fault));
}

/* _cron_expand(schedule text) returns text: in five fields; strict. */
Datum
a67_sql_cron_expand(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(a67_cron_expand(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}

static void
take_schedule(FunctionCallInfo fcinfo, A67Cron *cron)
{
	char *schedule = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char fault[A67_CRON_FAULT_SIZE];

	if (!a67_cron_parse(schedule, cron, fault))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid schedule \"%s\"", schedule), errdetail("It %s.", fault)));
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(1)))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("time must be finite")));
}

/* The minute in which a time lies, whichever side of 2000 it is. */
static int64
minute_of(TimestampTz at)
{
	return at / MINUTE_USECS - (at % MINUTE_USECS < 0) + EPOCH_MINUTES;
}

static Datum
answer(FunctionCallInfo fcinfo, int64 minute)
{
	if (minute == A67_CRON_NEVER)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ((minute - EPOCH_MINUTES) * MINUTE_USECS);
}

/* _cron_next(schedule text, after timestamptz) returns timestamptz; strict. */
Datum
a67_sql_cron_next(PG_FUNCTION_ARGS)
{
	A67Cron cron;

	take_schedule(fcinfo, &cron);
	return answer(fcinfo, a67_cron_next(&cron, minute_of(PG_GETARG_TIMESTAMPTZ(1))));
}

/* _cron_previous(schedule text, at timestamptz) returns timestamptz; strict. */
Datum
a67_sql_cron_previous(PG_FUNCTION_ARGS)
{
	A67Cron cron;

	take_schedule(fcinfo, &cron);
	return answer(fcinfo, a67_cron_previous(&cron, minute_of(PG_GETARG_TIMESTAMPTZ(1))));
}
