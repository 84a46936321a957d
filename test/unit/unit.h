/*
 * unit.h - the harness of the C unit tests: checks, a table of cases, lines in the manner of TAP.
 *
 * A test program is one file NAME_test.c: cases are `static void` functions, listed in
 * UNIT_MAIN. A failed check prints where and what, and the case goes on, so that one run shows
 * all of them; REQUIRE ends the case instead, for what later lines depend on. The last line of
 * the output is "NAME: N passed, N failed" (cases), which test/unit/run adds up; the exit status
 * is 1 if any failed. Included once per test program, hence the static state.
 */
#ifndef A67_UNIT_H
#define A67_UNIT_H

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct UnitCase
{
	const char *name;
	void (*run)(void);
} UnitCase;

static unsigned unit_failures; /* failed checks in the running case */

/* Prints at most this many failed checks of a case: a broken loop must not flood the log. */
#define UNIT_FAILURES_SHOWN 10

static inline bool
unit_failed(const char *file, int line)
{
	if (++unit_failures > UNIT_FAILURES_SHOWN)
		return false;
	printf("# %s:%d: ", file, line);
	return true;
}

static inline void
unit_check(bool ok, const char *text, const char *file, int line)
{
	if (!ok && unit_failed(file, line))
		printf("not true: %s\n", text);
}

static inline void
unit_check_int(int64_t got, int64_t want, const char *text, const char *file, int line)
{
	if (got != want && unit_failed(file, line))
		printf("%s is %" PRId64 ", should be %" PRId64 "\n", text, got, want);
}

static inline void
unit_check_uint(uint64_t got, uint64_t want, const char *text, const char *file, int line)
{
	if (got != want && unit_failed(file, line))
		printf("%s is %" PRIu64 " (0x%" PRIx64 "), should be %" PRIu64 " (0x%" PRIx64 ")\n", text,
			   got, got, want, want);
}

static inline void
unit_check_near(double got, double want, double tolerance, const char *file, int line)
{
	if (!(fabs(got - want) <= tolerance) && unit_failed(file, line))
		printf("%.17g should be within %g of %.17g\n", got, tolerance, want);
}

static inline void
unit_check_str(const char *got, const char *want, const char *text, const char *file, int line)
{
	bool same = got == want || (got != NULL && want != NULL && strcmp(got, want) == 0);

	if (!same && unit_failed(file, line))
		printf("%s is \"%s\", should be \"%s\"\n", text, got != NULL ? got : "(null)",
			   want != NULL ? want : "(null)");
}

static inline void
unit_check_mem(const void *got, const void *want, size_t count, const char *file, int line)
{
	const uint8_t *left = got;
	const uint8_t *right = want;
	size_t i;

	for (i = 0; i < count && left[i] == right[i]; i++)
		;
	if (i < count && unit_failed(file, line))
		printf("byte %zu of %zu is 0x%02x, should be 0x%02x\n", i, count, left[i], right[i]);
}

#define CHECK(condition)			unit_check((condition), #condition, __FILE__, __LINE__)
#define CHECK_INT(got, want)		unit_check_int((got), (want), #got, __FILE__, __LINE__)
#define CHECK_UINT(got, want)		unit_check_uint((got), (want), #got, __FILE__, __LINE__)
#define CHECK_STR(got, want)		unit_check_str((got), (want), #got, __FILE__, __LINE__)
#define CHECK_MEM(got, want, count) unit_check_mem((got), (want), (count), __FILE__, __LINE__)
#define CHECK_NEAR(got, want, tolerance) \
	unit_check_near((got), (want), (tolerance), __FILE__, __LINE__)

/* A check without which the rest of the case makes no sense. */
#define REQUIRE(condition)                                     \
	do                                                         \
	{                                                          \
		bool required_ = (condition);                          \
                                                               \
		unit_check(required_, #condition, __FILE__, __LINE__); \
		if (!required_)                                        \
			return;                                            \
	} while (0)

static inline int
unit_run(const char *name, const UnitCase *cases, unsigned count)
{
	unsigned failed = 0;
	unsigned i;

	/* Line by line, so that nothing printed is lost when a sanitizer ends the program. */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	printf("1..%u\n", count);
	for (i = 0; i < count; i++)
	{
		unit_failures = 0;
		cases[i].run();
		if (unit_failures > UNIT_FAILURES_SHOWN)
			printf("# and %u more failed checks\n", unit_failures - UNIT_FAILURES_SHOWN);
		printf("%sok %u - %s\n", unit_failures > 0 ? "not " : "", i + 1, cases[i].name);
		failed += unit_failures > 0;
	}
	printf("%s: %u passed, %u failed\n", name, count - failed, failed);
	return failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* One entry of the table of cases: the function's name is the case's name. */
/* clang-format off */
#define UNIT(function) {#function, function}
/* clang-format on */

/* Defines main: UNIT_MAIN("ring", UNIT(case_one), UNIT(case_two)) */
#define UNIT_MAIN(name, ...)                                              \
	int main(void)                                                        \
	{                                                                     \
		static const UnitCase cases[] = {__VA_ARGS__};                    \
                                                                          \
		return unit_run((name), cases, sizeof(cases) / sizeof(cases[0])); \
	}                                                                     \
	_Static_assert(true, "UNIT_MAIN ends with a semicolon")

#endif /* A67_UNIT_H */
