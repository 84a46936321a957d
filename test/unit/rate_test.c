/*
 * rate_test.c - token buckets: burst, refill, clocks that jump, extremes; and the text of the limits.
 */
#include "core/rate.h"

#include "unit.h"

static const A67RateSpec read_spec = {50, 1000, 100};
static const A67RateSpec auth_spec = {10, 60000, 10};

/* Takes until refused, at most limit times; returns how many were allowed. */
static unsigned
drain(A67RateBucket *bucket, const A67RateSpec *spec, int64_t now_ms, unsigned limit)
{
	A67RateAnswer answer;
	unsigned taken = 0;

	while (taken < limit)
	{
		a67_rate_take(bucket, spec, now_ms, &answer);
		if (!answer.allowed)
			break;
		taken++;
	}
	return taken;
}

static void
burst_then_refusal(void)
{
	A67RateBucket bucket = {0};
	A67RateAnswer answer;

	a67_rate_take(&bucket, &auth_spec, 5, &answer);
	CHECK(answer.allowed);
	CHECK_UINT(answer.limit, 10);
	CHECK_UINT(answer.remaining, 9);
	CHECK_INT(answer.retry_ms, 0);
	CHECK_INT(answer.reset_ms, 6000);
	CHECK_UINT(drain(&bucket, &auth_spec, 5, 100), 9);
	a67_rate_take(&bucket, &auth_spec, 5, &answer);
	CHECK(!answer.allowed);
	CHECK_UINT(answer.remaining, 0);
	CHECK_INT(answer.retry_ms, 6000);
	CHECK_INT(answer.reset_ms, 60000);
}

static void
refusals_cost_nothing(void)
{
	A67RateBucket bucket = {0};
	A67RateAnswer answer;

	CHECK_UINT(drain(&bucket, &auth_spec, 0, 100), 10);
	for (int64_t now = 0; now < 6000; now++)
	{
		a67_rate_take(&bucket, &auth_spec, now, &answer);
		CHECK(!answer.allowed);
		CHECK_INT(answer.retry_ms, 6000 - now);
	}
	CHECK_UINT(drain(&bucket, &auth_spec, 6000, 100), 1);
}

/* A third of a token per millisecond: after any time exactly what is due has come back. */
static void
refill_is_exact(void)
{
	static const A67RateSpec spec = {333, 1000, 10};
	A67RateBucket bucket = {0};
	unsigned taken = drain(&bucket, &spec, 0, 100);

	for (int64_t now = 1; now <= 100000; now += 7)
		taken += drain(&bucket, &spec, now, 100);
	/* The last turn of the loop is at 99996 ms. */
	CHECK_UINT(taken, 10 + 99996 * 333 / 1000);
}

static void
refill_stops_at_the_burst(void)
{
	A67RateBucket bucket = {0};

	CHECK_UINT(drain(&bucket, &read_spec, 0, 1000), 100);
	CHECK_UINT(drain(&bucket, &read_spec, 1000, 1000), 50);
	CHECK_UINT(drain(&bucket, &read_spec, 1000000, 1000), 100);
}

static void
small_steps_back_credit_nothing(void)
{
	A67RateBucket bucket = {0};
	unsigned taken = drain(&bucket, &read_spec, 10000, 1000);

	/* Two processes whose clocks were read a moment apart take turns. */
	for (int i = 0; i < 10000; i++)
		taken += drain(&bucket, &read_spec, i % 2 == 0 ? 9500 : 10000, 1000);
	CHECK_UINT(taken, 100);
	CHECK_UINT(drain(&bucket, &read_spec, 10020, 1000), 1);
}

static void
jump_back_does_not_lock_out(void)
{
	A67RateBucket bucket = {0};

	CHECK_UINT(drain(&bucket, &read_spec, INT64_C(1) << 40, 1000), 100);
	CHECK_UINT(drain(&bucket, &read_spec, 500, 1000), 0);
	CHECK_UINT(drain(&bucket, &read_spec, 520, 1000), 1);
	CHECK_UINT(drain(&bucket, &read_spec, 1520, 1000), 50);
}

static void
extreme_times_do_not_overflow(void)
{
	static const A67RateSpec widest = {A67_RATE_MAX, 3600000, A67_RATE_MAX};
	static const A67RateSpec fastest = {A67_RATE_MAX, 1000, 1};
	static const A67RateSpec slowest = {1, 3600000, A67_RATE_MAX};
	static const int64_t times[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
	A67RateAnswer answer;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
	{
		for (size_t j = 0; j < sizeof(times) / sizeof(times[0]); j++)
		{
			A67RateBucket bucket = {0};

			CHECK_UINT(drain(&bucket, &widest, times[i], 3), 3);
			a67_rate_take(&bucket, &widest, times[j], &answer);
			CHECK(answer.allowed && answer.remaining >= A67_RATE_MAX - 4);
			a67_rate_take(&bucket, &fastest, times[j], &answer);
			CHECK(answer.remaining <= 1 && answer.retry_ms >= 0 && answer.reset_ms >= 0);
			a67_rate_take(&bucket, &slowest, times[i], &answer);
			CHECK(answer.reset_ms >= 0 && answer.reset_ms <= INT64_C(3600000) * A67_RATE_MAX);
		}
	}
}

static void
other_limits_bound_an_old_bucket(void)
{
	A67RateBucket bucket = {0};
	A67RateAnswer answer;

	CHECK_UINT(drain(&bucket, &read_spec, 0, 1000), 100);
	a67_rate_take(&bucket, &(A67RateSpec){1, 1000, 2}, 1000, &answer);
	CHECK(answer.allowed);
	CHECK_INT(answer.reset_ms, 2000);
	bucket.missing = UINT64_MAX;
	a67_rate_take(&bucket, &auth_spec, 1000, &answer);
	CHECK(!answer.allowed);
	CHECK_INT(answer.retry_ms, 6000);
}

static void
no_limit(void)
{
	A67RateBucket bucket = {0};
	A67RateAnswer answer;

	a67_rate_take(&bucket, &(A67RateSpec){0}, 1, &answer);
	CHECK(answer.allowed);
	CHECK_UINT(answer.limit, 0);
	CHECK(a67_rate_is_full(&bucket, &(A67RateSpec){0}, 1));
}

static void
full_again(void)
{
	A67RateBucket bucket = {0};
	A67RateAnswer answer;

	CHECK(a67_rate_is_full(&bucket, &auth_spec, 0));
	a67_rate_take(&bucket, &auth_spec, 0, &answer);
	CHECK(!a67_rate_is_full(&bucket, &auth_spec, 5999));
	CHECK(a67_rate_is_full(&bucket, &auth_spec, 6000));
}

static void
good_texts(void)
{
	A67RateLimits limits;
	char err[256] = "";

	CHECK(a67_rate_limits_parse(A67_RATE_LIMITS_TEXT, &limits, err, sizeof(err)));
	CHECK_UINT(limits.of[A67_RATE_ADDRESS].tokens, 100);
	CHECK_UINT(limits.of[A67_RATE_ADDRESS].burst, 200);
	CHECK_UINT(limits.of[A67_RATE_AUTH].period_ms, 60000);
	CHECK_UINT(limits.of[A67_RATE_BULK].burst, 20);
	CHECK(a67_rate_limits_parse(" read = 7 / h : 9 ,write=3/s\n", &limits, err, sizeof(err)));
	CHECK_UINT(limits.of[A67_RATE_READ].tokens, 7);
	CHECK_UINT(limits.of[A67_RATE_READ].period_ms, 3600000);
	CHECK_UINT(limits.of[A67_RATE_READ].burst, 9);
	CHECK_UINT(limits.of[A67_RATE_WRITE].burst, 3);
	CHECK_UINT(limits.of[A67_RATE_ADDRESS].tokens, 0);
	CHECK(a67_rate_limits_parse("off", &limits, err, sizeof(err)));
	CHECK_UINT(limits.of[A67_RATE_AUTH].tokens, 0);
}

typedef struct BadText
{
	const char *text;
	const char *says; /* part of the reason */
} BadText;

static void
bad_texts(void)
{
	static const BadText bad[] = {
		{"", "must name a limit"},
		{"   ", "must name a limit"},
		{"on", "not like"},
		{"read", "not like"},
		{"read=1/s,", "not like"},
		{",read=1/s", "not like"},
		{"none=1/s", "no class \"none\""},
		{"Read=1/s", "no class \"Read\""},
		{"=1/s", "no class \"\""},
		{"read=1/s, read=2/s", "there twice"},
		{"read=1", "not a number with \"/s\""},
		{"read=1/day", "not a number with \"/s\""},
		{"read=/s", "not a number from 1"},
		{"read=0/s", "not a number from 1"},
		{"read=-1/s", "not a number from 1"},
		{"read=1.5/s", "not a number from 1"},
		{"read=1000001/s", "not a number from 1"},
		{"read=99999999999999999999/s", "not a number from 1"},
		{"read=1/s:", "burst of class \"read\""},
		{"read=1/s:0", "burst of class \"read\""},
		{"read=1/s:5:6", "burst of class \"read\""},
		{"read=1/s:1000001", "burst of class \"read\""},
		{"off, read=1/s", "not like"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		A67RateLimits limits;
		char err[256] = "";

		CHECK(!a67_rate_limits_parse(bad[i].text, &limits, err, sizeof(err)));
		if (strstr(err, bad[i].says) == NULL)
			printf("# \"%s\": %s\n", bad[i].text, err);
		CHECK(strstr(err, bad[i].says) != NULL);
	}
}

UNIT_MAIN("rate", UNIT(burst_then_refusal), UNIT(refusals_cost_nothing), UNIT(refill_is_exact),
		  UNIT(refill_stops_at_the_burst), UNIT(small_steps_back_credit_nothing),
		  UNIT(jump_back_does_not_lock_out), UNIT(extreme_times_do_not_overflow),
		  UNIT(other_limits_bound_an_old_bucket), UNIT(no_limit), UNIT(full_again),
		  UNIT(good_texts), UNIT(bad_texts));
