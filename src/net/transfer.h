/*
 * transfer.h - one request of fetch.c: its memory, and how curl is told about it.
 *
 * Private to src/net: what a request is made of and the translation to and from curl's terms. Order, limits on
 * numbers and progress are fetch.c.
 */
#ifndef A67_TRANSFER_H
#define A67_TRANSFER_H

#include <curl/curl.h>

#include "core/buf.h"
#include "net/fetch.h"

typedef struct A67Transfer
{
	A67FetchResult result;	  /* first: what the caller of fetch holds is also this */
	struct A67Transfer *next; /* in the queue or in the list of done ones */
	struct A67Transfer *bucket_next;
	char *key;
	char *method;
	char *url;
	char *body;
	char *pin; /* NULL: authorities vouch for the server */
	int timeout_ms;
	int64_t queued_ms;
	CURL *easy;					/* while open */
	struct curl_slist *headers; /* of the request, with the token */
	size_t header_bytes;		/* of the answer */
	A67Buf answer;
	struct A67Mail *mail; /* NULL: HTTP */
	int64_t deadline_ms;  /* of the dialogue of a mail */
	int socket;			  /* of it */
	bool guard;			  /* only public addresses; set before a67_transfer_prepare */
	bool refused;		  /* the guard refused one */
	const char *ca_file;  /* the fetch's; read by a67_transfer_prepare only */
} A67Transfer;

/*
 * A copy of the request, malloc'd; NULL when out of memory. One that can never work has only the key and
 * result.error.
 */
A67Transfer *a67_transfer_create(const A67FetchRequest *request);

/* Frees all its memory but the easy handle; what is secret in it is overwritten. */
void a67_transfer_free(A67Transfer *transfer);

/* Sets every option of a fresh or reset handle. The transfer must outlive its use. False: out of memory. */
bool a67_transfer_prepare(A67Transfer *transfer, CURL *easy);

/* Fills in the result from how the exchange ended; the handle is still the transfer's. */
void a67_transfer_conclude(A67Transfer *transfer, CURLcode code);

#endif /* A67_TRANSFER_H */
