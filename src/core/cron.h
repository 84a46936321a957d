/*
 * cron.h - schedules as crontab(5) has them: parsed, and when they come due.
 *
 * Five fields (minute, hour, day of the month, month, day of the week) of numbers, names, ranges, lists and
 * steps, or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. The grammar is that of
 * Vixie's cron, and so of pg_cron, without what it tolerates: text behind the fields, ranges that run
 * backwards, schedules that never come due. Times are minutes since 1970 in UTC: there is no daylight
 * saving, every minute comes once. A day counts when both day fields have it, or, if neither begins with
 * "*", when one of them has it. Pure; called by the SQL faces of cron apps.
 */
#ifndef A67_CRON_H
#define A67_CRON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_CRON_MAX_LENGTH 100
#define A67_CRON_FAULT_SIZE 100
#define A67_CRON_NEVER		INT64_MIN

/* Bit n: the value n is in the field. Sunday is bit 0. */
typedef struct A67Cron
{
	uint64_t minutes;
	uint32_t hours;
	uint32_t days;
	uint32_t months;
	uint32_t weekdays;
	bool any_day; /* the field begins with "*" */
	bool any_weekday;
} A67Cron;

/*
 * The five fields that an @name stands for; the text itself when it is not a known one.
 */
const char *a67_cron_expand(const char *text);

/*
 * Parses a schedule. False when it is none: `fault` then says what is wrong, as "has no minute that can be
 * ..." would continue "the schedule".
 */
bool a67_cron_parse(const char *text, A67Cron *cron, char fault[A67_CRON_FAULT_SIZE]);

bool a67_cron_matches(const A67Cron *cron, int64_t minute);

/*
 * The first minute after `minute` that matches, and the last one that is not after it; A67_CRON_NEVER when
 * there is none within 41 years, which no schedule that parses allows but in the year one.
 */
int64_t a67_cron_next(const A67Cron *cron, int64_t minute);
int64_t a67_cron_previous(const A67Cron *cron, int64_t minute);

#endif /* A67_CRON_H */
