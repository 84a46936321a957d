/*
 * exchange.h: one request and its answer, while they are under way; private to the engine.
 *
 * Made when the first byte of a request comes, freed when the connection goes idle: an idle
 * connection has no buffers at all. request.c fills the upper half, respond.c and output.c the lower.
 */
#ifndef A67_CORE_HTTP_EXCHANGE_H
#define A67_CORE_HTTP_EXCHANGE_H

#include "../buf.h"
#include "chunked.h"
#include "server.h"

typedef enum AnswerState
{
	ANSWER_NONE,
	ANSWER_STREAM, /* begun, not ended */
	ANSWER_ENDED   /* complete; perhaps not sent yet */
} AnswerState;

/* One request and its answer. */
typedef struct Exchange
{
	A67Buf in;		 /* the head, then what came behind it */
	size_t seen;	 /* bytes of in that the parser has looked at */
	size_t head_len; /* 0 until the head is whole */
	size_t taken;	 /* bytes of in consumed: head_len and decoded body */
	A67HttpHead head;
	A67HttpVerdict verdict;
	uint64_t max_body;
	uint64_t body_bytes; /* decoded so far */
	A67HttpChunked chunked;
	A67Buf body;  /* BUFFER mode */
	A67Buf extra; /* header lines that whatever answer is given carries */
	A67Buf out;
	A67HttpFile file; /* fd -1: none */
	AnswerState answer;
	int64_t answer_left; /* bytes of a declared length still to be written; -1: undeclared */
	bool answer_chunked;
	bool bodiless;	   /* HEAD, 204, 304 */
	bool drain_wanted; /* pending has reached high_water */
	bool head_given;   /* the handler knows this request */
	bool keep_alive;   /* decided when the answer begins */
	bool linger;	   /* when not kept alive */
} Exchange;

#endif
