/*
 * ingress.c - the ingress: keeps a HAProxy running and doing what the rows say.
 *
 * A round: ask the master process which workers live (LIST), ask each for its statistics (LOOK), hand that to
 * _ingress_plan in one transaction, send the commands it returns (TELL), and where another configuration is
 * needed write and check it (CHECK) and have it loaded without losing a connection (LOAD), or start HAProxy
 * when there is none (START). While HAProxy says the same as before and nobody has changed a row, a round ends
 * with the look, but for one every PLAN_MS. What is to be is decided in SQL; what is, HAProxy says: this process
 * may die at any line. HAProxy goes on without it, and without PostgreSQL. A configuration that fails the check
 * is never used. Memory: the texts of one round in `round`, reset when the next begins. No transaction is open
 * while anything is waited for.
 */
#include "postgres.h"

#include <signal.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/pace.h"
#include "core/proxystat.h"
#include "ingress_files.h"
#include "ingress_talk.h"
#include "platform/clock.h"
#include "platform/settings.h"
#include "workers.h"

#define LOOK_MS		  1000
#define PLAN_MS		  10000 /* a plan at least this often, whatever seems unchanged */
#define OFF_MS		  60000
#define TALK_MS		  3000	/* an answer of HAProxy */
#define PROGRAM_MS	  15000 /* more than what timeout(1) gives it */
#define SOON_MS		  40	/* after something was changed */
#define SOON_MAX	  5		/* changes in a row that are looked at so soon */
#define RELOAD_GAP_MS 1000
#define LOAD_MS		  5000 /* until a configuration that was sent runs */
#define DOWN_MS		  5000 /* without an answer until the alert */
#define ALERT_GAP_MS  30000
#define RETRY_BASE_MS 500
#define RETRY_CAP_MS  30000
#define PLAN_SQL \
	"SELECT commands, config, routes_file, routes, settled FROM a67_internal._ingress_plan($1, $2)"
#define FAULT_SQL "SELECT a67_internal._ingress_fault($1, $2)"

typedef enum Step
{
	STEP_REST,
	STEP_LIST,
	STEP_LOOK,
	STEP_TELL,
	STEP_CHECK,
	STEP_LOAD,
	STEP_START,
} Step;

/* What can be wrong with HAProxy, each with an alert of its own. */
typedef enum Fault
{
	FAULT_DOWN,
	FAULT_CONFIG,
	FAULTS
} Fault;

static const char *const fault_names[FAULTS] = {"down", "config"};

typedef struct Ingress
{
	Step step;
	A67Talk talk;
	MemoryContext round;
	SPIPlanPtr plan;

	/* Of this round. */
	pid_t master; /* 0: HAProxy does not answer */
	char *commands;
	char *config;
	char *routes_file;
	char *routes;

	/* Of several. */
	int64 look_at;			  /* when the next round is due, apart from the interval */
	int changes;			  /* rounds in a row that changed something */
	int64 answered_at;		  /* when HAProxy answered last, or this process began */
	int64 alerted_at[FAULTS]; /* when the last alert was raised; 0: not since all was well */
	int64 loaded_at;		  /* when a configuration was last handed over */
	int64 loading_until;	  /* until then it need not run yet; 0: it does */
	char loading[64];		  /* how it describes itself */
	bool again;				  /* something has changed since the round began */
	bool due;				  /* or since the last plan, or that one left something to do */
	uint64 said;			  /* the digest of what HAProxy said then */
	int64 planned_at;		  /* when that was */
	int64 retry_at;			  /* no configuration is tried before */
	A67Backoff retry;
	char *refused; /* the configuration that failed last; another one is tried at once */
} Ingress;

static int
interval_ms(void)
{
	return a67_ingress ? LOOK_MS : OFF_MS;
}

static void *
start(A67Worker *worker)
{
	Ingress *state = MemoryContextAllocZero(worker->life, sizeof(Ingress));

	a67_talk_init(&state->talk, worker->life);
	state->round = AllocSetContextCreate(worker->life, "ingress round", ALLOCSET_DEFAULT_SIZES);
	state->look_at = A67_NEVER;
	state->answered_at = a67_now_ms();
	state->due = true;
	a67_backoff_init(&state->retry, RETRY_BASE_MS, RETRY_CAP_MS, (uint64) getpid());
	worker->fd = state->talk.epoll_fd;
	return state;
}

static void
stop(A67Worker *worker, void *opaque)
{
	Ingress *state = opaque;

	worker->fd = -1;
	a67_talk_destroy(&state->talk);
}

/* ---- what needs a transaction --------------------------------------------------------------------------- */

static char *
kept(const Ingress *state, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value != NULL ? MemoryContextStrdup(state->round, value) : NULL;
}

/* Asks what follows from what HAProxy says; NULL when it says nothing. */
static void
plan(A67Worker *worker, Ingress *state, const char *output)
{
	Oid types[2] = {TIMESTAMPTZOID, TEXTOID};
	Datum values[2];
	char nulls[3] = {' ', output == NULL ? 'n' : ' ', '\0'};
	const char *settled;

	a67_worker_begin(worker, PLAN_SQL);
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = output != NULL ? CStringGetTextDatum(output) : (Datum) 0;
	if (state->plan == NULL)
	{
		state->plan = SPI_prepare(PLAN_SQL, lengthof(types), types);
		if (state->plan == NULL || SPI_keepplan(state->plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", PLAN_SQL);
	}
	if (SPI_execute_plan(state->plan, values, nulls, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "\"%s\" is not a query of one row", PLAN_SQL);
	state->commands = kept(state, 1);
	state->config = kept(state, 2);
	state->routes_file = kept(state, 3);
	state->routes = kept(state, 4);
	settled = kept(state, 5);
	a67_worker_commit(worker);
	state->due = settled == NULL || settled[0] != 't';
	state->planned_at = a67_now_ms();
}

/* Something is wrong with HAProxy: said in the log and to the operator, not too often. */
static void
report(A67Worker *worker, Ingress *state, Fault fault, const char *message)
{
	int64 now = a67_now_ms();
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2];

	if (state->alerted_at[fault] != 0 && now - state->alerted_at[fault] < ALERT_GAP_MS)
		return;
	state->alerted_at[fault] = now;
	ereport(WARNING, (errmsg("%s", message)));
	a67_worker_begin(worker, FAULT_SQL);
	values[0] = CStringGetTextDatum(fault_names[fault]);
	values[1] = CStringGetTextDatum(message);
	if (SPI_execute_with_args(FAULT_SQL, lengthof(types), types, values, NULL, false, 1) !=
		SPI_OK_SELECT)
		elog(ERROR, "\"%s\" is not a query", FAULT_SQL);
	a67_worker_commit(worker);
}

/* ---- steps ---------------------------------------------------------------------------------------------- */

static void
rest(Ingress *state, int64 look_at)
{
	state->step = STEP_REST;
	state->look_at = state->again ? a67_now_ms() + SOON_MS : look_at;
}

static void
send_to_master(Ingress *state, Step step, const char *text)
{
	char socket[MAXPGPATH];

	a67_ingress_socket(socket);
	state->step = step;
	a67_talk_send(&state->talk, socket, text, a67_now_ms() + TALK_MS);
}

static void
begin_round(Ingress *state)
{
	state->look_at = A67_NEVER;
	state->due |= state->again;
	state->again = false;
	state->commands = state->config = NULL;
	state->master = 0;
	MemoryContextReset(state->round);
	send_to_master(state, STEP_LIST, "show proc\n");
}

/* What became of a configuration that could not be used; another one is tried at once. */
static void
refuse(A67Worker *worker, Ingress *state, Fault fault, const char *message)
{
	int64 now = a67_now_ms();

	state->retry_at = now + a67_backoff_next(&state->retry);
	if (state->refused != NULL)
		pfree(state->refused);
	state->refused = MemoryContextStrdup(worker->life, state->config);
	rest(state, state->retry_at);
	if (fault != FAULT_DOWN || now - state->answered_at >= DOWN_MS)
		report(worker, state, fault, message);
	else
		ereport(LOG, (errmsg("%s", message)));
}

static bool
may_try(const Ingress *state, int64 now)
{
	if (state->config == NULL || now < state->loading_until ||
		(state->loaded_at != 0 && now < state->loaded_at + RELOAD_GAP_MS))
		return false;
	return now >= state->retry_at ||
		   (state->refused != NULL && strcmp(state->refused, state->config) != 0);
}

/* Hands the configuration in use to HAProxy, or starts one with it. */
static void
hand_over(A67Worker *worker, Ingress *state)
{
	const char *description = strstr(state->config, "description ");

	a67_ingress_use(state->routes_file);
	state->loaded_at = a67_now_ms();
	state->loading_until = state->loaded_at + LOAD_MS;
	if (description != NULL)
		strlcpy(state->loading, description + strlen("description "),
				Min(sizeof(state->loading),
					strcspn(description + strlen("description "), "\n") + 1));
	if (state->master != 0)
		send_to_master(state, STEP_LOAD, "reload\n");
	else if (a67_haproxy_path[0] == '\0')
		rest(state, A67_NEVER);
	else
	{
		ereport(LOG, (errmsg("starting HAProxy in \"%s\"", a67_ingress_directory)));
		state->step = STEP_START;
		a67_talk_start(&state->talk, a67_ingress_start_command(), state->loaded_at + PROGRAM_MS);
	}
}

/* After the commands: a configuration, when one is needed and may be tried now. */
static void
configure(A67Worker *worker, Ingress *state)
{
	int64 now = a67_now_ms();

	if (!may_try(state, now))
	{
		/* What was changed is looked at at once, but not for ever: a command may have no effect. */
		bool soon = state->commands != NULL && ++state->changes <= SOON_MAX;

		if (state->commands == NULL)
			state->changes = 0;
		rest(state, soon ? now + SOON_MS : state->config != NULL ? now + LOOK_MS / 5 : A67_NEVER);
		return;
	}
	a67_ingress_write(state->config, state->routes_file, state->routes);
	if (a67_haproxy_path[0] == '\0')
	{
		hand_over(worker, state);
		return;
	}
	state->step = STEP_CHECK;
	a67_talk_start(&state->talk, a67_ingress_check_command(), now + PROGRAM_MS);
}

static void
act(A67Worker *worker, Ingress *state)
{
	if (state->commands != NULL && state->master != 0)
		send_to_master(state, STEP_TELL, state->commands);
	else
		configure(worker, state);
}

/* HAProxy does not answer, or has no worker that could. Another one is started only when nobody is there. */
static void
unanswered(A67Worker *worker, Ingress *state)
{
	int64 now = a67_now_ms();
	bool nobody = state->talk.nobody;

	if (!a67_ingress)
		return;
	state->master = 0;
	state->due = true;
	if (now - state->answered_at >= DOWN_MS)
		report(worker, state, FAULT_DOWN,
			   psprintf("HAProxy does not answer at \"%s\": %s", a67_ingress_directory,
						state->talk.why[0] != '\0' ? state->talk.why : "it has no worker process"));
	if (!nobody)
		return;
	plan(worker, state, NULL);
	state->commands = NULL;
	configure(worker, state);
}

/* The ingress was switched off: requests under way may end, then HAProxy does. */
static void
switch_off(const Ingress *state)
{
	if (a67_haproxy_path[0] != '\0' && kill(state->master, SIGUSR1) == 0)
		ereport(LOG, (errmsg("HAProxy ends, as the ingress is off")));
}

/* The lines of "show proc": PID and type. Asks every worker, older ones too, for its statistics. */
static void
listed(A67Worker *worker, Ingress *state)
{
	StringInfoData ask;
	char *save = NULL;
	char *line;

	initStringInfo(&ask);
	for (line = strtok_r(state->talk.answer.data, "\n", &save); line != NULL;
		 line = strtok_r(NULL, "\n", &save))
	{
		char *rest_of_line;
		long pid = strtol(line, &rest_of_line, 10);

		if (pid <= 1 || rest_of_line == line)
			continue;
		rest_of_line += strspn(rest_of_line, " \t");
		if (strncmp(rest_of_line, "master", 6) == 0)
			state->master = (pid_t) pid;
		else if (strncmp(rest_of_line, "worker", 6) == 0)
			appendStringInfo(&ask, "@!%ld show info;@!%ld show stat -1 6 -1\n", pid, pid);
	}
	if (state->master == 0 || ask.len == 0)
		unanswered(worker, state);
	else if (!a67_ingress)
		switch_off(state);
	else
		send_to_master(state, STEP_LOOK, ask.data);
}

static void
looked(A67Worker *worker, Ingress *state)
{
	const char *output = state->talk.answer.data;
	uint64 said = a67_proxy_digest(output, (size_t) state->talk.answer.len);

	state->answered_at = a67_now_ms();
	if (!state->due && said == state->said && state->answered_at < state->planned_at + PLAN_MS)
		return;
	state->said = said;
	if (state->loading_until != 0 && strstr(output, state->loading) != NULL)
	{
		state->loading_until = state->retry_at = 0;
		a67_backoff_reset(&state->retry);
	}
	plan(worker, state, output);
	if (state->config == NULL)
		memset(state->alerted_at, 0, sizeof(state->alerted_at));
	else if (state->loading_until != 0 && state->answered_at >= state->loading_until)
	{
		state->loading_until = 0;
		refuse(worker, state, FAULT_CONFIG, "HAProxy did not load its new configuration");
		return;
	}
	act(worker, state);
}

static void
advance(A67Worker *worker, Ingress *state)
{
	bool done = state->talk.state == A67_TALK_DONE;
	Step step = state->step;

	/* Unless something follows; also when that throws. */
	rest(state, A67_NEVER);
	switch (step)
	{
		case STEP_REST:
			break;
		case STEP_LIST:
			if (done)
				listed(worker, state);
			else
				unanswered(worker, state);
			break;
		case STEP_LOOK:
			if (done)
				looked(worker, state);
			else
				unanswered(worker, state);
			break;
		case STEP_TELL:
			if (!done)
				ereport(LOG, (errmsg("HAProxy took no commands: %s", state->talk.why)));
			configure(worker, state);
			break;
		case STEP_CHECK:
			if (done)
				hand_over(worker, state);
			else
				refuse(worker, state, FAULT_CONFIG,
					   psprintf("HAProxy refuses its configuration: %s %s", state->talk.why,
								state->talk.answer.data));
			break;
		case STEP_LOAD:
			/* The master begins anew, which cuts the connection: nothing it says is worth anything. */
			rest(state, a67_now_ms() + 2 * SOON_MS);
			break;
		case STEP_START:
			if (done)
				rest(state, a67_now_ms() + SOON_MS);
			else
				refuse(worker, state, FAULT_DOWN,
					   psprintf("HAProxy does not start: %s %s", state->talk.why,
								state->talk.answer.data));
			break;
	}
}

/* ---- the definition's functions ------------------------------------------------------------------------- */

static void
ready(A67Worker *worker, void *opaque)
{
	Ingress *state = opaque;

	if (state->step == STEP_REST)
	{
		if (a67_now_ms() >= state->look_at)
			begin_round(state);
	}
	/* A step that is over at once leads to the next one at once. */
	while (state->step != STEP_REST && a67_talk_run(&state->talk, a67_now_ms()) != A67_TALK_BUSY)
		advance(worker, state);
}

static void
tick(A67Worker *worker, void *opaque)
{
	Ingress *state = opaque;

	state->again |= worker->woken || worker->reloaded;
	if (state->step == STEP_REST && !a67_ingress)
		plan(worker, state, NULL);
	if (state->step == STEP_REST)
		begin_round(state);
	ready(worker, opaque);
}

static int64
deadline_ms(A67Worker *worker, void *opaque)
{
	const Ingress *state = opaque;

	return state->step == STEP_REST ? state->look_at : state->talk.deadline_ms;
}

const A67WorkerDef a67_ingress_def = {
	.name = "ingress",
	.database = true,
	.interval_ms = interval_ms,
	.start = start,
	.tick = tick,
	.ready = ready,
	.deadline_ms = deadline_ms,
	.stop = stop,
};
