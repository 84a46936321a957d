/*
 * encode.c - parameter values for shards; see remote.h and wire.h.
 *
 * Numbers are written into room beside the arrays and varlenas are sent from where they lie, so a
 * statement's parameters usually cost one allocation.
 */
#include "postgres.h"

#include "router/remote.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "router/wire.h"

typedef struct ParamForm
{
	A67Wire wire;
	FmgrInfo function; /* send or output, also of elements; looked up when first needed */
	int16 element_len; /* ARRAY */
	bool element_by_value;
	char element_align;
} ParamForm;

struct A67Encoder
{
	int count;
	MemoryContext context; /* of the encoder, where functions keep their caches */
	Oid *types;			   /* as told to shards: 0 for types that are not built in */
	ParamForm *params;
};

/* What one value becomes. `scratch` has room for the largest number. */
typedef struct Encoded
{
	const char *data;
	int length;
	int format;
} Encoded;

#define SCRATCH_BYTES 8

/* How a value, or an element of an array, is written. */
typedef struct Writer
{
	A67Encoder *encoder;
	ParamForm *param;
	Oid type;
	A67WireForm form;
} Writer;

A67Encoder *
a67_encoder(int count, const Oid *types)
{
	A67Encoder *encoder = palloc0(sizeof(A67Encoder));

	encoder->count = count;
	encoder->context = CurrentMemoryContext;
	encoder->types = palloc0(count * sizeof(Oid));
	encoder->params = palloc0(count * sizeof(ParamForm));
	for (int i = 0; i < count; i++)
	{
		A67Wire *wire = &encoder->params[i].wire;

		a67_wire(types[i], wire);
		if (a67_wire_builtin(wire->type))
			encoder->types[i] = wire->type;
		else if (wire->form == A67_WIRE_ARRAY)
			wire->form = A67_WIRE_TEXT; /* the binary form names the type of elements by OID */
	}
	return encoder;
}

/* Looks up the function that values (elements of arrays) of this form are written with. */
static void
find_function(A67Encoder *encoder, ParamForm *param, Oid type, A67WireForm form)
{
	Oid function;
	bool is_varlena;

	if (OidIsValid(param->function.fn_oid))
		return;
	if (form == A67_WIRE_FUNCTION)
		getTypeBinaryOutputInfo(type, &function, &is_varlena);
	else
		getTypeOutputInfo(type, &function, &is_varlena);
	fmgr_info_cxt(function, &param->function, encoder->context);
}

/* The text form. Dates are in the shards' DateStyle, which net keeps equal to this session's. */
static void
encode_text(A67Encoder *encoder, ParamForm *param, Datum value, Encoded *out)
{
	find_function(encoder, param, param->wire.type, A67_WIRE_TEXT);
	out->data = a67_wire_output(param->function.fn_oid, value);
	out->length = (int) strlen(out->data);
	out->format = 0;
}

static void
put_int4(char *to, int32 value)
{
	uint32 swapped = pg_hton32((uint32) value);

	memcpy(to, &swapped, sizeof(swapped));
}

/* A value of a form that is written without the help of functions; false when it is none. */
static bool
encode_plain(A67WireForm form, Datum value, char *scratch, Encoded *out)
{
	uint16 two;
	uint64 eight;

	out->data = scratch;
	out->format = 1;
	switch (form)
	{
		case A67_WIRE_BYTE:
		case A67_WIRE_BOOL:
			scratch[0] = DatumGetChar(value);
			out->length = 1;
			return true;
		case A67_WIRE_INT2:
			two = pg_hton16((uint16) DatumGetInt16(value));
			memcpy(scratch, &two, sizeof(two));
			out->length = sizeof(two);
			return true;
		case A67_WIRE_INT4:
		case A67_WIRE_OID:
			put_int4(scratch, DatumGetInt32(value));
			out->length = sizeof(int32);
			return true;
		case A67_WIRE_INT8:
			eight = pg_hton64((uint64) DatumGetInt64(value));
			memcpy(scratch, &eight, sizeof(eight));
			out->length = sizeof(eight);
			return true;
		case A67_WIRE_UUID:
			out->data = (const char *) DatumGetUUIDP(value)->data;
			out->length = UUID_LEN;
			return true;
		case A67_WIRE_STRING:
		case A67_WIRE_BYTES:
		{
			const struct varlena *packed = PG_DETOAST_DATUM_PACKED(value);

			out->data = VARDATA_ANY(packed);
			out->length = (int) VARSIZE_ANY_EXHDR(packed);
			return true;
		}
		default:
			return false;
	}
}

static void
encode_binary(const Writer *writer, Datum value, char *scratch, Encoded *out)
{
	FmgrInfo *function = &writer->param->function;
	bytea *sent;

	if (encode_plain(writer->form, value, scratch, out))
		return;
	find_function(writer->encoder, writer->param, writer->type, writer->form);
	if (writer->form == A67_WIRE_FUNCTION)
	{
		sent = SendFunctionCall(function, value);
		out->data = VARDATA(sent);
		out->length = (int) (VARSIZE(sent) - VARHDRSZ);
		return;
	}
	Assert(writer->form == A67_WIRE_LABEL || writer->form == A67_WIRE_JSONB);
	out->data = OutputFunctionCall(function, value);
	out->length = (int) strlen(out->data);
}

static void
append_element(A67Encoder *encoder, ParamForm *param, Datum value, StringInfo message)
{
	char scratch[SCRATCH_BYTES];
	char length[sizeof(int32)];
	Encoded element;
	bool jsonb = param->wire.element_form == A67_WIRE_JSONB;
	Writer writer = {encoder, param, param->wire.element, param->wire.element_form};

	encode_binary(&writer, value, scratch, &element);
	put_int4(length, element.length + (jsonb ? 1 : 0));
	appendBinaryStringInfo(message, length, sizeof(length));
	if (jsonb)
		appendStringInfoChar(message, 1); /* version of the format */
	appendBinaryStringInfo(message, element.data, element.length);
}

/* What array_send writes: dimensions, nulls or not, type of elements, then each of them. */
static void
encode_array(A67Encoder *encoder, ParamForm *param, Datum value, Encoded *out)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	StringInfoData message;
	char number[sizeof(int32)];
	Datum *values;
	bool *nulls;
	int count;

	if (param->element_align == '\0')
		get_typlenbyvalalign(param->wire.element, &param->element_len, &param->element_by_value,
							 &param->element_align);
	deconstruct_array(array, param->wire.element, param->element_len, param->element_by_value,
					  param->element_align, &values, &nulls, &count);
	initStringInfo(&message);
	put_int4(number, ARR_NDIM(array));
	appendBinaryStringInfo(&message, number, sizeof(number));
	put_int4(number, ARR_HASNULL(array) ? 1 : 0);
	appendBinaryStringInfo(&message, number, sizeof(number));
	put_int4(number, (int32) param->wire.element);
	appendBinaryStringInfo(&message, number, sizeof(number));
	for (int i = 0; i < ARR_NDIM(array); i++)
	{
		put_int4(number, ARR_DIMS(array)[i]);
		appendBinaryStringInfo(&message, number, sizeof(number));
		put_int4(number, ARR_LBOUND(array)[i]);
		appendBinaryStringInfo(&message, number, sizeof(number));
	}
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
		{
			put_int4(number, -1);
			appendBinaryStringInfo(&message, number, sizeof(number));
		}
		else
			append_element(encoder, param, values[i], &message);
	}
	out->data = message.data;
	out->length = message.len;
	out->format = 1;
}

static void
encode_one(A67Encoder *encoder, ParamForm *param, Datum value, char *scratch, Encoded *out)
{
	Writer writer = {encoder, param, param->wire.type, param->wire.form};

	switch (param->wire.form)
	{
		case A67_WIRE_TEXT:
		case A67_WIRE_LABEL:
		case A67_WIRE_JSONB:
			encode_text(encoder, param, value, out);
			break;
		case A67_WIRE_ARRAY:
			encode_array(encoder, param, value, out);
			break;
		default:
			encode_binary(&writer, value, scratch, out);
			break;
	}
}

void
a67_encode(A67Encoder *encoder, const Datum *values, const bool *nulls, A67Statement *statement)
{
	int count = encoder->count;
	const char **data;
	int *lengths;
	int *formats;
	char *scratch;

	statement->param_count = count;
	statement->param_types = encoder->types;
	if (count == 0)
		return;
	data = palloc(count * (sizeof(char *) + 2 * sizeof(int) + SCRATCH_BYTES));
	lengths = (int *) (data + count);
	formats = lengths + count;
	scratch = (char *) (formats + count);
	for (int i = 0; i < count; i++)
	{
		Encoded one = {.data = NULL, .length = 0, .format = 0};

		if (!nulls[i])
			encode_one(encoder, &encoder->params[i], values[i], scratch + (Size) i * SCRATCH_BYTES,
					   &one);
		data[i] = one.data;
		lengths[i] = one.length;
		formats[i] = one.format;
	}
	statement->param_values = data;
	statement->param_lengths = lengths;
	statement->param_formats = formats;
}
