/*
 * shard_link.h - connections to shards, one per endpoint and process, as the files of net/shard_*.c share them.
 *
 * A link is found by shard and replica (0: the primary) and stays for the life of the process; its connection comes and
 * goes. Who uses it: a part of a fan-out or a COPY while its answers are on the way (`user`), the local transaction while a
 * remote one is open (`depth`). A link that neither uses is idle: then a signal handler may shut its socket, because it
 * was idle for too long or because another process waits for the place.
 * The parts: shard_link.c (the links themselves), shard_cleanup.c (below); shard_wait.h, shard_connect.h, shard_session.h (what
 * the shard's session has to know), shard_error.h.
 * Memory of links is TopMemoryContext, of libpq malloc. Private to net.
 */
#ifndef A67_SHARD_LINK_H
#define A67_SHARD_LINK_H

#include "postgres.h"

#include <signal.h>

#include "lib/ilist.h"
#include "storage/latch.h"
#include "utils/hsearch.h"

#include "net/shard.h"
#include "net/shard_endpoint.h"

typedef struct A67LinkKey
{
	int32 shard_id;
	int32 replica_id; /* 0: the primary */
} A67LinkKey;

#define A67_SETTINGS_COPIED 8

/* Settings that the shard's session shares with this one; compared bytewise. */
typedef struct A67SessionSettings
{
	int64 timeout_ms; /* of statements */
	int64 copied[A67_SETTINGS_COPIED];
} A67SessionSettings;

typedef struct A67Link
{
	A67LinkKey key; /* first: the table's key */
	struct A67Link *next;
	NameData name;	 /* of the shard, for messages */
	NameData schema; /* in front of the search path, as sent last */
	A67Endpoint *endpoint;
	PGconn *conn;		/* NULL: not connected */
	int socket;			/* of conn, for the signal handler */
	WaitEventSet *wait; /* latch, postmaster, socket; made when first waited for */
	bool wait_write;	/* it waits for writing too */
	uint64 address;		/* hash of the connection string */
	bool suspect;		/* the string may have changed */
	uint32 counted;		/* when it was last counted among those that were used */
	uint32 statements;	/* as of which change its prepared statements are good */

	volatile sig_atomic_t idle; /* the signal handler may shut the socket */
	volatile sig_atomic_t shut; /* it did, and gave the place back */
	volatile int64 used_ms;		/* when it was used last */

	void *user;				   /* whose answers are on the way; NULL: nobody's */
	void (*drain)(void *user); /* takes all of them from the wire, so that another user can come */
	bool dirty;				   /* answers are on the way; without a user nobody wants them */
	bool quiet;				   /* its notices are not told */

	int depth; /* local nesting level up to which there are savepoints on the shard; 0: no transaction */
	int first_level; /* local level that all of the remote transaction's work belongs to, or above */
	int release;	 /* savepoint of that level and those above it are done with here; 0: none */
	bool lost;		 /* the connection broke while a remote transaction was open */
	bool wrote;		 /* the remote transaction changed rows or holds locks */

	bool equal;		   /* the shard's session has `settings` */
	bool equal_inside; /* they were set within the remote transaction: a rollback takes them back */
	A67SessionSettings settings; /* what was sent last */

	HTAB *prepared; /* statements prepared on this connection */
	dlist_head prepared_lru;
	int prepared_count;
	uint32 prepared_number; /* of the last one */
	List *leftover;			/* names of those to be deallocated */
} A67Link;

/* ---- shard_link.c ---- */

/* The link to an endpoint, connected or not. Throws when out of memory only. */
A67Link *a67_link(const A67ShardTarget *target, int32 replica_id);
A67Link *a67_link_first(void);

/* Between these two the signal handler leaves the link alone. take: false when it has no live connection. */
bool a67_link_take(A67Link *link);
void a67_link_release(A67Link *link);

/* Whether the other end of a link at rest has not hung up, as far as is known here. One system call. */
bool a67_link_is_alive(A67Link *link);

/* Makes a connection the link's, which has a place already. */
void a67_link_adopt(A67Link *link, PGconn *conn);

/* The shard has answered: for a67_shards_used. */
void a67_link_count(A67Link *link);
void a67_link_count_anew(void);

/* Closes the connection, if any, and gives the place back. Never throws. */
void a67_link_close(A67Link *link);

/* The connection broke: closed, and if a remote transaction was open, the local one cannot commit any more. */
void a67_link_lose(A67Link *link, int sqlstate);

/* Sees to it that no answers are on the way: their user takes them, or they are cancelled and thrown away. May throw. */
void a67_link_clear(A67Link *link);

/* Makes sure that idle connections are looked at; errors end all timers of a process. */
void a67_link_keep_time(void);

/* ---- shard_cleanup.c ---- */

#define A67_CANCEL_MS 2000 /* for a request to cancel */
#define A67_CLEANUP_MS \
	5000 /* for everything that a transaction's end does with one shard, its COMMIT apart */

/* Asks the server behind the link to cancel. False when it may not have been told: then nothing may be sent there any more. */
bool a67_link_cancel(A67Link *link, int64 deadline_ms);

/* Cancels what runs and throws its answers away; false when the connection had to be closed. Never throws. */
bool a67_link_abandon(A67Link *link, int64 deadline_ms);

typedef struct A67LinkRun
{
	A67Link *link;
	const char *sql;
	bool sent; /* out: it may have taken effect even without a result */
	PGresult *
		result; /* out: NULL when no answer came in time; the connection may be closed then, and after a FATAL one */
} A67LinkRun;

/* Runs commands on several links at once, all at rest. Cannot be interrupted, never throws. */
void a67_link_run(A67LinkRun *runs, int count, int64 deadline_ms);

#endif /* A67_SHARD_LINK_H */
