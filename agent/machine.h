/*
 * machine.h - life of a replica as a state machine: one table, [state][event] -> next state, action.
 *
 * Decides only; starts, stops and waits for nothing.  Also the rule when an application that keeps
 * dying is given up.  The diagram and the same table are in docs/states.md; a unit test compares the
 * two.  Called by the supervisor.
 */
#ifndef A67_AGENT_MACHINE_H
#define A67_AGENT_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum A67ReplicaState
{
	A67_REPLICA_FETCHING, /* package on its way or being unpacked */
	A67_REPLICA_STARTING, /* process runs, no good health check yet */
	A67_REPLICA_RUNNING,
	A67_REPLICA_UNHEALTHY, /* sick process being stopped, or none and a restart pending */
	A67_REPLICA_FAILED,	   /* given up; no process */
	A67_REPLICA_STOPPING,  /* unwanted, the process still lives */
	A67_REPLICA_REPLACING, /* other content wanted, the old process still lives */
	A67_REPLICA_HALTING,   /* the agent ends and takes the application along */
	A67_REPLICA_STOPPED,   /* no process; without desired state: nothing left but the memory */
	A67_REPLICA_FINISHED,  /* a cron app that ended by itself; never started again */
	A67_REPLICA_PARTED	   /* the controller is silent: being stopped, or without a process */
} A67ReplicaState;

#define A67_REPLICA_STATE_COUNT 11

typedef enum A67ReplicaEvent
{
	A67_EVENT_WANTED,	/* new content from the controller */
	A67_EVENT_UNWANTED, /* deleted by the controller, or the node was removed */
	A67_EVENT_HALT,		/* the agent ends with --stop-apps */
	A67_EVENT_FETCHED,	/* package unpacked */
	A67_EVENT_HEALTHY,	/* good health check */
	A67_EVENT_SICK,	  /* bad health checks, none good in time, or a cron app that takes too long */
	A67_EVENT_EXITED, /* no process (any more) */
	A67_EVENT_RETRY,  /* back-off is over */
	A67_EVENT_HOPELESS, /* crash loop, unusable package, entrypoint that cannot run */
	A67_EVENT_FINISHED, /* a cron app ended by itself: given instead of EXITED */
	A67_EVENT_PARTED,	/* the controller was silent for longer than the app may go on alone */
	A67_EVENT_REUNITED	/* the controller is back */
} A67ReplicaEvent;

#define A67_REPLICA_EVENT_COUNT 12

typedef enum A67ReplicaAction
{
	A67_ACTION_IGNORE,	 /* the event means nothing here: not even the state is written */
	A67_ACTION_NONE,	 /* only the state changes */
	A67_ACTION_FETCH,	 /* get and unpack the package */
	A67_ACTION_SPAWN,	 /* start the process */
	A67_ACTION_STOP,	 /* end the process, gracefully first; EXITED follows */
	A67_ACTION_BACK_OFF, /* plan the restart, or HOPELESS follows */
	A67_ACTION_GIVE_UP,	 /* keep error and last output */
	A67_ACTION_FORGET,	 /* remove what it had on disk */
	A67_ACTION_CONCLUDE	 /* keep the result of a run and its last output */
} A67ReplicaAction;

#define A67_REPLICA_ACTION_COUNT 9

typedef struct A67ReplicaCell
{
	A67ReplicaState next;
	A67ReplicaAction action;
} A67ReplicaCell;

/* The cell for a state and an event; IGNORE, in the same state, when either is out of range. */
A67ReplicaCell a67_machine_cell(A67ReplicaState state, A67ReplicaEvent event);

/* Internal name ("replacing") and the one of the protocol ("stopping"). */
const char *a67_machine_state_name(A67ReplicaState state);
const char *a67_machine_report_name(A67ReplicaState state);
const char *a67_machine_event_name(A67ReplicaEvent event);
const char *a67_machine_action_name(A67ReplicaAction action);
bool a67_machine_parse_state(const char *name, A67ReplicaState *state);

#define A67_CRASH_RESTARTS	5	   /* this many restarts … */
#define A67_CRASH_WINDOW_MS 120000 /* … within this time, and one more end: given up */

/* Restarts of one replica; zeroed at the start and by new content. */
typedef struct A67CrashLog
{
	int64_t at_ms[A67_CRASH_RESTARTS]; /* ring of the last restarts */
	uint32_t count;					   /* restarts in all */
	uint32_t fruitless;				   /* restarts since the last good health check */
} A67CrashLog;

void a67_crash_restarted(A67CrashLog *log, int64_t now_ms);
void a67_crash_healthy(A67CrashLog *log);

/*
 * Whether the process that has just ended shall not be started again: the last A67_CRASH_RESTARTS
 * restarts lie within A67_CRASH_WINDOW_MS, or none of as many brought a good health check.
 */
bool a67_crash_hopeless(const A67CrashLog *log, int64_t now_ms);

#endif /* A67_AGENT_MACHINE_H */
