/*
 * client.h: a small non-blocking HTTP/1.1 client, one request at a time per object.
 *
 * Owns one socket, its request and its response; the caller polls fd() for events() and calls
 * step(now_ms) when ready or when next_deadline() has passed. Nothing waits without a deadline, no
 * buffer grows past its limit. start() resolves host names with getaddrinfo, which MAY BLOCK on
 * DNS; numeric addresses never block. Called by the node agent.
 */
#ifndef A67_CORE_HTTP_CLIENT_H
#define A67_CORE_HTTP_CLIENT_H

#include "parser.h"
#include "server.h"

#define A67_HTTP_HOST_BYTES		256
#define A67_HTTP_CLIENT_ADDRS	8 /* addresses of one host tried in turn */
#define A67_HTTP_CLIENT_INTERIM 8 /* 1xx responses before the final one */

/* http://host[:port][/path?query] or https://…; user info and fragments are refused. */
typedef struct A67HttpUrl
{
	bool tls;
	uint16_t port;
	char host[A67_HTTP_HOST_BYTES]; /* without the brackets of an IPv6 address */
	A67HttpStr path;				/* with the query; "/" when the URL has none */
} A67HttpUrl;

/* 0, or -EINVAL. url->path points into text (or at a static "/"). */
extern int a67_http_url_parse(const char *text, A67HttpUrl *url);

typedef struct A67HttpClient A67HttpClient;

typedef enum A67HttpClientState
{
	A67_HTTP_CLIENT_IDLE, /* nothing asked */
	A67_HTTP_CLIENT_BUSY,
	A67_HTTP_CLIENT_DONE,  /* the response is whole */
	A67_HTTP_CLIENT_FAILED /* see a67_http_client_error */
} A67HttpClientState;

typedef struct A67HttpClientConfig
{
	struct ssl_ctx_st *tls; /* needed for https; borrowed */
	const uint8_t *pin;		/* A67_TLS_PIN_BYTES, or NULL for CA verification; copied */
	size_t max_body;		/* of a buffered response */
	uint64_t max_stream;	/* of a streamed one */
	uint32_t total_ms;		/* start → done */
	uint32_t idle_ms;		/* without any progress */
	bool keep_alive;		/* keep the connection for the next start() to the same place */
} A67HttpClientConfig;

typedef struct A67HttpClientRequest
{
	const A67HttpUrl *url;		 /* used during start() only */
	const char *method;			 /* NULL: GET */
	A67HttpStr path;			 /* at == NULL: url->path */
	const A67HttpField *headers; /* Host, Connection, Content-Length are the client's; copied */
	const void *body;			 /* borrowed until the request is over; NULL: none */
	size_t body_len;
	/* Streams the body of a 2xx response; non-zero gives up. NULL: buffered. Others are buffered.
	 * Must not call the client's functions. */
	int (*on_body)(void *arg, const char *data, size_t len);
	void *arg;
} A67HttpClientRequest;

extern void a67_http_client_defaults(A67HttpClientConfig *config);
/* NULL when out of memory. */
extern A67HttpClient *a67_http_client_new(const A67HttpClientConfig *config);
extern void a67_http_client_free(A67HttpClient *client);

/* Begins a request, dropping one under way. 0 or -errno; on failure the state is FAILED. */
extern int a67_http_client_start(A67HttpClient *client, const A67HttpClientRequest *request,
								 int64_t now_ms);
/* Gives up the request and closes the connection. */
extern void a67_http_client_cancel(A67HttpClient *client);

/* -1 when there is no socket. May change after every step. */
extern int a67_http_client_fd(const A67HttpClient *client);
/* POLLIN and/or POLLOUT; 0 unless BUSY. */
extern short a67_http_client_events(const A67HttpClient *client);
/* ms to wait at most before the next step(): 0 = now, -1 = not BUSY. */
extern int64_t a67_http_client_next_deadline(const A67HttpClient *client, int64_t now_ms);
/* Goes as far as possible without blocking. */
extern A67HttpClientState a67_http_client_step(A67HttpClient *client, int64_t now_ms);
extern A67HttpClientState a67_http_client_state(const A67HttpClient *client);

/* Valid in DONE until the next start() or free. */
extern const A67HttpHead *a67_http_client_response(const A67HttpClient *client);
extern const char *a67_http_client_body(const A67HttpClient *client, size_t *len);
/* Why it FAILED, in the style of an error message ("could not connect to …"). */
extern const char *a67_http_client_error(const A67HttpClient *client);

#endif
