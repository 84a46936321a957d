/*
 * machine.c - the table of a replica's life.  See machine.h and docs/states.md.
 */
#include "machine.h"

#include <string.h>

#define FETCHING  A67_REPLICA_FETCHING
#define STARTING  A67_REPLICA_STARTING
#define RUNNING	  A67_REPLICA_RUNNING
#define UNHEALTHY A67_REPLICA_UNHEALTHY
#define FAILED	  A67_REPLICA_FAILED
#define STOPPING  A67_REPLICA_STOPPING
#define REPLACING A67_REPLICA_REPLACING
#define HALTING	  A67_REPLICA_HALTING
#define STOPPED	  A67_REPLICA_STOPPED
#define FINISHED  A67_REPLICA_FINISHED
#define PARTED	  A67_REPLICA_PARTED

#define NONE	  A67_ACTION_NONE
#define FETCH	  A67_ACTION_FETCH
#define SPAWN	  A67_ACTION_SPAWN
#define STOP	  A67_ACTION_STOP
#define BACK_OFF  A67_ACTION_BACK_OFF
#define GIVE_UP	  A67_ACTION_GIVE_UP
#define FORGET	  A67_ACTION_FORGET
#define CONCLUDE  A67_ACTION_CONCLUDE

/* Cells left out are {0, A67_ACTION_IGNORE}: the event changes nothing. */
static const A67ReplicaCell table[A67_REPLICA_STATE_COUNT][A67_REPLICA_EVENT_COUNT] =
	{
		[FETCHING] =
			{
				[A67_EVENT_WANTED] = {FETCHING, FETCH},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
				[A67_EVENT_HALT] = {HALTING, STOP},
				[A67_EVENT_FETCHED] = {STARTING, SPAWN},
				[A67_EVENT_HOPELESS] = {FAILED, GIVE_UP},
				[A67_EVENT_PARTED] = {PARTED, STOP},
			},
		[STARTING] =
			{
				[A67_EVENT_WANTED] = {REPLACING, STOP},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
				[A67_EVENT_HALT] = {HALTING, STOP},
				[A67_EVENT_HEALTHY] = {RUNNING, NONE},
				[A67_EVENT_SICK] = {UNHEALTHY, STOP},
				[A67_EVENT_EXITED] = {UNHEALTHY, BACK_OFF},
				[A67_EVENT_HOPELESS] = {FAILED, GIVE_UP},
				[A67_EVENT_FINISHED] = {FINISHED, CONCLUDE},
				[A67_EVENT_PARTED] = {PARTED, STOP},
			},
		[RUNNING] =
			{
				[A67_EVENT_WANTED] = {REPLACING, STOP},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
				[A67_EVENT_HALT] = {HALTING, STOP},
				[A67_EVENT_SICK] = {UNHEALTHY, STOP},
				[A67_EVENT_EXITED] = {UNHEALTHY, BACK_OFF},
				[A67_EVENT_FINISHED] = {FINISHED, CONCLUDE},
				[A67_EVENT_PARTED] = {PARTED, STOP},
			},
		[UNHEALTHY] =
			{
				[A67_EVENT_WANTED] = {REPLACING, STOP},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
				[A67_EVENT_HALT] = {HALTING, STOP},
				[A67_EVENT_EXITED] = {UNHEALTHY, BACK_OFF},
				[A67_EVENT_RETRY] = {STARTING, SPAWN},
				[A67_EVENT_HOPELESS] = {FAILED, GIVE_UP},
				[A67_EVENT_PARTED] = {PARTED, STOP},
			},
		[FAILED] =
			{
				[A67_EVENT_WANTED] = {FETCHING, FETCH},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
			},
		[STOPPING] =
			{
				[A67_EVENT_WANTED] = {REPLACING, NONE},
				[A67_EVENT_UNWANTED] = {STOPPING, NONE},
				[A67_EVENT_EXITED] = {STOPPED, FORGET},
			},
		[REPLACING] =
			{
				[A67_EVENT_WANTED] = {REPLACING, NONE},
				[A67_EVENT_UNWANTED] = {STOPPING, NONE},
				[A67_EVENT_HALT] = {HALTING, NONE},
				[A67_EVENT_EXITED] = {FETCHING, FETCH},
				[A67_EVENT_PARTED] = {PARTED, NONE},
			},
		[HALTING] =
			{
				[A67_EVENT_UNWANTED] = {STOPPING, NONE},
				[A67_EVENT_EXITED] = {STOPPED, NONE},
			},
		[STOPPED] =
			{
				[A67_EVENT_WANTED] = {FETCHING, FETCH},
				[A67_EVENT_UNWANTED] = {STOPPED, FORGET},
			},
		[FINISHED] =
			{
				/* A run happens once: another one is another replica. */
				[A67_EVENT_WANTED] = {FINISHED, NONE},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
			},
		[PARTED] =
			{
				[A67_EVENT_WANTED] = {REPLACING, STOP},
				[A67_EVENT_UNWANTED] = {STOPPING, STOP},
				[A67_EVENT_HALT] = {HALTING, STOP},
				[A67_EVENT_EXITED] = {PARTED, NONE},
				[A67_EVENT_REUNITED] = {REPLACING, STOP},
			},
};

static const char *const state_names[A67_REPLICA_STATE_COUNT] = {
	"fetching",	 "starting", "running", "unhealthy", "failed", "stopping",
	"replacing", "halting",	 "stopped", "finished",	 "parted",
};

static const char *const report_names[A67_REPLICA_STATE_COUNT] = {
	"fetching", "starting", "running", "unhealthy", "failed",	 "stopping",
	"stopping", "stopping", "stopped", "finished",	"unhealthy",
};

static const char *const event_names[A67_REPLICA_EVENT_COUNT] = {
	"wanted", "unwanted", "halt",	  "fetched",  "healthy", "sick",
	"exited", "retry",	  "hopeless", "finished", "parted",	 "reunited",
};

static const char *const action_names[A67_REPLICA_ACTION_COUNT] = {
	"ignore", "none", "fetch", "spawn", "stop", "back_off", "give_up", "forget", "conclude",
};

A67ReplicaCell
a67_machine_cell(A67ReplicaState state, A67ReplicaEvent event)
{
	A67ReplicaCell cell = {state, A67_ACTION_IGNORE};

	if ((unsigned int) state < A67_REPLICA_STATE_COUNT &&
		(unsigned int) event < A67_REPLICA_EVENT_COUNT &&
		table[state][event].action != A67_ACTION_IGNORE)
		cell = table[state][event];
	return cell;
}

const char *
a67_machine_state_name(A67ReplicaState state)
{
	return (unsigned int) state < A67_REPLICA_STATE_COUNT ? state_names[state] : "?";
}

const char *
a67_machine_report_name(A67ReplicaState state)
{
	return (unsigned int) state < A67_REPLICA_STATE_COUNT ? report_names[state] : "?";
}

const char *
a67_machine_event_name(A67ReplicaEvent event)
{
	return (unsigned int) event < A67_REPLICA_EVENT_COUNT ? event_names[event] : "?";
}

const char *
a67_machine_action_name(A67ReplicaAction action)
{
	return (unsigned int) action < A67_REPLICA_ACTION_COUNT ? action_names[action] : "?";
}

bool
a67_machine_parse_state(const char *name, A67ReplicaState *state)
{
	for (int i = 0; i < A67_REPLICA_STATE_COUNT; i++)
	{
		if (strcmp(name, state_names[i]) == 0)
		{
			*state = (A67ReplicaState) i;
			return true;
		}
	}
	return false;
}

void
a67_crash_restarted(A67CrashLog *log, int64_t now_ms)
{
	log->at_ms[log->count % A67_CRASH_RESTARTS] = now_ms;
	log->count++;
	log->fruitless++;
}

void
a67_crash_healthy(A67CrashLog *log)
{
	log->fruitless = 0;
}

bool
a67_crash_hopeless(const A67CrashLog *log, int64_t now_ms)
{
	/* With the ring full, the slot that the next restart would take holds the oldest of the last. */
	int64_t oldest = log->at_ms[log->count % A67_CRASH_RESTARTS];

	if (log->count < A67_CRASH_RESTARTS)
		return false;
	return log->fruitless >= A67_CRASH_RESTARTS || now_ms - oldest <= A67_CRASH_WINDOW_MS;
}
