/*
 * answer.h: what an api worker says back: status, headers and body of one answer.
 *
 * Owns the rules for response.status and response.headers and the JSON of an error; sends through
 * exchange.h. Runs in the api worker only.
 */
#ifndef A67_LISTENER_ANSWER_H
#define A67_LISTENER_ANSWER_H

#include "postgres.h"

#include "listener/exchange.h"

#define A67_TYPE_JSON	"application/json; charset=utf-8"
#define A67_TYPE_OCTETS "application/octet-stream"

/*
 * Fills head from the settings that the function left behind; inside the transaction. success is the
 * status unless the function chose one; type may be NULL. Throws 38000 when the settings are unusable.
 */
extern void a67_answer_head(A67AnswerHead *head, int success, const char *type);

/* Fills head for an error and returns its JSON body; outside of any transaction. */
extern char *a67_answer_error(A67AnswerHead *head, const ErrorData *error, bool anonymous);

/* A whole answer's body. */
typedef struct A67AnswerBody
{
	char *data; /* UTF-8, unless it is compressed */
	Size len;
} A67AnswerBody;

/*
 * Compresses a JSON body that is long enough for that, and says so in the head, when the client takes it
 * (gzip). The new body is allocated in the current context.
 */
extern void a67_answer_compress(A67AnswerHead *head, A67AnswerBody *body, bool gzip);

/* Sends a whole answer. Sets the content length. head_only: the body is only measured (HEAD). */
extern void a67_answer_send(A67Exchange *exchange, A67AnswerHead *head, const A67AnswerBody *body,
							bool head_only);

/* The same in steps, for a body that is made while it is sent; flush: do not let it gather. */
extern void a67_answer_begin(A67Exchange *exchange, const A67AnswerHead *head);
extern void a67_answer_piece(A67Exchange *exchange, const char *data, Size len, bool flush);

#endif
