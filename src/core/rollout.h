/*
 * rollout.h - how a deployment gets from one release to another: one step of a state machine.
 *
 * Decides, from what is seen of the replicas of both releases, how many of each are wanted, which
 * share of the requests the new one gets, and whether the rollout goes on, is done, or goes back.
 * Keeps no clock and remembers nothing. Tested by random walks: targets stay within the bounds,
 * the weight is one that the strategy permits, every rollout ends, and one that goes back ends
 * with the old release as wanted as it was.
 * Its tables are in docs/states.md too; a unit test compares them. Called through SQL.
 */
#ifndef A67_ROLLOUT_H
#define A67_ROLLOUT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum A67RolloutKind
{
	A67_ROLLOUT_ROLLING,	/* replicas are exchanged within bounds */
	A67_ROLLOUT_RECREATE,	/* none of the old is left before the first new one starts */
	A67_ROLLOUT_BLUE_GREEN, /* all new beside all old, then all requests at once */
	A67_ROLLOUT_CANARY		/* beside the old, which stays whole, in growing shares */
} A67RolloutKind;

typedef enum A67RolloutState
{
	A67_ROLLOUT_RUNNING,
	A67_ROLLOUT_PAUSED,
	A67_ROLLOUT_ROLLING_BACK,
	A67_ROLLOUT_SUCCEEDED, /* these and the following are final */
	A67_ROLLOUT_ROLLED_BACK,
	A67_ROLLOUT_ABORTED,
	A67_ROLLOUT_FAILED /* went back, but the old release is not whole */
} A67RolloutState;

typedef enum A67RolloutPhase
{
	A67_PHASE_START,
	A67_PHASE_REPLACE, /* rolling: until all are new */
	A67_PHASE_DRAIN,   /* recreate: until nothing of the old is left */
	A67_PHASE_FILL,	   /* until the new replicas that are wanted are ready */
	A67_PHASE_TEST,	   /* until the smoke test has passed */
	A67_PHASE_OBSERVE, /* until the new ones have served long enough */
	A67_PHASE_RESTORE, /* until the old release is whole and nothing new is wanted */
	A67_PHASE_DONE
} A67RolloutPhase;

/* clang-format off */
typedef enum A67RolloutOrder
{ A67_ORDER_PAUSE, A67_ORDER_RESUME, A67_ORDER_ABORT, A67_ORDER_PROMOTE } A67RolloutOrder;

typedef enum A67RolloutTest /* NONE: none is asked for */
{ A67_TEST_NONE, A67_TEST_OPEN, A67_TEST_PASSED, A67_TEST_FAILED } A67RolloutTest;
/* clang-format on */

/* Why a rollout is where it is. */
typedef enum A67RolloutReason
{
	A67_REASON_NONE,
	A67_REASON_FAILURES,	 /* replicas of the new release failed */
	A67_REASON_DEADLINE,	 /* nothing came forward for too long */
	A67_REASON_TEST,		 /* the smoke test failed */
	A67_REASON_ERRORS,		 /* more errors than the old release */
	A67_REASON_LATENCY,		 /* slower than the old release */
	A67_REASON_RESTARTS,	 /* replicas that served have failed or started anew */
	A67_REASON_REQUESTS,	 /* went on: judged by requests */
	A67_REASON_FEW_REQUESTS, /* went on: too few requests to judge by, so by health alone */
	A67_REASON_HEALTH_ONLY,	 /* went on: nobody counts requests, so by health alone */
	A67_REASON_NOT_WHOLE	 /* went back, and the old release did not come back in time */
} A67RolloutReason;

#define A67_ROLLOUT_KINDS		 4
#define A67_ROLLOUT_STATES		 7
#define A67_ROLLOUT_PHASES		 8
#define A67_ROLLOUT_ORDERS		 4
#define A67_ROLLOUT_REASONS		 11
#define A67_ROLLOUT_STEPS_MAX	 20
#define A67_ROLLOUT_FAILURES_MAX 3	/* failed new replicas that end a rollout */
#define A67_ROLLOUT_RESTARTS_MAX 3	/* likewise restarts while they are observed */
#define A67_ROLLOUT_LATENCY_MS	 20 /* a difference that is never too slow */

/* The replicas of one release. */
typedef struct A67RolloutSide
{
	int32_t replicas; /* how many it has when it is whole */
	int32_t wanted;	  /* are to run */
	int32_t ready;	  /* of these, serve, and have done so for a while */
	int32_t total;	  /* processes that there may be, also unwanted ones */
	int32_t requests; /* counted since the phase began */
	double failures;  /* of these */
	double latency_ms;
} A67RolloutSide;

/* Integers throughout, since a table of fields reads them (rollout_sql.c); no unit: a boolean or a count. */
typedef struct A67RolloutView
{
	int32_t kind, state, phase; /* A67RolloutKind, A67RolloutState, A67RolloutPhase */
	int32_t step, weight;		/* of canary, from 0; percentage of the requests */
	int32_t surge, unavailable; /* beyond the number of replicas, and missing of it */
	int32_t steps[A67_ROLLOUT_STEPS_MAX], step_count; /* rising percentages */
	int32_t observe_ms;		   /* how long OBSERVE lasts: the window, or the interval of steps */
	int32_t deadline_ms;	   /* time without progress that is too long */
	int32_t phase_ms, idle_ms; /* time in this phase, and without progress */
	int32_t failures;		   /* new replicas that failed, in all */
	int32_t sick, restarts;	   /* of these, while observed; likewise restarts */
	int32_t test;			   /* A67RolloutTest */
	int32_t auto_rollback;	   /* a bad verdict goes back; else it pauses */
	int32_t promoted, aborted; /* the owner wants it done without more ado; had it go back */
	int32_t counted;		   /* somebody counts requests */
	int32_t min_requests;
	double max_error_rate; /* percentage points above the old release's */
	double max_latency_ratio;
	A67RolloutSide old_side, new_side;
} A67RolloutView;

typedef struct A67RolloutStep
{
	A67RolloutState state;
	A67RolloutPhase phase;
	int32_t step, weight;
	int32_t old_target, new_target;
	int32_t progress;		 /* grows as the phase comes forward */
	A67RolloutReason reason; /* NONE: nothing new to say */
} A67RolloutStep;

/*
 * What to do now. At most one change of state, phase or step a call: call again, with the view
 * changed accordingly, until nothing changes. Values out of range count as the nearest one.
 */
A67RolloutStep a67_rollout_step(const A67RolloutView *view);

/* The phase after this one, when what it waits for is there. */
A67RolloutPhase a67_rollout_next(A67RolloutKind kind, A67RolloutPhase phase);

/* The state that an order leads to; false when it is refused in this state. */
bool a67_rollout_order(A67RolloutState state, A67RolloutOrder order, A67RolloutState *next);
bool a67_rollout_final(A67RolloutState state);

/* Names as in SQL and JSON.  NULL, or -1, for what is not one. */
const char *a67_rollout_kind_name(A67RolloutKind kind);
const char *a67_rollout_state_name(A67RolloutState state);
const char *a67_rollout_phase_name(A67RolloutPhase phase);
const char *a67_rollout_order_name(A67RolloutOrder order);
const char *a67_rollout_reason_name(A67RolloutReason reason);
int a67_rollout_kind_parse(const char *name);
int a67_rollout_state_parse(const char *name);
int a67_rollout_phase_parse(const char *name);
int a67_rollout_order_parse(const char *name);

#endif /* A67_ROLLOUT_H */
