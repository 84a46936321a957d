/*
 * wire.c - in which form values of a type travel; see wire.h.
 */
#include "postgres.h"

#include "router/wire.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

/* Built-in types whose send and receive functions are the same on all servers and meet no text. */
static bool
has_functions(Oid type)
{
	switch (type)
	{
		case NUMERICOID:
		case INTERVALOID:
		case TIMETZOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
		case MACADDR8OID:
		case BITOID:
		case VARBITOID:
		case TIDOID:
		case POINTOID:
		case LSEGOID:
		case PATHOID:
		case BOXOID:
		case POLYGONOID:
		case LINEOID:
		case CIRCLEOID:
		case INT4RANGEOID:
		case INT8RANGEOID:
		case NUMRANGEOID:
		case DATERANGEOID:
		case TSRANGEOID:
		case TSTZRANGEOID:
		case INT4MULTIRANGEOID:
		case INT8MULTIRANGEOID:
		case NUMMULTIRANGEOID:
		case DATEMULTIRANGEOID:
		case TSMULTIRANGEOID:
		case TSTZMULTIRANGEOID:
			return true;
		default:
			return false;
	}
}

/* Forms of built-in types; TEXT for all that are not named. */
static A67WireForm
form_of(Oid type)
{
	switch (type)
	{
		case CHAROID:
			return A67_WIRE_BYTE;
		case BOOLOID:
			return A67_WIRE_BOOL;
		case INT2OID:
			return A67_WIRE_INT2;
		case INT4OID:
		case FLOAT4OID:
		case DATEOID:
			return A67_WIRE_INT4;
		case OIDOID:
		case XIDOID:
		case CIDOID:
			return A67_WIRE_OID;
		case INT8OID:
		case FLOAT8OID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case CASHOID:
		case PG_LSNOID:
		case XID8OID:
			return A67_WIRE_INT8;
		case UUIDOID:
			return A67_WIRE_UUID;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case JSONOID:
			return A67_WIRE_STRING;
		case BYTEAOID:
			return A67_WIRE_BYTES;
		case NAMEOID:
			return A67_WIRE_LABEL;
		case JSONBOID:
			return A67_WIRE_JSONB;
		default:
			return has_functions(type) ? A67_WIRE_FUNCTION : A67_WIRE_TEXT;
	}
}

bool
a67_wire_builtin(Oid type)
{
	return OidIsValid(type) && type < FirstGenbkiObjectId;
}

char *
a67_wire_output(Oid function, Datum value)
{
	int nest_level;
	char *text;

	if (extra_float_digits >= 1)
		return OidOutputFunctionCall(function, value);
	nest_level = NewGUCNestLevel();
	(void) set_config_option("extra_float_digits", "3", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	text = OidOutputFunctionCall(function, value);
	AtEOXact_GUC(true, nest_level);
	return text;
}

void
a67_wire(Oid type, A67Wire *wire)
{
	wire->type = type;
	wire->form = form_of(type);
	wire->element = InvalidOid;
	wire->element_form = A67_WIRE_TEXT;
	if (wire->form != A67_WIRE_TEXT)
		return;
	if (!a67_wire_builtin(type))
	{
		wire->type = getBaseType(type);
		wire->form = form_of(wire->type);
	}
	if (wire->form == A67_WIRE_TEXT && type_is_enum(wire->type))
		wire->form = A67_WIRE_LABEL;
	if (wire->form == A67_WIRE_TEXT)
	{
		A67Wire element;

		wire->element = get_element_type(wire->type);
		if (!OidIsValid(wire->element))
			return;
		a67_wire(wire->element, &element);
		wire->element_form = element.form;
		/* Elements of a domain, and arrays in arrays, are too rare to be worth it. */
		if (element.type == wire->element && element.form != A67_WIRE_ARRAY &&
			element.form != A67_WIRE_TEXT)
			wire->form = A67_WIRE_ARRAY;
	}
}
