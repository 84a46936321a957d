/*
 * shard_session.c - makes a shard's session read and write values, and understand expressions, as this one does.
 *
 * Text of values, literals in SQL and expressions that are shipped mean the same on both sides only under equal settings.
 * They are sent ahead of the next statement, in the same flush, when they changed here; a comparison of a few
 * integers finds that out. The client encoding is the local database's, set when connecting.
 */
#include "postgres.h"

#include "net/shard_session.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "tsearch/ts_cache.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/xml.h"

/* Those that never change, whatever the role or database on the shard says. */
static const char *const fixed[][2] = {
	{"standard_conforming_strings", "on"},
	{"default_transaction_isolation", "read committed"},
	{"transform_null_equals", "off"},
	{"array_nulls", "on"},
	{"idle_in_transaction_session_timeout", "0"},
	{"xmloption", "content"},
};

/* Those that are what they are here, in the order of A67SessionSettings. */
static const char *const copied[A67_SETTINGS_COPIED] = {
	"TimeZone",		"DateStyle",	"IntervalStyle", "extra_float_digits",
	"bytea_output", "lock_timeout", "xmlbinary",	 "default_text_search_config",
};

static A67SessionSettings
settings_here(int timeout_ms)
{
	/* Values, or pointers that are others when the value is. */
	return (A67SessionSettings){
		.timeout_ms = timeout_ms,
		.copied = {(intptr_t) session_timezone, DateStyle * 16 + DateOrder, IntervalStyle,
				   extra_float_digits, bytea_output, LockTimeout, xmlbinary,
				   (intptr_t) TSCurrentConfig},
	};
}

/*
 * A shard that finds its client gone ends the statement, and with it the locks. Servers before 15, and those on Windows, may not
 * be able to look.
 */
#define NOTICE_GONE                                               \
	", CASE WHEN pg_catalog.version() !~* 'mingw|visual c' THEN " \
	"pg_catalog.set_config('client_connection_check_interval', '2s', false) END"

static void
add(StringInfo sql, const char *name, const char *value)
{
	appendStringInfo(sql, "%spg_catalog.set_config('%s', %s, false)", sql->len > 7 ? ", " : "",
					 name, quote_literal_cstr(value));
}

const char *
a67_session_setup(A67Link *link, const char *schema, int timeout_ms)
{
	A67SessionSettings here = settings_here(timeout_ms);
	bool all = !link->equal;
	bool same_schema = strcmp(NameStr(link->schema), schema) == 0;
	StringInfoData sql;

	if (!all && same_schema && memcmp(&here, &link->settings, sizeof(here)) == 0)
		return NULL;
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	if (all)
		for (size_t i = 0; i < lengthof(fixed); i++)
			add(&sql, fixed[i][0], fixed[i][1]);
	for (size_t i = 0; i < lengthof(copied); i++)
		if (all || here.copied[i] != link->settings.copied[i])
			add(&sql, copied[i], GetConfigOption(copied[i], false, false));
	if (all || !same_schema)
		add(&sql, "search_path", quote_identifier(schema));
	if (all || here.timeout_ms != link->settings.timeout_ms)
		add(&sql, "statement_timeout", psprintf("%d", timeout_ms));
	if (all && PQserverVersion(link->conn) >= 150000)
		appendStringInfoString(&sql, NOTICE_GONE);
	namestrcpy(&link->schema, schema);
	link->settings = here;
	link->equal = true;
	return sql.data;
}
