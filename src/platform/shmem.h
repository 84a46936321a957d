/*
 * shmem.h - what the processes of one server share: worker slots, listener entries, named areas.
 *
 * Owns A67Shared, reserved when the library is named in shared_preload_libraries; in any other process
 * a67_shared is NULL and a67_shared_require() raises. Upper modules (keyring, live table) register areas
 * of their own instead of being known here. Everything in A67Shared except the atomics is protected by
 * A67_LOCK_STATUS. Nothing here is a pointer into a process, a descriptor or a latch.
 */
#ifndef A67_SHMEM_H
#define A67_SHMEM_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "platform/settings.h"

#define A67_WORKER_NAME_SIZE 32
#define A67_WORKER_SLOTS_MAX 32
#define A67_ERROR_TEXT_SIZE	 256
#define A67_ADDRESS_SIZE	 64
#define A67_SCHEME_SIZE		 8
#define A67_PIN_TEXT_SIZE	 44 /* 32 bytes in base64url */
#define A67_NO_PROC			 (-1)

typedef enum A67LockId
{
	A67_LOCK_STATUS, /* worker slots and listener entries */
	A67_LOCK_KEYRING,
	A67_LOCK_VAULT, /* the master keys */
	A67_LOCK_LIVE,
	A67_LOCK_TLS_PAIR, /* making the files of the self-made pair */
	A67_LOCK_SHARD,	   /* which endpoints of shards there are */
	A67_LOCKS
} A67LockId;

/* One long-running process. Written by that process and by the launcher. */
typedef struct A67WorkerSlot
{
	char name[A67_WORKER_NAME_SIZE]; /* "monitor"; "" when the slot is free */
	int instance;					 /* 0 for the first of its name */
	int pid;						 /* 0 while it does not run */
	int procno;				  /* its PGPROC, for its latch; A67_NO_PROC while it does not run */
	bool stop;				  /* asked to end for good (extension dropped, database dropped) */
	bool fresh;				  /* started on purpose: the start is not counted as a restart */
	TimestampTz requested_at; /* the launcher asked for a start; 0 when none is under way */
	TimestampTz started_at;
	TimestampTz exited_at;
	TimestampTz last_tick_at;
	int64 lag_ms; /* how late the last tick began */
	int64 ticks;
	int64 errors;
	int64 restarts;
	int quick_exits; /* exits in a row soon after the start: the launcher's back-off */
	TimestampTz last_error_at;
	char last_error[A67_ERROR_TEXT_SIZE];
	pg_atomic_uint32 wakes; /* a67_wake of its name: tells those from other uses of the latch */
} A67WorkerSlot;

/* What a listener publishes about itself; the listener itself writes the counters at any time. */
typedef struct A67ListenerInfo
{
	int pid; /* 0: not listening */
	char address[A67_ADDRESS_SIZE];
	int port; /* the real one, also when a67.port is 0 */
	char scheme[A67_SCHEME_SIZE];
	char tls_pin[A67_PIN_TEXT_SIZE];
	pg_atomic_uint32 clients;
	pg_atomic_uint32 api_workers; /* running now */
	pg_atomic_uint32 queued;	  /* requests waiting for an api worker */
	pg_atomic_uint64 requests;	  /* answered since the start */
} A67ListenerInfo;

/* Where and how a listener accepts connections. */
typedef struct A67ListenerPlace
{
	const char *address;
	int port;
	const char *scheme;	 /* "http" or "https" */
	const char *tls_pin; /* of a key that the listeners made themselves; else "" */
} A67ListenerPlace;

typedef struct A67Shared
{
	LWLockPadded *locks;
	A67WorkerSlot slots[A67_WORKER_SLOTS_MAX];
	A67ListenerInfo listeners[A67_LISTENERS_MAX];

	/* The launcher's connection attempts, kept here because it exits when one fails. */
	int connect_failures;
	TimestampTz drop_database_at; /* somebody drops the database: keep away for a moment */
} A67Shared;

/* An area of shared memory that a module above this one owns. */
typedef struct A67ShmemArea
{
	Size (*size)(void);
	void (*attach)(void); /* finds or makes it; under AddinShmemInitLock, once per process */
} A67ShmemArea;

extern A67Shared *a67_shared;

/* Installs the hooks that reserve and attach everything. Only while the server preloads libraries. */
void a67_shmem_install(const A67ShmemArea *const *areas, int count);

/* a67_shared, or an error (55000, with a hint) when the library was not preloaded. */
A67Shared *a67_shared_require(void);

/* The lock for a part of shared memory; the library must be preloaded. */
LWLock *a67_lock(A67LockId id);

/*
 * Publishes where listener `instance` (0..A67_LISTENERS_MAX-1) accepts connections. Its
 * first call zeroes the counters. Withdrawn by a67_listener_withdraw, which is safe in an exit callback and to repeat.
 */
void a67_listener_publish(int instance, const A67ListenerPlace *place);
void a67_listener_withdraw(int instance);

#endif /* A67_SHMEM_H */
