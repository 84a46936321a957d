/*
 * call.h: from a request to a function of schema a67 and a plan that calls it.
 *
 * call.c decides which function is meant and what its arguments are; plan.c writes the query and keeps
 * prepared plans. Both run in the api worker, inside its transaction and under the caller's role, and
 * throw errors whose SQLSTATE the status table turns into the right answer.
 */
#ifndef A67_LISTENER_CALL_H
#define A67_LISTENER_CALL_H

#include "postgres.h"

#include "access/htup.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"

#include "listener/wire.h"

#define A67_API_SCHEMA "a67"
#define A67_OWN_SCHEMA "a67_internal"

/* What the plan's rows are. */
typedef enum A67Returns
{
	A67_RETURNS_VOID,	/* nothing */
	A67_RETURNS_JSON,	/* one row, one text: JSON, or NULL */
	A67_RETURNS_OCTETS, /* rows of bytea, to be read through a cursor */
} A67Returns;

/* A function that was chosen, with its input arguments in the order of declaration. */
typedef struct A67Function
{
	HeapTuple tuple; /* its pg_proc row, a copy */
	int nargs;
	int ndefaults; /* the last ones */
	char **names;  /* NULL for an argument without a name */
	Oid *types;
	bool named_result;		 /* has OUT or TABLE columns */
	const char *result_name; /* of the only one; NULL when there are more, or none */
	uint64 given[2];		 /* bit per argument: present in the request */
} A67Function;

/* A plan with its parameters: $1 the JSON object of named arguments, $2 the body as one argument. */
typedef struct A67Target
{
	A67Returns returns;
	SPIPlanPtr plan;
	Datum values[2];
} A67Target;

#define A67_ARG_GIVEN(function, i) (((function)->given[(i) / 64] >> ((i) % 64)) & 1)

/*
 * Finds function and plan for the call. body->data starts with VARHDRSZ spare bytes, so that it can be
 * handed over as bytea without a copy; the target points into it. SPI must be connected.
 */
extern void a67_call_resolve(const A67Call *call, StringInfo body, A67Target *target);

/* The plan for this function and these given arguments; body_type InvalidOid: no $2. */
extern SPIPlanPtr a67_plan_get(const A67Function *function, int body_arg, A67Returns *returns);

#endif
