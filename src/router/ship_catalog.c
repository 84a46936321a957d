/*
 * ship_catalog.c - which functions, types and collations of this server mean the same on shards.
 *
 * Immutable built-in functions do, if the collation they work under does. Stable ones do when they
 * depend on nothing but settings that are made equal on shards' connections; those are named here,
 * by name, as all overloads of a name agree in it. Functions that take text but neither order nor
 * change the case of it are named here too: they do the same under every collation.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "router/ship_part.h"

/*
 * Sorted. They depend on TimeZone, DateStyle, IntervalStyle, extra_float_digits, bytea_output or
 * the output of their arguments' types.
 */
static const char *const stable_names[] = {
	"anytextcat",
	"array_in",
	"array_out",
	"array_to_json",
	"array_to_string",
	"concat",
	"concat_ws",
	"date",
	"date_cmp_timestamptz",
	"date_eq_timestamptz",
	"date_ge_timestamptz",
	"date_gt_timestamptz",
	"date_in",
	"date_le_timestamptz",
	"date_lt_timestamptz",
	"date_ne_timestamptz",
	"date_out",
	"date_part",
	"date_trunc",
	"domain_in",
	"enum_first",
	"enum_in",
	"enum_last",
	"enum_out",
	"enum_range",
	"extract",
	"format",
	"generate_series",
	"in_range",
	"interval_in",
	"interval_out",
	"interval_pl_timestamptz",
	"json_agg",
	"json_build_array",
	"json_build_object",
	"json_object_agg",
	"json_to_record",
	"json_to_recordset",
	"jsonb_agg",
	"jsonb_build_array",
	"jsonb_build_object",
	"jsonb_object_agg",
	"jsonb_path_exists_tz",
	"jsonb_path_match_tz",
	"jsonb_path_query_array_tz",
	"jsonb_path_query_first_tz",
	"jsonb_path_query_tz",
	"jsonb_to_record",
	"jsonb_to_recordset",
	"make_timestamptz",
	"multirange_in",
	"multirange_out",
	"overlaps",
	"quote_literal",
	"quote_nullable",
	"range_in",
	"range_out",
	"record_out",
	"row_to_json",
	"textanycat",
	"time",
	"time_in",
	"timestamp",
	"timestamp_cmp_timestamptz",
	"timestamp_eq_timestamptz",
	"timestamp_ge_timestamptz",
	"timestamp_gt_timestamptz",
	"timestamp_in",
	"timestamp_le_timestamptz",
	"timestamp_lt_timestamptz",
	"timestamp_ne_timestamptz",
	"timestamp_out",
	"timestamptz",
	"timestamptz_cmp_date",
	"timestamptz_cmp_timestamp",
	"timestamptz_eq_date",
	"timestamptz_eq_timestamp",
	"timestamptz_ge_date",
	"timestamptz_ge_timestamp",
	"timestamptz_gt_date",
	"timestamptz_gt_timestamp",
	"timestamptz_in",
	"timestamptz_le_date",
	"timestamptz_le_timestamp",
	"timestamptz_lt_date",
	"timestamptz_lt_timestamp",
	"timestamptz_mi_interval",
	"timestamptz_ne_date",
	"timestamptz_ne_timestamp",
	"timestamptz_out",
	"timestamptz_pl_interval",
	"timetz",
	"timetz_in",
	"timezone",
	"to_char",
	"to_date",
	"to_json",
	"to_jsonb",
	"to_timestamp",
};

/* Sorted. The same under every collation that tells different strings apart. */
static const char *const plain_names[] = {
	"any_value",
	"anytextcat",
	"array_agg",
	"array_append",
	"array_cat",
	"array_eq",
	"array_length",
	"array_ne",
	"array_prepend",
	"array_to_json",
	"array_to_string",
	"arraycontained",
	"arraycontains",
	"arrayoverlap",
	"ascii",
	"bpchar",
	"bpchareq",
	"bpcharlen",
	"bpcharlike",
	"bpcharne",
	"bpcharnlike",
	"btrim",
	"cardinality",
	"char_length",
	"concat",
	"concat_ws",
	"count",
	"first_value",
	"format",
	"json_agg",
	"json_build_array",
	"json_build_object",
	"json_object_agg",
	"jsonb_agg",
	"jsonb_build_array",
	"jsonb_build_object",
	"jsonb_object_agg",
	"lag",
	"last_value",
	"lead",
	"left",
	"length",
	"like",
	"lpad",
	"ltrim",
	"md5",
	"nameeq",
	"nameeqtext",
	"namelike",
	"namene",
	"namenetext",
	"namenlike",
	"notlike",
	"nth_value",
	"octet_length",
	"overlay",
	"position",
	"quote_literal",
	"repeat",
	"replace",
	"reverse",
	"right",
	"row_to_json",
	"rpad",
	"rtrim",
	"split_part",
	"starts_with",
	"string_agg",
	"strpos",
	"substr",
	"substring",
	"text",
	"textanycat",
	"textcat",
	"texteq",
	"texteqname",
	"textlen",
	"textlike",
	"textne",
	"textnename",
	"textnlike",
	"to_json",
	"to_jsonb",
	"translate",
	"unnest",
	"varchar",
};

static int
compare_names(const void *key, const void *element)
{
	return strcmp(key, *(const char *const *) element);
}

static bool
named(Oid function, const char *const *names, size_t count)
{
	char *name = function < FirstGenbkiObjectId ? get_func_name(function) : NULL;

	return name != NULL && bsearch(name, names, count, sizeof(*names), compare_names) != NULL;
}

const char *
a67_ship_function_obstacle(Oid function, bool literal)
{
	char volatility;

	if (function >= FirstGenbkiObjectId)
		return gettext_noop("Functions that users made do not exist on shards.");
	volatility = func_volatile(function);
	if (volatility == PROVOLATILE_IMMUTABLE)
		return NULL;
	if (volatility == PROVOLATILE_VOLATILE)
		return gettext_noop("A volatile function is called once for each row, and here.");
	if (!literal && named(function, stable_names, lengthof(stable_names)))
		return NULL;
	return gettext_noop("A function depends on the session or on the server it runs in.");
}

/* ---- formats ---- */

/*
 * Whether a format asks for one of the letters, or for TM (names of months in the locale's
 * language).
 */
static bool
format_has(const char *format, const char *letters)
{
	bool quoted = false;

	for (const char *c = format; *c != '\0'; c++)
	{
		char upper = pg_ascii_toupper((unsigned char) *c);

		if (*c == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (letters != NULL ? strchr(letters, upper) != NULL
								 : upper == 'T' && pg_ascii_toupper((unsigned char) c[1]) == 'M')
			return true;
	}
	return false;
}

const char *
a67_ship_format_obstacle(const FuncExpr *call)
{
	const char *letters;
	Node *format;

	switch (call->funcid)
	{
		case F_TO_CHAR_INT8_TEXT:
		case F_TO_CHAR_INT4_TEXT:
		case F_TO_CHAR_FLOAT4_TEXT:
		case F_TO_CHAR_FLOAT8_TEXT:
		case F_TO_CHAR_NUMERIC_TEXT:
		case F_TO_NUMBER:
			letters = "DGL";
			break;
		case F_TO_CHAR_TIMESTAMPTZ_TEXT:
		case F_TO_CHAR_TIMESTAMP_TEXT:
		case F_TO_CHAR_INTERVAL_TEXT:
		case F_TO_DATE:
		case F_TO_TIMESTAMP_TEXT_TEXT:
			letters = NULL;
			break;
		default:
			return NULL;
	}
	format = lsecond(call->args);
	if (IsA(format, Const) &&
		(((Const *) format)->constisnull ||
		 !format_has(TextDatumGetCString(((Const *) format)->constvalue), letters)))
		return NULL;
	return gettext_noop(
		"A format may ask for words or signs of a locale, which shards do not share.");
}

/* ---- types ---- */

bool
a67_ship_type_sent(Oid type)
{
	return OidIsValid(type) && type != RECORDOID && type != RECORDARRAYOID &&
		   get_typtype(type) != TYPTYPE_PSEUDO;
}

/* Values of these name objects of a server, or have a text that depends on settings. */
static bool
local_type(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCOLLATIONOID:
		case MONEYOID:
		case MONEYARRAYOID:
		case TIDOID:
		case XIDOID:
		case XID8OID:
		case CIDOID:
		case ACLITEMOID:
		case REFCURSOROID:
			return true;
		default:
			return false;
	}
}

static Oid
type_namespace(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid result;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	result = ((Form_pg_type) GETSTRUCT(tuple))->typnamespace;
	ReleaseSysCache(tuple);
	return result;
}

const char *
a67_ship_type_obstacle(const A67Database *database, Oid type)
{
	Oid element;

	if (type < FirstGenbkiObjectId)
		return local_type(type)
				   ? gettext_noop("Values of a type mean something else on every server.")
				   : NULL;
	element = get_element_type(type);
	if (OidIsValid(element))
		type = element;
	if (type < FirstGenbkiObjectId)
		return NULL;
	switch (get_typtype(type))
	{
		case TYPTYPE_ENUM:
		case TYPTYPE_DOMAIN:
			if (type_namespace(type) == database->schema_oid)
				return NULL;
			break;
		case TYPTYPE_COMPOSITE:
			/* Rows of virtual tables, written out column by column. */
			if (type_namespace(type) == database->schema_oid && type != element)
				return NULL;
			break;
		default:
			break;
	}
	return gettext_noop("A type does not exist on shards.");
}

bool
a67_ship_type_literal(const A67Database *database, Oid type)
{
	if (type == UNKNOWNOID)
		return true;
	return type != XMLOID && type != XMLARRAYOID && type != REGCONFIGOID &&
		   type != REGDICTIONARYOID && a67_ship_type_obstacle(database, type) == NULL &&
		   get_typtype(type) != TYPTYPE_COMPOSITE;
}

/* ---- collations ---- */

const char *
a67_ship_collation_obstacle(const A67Database *database, Oid collation, Oid function)
{
	if (!OidIsValid(collation) || collation == C_COLLATION_OID || collation == POSIX_COLLATION_OID)
		return NULL;
	if (collation == DEFAULT_COLLATION_OID && database->same_collation)
		return NULL;
	if (OidIsValid(function) && get_collation_isdeterministic(collation) &&
		named(function, plain_names, lengthof(plain_names)))
		return NULL;
	return gettext_noop("Shards may order text differently, or see other letters as capitals.");
}
