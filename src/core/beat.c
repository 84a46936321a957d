/*
 * beat.c - one pass over the text of a heartbeat; see beat.h.
 *
 * Takes a subset of JSON that the complete reader (jansson, no duplicate names) takes with the same result:
 * names without escapes, known fields only, numbers that fit, replicas that are flat objects. Whatever lies
 * outside ends the scan at once. Nothing here writes beyond *beat, allocates or looks at bytes behind the text.
 * Called by listener/beat.c, unit tests and a fuzzer that compares the two readers.
 */
#include "core/beat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

#define INTEGER_DIGITS 18 /* always fit 64 bits */
#define EXACT_DIGITS   15 /* always fit the mantissa of a double */
#define NUMBER_MAX	   48 /* characters */
#define REPLICA_FIELDS 16 /* in one object */

typedef struct Scan
{
	const char *at;
	const char *end;
} Scan;

typedef struct Text
{
	const char *at;
	size_t len;
	bool plain; /* no escape, ASCII only */
} Text;

typedef struct Number
{
	bool is_integer;
	int64_t integer;
	double real; /* of integers too */
} Number;

/* ---- tokens -------------------------------------------------------------------------------------- */

static void
skip_space(Scan *scan)
{
	while (scan->at < scan->end &&
		   (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
		scan->at++;
}

/* The next character that is no space; '\0' at the end. */
static char
peek(Scan *scan)
{
	skip_space(scan);
	return scan->at < scan->end ? *scan->at : '\0';
}

static bool
take(Scan *scan, char wanted)
{
	if (peek(scan) != wanted)
		return false;
	scan->at++;
	return true;
}

static bool
take_word(Scan *scan, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0)
		return false;
	scan->at += len;
	return true;
}

static bool
is_digit(const Scan *scan)
{
	return scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';
}

/* Four digits of an escaped character that stands for itself: neither NUL nor half a pair. */
static bool
take_hex_escape(Scan *scan)
{
	unsigned value = 0;

	for (int i = 0; i < 4; i++)
	{
		char c = scan->at < scan->end ? *scan->at++ : '\0';

		if (c >= '0' && c <= '9')
			value = value << 4 | (unsigned) (c - '0');
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			value = value << 4 | (unsigned) ((c & 0xdf) - 'A' + 10);
		else
			return false;
	}
	return value != 0 && (value < 0xd800 || value > 0xdfff);
}

static bool
take_escape(Scan *scan)
{
	char c;

	scan->at++;
	if (scan->at == scan->end)
		return false;
	c = *scan->at++;
	if (c == 'u')
		return take_hex_escape(scan);
	return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
}

static bool
take_string(Scan *scan, Text *text)
{
	bool ascii = true;

	if (!take(scan, '"'))
		return false;
	*text = (Text){.at = scan->at, .plain = true};
	while (scan->at < scan->end && *scan->at != '"')
	{
		unsigned char c = (unsigned char) *scan->at;

		if (c < 0x20)
			return false;
		ascii = ascii && c < 0x80;
		if (c != '\\')
			scan->at++;
		else if (take_escape(scan))
			text->plain = false;
		else
			return false;
	}
	if (scan->at == scan->end)
		return false;
	text->len = (size_t) (scan->at++ - text->at);
	text->plain = text->plain && ascii;
	return ascii || a67_utf8_is_valid(text->at, text->len);
}

/* Takes digits into *value, as long as they fit, and counts them. */
static int
take_digits(Scan *scan, uint64_t *value)
{
	int count = 0;

	for (; is_digit(scan); scan->at++)
	{
		if (++count <= INTEGER_DIGITS)
			*value = *value * 10 + (uint64_t) (*scan->at - '0');
	}
	return count;
}

/* The number from start on by the C library, which rounds any number of digits right. */
static bool
convert(const Scan *scan, const char *start, double *real)
{
	char copy[NUMBER_MAX + 1];
	size_t len = (size_t) (scan->at - start);
	char *stop;

	if (len > NUMBER_MAX)
		return false;
	memcpy(copy, start, len);
	copy[len] = '\0';
	*real = strtod(copy, &stop);
	return stop == copy + len && isfinite(*real);
}

static bool
take_exponent(Scan *scan)
{
	uint64_t ignored = 0;

	scan->at++;
	if (scan->at < scan->end && (*scan->at == '+' || *scan->at == '-'))
		scan->at++;
	return take_digits(scan, &ignored) > 0;
}

/* A fraction whose digits and power of ten are exact in a double is rounded once, by the division. */
static bool
take_fraction(Scan *scan, const char *start, uint64_t digits, Number *number)
{
	static const double powers[] = {1e0, 1e1, 1e2,	1e3,  1e4,	1e5,  1e6,	1e7,
									1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
	ptrdiff_t count = scan->at - start; /* with the sign: one too many at most */
	int decimals = 0;

	if (*scan->at == '.')
	{
		scan->at++;
		decimals = take_digits(scan, &digits);
		if (decimals == 0)
			return false;
		count += decimals;
	}
	if (scan->at < scan->end && (*scan->at == 'e' || *scan->at == 'E'))
		return take_exponent(scan) && convert(scan, start, &number->real);
	if (count > EXACT_DIGITS)
		return convert(scan, start, &number->real);
	number->real = (double) digits / powers[decimals];
	if (*start == '-')
		number->real = -number->real;
	return true;
}

static bool
take_number(Scan *scan, Number *number)
{
	const char *start = scan->at;
	bool negative = scan->at < scan->end && *scan->at == '-';
	uint64_t digits = 0;
	int count = 1;

	scan->at += negative;
	if (!is_digit(scan))
		return false;
	if (*scan->at == '0')
		scan->at++;
	else
		count = take_digits(scan, &digits);
	number->is_integer =
		scan->at == scan->end || (*scan->at != '.' && *scan->at != 'e' && *scan->at != 'E');
	if (!number->is_integer)
		return take_fraction(scan, start, digits, number);
	if (count > INTEGER_DIGITS)
		return false;
	number->integer = negative ? -(int64_t) digits : (int64_t) digits;
	number->real = (double) number->integer;
	return true;
}

static bool
take_literal(Scan *scan)
{
	return take_word(scan, "null") || take_word(scan, "true") || take_word(scan, "false");
}

/* ---- metrics ------------------------------------------------------------------------------------- */

typedef enum MetricKind
{
	METRIC_REAL,
	METRIC_COUNT,
	METRIC_SMALL /* a count of 32 bits */
} MetricKind;

typedef struct Metric
{
	const char *name;
	size_t len;
	MetricKind kind;
	size_t offset;
} Metric;

#define METRIC(kind, name)                                                      \
	{                                                                           \
#name, sizeof(#name) - 1, METRIC_##kind, offsetof(A67NodeMetrics, name) \
	}

/* In the order in which agents send them. */
static const Metric metrics[] = {
	METRIC(REAL, cpu_percent),		  METRIC(REAL, memory_percent),
	METRIC(COUNT, memory_free_bytes), METRIC(COUNT, memory_total_bytes),
	METRIC(REAL, disk_percent),		  METRIC(REAL, load1),
	METRIC(COUNT, uptime_s),		  METRIC(SMALL, active_requests),
	METRIC(REAL, latency_ms),		  METRIC(COUNT, network_bytes),
	METRIC(COUNT, requests),		  METRIC(COUNT, failures),
};

#define METRICS (sizeof(metrics) / sizeof(metrics[0]))

/* The metric of that name, looked for from number `from` on; METRICS when there is none. */
static size_t
find_metric(const Text *name, size_t from)
{
	for (size_t i = 0; i < METRICS; i++)
	{
		size_t index = (from + i) % METRICS;

		if (metrics[index].len == name->len &&
			memcmp(metrics[index].name, name->at, name->len) == 0)
			return index;
	}
	return METRICS;
}

/* False when the number does not fit; SQL says so. */
static bool
store(const Metric *metric, const Number *number, A67NodeMetrics *out)
{
	void *place = (char *) out + metric->offset;
	int64_t most = metric->kind == METRIC_SMALL ? INT32_MAX : INT64_MAX;

	if (metric->kind == METRIC_REAL)
	{
		*(float *) place = (float) number->real;
		return isfinite(*(float *) place);
	}
	if (!number->is_integer || number->integer < 0 || number->integer > most)
		return false;
	if (metric->kind == METRIC_SMALL)
		*(int32_t *) place = (int32_t) number->integer;
	else
		*(int64_t *) place = number->integer;
	return true;
}

/* A number, or null, which counts as no value. */
static bool
take_value(Scan *scan, const Metric *metric, A67NodeMetrics *out)
{
	Number number;

	if (peek(scan) == 'n')
		return take_word(scan, "null");
	return take_number(scan, &number) && store(metric, &number, out);
}

static bool
take_metrics(Scan *scan, A67Beat *beat)
{
	unsigned seen = 0;
	size_t next = 0;
	Text name;

	if (!take(scan, '{'))
		return false;
	if (take(scan, '}'))
		return true;
	do
	{
		size_t found;

		if (!take_string(scan, &name) || !take(scan, ':'))
			return false;
		found = find_metric(&name, next);
		if (found == METRICS || (seen & 1u << found) != 0)
			return false;
		seen |= 1u << found;
		next = found + 1;
		if (!take_value(scan, &metrics[found], &beat->metrics))
			return false;
	} while (take(scan, ','));
	return take(scan, '}');
}

/* ---- replicas ------------------------------------------------------------------------------------ */

/* Checked like everything else: what is not JSON must not be answered with 204. */
static bool
skip_plain_value(Scan *scan)
{
	char first = peek(scan);
	Number number;
	Text text;

	if (first == '"')
		return take_string(scan, &text);
	if (first == '-' || (first >= '0' && first <= '9'))
		return take_number(scan, &number);
	return take_literal(scan);
}

static bool
is_new(const Text *names, int count, const Text *name)
{
	for (int i = 0; i < count; i++)
		if (names[i].len == name->len && memcmp(names[i].at, name->at, name->len) == 0)
			return false;
	return true;
}

/* An object of plain values; names with escapes could be equal without looking so. */
static bool
skip_replica(Scan *scan)
{
	Text names[REPLICA_FIELDS];
	int count = 0;

	if (!take(scan, '{'))
		return false;
	if (take(scan, '}'))
		return true;
	do
	{
		if (count == REPLICA_FIELDS || !take_string(scan, &names[count]) || !names[count].plain ||
			!is_new(names, count, &names[count]))
			return false;
		count++;
		if (!take(scan, ':') || !skip_plain_value(scan))
			return false;
	} while (take(scan, ','));
	return take(scan, '}');
}

static bool
skip_replicas(Scan *scan, A67Beat *beat)
{
	if (!take(scan, '['))
		return false;
	if (take(scan, ']'))
		return true;
	do
	{
		if (!skip_replica(scan))
			return false;
	} while (take(scan, ','));
	return take(scan, ']');
}

/* ---- the beat ------------------------------------------------------------------------------------ */

static bool
take_boot_id(Scan *scan, A67Beat *beat)
{
	Text text;

	if (!take_string(scan, &text) || !text.plain || text.len >= sizeof(beat->boot_id))
		return false;
	memcpy(beat->boot_id, text.at, text.len);
	memset(beat->boot_id + text.len, 0, sizeof(beat->boot_id) - text.len);
	return true;
}

static bool
take_integer(Scan *scan, int64_t *value)
{
	Number number;

	skip_space(scan);
	if (!take_number(scan, &number) || !number.is_integer)
		return false;
	*value = number.integer;
	return true;
}

static bool
take_seq(Scan *scan, A67Beat *beat)
{
	return take_integer(scan, &beat->seq);
}

static bool
take_state_version(Scan *scan, A67Beat *beat)
{
	return take_integer(scan, &beat->state_version);
}

/* Farewells are SQL's. */
static bool
take_status(Scan *scan, A67Beat *beat)
{
	Text text;

	return take_string(scan, &text) && text.len == 2 && memcmp(text.at, "ok", 2) == 0;
}

typedef struct Field
{
	const char *name;
	size_t len;
	bool (*take)(Scan *scan, A67Beat *beat);
} Field;

#define FIELD(name, take)            \
	{                                \
		name, sizeof(name) - 1, take \
	}

static const Field fields[] = {
	FIELD("boot_id", take_boot_id),
	FIELD("seq", take_seq),
	FIELD("state_version", take_state_version),
	FIELD("status", take_status),
	FIELD("metrics", take_metrics),
	FIELD("replicas", skip_replicas),
};

#define FIELDS	   (sizeof(fields) / sizeof(fields[0]))
#define ALL_FIELDS ((1u << FIELDS) - 1)

/* Takes the value of the field of that name; 0, or the field's own bit. */
static unsigned
take_field(Scan *scan, const Text *name, A67Beat *beat)
{
	for (size_t i = 0; i < FIELDS; i++)
		if (fields[i].len == name->len && memcmp(fields[i].name, name->at, name->len) == 0)
			return fields[i].take(scan, beat) ? 1u << i : 0;
	return 0;
}

void
a67_beat_init(A67Beat *beat)
{
	memset(beat, 0, sizeof(*beat));
	beat->metrics.cpu_percent = NAN;
	beat->metrics.memory_percent = NAN;
	beat->metrics.disk_percent = NAN;
	beat->metrics.load1 = NAN;
	beat->metrics.latency_ms = NAN;
	beat->metrics.memory_free_bytes = -1;
	beat->metrics.memory_total_bytes = -1;
	beat->metrics.uptime_s = -1;
	beat->metrics.requests = -1;
	beat->metrics.failures = -1;
	beat->metrics.network_bytes = -1;
	beat->metrics.active_requests = -1;
}

static int64_t
sum_of_counts(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a > b ? a : b;
	return a <= INT64_MAX - b ? a + b : INT64_MAX;
}

void
a67_counts_add(A67NodeMetrics *to, const A67NodeMetrics *earlier)
{
	to->requests = sum_of_counts(to->requests, earlier->requests);
	to->failures = sum_of_counts(to->failures, earlier->failures);
}

void
a67_counts_subtract(A67NodeMetrics *to, const A67NodeMetrics *earlier)
{
	if (earlier->requests > 0)
		to->requests = to->requests > earlier->requests ? to->requests - earlier->requests : 0;
	if (earlier->failures > 0)
		to->failures = to->failures > earlier->failures ? to->failures - earlier->failures : 0;
}

bool
a67_beat_scan(const char *text, size_t len, A67Beat *beat)
{
	Scan scan = {.at = text, .end = text + len};
	unsigned seen = 0;
	Text name;

	a67_beat_init(beat);
	if (!take(&scan, '{'))
		return false;
	do
	{
		unsigned field;

		if (!take_string(&scan, &name) || !take(&scan, ':'))
			return false;
		field = take_field(&scan, &name, beat);
		if (field == 0 || (seen & field) != 0)
			return false;
		seen |= field;
	} while (take(&scan, ','));
	if (!take(&scan, '}'))
		return false;
	skip_space(&scan);
	return seen == ALL_FIELDS && scan.at == scan.end;
}
