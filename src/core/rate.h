/*
 * rate.h - token buckets: how many requests a client may make, and what it is told about that.
 *
 * Decides only numbers: reads no clock, keeps no table, knows no client. A bucket holds up to `burst`
 * tokens and gains `tokens` of them every `period_ms`; a request takes one. All arithmetic is in
 * integers and exact: nothing is lost between two requests, whatever the times between them.
 * Also owns the classes of requests and the text form of their limits (setting a67.rate_limits).
 * Used by the shared table of buckets (registry/rate.h), the route table and the settings.
 */
#ifndef A67_RATE_H
#define A67_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a request counts as. ADDRESS and AUTH count per client address, the others per token. */
typedef enum A67RateClass
{
	A67_RATE_NONE, /* not limited at all */
	A67_RATE_ADDRESS,
	A67_RATE_AUTH,
	A67_RATE_READ,
	A67_RATE_WRITE,
	A67_RATE_HEARTBEAT,
	A67_RATE_BULK,
	A67_RATE_CLASSES
} A67RateClass;

#define A67_RATE_MAX	  1000000 /* tokens and burst */
#define A67_RATE_SLACK_MS 1000	  /* a clock that is this little behind has not jumped */

#define A67_RATE_LIMITS_TEXT                                            \
	"address=100/s:200, auth=10/min:10, read=50/s:100, write=10/s:50, " \
	"heartbeat=10/s:50, bulk=1/s:20"

/* tokens 0: not limited. */
typedef struct A67RateSpec
{
	uint32_t tokens;
	uint32_t period_ms; /* of a second, a minute or an hour */
	uint32_t burst;
} A67RateSpec;

typedef struct A67RateLimits
{
	A67RateSpec of[A67_RATE_CLASSES];
} A67RateLimits;

/* Zeroed: full. What is missing is counted in 1/period_ms of a token. */
typedef struct A67RateBucket
{
	int64_t at_ms;
	uint64_t missing;
} A67RateBucket;

/* What the client is told. */
typedef struct A67RateAnswer
{
	bool allowed;
	uint32_t limit;		/* burst; 0: not limited, nothing to tell */
	uint32_t remaining; /* whole tokens left */
	int64_t retry_ms;	/* until the next token; 0 when there is one */
	int64_t reset_ms;	/* until the bucket is full */
} A67RateAnswer;

/*
 * Takes a token if there is one. A clock that has gone back gains the client nothing and costs it
 * nothing but the time. A bucket filled under other limits is bounded by these.
 */
void a67_rate_take(A67RateBucket *bucket, const A67RateSpec *spec, int64_t now_ms,
				   A67RateAnswer *answer);

/* Whether the bucket says no more than a new one would. */
bool a67_rate_is_full(const A67RateBucket *bucket, const A67RateSpec *spec, int64_t now_ms);

/*
 * Reads "class=TOKENS/UNIT:BURST, …" (UNIT s, min or h; ":BURST" may be left out: TOKENS) or "off".
 * A class that is not named is not limited. False with a full sentence in err.
 */
bool a67_rate_limits_parse(const char *text, A67RateLimits *limits, char *err, size_t err_size);

#endif /* A67_RATE_H */
