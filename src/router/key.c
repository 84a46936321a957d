/*
 * key.c - the canonical text of a shard key; see key.h and docs/router.md.
 *
 * Frozen: this text decides on which shard every row of every hash table is, and what stands in ranges and directories.
 * It depends on the value alone: no setting, locale or encoding changes it. Types that consist of others (arrays, ranges,
 * composites) are in key_nested.c. Golden vectors: test/sql/shard_key.sql.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "core/hash.h"
#include "router/key.h"
#include "router/key_nested.h"

#define NOT_HASHABLE "Values of this type cannot be compared for equality by a hash."
#define NOT_DETERMINISTIC \
	"Under a nondeterministic collation equal values can have different texts."
#define NOT_CANONICAL \
	"Equal values of this type can have different texts, or different ones on each shard."
#define NOT_ORDERED \
	"Ranges need a type with a simple order: a number, a text, a date or time, an enum, uuid, bytea or inet."

/* Types whose own output is the same for equal values, everywhere and always. */
static bool
output_is_canonical(Oid type)
{
	switch (type)
	{
		case CHAROID:
		case OIDOID:
		case XIDOID:
		case CIDOID:
		case XID8OID:
		case TIDOID:
		case OIDVECTOROID:
		case PG_LSNOID:
		case MACADDROID:
		case MACADDR8OID:
			return true;
		default:
			return type_is_enum(type);
	}
}

/* Whether put_plain knows the type. */
static bool
is_plain(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case FLOAT4OID:
		case FLOAT8OID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case UUIDOID:
		case BYTEAOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case INTERVALOID:
		case INETOID:
		case CIDROID:
		case JSONBOID:
			return true;
		default:
			return output_is_canonical(type);
	}
}

bool
a67_key_supported(Oid type, Oid collation, const char **why)
{
	Oid base = getBaseType(type);

	*why = NULL;
	if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
		*why = NOT_DETERMINISTIC;
	else if (!OidIsValid(lookup_type_cache(base, TYPECACHE_HASH_PROC)->hash_proc))
		*why = NOT_HASHABLE;
	else if (!is_plain(base) && !a67_key_nested(base))
		*why = NOT_CANONICAL;
	else if (a67_key_nested(base))
		return a67_key_nested_supported(base, why);
	return *why == NULL;
}

bool
a67_key_orderable(Oid type, Oid collation, const char **why)
{
	Oid base = getBaseType(type);

	if (!a67_key_supported(type, collation, why))
		return false;
	if (!is_plain(base) || base == JSONBOID ||
		!OidIsValid(lookup_type_cache(base, TYPECACHE_CMP_PROC)->cmp_proc))
		*why = NOT_ORDERED;
	return *why == NULL;
}

Oid
a67_key_family(Oid type)
{
	Oid element;

	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
			return NUMERICOID;
		case FLOAT4OID:
		case FLOAT8OID:
			return FLOAT8OID;
		case TEXTOID:
		case VARCHAROID:
		case NAMEOID:
			return TEXTOID;
		case INETOID:
		case CIDROID:
			return INETOID;
		default:
			break;
	}
	if (get_typtype(type) == TYPTYPE_DOMAIN)
		return a67_key_family(getBaseType(type));
	element = get_element_type(type);
	if (OidIsValid(element))
	{
		Oid family = a67_key_family(element);
		Oid array = OidIsValid(family) ? get_array_type(family) : InvalidOid;

		return OidIsValid(array) ? array : type;
	}
	return is_plain(type) || a67_key_nested(type) ? type : InvalidOid;
}

static int64
integer_of(Datum value, Oid type)
{
	switch (type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

static void
put_numeric(StringInfo out, Datum value)
{
	Datum trimmed = DirectFunctionCall1(numeric_trim_scale, value);

	appendStringInfoString(out, DatumGetCString(DirectFunctionCall1(numeric_out, trimmed)));
}

static void
put_float(StringInfo out, double value)
{
	char buf[DOUBLE_SHORTEST_DECIMAL_LEN];

	double_to_shortest_decimal_buf(value == 0 ? 0.0 : value, buf);
	appendStringInfoString(out, buf);
}

/* Bytes in the database's encoding, as UTF-8. */
static void
put_bytes(StringInfo out, const char *bytes, int len)
{
	char *utf8 = pg_server_to_any(bytes, len, PG_UTF8);

	if (utf8 == bytes)
		appendBinaryStringInfo(out, bytes, len);
	else
		appendStringInfoString(out, utf8);
}

static void
put_text(StringInfo out, Datum value, Oid type)
{
	struct varlena *text;
	int len;

	if (type == NAMEOID)
	{
		put_bytes(out, NameStr(*DatumGetName(value)), (int) strlen(NameStr(*DatumGetName(value))));
		return;
	}
	text = PG_DETOAST_DATUM_PACKED(value);
	len = (int) VARSIZE_ANY_EXHDR(text);
	if (type == BPCHAROID)
		len = bpchartruelen(VARDATA_ANY(text), len);
	put_bytes(out, VARDATA_ANY(text), len);
	if ((Pointer) text != DatumGetPointer(value))
		pfree(text);
}

static void
put_hex(StringInfo out, const unsigned char *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		appendStringInfoCharMacro(out, digits[bytes[i] >> 4]);
		appendStringInfoCharMacro(out, digits[bytes[i] & 15]);
	}
}

static void
put_bytea(StringInfo out, Datum value)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

	appendStringInfoString(out, "\\x");
	put_hex(out, (unsigned char *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

static void
put_uuid(StringInfo out, Datum value)
{
	const pg_uuid_t *uuid = DatumGetUUIDP(value);

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			appendStringInfoCharMacro(out, '-');
		put_hex(out, &uuid->data[i], 1);
	}
}

static void
put_date(StringInfo out, DateADT date)
{
	char buf[MAXDATELEN + 1];
	struct pg_tm tm = {0};

	if (DATE_NOT_FINITE(date))
		EncodeSpecialDate(date, buf);
	else
	{
		j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		EncodeDateOnly(&tm, USE_ISO_DATES, buf);
	}
	appendStringInfoString(out, buf);
}

static void
put_timestamp(StringInfo out, Timestamp timestamp, bool with_zone)
{
	char buf[MAXDATELEN + 1];
	struct pg_tm tm = {0};
	fsec_t fsec;

	if (TIMESTAMP_NOT_FINITE(timestamp))
		EncodeSpecialTimestamp(timestamp, buf);
	else if (timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) == 0)
	{
		tm.tm_isdst = 0; /* negative, the zone would not be written */
		EncodeDateTime(&tm, fsec, with_zone, 0, NULL, USE_ISO_DATES, buf);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	appendStringInfoString(out, buf);
}

static void
put_time(StringInfo out, Datum value, Oid type)
{
	char buf[MAXDATELEN + 1];
	struct pg_tm tm = {0};
	fsec_t fsec;
	int zone = 0;

	if (type == TIMETZOID)
		timetz2tm(DatumGetTimeTzADTP(value), &tm, &fsec, &zone);
	else
		time2tm(DatumGetTimeADT(value), &tm, &fsec);
	EncodeTimeOnly(&tm, fsec, type == TIMETZOID, zone, USE_ISO_DATES, buf);
	appendStringInfoString(out, buf);
}

#define INTERVAL_DAY ((int64) USECS_PER_DAY)

/* All of it in microseconds, as PostgreSQL compares intervals: more than 64 bits can hold. */
static void
put_interval(StringInfo out, const Interval *interval)
{
	int64 whole_days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	Datum micros = DirectFunctionCall2(numeric_mul, NumericGetDatum(int64_to_numeric(whole_days)),
									   NumericGetDatum(int64_to_numeric(INTERVAL_DAY)));

	put_numeric(out, DirectFunctionCall2(numeric_add, micros,
										 NumericGetDatum(int64_to_numeric(interval->time))));
}

/* As jsonb's own output, but with numbers in their shortest form. */
static void
put_jsonb(StringInfo out, Jsonb *jsonb)
{
	JsonbIterator *iterator = JsonbIteratorInit(&jsonb->root);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbIteratorToken token;
	JsonbValue value;
	Jsonb *canonical;
	char *text;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		bool carries = token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM ||
					   (token == WJB_BEGIN_ARRAY && value.val.array.rawScalar);

		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvNumeric)
			value.val.numeric = DatumGetNumeric(
				DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value.val.numeric)));
		result = pushJsonbValue(&state, token, carries ? &value : NULL);
	}
	canonical = JsonbValueToJsonb(result);
	text = JsonbToCString(NULL, &canonical->root, VARSIZE(canonical));
	put_bytes(out, text, (int) strlen(text));
}

static void
put_output(StringInfo out, Datum value, Oid type)
{
	Oid output;
	bool is_varlena;
	char *text;

	getTypeOutputInfo(type, &output, &is_varlena);
	text = OidOutputFunctionCall(output, value);
	put_bytes(out, text, (int) strlen(text));
}

/* A value of a base type that consists of no others. */
static void
put_plain(StringInfo out, Datum value, Oid type)
{
	char buf[24];

	switch (type)
	{
		case BOOLOID:
			appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
			appendBinaryStringInfo(out, buf, pg_lltoa(integer_of(value, type), buf));
			break;
		case NUMERICOID:
			put_numeric(out, value);
			break;
		case FLOAT4OID:
			put_float(out, DatumGetFloat4(value));
			break;
		case FLOAT8OID:
			put_float(out, DatumGetFloat8(value));
			break;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
			put_text(out, value, type);
			break;
		case UUIDOID:
			put_uuid(out, value);
			break;
		case BYTEAOID:
			put_bytea(out, value);
			break;
		case DATEOID:
			put_date(out, DatumGetDateADT(value));
			break;
		case TIMEOID:
		case TIMETZOID:
			put_time(out, value, type);
			break;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			put_timestamp(out, DatumGetTimestamp(value), type == TIMESTAMPTZOID);
			break;
		case INTERVALOID:
			put_interval(out, DatumGetIntervalP(value));
			break;
		case INETOID:
		case CIDROID:
			appendStringInfoString(out, DatumGetCString(DirectFunctionCall1(inet_out, value)));
			break;
		case JSONBOID:
			put_jsonb(out, DatumGetJsonbP(value));
			break;
		default:
			put_output(out, value, type);
			break;
	}
}

void
a67_key_text(StringInfo out, Datum value, Oid type)
{
	Oid base = getBaseType(type);

	if (is_plain(base))
		put_plain(out, value, base);
	else if (a67_key_nested(base))
		a67_key_nested_text(out, value, base);
	else
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("values of type %s cannot be shard keys", format_type_be(type)),
						errdetail(NOT_CANONICAL)));
}

uint32
a67_key_hash(Datum value, Oid type)
{
	StringInfoData out;
	char buf[40];
	uint32 hash;

	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return a67_murmur3(buf, (size_t) pg_lltoa(integer_of(value, type), buf), 0);
		case UUIDOID:
			out = (StringInfoData){.data = buf, .len = 0, .maxlen = sizeof(buf), .cursor = 0};
			put_uuid(&out, value);
			return a67_murmur3(buf, (size_t) out.len, 0);
		case TEXTOID:
		case VARCHAROID:
			if (GetDatabaseEncoding() == PG_UTF8 && !VARATT_IS_EXTERNAL(DatumGetPointer(value)) &&
				!VARATT_IS_COMPRESSED(DatumGetPointer(value)))
				return a67_murmur3(VARDATA_ANY(DatumGetPointer(value)),
								   VARSIZE_ANY_EXHDR(DatumGetPointer(value)), 0);
			break;
		default:
			break;
	}
	initStringInfo(&out);
	a67_key_text(&out, value, type);
	hash = a67_murmur3(out.data, (size_t) out.len, 0);
	pfree(out.data);
	return hash;
}

static Datum
interval_of_micros(const char *text)
{
	Datum micros = DirectFunctionCall3(numeric_in, CStringGetDatum(text),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	Datum day = NumericGetDatum(int64_to_numeric(INTERVAL_DAY));
	Datum whole_days = DirectFunctionCall2(numeric_div_trunc, micros, day);
	Datum rest = DirectFunctionCall2(numeric_mod, micros, day);
	Interval *interval = palloc0(sizeof(Interval));

	interval->day = DatumGetInt32(DirectFunctionCall1(numeric_int4, whole_days));
	interval->time = DatumGetInt64(DirectFunctionCall1(numeric_int8, rest));
	return IntervalPGetDatum(interval);
}

Datum
a67_key_parse(const char *text, Oid type)
{
	Oid base = getBaseType(type);
	char *local = pg_any_to_server(text, (int) strlen(text), PG_UTF8);
	Oid input;
	Oid element;

	if (base == INTERVALOID)
		return interval_of_micros(local);
	getTypeInputInfo(base, &input, &element);
	return OidInputFunctionCall(input, local, element, -1);
}

/* A value of any type of a family as one of the type that stands for it; bpchar as text, too. */
static Datum
in_family(Datum value, Oid type, Oid family)
{
	if (type == family)
		return value;
	if (family == NUMERICOID)
		return NumericGetDatum(int64_to_numeric(integer_of(value, type)));
	if (family == FLOAT8OID)
		return Float8GetDatum(DatumGetFloat4(value));
	if (type == BPCHAROID)
		return DirectFunctionCall1(rtrim1, value);
	if (type == NAMEOID)
		return DirectFunctionCall1(name_text, value);
	return value;
}

int
a67_key_compare(Datum left, Oid left_type, Datum right, Oid right_type, Oid collation)
{
	TypeCacheEntry *entry;

	left_type = getBaseType(left_type);
	right_type = getBaseType(right_type);
	if (left_type != right_type)
	{
		Oid family = left_type == BPCHAROID ? TEXTOID : a67_key_family(left_type);

		left = in_family(left, left_type, family);
		right = in_family(right, right_type, family);
		left_type = family;
	}
	entry = lookup_type_cache(left_type, TYPECACHE_CMP_PROC_FINFO);
	return DatumGetInt32(FunctionCall2Coll(&entry->cmp_proc_finfo, collation, left, right));
}
