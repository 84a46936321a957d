/*
 * rate.c - the arithmetic and the text form of token buckets; see rate.h.
 *
 * With missing counted in 1/period_ms of a token, a token costs period_ms and a millisecond gives
 * `tokens` back. The largest sum is burst * period_ms, below 2^52; products with times are avoided.
 */
#include "rate.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[A67_RATE_CLASSES] = {
	[A67_RATE_ADDRESS] = "address", [A67_RATE_AUTH] = "auth",			[A67_RATE_READ] = "read",
	[A67_RATE_WRITE] = "write",		[A67_RATE_HEARTBEAT] = "heartbeat", [A67_RATE_BULK] = "bulk",
};

typedef struct Unit
{
	const char *name;
	uint32_t ms;
} Unit;

static const Unit units[] = {{"s", 1000}, {"min", 60000}, {"h", 3600000}};

/* ---- arithmetic ---- */

static uint64_t
capacity(const A67RateSpec *spec)
{
	return (uint64_t) spec->burst * spec->period_ms;
}

static int64_t
ms_to_gain(const A67RateSpec *spec, uint64_t amount)
{
	return (int64_t) ((amount + spec->tokens - 1) / spec->tokens);
}

/* What is missing at now_ms. */
static uint64_t
missing_at(const A67RateBucket *bucket, const A67RateSpec *spec, int64_t now_ms)
{
	uint64_t missing = bucket->missing < capacity(spec) ? bucket->missing : capacity(spec);
	uint64_t elapsed;

	if (now_ms <= bucket->at_ms)
		return missing;
	elapsed = (uint64_t) now_ms - (uint64_t) bucket->at_ms;
	/* Compared as times, because elapsed * tokens may not fit. */
	if (elapsed >= (uint64_t) ms_to_gain(spec, missing))
		return 0;
	return missing - elapsed * spec->tokens;
}

static bool
clock_jumped_back(const A67RateBucket *bucket, int64_t now_ms)
{
	return now_ms < bucket->at_ms &&
		   (uint64_t) bucket->at_ms - (uint64_t) now_ms > A67_RATE_SLACK_MS;
}

void
a67_rate_take(A67RateBucket *bucket, const A67RateSpec *spec, int64_t now_ms, A67RateAnswer *answer)
{
	uint64_t missing;

	if (spec->tokens == 0 || spec->period_ms == 0)
	{
		*answer = (A67RateAnswer){.allowed = true};
		return;
	}
	missing = missing_at(bucket, spec, now_ms);
	answer->allowed = capacity(spec) - missing >= spec->period_ms;
	if (answer->allowed)
		missing += spec->period_ms;
	/*
	 * Processes read the clock at slightly different moments. If a slightly older one moved the
	 * bucket back, the time between the two would be credited again and again.
	 */
	if (now_ms > bucket->at_ms || clock_jumped_back(bucket, now_ms))
		bucket->at_ms = now_ms;
	bucket->missing = missing;
	answer->limit = spec->burst;
	answer->remaining = (uint32_t) ((capacity(spec) - missing) / spec->period_ms);
	answer->retry_ms =
		answer->remaining > 0 ? 0 : ms_to_gain(spec, missing + spec->period_ms - capacity(spec));
	answer->reset_ms = ms_to_gain(spec, missing);
}

bool
a67_rate_is_full(const A67RateBucket *bucket, const A67RateSpec *spec, int64_t now_ms)
{
	return spec->tokens == 0 || missing_at(bucket, spec, now_ms) == 0;
}

/* ---- text ---- */

/* A piece of the text that is being read. */
typedef struct Word
{
	const char *at;
	size_t len;
} Word;

static bool
word_is(Word word, const char *text)
{
	return word.len == strlen(text) && memcmp(word.at, text, word.len) == 0;
}

static Word
trim(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	while (end > at && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n' || end[-1] == '\r'))
		end--;
	return (Word){at, (size_t) (end - at)};
}

/* Cuts the word at the first c; what is behind it goes to rest. False when c is not in it. */
static bool
cut(Word *word, char c, Word *rest)
{
	const char *found = memchr(word->at, c, word->len);
	const char *end = word->at + word->len;

	if (found == NULL)
		return false;
	*rest = trim(found + 1, end);
	*word = trim(word->at, found);
	return true;
}

static bool
read_number(Word word, uint32_t *number)
{
	uint32_t value = 0;

	if (word.len == 0 || word.len > 7)
		return false;
	for (size_t i = 0; i < word.len; i++)
	{
		if (word.at[i] < '0' || word.at[i] > '9')
			return false;
		value = value * 10 + (uint32_t) (word.at[i] - '0');
	}
	*number = value;
	return value >= 1 && value <= A67_RATE_MAX;
}

static bool
read_unit(Word word, uint32_t *ms)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		if (!word_is(word, units[i].name))
			continue;
		*ms = units[i].ms;
		return true;
	}
	return false;
}

static bool __attribute__((format(printf, 3, 4)))
refuse(char *err, size_t err_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void) vsnprintf(err, err_size, format, args);
	va_end(args);
	return false;
}

/* One "class=TOKENS/UNIT:BURST". */
static bool
read_entry(Word entry, A67RateLimits *limits, char *err, size_t err_size)
{
	A67RateSpec spec = {0};
	Word whole = entry;
	Word rate;
	Word unit;
	Word burst;
	bool has_burst;
	int which = A67_RATE_NONE + 1;

	if (!cut(&entry, '=', &rate))
		return refuse(err, err_size, "\"%.*s\" is not like \"class=10/s:20\".", (int) whole.len,
					  whole.at);
	while (which < A67_RATE_CLASSES && !word_is(entry, class_names[which]))
		which++;
	if (which == A67_RATE_CLASSES)
		return refuse(err, err_size,
					  "There is no class \"%.*s\": it is one of address, auth, read, write, "
					  "heartbeat, bulk.",
					  (int) entry.len, entry.at);
	if (limits->of[which].tokens != 0)
		return refuse(err, err_size, "Class \"%s\" is there twice.", class_names[which]);
	has_burst = cut(&rate, ':', &burst);
	if (!cut(&rate, '/', &unit) || !read_unit(unit, &spec.period_ms))
		return refuse(err, err_size,
					  "The rate of class \"%s\" is not a number with \"/s\", \"/min\" or \"/h\".",
					  class_names[which]);
	if (!read_number(rate, &spec.tokens))
		return refuse(err, err_size, "The rate of class \"%s\" is not a number from 1 to %d.",
					  class_names[which], A67_RATE_MAX);
	spec.burst = spec.tokens;
	if (has_burst && !read_number(burst, &spec.burst))
		return refuse(err, err_size, "The burst of class \"%s\" is not a number from 1 to %d.",
					  class_names[which], A67_RATE_MAX);
	limits->of[which] = spec;
	return true;
}

bool
a67_rate_limits_parse(const char *text, A67RateLimits *limits, char *err, size_t err_size)
{
	Word rest = trim(text, text + strlen(text));

	memset(limits, 0, sizeof(*limits));
	if (word_is(rest, "off"))
		return true;
	if (rest.len == 0)
		return refuse(err, err_size, "It must name a limit, or be \"off\".");
	for (bool more = true; more;)
	{
		Word entry = rest;

		more = cut(&entry, ',', &rest);
		if (!read_entry(entry, limits, err, err_size))
			return false;
	}
	return true;
}
