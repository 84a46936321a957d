/*
 * response.c: reads one response for the client: interim heads, the final head, its body.
 *
 * As strict as the server: a response framed ambiguously is a failure, not a guess. A body without
 * length or chunks ends with the connection; one with a length must have it.
 */
#include "peer.h"

#include <errno.h>
#include <string.h>

void
a67_client_expect_response(A67HttpClient *client)
{
	a67_buf_reset(&client->in);
	a67_http_chunked_init(&client->chunked);
	client->seen = 0;
	client->head_len = 0;
	client->taken = 0;
	client->interim = 0;
	client->body_bytes = 0;
	client->streaming = false;
	client->until_close = false;
	client->send_broken = false;
}

static bool
has_no_body(const A67HttpClient *client)
{
	return client->head_only || client->head.status == 204 || client->head.status == 304;
}

/* Passes a piece of body on; false when the request has failed. */
static bool
deliver(A67HttpClient *client, const char *data, size_t len)
{
	client->body_bytes += len;
	if (client->streaming)
	{
		if (client->body_bytes > client->config.max_stream)
			a67_client_fail(client, "response body is larger than %llu bytes",
							(unsigned long long) client->config.max_stream);
		else if (client->on_body(client->arg, data, len) != 0)
			a67_client_fail(client, "response body was not taken");
	}
	else if (!a67_buf_append(&client->body, data, len))
		a67_client_fail(client, "response body is larger than %zu bytes", client->config.max_body);
	return client->state == A67_HTTP_CLIENT_BUSY;
}

/* Decodes one piece of what `in` holds behind the head. */
static void
decode(A67HttpClient *client)
{
	const char *at = client->in.data + client->taken;
	size_t len = client->in.len - client->taken;
	A67HttpStr piece;
	size_t used;
	int rc;

	if (!client->head.chunked)
	{
		uint64_t left = client->until_close
							? UINT64_MAX
							: (uint64_t) client->head.content_length - client->body_bytes;

		piece.len = left < len ? (size_t) left : len;
		client->taken += piece.len;
		if (deliver(client, at, piece.len) && !client->until_close &&
			client->body_bytes == (uint64_t) client->head.content_length)
			a67_client_done(client);
		return;
	}
	rc = a67_http_chunked_next(&client->chunked, at, len, &piece, &used);
	client->taken += used;
	if (rc == A67_HTTP_CHUNK_DATA)
		(void) deliver(client, piece.at, piece.len);
	else if (rc == A67_HTTP_CHUNK_END)
		a67_client_done(client);
	else if (rc < 0)
		a67_client_fail(client, "malformed chunked body in the response");
}

static void
decode_all(A67HttpClient *client)
{
	while (client->state == A67_HTTP_CLIENT_BUSY && client->head_len > 0 &&
		   client->taken < client->in.len)
		decode(client);
}

/* A final head: settles how the body is framed. */
static void
head_done(A67HttpClient *client, size_t len)
{
	const char *before = client->in.data;
	const A67HttpHead *head = &client->head;

	client->head_len = len;
	client->taken = len;
	if (has_no_body(client) || (!head->chunked && head->content_length == 0))
	{
		a67_client_done(client);
		return;
	}
	client->until_close = !head->chunked && head->content_length < 0;
	client->streaming = client->on_body != NULL && head->status >= 200 && head->status <= 299;
	if (client->in.len - len < CLIENT_BODY_READ &&
		!a67_buf_reserve(&client->in, CLIENT_BODY_READ - (client->in.len - len)))
		a67_client_fail(client, "out of memory");
	else if (client->in.data != before &&
			 a67_http_parse_response(client->in.data, client->in.len, 0, NULL, &client->head) < 0)
		a67_client_fail(client, "malformed response");
}

static void
parse_head(A67HttpClient *client)
{
	int rc =
		a67_http_parse_response(client->in.data, client->in.len, client->seen, NULL, &client->head);

	client->seen = client->in.len;
	if (rc == A67_HTTP_INCOMPLETE)
		return;
	if (rc < 0)
		a67_client_fail(client, "malformed response: %s", client->head.error);
	else if (client->head.status >= 200)
		head_done(client, (size_t) rc);
	else if (client->head.status == 101 || ++client->interim > A67_HTTP_CLIENT_INTERIM)
		a67_client_fail(client, "unexpected interim response %d", client->head.status);
	else
	{
		a67_buf_consume(&client->in, (size_t) rc);
		client->seen = 0;
		if (client->in.len > 0)
			parse_head(client);
	}
}

static void
end_of_input(A67HttpClient *client, ssize_t result)
{
	int saved = errno;

	if (result == A67_IO_EOF && client->head_len > 0 && client->until_close)
		a67_client_done(client);
	else if (result == A67_IO_EOF)
		a67_client_fail(client, "connection to %s:%u ended before the response was complete",
						client->host, client->port);
	else
		a67_client_fail(client, "connection to %s:%u broke: %s", client->host, client->port,
						strerror(saved));
}

bool
a67_client_receive(A67HttpClient *client)
{
	size_t room = CLIENT_FIRST_READ;
	ssize_t n;

	if (client->head_len > 0)
	{
		/* All of it has been decoded: the room behind the head is free again. */
		client->in.len = client->head_len;
		client->taken = client->head_len;
		room = client->in.cap - client->in.head - client->in.len - 1;
	}
	if (!a67_buf_reserve(&client->in, room))
	{
		a67_client_fail(client, "out of memory");
		return true;
	}
	n = a67_io_recv(&client->io, client->in.data + client->in.len, room);
	if (n == A67_IO_WANT_RD || n == A67_IO_WANT_WR)
		return false;
	if (n <= 0)
	{
		end_of_input(client, n);
		return true;
	}
	a67_buf_commit(&client->in, (size_t) n);
	client->idle_due = a67_deadline_in(client->now, client->config.idle_ms);
	if (client->head_len == 0)
		parse_head(client);
	decode_all(client);
	return true;
}
