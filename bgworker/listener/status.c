/*
 * status.c: the table behind status.h.
 *
 * Rules are tried from the top and match by prefix, so a full SQLSTATE stands above its class.
 * Whatever no rule names is 500. PTnnn carries its own status.
 */
#include "status.h"

#include <stddef.h>
#include <string.h>

typedef struct Rule
{
	const char *prefix;
	int status;
	bool retry; /* nothing took effect, and the cause passes */
} Rule;

#define REFUSED 0 /* 403, or 401 when anonymous */

static const Rule rules[] = {
	{"08", 503, false},								  /* connection to something behind us */
	{"0L", REFUSED, false},							  /* invalid grantor */
	{"0P", REFUSED, false},							  /* invalid role */
	{"0A", 400, false},								  /* what cannot be done, with the reason */
	{"21", 400, false},								  /* cardinality */
	{"25006", 405, false},							  /* GET of what may change data */
	{"22", 400, false},								  /* data, invalid parameter */
	{"23503", 409, false},							  /* foreign key */
	{"23505", 409, false},							  /* unique */
	{"23P01", 409, false},							  /* exclusion */
	{"23", 400, false},								  /* not null, check */
	{"28", 403, false},								  /* authorization */
	{"3F", 400, false},								  /* schema */
	{"40001", 503, true},							  /* serialization */
	{"40P01", 503, true},							  /* deadlock */
	{"42501", REFUSED, false}, {"42725", 400, false}, /* ambiguous function */
	{"42883", 404, false},							  /* no such function */
	{"42P01", 404, false},							  /* no such table */
	{"42", 400, false},	   /* SQL of the caller; ours is looked for in the log */
	{"44", 400, false},	   /* check option */
	{"53", 503, true},	   /* resources */
	{"54", 400, false},	   /* limits on what is asked for */
	{"55P03", 503, true},  /* lock not available */
	{"57014", 504, false}, /* time is up */
	{"57P", 503, true},	   /* shutting down */
	{"P0001", 400, false}, /* raised without a code */
};

static const Rule *
find_rule(const char *sqlstate)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (strncmp(sqlstate, rules[i].prefix, strlen(rules[i].prefix)) == 0)
			return &rules[i];
	return NULL;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int
a67_status_of_sqlstate(const char *sqlstate, bool anonymous)
{
	const Rule *rule;

	if (sqlstate[0] == 'P' && sqlstate[1] == 'T' && sqlstate[2] >= '4' && sqlstate[2] <= '5' &&
		is_digit(sqlstate[3]) && is_digit(sqlstate[4]))
		return (sqlstate[2] - '0') * 100 + (sqlstate[3] - '0') * 10 + (sqlstate[4] - '0');
	rule = find_rule(sqlstate);
	if (rule == NULL)
		return 500;
	if (rule->status == REFUSED)
		return anonymous ? 401 : 403;
	return rule->status;
}

bool
a67_status_is_retryable(const char *sqlstate)
{
	const Rule *rule = find_rule(sqlstate);

	return (rule != NULL && rule->retry) || strcmp(sqlstate, "PT503") == 0;
}

bool
a67_status_is_internal(const char *sqlstate)
{
	return strncmp(sqlstate, "XX", 2) == 0;
}
