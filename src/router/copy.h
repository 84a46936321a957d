/*
 * copy.h - COPY of virtual tables.
 *
 * copy.c takes the statement from the utility hook: COPY TO becomes COPY of a query, COPY FROM is copy_from.c's. There PostgreSQL's own reader splits
 * the input into lines and fields, the key's field says where a line goes, and the line goes there as it came.
 * copy_line.c knows which line of the input a shard's line was, for messages.
 */
#ifndef A67_ROUTER_COPY_H
#define A67_ROUTER_COPY_H

#include "postgres.h"

#include "commands/copy.h"
#include "nodes/plannodes.h"
#include "tcop/cmdtag.h"
#include "utils/rel.h"

#include "router/catalog.h"

/* Does the COPY when it is one of a virtual table. For COPY TO it returns false and *statement is another one, to be run instead. */
bool a67_copy(PlannedStmt **statement, const char *query_string, QueryCompletion *completion);

/* Reads all of `from` into the table; rows stored. */
uint64 a67_copy_from(const A67Table *table, Relation rel, CopyFromState from);

/* ---- copy_line.c */

#define A67_COPY_NOWHERE 255 /* instead of a shard: the line was not sent */

typedef struct A67CopyLines A67CopyLines;

A67CopyLines *a67_copy_lines(void);

/* Adds a line (a record, which has several lines when it has line ends in quotes). */
void a67_copy_lines_add(A67CopyLines *lines, int shard, int local_lines, int remote_lines);

/* Puts the input's line number into the context of a shard's error, where it is still known. */
void a67_copy_lines_translate(const A67CopyLines *lines, const A67Table *table, ErrorData *error);

#endif /* A67_ROUTER_COPY_H */
