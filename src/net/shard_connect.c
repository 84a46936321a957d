/*
 * shard_connect.c - connecting to many shards at once.
 *
 * Each wanted connection goes through: a place at the endpoint (waiting for one if need be), the connection itself, and
 * after a failure again, up to TRIES times in all, with a replica when reads may go there. Nothing was sent to the shard
 * by then, so trying again is always safe. The breaker decides whether an endpoint is tried at all.
 */
#include "postgres.h"

#include "net/shard_connect.h"

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "core/pace.h"
#include "net/shard_address.h"
#include "platform/clock.h"
#include "platform/compat.h"
#include "platform/settings.h"

#define TRIES		  3
#define RETRY_MS	  50
#define RETRY_MOST_MS 500
#define PLACE_POLL_MS 20 /* places are given back by signal handlers, which can wake nobody */

typedef enum TryState
{
	TRY_PLACE,	 /* waits for a place */
	TRY_CONNECT, /* libpq is at it */
	TRY_LATER,	 /* waits for the next attempt */
	TRY_DONE,	 /* one way or the other */
} TryState;

typedef struct Try
{
	A67Want *want;
	TryState state;
	A67Link *link;
	A67Endpoint *endpoint;
	A67ShardAddress address;
	PGconn *conn;
	PostgresPollingStatusType poll;
	bool has_place;
	bool waiting; /* counted among those that wait for a place */
	bool external_fd;
	int64 deadline_ms; /* of the state */
	int64 started_ms;
	List *replicas; /* that were not tried yet */
	bool replicas_known;
	A67Backoff backoff;
} Try;

typedef struct Tries
{
	Try *of;
	int count;
	int64 signalled_ms;
} Tries;

static void begin(Try *t);

/* Gives back whatever the attempt holds. Never throws. */
static void
let_go(Try *t)
{
	if (t->conn != NULL)
		PQfinish(t->conn);
	t->conn = NULL;
	if (t->external_fd)
		ReleaseExternalFD();
	t->external_fd = false;
	if (t->waiting)
		a67_endpoint_wait_end(t->endpoint);
	t->waiting = false;
	if (t->has_place)
		a67_endpoint_leave(t->endpoint);
	t->has_place = false;
	a67_address_wipe(&t->address);
}

/* Whether there is a replica that was not tried yet; then it is next. */
static bool
turn_to_replica(Try *t)
{
	const A67ShardTarget *target = t->want->target;

	if (!t->want->replica_ok || !a67_shard_replicas)
		return false;
	if (!t->replicas_known)
		t->replicas = a67_address_replicas(target->shard_id);
	t->replicas_known = true;
	if (t->replicas == NIL)
		return false;
	t->link = a67_link(target, linitial_int(t->replicas));
	t->replicas = list_delete_first(t->replicas);
	return true;
}

/* The attempt failed for good or is repeated. */
static void
failed(Try *t, int sqlstate, const char *why, bool again)
{
	A67Want *want = t->want;

	let_go(t);
	want->sqlstate = sqlstate;
	want->why = why;
	if (turn_to_replica(t))
	{
		begin(t);
		return;
	}
	if (again && want->attempts < TRIES)
	{
		t->state = TRY_LATER;
		t->deadline_ms = a67_now_ms() + a67_backoff_next(&t->backoff);
		return;
	}
	t->state = TRY_DONE;
}

static void
connected(Try *t)
{
	PGconn *conn = t->conn;

	if (!a67_address_login_ok(&t->address, conn))
	{
		a67_endpoint_failed(t->endpoint, ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION,
							a67_now_ms());
		failed(t, ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION, A67_ADDRESS_NO_LOGIN,
			   false);
		return;
	}
	PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
	PQsetnonblocking(conn, 1);
	t->link->endpoint = t->endpoint;
	t->link->address = t->address.hash;
	a67_link_adopt(t->link, conn);
	t->conn = NULL;
	t->external_fd = false;
	t->has_place = false;
	let_go(t);
	t->link->idle = false;
	t->want->link = t->link;
	t->state = TRY_DONE;
	a67_endpoint_succeeded(t->link->endpoint);
}

static void
refused(Try *t)
{
	int sqlstate;
	const char *why = a67_address_failure(t->conn, &sqlstate);
	/* Unreachable, full or starting passes; anything else, like a wrong password, stays as it is. */
	bool again = sqlstate == 0 || sqlstate == ERRCODE_CANNOT_CONNECT_NOW ||
				 ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INSUFFICIENT_RESOURCES;

	if (strcmp(why, A67_ADDRESS_NO_MEMORY) == 0)
	{
		failed(t, ERRCODE_OUT_OF_MEMORY, why, false);
		return;
	}
	a67_endpoint_failed(t->endpoint,
						sqlstate ? sqlstate : ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
						a67_now_ms());
	failed(t, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, why, again);
}

static void
poll_connection(Try *t)
{
	t->poll = PQconnectPoll(t->conn);
	if (t->poll == PGRES_POLLING_OK)
		connected(t);
	else if (t->poll == PGRES_POLLING_FAILED)
		refused(t);
}

static void
start_connection(Try *t)
{
	const char *why;

	if (t->waiting)
		a67_endpoint_wait_end(t->endpoint);
	t->waiting = false;
	t->state = TRY_CONNECT;
	t->deadline_ms = a67_now_ms() + a67_shard_connect_timeout;
	t->want->attempts++;
	a67_address_read(t->link->key.shard_id, t->link->key.replica_id, t->want->target->name,
					 &t->address);
	if (!AcquireExternalFD())
	{
		failed(t, ERRCODE_INSUFFICIENT_RESOURCES, "Too many files are open here.", true);
		return;
	}
	t->external_fd = true;
	t->conn = a67_address_start(&t->address, &why);
	if (t->conn == NULL)
		failed(t,
			   strcmp(why, A67_ADDRESS_NO_MEMORY) == 0
				   ? ERRCODE_OUT_OF_MEMORY
				   : ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
			   why, false);
	else if (PQstatus(t->conn) == CONNECTION_BAD)
		refused(t);
	else
		t->poll = PGRES_POLLING_WRITING;
}

static void
try_place(Try *t)
{
	if (a67_endpoint_enter(t->endpoint))
	{
		t->has_place = true;
		if (a67_endpoint_is(t->endpoint, t->link->key.shard_id, t->link->key.replica_id))
			start_connection(t);
		else
		{
			let_go(t);
			begin(t);
		}
	}
	else if (!t->waiting)
	{
		a67_endpoint_wait_begin(t->endpoint);
		t->waiting = true;
	}
}

/* The first step to the link's endpoint. */
static void
begin(Try *t)
{
	A67Link *link = t->link;

	a67_link_clear(link);
	t->endpoint = a67_endpoint(link->key.shard_id, link->key.replica_id);
	if (!a67_endpoint_is_open(t->endpoint) && a67_link_take(link))
	{
		t->want->link = link;
		t->state = TRY_DONE;
		return;
	}
	if (!a67_endpoint_may_try(t->endpoint, a67_now_ms()))
	{
		failed(t, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
			   "It failed several times in a row and is left alone for a moment.", false);
		return;
	}
	a67_link_close(link);
	t->state = TRY_PLACE;
	t->deadline_ms = a67_now_ms() + a67_shard_connect_timeout;
	try_place(t);
}

static void
time_is_up(Try *t)
{
	switch (t->state)
	{
		case TRY_PLACE:
			failed(t, ERRCODE_TOO_MANY_CONNECTIONS,
				   psprintf("All %d connections that this server may have to it are in use.",
							a67_shard_connections),
				   false);
			break;
		case TRY_CONNECT:
			a67_endpoint_failed(t->endpoint, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
								a67_now_ms());
			failed(t, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
				   psprintf("It did not answer within %d ms.", a67_shard_connect_timeout), false);
			break;
		case TRY_LATER:
			t->link = a67_link(t->want->target, 0);
			begin(t);
			break;
		case TRY_DONE:
			break;
	}
}

/* Waits for anything to happen to those that are not done. */
static void
wait_for_some(Tries *tries)
{
	WaitEventSet *set = a67_wait_set_create(tries->count + 2);
	WaitEvent *events = palloc(sizeof(WaitEvent) * (tries->count + 2));
	int64 now_ms = a67_now_ms();
	int64 wake_ms = A67_NEVER;
	volatile int found = 0;

	PG_TRY();
	{
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		for (int i = 0; i < tries->count; i++)
		{
			Try *t = &tries->of[i];

			if (t->state == TRY_DONE)
				continue;
			wake_ms = Min(wake_ms, t->deadline_ms);
			if (t->state == TRY_PLACE)
				wake_ms = Min(wake_ms, now_ms + PLACE_POLL_MS);
			if (t->state == TRY_CONNECT)
				AddWaitEventToSet(set,
								  t->poll == PGRES_POLLING_READING ? WL_SOCKET_READABLE
																   : WL_SOCKET_WRITEABLE,
								  PQsocket(t->conn), NULL, t);
		}
		found = WaitEventSetWait(set, a67_deadline_timeout(wake_ms, now_ms), events,
								 tries->count + 2, PG_WAIT_EXTENSION);
	}
	PG_FINALLY();
	{
		FreeWaitEventSet(set);
	}
	PG_END_TRY();
	for (int i = 0; i < found; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else
			poll_connection(events[i].user_data);
	}
	pfree(events);
}

static void
run(Tries *tries)
{
	for (;;)
	{
		bool more = false;
		int64 now_ms = a67_now_ms();

		for (int i = 0; i < tries->count; i++)
		{
			Try *t = &tries->of[i];

			if (t->state != TRY_DONE && a67_deadline_expired(t->deadline_ms, now_ms))
				time_is_up(t);
			else if (t->state == TRY_PLACE)
				try_place(t);
			if (t->state == TRY_PLACE && now_ms - tries->signalled_ms >= PLACE_POLL_MS)
				a67_endpoint_wait_signal(t->endpoint);
			more |= t->state != TRY_DONE;
		}
		tries->signalled_ms = now_ms;
		CHECK_FOR_INTERRUPTS();
		if (!more)
			return;
		wait_for_some(tries);
	}
}

void
a67_link_connect(A67Want *wants, int count)
{
	Tries tries = {.of = palloc0(sizeof(Try) * count), .count = count};

	PG_TRY();
	{
		for (int i = 0; i < count; i++)
		{
			Try *t = &tries.of[i];

			t->want = &wants[i];
			t->link = a67_link(wants[i].target, 0);
			a67_backoff_init(&t->backoff, RETRY_MS, RETRY_MOST_MS,
							 (uint64) a67_now_ms() + (uint64) MyProcPid);
			wants[i].link = NULL;
			begin(t);
		}
		run(&tries);
	}
	PG_CATCH();
	{
		for (int i = 0; i < count; i++)
		{
			let_go(&tries.of[i]);
			if (wants[i].link != NULL)
				a67_link_release(wants[i].link);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(tries.of);
}

void
a67_link_connect_error(const A67Want *want)
{
	bool full = want->sqlstate == ERRCODE_TOO_MANY_CONNECTIONS;

	ereport(ERROR,
			(errcode(want->sqlstate),
			 full ? errmsg("too many connections to shard \"%s\"", want->target->name)
				  : errmsg("could not connect to shard \"%s\"", want->target->name),
			 errdetail_internal("%s", want->why),
			 full ? errhint("Raise a67.shard_connections if the shard allows more, or run fewer "
							"transactions at once.")
				  : 0));
}
