/*
 * ws.c: frames, messages and the life of a WebSocket; see ws.h.
 *
 *   OPEN → CLOSING (our close is sent, the peer's is awaited) → DONE (only sending is left) → LINGER
 *   OPEN → DONE (the peer closed first, or broke the protocol)
 * Frames are read by wslay, whose state costs 4 kB: it lives from the first byte of a frame to the
 * end of what was received, so an idle socket has none. Frames to the client need no more than a
 * header in front, which put_frame writes. The queue holds whole frames; head_left knows where
 * the one being sent ends, so that the rest can be thrown away when a client does not read.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#define CONTROL_BYTES 125
#define HEADER_MAX	  10
#define CODE_BYTES	  2

typedef enum WsState
{
	WS_OPEN,
	WS_CLOSING,
	WS_DONE
} WsState;

/* What is needed while frames are coming in. */
typedef struct Reader
{
	wslay_frame_context_ptr frames;
	uint64_t given; /* bytes that wslay has got */
	uint64_t used;	/* bytes of whole frames among them */
	bool in_frame;
	bool final;
	bool ended; /* the peer has ended the connection */
	uint8_t opcode;
	uint64_t left; /* payload of the frame still to come */
	size_t control_len;
	char control[CONTROL_BYTES + 1];
} Reader;

struct A67Ws
{
	const A67WsHandler *handler;
	A67Buf out;
	A67Buf message; /* fragments so far */
	A67Buf early;	/* came behind the request */
	Reader *reader; /* NULL between frames */
	size_t head_left;
	uint16_t code; /* for on_close; 0: none yet */
	uint8_t state; /* WsState */
	bool in_message;
	bool pinged;
};

A67Ws *
a67_engine_ws_new(const A67WsHandler *handler)
{
	A67Ws *ws = calloc(1, sizeof(*ws));

	if (ws == NULL)
		return NULL;
	ws->handler = handler;
	a67_buf_init(&ws->out, A67_WS_QUEUE_BYTES + 2 * (CONTROL_BYTES + HEADER_MAX));
	a67_buf_init(&ws->message, A67_WS_MESSAGE_BYTES);
	return ws;
}

static void
drop_reader(A67Ws *ws)
{
	if (ws->reader == NULL)
		return;
	wslay_frame_context_free(ws->reader->frames);
	free(ws->reader);
	ws->reader = NULL;
}

/* ---- sending ----------------------------------------------------------------------------------- */

/* A frame from server to client: final, not masked. False: no room in the queue, or no memory. */
static bool
put_frame(A67Ws *ws, enum wslay_opcode opcode, const void *payload, size_t len)
{
	unsigned char header[HEADER_MAX] = {(unsigned char) (0x80u | opcode)};
	size_t header_len = 2;
	size_t before = ws->out.len;
	size_t i;

	if (len < 126)
		header[1] = (unsigned char) len;
	else
	{
		header_len = len <= UINT16_MAX ? 4 : HEADER_MAX;
		header[1] = len <= UINT16_MAX ? 126 : 127;
		for (i = 2; i < header_len; i++)
			header[i] = (unsigned char) ((uint64_t) len >> (8 * (header_len - 1 - i)));
	}
	a67_buf_append(&ws->out, header, header_len);
	if (len > 0)
		a67_buf_append(&ws->out, payload, len);
	if (!ws->out.failed)
		return true;
	ws->out.len = before;
	ws->out.failed = false;
	return false;
}

/* Length of the frame of ours that begins there. */
static size_t
frame_len(const char *at)
{
	const unsigned char *header = (const unsigned char *) at;
	size_t header_len = header[1] < 126 ? 2 : header[1] == 126 ? 4 : HEADER_MAX;
	uint64_t len = header[1] < 126 ? header[1] : 0;
	size_t i;

	for (i = 2; i < header_len; i++)
		len = len << 8 | header[i];
	return header_len + (size_t) len;
}

static void
note_sent(A67HttpConn *conn, size_t n)
{
	A67Ws *ws = conn->ws;

	conn->server->stats.bytes_out += n;
	while (n > 0)
	{
		size_t step;

		if (ws->head_left == 0)
			ws->head_left = frame_len(ws->out.data);
		step = n < ws->head_left ? n : ws->head_left;
		a67_buf_consume(&ws->out, step);
		ws->head_left -= step;
		n -= step;
	}
}

/* Sends what the socket takes; true when that was all of something. */
static bool
flush(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;

	if (ws->out.len == 0 || conn->want_write)
		return false;
	while (ws->out.len > 0)
	{
		ssize_t n = a67_io_send(&conn->io, ws->out.data, ws->out.len, false);

		if (n > 0)
			note_sent(conn, (size_t) n);
		else if (n == A67_IO_WANT_WR)
		{
			conn->want_write = true;
			return false;
		}
		else
		{
			conn->doomed = true;
			return false;
		}
	}
	a67_buf_free(&ws->out);
	if (ws->state == WS_OPEN && ws->handler->on_sent != NULL)
		ws->handler->on_sent(conn);
	return true;
}

/* Queues a close frame and waits for the peer's, or for nothing any more. code 0: without one. */
static void
begin_close(A67HttpConn *conn, int code, const char *reason, WsState next)
{
	A67Ws *ws = conn->ws;
	char payload[CODE_BYTES + A67_WS_REASON_BYTES];
	size_t len = strnlen(reason, A67_WS_REASON_BYTES);

	payload[0] = (char) (code >> 8);
	payload[1] = (char) (code & 0xff);
	memcpy(payload + CODE_BYTES, reason, len);
	if (!put_frame(ws, WSLAY_CONNECTION_CLOSE, payload, code == 0 ? 0 : CODE_BYTES + len))
		conn->doomed = true;
	if (ws->code == 0)
		ws->code = (uint16_t) (code != 0 ? code : A67_WS_NO_CODE);
	ws->state = (uint8_t) next;
	conn->state_due = a67_deadline_in(conn->server->now, A67_WS_CLOSE_MS);
	a67_engine_wake(conn);
}

/* The client does not read: what it has not begun to get is thrown away. */
static void
give_up_slow(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;

	size_t keep = ws->head_left;

	/* TLS may have promised a record, which must be offered again as it was. */
	while (conn->io.ssl != NULL && keep < ENGINE_TLS_STEP && keep < ws->out.len)
		keep += frame_len(ws->out.data + keep);
	ws->out.len = keep;
	begin_close(conn, A67_WS_OVERLOAD, "too slow", WS_CLOSING);
}

static bool
has_room(const A67Ws *ws, size_t len)
{
	return len <= A67_WS_QUEUE_BYTES && ws->out.len <= A67_WS_QUEUE_BYTES - len;
}

int
a67_ws_send(A67HttpConn *conn, const char *text, size_t len)
{
	A67Ws *ws = conn->ws;

	if (conn->doomed || ws == NULL || ws->state != WS_OPEN)
		return -EPIPE;
	if (!has_room(ws, len) || !put_frame(ws, WSLAY_TEXT_FRAME, text, len))
	{
		give_up_slow(conn);
		return -ENOBUFS;
	}
	a67_engine_wake(conn);
	return 0;
}

int
a67_ws_close(A67HttpConn *conn, int code, const char *reason)
{
	if (conn->doomed || conn->ws == NULL || conn->ws->state != WS_OPEN)
		return -EPIPE;
	begin_close(conn, code, reason, WS_CLOSING);
	return 0;
}

size_t
a67_ws_pending(const A67HttpConn *conn)
{
	return conn->ws != NULL ? conn->ws->out.len : 0;
}

/* ---- receiving --------------------------------------------------------------------------------- */

/* The peer broke the rules: says so; what else it sends is not understood any more. */
static void
fail(A67HttpConn *conn, int code, const char *reason)
{
	conn->server->stats.client_errors++;
	if (conn->ws->state == WS_OPEN)
		begin_close(conn, code, reason, WS_DONE);
	conn->ws->state = WS_DONE;
}

static ssize_t
receive(uint8_t *buf, size_t len, int flags, void *arg)
{
	A67HttpConn *conn = arg;
	A67Ws *ws = conn->ws;
	ssize_t n;

	if (ws->early.len > 0)
	{
		n = (ssize_t) (len < ws->early.len ? len : ws->early.len);
		memcpy(buf, ws->early.data, (size_t) n);
		a67_buf_consume(&ws->early, (size_t) n);
		if (ws->early.len == 0)
			a67_buf_free(&ws->early);
		ws->reader->given += (uint64_t) n;
		return n;
	}
	if (!conn->readable && !a67_io_has_pending(&conn->io))
		return -1;
	n = a67_io_recv(&conn->io, buf, len);
	if (n <= 0)
	{
		if (n == A67_IO_WANT_RD)
			conn->readable = false;
		else if (n == A67_IO_WANT_WR)
			conn->want_write = true;
		else
			ws->reader->ended = true;
		return -1;
	}
	if ((size_t) n < len)
		conn->readable = false;
	conn->server->stats.bytes_in += (uint64_t) n;
	ws->reader->given += (uint64_t) n;
	return n;
}

static Reader *
make_reader(A67HttpConn *conn)
{
	static const struct wslay_frame_callbacks callbacks = {.recv_callback = receive};
	Reader *reader = calloc(1, sizeof(*reader));

	if (reader == NULL || wslay_frame_context_init(&reader->frames, &callbacks, conn) != 0)
	{
		free(reader);
		conn->doomed = true;
		return NULL;
	}
	conn->ws->reader = reader;
	return reader;
}

static bool
is_control(uint8_t opcode)
{
	return (opcode & 8) != 0;
}

/* Looks at the header of a frame; false when it is not one of a well-behaved client. */
static bool
begin_frame(A67HttpConn *conn, const struct wslay_frame_iocb *frame)
{
	A67Ws *ws = conn->ws;
	uint8_t opcode = frame->opcode;
	bool data = opcode == WSLAY_TEXT_FRAME || opcode == WSLAY_BINARY_FRAME;

	if (!frame->mask)
		fail(conn, A67_WS_PROTOCOL, "frame is not masked");
	else if (frame->rsv != 0)
		fail(conn, A67_WS_PROTOCOL, "reserved bit is set");
	else if (!data && opcode != WSLAY_CONTINUATION_FRAME && opcode != WSLAY_CONNECTION_CLOSE &&
			 opcode != WSLAY_PING && opcode != WSLAY_PONG)
		fail(conn, A67_WS_PROTOCOL, "unknown opcode");
	else if (is_control(opcode) && (!frame->fin || frame->payload_length > CONTROL_BYTES))
		fail(conn, A67_WS_PROTOCOL, "control frame is fragmented or too long");
	else if (!is_control(opcode) && data == ws->in_message)
		fail(conn, A67_WS_PROTOCOL, "fragments are out of order");
	else if (opcode == WSLAY_BINARY_FRAME)
		fail(conn, A67_WS_UNSUPPORTED, "only text is understood");
	else if (!is_control(opcode) && frame->payload_length > a67_buf_room(&ws->message))
		fail(conn, A67_WS_TOO_BIG, "message is too long");
	else
	{
		ws->reader->in_frame = true;
		ws->reader->opcode = opcode;
		ws->reader->final = frame->fin;
		ws->reader->left = frame->payload_length;
		ws->reader->control_len = 0;
		return true;
	}
	return false;
}

static bool
is_sendable_code(int code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != A67_WS_NO_CODE &&
			code != A67_WS_ABNORMAL) ||
		   (code >= 3000 && code <= 4999);
}

static void
take_close(A67HttpConn *conn, const char *payload, size_t len)
{
	A67Ws *ws = conn->ws;
	int code = len < CODE_BYTES ? 0 : (unsigned char) payload[0] << 8 | (unsigned char) payload[1];

	if (len == 1 || (len > 1 && !is_sendable_code(code)))
		fail(conn, A67_WS_PROTOCOL, "close code is not valid");
	else if (len > CODE_BYTES && !a67_utf8_is_valid(payload + CODE_BYTES, len - CODE_BYTES))
		fail(conn, A67_WS_BAD_DATA, "close reason is not UTF-8");
	else if (ws->state == WS_OPEN)
		begin_close(conn, code, "", WS_DONE);
	ws->state = WS_DONE;
}

static void
take_message(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;
	A67Buf message = ws->message;

	/* Out of the socket's hands first: the handler may close it. */
	a67_buf_init(&ws->message, A67_WS_MESSAGE_BYTES);
	ws->in_message = false;
	if (ws->state == WS_OPEN && !a67_utf8_is_valid(a67_buf_text(&message), message.len))
		fail(conn, A67_WS_BAD_DATA, "message is not UTF-8");
	else if (ws->state == WS_OPEN)
		ws->handler->on_message(conn, a67_buf_text(&message), message.len);
	a67_buf_free(&message);
}

static void
end_frame(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;
	Reader *reader = ws->reader;

	reader->in_frame = false;
	if (ws->state == WS_OPEN)
	{
		ws->pinged = false;
		conn->state_due = a67_deadline_in(conn->server->now, A67_WS_PING_MS);
	}
	if (reader->opcode == WSLAY_CONNECTION_CLOSE)
		take_close(conn, reader->control, reader->control_len);
	else if (reader->opcode == WSLAY_PING && ws->state == WS_OPEN &&
			 (!has_room(ws, reader->control_len) ||
			  !put_frame(ws, WSLAY_PONG, reader->control, reader->control_len)))
		give_up_slow(conn);
	else if (!is_control(reader->opcode) && reader->final)
		take_message(conn);
	else if (!is_control(reader->opcode))
		ws->in_message = true;
}

/* Takes the piece of payload that wslay has unmasked. */
static void
take_piece(A67HttpConn *conn, const struct wslay_frame_iocb *frame)
{
	A67Ws *ws = conn->ws;
	Reader *reader = ws->reader;
	size_t len = frame->data_length;

	if (!reader->in_frame && !begin_frame(conn, frame))
		return;
	if (is_control(reader->opcode) && len > 0)
	{
		memcpy(reader->control + reader->control_len, frame->data, len);
		reader->control_len += len;
	}
	else if (len > 0 && !a67_buf_append(&ws->message, frame->data, len))
	{
		conn->doomed = true;
		return;
	}
	reader->left -= len;
	if (reader->left > 0)
		return;
	/* The header: two bytes, a longer length, the mask. wslay accepts the shortest length only. */
	reader->used += frame->payload_length + 2 + 4 +
					(frame->payload_length < 126		   ? 0
					 : frame->payload_length <= UINT16_MAX ? 2
														   : 8);
	end_frame(conn);
}

/* Reads one piece of a frame; false when nothing has come. */
static bool
read_frames(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;
	Reader *reader = ws->reader;
	struct wslay_frame_iocb frame;
	ssize_t n;

	if (reader == NULL && ws->early.len == 0 && !conn->readable && !a67_io_has_pending(&conn->io))
		return false;
	if (reader == NULL)
		reader = make_reader(conn);
	if (reader == NULL)
		return false;
	memset(&frame, 0, sizeof(frame));
	n = wslay_frame_recv(reader->frames, &frame);
	if (n == WSLAY_ERR_WANT_READ)
	{
		if (reader->ended)
			conn->doomed = true;
		else if (reader->given == reader->used)
			drop_reader(ws);
		return false;
	}
	if (n >= 0)
		take_piece(conn, &frame);
	else
		fail(conn, A67_WS_PROTOCOL, "malformed frame");
	return true;
}

/* ---- life -------------------------------------------------------------------------------------- */

bool
a67_engine_ws_begin(A67HttpConn *conn, const char *early, size_t len)
{
	int bytes = A67_WS_KERNEL_BYTES;

	/* Or megabytes would wait in the kernel for a client that does not read. */
	(void) setsockopt(conn->io.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	a67_buf_init(&conn->ws->early, len);
	conn->state = CONN_WS;
	conn->state_due =
		a67_deadline_in(conn->server->now,
						conn->ws->state == WS_OPEN ? A67_WS_PING_MS : A67_WS_CLOSE_MS);
	return len == 0 || a67_buf_append(&conn->ws->early, early, len);
}

bool
a67_engine_ws_step(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;

	if (conn->server->draining && ws->state == WS_OPEN)
		begin_close(conn, A67_WS_GOING_AWAY, "server is stopping", WS_CLOSING);
	if (flush(conn))
		return true;
	if (conn->doomed)
		return false;
	if (ws->state != WS_DONE)
		return read_frames(conn);
	drop_reader(ws);
	if (ws->out.len > 0)
		return a67_engine_discard(conn);
	/* Input left unread would turn the close into a reset, which may overtake the close frame. */
	a67_io_shutdown(&conn->io);
	conn->state = CONN_LINGER;
	conn->state_due = a67_deadline_in(conn->server->now, conn->server->config.linger_ms);
	conn->readable = true;
	return true;
}

void
a67_engine_ws_timeout(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;

	if (ws->state == WS_OPEN && !ws->pinged)
	{
		ws->pinged = true;
		conn->state_due = a67_deadline_in(conn->server->now, A67_WS_PONG_MS);
		/* A queue that is full needs no ping: it is a question of its own. */
		if (has_room(ws, 0))
			(void) put_frame(ws, WSLAY_PING, "", 0);
		return;
	}
	conn->server->stats.timeouts++;
	conn->doomed = true;
}

void
a67_engine_ws_free(A67HttpConn *conn)
{
	A67Ws *ws = conn->ws;

	/* Last words, as far as they can be said without waiting. */
	if (conn->state == CONN_WS && ws->state == WS_OPEN && ws->out.len == 0 &&
		put_frame(ws, WSLAY_CONNECTION_CLOSE, "\x03\xe9", CODE_BYTES))
		(void) a67_io_send(&conn->io, ws->out.data, ws->out.len, false);
	ws->state = WS_DONE;
	ws->handler->on_close(conn, ws->code != 0 ? ws->code : A67_WS_ABNORMAL);
	drop_reader(ws);
	a67_buf_free(&ws->out);
	a67_buf_free(&ws->message);
	a67_buf_free(&ws->early);
	free(ws);
	conn->ws = NULL;
}
