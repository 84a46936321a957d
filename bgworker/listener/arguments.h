/*
 * arguments.h: what a request gives a function to work on.
 *
 * Reads path, query and body into named arguments, and later, when the function and with it their types are
 * known, turns them into the parameters of its plan. Runs in the api worker inside the call's transaction;
 * throws errors of class 22 that name the field.
 */
#ifndef A67_LISTENER_ARGUMENTS_H
#define A67_LISTENER_ARGUMENTS_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "listener/wire.h"

/* The arguments as the request names them. */
typedef struct A67Given
{
	int count;
	char *names[FUNC_MAX_ARGS];
	int ntexts; /* the first ones are texts, from path and query */
	char *texts[FUNC_MAX_ARGS];
	Jsonb *fields; /* the body as named arguments, or NULL */
	int body_at;   /* index of the argument that the whole body is, or -1 */
	Datum body;	   /* its value */
} A67Given;

/*
 * body->data starts with VARHDRSZ spare bytes, so that it can be handed over as bytea without a copy; the
 * result points into it.
 */
extern void a67_given_read(const A67Call *call, StringInfo body, A67Given *given);

/* All named arguments as one JSON object; types[i] is that of the argument names[i]. */
extern Jsonb *a67_given_bind(const A67Given *given, const Oid *types);

#endif
