/*
 * reply.c: the listener's own answers; see reply.h.
 *
 * An answer that the engine does not take (the connection is ending, memory is short) is given up: the
 * engine closes such a connection. Called by service.c and dispatch.c.
 */
#include "listener/reply.h"

#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "core/encode.h"
#include "core/pace.h"

#define BODY_MAX 4096

static bool
id_is_sane(const A67HttpStr *id)
{
	if (id->len == 0 || id->len >= A67_REQUEST_ID_SIZE)
		return false;
	for (size_t i = 0; i < id->len; i++)
	{
		char c = id->at[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '-' || c == '_' || c == '.'))
			return false;
	}
	return true;
}

void
a67_request_id_new(uint64_t *random, char id[A67_REQUEST_ID_SIZE])
{
	uint64_t bytes[] = {a67_random_next(random), a67_random_next(random)};

	(void) a67_hex_encode(bytes, sizeof(bytes), id, A67_REQUEST_ID_SIZE);
}

void
a67_request_id(const A67HttpHead *head, uint64_t *random, char id[A67_REQUEST_ID_SIZE])
{
	const A67HttpStr *given = a67_http_header(head, A67_REQUEST_ID);

	if (given != NULL && id_is_sane(given))
	{
		memcpy(id, given->at, given->len);
		id[given->len] = '\0';
		return;
	}
	a67_request_id_new(random, id);
}

static void
append_member(A67Buf *json, const char *name, const char *value)
{
	a67_buf_append_fmt(json, "%c\"%s\":", json->len == 0 ? '{' : ',', name);
	if (value == NULL)
		a67_buf_append_str(json, "null");
	else
		a67_buf_append_json_string(json, value, strlen(value));
}

static void
respond(A67HttpConn *conn, int status, const A67HttpField *headers, const void *body, size_t len)
{
	int rc = a67_http_respond(conn, status, headers, body, len);

	if (rc < 0)
		a67_http_respond_abort(conn);
}

void
a67_reply_refuse(A67HttpConn *conn, const A67Refusal *refusal)
{
	A67HttpField headers[] = {{"Content-Type", "application/json; charset=utf-8"},
							  refusal->extra,
							  {NULL, NULL}};
	char code[16];
	A67Buf json;

	(void) snprintf(code, sizeof(code), "HTTP%03d", refusal->status);
	a67_buf_init(&json, BODY_MAX);
	append_member(&json, "code", refusal->code != NULL ? refusal->code : code);
	append_member(&json, "message", refusal->message);
	append_member(&json, "details", refusal->details);
	append_member(&json, "hint", NULL);
	a67_buf_append_str(&json, "}");
	respond(conn, refusal->status, headers, a67_buf_text(&json), json.len);
	a67_buf_free(&json);
}

void
a67_reply_json(A67HttpConn *conn, int status, const char *json)
{
	A67HttpField headers[] = {{"Content-Type", "application/json; charset=utf-8"}, {NULL, NULL}};

	respond(conn, status, headers, json, strlen(json));
}

void
a67_reply_empty(A67HttpConn *conn, int status, A67HttpField extra)
{
	A67HttpField headers[] = {extra, {NULL, NULL}};

	respond(conn, status, headers, "", 0);
}
