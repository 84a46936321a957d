/*
 * shard_link.c - the connections of this process: found, taken, given back, closed; see shard_link.h.
 *
 * Links form a list that only grows, so that the signal handler can walk it at any moment. The handler touches only
 * links that are idle: it shuts their sockets and gives their places back; what libpq holds is freed when the link is taken the next time.
 */
#include "postgres.h"

#include "net/shard_link.h"

#include <sys/socket.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "net/shard_address.h"
#include "net/shard_session.h"
#include "net/shard_error.h"
#include "net/shard_wait.h"
#include "platform/clock.h"
#include "platform/settings.h"

static HTAB *links;
static A67Link *volatile first;
static TimeoutId idle_timer;

/* Async-signal-safe. */
static void
shut_idle_links(void)
{
	int saved_errno = errno;
	int64 now_ms = a67_now_ms();

	for (A67Link *link = first; link != NULL; link = link->next)
	{
		if (!link->idle || link->shut)
			continue;
		if (now_ms - link->used_ms < a67_shard_idle_timeout &&
			!a67_endpoint_is_wanted(link->endpoint))
			continue;
		shutdown(link->socket, SHUT_RDWR);
		link->shut = true;
		a67_endpoint_leave(link->endpoint);
	}
	errno = saved_errno;
}

static void
handle_wanted(SIGNAL_ARGS)
{
	shut_idle_links();
}

/* Connections end properly, whatever ends the process. */
static void
at_exit(int code, Datum arg)
{
	for (A67Link *link = first; link != NULL; link = link->next)
		a67_link_close(link);
	if (a67_shared != NULL)
		a67_endpoint_leave_all();
}

/* Somebody changed a connection string, or anything about shards. */
static void
at_invalidation(Datum arg, Oid relid)
{
	if (relid != InvalidOid && relid != a67_address_relation())
		return;
	for (A67Link *link = first; link != NULL; link = link->next)
		link->suspect = true;
}

static void
install(void)
{
	HASHCTL control = {.keysize = sizeof(A67LinkKey),
					   .entrysize = sizeof(A67Link),
					   .hcxt = TopMemoryContext};

	links = hash_create("a67 links to shards", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	before_shmem_exit(at_exit, (Datum) 0);
	idle_timer = RegisterTimeout(USER_TIMEOUT, shut_idle_links);
	pqsignal(SIGUSR2, handle_wanted);
	CacheRegisterRelcacheCallback(at_invalidation, (Datum) 0);
	a67_transaction_install();
}

void
a67_link_keep_time(void)
{
	int tick_ms = Max(a67_shard_idle_timeout / 4, 20);

	if (first != NULL && !get_timeout_active(idle_timer))
		enable_timeout_every(idle_timer,
							 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), tick_ms), tick_ms);
}

A67Link *
a67_link(const A67ShardTarget *target, int32 replica_id)
{
	A67LinkKey key = {target->shard_id, replica_id};
	A67Link *link;
	bool found;

	if (unlikely(links == NULL))
		install();
	link = hash_search(links, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) link + sizeof(key), 0, sizeof(*link) - sizeof(key));
		link->socket = PGINVALID_SOCKET;
		dlist_init(&link->prepared_lru);
		link->next = first;
		first = link;
	}
	if (strcmp(NameStr(link->name), target->name) != 0)
		namestrcpy(&link->name, target->name);
	return link;
}

A67Link *
a67_link_first(void)
{
	return first;
}

/* Whether the connection is to where it ought to be. */
static bool
is_current(A67Link *link)
{
	A67ShardAddress address;
	bool same;

	if (link->depth > 0)
		return true;
	a67_address_read(link->key.shard_id, link->key.replica_id, NameStr(link->name), &address);
	same = address.hash == link->address;
	a67_address_wipe(&address);
	link->suspect = false;
	return same;
}

bool
a67_link_take(A67Link *link)
{
	link->idle = false;
	pg_compiler_barrier();
	if (link->conn == NULL)
		return false;
	if (!link->shut && PQstatus(link->conn) == CONNECTION_OK &&
		(!link->suspect || is_current(link)))
		return true;
	a67_link_close(link);
	return false;
}

bool
a67_link_is_alive(A67Link *link)
{
	/* What came while nobody asked is a farewell, or something harmless ahead of it. */
	for (int tries = 0; tries < 4; tries++)
	{
		char byte;
		ssize_t got = recv(link->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (got <= 0)
			return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
		if (PQconsumeInput(link->conn) != 1 || PQisBusy(link->conn))
			return false;
	}
	return true;
}

void
a67_link_release(A67Link *link)
{
	if (link->conn == NULL || link->user != NULL || link->depth > 0)
		return;
	if (a67_endpoint_is_wanted(link->endpoint) && !link->dirty)
	{
		a67_link_close(link);
		return;
	}
	link->used_ms = a67_now_ms();
	pg_compiler_barrier();
	link->idle = !link->dirty;
}

static uint32 counting;
static int counted;

void
a67_link_count(A67Link *link)
{
	if (link->counted == counting + 1)
		return;
	link->counted = counting + 1;
	counted++;
}

void
a67_link_count_anew(void)
{
	counting++;
	counted = 0;
}

bool
a67_shard_is_well(const A67ShardTarget *target)
{
	A67Endpoint *endpoint = a67_link(target, 0)->endpoint;

	if (endpoint == NULL)
		endpoint = a67_endpoint_look(target->shard_id, 0);
	return endpoint == NULL || !a67_endpoint_is_open(endpoint);
}

int
a67_shards_used(void)
{
	return counted;
}

void
a67_link_adopt(A67Link *link, PGconn *conn)
{
	Assert(link->conn == NULL);
	link->shut = false;
	link->dirty = false;
	link->equal = false;
	link->suspect = false;
	link->socket = PQsocket(conn);
	link->conn = conn;
	PQsetNoticeReceiver(conn, a67_shard_notice, link);
	a67_link_keep_time();
}

void
a67_link_close(A67Link *link)
{
	link->idle = false;
	pg_compiler_barrier();
	if (link->conn == NULL)
		return;
	a67_link_wait_forget(link);
	PQfinish(link->conn);
	link->conn = NULL;
	link->socket = PGINVALID_SOCKET;
	ReleaseExternalFD();
	if (!link->shut)
		a67_endpoint_leave(link->endpoint);
	link->endpoint = NULL;
	link->user = NULL;
	link->dirty = false;
	link->equal = false;
	a67_prepared_clear(link);
}

void
a67_link_lose(A67Link *link, int sqlstate)
{
	if (link->endpoint != NULL)
		a67_endpoint_failed(link->endpoint, sqlstate, a67_now_ms());
	if (link->depth > 0)
		link->lost = true;
	a67_link_close(link);
}

void
a67_link_clear(A67Link *link)
{
	if (link->user != NULL)
	{
		link->drain(link->user);
		Assert(link->user == NULL);
	}
	if (link->dirty && !a67_link_abandon(link, a67_now_ms() + A67_CLEANUP_MS) && link->depth > 0)
		link->lost = true;
}
