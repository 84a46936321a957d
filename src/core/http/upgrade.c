/*
 * upgrade.c: from an HTTP request to a WebSocket: RFC 6455, section 4.2.
 *
 * Decides whether a request is a proper opening handshake and writes the 101; which subprotocol to
 * take, and whether to let the client in at all, is the handler's decision. Frames are ws.c's.
 */
#include "engine.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define KEY_CHARS	 24 /* 16 bytes in base64 */
#define ACCEPT_BYTES 20
#define ACCEPT_SIZE	 29
#define HEADER_BYTES 8192 /* of one header's values together */

static bool
is_key(A67HttpStr key)
{
	unsigned char bytes[KEY_CHARS];
	char again[KEY_CHARS + 1];

	/* Encoding it again refuses stray bits and foreign characters, which decoding lets pass. */
	return key.len == KEY_CHARS && key.at[KEY_CHARS - 2] == '=' && key.at[KEY_CHARS - 1] == '=' &&
		   EVP_DecodeBlock(bytes, (const unsigned char *) key.at, KEY_CHARS) == 18 &&
		   EVP_EncodeBlock((unsigned char *) again, bytes, 16) == KEY_CHARS &&
		   memcmp(again, key.at, KEY_CHARS) == 0;
}

static int
count_headers(const A67HttpHead *req, const char *name)
{
	int count = 0;
	size_t i;

	for (i = 0; i < req->nheaders; i++)
		count += a67_http_str_is_nocase(req->headers[i].name, name);
	return count;
}

static bool
is_separator(char c)
{
	return c == ',' || c == ' ' || c == '\t';
}

/* The next item of a comma-separated list, from *at on; false at its end. */
static bool
next_item(A67HttpStr list, size_t *at, A67HttpStr *item)
{
	size_t end;

	while (*at < list.len && is_separator(list.at[*at]))
		(*at)++;
	item->at = list.at + *at;
	for (end = *at; end < list.len && list.at[end] != ','; end++)
		;
	item->len = end - *at;
	*at = end;
	while (item->len > 0 && is_separator(item->at[item->len - 1]))
		item->len--;
	return item->len > 0;
}

static bool
offers_websocket(A67HttpStr upgrade)
{
	A67HttpStr item;
	size_t at = 0;

	while (upgrade.at != NULL && next_item(upgrade, &at, &item))
		if (a67_http_str_is_nocase(item, "websocket"))
			return true;
	return false;
}

int
a67_ws_check(const A67HttpHead *req, const char **why)
{
	const A67HttpStr *version = a67_http_header(req, "Sec-WebSocket-Version");
	const A67HttpStr *key = a67_http_header(req, "Sec-WebSocket-Key");

	*why = NULL;
	if (req->method != A67_HTTP_GET)
	{
		*why = "a WebSocket begins with GET";
		return 405;
	}
	if (!offers_websocket(req->upgrade) || version == NULL || !a67_http_str_is(*version, "13"))
	{
		*why = "this path speaks WebSocket version 13 only";
		return 426;
	}
	if (req->chunked || req->content_length > 0)
		*why = "a WebSocket does not begin with a body";
	else if (key == NULL || !is_key(*key) || count_headers(req, "Sec-WebSocket-Key") > 1 ||
			 count_headers(req, "Sec-WebSocket-Version") > 1)
		*why = "Sec-WebSocket-Key is not 16 bytes in base64";
	return *why != NULL ? 400 : 0;
}

bool
a67_ws_next_protocol(const A67HttpHead *req, size_t *cursor, A67HttpStr *protocol)
{
	size_t header = *cursor / HEADER_BYTES;
	size_t at = *cursor % HEADER_BYTES;

	/* The cursor holds the number of the header line and the place in it. */
	for (; header < req->nheaders; header++, at = 0)
	{
		A67HttpStr value = req->headers[header].value;

		if (!a67_http_str_is_nocase(req->headers[header].name, "Sec-WebSocket-Protocol") ||
			value.len >= HEADER_BYTES || !next_item(value, &at, protocol))
			continue;
		*cursor = header * HEADER_BYTES + at;
		return true;
	}
	return false;
}

static bool
make_accept(const A67HttpHead *req, char out[ACCEPT_SIZE])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[KEY_CHARS + sizeof(guid)];
	unsigned char digest[ACCEPT_BYTES];
	unsigned int len = 0;

	memcpy(text, a67_http_header(req, "Sec-WebSocket-Key")->at, KEY_CHARS);
	memcpy(text + KEY_CHARS, guid, sizeof(guid));
	return EVP_Digest(text, sizeof(text) - 1, digest, &len, EVP_sha1(), NULL) == 1 &&
		   EVP_EncodeBlock((unsigned char *) out, digest, ACCEPT_BYTES) == ACCEPT_SIZE - 1;
}

static int
write_answer(A67HttpConn *conn, const char *accept, A67HttpStr protocol,
			 const A67HttpField *headers)
{
	A67Buf *out = &conn->ex->out;
	size_t before = out->len;

	a67_buf_append_fmt(out,
					   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
					   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
					   accept);
	if (protocol.at != NULL)
		a67_buf_append_fmt(out, "Sec-WebSocket-Protocol: %.*s\r\n", (int) protocol.len,
						   protocol.at);
	for (; headers != NULL && headers->name != NULL; headers++)
		a67_buf_append_fmt(out, "%s: %s\r\n", headers->name, headers->value);
	if (conn->ex->extra.len > 0)
		a67_buf_append(out, conn->ex->extra.data, conn->ex->extra.len);
	if (a67_buf_append_str(out, "\r\n"))
		return 0;
	out->len = before;
	out->failed = false;
	return -ENOMEM;
}

int
a67_ws_accept(A67HttpConn *conn, A67HttpStr protocol, const A67HttpField *headers,
			  const A67WsHandler *handler)
{
	char accept[ACCEPT_SIZE];
	const A67HttpField *field;
	const char *why;
	int rc;

	if (conn->doomed)
		return -EPIPE;
	if (conn->ex == NULL || !conn->ex->head_given || conn->ex->answer != ANSWER_NONE)
		return -EPROTO;
	if (a67_ws_check(&conn->ex->head, &why) != 0 || !make_accept(&conn->ex->head, accept))
		return -EINVAL;
	for (field = headers; field != NULL && field->name != NULL; field++)
		if (!a67_http_field_is_valid(field))
			return -EINVAL;
	conn->ws = a67_engine_ws_new(handler);
	if (conn->ws == NULL)
		return -ENOMEM;
	rc = write_answer(conn, accept, protocol, headers);
	if (rc < 0)
	{
		free(conn->ws);
		conn->ws = NULL;
		return rc;
	}
	/* conn.c hands over to ws.c when the 101 is out; the request's handle dies now. */
	conn->ex->answer = ANSWER_ENDED;
	conn->state = CONN_ANSWER;
	a67_engine_expire_handle(conn);
	a67_engine_wake(conn);
	return 0;
}
