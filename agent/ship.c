/*
 * ship.c - batches of output and what the controller says to them.  See ship.h and docs/protocol.md.
 *
 * A piece ends with a line where it can: what has no end yet waits a second for it.  What was given up in
 * front of a piece is told with it (`missing`), so that nobody takes two ends for one line.
 */
#include "ship.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "clock.h"
#include "report.h"

#define PATH			"/api/v1/nodes/logs"
#define BATCH_BYTES		(256 * 1024)
#define BATCH_LEAST		(8 * 1024)
#define PIECE_BYTES		(32 * 1024)
#define SHARE_LEAST		(4 * 1024)
#define BODY_MAX		(512 * 1024)
#define ANSWER_MAX		(64 * 1024)
#define TOTAL_MS		30000
#define IDLE_MS			10000
#define GAP_MS			250	  /* between two batches */
#define FULL_GAP_MS		100	  /* when there is more: a node may send 10 a second */
#define LINE_WAIT_MS	1000  /* for the end of a line */
#define UNWANTED_MS		60000 /* until the controller is asked again */
#define BACKOFF_BASE_MS 500
#define BACKOFF_CAP_MS	60000
#define FIRST_RATE		(256 * 1024)
#define RATE_MAX		(INT64_C(1) << 30)

void
a67_ship_open(A67Ship *ship, A67Logs *logs, A67Control *control, struct ssl_ctx_st *tls)
{
	uint64_t seed;

	memset(ship, 0, sizeof(*ship));
	ship->logs = logs;
	ship->control = control;
	ship->tls = tls;
	ship->batch_bytes = BATCH_BYTES;
	ship->rate = FIRST_RATE;
	ship->poll_at = -1;
	randombytes_buf(&seed, sizeof(seed));
	a67_backoff_init(&ship->backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS, seed);
}

/* Nothing is on its way any more. */
static void
settle(A67Ship *ship)
{
	for (size_t i = 0; i < ship->logs->count; i++)
		ship->logs->items[i]->sent_to = 0;
}

/* An agent whose apps are silent holds no connection and no buffers for them. */
static void
hang_up(A67Ship *ship)
{
	settle(ship);
	a67_http_client_free(ship->client);
	free(ship->body);
	ship->client = NULL;
	ship->body = NULL;
}

void
a67_ship_close(A67Ship *ship)
{
	/* A start that failed early has not opened it. */
	if (ship->logs != NULL)
		hang_up(ship);
}

/* ---- what there is to send ---- */

static int64_t
cursor_of(const A67AppLog *log)
{
	return log->acked > log->start ? log->acked : log->start;
}

/* Bytes that can go now; the last line only when it is whole, or nothing has come for a while. */
static bool
has_output(const A67AppLog *log)
{
	return !log->unwanted && cursor_of(log) < log->end;
}

typedef struct Piece
{
	const A67AppLog *log;
	int64_t after; /* where the one before it ended, as far as the controller knows */
	int64_t offset;
	const char *bytes;
	size_t len;
} Piece;

/* Where a piece that could end at `len` does: behind its last line, if there is one. */
static size_t
line_end(const Piece *piece, size_t len, bool more)
{
	const char *last = memrchr(piece->bytes, '\n', len);
	int64_t age_ms = a67_clock_wall_ms() - a67_applog_seen_ms(piece->log, piece->offset);
	bool waits = !more && piece->log->gone_ms == A67_NEVER && age_ms >= 0 && age_ms < LINE_WAIT_MS;

	if (last != NULL && (more || waits))
		return (size_t) (last - piece->bytes) + 1;
	return waits && len < PIECE_BYTES ? 0 : len;
}

static void
append_base64(A67Buf *out, const char *bytes, size_t len)
{
	size_t size = sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL);

	if (!a67_buf_reserve(out, size))
		return;
	(void) sodium_bin2base64(out->data + out->len, size, (const unsigned char *) bytes, len,
							 sodium_base64_VARIANT_ORIGINAL);
	a67_buf_commit(out, size - 1);
}

static void
append_piece(A67Buf *out, const Piece *piece)
{
	char at[A67_TIME_SIZE];

	a67_clock_format(a67_applog_seen_ms(piece->log, piece->offset), at);
	(void) a67_buf_append_fmt(out,
							  "%s{\"replica\":\"%s\",\"offset\":%lld,\"missing\":%lld,"
							  "\"at\":\"%s\",\"data\":\"",
							  out->data[out->len - 1] == '[' ? "" : ",", piece->log->id,
							  (long long) piece->offset, (long long) (piece->offset - piece->after),
							  at);
	append_base64(out, piece->bytes, piece->len);
	(void) a67_buf_append_str(out, "\"}");
}

/* Up to `share` bytes of one log; returns how many were taken. */
static size_t
append_log(const A67Ship *ship, A67AppLog *log, size_t share, A67Buf *out)
{
	char *text = malloc(PIECE_BYTES);
	int fd = a67_applog_open_read(ship->logs->dir, log->id);
	Piece piece = {.log = log, .after = log->acked, .offset = cursor_of(log), .bytes = text};
	size_t taken = 0;

	while (text != NULL && fd >= 0 && taken < share && piece.offset < log->end)
	{
		int64_t left = log->end - piece.offset;
		size_t want = share - taken < PIECE_BYTES ? share - taken : PIECE_BYTES;
		ssize_t n = a67_applog_read(log, fd, piece.offset, text,
									left < (int64_t) want ? (size_t) left : want);

		if (n <= 0)
			break;
		piece.len = line_end(&piece, (size_t) n, n < left);
		if (piece.len == 0)
			break;
		append_piece(out, &piece);
		piece.offset += (int64_t) piece.len;
		piece.after = piece.offset;
		taken += piece.len;
	}
	if (taken > 0)
	{
		log->sent_to = piece.offset;
		log->sent_from = piece.offset - (int64_t) taken;
	}
	if (fd >= 0)
		(void) close(fd);
	free(text);
	return taken;
}

/* Fills a batch, going round; returns the bytes of output in it. */
static size_t
build(A67Ship *ship, A67Buf *out)
{
	A67Logs *logs = ship->logs;
	size_t busy = 0;
	size_t taken = 0;
	size_t share;

	for (size_t i = 0; i < logs->count; i++)
		busy += has_output(logs->items[i]);
	(void) a67_buf_append_str(out, "{\"chunks\":[");
	if (busy == 0 || ship->rate == 0 || out->failed)
	{
		(void) a67_buf_append_str(out, "]}");
		return 0;
	}
	share = ship->batch_bytes / busy < SHARE_LEAST ? SHARE_LEAST : ship->batch_bytes / busy;
	for (size_t i = 0; i < logs->count && taken < ship->batch_bytes; i++)
	{
		A67AppLog *log = logs->items[(ship->turn + i) % logs->count];

		if (has_output(log))
			taken += append_log(ship, log, share, out);
	}
	ship->turn = (ship->turn + 1) % logs->count;
	(void) a67_buf_append_str(out, "]}");
	return out->failed ? 0 : taken;
}

/* ---- sending ---- */

static void
trouble(A67Ship *ship, const A67Why *why, int64_t now_ms)
{
	if (strcmp(ship->problem.text, why->text) != 0)
		a67_log(A67_LOG_WARNING, "%s", why->text);
	ship->problem = *why;
	ship->failures++;
	ship->due_ms = a67_deadline_in(now_ms, a67_backoff_next(&ship->backoff));
	hang_up(ship);
}

static bool
make_client(A67Ship *ship)
{
	const A67Identity *identity = ship->control->identity;
	A67HttpClientConfig config;

	if (ship->client != NULL)
		return true;
	a67_http_client_defaults(&config);
	config.tls = ship->tls;
	config.pin = identity->tls_pinned ? identity->tls_pin : NULL;
	config.max_body = ANSWER_MAX;
	config.total_ms = TOTAL_MS;
	config.idle_ms = IDLE_MS;
	config.keep_alive = true;
	ship->client = a67_http_client_new(&config);
	return ship->client != NULL;
}

static int
post(A67Ship *ship, size_t len, int64_t now_ms)
{
	const A67Identity *identity = ship->control->identity;
	A67HttpUrl url;
	char bearer[A67_NODE_TOKEN_SIZE + 16];
	char target[A67_URL_SIZE + 64];
	A67HttpField headers[] = {
		{"Content-Type", "application/json"},
		{"User-Agent", "a67-agent/" A67_VERSION},
		{"Authorization", bearer},
		{NULL, NULL},
	};
	A67HttpClientRequest order = {.url = &url, .method = "POST", .headers = headers};
	int base;
	int err = a67_http_url_parse(identity->controller_url, &url);

	if (err != 0 || !make_client(ship))
		return err != 0 ? err : -ENOMEM;
	base = (int) url.path.len;
	while (base > 0 && url.path.at[base - 1] == '/')
		base--;
	(void) snprintf(target, sizeof(target), "%.*s" PATH, base, url.path.at);
	(void) snprintf(bearer, sizeof(bearer), "Bearer %s", identity->node_token);
	order.path.at = target;
	order.path.len = strlen(target);
	order.body = ship->body;
	order.body_len = len;
	err = a67_http_client_start(ship->client, &order, now_ms);
	sodium_memzero(bearer, sizeof(bearer));
	return err;
}

/* Sends a batch if there is anything for one. */
static void
begin(A67Ship *ship, int64_t now_ms)
{
	A67Buf body;
	A67Why why;
	size_t taken;
	int64_t gap_ms;
	int err;

	a67_buf_init(&body, BODY_MAX);
	taken = build(ship, &body);
	/* With nothing wanted an empty batch asks whether that is still so. */
	if (taken == 0 && (ship->rate > 0 || body.failed))
	{
		a67_buf_free(&body);
		ship->due_ms = a67_deadline_in(now_ms, GAP_MS);
		return;
	}
	free(ship->body);
	ship->body = malloc(body.len + 1);
	if (ship->body != NULL)
		memcpy(ship->body, body.data, body.len);
	err = ship->body != NULL ? post(ship, body.len, now_ms) : -ENOMEM;
	a67_buf_free(&body);
	/* The rate is kept by the pause after a batch. */
	gap_ms = taken < ship->batch_bytes / 2 ? GAP_MS : FULL_GAP_MS;
	if (ship->rate > 0 && (int64_t) taken * 1000 / ship->rate > gap_ms)
		gap_ms = (int64_t) taken * 1000 / ship->rate;
	ship->due_ms = a67_deadline_in(now_ms, gap_ms);
	if (err == 0)
		return;
	(void) a67_why(&why, err, "logs: %.250s",
				   ship->client == NULL ? "out of memory" : a67_http_client_error(ship->client));
	trouble(ship, &why, now_ms);
}

/* ---- answers ---- */

/* What the controller has of each replica, and which it does not know. */
static bool
take_answer(A67Ship *ship, const char *body, size_t len)
{
	json_t *doc = json_loadb(body != NULL ? body : "", len, JSON_REJECT_DUPLICATES, NULL);
	json_t *rate = json_object_get(doc, "rate");
	const char *id;
	json_t *value;
	size_t i;
	A67AppLog *log;

	if (!json_is_integer(rate) || json_integer_value(rate) < 0)
	{
		json_decref(doc);
		return false;
	}
	ship->rate = json_integer_value(rate) < RATE_MAX ? json_integer_value(rate) : RATE_MAX;
	ship->logs->shipped = ship->rate > 0;
	json_object_foreach(json_object_get(doc, "next"), id, value)
	{
		log = a67_logs_find(ship->logs, id);
		if (log != NULL && json_is_integer(value) && json_integer_value(value) >= 0)
			a67_applog_ack(ship->logs->dir, log, json_integer_value(value));
	}
	json_array_foreach(json_object_get(doc, "unknown"), i, value)
	{
		log = json_is_string(value) ? a67_logs_find(ship->logs, json_string_value(value)) : NULL;
		if (log != NULL)
			log->unwanted = true;
	}
	json_decref(doc);
	return true;
}

static void
answered(A67Ship *ship, int64_t now_ms)
{
	int status = a67_http_client_response(ship->client)->status;
	size_t len = 0;
	const char *body = a67_http_client_body(ship->client, &len);
	bool taken;
	A67Why why;

	free(ship->body);
	ship->body = NULL;
	taken = status == 200 && take_answer(ship, body, len);
	settle(ship);
	if (taken)
	{
		ship->batches++;
		ship->problem.text[0] = '\0';
		a67_backoff_reset(&ship->backoff);
		if (ship->rate == 0)
		{
			hang_up(ship);
			ship->due_ms = a67_deadline_in(now_ms, UNWANTED_MS);
		}
		return;
	}
	if (status == 404 || status == 405)
	{
		/* A controller of a time before logs. */
		ship->rate = 0;
		ship->logs->shipped = false;
		hang_up(ship);
		ship->due_ms = a67_deadline_in(now_ms, UNWANTED_MS);
		return;
	}
	if (status == 413 && ship->batch_bytes > BATCH_LEAST)
	{
		ship->batch_bytes /= 2;
		return;
	}
	a67_report_refusal("output", status, body, len, &why);
	trouble(ship, &why, now_ms);
}

static bool
is_open(const A67Ship *ship)
{
	return ship->control->state == A67_CONTROL_JOINED && ship->control->identity->registered;
}

static bool
has_work(const A67Ship *ship)
{
	if (ship->rate == 0)
		return ship->logs->count > 0;
	for (size_t i = 0; i < ship->logs->count; i++)
		if (has_output(ship->logs->items[i]))
			return true;
	return false;
}

void
a67_ship_prepare(A67Ship *ship, A67PollSet *set, int64_t now_ms)
{
	int64_t wait;

	ship->poll_at = -1;
	if (ship->body != NULL)
	{
		ship->poll_at = a67_poll_add(set, a67_http_client_fd(ship->client),
									 a67_http_client_events(ship->client));
		wait = a67_http_client_next_deadline(ship->client, now_ms);
		if (wait >= 0)
			a67_poll_until(set, a67_deadline_in(now_ms, wait));
	}
	else if (is_open(ship) && has_work(ship))
		a67_poll_until(set, ship->due_ms);
}

void
a67_ship_step(A67Ship *ship, const A67PollSet *set, int64_t now_ms)
{
	A67Why why;

	if (ship->body == NULL)
	{
		if (is_open(ship) && a67_deadline_expired(ship->due_ms, now_ms) && has_work(ship))
			begin(ship, now_ms);
		return;
	}
	if (!a67_poll_ready(set, ship->poll_at) &&
		a67_http_client_next_deadline(ship->client, now_ms) != 0)
		return;
	switch (a67_http_client_step(ship->client, now_ms))
	{
		case A67_HTTP_CLIENT_BUSY:
			break;
		case A67_HTTP_CLIENT_DONE:
			answered(ship, now_ms);
			break;
		default:
			(void) a67_why(&why, -EIO, "logs: %.250s", a67_http_client_error(ship->client));
			trouble(ship, &why, now_ms);
			break;
	}
}
