/*
 * wire.h - in which form values of a type travel between this server and its shards.
 *
 * Binary where the form is the same on all servers and says nothing in this session's client
 * encoding: PostgreSQL's own send and receive functions convert text to and from that encoding, and
 * shards talk in the encoding of this database. So types that hold text are written and read here;
 * only types without any text go through their functions. The rest, with the aliases of OIDs
 * (regclass …), whose numbers differ between servers, travels as text. Domains travel as their base
 * type; their constraints were checked where the value comes from. Used by encode.c and decode.c.
 */
#ifndef A67_ROUTER_WIRE_H
#define A67_ROUTER_WIRE_H

#include "postgres.h"

typedef enum A67WireForm
{
	A67_WIRE_TEXT,	   /* its text, by output and input functions */
	A67_WIRE_BYTE,	   /* "char" */
	A67_WIRE_BOOL,	   /* one byte */
	A67_WIRE_INT2,	   /* integers, and what is stored like them, in network order */
	A67_WIRE_INT4,	   /* also float4, date */
	A67_WIRE_OID,	   /* unsigned */
	A67_WIRE_INT8,	   /* also float8, timestamps, money */
	A67_WIRE_UUID,	   /* 16 bytes */
	A67_WIRE_STRING,   /* a varlena whose bytes are text in the server's encoding */
	A67_WIRE_BYTES,	   /* a varlena of bytes */
	A67_WIRE_LABEL,	   /* enums, names: binary form is the text */
	A67_WIRE_JSONB,	   /* a version and text; sent as text */
	A67_WIRE_FUNCTION, /* send and receive functions */
	A67_WIRE_ARRAY	   /* of elements of any binary form */
} A67WireForm;

typedef struct A67Wire
{
	Oid type; /* base type */
	A67WireForm form;
	Oid element; /* ARRAY: type and form of its elements */
	A67WireForm element_form;
} A67Wire;

/* How values of the type travel. No catalog is read for common types. */
void a67_wire(Oid type, A67Wire *wire);

/*
 * Text that says all of the value whatever the session's settings leave out when they show it, by
 * an output function.
 */
char *a67_wire_output(Oid function, Datum value);

/* Whether the OID means the same type on every server. */
bool a67_wire_builtin(Oid type);

#endif /* A67_ROUTER_WIRE_H */
