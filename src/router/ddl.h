/*
 * ddl.h - definitions of virtual tables: what the files ddl*.c share.
 *
 * A definition is done twice: here, on the foreign table (or view, type, sequence), by PostgreSQL's own commands on the parse
 * tree; and on the shards, as the user's text with what belongs to the controller cut out of it. Both are in one transaction,
 * here first, so that locks are taken in one order and most mistakes are found before anything is sent.
 * The local half runs as the owner of the virtual schema with nothing else in the search path. Called by ddl.c only.
 */
#ifndef A67_ROUTER_DDL_H
#define A67_ROUTER_DDL_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

#include "router/catalog.h"
#include "router/ddl_text.h"

/* How a new table is to be spread; NULL where nobody said. */
typedef struct A67DdlSpread
{
	const char *strategy;
	const char *key;
	const char *mapping;
	const char *shard;
	const char *default_strategy; /* of the database, as is the key */
	const char *default_key;
} A67DdlSpread;

/* One statement. Locations in its parse tree are offsets into text->source. */
typedef struct A67Ddl
{
	const A67Database *database;
	const A67DdlSpread *spread;
	A67Text *text;
	List *primary;	/* names of columns: primary key of a table that is not on the shards yet */
	Oid like;		/* the table whose indexes a new one copies */
	bool adopt;		/* the table is on the shards already */
	int start, end; /* first token of the statement, and the one after its last */
} A67Ddl;

/* ---- ddl.c */

/* Runs a utility statement here, and makes what it did visible. The node may be changed. */
void a67_ddl_local(const A67Ddl *ddl, Node *statement);

/* Refuses the schema of a name that is not the database's own (NULL is). `location` may be -1. */
void a67_ddl_check_schema(const A67Ddl *ddl, const char *schema, int location);

/*
 * The virtual table of that name, locked; NULL when missing_ok and there is none. Other relations are refused.
 */
const A67Table *a67_ddl_table(const A67Ddl *ddl, const RangeVar *name, LOCKMODE lock,
							  bool missing_ok);

/* For ereport: the place in the user's text; `location` may be -1. */
int a67_ddl_position(const A67Ddl *ddl, int location);

/* Raises 0A000. `what` and `hint` (may be NULL) are for the user. */
pg_attribute_noreturn() void a67_ddl_refuse(const A67Ddl *ddl, int location, const char *what,
											const char *hint);

/* ---- ddl_remote.c: transactional, joined to the local transaction. */

/* The shards that have the table: its home, or all. */
Bitmapset *a67_ddl_places(const A67Table *table);
Bitmapset *a67_ddl_all(const A67Database *database);

void a67_ddl_send(const A67Database *database, const Bitmapset *shards, const char *sql);

/* The first column of all rows of all shards: for each, `take` is called with the shard's index and the text, or NULL. */
void a67_ddl_ask(const A67Database *database, const Bitmapset *shards, const char *sql,
				 void (*take)(void *state, int shard, const char *value), void *state);

/* ---- ddl_create.c, ddl_alter.c, ddl_name.c, ddl_object.c: one command each. */
void a67_ddl_create_table(A67Ddl *ddl, CreateStmt *statement);
void a67_ddl_alter_table(A67Ddl *ddl, AlterTableStmt *statement);
void a67_ddl_drop(A67Ddl *ddl, DropStmt *statement);
void a67_ddl_rename(A67Ddl *ddl, RenameStmt *statement);
void a67_ddl_index(A67Ddl *ddl, IndexStmt *statement);
void a67_ddl_type(A67Ddl *ddl, Node *statement);
void a67_ddl_view(A67Ddl *ddl, ViewStmt *statement);
void a67_ddl_sequence(A67Ddl *ddl, Node *statement);
void a67_ddl_comment(A67Ddl *ddl, CommentStmt *statement);

/* Names with the database's schema, and no other, before them. */
List *a67_ddl_full_name(const A67Ddl *ddl, const List *name);
void a67_ddl_full_relation(const A67Ddl *ddl, RangeVar *relation);
/* ---- ddl_column.c, ddl_like.c: column definitions. */

/*
 * Splits the definition at token `at` (up to, without, `end`) into what is done here, by changing `column`, and what the shards do, by
 * edits of the text. Constraints that concern more than the row are appended to *constraints, with the column as their key.
 */
void a67_ddl_column(A67Ddl *ddl, ColumnDef *column, int end, List **constraints);

/* The token after the last one of a column's constraint; the definition ends before token `end`. */
int a67_ddl_clause_end(const A67Ddl *ddl, const ColumnDef *column, const Constraint *constraint,
					   int end);

/* Whether the raw expression uses sequences. */
bool a67_ddl_uses_sequence(Node *raw);

/* The columns that LIKE stands for, and (ddl_like.c, too) whether the indexes that come with it fit the new table. */
List *a67_ddl_like(A67Ddl *ddl, const TableLikeClause *like);
void a67_ddl_check_like(const A67Ddl *ddl, const A67Table *table);

/* Cuts the database's schema off types and tables named in a raw expression. */
void a67_ddl_strip(A67Ddl *ddl, Node *raw);
void a67_ddl_strip_constraint(A67Ddl *ddl, const Constraint *constraint);
void a67_ddl_strip_type(A67Ddl *ddl, const TypeName *type);
void a67_ddl_strip_relation(A67Ddl *ddl, const RangeVar *relation);

/* ---- ddl_mapping.c */

/* OIDs of all virtual tables. */
List *a67_ddl_tables(const A67Database *database);

/* Whether the key of a virtual table has the type, or one made of it; *relid is the table. */
bool a67_ddl_is_key_type(const A67Database *database, Oid type, Oid *relid);

/* Raises unless tables of the mapping that is chosen for the new table are of its kind. */
void a67_ddl_check_mapping(const A67Ddl *ddl, Oid relid, const A67DdlSpread *chosen);

#endif /* A67_ROUTER_DDL_H */
