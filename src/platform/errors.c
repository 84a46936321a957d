/*
 * errors.c - the few errors that many files raise in the same words.
 *
 * Called by every SQL-callable C function that checks its arguments.
 */
#include "postgres.h"

#include "platform/errors.h"

void
a67_error_parameter(const char *parameter, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for parameter \"%s\"", parameter), errdetail("%s", why)));
	pg_unreachable();
}

void
a67_error_null(const char *parameter)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("parameter \"%s\" must not be or contain null", parameter)));
	pg_unreachable();
}
