/*
 * agent_machine_test.c - the life of a replica: docs/states.md says what the code does, what must hold
 * in every cell, and the rule for applications that keep dying.
 */
#include "machine.h"

#include "states_table.h"

static void
compare_head(char **cells)
{
	for (int event = 0; event < A67_REPLICA_EVENT_COUNT; event++)
		CHECK_STR(cells[event + 1], a67_machine_event_name((A67ReplicaEvent) event));
}

static void
compare_row(char **cells)
{
	A67ReplicaState state;
	int event;

	if (!a67_machine_parse_state(cells[0], &state))
	{
		printf("# docs/states.md has a row \"%s\"\n", cells[0]);
		CHECK(false);
		return;
	}
	for (event = 0; event < A67_REPLICA_EVENT_COUNT; event++)
	{
		A67ReplicaCell cell = a67_machine_cell(state, (A67ReplicaEvent) event);
		char want[64] = "-";

		if (cell.action == A67_ACTION_NONE)
			(void) snprintf(want, sizeof(want), "%s", a67_machine_state_name(cell.next));
		else if (cell.action != A67_ACTION_IGNORE)
			(void) snprintf(want, sizeof(want), "%s, %s", a67_machine_state_name(cell.next),
							a67_machine_action_name(cell.action));
		CHECK_STR(cells[event + 1], want);
	}
}

static void
documented_table_is_the_code(void)
{
	CHECK_INT(states_table("<!-- replica table", A67_REPLICA_EVENT_COUNT + 1, compare_head,
						   compare_row),
			  A67_REPLICA_STATE_COUNT);
}

static void
names_are_unique_and_parse(void)
{
	for (int i = 0; i < A67_REPLICA_STATE_COUNT; i++)
	{
		A67ReplicaState state = A67_REPLICA_STATE_COUNT;

		CHECK(a67_machine_parse_state(a67_machine_state_name((A67ReplicaState) i), &state));
		CHECK_INT(state, i);
	}
	CHECK_STR(a67_machine_report_name(A67_REPLICA_REPLACING), "stopping");
	CHECK_STR(a67_machine_report_name(A67_REPLICA_HALTING), "stopping");
}

static void
what_is_out_of_range_changes_nothing(void)
{
	A67ReplicaState state;

	CHECK_INT(a67_machine_cell((A67ReplicaState) 99, A67_EVENT_EXITED).action, A67_ACTION_IGNORE);
	CHECK_INT(a67_machine_cell(A67_REPLICA_RUNNING, (A67ReplicaEvent) 99).action,
			  A67_ACTION_IGNORE);
	CHECK_INT(a67_machine_cell((A67ReplicaState) -1, (A67ReplicaEvent) -1).action,
			  A67_ACTION_IGNORE);
	CHECK_STR(a67_machine_state_name((A67ReplicaState) 99), "?");
	CHECK(!a67_machine_parse_state("dancing", &state));
}

static bool
may_have_process(A67ReplicaState state)
{
	return state != A67_REPLICA_FETCHING && state != A67_REPLICA_FAILED &&
		   state != A67_REPLICA_STOPPED && state != A67_REPLICA_FINISHED;
}

/* A spawn never happens beside a living process, nor does one get lost. */
static void
processes_are_neither_doubled_nor_lost(void)
{
	for (int s = 0; s < A67_REPLICA_STATE_COUNT; s++)
	{
		for (int e = 0; e < A67_REPLICA_EVENT_COUNT; e++)
		{
			A67ReplicaCell cell = a67_machine_cell((A67ReplicaState) s, (A67ReplicaEvent) e);
			bool ended = e == A67_EVENT_EXITED || e == A67_EVENT_RETRY || e == A67_EVENT_HOPELESS ||
						 e == A67_EVENT_FINISHED;

			if (cell.action == A67_ACTION_SPAWN)
				CHECK(e == A67_EVENT_FETCHED || e == A67_EVENT_RETRY);
			if (may_have_process((A67ReplicaState) s) && !may_have_process(cell.next))
				CHECK(ended);
			if (cell.action == A67_ACTION_FORGET)
				CHECK_INT(cell.next, A67_REPLICA_STOPPED);
		}
	}
}

/* Nothing that happens to a run that is over leads to another process. */
static void
finished_is_never_started_again(void)
{
	for (int e = 0; e < A67_REPLICA_EVENT_COUNT; e++)
	{
		A67ReplicaCell cell = a67_machine_cell(A67_REPLICA_FINISHED, (A67ReplicaEvent) e);

		CHECK(cell.next == A67_REPLICA_FINISHED ||
			  (e == A67_EVENT_UNWANTED && cell.next == A67_REPLICA_STOPPING));
		CHECK(cell.action != A67_ACTION_SPAWN && cell.action != A67_ACTION_FETCH);
	}
}

/* Without the controller a replica gets no process, and only hearing it again brings one. */
static void
parted_waits_for_the_controller(void)
{
	for (int s = 0; s < A67_REPLICA_STATE_COUNT; s++)
	{
		A67ReplicaCell cell = a67_machine_cell((A67ReplicaState) s, A67_EVENT_PARTED);

		CHECK(cell.next == A67_REPLICA_PARTED || cell.action == A67_ACTION_IGNORE);
		/* Whatever may start a process later is parted. */
		if (a67_machine_cell((A67ReplicaState) s, A67_EVENT_RETRY).action == A67_ACTION_SPAWN ||
			a67_machine_cell((A67ReplicaState) s, A67_EVENT_FETCHED).action == A67_ACTION_SPAWN)
			CHECK_INT(cell.next, A67_REPLICA_PARTED);
	}
	for (int e = 0; e < A67_REPLICA_EVENT_COUNT; e++)
	{
		A67ReplicaCell cell = a67_machine_cell(A67_REPLICA_PARTED, (A67ReplicaEvent) e);

		CHECK(cell.action != A67_ACTION_SPAWN && cell.action != A67_ACTION_FETCH);
		if (e != A67_EVENT_WANTED && e != A67_EVENT_REUNITED)
			CHECK(cell.next != A67_REPLICA_REPLACING);
	}
	CHECK_STR(a67_machine_report_name(A67_REPLICA_PARTED), "unhealthy");
}

/* From every state an order to stop leads to stopped, whatever happens on the way. */
static void
unwanted_ends(void)
{
	for (int s = 0; s < A67_REPLICA_STATE_COUNT; s++)
	{
		A67ReplicaState state = a67_machine_cell((A67ReplicaState) s, A67_EVENT_UNWANTED).next;

		CHECK(state == A67_REPLICA_STOPPING || state == A67_REPLICA_STOPPED);
		for (int e = A67_EVENT_FETCHED; e < A67_REPLICA_EVENT_COUNT; e++)
		{
			A67ReplicaState next = a67_machine_cell(state, (A67ReplicaEvent) e).next;

			CHECK(next == A67_REPLICA_STOPPING || next == A67_REPLICA_STOPPED);
		}
		CHECK_INT(a67_machine_cell(state, A67_EVENT_EXITED).next, A67_REPLICA_STOPPED);
	}
}

static void
five_restarts_in_two_minutes_are_hopeless(void)
{
	A67CrashLog log = {0};

	for (int i = 0; i < A67_CRASH_RESTARTS; i++)
	{
		CHECK(!a67_crash_hopeless(&log, i * 1000));
		a67_crash_restarted(&log, i * 1000);
		a67_crash_healthy(&log);
	}
	CHECK(a67_crash_hopeless(&log, 5000));
	CHECK(a67_crash_hopeless(&log, A67_CRASH_WINDOW_MS));
	CHECK(!a67_crash_hopeless(&log, A67_CRASH_WINDOW_MS + 1));
	/* The oldest leaves the window when a new one comes. */
	a67_crash_restarted(&log, 200000);
	a67_crash_healthy(&log);
	CHECK(!a67_crash_hopeless(&log, 200001));
}

static void
slow_deaths_without_a_healthy_moment_are_hopeless(void)
{
	A67CrashLog log = {0};

	for (int i = 0; i < A67_CRASH_RESTARTS; i++)
		a67_crash_restarted(&log, (int64_t) i * 3600000);
	CHECK(a67_crash_hopeless(&log, INT64_C(5) * 3600000));
	a67_crash_healthy(&log);
	CHECK(!a67_crash_hopeless(&log, INT64_C(5) * 3600000));
}

UNIT_MAIN("agent_machine", UNIT(documented_table_is_the_code), UNIT(names_are_unique_and_parse),
		  UNIT(what_is_out_of_range_changes_nothing), UNIT(processes_are_neither_doubled_nor_lost),
		  UNIT(finished_is_never_started_again), UNIT(parted_waits_for_the_controller),
		  UNIT(unwanted_ends), UNIT(five_restarts_in_two_minutes_are_hopeless),
		  UNIT(slow_deaths_without_a_healthy_moment_are_hopeless));
