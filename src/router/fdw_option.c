/*
 * fdw_option.c - the validator of a67_fdw: which options servers and tables may have.
 *
 * A server names its virtual database; a table says how its rows are spread. What depends on other
 * rows (that the database exists, that the key is a column of a usable type) is checked when the
 * table is used: catalog.c.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/builtins.h"

typedef struct Option
{
	const char *name;
	Oid catalog; /* what has it */
} Option;

static const Option options[] = {
	{"database", ForeignServerRelationId}, {"strategy", ForeignTableRelationId},
	{"key", ForeignTableRelationId},	   {"mapping", ForeignTableRelationId},
	{"shard", ForeignTableRelationId},
};

static bool
known(const char *name, Oid catalog)
{
	for (size_t i = 0; i < lengthof(options); i++)
	{
		if (options[i].catalog == catalog && strcmp(options[i].name, name) == 0)
			return true;
	}
	return false;
}

static void
check_strategy(const char *strategy)
{
	static const char *const strategies[] = {"hash", "range", "directory", "reference", "local"};

	for (size_t i = 0; i < lengthof(strategies); i++)
	{
		if (strcmp(strategies[i], strategy) == 0)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					errmsg("invalid strategy \"%s\"", strategy),
					errhint("Strategies are hash, range, directory, reference and local.")));
}

PG_FUNCTION_INFO_V1(a67_sql_fdw_validator);

/* _fdw_validator(options text[], catalog oid) returns void */
Datum
a67_sql_fdw_validator(PG_FUNCTION_ARGS)
{
	List *given = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	ListCell *cell;

	foreach(cell, given)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (!known(option->defname, catalog))
			ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
							errmsg("invalid option \"%s\"", option->defname),
							errhint("Servers of a67_fdw have the option database, tables strategy, "
									"key, mapping and shard.")));
		if (strcmp(option->defname, "strategy") == 0)
			check_strategy(defGetString(option));
	}
	PG_RETURN_VOID();
}
