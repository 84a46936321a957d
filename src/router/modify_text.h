/*
 * modify_text.h - SQL of statements that change rows by where they are: names, columns and
 * parameters, no expressions.
 *
 * Everything that has expressions of users in it is written by ship.c.
 */
#ifndef A67_ROUTER_MODIFY_TEXT_H
#define A67_ROUTER_MODIFY_TEXT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "router/catalog.h"

/* `INSERT INTO table (columns) VALUES `, to be followed by rows. */
char *a67_text_insert(Oid relid, List *columns);

/* `UPDATE table SET column = $1, …`, or `DELETE FROM table` without columns; a WHERE follows. */
char *a67_text_change(Oid relid, List *columns);

/* ` RETURNING columns`; of none, a constant, so that rows are counted. */
char *a67_text_returning(Oid relid, List *columns);

/*
 * ` WHERE ctid = (one row whose columns have these values)`; the values that are not null are
 * parameters from `first` on. The columns that `by_text` says are compared as text.
 */
char *a67_text_same_row(Oid relid, List *columns, const bool *nulls, const bool *by_text,
						int first);

/*
 * Many rows in one statement: $1 is an array of their ctids, the others are arrays of the columns'
 * values. `casts`: types of columns whose values come as text; NULL where they do not.
 */
char *a67_text_change_many(Oid relid, List *columns, char *const *casts);

/* A type as shards of the database know it. */
char *a67_text_type(const A67Database *database, Oid type);

#endif /* A67_ROUTER_MODIFY_TEXT_H */
