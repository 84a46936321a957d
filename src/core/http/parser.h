/*
 * parser.h: HTTP/1.1 message heads (RFC 9110, RFC 9112), strictly.
 *
 * Owns the syntax of request and response heads and what they say about framing. Pure: no
 * allocation, no clock, no I/O. Every slice points into the caller's buffer and lives as long as
 * that buffer neither moves nor changes. Whatever two HTTP implementations could read in two ways
 * is refused. Called by the server (server.h), the client (client.h), the tests and the fuzzers.
 */
#ifndef A67_CORE_HTTP_PARSER_H
#define A67_CORE_HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_HTTP_MAX_HEADERS 64	   /* header lines in one head; one more is 431 */
#define A67_HTTP_HEAD_BYTES	 16384 /* default for the whole head; more is 431 */
#define A67_HTTP_LINE_BYTES	 8192  /* default for the request line; more is 414 */
#define A67_HTTP_METHOD_LEN	 32	   /* a longer method is 501 */
#define A67_HTTP_INCOMPLETE	 (-2)  /* every other negative result is a negated HTTP status */

/* A piece of somebody else's bytes; not NUL-terminated. An absent one has at == NULL. */
typedef struct A67HttpStr
{
	const char *at;
	size_t len;
} A67HttpStr;

typedef struct A67HttpHeader
{
	A67HttpStr name;
	A67HttpStr value; /* without the white space around it */
} A67HttpHeader;

/* A header to be sent. Arrays of these end with {NULL, NULL}; NULL stands for an empty array. */
typedef struct A67HttpField
{
	const char *name;
	const char *value;
} A67HttpField;

typedef enum A67HttpMethod
{
	A67_HTTP_OTHER, /* a valid token none of the below: look at method_name */
	A67_HTTP_GET,
	A67_HTTP_HEAD,
	A67_HTTP_POST,
	A67_HTTP_PUT,
	A67_HTTP_DELETE,
	A67_HTTP_PATCH,
	A67_HTTP_OPTIONS
} A67HttpMethod;

typedef struct A67HttpLimits
{
	size_t head_bytes;
	size_t line_bytes;
	size_t headers; /* at most A67_HTTP_MAX_HEADERS */
} A67HttpLimits;

/* A parsed head: of a request (method … host) or of a response (status, reason). */
typedef struct A67HttpHead
{
	A67HttpMethod method;
	A67HttpStr method_name;
	A67HttpStr target; /* as sent */
	A67HttpStr path;   /* starts with '/' (or is "*"); still percent-encoded */
	A67HttpStr query;  /* after the first '?', without it; at == NULL when there is none */
	A67HttpStr host;   /* authority of the target, else the Host header */

	int status; /* responses: 100–599 */
	A67HttpStr reason;

	int minor; /* HTTP/1.minor: 0 or 1 (a higher one counts as 1) */
	size_t nheaders;
	A67HttpHeader headers[A67_HTTP_MAX_HEADERS];

	int64_t content_length; /* -1: no such header */
	bool chunked;
	bool keep_alive; /* what the peer asks for, by version and Connection */
	bool expect_continue;
	A67HttpStr upgrade; /* the Upgrade header, when Connection names it; else at == NULL */

	const char *error; /* static text, set whenever the result is a negated status */
} A67HttpHead;

/*
 * Parses one head at the start of buf. Returns its length including the empty line (> 0);
 * A67_HTTP_INCOMPLETE when more bytes are needed; or -400, -414, -417, -431, -501, -505.
 * seen is how many of the bytes an earlier call with the same buffer has already looked at (0 at
 * first): it only saves work, so that a head arriving byte by byte costs a bounded number of scans.
 * limits NULL means the defaults above. On success *head is whole; otherwise only error counts.
 */
extern int a67_http_parse_request(const char *buf, size_t len, size_t seen,
								  const A67HttpLimits *limits, A67HttpHead *head);

/* The same for a response head; errors are -400 (malformed), -431 and -505. */
extern int a67_http_parse_response(const char *buf, size_t len, size_t seen,
								   const A67HttpLimits *limits, A67HttpHead *head);

/* The standard reason phrase, or "Unknown". */
extern const char *a67_http_reason(int status);

/* First header of that name (any case), or NULL. */
extern const A67HttpStr *a67_http_header(const A67HttpHead *head, const char *name);

/* Byte-wise and ASCII case-insensitive comparison with a C string. */
extern bool a67_http_str_is(A67HttpStr s, const char *text);
extern bool a67_http_str_is_nocase(A67HttpStr s, const char *text);

/* Whether this may be sent: a token, then text without line ends. */
extern bool a67_http_field_is_valid(const A67HttpField *field);

/*
 * Percent-decodes into dst and adds a NUL. plus_is_space is for queries. Returns the length, or -1
 * when an escape is malformed, decodes to NUL, or the result with its NUL exceeds dst_size.
 */
extern long a67_http_percent_decode(A67HttpStr src, bool plus_is_space, char *dst, size_t dst_size);

/*
 * Decodes the first parameter of that (decoded) name from "a=1&b=2" into dst. Returns its length,
 * -1 when it is malformed or too long, A67_HTTP_NO_PARAM when there is none.
 */
#define A67_HTTP_NO_PARAM (-2)
extern long a67_http_query_param(A67HttpStr query, const char *name, char *dst, size_t dst_size);

#endif
