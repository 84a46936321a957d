/*
 * fetch.h - many HTTP requests at once from one thread, through libcurl's multi interface.
 *
 * Owns sockets and time-outs behind one epoll descriptor; decides nothing about what is asked or what an
 * answer means. No redirects, no proxy, http, https and (for mail) smtp only, connections are reused. No PostgreSQL: nothing
 * here throws, all memory is malloc'd and bounded by the limits below, so it may live across transactions
 * and errors. Not for the postmaster: create one only in the process that uses it.
 * Requests to addresses that users chose go through a guard: see a67_fetch_set_guard.
 */
#ifndef A67_FETCH_H
#define A67_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_FETCH_BODY_MAX		   65536 /* of an answer; a longer one is an error */
#define A67_FETCH_HEADER_MAX	   65536 /* of an answer, all headers together */
#define A67_FETCH_REQUEST_BODY_MAX 1048576
#define A67_FETCH_URL_MAX		   2048
#define A67_FETCH_TOKEN_MAX		   4096
#define A67_FETCH_CONCURRENCY_MAX  1024
#define A67_FETCH_QUEUE_MAX		   4096
#define A67_FETCH_FIELDS_MAX	   32	/* headers of a request */
#define A67_FETCH_FIELD_SIZE_MAX   4096 /* of one of them */

typedef struct A67Fetch A67Fetch;

typedef struct A67FetchRequest
{
	const char *key;	/* names the result; one request per key is under way at a time */
	const char *method; /* GET, PUT, POST, DELETE, PATCH, HEAD, or MAIL: see below */
	const char *url;
	const char *token; /* Authorization: Bearer; NULL: none */
	const char *body;  /* NULL: none */
	int timeout_ms;	   /* for the whole exchange, from when it leaves the queue */

	/*
	 * "Name: value", field_count of them. A body without a Content-Type among them is application/json.
	 * Those that say how the message is sent are not the caller's: Host, Content-Length, Connection...
	 */
	const char *const *fields;
	int field_count;

	/*
	 * "sha256//" and the base64 of the SHA-256 of the server's SubjectPublicKeyInfo: a server that proves to
	 * hold that key is trusted whoever signed its certificate, any other one is not. NULL: the authorities.
	 */
	const char *pin;
} A67FetchRequest;

/*
 * Method MAIL hands a mail to an SMTP server. The URL is smtp://HOST:PORT or smtps://HOST:PORT; the body is
 * the whole mail (RFC 5322), every line ended by CRLF. The fields are the envelope and how to get in: "From:
 * ADDRESS", "To: ADDRESS" for each recipient (1 to 20), "TLS: required" for STARTTLS, "Username: TEXT" and
 * "Password: TEXT", which are only sent encrypted (AUTH PLAIN or LOGIN). The status is the server's last
 * reply: 250 when it has taken the mail for all recipients.
 */

typedef struct A67FetchResult
{
	const char *key;
	int status;		   /* HTTP status; 0: no answer, see error */
	const char *error; /* static text: "timeout", "connection refused"…; NULL with an answer */
	char *body;		   /* body_len bytes and a NUL; NULL when empty */
	size_t body_len;
} A67FetchResult;

typedef enum A67FetchSubmit
{
	A67_FETCH_QUEUED,
	A67_FETCH_DUPLICATE, /* a request with this key is under way: nothing was done */
	A67_FETCH_FULL,		 /* queue or memory */
	A67_FETCH_INVALID	 /* no key, so there can be no result */
} A67FetchSubmit;

/* NULL when out of memory or descriptors. */
A67Fetch *a67_fetch_create(int concurrency, int64_t now_ms);
void a67_fetch_free(A67Fetch *fetch);

/* How many requests may be open at once, 1..A67_FETCH_CONCURRENCY_MAX; takes effect as they finish. */
void a67_fetch_set_concurrency(A67Fetch *fetch, int concurrency);

/*
 * The guard of requests opened from now on: while it is up, connections to addresses that are not public
 * (loopback, private, link-local, multicast...) are refused as "address not allowed". It judges the address
 * that is connected to, whatever the name resolved to before or will later, and no earlier connection is
 * used again. ca_file (NULL or "": the system's) names the certificate authorities to trust.
 */
void a67_fetch_set_guard(A67Fetch *fetch, bool up);
bool a67_fetch_set_ca_file(A67Fetch *fetch, const char *ca_file);

/*
 * Copies the request and queues it; a67_fetch_run sends it. A method, URL, token, header, body or time-out
 * that can never work gives the result "invalid request" at once.
 */
A67FetchSubmit a67_fetch_submit(A67Fetch *fetch, const A67FetchRequest *request, int64_t now_ms);

/* The descriptor to watch for reading, and the time of the next time-out (INT64_MAX: none). */
int a67_fetch_fd(const A67Fetch *fetch);
int64_t a67_fetch_deadline_ms(const A67Fetch *fetch);

/* Makes all the progress that is possible without waiting. Never blocks. */
void a67_fetch_run(A67Fetch *fetch, int64_t now_ms);

/*
 * The next finished result, oldest first; NULL: none. Until the caller releases it, its key counts as under
 * way. Releasing NULL does nothing.
 */
A67FetchResult *a67_fetch_take(A67Fetch *fetch);
void a67_fetch_release(A67Fetch *fetch, A67FetchResult *result);

/* Requests queued but not sent, and requests open. */
size_t a67_fetch_waiting(const A67Fetch *fetch);
size_t a67_fetch_open(const A67Fetch *fetch);

/* Drops requests that have waited longer than max_wait_ms without being sent; returns how many. */
size_t a67_fetch_expire(A67Fetch *fetch, int64_t max_wait_ms, int64_t now_ms);

#endif /* A67_FETCH_H */
