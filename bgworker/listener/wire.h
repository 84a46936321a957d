/*
 * wire.h: the messages between the listener and its api workers.
 *
 * Owns the layout of a message and nothing else: no queue, no process, no postgres.h. Both ends are
 * the same library on the same machine, so numbers are in native order; lengths are checked anyway.
 * The first byte of every message is its A67Frame.
 *
 *   listener → worker   CALL, then (when it says so) BODY* LAST, or ABORT in place of what is left
 *   worker → listener   READY once, then for each call HEAD DATA* END, or BROKEN after a HEAD
 *
 * A worker answers a call exactly once and only after it has taken the call's LAST or ABORT. An
 * aborted call is answered with END alone, and so is a note.
 */
#ifndef A67_LISTENER_WIRE_H
#define A67_LISTENER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define A67_WIRE_PIECE 65536 /* payload bytes of one BODY, LAST or DATA message */
#define A67_WIRE_CALL \
	(4 * 1024 * 1024) /* bytes of one CALL: the largest head, escaped at its worst */
#define A67_WIRE_HEAD	 (160 * 1024) /* bytes of one HEAD */
#define A67_WIRE_HEADERS 32			  /* header lines a function may set */

typedef enum A67Frame
{
	A67_FRAME_CALL = 'C',
	A67_FRAME_BODY = 'B',	/* a piece of the body, more follows */
	A67_FRAME_LAST = 'L',	/* the last piece, may be empty */
	A67_FRAME_ABORT = 'X',	/* the client is gone: forget the call */
	A67_FRAME_READY = 'R',	/* connected to the database */
	A67_FRAME_HEAD = 'H',	/* status and headers */
	A67_FRAME_DATA = 'D',	/* a piece of the answer's body */
	A67_FRAME_END = 'E',	/* the answer is whole */
	A67_FRAME_BROKEN = 'F', /* the answer cannot be completed */
} A67Frame;

/* What the body of a request means to the function. */
typedef enum A67BodyKind
{
	A67_BODY_NONE, /* there is none: arguments come from path and query */
	A67_BODY_ARGS, /* a JSON object: its fields are named arguments */
	A67_BODY_JSON, /* any JSON value: the argument named body_arg, of type jsonb */
	A67_BODY_RAW,  /* octets: the argument named body_arg, of type bytea */
} A67BodyKind;

/* One call of a function. All texts end with NUL and are never NULL. */
typedef struct A67Call
{
	int32_t timeout_ms;	 /* what is left of the request's time */
	int32_t status;		 /* of a success, unless the function sets one; 0: 200 or 204 */
	int64_t body_length; /* -1: not known beforehand */
	uint8_t body_kind;	 /* A67BodyKind */
	bool has_body;		 /* BODY* LAST follow */
	bool anonymous;		 /* no token: a refusal is 401 instead of 403 */
	bool safe;			 /* only functions that change nothing */
	bool gzip;			 /* the client takes a compressed answer */
	bool note;			 /* calls nothing: a refusal to be put on record, answered with END */
	bool own; /* the listener's own question: schema a67_internal, the session's rights */
	const char *function;
	const char *body_arg;
	const char *params; /* JSON array name, text, name, text …: arguments from path and query */
	const char *role;
	const char *claims; /* JSON; "" when anonymous */
	const char *method;
	const char *path;
	const char *headers; /* JSON object, names in lower case, without authorization */
	const char *request_id;
	const char *address; /* of the client; "" when it has none */
} A67Call;

typedef struct A67AnswerField
{
	const char *name;
	const char *value;
} A67AnswerField;

typedef struct A67AnswerHead
{
	int32_t status;
	int64_t content_length; /* -1: streamed, not known */
	int nfields;
	A67AnswerField fields[A67_WIRE_HEADERS];
} A67AnswerHead;

/* Append a message to an empty buffer. False when it does not fit. */
extern bool a67_wire_put_call(A67Buf *buf, const A67Call *call);
extern bool a67_wire_put_head(A67Buf *buf, const A67AnswerHead *head);

/* Changes the time of a CALL message that is packed already. */
extern void a67_wire_set_timeout(A67Buf *call, int32_t timeout_ms);

/* Read a whole message; texts point into it. False when it is malformed. */
extern bool a67_wire_get_call(const void *message, size_t len, A67Call *call);
extern bool a67_wire_get_head(const void *message, size_t len, A67AnswerHead *head);

#endif
