/*
 * chunk_serve.c - requests for chunks.  See chunk_serve.h and docs/protocol.md.
 *
 * A PUT lives as an Upload from its head until the flush that has made it durable, a DELETE as a
 * Deletion until then; a GET only as long as its chunk has to be hashed first.  Each of them is found
 * by the engine's handle, never by a kept connection.
 */
#include "chunk_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chunk_range.h"
#include "clock.h"
#include "core/buf.h"

#define UPLOADS_MAX		32 /* half of the clients: commands get through */
#define READERS_MAX		32
#define BODY_MS			15000
#define BODY_BYTES_A_MS 32	 /* slower uploads are cut off */
#define HASHING_US		4000 /* a turn of the loop */
#define COUNTING_US		4000
#define RETRY_MS		5 /* for bytes that come from the disk */
#define LIST_MAX_BYTES	(A67_CHUNK_LIST_MAX * 160 + 256)
#define TAG_SIZE		(A67_CHUNK_NAME_SIZE + 2)

typedef struct Upload
{
	A67Task task;
	A67ChunkOp op;
	A67Chunks *chunks;
	A67HttpServer *server;
	A67HttpHandle handle;
	A67ChunkWriter *writer;
	uint64_t size;
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	bool stored; /* the chunk is here already */
} Upload;

typedef struct Deletion
{
	A67ChunkOp op;
	A67HttpServer *server;
	A67HttpHandle handle;
} Deletion;

typedef struct A67ChunkReader
{
	A67Task task;
	A67Chunks *chunks;
	A67HttpHandle handle;
	A67ChunkCheck check;
	int64_t due_ms;
	struct A67ChunkReader *next;
} Reader;

static int64_t
wall_s(void)
{
	return a67_clock_wall_ms() / 1000;
}

/* ---- refusals ---- */

typedef struct Refusal
{
	int err;
	int status;
	const char *message;
} Refusal;

static const Refusal refusals[] = {
	{-ENOENT, 404, "no such chunk on this node"},
	{-EBADMSG, 410, "the chunk was rotten: it has been put aside"},
	{-EFBIG, 413, "a chunk has at most 64 MB"},
	{-EAGAIN, 503, "chunks are still being counted"},
	{-ESTALE, 503, "the chunk has changed meanwhile"},
	{-EBUSY, 503, "too many chunks are under way"},
	{-ENOMEM, 503, "out of memory"},
	{-EDQUOT, 507, "the quota for chunks is used up"},
	{-ENOSPC, 507, "the disk is full: what is left is kept for applications"},
};

static Refusal
refusal_of(int err)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].err == err)
			return refusals[i];
	return (Refusal){err, 500, "the disk does not do what it should"};
}

static void
refuse(A67HttpConn *conn, int err)
{
	Refusal refusal = refusal_of(err);

	if (refusal.status == 500)
		a67_log(A67_LOG_ERROR, "chunk store: %s", strerror(-err));
	(void) a67_http_respond_error(conn, refusal.status, NULL, refusal.message);
}

static A67HttpDecision
reject(int status, const char *message)
{
	return (A67HttpDecision){.verdict = A67_HTTP_REJECT, .status = status, .message = message};
}

/* ---- PUT ---- */

static void
free_upload(Upload *upload)
{
	a67_chunk_drop(upload->writer);
	upload->chunks->uploads--;
	free(upload);
}

static void
answer_upload(Upload *upload, A67HttpConn *conn, int err)
{
	a67_http_conn_set_user(conn, NULL);
	if (err == -EBADMSG)
		(void) a67_http_respond_error(conn, 422, NULL, "the body does not have this digest");
	else if (err != 0)
		refuse(conn, err);
	else
		(void) a67_http_respond(conn, upload->stored ? 200 : 201, NULL, NULL, 0);
}

static int
upload_body(A67Task *task, A67HttpConn *conn, const char *data, size_t len)
{
	Upload *upload = (Upload *) task;
	int err = a67_chunk_write(upload->writer, data, len);

	if (err == 0)
		return 0;
	answer_upload(upload, conn, err);
	free_upload(upload);
	return err;
}

/* The flush has made it durable, or could not. */
static void
upload_done(A67ChunkOp *op)
{
	Upload *upload = (Upload *) ((char *) op - offsetof(Upload, op));
	A67HttpConn *conn = a67_http_conn_find(upload->server, upload->handle);

	if (op->err == 0)
	{
		upload->chunks->received++;
		upload->chunks->received_bytes += upload->size;
	}
	if (conn != NULL)
		answer_upload(upload, conn, op->err);
	free_upload(upload);
}

static bool
is_stored(const A67Chunks *chunks, const uint8_t *digest)
{
	A67ChunkFile file;

	if (a67_chunk_read(&chunks->store, digest, &file) != 0)
		return false;
	(void) close(file.fd);
	return a67_chunk_is_fresh(&chunks->scrub, file.verified_s, wall_s());
}

static void
upload_whole(A67Task *task, A67HttpConn *conn)
{
	Upload *upload = (Upload *) task;
	int err = a67_chunk_finish(upload->writer, wall_s());

	if (err == 0 && !upload->stored)
	{
		/* From here on the flush owns it: a client that goes away changes nothing. */
		a67_http_conn_set_user(conn, NULL);
		upload->op.done = upload_done;
		a67_chunk_commit(&upload->chunks->store, &upload->op, upload->writer);
		upload->writer = NULL;
		return;
	}
	/* It was only compared with what may have rotted or been deleted since. */
	if (err == 0 && !is_stored(upload->chunks, upload->digest))
		err = -ESTALE;
	answer_upload(upload, conn, err);
	free_upload(upload);
}

static void
upload_close(A67Task *task, A67HttpConn *conn)
{
	free_upload((Upload *) task);
}

A67HttpDecision
a67_chunks_put(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest)
{
	int64_t size = a67_http_conn_request(conn)->content_length;
	Refusal refusal;
	Upload *upload;
	int err = 0;

	if (size < 0)
		return reject(411, "the length of a chunk is needed");
	upload = chunks->uploads < UPLOADS_MAX ? calloc(1, sizeof(*upload)) : NULL;
	if (upload == NULL)
		return reject(503, "too many chunks are under way");
	upload->stored = is_stored(chunks, digest);
	err = a67_chunk_begin(&chunks->store, digest, (uint64_t) size, upload->stored, &upload->writer);
	if (err != 0)
	{
		free(upload);
		refusal = refusal_of(err);
		return reject(refusal.status, refusal.message);
	}
	chunks->uploads++;
	upload->task = (A67Task){upload_body, upload_whole, NULL, upload_close};
	upload->chunks = chunks;
	upload->server = a67_http_conn_server(conn);
	upload->handle = a67_http_conn_handle(conn);
	upload->size = (uint64_t) size;
	memcpy(upload->digest, digest, A67_CHUNK_DIGEST_BYTES);
	a67_http_conn_set_user(conn, upload);
	return (A67HttpDecision){.verdict = A67_HTTP_STREAM,
							 .max_body = (uint64_t) size,
							 .body_ms = BODY_MS + (uint32_t) (size / BODY_BYTES_A_MS)};
}

/* ---- DELETE ---- */

static void
deletion_done(A67ChunkOp *op)
{
	Deletion *deletion = (Deletion *) ((char *) op - offsetof(Deletion, op));
	A67HttpConn *conn = a67_http_conn_find(deletion->server, deletion->handle);

	if (conn != NULL && op->err != 0)
		refuse(conn, op->err);
	else if (conn != NULL)
		(void) a67_http_respond(conn, 204, NULL, NULL, 0);
	free(deletion);
}

void
a67_chunks_delete(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest)
{
	Deletion *deletion = calloc(1, sizeof(*deletion));
	int err = -ENOMEM;

	if (deletion != NULL)
	{
		deletion->op.done = deletion_done;
		deletion->server = a67_http_conn_server(conn);
		deletion->handle = a67_http_conn_handle(conn);
		err = a67_chunk_remove(&chunks->store, &deletion->op, digest);
	}
	if (err == 0)
		return;
	free(deletion);
	refuse(conn, err);
}

/* ---- GET ---- */

/* Answers with the chunk, or what is asked of it; takes the descriptor. */
static void
send_chunk(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest, int fd, uint64_t size)
{
	char name[A67_CHUNK_NAME_SIZE];
	char tag[TAG_SIZE];
	char content_range[80];
	const A67HttpHead *req = a67_http_conn_request(conn);
	A67HttpField headers[] = {
		{"Content-Type", "application/octet-stream"},
		{"ETag", tag},
		{"Accept-Ranges", "bytes"},
		{"Content-Range", content_range},
		{NULL, NULL},
	};
	A67ChunkSpan span;

	(void) a67_hex_encode(digest, A67_CHUNK_DIGEST_BYTES, name, sizeof(name));
	(void) snprintf(tag, sizeof(tag), "\"%s\"", name);
	span = a67_chunk_span(req, tag, size);
	if (span.status == 206)
		(void) snprintf(content_range, sizeof(content_range), "bytes %llu-%llu/%llu",
						(unsigned long long) span.offset,
						(unsigned long long) (span.offset + span.length - 1),
						(unsigned long long) size);
	else if (span.status == 416)
		(void) snprintf(content_range, sizeof(content_range), "bytes */%llu",
						(unsigned long long) size);
	else
		headers[3].name = NULL;
	if (span.status == 200 || span.status == 206)
	{
		if (req->method == A67_HTTP_GET)
		{
			chunks->sent++;
			chunks->sent_bytes += span.length;
		}
		(void) a67_http_respond_file(conn, span.status, headers,
									 (A67HttpFile){fd, span.offset, span.length});
		return;
	}
	(void) close(fd);
	(void) a67_http_respond(conn, span.status, headers, NULL, 0);
}

static void
free_reader(Reader *reader)
{
	Reader **link = &reader->chunks->readers;

	while (*link != reader)
		link = &(*link)->next;
	*link = reader->next;
	a67_chunk_check_end(&reader->check);
	free(reader);
}

static void
reader_close(A67Task *task, A67HttpConn *conn)
{
	free_reader((Reader *) task);
}

/* The chunk has to be hashed before anybody gets it.  Takes the descriptor. */
static int
verify_first(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest, int fd)
{
	Reader *reader = NULL;
	Reader **last = &chunks->readers;
	unsigned int count = 0;
	int err;

	for (const Reader *one = chunks->readers; one != NULL; one = one->next)
		count++;
	if (count < READERS_MAX)
		reader = calloc(1, sizeof(*reader));
	if (reader == NULL)
	{
		(void) close(fd);
		return -EBUSY;
	}
	err = a67_chunk_check_begin(&reader->check, digest, fd);
	if (err != 0)
	{
		free(reader);
		return err;
	}
	reader->task.on_close = reader_close;
	reader->chunks = chunks;
	reader->handle = a67_http_conn_handle(conn);
	while (*last != NULL)
		last = &(*last)->next;
	*last = reader;
	a67_http_conn_set_user(conn, reader);
	return 0;
}

void
a67_chunks_get(A67Chunks *chunks, A67HttpConn *conn, const uint8_t *digest)
{
	A67ChunkFile file;
	int err = a67_chunk_read(&chunks->store, digest, &file);

	if (err == 0 && a67_http_conn_request(conn)->method == A67_HTTP_GET &&
		!a67_chunk_is_fresh(&chunks->scrub, file.verified_s, wall_s()))
		err = verify_first(chunks, conn, digest, file.fd);
	else if (err == 0)
		send_chunk(chunks, conn, digest, file.fd, file.size);
	if (err != 0)
		refuse(conn, err);
}

/* Hashes on; answers when that is over. */
static void
step_reader(Reader *reader, A67HttpServer *server, int64_t now_ms)
{
	A67Chunks *chunks = reader->chunks;
	A67HttpConn *conn = a67_http_conn_find(server, reader->handle);
	A67ChunkVerdict verdict = a67_chunk_check_step(&chunks->store, &reader->check, wall_s());

	reader->due_ms = a67_deadline_in(now_ms, verdict == A67_CHUNK_WAIT ? RETRY_MS : 0);
	if (verdict == A67_CHUNK_MORE || verdict == A67_CHUNK_WAIT)
		return;
	/* Without one, the engine has answered in our place and closes. */
	if (conn != NULL)
	{
		a67_http_conn_set_user(conn, NULL);
		if (verdict == A67_CHUNK_GOOD)
		{
			send_chunk(chunks, conn, reader->check.digest, reader->check.fd,
					   (uint64_t) reader->check.before.st_size);
			reader->check.fd = -1;
		}
		else
			refuse(conn, verdict == A67_CHUNK_BAD ? -EBADMSG : -ESTALE);
		free_reader(reader);
	}
	else
		reader->due_ms = A67_NEVER;
}

static void
step_readers(A67Chunks *chunks, A67HttpServer *server, int64_t now_ms)
{
	int64_t until_us = a67_clock_now_us() + HASHING_US;
	Reader *reader = chunks->readers;

	while (reader != NULL && a67_clock_now_us() < until_us)
	{
		Reader *next = reader->next;

		if (a67_deadline_expired(reader->due_ms, now_ms))
			step_reader(reader, server, now_ms);
		reader = next;
	}
}

/* ---- the inventory ---- */

typedef struct Query
{
	bool has_after;
	uint8_t after[A67_CHUNK_DIGEST_BYTES];
	int limit;
	bool rotten;
} Query;

/* NULL, or what is wrong. */
static const char *
parse_query(A67HttpStr query, Query *out)
{
	char text[A67_CHUNK_NAME_SIZE];
	long len = a67_http_query_param(query, "after", text, sizeof(text));
	char *end;

	memset(out, 0, sizeof(*out));
	out->limit = A67_CHUNK_LIST_MAX;
	out->has_after = len != A67_HTTP_NO_PARAM;
	if (out->has_after && (len < 0 || !a67_chunk_parse(text, (size_t) len, out->after)))
		return "parameter \"after\" must be 64 hex digits in lower case";
	len = a67_http_query_param(query, "limit", text, sizeof(text));
	if (len != A67_HTTP_NO_PARAM)
	{
		out->limit = len > 0 && len < 8 && text[0] >= '0' && text[0] <= '9'
						 ? (int) strtol(text, &end, 10)
						 : 0;
		if (out->limit < 1 || out->limit > A67_CHUNK_LIST_MAX || *end != '\0')
			return "parameter \"limit\" must be an integer from 1 to 1000";
	}
	len = a67_http_query_param(query, "rotten", text, sizeof(text));
	out->rotten = len == 4 && strcmp(text, "true") == 0;
	if (len != A67_HTTP_NO_PARAM && !out->rotten && strcmp(text, "false") != 0)
		return "parameter \"rotten\" must be true or false";
	return NULL;
}

/* Fills items; one more than the limit tells that there is another page. */
static int
collect(const A67Chunks *chunks, const Query *query, A67ChunkItem *items)
{
	int first = query->rotten ? A67_CHUNK_ROTTEN : query->has_after ? query->after[0] : 0;
	int last = query->rotten ? A67_CHUNK_ROTTEN : A67_CHUNK_FANOUT - 1;
	int count = 0;

	for (int dir = first; dir <= last && count <= query->limit; dir++)
	{
		int found = a67_chunk_list(&chunks->store, dir, query->has_after ? query->after : NULL,
								   items + count, (size_t) (query->limit + 1 - count));

		if (found < 0)
			return found;
		count += found;
	}
	return count;
}

static void
append_item(A67Buf *out, const A67ChunkItem *item, bool first)
{
	char name[A67_CHUNK_NAME_SIZE];
	char at[A67_TIME_SIZE];

	(void) a67_hex_encode(item->digest, sizeof(item->digest), name, sizeof(name));
	(void) a67_buf_append_fmt(out, "%s{\"digest\":\"%s\",\"size\":%llu,\"verified_at\":",
							  first ? "" : ",", name, (unsigned long long) item->size);
	a67_clock_format(item->verified_s * 1000, at);
	(void) a67_buf_append_fmt(out, item->verified_s > 0 ? "\"%s\"}" : "null}", at);
}

void
a67_chunks_list(const A67Chunks *chunks, A67HttpConn *conn)
{
	static const A67HttpField headers[] = {{"Content-Type", "application/json"}, {NULL, NULL}};
	Query query;
	const char *wrong = parse_query(a67_http_conn_request(conn)->query, &query);
	A67ChunkItem *items = NULL;
	A67Buf text;
	int count;

	if (wrong != NULL)
	{
		(void) a67_http_respond_error(conn, 400, NULL, wrong);
		return;
	}
	items = calloc((size_t) query.limit + 1, sizeof(*items));
	count = items != NULL ? collect(chunks, &query, items) : -ENOMEM;
	a67_buf_init(&text, LIST_MAX_BYTES);
	(void) a67_buf_append_str(&text, "{\"chunks\":[");
	for (int i = 0; i < count && i < query.limit; i++)
		append_item(&text, &items[i], i == 0);
	(void) a67_buf_append_str(&text, "],\"next\":");
	if (count > query.limit)
	{
		char name[A67_CHUNK_NAME_SIZE];

		(void) a67_hex_encode(items[query.limit - 1].digest, A67_CHUNK_DIGEST_BYTES, name,
							  sizeof(name));
		(void) a67_buf_append_fmt(&text, "\"%s\"}", name);
	}
	else
		(void) a67_buf_append_str(&text, "null}");
	if (count < 0)
		refuse(conn, count);
	else if (text.failed || a67_http_respond(conn, 200, headers, text.data, text.len) != 0)
		(void) a67_http_respond_error(conn, 503, NULL, "out of memory");
	a67_buf_free(&text);
	free(items);
}

/* ---- the loop's part ---- */

int
a67_chunks_open(A67Chunks *chunks, const A67StateDir *dir, int64_t quota, int64_t scrub_ms,
				A67Why *why)
{
	memset(chunks, 0, sizeof(*chunks));
	/* Somewhere: an agent that is restarted often gets everywhere in time. */
	a67_chunk_scrub_init(&chunks->scrub, scrub_ms, (int) (a67_clock_now_us() % A67_CHUNK_FANOUT));
	return a67_chunk_open(&chunks->store, dir, quota, why);
}

void
a67_chunks_close(A67Chunks *chunks)
{
	if (chunks->scrub.interval_ms == 0)
		return;
	while (chunks->readers != NULL)
		free_reader(chunks->readers);
	a67_chunk_scrub_end(&chunks->scrub);
	a67_chunk_close(&chunks->store);
}

void
a67_chunks_prepare(const A67Chunks *chunks, A67PollSet *set, int64_t now_ms)
{
	if (chunks->store.counted <= A67_CHUNK_FANOUT)
		a67_poll_until(set, now_ms);
	if (chunks->store.count > 0)
		a67_poll_until(set, chunks->scrub.due_ms);
	for (const Reader *reader = chunks->readers; reader != NULL; reader = reader->next)
		a67_poll_until(set, reader->due_ms);
}

void
a67_chunks_step(A67Chunks *chunks, A67HttpServer *server, int64_t now_ms)
{
	int64_t until_us = a67_clock_now_us() + COUNTING_US;

	a67_chunk_flush(&chunks->store);
	while (a67_chunk_count(&chunks->store) && a67_clock_now_us() < until_us)
		continue;
	step_readers(chunks, server, now_ms);
	a67_chunk_scrub_step(&chunks->scrub, &chunks->store, now_ms, wall_s());
}
