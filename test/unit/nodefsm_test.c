/*
 * nodefsm_test.c - the node state machine: docs/states.md says what the code does, the rules
 * that must hold in every cell, and the life of a node step by step.
 */
#include "nodefsm_fixture.h"
#include "states_table.h"

#include "core/pace.h"

static const char *const rule_words[] = {"", "", " (good)", " (doubt)", " (fail)"};

/* Compares one row of the documented table with the code; the columns are the statuses in order. */
static void
compare_row(char **cells)
{
	A67NodeSign sign;
	int status;

	if (!a67_node_sign_parse(cells[0], &sign))
	{
		printf("# docs/states.md has a row \"%s\"\n", cells[0]);
		CHECK(false);
		return;
	}
	for (status = 0; status < A67_NODE_STATUS_COUNT; status++)
	{
		A67NodeCell cell = a67_nodefsm_cell((A67NodeStatus) status, sign);
		char want[64] = "-";

		if (cell.rule != A67_RULE_IGNORE)
			snprintf(want, sizeof(want), "%s%s", a67_node_status_name(cell.next),
					 rule_words[cell.rule]);
		if (strcmp(cells[status + 1], want) != 0)
			printf("# docs/states.md, sign %s, status %s:\n", cells[0],
				   a67_node_status_name((A67NodeStatus) status));
		CHECK_STR(cells[status + 1], want);
	}
}

/* The head of the documented table: the statuses in order. */
static void
compare_head(char **cells)
{
	int status;

	for (status = 0; status < A67_NODE_STATUS_COUNT; status++)
		CHECK_STR(cells[status + 1], a67_node_status_name((A67NodeStatus) status));
}

static void
documented_table_is_the_code(void)
{
	CHECK_INT(states_table("<!-- node table", A67_NODE_STATUS_COUNT + 1, compare_head, compare_row),
			  A67_NODE_SIGN_COUNT);
}

/* Whether a sign may lead from one status to another under some limits. */
static bool
leads(A67NodeStatus from, A67NodeSign sign, A67NodeStatus to)
{
	A67NodeCell cell = a67_nodefsm_cell(from, sign);

	if (cell.rule == A67_RULE_IGNORE || from == to)
		return false;
	if (cell.rule == A67_RULE_FAIL && to == A67_NODE_SUSPECT && from != A67_NODE_FAILED)
		return true;
	return cell.next == to;
}

/* Signs that the diagram leaves out, as its text says: they start from nearly everywhere. */
static bool
drawn(A67NodeSign sign)
{
	return sign != A67_SIGN_GOODBYE && sign != A67_SIGN_MAINTENANCE && sign != A67_SIGN_REMOVE;
}

typedef bool Arrows[A67_NODE_STATUS_COUNT][A67_NODE_SIGN_COUNT][A67_NODE_STATUS_COUNT];

/* Enters one line "from --> to: sign, sign" into arrows; lines of another form have none. */
static void
read_arrow(char *line, Arrows arrows)
{
	char from_name[32];
	char to_name[32];
	A67NodeStatus from;
	A67NodeStatus to;
	char *list = strchr(line, ':');
	char *word;
	char *rest;

	if (list == NULL || sscanf(line, " %31s --> %31[a-z]", from_name, to_name) != 2)
		return;
	CHECK(a67_node_status_parse(from_name, &from));
	CHECK(a67_node_status_parse(to_name, &to));
	if (unit_failures > 0)
		return;
	for (word = strtok_r(list + 1, ", \n", &rest); word != NULL;
		 word = strtok_r(NULL, ", \n", &rest))
	{
		A67NodeSign sign;

		CHECK(a67_node_sign_parse(word, &sign));
		if (unit_failures == 0)
			arrows[from][sign][to] = true;
	}
}

static void
documented_diagram_is_the_code(void)
{
	static Arrows arrows;
	FILE *states = states_open();
	char line[1024];
	bool in_diagram = false;
	int from;
	int sign;
	int to;

	REQUIRE(states != NULL);
	while (fgets(line, sizeof(line), states) != NULL)
	{
		if (strncmp(line, "## Node", 7) == 0)
			in_diagram = true;
		else if (strncmp(line, "## ", 3) == 0)
			in_diagram = false;
		if (in_diagram)
			read_arrow(line, arrows);
	}
	fclose(states);
	for (from = 0; from < A67_NODE_STATUS_COUNT; from++)
	{
		for (sign = 0; sign < A67_NODE_SIGN_COUNT; sign++)
		{
			for (to = 0; to < A67_NODE_STATUS_COUNT; to++)
			{
				bool want = drawn((A67NodeSign) sign) &&
							leads((A67NodeStatus) from, (A67NodeSign) sign, (A67NodeStatus) to);

				if (arrows[from][sign][to] != want)
					printf("# %s --> %s: %s\n", a67_node_status_name((A67NodeStatus) from),
						   a67_node_status_name((A67NodeStatus) to),
						   a67_node_sign_name((A67NodeSign) sign));
				CHECK(arrows[from][sign][to] == want);
			}
		}
	}
}

static void
names_go_both_ways(void)
{
	int i;

	for (i = 0; i < A67_NODE_STATUS_COUNT; i++)
	{
		A67NodeStatus status = A67_NODE_REMOVED;

		CHECK(a67_node_status_parse(a67_node_status_name((A67NodeStatus) i), &status));
		CHECK_INT(status, i);
	}
	for (i = 0; i < A67_NODE_SIGN_COUNT; i++)
	{
		A67NodeSign sign = A67_SIGN_REMOVE;

		CHECK(a67_node_sign_parse(a67_node_sign_name((A67NodeSign) i), &sign));
		CHECK_INT(sign, i);
	}
}

static void
unknown_names_and_numbers_are_refused(void)
{
	A67NodeStatus status = A67_NODE_BUSY;
	A67NodeSign sign = A67_SIGN_SILENT;
	A67NodeHealth odd = health((A67NodeStatus) 9, 2, 1);

	CHECK(!a67_node_status_parse("", &status));
	CHECK(!a67_node_status_parse("Ready", &status));
	CHECK(!a67_node_status_parse("ready ", &status));
	CHECK_INT(status, A67_NODE_BUSY);
	CHECK(!a67_node_sign_parse("beats", &sign));
	CHECK_INT(sign, A67_SIGN_SILENT);
	CHECK_STR(a67_node_status_name((A67NodeStatus) 9), NULL);
	CHECK_STR(a67_node_status_name((A67NodeStatus) -1), NULL);
	CHECK_STR(a67_node_sign_name((A67NodeSign) 11), NULL);
	CHECK_INT(a67_nodefsm_cell(A67_NODE_READY, (A67NodeSign) 11).rule, A67_RULE_IGNORE);
	odd = a67_nodefsm_step(odd, A67_SIGN_BEAT, NULL);
	CHECK_INT(odd.status, 9);
	CHECK_UINT(odd.failures, 2);
	CHECK_HEALTH(a67_nodefsm_step(health(A67_NODE_READY, 0, 0), (A67NodeSign) 11, NULL), READY, 0,
				 0);
}

/* The rules stated in nodefsm.h, over all statuses, signs, counts and some limits. */
static void
rules_hold_everywhere(void)
{
	static const A67NodeLimits limits[] = {
		{1, 3, 2, false}, {0, 0, 0, false}, {3, 2, 1, false}, {2, 5, 4, false}, {1, 1, 1, true}};
	unsigned round;

	for (round = 0; round < 5 * A67_NODE_STATUS_COUNT * A67_NODE_SIGN_COUNT * 36; round++)
	{
		A67NodeStatus status = (A67NodeStatus) (round / 5 % A67_NODE_STATUS_COUNT);
		A67NodeSign sign = (A67NodeSign) (round / 5 / A67_NODE_STATUS_COUNT % A67_NODE_SIGN_COUNT);
		unsigned counts = round / 5 / A67_NODE_STATUS_COUNT / A67_NODE_SIGN_COUNT;
		A67NodeHealth before = health(status, counts % 6, counts / 6);
		A67NodeHealth after = a67_nodefsm_step(before, sign, &limits[round % 5]);

		if (after.status == A67_NODE_FAILED && status != A67_NODE_FAILED)
		{
			CHECK_INT(sign, A67_SIGN_PROBE_FAILED);
			CHECK(!limits[round % 5].hold);
		}
		if (status == A67_NODE_REMOVED)
			CHECK_INT(after.status, A67_NODE_REMOVED);
		else if (sign == A67_SIGN_REMOVE)
			CHECK_INT(after.status, A67_NODE_REMOVED);
		else if (status == A67_NODE_MAINTENANCE)
			CHECK_INT(after.status,
					  sign == A67_SIGN_ACTIVATE ? A67_NODE_INITIALIZING : A67_NODE_MAINTENANCE);
		if (after.status == A67_NODE_OFFLINE && status != A67_NODE_OFFLINE)
			CHECK_INT(sign, A67_SIGN_GOODBYE);
		if (after.status == A67_NODE_READY && status != A67_NODE_READY)
			CHECK_INT(sign, A67_SIGN_BEAT);
	}
}

static void
silence_alone_never_fails_a_node(void)
{
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);
	int i;

	for (i = 0; i < 1000; i++)
		now = a67_nodefsm_step(now, i % 3 == 1 ? A67_SIGN_PROBE_INVALID : A67_SIGN_SILENT, NULL);
	CHECK_HEALTH(now, SUSPECT, 0, 0);
	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_PROBE_INVALID, NULL), DEGRADED, 0, 0);
	/* The silence before has not shortened the way: it still takes three failed probes. */
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, SUSPECT, 1, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, SUSPECT, 2, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, FAILED, 3, 0);
}

static void
a_node_dies_and_comes_back(void)
{
	A67NodeHealth now = health(A67_NODE_INITIALIZING, 0, 0);

	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, READY, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT_BUSY, NULL);
	CHECK_HEALTH(now, BUSY, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, SUSPECT, 1, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, FAILED, 3, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, FAILED, 4, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, FAILED, 0, 1);
	/* Trouble in between: the good signs start anew, the node stays failed. */
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, FAILED, 1, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_SILENT, NULL);
	CHECK_HEALTH(now, FAILED, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, READY, 0, 0);
}

static void
failures_must_be_consecutive(void)
{
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);
	int i;

	for (i = 0; i < 20; i++)
	{
		now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
		now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
		CHECK_HEALTH(now, SUSPECT, 2, 0);
		now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
		CHECK_HEALTH(now, SUSPECT, 0, 1);
	}
	now = a67_nodefsm_step(now, A67_SIGN_BEAT_BUSY, NULL);
	CHECK_HEALTH(now, BUSY, 0, 0);
}

static void
answering_probes_alone_is_degraded(void)
{
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);

	now = a67_nodefsm_step(now, A67_SIGN_SILENT, NULL);
	CHECK_HEALTH(now, SUSPECT, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_OK, NULL);
	CHECK_HEALTH(now, DEGRADED, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, DEGRADED, 0, 1);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT_DEGRADED, NULL);
	CHECK_HEALTH(now, DEGRADED, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, READY, 0, 0);
	/* A failed node that answers probes again is not trusted at once either. */
	now = a67_nodefsm_step(health(A67_NODE_FAILED, 3, 0), A67_SIGN_PROBE_OK, NULL);
	CHECK_HEALTH(now, FAILED, 0, 1);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_OK, NULL);
	CHECK_HEALTH(now, DEGRADED, 0, 0);
}

/* Somebody answers, but not as an agent does: no proof of death, and none of life either. */
static void
a_senseless_answer_is_degraded(void)
{
	A67NodeHealth now = a67_nodefsm_step(health(A67_NODE_BUSY, 0, 0), A67_SIGN_PROBE_INVALID, NULL);

	CHECK_HEALTH(now, DEGRADED, 0, 0);
	now = a67_nodefsm_step(health(A67_NODE_SUSPECT, 2, 0), A67_SIGN_PROBE_INVALID, NULL);
	CHECK_HEALTH(now, DEGRADED, 0, 0);
	now = a67_nodefsm_step(health(A67_NODE_DEGRADED, 0, 1), A67_SIGN_PROBE_INVALID, NULL);
	CHECK_HEALTH(now, DEGRADED, 0, 0);
	/* It does not bring a failed node back, and does not make one usable that never beat. */
	now = a67_nodefsm_step(health(A67_NODE_FAILED, 3, 1), A67_SIGN_PROBE_INVALID, NULL);
	CHECK_HEALTH(now, FAILED, 3, 0);
	now = a67_nodefsm_step(health(A67_NODE_INITIALIZING, 0, 0), A67_SIGN_PROBE_INVALID, NULL);
	CHECK_HEALTH(now, SUSPECT, 0, 0);
}

/* A controller that doubts itself counts on, and acts at the first failure after. */
static void
held_verdicts_come_later(void)
{
	const A67NodeLimits hold = {1, 3, 2, true};
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);
	int i;

	for (i = 0; i < 10; i++)
		now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, &hold);
	CHECK_HEALTH(now, SUSPECT, 10, 0);
	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL), FAILED, 11, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, &hold);
	CHECK_HEALTH(now, SUSPECT, 0, 1);
	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_BEAT, &hold), READY, 0, 0);
	/* What failed before stays so. */
	now = a67_nodefsm_step(health(A67_NODE_FAILED, 3, 0), A67_SIGN_PROBE_FAILED, &hold);
	CHECK_HEALTH(now, FAILED, 4, 0);
}

/* Silence is what a goodbye announced; a machine that cannot be reached either is like a dead one. */
static void
a_goodbye_is_not_for_ever(void)
{
	A67NodeHealth now = health(A67_NODE_SUSPECT, 2, 1);
	int i;

	now = a67_nodefsm_step(now, A67_SIGN_GOODBYE, NULL);
	CHECK_HEALTH(now, OFFLINE, 0, 0);
	for (i = 0; i < 100; i++)
		now = a67_nodefsm_step(now, i % 2 == 0 ? A67_SIGN_SILENT : A67_SIGN_PROBE_OK, NULL);
	CHECK_HEALTH(now, OFFLINE, 0, 0);
	/* Restarted: one heartbeat is enough. */
	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_BEAT, NULL), READY, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, SUSPECT, 1, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	CHECK_HEALTH(now, FAILED, 3, 0);
}

static void
operators_commands(void)
{
	A67NodeHealth now = health(A67_NODE_BUSY, 0, 0);

	now = a67_nodefsm_step(now, A67_SIGN_MAINTENANCE, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_GOODBYE, NULL);
	CHECK_HEALTH(now, MAINTENANCE, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_ACTIVATE, NULL);
	CHECK_HEALTH(now, INITIALIZING, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_REMOVE, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_ACTIVATE, NULL);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, NULL);
	CHECK_HEALTH(now, REMOVED, 0, 0);
	/* Only maintenance is left by activate: health is not for an operator to assert. */
	CHECK_HEALTH(a67_nodefsm_step(health(A67_NODE_FAILED, 3, 0), A67_SIGN_ACTIVATE, NULL), FAILED,
				 3, 0);
}

static void
limits_are_the_callers(void)
{
	static const A67NodeLimits patient = {2, 4, 3, false};
	static const A67NodeLimits none = {0, 0, 0, false};
	A67NodeHealth now = health(A67_NODE_READY, 0, 0);

	now = a67_nodefsm_step(now, A67_SIGN_SILENT, &patient);
	CHECK_HEALTH(now, READY, 0, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, &patient);
	CHECK_HEALTH(now, READY, 1, 0);
	now = a67_nodefsm_step(now, A67_SIGN_SILENT, &patient);
	CHECK_HEALTH(now, SUSPECT, 1, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, &patient);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, &patient);
	CHECK_HEALTH(now, SUSPECT, 3, 0);
	now = a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, &patient);
	CHECK_HEALTH(now, FAILED, 4, 0);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, &patient);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, &patient);
	CHECK_HEALTH(now, FAILED, 0, 2);
	now = a67_nodefsm_step(now, A67_SIGN_BEAT, &patient);
	CHECK_HEALTH(now, READY, 0, 0);

	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, &none), FAILED, 1, 0);
	CHECK_HEALTH(a67_nodefsm_step(health(A67_NODE_FAILED, 9, 0), A67_SIGN_BEAT, &none), READY, 0,
				 0);
}

static void
counts_do_not_wrap(void)
{
	static const A67NodeLimits endless = {UINT32_MAX, UINT32_MAX, UINT32_MAX, false};
	A67NodeHealth now = health(A67_NODE_FAILED, UINT32_MAX, UINT32_MAX);

	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_PROBE_FAILED, NULL), FAILED, UINT32_MAX, 0);
	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_SILENT, &endless), FAILED, UINT32_MAX, 0);
	CHECK_HEALTH(a67_nodefsm_step(now, A67_SIGN_BEAT, &endless), READY, 0, 0);
}

/* Whatever comes, counts and status stay within bounds. */
static void
random_signs_keep_the_state_valid(void)
{
	A67NodeHealth now = health(A67_NODE_INITIALIZING, 0, 0);
	uint64_t seed = 17;
	int i;

	for (i = 0; i < 100000; i++)
	{
		A67NodeSign sign = (A67NodeSign) a67_random_below(&seed, A67_NODE_SIGN_COUNT);

		now = a67_nodefsm_step(now, sign, NULL);
		CHECK((unsigned) now.status < A67_NODE_STATUS_COUNT);
		CHECK(now.goods < 2);
		CHECK(now.failures < 3 || now.status == A67_NODE_FAILED);
		if (now.status == A67_NODE_REMOVED)
			now = health(A67_NODE_INITIALIZING, 0, 0);
	}
}

static void
placeable_statuses(void)
{
	int status;

	for (status = 0; status < A67_NODE_STATUS_COUNT; status++)
		CHECK(a67_node_status_placeable((A67NodeStatus) status) ==
			  (status == A67_NODE_READY || status == A67_NODE_BUSY || status == A67_NODE_DEGRADED));
	CHECK(!a67_node_status_placeable((A67NodeStatus) 99));
}

UNIT_MAIN("nodefsm", UNIT(documented_table_is_the_code), UNIT(documented_diagram_is_the_code),
		  UNIT(names_go_both_ways), UNIT(unknown_names_and_numbers_are_refused),
		  UNIT(rules_hold_everywhere), UNIT(silence_alone_never_fails_a_node),
		  UNIT(a_node_dies_and_comes_back), UNIT(failures_must_be_consecutive),
		  UNIT(answering_probes_alone_is_degraded), UNIT(a_senseless_answer_is_degraded),
		  UNIT(held_verdicts_come_later), UNIT(a_goodbye_is_not_for_ever), UNIT(operators_commands),
		  UNIT(limits_are_the_callers), UNIT(counts_do_not_wrap),
		  UNIT(random_signs_keep_the_state_valid), UNIT(placeable_statuses));
