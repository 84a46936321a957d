/*
 * decode.c - rows from shards as values of this server; see remote.h and wire.h.
 *
 * Nothing is believed about a shard's answer but what it says itself: number, format, type and
 * length of each column are compared with what is wanted, so that a table that was altered behind
 * a67's back gives an error and no wrong values.
 */
#include "postgres.h"

#include "router/remote.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "router/wire.h"

typedef struct Column
{
	const char *name;
	A67Wire wire;
	FmgrInfo input; /* looked up when first needed, as all that follows */
	Oid input_type; /* that it is for: the column's, or that of its elements */
	Oid input_param;
	FmgrInfo receive; /* of elements, of an array */
	Oid receive_param;
	int16 element_len;
	bool element_by_value;
	char element_align;
} Column;

struct A67Decoder
{
	int count;
	bool binary;
	bool verify;		   /* text must be checked: the encoding has invalid sequences */
	const char *shard;	   /* that the row is from, for errors; may be NULL */
	MemoryContext context; /* of the decoder, where functions keep their caches */
	Column columns[FLEXIBLE_ARRAY_MEMBER];
};

/* The part of a message that one value is. */
typedef struct Bytes
{
	char *data; /* NUL after the end only where PGresult put it */
	int length;
} Bytes;

A67Decoder *
a67_decoder(TupleDesc desc)
{
	A67Decoder *decoder = palloc0(offsetof(A67Decoder, columns) + desc->natts * sizeof(Column));

	decoder->count = desc->natts;
	decoder->binary = true;
	decoder->verify = pg_database_encoding_max_length() > 1;
	decoder->context = CurrentMemoryContext;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Column *column = &decoder->columns[i];

		column->name = NameStr(attribute->attname);
		if (attribute->attisdropped)
			continue;
		a67_wire(attribute->atttypid, &column->wire);
		if (column->wire.form == A67_WIRE_TEXT)
			decoder->binary = false;
	}
	return decoder;
}

bool
a67_decoder_binary(const A67Decoder *decoder)
{
	return decoder->binary;
}

static void
mismatch(const Column *column, Oid got)
{
	const char *type = a67_wire_builtin(got) ? format_type_be(got) : "another type";

	ereport(
		ERROR,
		(errcode(ERRCODE_FDW_INCONSISTENT_DESCRIPTOR_INFORMATION),
		 errmsg("column \"%s\" is of type %s on the shard, not %s", column->name, type,
				format_type_be(column->wire.type)),
		 errhint("The table was altered on the shard alone. Give it the definition it has here.")));
}

static void
malformed(const Column *column)
{
	ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
					errmsg("shard sent a malformed value for column \"%s\"", column->name)));
}

/* Types that share a form that says nothing about the type itself. */
static bool
same_form(const A67Wire *wire, Oid got)
{
	A67Wire other;

	if (wire->form == A67_WIRE_LABEL || wire->form == A67_WIRE_ARRAY)
		return !a67_wire_builtin(wire->type) && !a67_wire_builtin(got);
	if (!a67_wire_builtin(got))
		return false;
	a67_wire(got, &other);
	return wire->form == A67_WIRE_STRING && other.form == A67_WIRE_STRING;
}

static inline uint32
get_uint4(const char *from)
{
	uint32 value;

	memcpy(&value, from, sizeof(value));
	return pg_ntoh32(value);
}

static inline void
expect_length(const Column *column, Bytes bytes, int length)
{
	if (bytes.length != length)
		malformed(column);
}

static void
verify_text(const A67Decoder *decoder, Bytes bytes)
{
	if (decoder->verify)
		(void) pg_verify_mbstr(GetDatabaseEncoding(), bytes.data, bytes.length, false);
}

static Datum
make_varlena(Bytes bytes)
{
	struct varlena *value = palloc(bytes.length + VARHDRSZ);

	SET_VARSIZE(value, bytes.length + VARHDRSZ);
	memcpy(VARDATA(value), bytes.data, bytes.length);
	return PointerGetDatum(value);
}

static Datum
make_uuid(Bytes bytes)
{
	pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

	memcpy(uuid->data, bytes.data, UUID_LEN);
	return UUIDPGetDatum(uuid);
}

static Datum
call_input(A67Decoder *decoder, Column *column, Oid type, char *text)
{
	if (column->input_type != type)
	{
		Oid function;

		getTypeInputInfo(type, &function, &column->input_param);
		fmgr_info_cxt(function, &column->input, decoder->context);
		column->input_type = type;
	}
	return InputFunctionCall(&column->input, text, column->input_param, -1);
}

static Datum
call_receive(A67Decoder *decoder, Column *column, Oid type, Bytes bytes)
{
	StringInfoData message = {.data = bytes.data, .len = bytes.length, .maxlen = bytes.length + 1};
	Datum value;

	if (!OidIsValid(column->receive.fn_oid))
	{
		Oid function;

		getTypeBinaryInputInfo(type, &function, &column->receive_param);
		fmgr_info_cxt(function, &column->receive, decoder->context);
	}
	value = ReceiveFunctionCall(&column->receive, &message, column->receive_param, -1);
	if (message.cursor != message.len)
		malformed(column);
	return value;
}

/* Text that an input function reads, as it must end with a NUL. */
static Datum
read_text(A67Decoder *decoder, Column *column, Oid type, Bytes bytes)
{
	verify_text(decoder, bytes);
	return call_input(decoder, column, type, pnstrdup(bytes.data, bytes.length));
}

static Datum
decode_binary(A67Decoder *decoder, Column *column, Oid type, A67WireForm form, Bytes bytes)
{
	uint16 two;
	uint64 eight;

	switch (form)
	{
		case A67_WIRE_BYTE:
			expect_length(column, bytes, 1);
			return CharGetDatum(bytes.data[0]);
		case A67_WIRE_BOOL:
			expect_length(column, bytes, 1);
			return BoolGetDatum(bytes.data[0] != 0);
		case A67_WIRE_INT2:
			expect_length(column, bytes, sizeof(two));
			memcpy(&two, bytes.data, sizeof(two));
			return Int16GetDatum((int16) pg_ntoh16(two));
		case A67_WIRE_INT4:
			expect_length(column, bytes, sizeof(uint32));
			return Int32GetDatum((int32) get_uint4(bytes.data));
		case A67_WIRE_OID:
			expect_length(column, bytes, sizeof(uint32));
			return ObjectIdGetDatum(get_uint4(bytes.data));
		case A67_WIRE_INT8:
			expect_length(column, bytes, sizeof(eight));
			memcpy(&eight, bytes.data, sizeof(eight));
			return Int64GetDatum((int64) pg_ntoh64(eight));
		case A67_WIRE_UUID:
			expect_length(column, bytes, UUID_LEN);
			return make_uuid(bytes);
		case A67_WIRE_STRING:
			verify_text(decoder, bytes);
			return make_varlena(bytes);
		case A67_WIRE_BYTES:
			return make_varlena(bytes);
		case A67_WIRE_LABEL:
			return read_text(decoder, column, type, bytes);
		case A67_WIRE_JSONB:
			if (bytes.length < 1 || bytes.data[0] != 1)
				malformed(column);
			bytes.data++;
			bytes.length--;
			return read_text(decoder, column, type, bytes);
		case A67_WIRE_FUNCTION:
			return call_receive(decoder, column, type, bytes);
		default:
			malformed(column);
			return (Datum) 0;
	}
}

/* Takes `length` bytes off the front. */
static char *
take(const Column *column, Bytes *from, int length)
{
	char *taken = from->data;

	if (length < 0 || length > from->length)
		malformed(column);
	from->data += length;
	from->length -= length;
	return taken;
}

/* Of an array. */
typedef struct Shape
{
	int dimensions;
	int sizes[MAXDIM];
	int lower[MAXDIM];
} Shape;

static Datum
decode_elements(A67Decoder *decoder, Column *column, Bytes bytes, Shape *shape)
{
	int count = ArrayGetNItems(shape->dimensions, shape->sizes);
	Datum *values;
	bool *nulls;

	/* Each element has a length of four bytes: what cannot be there is not allocated. */
	if (count > bytes.length / (int) sizeof(uint32))
		malformed(column);
	values = palloc(count * sizeof(Datum));
	nulls = palloc(count * sizeof(bool));
	for (int i = 0; i < count; i++)
	{
		Bytes element;

		element.length = (int) get_uint4(take(column, &bytes, sizeof(uint32)));
		nulls[i] = element.length == -1;
		values[i] = (Datum) 0;
		if (nulls[i])
			continue;
		element.data = take(column, &bytes, element.length);
		values[i] = decode_binary(decoder, column, column->wire.element, column->wire.element_form,
								  element);
	}
	return PointerGetDatum(construct_md_array(values, nulls, shape->dimensions, shape->sizes,
											  shape->lower, column->wire.element,
											  column->element_len, column->element_by_value,
											  column->element_align));
}

/* What array_send writes; see encode_array in encode.c. */
static Datum
decode_array(A67Decoder *decoder, Column *column, Bytes bytes)
{
	Shape shape;
	Oid element;

	if (column->element_align == '\0')
		get_typlenbyvalalign(column->wire.element, &column->element_len, &column->element_by_value,
							 &column->element_align);
	shape.dimensions = (int) get_uint4(take(column, &bytes, sizeof(uint32)));
	(void) take(column, &bytes, sizeof(uint32));
	element = get_uint4(take(column, &bytes, sizeof(uint32)));
	if (shape.dimensions < 0 || shape.dimensions > MAXDIM)
		malformed(column);
	if (element != column->wire.element &&
		(a67_wire_builtin(column->wire.element) || a67_wire_builtin(element)))
		mismatch(column, element);
	if (shape.dimensions == 0)
		return PointerGetDatum(construct_empty_array(column->wire.element));
	for (int i = 0; i < shape.dimensions; i++)
	{
		shape.sizes[i] = (int) get_uint4(take(column, &bytes, sizeof(uint32)));
		shape.lower[i] = (int) get_uint4(take(column, &bytes, sizeof(uint32)));
	}
	return decode_elements(decoder, column, bytes, &shape);
}

static Datum
decode_one(A67Decoder *decoder, Column *column, const PGresult *result, int row, int field)
{
	Bytes bytes = {.data = PQgetvalue(result, row, field),
				   .length = PQgetlength(result, row, field)};
	Oid got = PQftype(result, field);

	if (PQfformat(result, field) == 0)
	{
		verify_text(decoder, bytes);
		return call_input(decoder, column, column->wire.type, bytes.data);
	}
	if (got != column->wire.type && !same_form(&column->wire, got))
		mismatch(column, got);
	if (column->wire.form == A67_WIRE_ARRAY)
		return decode_array(decoder, column, bytes);
	return decode_binary(decoder, column, column->wire.type, column->wire.form, bytes);
}

void
a67_decoder_shard(A67Decoder *decoder, const char *name)
{
	decoder->shard = name;
}

static void
add_context(void *arg)
{
	const A67Decoder *decoder = arg;

	if (decoder->shard != NULL)
		errcontext("shard \"%s\"", decoder->shard);
}

void
a67_decode(A67Decoder *decoder, PGresult *result, int row, Datum *values, bool *nulls)
{
	ErrorContextCallback callback;

	callback.previous = error_context_stack;
	callback.callback = add_context;
	callback.arg = decoder;
	error_context_stack = &callback;
	if (PQnfields(result) < decoder->count)
		ereport(ERROR, (errcode(ERRCODE_FDW_INCONSISTENT_DESCRIPTOR_INFORMATION),
						errmsg("shard sent %d columns where %d are wanted", PQnfields(result),
							   decoder->count)));
	for (int i = 0; i < decoder->count; i++)
	{
		nulls[i] = PQgetisnull(result, row, i) != 0;
		values[i] = (Datum) 0;
		if (!nulls[i])
			values[i] = decode_one(decoder, &decoder->columns[i], result, row, i);
	}
	error_context_stack = callback.previous;
}
