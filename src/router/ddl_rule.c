/*
 * ddl_rule.c - how a table may be spread, and what the shards can enforce of it; see ddl_rule.h.
 *
 * A shard knows its own rows only. Rows with equal keys are on one shard, so what must be unique must include the key;
 * what refers to another table must refer to a row on the same shard.
 */
#include "postgres.h"

#include "router/ddl_rule.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "router/key.h"

static bool
is_distributed(const char *strategy)
{
	return strcmp(strategy, "hash") == 0 || strcmp(strategy, "range") == 0 ||
		   strcmp(strategy, "directory") == 0;
}

static bool
has_column(const List *columns, const char *name)
{
	ListCell *cell;

	foreach(cell, columns)
	{
		if (strcmp(lfirst_node(ColumnDef, cell)->colname, name) == 0)
			return true;
	}
	return false;
}

/* The column that alone is the primary key; or the key of the table whose primary key is copied; or NULL. */
static const char *
natural_key(const A67Ddl *ddl)
{
	const A67Table *like;

	if (list_length(ddl->primary) == 1)
		return strVal(linitial(ddl->primary));
	if (!OidIsValid(ddl->like))
		return NULL;
	like = a67_table(ddl->like);
	return like->key == 0 ? NULL : get_attname(like->relid, like->key, false);
}

static void
refuse_field(const char *field, const char *message)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message),
					errdetail("Field: %s.", field)));
}

static void
choose_key(const A67Ddl *ddl, const RangeVar *name, const List *columns, A67DdlSpread *chosen)
{
	if (chosen->key != NULL)
	{
		if (!has_column(columns, chosen->key))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" of table \"%s\" does not exist", chosen->key,
								   name->relname),
							errdetail("Field: key.")));
		return;
	}
	if (chosen->default_key != NULL && has_column(columns, chosen->default_key))
		chosen->key = chosen->default_key;
	else
		chosen->key = natural_key(ddl);
	if (chosen->key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has no shard key", name->relname), errdetail("Field: key."),
				 errhint(
					 "Name a column as its key (a67.table_create), or give it a primary key of one "
					 "column; small tables can be copied to all shards: strategy reference."),
				 a67_ddl_position(ddl, name->location)));
}

void
a67_ddl_choose(const A67Ddl *ddl, const RangeVar *name, const List *columns, A67DdlSpread *chosen)
{
	*chosen = *ddl->spread;
	if (chosen->strategy == NULL)
		chosen->strategy = chosen->default_strategy;
	if (is_distributed(chosen->strategy))
		choose_key(ddl, name, columns, chosen);
	else if (chosen->key != NULL)
		refuse_field("key", psprintf("a table of strategy %s has no key", chosen->strategy));

	if (strcmp(chosen->strategy, "range") == 0 || strcmp(chosen->strategy, "directory") == 0)
	{
		if (chosen->mapping == NULL)
			chosen->mapping = chosen->key;
	}
	else if (chosen->mapping != NULL)
		refuse_field("mapping",
					 psprintf("a table of strategy %s has no mapping", chosen->strategy));

	if (strcmp(chosen->strategy, "local") == 0)
	{
		if (chosen->shard == NULL && ddl->database->shard_count > 0)
			chosen->shard = ddl->database->shards[0].name;
	}
	else if (chosen->shard != NULL)
		refuse_field("shard",
					 psprintf("a table of strategy %s is on all shards", chosen->strategy));
}

/* Place of the name among these, or -1. */
static int
name_index(const List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (strcmp(strVal(lfirst(cell)), name) == 0)
			return foreach_current_index(cell);
	}
	return -1;
}

static void
refuse_unique(const A67Ddl *ddl, const A67Table *table, int location, const char *what)
{
	char *key = get_attname(table->relid, table->key, false);

	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("%s on table \"%s\" must include the shard key", what,
						   get_rel_name(table->relid)),
					errdetail("Shards cannot see whether another one has an equal value."),
					errhint("Add column \"%s\" to it.", key), a67_ddl_position(ddl, location)));
}

static void
take_name(void *names, int shard, const char *value)
{
	*(List **) names = lappend(*(List **) names, makeString(pstrdup(value)));
}

/* Columns of the primary key, as only the shards know it. */
static List *
primary_key(const A67Table *table)
{
	List *names = NIL;
	char *relation = quote_literal_cstr(quote_identifier(get_rel_name(table->relid)));
	char *sql =
		psprintf("SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index i, "
				 "pg_catalog.unnest(i.indkey) WITH ORDINALITY k (n, o), "
				 "pg_catalog.pg_attribute a WHERE i.indrelid = %s::pg_catalog.regclass AND "
				 "i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o",
				 relation);
	Bitmapset *places = a67_ddl_places(table);

	a67_ddl_ask(table->database, bms_make_singleton(bms_next_member(places, -1)), sql, take_name,
				&names);
	return names;
}

static bool
same_place(const A67Table *one, const A67Table *other)
{
	if (other->strategy == A67_REFERENCE)
		return true;
	if (one->strategy == A67_LOCAL)
		return other->strategy == A67_LOCAL && one->home == other->home;
	return one->key != 0 && other->key != 0 && a67_colocated(one, other);
}

/* The key's own value follows what it refers to only where both change together, on one shard. */
static void
check_actions(const A67Ddl *ddl, const A67Table *other, const Constraint *constraint,
			  const char *key)
{
	bool on_delete =
		constraint->fk_del_action == FKCONSTR_ACTION_SETDEFAULT &&
		(constraint->fk_del_set_cols == NIL || name_index(constraint->fk_del_set_cols, key) >= 0);

	if (other->strategy == A67_REFERENCE && constraint->fk_upd_action == FKCONSTR_ACTION_CASCADE)
		a67_ddl_refuse(ddl, constraint->location,
					   "the shard key cannot follow a reference table with ON UPDATE CASCADE",
					   "The row might belong on another shard then.");
	if (on_delete || constraint->fk_upd_action == FKCONSTR_ACTION_SETDEFAULT)
		a67_ddl_refuse(ddl, constraint->location,
					   "a foreign key cannot set the shard key to its default",
					   "The row might belong on another shard then.");
}

static void
check_foreign_key(const A67Ddl *ddl, const A67Table *table, const Constraint *constraint)
{
	const A67Table *other = a67_ddl_table(ddl, constraint->pktable, ShareRowExclusiveLock, false);
	List *referenced = constraint->pk_attrs;
	char *key;
	int at;

	if (!same_place(table, other))
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("foreign key from table \"%s\" to \"%s\" cannot be enforced",
					get_rel_name(table->relid), get_rel_name(other->relid)),
			 errdetail("Rows that belong together may be on different shards."),
			 errhint("Give both tables the same strategy and keys of one kind, or make \"%s\" a "
					 "reference table.",
					 get_rel_name(other->relid)),
			 a67_ddl_position(ddl, constraint->location)));
	if (table->key == 0)
		return;
	key = get_attname(table->relid, table->key, false);
	at = name_index(constraint->fk_attrs, key);
	if (other->key != 0)
	{
		if (referenced == NIL)
			referenced = other->relid == table->relid && ddl->primary != NIL ? ddl->primary
																			 : primary_key(other);
		if (at < 0 || at >= list_length(referenced) ||
			strcmp(strVal(list_nth(referenced, at)),
				   get_attname(other->relid, other->key, false)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("foreign key from table \"%s\" to \"%s\" must include the shard keys",
							get_rel_name(table->relid), get_rel_name(other->relid)),
					 errdetail("Rows that belong together may be on different shards."),
					 errhint("Let column \"%s\" refer to \"%s\" in it.", key,
							 get_attname(other->relid, other->key, false)),
					 a67_ddl_position(ddl, constraint->location)));
	}
	if (at >= 0)
		check_actions(ddl, other, constraint, key);
}

static bool
excludes_key(const Constraint *constraint, const char *key)
{
	ListCell *cell;

	foreach(cell, constraint->exclusions)
	{
		List *pair = lfirst_node(List, cell);
		const IndexElem *element = linitial_node(IndexElem, pair);
		List *operator= lsecond_node(List, pair);

		if (element->name != NULL && strcmp(element->name, key) == 0 && element->collation == NIL &&
			strcmp(strVal(llast(operator)), "=") == 0)
			return true;
	}
	return false;
}

void
a67_ddl_check_constraint(const A67Ddl *ddl, const A67Table *table, const Constraint *constraint)
{
	char *key = table->key == 0 ? NULL : get_attname(table->relid, table->key, false);

	switch (constraint->contype)
	{
		case CONSTR_PRIMARY:
		case CONSTR_UNIQUE:
			/* That of an index was checked with the index. */
			if (key != NULL && constraint->indexname == NULL &&
				name_index(constraint->keys, key) < 0)
				refuse_unique(ddl, table, constraint->location,
							  constraint->contype == CONSTR_PRIMARY ? "primary key"
																	: "unique constraint");
			break;
		case CONSTR_EXCLUSION:
			if (key != NULL && !excludes_key(constraint, key))
				refuse_unique(ddl, table, constraint->location, "exclusion constraint");
			break;
		case CONSTR_FOREIGN:
			check_foreign_key(ddl, table, constraint);
			break;
		case CONSTR_CHECK:
			a67_ddl_check_expression(ddl, table, constraint->raw_expr, true);
			break;
		default:
			break;
	}
}

void
a67_ddl_check_unique_index(const A67Ddl *ddl, const A67Table *table, const IndexStmt *index)
{
	ListCell *cell;
	char *key;

	if (!index->unique || table->key == 0)
		return;
	key = get_attname(table->relid, table->key, false);
	foreach(cell, index->indexParams)
	{
		const IndexElem *element = lfirst_node(IndexElem, cell);

		if (element->name != NULL && strcmp(element->name, key) == 0 && element->collation == NIL)
			return;
	}
	refuse_unique(ddl, table, index->relation->location, "unique index");
}

/* Whether any value of the old type is the same key, with the same text, as one of the new type. */
static bool
widens(Oid from, int32 from_typmod, Oid to, int32 to_typmod)
{
	static const Oid integers[] = {INT2OID, INT4OID, INT8OID, NUMERICOID};
	int place_from = -1;
	int place_to = -1;

	if (from == to && from_typmod == to_typmod)
		return true;
	for (int i = 0; i < (int) lengthof(integers); i++)
	{
		if (integers[i] == from)
			place_from = i;
		if (integers[i] == to)
			place_to = i;
	}
	if (place_from >= 0 && place_to >= 0)
		return place_to >= place_from && to_typmod < 0;
	if ((from == VARCHAROID || from == TEXTOID) && (to == VARCHAROID || to == TEXTOID))
		return to_typmod < 0 || (from_typmod >= 0 && to_typmod >= from_typmod);
	return false;
}

void
a67_ddl_check_key_type(const A67Ddl *ddl, const A67Table *table, const ColumnDef *column)
{
	int32 from_typmod;
	int32 to_typmod;
	Oid from;
	Oid to;
	Oid collation;

	typenameTypeIdAndMod(NULL, column->typeName, &to, &to_typmod);
	get_atttypetypmodcoll(table->relid, table->key, &from, &from_typmod, &collation);
	if (column->raw_default == NULL && column->collClause == NULL &&
		widens(from, from_typmod, to, to_typmod))
		return;
	a67_ddl_refuse(ddl, column->location,
				   psprintf("type of the shard key of table \"%s\" cannot be changed so",
							get_rel_name(table->relid)),
				   "Rows might belong on other shards then; integers and character strings can "
				   "get wider types of their kind.");
}
