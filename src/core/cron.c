/*
 * cron.c - schedules as crontab(5) has them; see cron.h.
 *
 * A field is a set of bits. Due minutes are found by going through days, of which there are few, and then
 * through the hours and minutes of a day that counts.
 */
#include "core/cron.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MINUTES_PER_DAY 1440
/* Between two 29ths of February on the same day of the week, a century without a leap day between them. */
#define HORIZON_DAYS	(41 * 366)

typedef struct Field
{
	const char *name;
	uint32_t low;
	uint32_t high;
	const char *const *names; /* of the values from low on; NULL: none */
} Field;

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
										  "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

enum
{
	MINUTE,
	HOUR,
	DAY,
	MONTH,
	WEEKDAY,
	FIELDS
};

static const Field fields[FIELDS] = {
	[MINUTE] = {"minute", 0, 59, NULL},
	[HOUR] = {"hour", 0, 23, NULL},
	[DAY] = {"day of the month", 1, 31, NULL},
	[MONTH] = {"month", 1, 12, month_names},
	[WEEKDAY] = {"day of the week", 0, 7, weekday_names},
};

const char *
a67_cron_expand(const char *text)
{
	static const char *const names[][2] = {
		{"@hourly", "0 * * * *"},	{"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
		{"@weekly", "0 0 * * 0"},	{"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i][0]) == 0)
			return names[i][1];
	return text;
}

/* ---- parsing ----------------------------------------------------------------------------------- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A number, or the name of one; NULL when there is neither at `at`. */
static const char *
take_number(const char *at, const Field *field, uint32_t *number)
{
	size_t len = 0;
	uint32_t value = 0;
	bool digits = true;

	while (isalnum((unsigned char) at[len]))
	{
		digits = digits && isdigit((unsigned char) at[len]);
		if (digits && value < 1000)
			value = value * 10 + (uint32_t) (at[len] - '0');
		len++;
	}
	if (len == 0)
		return NULL;
	*number = value;
	if (digits)
		return at + len;
	for (uint32_t i = 0; field->names != NULL && field->names[i] != NULL; i++)
	{
		*number = field->low + i;
		if (len == strlen(field->names[i]) && strncasecmp(at, field->names[i], len) == 0)
			return at + len;
	}
	return NULL;
}

/* One part of a list: "*", a number or a range, all but the number with "/step". NULL: a fault. */
static const char *
take_range(const char *at, const Field *field, uint64_t *bits)
{
	uint32_t from = field->low;
	uint32_t to = field->high;
	uint32_t step = 1;
	bool single = false;

	if (*at == '*')
		at++;
	else
	{
		at = take_number(at, field, &from);
		if (at == NULL)
			return NULL;
		single = *at != '-';
		to = from;
		if (!single)
			at = take_number(at + 1, field, &to);
		if (at == NULL)
			return NULL;
	}
	if (*at == '/')
	{
		Field plain = *field;

		plain.names = NULL;
		at = take_number(at + 1, &plain, &step);
		if (at == NULL || single || step == 0 || step > field->high)
			return NULL;
	}
	if (from < field->low || to > field->high || from > to)
		return NULL;
	for (uint32_t value = from; value <= to; value += step)
		*bits |= UINT64_C(1) << value;
	return at;
}

/* A field and the blanks behind it. NULL: a fault. */
static const char *
take_field(const char *at, const Field *field, uint64_t *bits)
{
	*bits = 0;
	at = take_range(at, field, bits);
	while (at != NULL && *at == ',')
		at = take_range(at + 1, field, bits);
	if (at == NULL || (*at != '\0' && !is_blank(*at)))
		return NULL;
	while (is_blank(*at))
		at++;
	return at;
}

static bool
refuse(char fault[A67_CRON_FAULT_SIZE], const char *what)
{
	(void) snprintf(fault, A67_CRON_FAULT_SIZE, "%s", what);
	return false;
}

static bool
take_fields(const char *at, A67Cron *cron, char fault[A67_CRON_FAULT_SIZE])
{
	uint64_t bits[FIELDS];

	for (int i = 0; i < FIELDS; i++)
	{
		const Field *field = &fields[i];

		if (*at == '\0')
			return refuse(fault, "has fewer than five fields");
		if (i == DAY)
			cron->any_day = *at == '*';
		if (i == WEEKDAY)
			cron->any_weekday = *at == '*';
		at = take_field(at, field, &bits[i]);
		if (at != NULL)
			continue;
		(void) snprintf(fault, A67_CRON_FAULT_SIZE, "has no %s (from %u to %u) as field %d",
						field->name, field->low, field->high, i + 1);
		return false;
	}
	if (*at != '\0')
		return refuse(fault, "has more than five fields");
	cron->minutes = bits[MINUTE];
	cron->hours = (uint32_t) bits[HOUR];
	cron->days = (uint32_t) bits[DAY];
	cron->months = (uint32_t) bits[MONTH];
	cron->weekdays = (uint32_t) (bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f; /* 7 is Sunday too */
	return true;
}

bool
a67_cron_parse(const char *text, A67Cron *cron, char fault[A67_CRON_FAULT_SIZE])
{
	const char *at = a67_cron_expand(text);

	memset(cron, 0, sizeof(*cron));
	if (strlen(text) > A67_CRON_MAX_LENGTH)
		return refuse(fault, "is too long");
	while (is_blank(*at))
		at++;
	if (*at == '@')
		return refuse(fault, "is none of the known names with \"@\"");
	if (!take_fields(at, cron, fault))
		return false;
	if (a67_cron_next(cron, 0) == A67_CRON_NEVER)
		return refuse(fault, "never comes due");
	return true;
}

/* ---- when it comes due ------------------------------------------------------------------------- */

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Whether the day, counted from 1970-01-01, counts. */
static bool
day_matches(const A67Cron *cron, int64_t day)
{
	/* Gregorian calendar in eras of 400 years that begin in March, so that leap days come last. */
	int64_t since = day + 719468;
	int64_t era = floor_div(since, 146097);
	int64_t of_era = since - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153; /* 0: March */
	int64_t day_of_month = of_year - (153 * month + 2) / 5 + 1;
	int64_t weekday = day + 4 - floor_div(day + 4, 7) * 7;
	bool has_day = (cron->days >> day_of_month & 1) != 0;
	bool has_weekday = (cron->weekdays >> weekday & 1) != 0;

	if ((cron->months >> (month < 10 ? month + 3 : month - 9) & 1) == 0)
		return false;
	return cron->any_day || cron->any_weekday ? has_day && has_weekday : has_day || has_weekday;
}

static bool
minute_of_day_matches(const A67Cron *cron, int64_t minute)
{
	return (cron->hours >> (minute / 60) & 1) != 0 && (cron->minutes >> (minute % 60) & 1) != 0;
}

bool
a67_cron_matches(const A67Cron *cron, int64_t minute)
{
	int64_t day = floor_div(minute, MINUTES_PER_DAY);

	return day_matches(cron, day) && minute_of_day_matches(cron, minute - day * MINUTES_PER_DAY);
}

int64_t
a67_cron_next(const A67Cron *cron, int64_t minute)
{
	int64_t first = minute + 1;
	int64_t day = floor_div(first, MINUTES_PER_DAY);
	int64_t of_day = first - day * MINUTES_PER_DAY;

	for (int64_t end = day + HORIZON_DAYS; day <= end; day++, of_day = 0)
	{
		if (!day_matches(cron, day))
			continue;
		for (; of_day < MINUTES_PER_DAY; of_day++)
			if (minute_of_day_matches(cron, of_day))
				return day * MINUTES_PER_DAY + of_day;
	}
	return A67_CRON_NEVER;
}

int64_t
a67_cron_previous(const A67Cron *cron, int64_t minute)
{
	int64_t day = floor_div(minute, MINUTES_PER_DAY);
	int64_t of_day = minute - day * MINUTES_PER_DAY;

	for (int64_t end = day - HORIZON_DAYS; day >= end; day--, of_day = MINUTES_PER_DAY - 1)
	{
		if (!day_matches(cron, day))
			continue;
		for (; of_day >= 0; of_day--)
			if (minute_of_day_matches(cron, of_day))
				return day * MINUTES_PER_DAY + of_day;
	}
	return A67_CRON_NEVER;
}
