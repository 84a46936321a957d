/*
 * cors.h: which pages of other origins may read the answers, and what browsers are told about it.
 *
 * Pure functions over a list of origins ("*", or "https://a.example, http://localhost:3000") and a
 * request head. A request is never refused for its origin: keeping an answer from a page is the
 * browser's part, and other clients send no origin at all. Called by the settings and the listener.
 */
#ifndef A67_CORE_HTTP_CORS_H
#define A67_CORE_HTTP_CORS_H

#include "parser.h"

#define A67_CORS_FIELDS		  8 /* at most, with the end mark */
#define A67_CORS_ORIGIN_BYTES 272
#define A67_CORS_ORIGINS	  64

typedef struct A67Cors
{
	bool preflight; /* the browser asks before it sends the real request */
	A67HttpField fields[A67_CORS_FIELDS];
	char origin[A67_CORS_ORIGIN_BYTES]; /* fields point to it */
} A67Cors;

/* Whether this is a list of origins, "*" or ""; else a full sentence in err. */
extern bool a67_cors_origins_ok(const char *origins, char *err, size_t err_size);

/*
 * The header fields that the answer to this request carries; none when origins is "" or the request
 * is none of a page that is allowed. allow names the methods of the path, for a preflight.
 */
extern void a67_cors_fields(const char *origins, const A67HttpHead *head, const char *allow,
							A67Cors *cors);

#endif
