/*
 * nodefsm.c - the node state machine's table and the one step over it; see nodefsm.h for the rules.
 *
 * The table is the whole policy: change it together with docs/states.md (a test compares them).
 * Invariants, tested over all cells: only FAIL cells lead to failed from another status and they
 * stand under PROBE_FAILED alone; the removed row is all IGNORE; maintenance answers ACTIVATE
 * and REMOVE only.
 */
#include "nodefsm.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* A node that is busy stays so until both figures are clearly below what made it busy. */
#define BUSY_ABOVE_PERCENT		 90.0
#define STILL_BUSY_ABOVE_PERCENT 80.0
#define DEGRADED_ABOVE_RATE		 0.05
#define REQUESTS_TO_TELL		 100.0

#define FLAPS_HALF_LIFE_S		 600.0
#define FLAPS_TRACE				 1e-6 /* less is nothing; tables keep flaps in 32 bits */
#define FLAPS_TOLERATED			 3.0
#define GOODS_PER_FLAP			 2.0
#define RECOVER_AFTER_MAX		 10

static const char *const status_names[A67_NODE_STATUS_COUNT] = {
	"initializing", "ready",   "busy",		  "degraded", "suspect",
	"failed",		"offline", "maintenance", "removed",
};

static const char *const sign_names[A67_NODE_SIGN_COUNT] = {
	"beat",			 "beat_busy", "beat_degraded", "silent",   "probe_ok", "probe_failed",
	"probe_invalid", "goodbye",	  "maintenance",   "activate", "remove",
};

/* clang-format off */
#define STAY		{A67_RULE_IGNORE, A67_NODE_INITIALIZING}
#define GO(to)		{A67_RULE_GO, A67_NODE_##to}
#define GOOD(to)	{A67_RULE_GOOD, A67_NODE_##to}
#define DOUBT(to)	{A67_RULE_DOUBT, A67_NODE_##to}
#define FAIL(to)	{A67_RULE_FAIL, A67_NODE_##to}

static const A67NodeCell table[A67_NODE_STATUS_COUNT][A67_NODE_SIGN_COUNT] = {
	[A67_NODE_INITIALIZING] = {
		[A67_SIGN_BEAT] = GO(READY),
		[A67_SIGN_BEAT_BUSY] = GO(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GO(DEGRADED),
		[A67_SIGN_SILENT] = DOUBT(SUSPECT),
		[A67_SIGN_PROBE_OK] = GO(INITIALIZING),
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = DOUBT(SUSPECT),
		[A67_SIGN_GOODBYE] = GO(OFFLINE),
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_READY] = {
		[A67_SIGN_BEAT] = GO(READY),
		[A67_SIGN_BEAT_BUSY] = GO(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GO(DEGRADED),
		[A67_SIGN_SILENT] = DOUBT(SUSPECT),
		[A67_SIGN_PROBE_OK] = GO(DEGRADED),
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = GO(DEGRADED),
		[A67_SIGN_GOODBYE] = GO(OFFLINE),
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_BUSY] = {
		[A67_SIGN_BEAT] = GOOD(READY),
		[A67_SIGN_BEAT_BUSY] = GO(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GO(DEGRADED),
		[A67_SIGN_SILENT] = DOUBT(SUSPECT),
		[A67_SIGN_PROBE_OK] = GO(DEGRADED),
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = GO(DEGRADED),
		[A67_SIGN_GOODBYE] = GO(OFFLINE),
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_DEGRADED] = {
		[A67_SIGN_BEAT] = GOOD(READY),
		[A67_SIGN_BEAT_BUSY] = GOOD(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GO(DEGRADED),
		[A67_SIGN_SILENT] = DOUBT(SUSPECT),
		[A67_SIGN_PROBE_OK] = GO(DEGRADED),
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = GO(DEGRADED),
		[A67_SIGN_GOODBYE] = GO(OFFLINE),
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_SUSPECT] = {
		[A67_SIGN_BEAT] = GOOD(READY),
		[A67_SIGN_BEAT_BUSY] = GOOD(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GO(DEGRADED),
		[A67_SIGN_SILENT] = DOUBT(SUSPECT),
		[A67_SIGN_PROBE_OK] = GO(DEGRADED),
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = GO(DEGRADED),
		[A67_SIGN_GOODBYE] = GO(OFFLINE),
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_FAILED] = {
		[A67_SIGN_BEAT] = GOOD(READY),
		[A67_SIGN_BEAT_BUSY] = GOOD(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GOOD(DEGRADED),
		[A67_SIGN_SILENT] = DOUBT(FAILED),
		[A67_SIGN_PROBE_OK] = GOOD(DEGRADED),
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = DOUBT(FAILED),
		[A67_SIGN_GOODBYE] = GO(OFFLINE),
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_OFFLINE] = {
		[A67_SIGN_BEAT] = GO(READY),
		[A67_SIGN_BEAT_BUSY] = GO(BUSY),
		[A67_SIGN_BEAT_DEGRADED] = GO(DEGRADED),
		[A67_SIGN_SILENT] = STAY,
		[A67_SIGN_PROBE_OK] = STAY,
		[A67_SIGN_PROBE_FAILED] = FAIL(FAILED),
		[A67_SIGN_PROBE_INVALID] = STAY,
		[A67_SIGN_GOODBYE] = STAY,
		[A67_SIGN_MAINTENANCE] = GO(MAINTENANCE),
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_MAINTENANCE] = {
		[A67_SIGN_BEAT] = STAY,
		[A67_SIGN_BEAT_BUSY] = STAY,
		[A67_SIGN_BEAT_DEGRADED] = STAY,
		[A67_SIGN_SILENT] = STAY,
		[A67_SIGN_PROBE_OK] = STAY,
		[A67_SIGN_PROBE_FAILED] = STAY,
		[A67_SIGN_PROBE_INVALID] = STAY,
		[A67_SIGN_GOODBYE] = STAY,
		[A67_SIGN_MAINTENANCE] = STAY,
		[A67_SIGN_ACTIVATE] = GO(INITIALIZING),
		[A67_SIGN_REMOVE] = GO(REMOVED),
	},
	[A67_NODE_REMOVED] = {
		[A67_SIGN_BEAT] = STAY,
		[A67_SIGN_BEAT_BUSY] = STAY,
		[A67_SIGN_BEAT_DEGRADED] = STAY,
		[A67_SIGN_SILENT] = STAY,
		[A67_SIGN_PROBE_OK] = STAY,
		[A67_SIGN_PROBE_FAILED] = STAY,
		[A67_SIGN_PROBE_INVALID] = STAY,
		[A67_SIGN_GOODBYE] = STAY,
		[A67_SIGN_MAINTENANCE] = STAY,
		[A67_SIGN_ACTIVATE] = STAY,
		[A67_SIGN_REMOVE] = STAY,
	},
};
/* clang-format on */

static uint32_t
at_least_one(uint32_t limit)
{
	return limit > 0 ? limit : 1;
}

static uint32_t
one_more(uint32_t count)
{
	return count < UINT32_MAX ? count + 1 : count;
}

static A67NodeHealth
fresh(A67NodeStatus status)
{
	A67NodeHealth health = {status, 0, 0};

	return health;
}

/*
 * A failed node stays failed whatever the count; any other goes by way of suspect, and no further
 * while verdicts are held back.
 */
static A67NodeHealth
count_failure(A67NodeHealth health, A67NodeStatus at_limit, const A67NodeLimits *limits)
{
	health.failures = one_more(health.failures);
	health.goods = 0;
	if (!limits->hold && health.failures >= at_least_one(limits->fail_after))
		health.status = at_limit;
	else if (health.status != at_limit && health.failures >= at_least_one(limits->suspect_after))
		health.status = A67_NODE_SUSPECT;
	return health;
}

static A67NodeHealth
count_good(A67NodeHealth health, A67NodeStatus at_limit, const A67NodeLimits *limits)
{
	health.goods = one_more(health.goods);
	health.failures = 0;
	if (health.goods >= at_least_one(limits->recover_after))
		return fresh(at_limit);
	return health;
}

A67NodeHealth
a67_nodefsm_step(A67NodeHealth health, A67NodeSign sign, const A67NodeLimits *limits)
{
	static const A67NodeLimits defaults = A67_NODE_LIMITS_DEFAULT;
	A67NodeCell cell = a67_nodefsm_cell(health.status, sign);

	if (limits == NULL)
		limits = &defaults;
	switch (cell.rule)
	{
		case A67_RULE_IGNORE:
			break;
		case A67_RULE_GO:
			return fresh(cell.next);
		case A67_RULE_GOOD:
			return count_good(health, cell.next, limits);
		case A67_RULE_DOUBT:
			health.goods = 0;
			if (one_more(health.failures) >= at_least_one(limits->suspect_after))
				health.status = cell.next;
			break;
		case A67_RULE_FAIL:
			return count_failure(health, cell.next, limits);
	}
	return health;
}

A67NodeCell
a67_nodefsm_cell(A67NodeStatus status, A67NodeSign sign)
{
	static const A67NodeCell ignore = STAY;

	if ((unsigned) status >= A67_NODE_STATUS_COUNT || (unsigned) sign >= A67_NODE_SIGN_COUNT)
		return ignore;
	return table[status][sign];
}

A67NodeSign
a67_nodefsm_beat_sign(A67NodeStatus status, double cpu_percent, double memory_percent,
					  double error_rate)
{
	double busy_above = status == A67_NODE_BUSY ? STILL_BUSY_ABOVE_PERCENT : BUSY_ABOVE_PERCENT;

	/* Written so that NaN fails the comparison and counts as above. */
	if (!(error_rate <= DEGRADED_ABOVE_RATE))
		return A67_SIGN_BEAT_DEGRADED;
	if (!(cpu_percent <= busy_above) || !(memory_percent <= busy_above))
		return A67_SIGN_BEAT_BUSY;
	return A67_SIGN_BEAT;
}

double
a67_node_error_rate(double requests, double failures)
{
	return requests >= REQUESTS_TO_TELL ? fmin(fmax(failures / requests, 0.0), 1.0) : 0.0;
}

/* How bad a status is that nobody commanded: good ones in order, then all that is not good. */
static int
badness(A67NodeStatus status)
{
	switch (status)
	{
		case A67_NODE_READY:
			return 0;
		case A67_NODE_BUSY:
			return 1;
		case A67_NODE_DEGRADED:
		case A67_NODE_SUSPECT:
		case A67_NODE_FAILED:
			return 2;
		default:
			return -1;
	}
}

bool
a67_node_fell(A67NodeHealth before, A67NodeHealth after)
{
	static const A67NodeLimits defaults = A67_NODE_LIMITS_DEFAULT;

	if (badness(before.status) < 0 || badness(after.status) < badness(before.status))
		return false;
	return badness(after.status) > badness(before.status) ||
		   (before.goods >= defaults.recover_after && after.goods == 0);
}

double
a67_node_flaps_fade(double flaps, double elapsed_s)
{
	double left = flaps * exp2(-fmax(elapsed_s, 0.0) / FLAPS_HALF_LIFE_S);

	return left > FLAPS_TRACE ? left : 0.0;
}

uint32_t
a67_node_recover_after(double flaps)
{
	static const A67NodeLimits defaults = A67_NODE_LIMITS_DEFAULT;
	double more = GOODS_PER_FLAP * ceil(flaps - FLAPS_TOLERATED);

	if (!(more > 0.0))
		return defaults.recover_after;
	return (uint32_t) fmin(defaults.recover_after + more, RECOVER_AFTER_MAX);
}

bool
a67_node_status_placeable(A67NodeStatus status)
{
	return status == A67_NODE_READY || status == A67_NODE_BUSY || status == A67_NODE_DEGRADED;
}

/* Index of name among count names, -1 when it is none of them. */
static int
find_name(const char *const *names, int count, const char *name)
{
	int i;

	for (i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

const char *
a67_node_status_name(A67NodeStatus status)
{
	return (unsigned) status < A67_NODE_STATUS_COUNT ? status_names[status] : NULL;
}

bool
a67_node_status_parse(const char *name, A67NodeStatus *status)
{
	int found = find_name(status_names, A67_NODE_STATUS_COUNT, name);

	if (found >= 0)
		*status = (A67NodeStatus) found;
	return found >= 0;
}

const char *
a67_node_sign_name(A67NodeSign sign)
{
	return (unsigned) sign < A67_NODE_SIGN_COUNT ? sign_names[sign] : NULL;
}

bool
a67_node_sign_parse(const char *name, A67NodeSign *sign)
{
	int found = find_name(sign_names, A67_NODE_SIGN_COUNT, name);

	if (found >= 0)
		*sign = (A67NodeSign) found;
	return found >= 0;
}
