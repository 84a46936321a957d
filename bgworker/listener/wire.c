/*
 * wire.c: packing and unpacking the messages of wire.h.
 *
 * A message is its frame byte, a fixed record, and texts, each a 32-bit length, the bytes and a NUL.
 * Reading checks every length against what is left, so a damaged message is refused, never followed.
 * Called by dispatch.c and pool.c (listener) and by exchange.c (api worker).
 */
#include "wire.h"

#include <string.h>

typedef struct CallRecord
{
	int32_t timeout_ms;
	int32_t status;
	int64_t body_length;
	uint8_t body_kind;
	uint8_t has_body;
	uint8_t anonymous;
	uint8_t safe;
	uint8_t gzip;
	uint8_t note;
	uint8_t own;
	uint8_t spare[1];
} CallRecord;

typedef struct HeadRecord
{
	int64_t content_length;
	int32_t status;
	int32_t nfields;
} HeadRecord;

typedef struct Cursor
{
	const char *at;
	size_t left;
	bool ok;
} Cursor;

static void
put_text(A67Buf *buf, const char *text)
{
	uint32_t len = (uint32_t) strlen(text);

	a67_buf_append(buf, &len, sizeof(len));
	a67_buf_append(buf, text, (size_t) len + 1);
}

static void
get_record(Cursor *in, void *record, size_t size)
{
	if (!in->ok || in->left < size)
	{
		in->ok = false;
		return;
	}
	memcpy(record, in->at, size);
	in->at += size;
	in->left -= size;
}

static const char *
get_text(Cursor *in)
{
	const char *text;
	uint32_t len = 0;

	get_record(in, &len, sizeof(len));
	if (!in->ok || in->left <= len || in->at[len] != '\0')
	{
		in->ok = false;
		return "";
	}
	text = in->at;
	in->at += (size_t) len + 1;
	in->left -= (size_t) len + 1;
	return text;
}

static Cursor
open_message(const void *message, size_t len, A67Frame frame)
{
	Cursor in = {.at = message, .left = len, .ok = len > 0};

	if (in.ok && *in.at == (char) frame)
	{
		in.at++;
		in.left--;
	}
	else
		in.ok = false;
	return in;
}

bool
a67_wire_put_call(A67Buf *buf, const A67Call *call)
{
	char frame = A67_FRAME_CALL;
	CallRecord record = {
		.timeout_ms = call->timeout_ms,
		.status = call->status,
		.body_length = call->body_length,
		.body_kind = call->body_kind,
		.has_body = call->has_body,
		.anonymous = call->anonymous,
		.safe = call->safe,
		.gzip = call->gzip,
		.note = call->note,
		.own = call->own,
	};

	a67_buf_append(buf, &frame, 1);
	a67_buf_append(buf, &record, sizeof(record));
	put_text(buf, call->function);
	put_text(buf, call->body_arg);
	put_text(buf, call->params);
	put_text(buf, call->role);
	put_text(buf, call->claims);
	put_text(buf, call->method);
	put_text(buf, call->path);
	put_text(buf, call->headers);
	put_text(buf, call->request_id);
	put_text(buf, call->address);
	return !buf->failed;
}

void
a67_wire_set_timeout(A67Buf *call, int32_t timeout_ms)
{
	memcpy(call->data + 1 + offsetof(CallRecord, timeout_ms), &timeout_ms, sizeof(timeout_ms));
}

bool
a67_wire_get_call(const void *message, size_t len, A67Call *call)
{
	Cursor in = open_message(message, len, A67_FRAME_CALL);
	CallRecord record = {0};

	get_record(&in, &record, sizeof(record));
	call->timeout_ms = record.timeout_ms;
	call->status = record.status;
	call->body_length = record.body_length;
	call->body_kind = record.body_kind;
	call->has_body = record.has_body != 0;
	call->anonymous = record.anonymous != 0;
	call->safe = record.safe != 0;
	call->gzip = record.gzip != 0;
	call->note = record.note != 0;
	call->own = record.own != 0;
	call->function = get_text(&in);
	call->body_arg = get_text(&in);
	call->params = get_text(&in);
	call->role = get_text(&in);
	call->claims = get_text(&in);
	call->method = get_text(&in);
	call->path = get_text(&in);
	call->headers = get_text(&in);
	call->request_id = get_text(&in);
	call->address = get_text(&in);
	return in.ok && in.left == 0 && record.body_kind <= A67_BODY_RAW;
}

bool
a67_wire_put_head(A67Buf *buf, const A67AnswerHead *head)
{
	char frame = A67_FRAME_HEAD;
	HeadRecord record = {
		.content_length = head->content_length,
		.status = head->status,
		.nfields = head->nfields,
	};

	a67_buf_append(buf, &frame, 1);
	a67_buf_append(buf, &record, sizeof(record));
	for (int i = 0; i < head->nfields; i++)
	{
		put_text(buf, head->fields[i].name);
		put_text(buf, head->fields[i].value);
	}
	return !buf->failed;
}

bool
a67_wire_get_head(const void *message, size_t len, A67AnswerHead *head)
{
	Cursor in = open_message(message, len, A67_FRAME_HEAD);
	HeadRecord record = {0};

	get_record(&in, &record, sizeof(record));
	head->status = record.status;
	head->content_length = record.content_length;
	head->nfields = record.nfields;
	if (!in.ok || record.nfields < 0 || record.nfields > A67_WIRE_HEADERS)
		return false;
	for (int i = 0; i < record.nfields; i++)
	{
		head->fields[i].name = get_text(&in);
		head->fields[i].value = get_text(&in);
	}
	return in.ok && in.left == 0;
}
