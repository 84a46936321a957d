/*
 * query.h - SQL that arrives through the API: hostile text, run with narrow rights and bounded means.
 *
 * query.c makes the frame (role, settings, time, memory) and runs one statement in it; query_allow.c decides what a
 * statement may consist of; query_param.c binds JSON to $1, $2 …; query_answer.c writes rows as JSON;
 * query_error.c puts errors in terms of the caller's text. All of it works inside the caller's transaction, in the current memory
 * context, and throws.
 */
#ifndef A67_ROUTER_QUERY_H
#define A67_ROUTER_QUERY_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "tcop/dest.h"
#include "utils/jsonb.h"

/* ---- query_param.c ---- */

typedef struct A67QueryParams
{
	int count;
	Oid *types;
	ParamListInfo values; /* NULL when there are none */
} A67QueryParams;

/* Finds the parameters of the statement, whose types follow from where they stand, and reads their values from a JSON array. */
void a67_query_bind(const RawStmt *statement, const char *text, Jsonb *given,
					A67QueryParams *params);

/* ---- query_answer.c ---- */

typedef struct A67QueryAnswer A67QueryAnswer;

A67QueryAnswer *a67_query_answer(void);

/* Takes the rows; throws 54000 beyond a67.query_rows and a67.query_size. */
DestReceiver *a67_query_receiver(A67QueryAnswer *answer);

/* "columns":[…],"data":[…],"rows_returned":n */
void a67_query_answer_write(const A67QueryAnswer *answer, StringInfo json);

/* ---- query_error.c ---- */

/* Points an error at the caller's text, suggests tables for unknown ones, names the limit that was hit. Catalogs are still readable. */
void a67_query_explain_error(ErrorData *error, const char *text, Oid schema);

/* ---- query_limit.c ---- */

/* This process may take so many bytes more than it has now, until the cap is lifted; without effect while there is one. */
void a67_memory_cap(int64 bytes);
void a67_memory_uncap(void);

#endif /* A67_ROUTER_QUERY_H */
