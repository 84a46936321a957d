/*
 * key_nested.c - canonical text of arrays, ranges, multiranges and named composites as shard keys.
 *
 * Frozen, as key.c is. Elements are written by a67_key_text and quoted as PostgreSQL's own output quotes them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"

#include "router/key.h"
#include "router/key_nested.h"

bool
a67_key_nested(Oid type)
{
	switch (get_typtype(type))
	{
		case TYPTYPE_RANGE:
		case TYPTYPE_MULTIRANGE:
		case TYPTYPE_COMPOSITE:
			return true;
		default:
			return OidIsValid(get_element_type(type));
	}
}

/* A range's bounds are compared as its subtype usually is, so that equal ranges have equal bounds. */
static bool
range_supported(Oid type, const char **why)
{
	TypeCacheEntry *range = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
	TypeCacheEntry *bound = lookup_type_cache(range->rngelemtype->type_id, TYPECACHE_CMP_PROC);

	*why = NULL;
	if (range->rng_cmp_proc_finfo.fn_oid != bound->cmp_proc)
		*why = "Bounds of this range type are not compared as values of its subtype usually are.";
	return *why == NULL &&
		   a67_key_supported(range->rngelemtype->type_id, range->rng_collation, why);
}

static bool
composite_supported(Oid type, const char **why)
{
	TupleDesc desc = lookup_rowtype_tupdesc(type, -1);
	bool supported = true;

	for (int i = 0; supported && i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		supported =
			column->attisdropped || a67_key_supported(column->atttypid, column->attcollation, why);
	}
	ReleaseTupleDesc(desc);
	return supported;
}

bool
a67_key_nested_supported(Oid type, const char **why)
{
	check_stack_depth();
	switch (get_typtype(type))
	{
		case TYPTYPE_RANGE:
			return range_supported(type, why);
		case TYPTYPE_MULTIRANGE:
			return range_supported(get_multirange_range(type), why);
		case TYPTYPE_COMPOSITE:
			return composite_supported(type, why);
		default:
			/* The collation of the array's elements was judged as the array's own. */
			return a67_key_supported(get_element_type(type), InvalidOid, why);
	}
}

/* An array of the same shape that holds the elements' texts, written as PostgreSQL writes it. */
static void
put_array(StringInfo out, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	Oid type = ARR_ELEMTYPE(array);
	ArrayType *texts;
	Datum *elements;
	bool *nulls;
	int count;
	int16 len;
	bool by_value;
	char align;

	get_typlenbyvalalign(type, &len, &by_value, &align);
	deconstruct_array(array, type, len, by_value, align, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		StringInfoData text;

		if (nulls[i])
			continue;
		initStringInfo(&text);
		a67_key_text(&text, elements[i], type);
		elements[i] = PointerGetDatum(cstring_to_text_with_len(text.data, text.len));
	}
	texts = construct_md_array(elements, nulls, ARR_NDIM(array), ARR_DIMS(array), ARR_LBOUND(array),
							   TEXTOID, -1, false, TYPALIGN_INT);
	appendStringInfoString(out, OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(texts)));
}

/* A part of a range or composite: quoted if it is empty or holds a blank, a quote, a backslash or one of `special`. */
static void
put_part(StringInfo out, Datum value, Oid type, const char *special)
{
	StringInfoData text;
	bool quoted;

	initStringInfo(&text);
	a67_key_text(&text, value, type);
	quoted = text.len == 0;
	for (int i = 0; !quoted && i < text.len; i++)
		quoted = text.data[i] == '"' || text.data[i] == '\\' ||
				 strchr(special, text.data[i]) != NULL || scanner_isspace(text.data[i]) ||
				 text.data[i] == '\v';
	if (quoted)
		appendStringInfoCharMacro(out, '"');
	for (int i = 0; i < text.len; i++)
	{
		if (text.data[i] == '"' || text.data[i] == '\\')
			appendStringInfoCharMacro(out, text.data[i]);
		appendStringInfoCharMacro(out, text.data[i]);
	}
	if (quoted)
		appendStringInfoCharMacro(out, '"');
	pfree(text.data);
}

static void
put_range(StringInfo out, const RangeType *range)
{
	TypeCacheEntry *entry = lookup_type_cache(RangeTypeGetOid(range), TYPECACHE_RANGE_INFO);
	Oid type = entry->rngelemtype->type_id;
	RangeBound lower;
	RangeBound upper;
	bool empty;

	range_deserialize(entry, range, &lower, &upper, &empty);
	if (empty)
	{
		appendStringInfoString(out, "empty");
		return;
	}
	appendStringInfoCharMacro(out, lower.inclusive ? '[' : '(');
	if (!lower.infinite)
		put_part(out, lower.val, type, "(),[]");
	appendStringInfoCharMacro(out, ',');
	if (!upper.infinite)
		put_part(out, upper.val, type, "(),[]");
	appendStringInfoCharMacro(out, upper.inclusive ? ']' : ')');
}

static void
put_multirange(StringInfo out, const MultirangeType *multirange)
{
	TypeCacheEntry *entry =
		lookup_type_cache(MultirangeTypeGetOid(multirange), TYPECACHE_MULTIRANGE_INFO);

	appendStringInfoCharMacro(out, '{');
	for (uint32 i = 0; i < multirange->rangeCount; i++)
	{
		if (i > 0)
			appendStringInfoCharMacro(out, ',');
		put_range(out, multirange_get_range(entry->rngtype, multirange, (int) i));
	}
	appendStringInfoCharMacro(out, '}');
}

static void
put_composite(StringInfo out, HeapTupleHeader row)
{
	TupleDesc desc =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};
	Datum *values = palloc(sizeof(Datum) * (size_t) desc->natts);
	bool *nulls = palloc(sizeof(bool) * (size_t) desc->natts);
	const char *separator = "";

	heap_deform_tuple(&tuple, desc, values, nulls);
	appendStringInfoCharMacro(out, '(');
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		appendStringInfoString(out, separator);
		separator = ",";
		if (!nulls[i])
			put_part(out, values[i], TupleDescAttr(desc, i)->atttypid, "(),");
	}
	appendStringInfoCharMacro(out, ')');
	ReleaseTupleDesc(desc);
}

void
a67_key_nested_text(StringInfo out, Datum value, Oid type)
{
	check_stack_depth();
	switch (get_typtype(type))
	{
		case TYPTYPE_RANGE:
			put_range(out, DatumGetRangeTypeP(value));
			break;
		case TYPTYPE_MULTIRANGE:
			put_multirange(out, DatumGetMultirangeTypeP(value));
			break;
		case TYPTYPE_COMPOSITE:
			put_composite(out, DatumGetHeapTupleHeader(value));
			break;
		default:
			put_array(out, value);
			break;
	}
}
