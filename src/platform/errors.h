/*
 * errors.h - SQLSTATEs that a67 raises beside PostgreSQL's own, and the few errors raised from many places.
 *
 * PTnnn asks the HTTP side (PostgREST or the built-in listener) for status nnn. docs/errors.md lists every
 * code with its meaning. Standard codes are used wherever one fits.
 */
#ifndef A67_ERRORS_H
#define A67_ERRORS_H

#include "utils/elog.h"

#define A67_ERRCODE_UNAUTHORIZED MAKE_SQLSTATE('P', 'T', '4', '0', '1')
#define A67_ERRCODE_NOT_FOUND	 MAKE_SQLSTATE('P', 'T', '4', '0', '4')
#define A67_ERRCODE_CONFLICT	 MAKE_SQLSTATE('P', 'T', '4', '0', '9')
#define A67_ERRCODE_GONE		 MAKE_SQLSTATE('P', 'T', '4', '1', '0')
#define A67_ERRCODE_UNAVAILABLE	 MAKE_SQLSTATE('P', 'T', '5', '0', '3')

/* Raises 22023 "invalid value for parameter": `parameter` is at fault, `why` is a full sentence. */
pg_attribute_noreturn() void a67_error_parameter(const char *parameter, const char *why);

/* Raises 22023: the parameter, or one of its elements, is null. */
pg_attribute_noreturn() void a67_error_null(const char *parameter);

#endif /* A67_ERRORS_H */
