/*
 * query_allow.h - what hostile SQL may consist of.
 *
 * A rule that allows, over analysed and rewritten statements, views and defaults included: tables, views, sequences and types of
 * one schema; built-in functions and operators that are not volatile and tell nothing about the server, and a few volatile ones;
 * built-in types that name no objects of the server. Whatever is not known to be harmless is refused with 42501.
 */
#ifndef A67_ROUTER_QUERY_ALLOW_H
#define A67_ROUTER_QUERY_ALLOW_H

#include "postgres.h"

#include "nodes/parsenodes.h"

typedef enum A67StatementKind
{
	A67_STATEMENT_QUERY, /* SELECT, INSERT, UPDATE, DELETE, MERGE, EXPLAIN of these */
	A67_STATEMENT_DDL,	 /* what database_ddl knows */
} A67StatementKind;

/* The only statement of the text; throws 42601 for none or several, 0A000 for what neither kind has. */
RawStmt *a67_allow_statement(const char *text, A67StatementKind *kind);

/* Of a statement of which `text` is the source (for positions in errors); any list of rewritten queries. */
void a67_allow_queries(List *queries, Oid schema, const char *text);

/* What was made by DDL in a virtual schema: a view's query, defaults and types of columns; a domain's checks, a type's parts. */
void a67_allow_relation(Oid relid);
void a67_allow_type(Oid type);

#endif /* A67_ROUTER_QUERY_ALLOW_H */
