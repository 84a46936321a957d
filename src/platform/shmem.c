/*
 * shmem.c - reserves and attaches the shared memory of a67.
 *
 * Owns the hooks and A67Shared itself; the other areas belong to the modules that register them. Without
 * shared_preload_libraries none of this runs and a67_shared stays NULL. After a crash of any backend the
 * server makes shared memory anew, so everything here starts empty again.
 * Called by _PG_init; the accessors by everybody above.
 */
#include "postgres.h"

#include "platform/shmem.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define TRANCHE_NAME "a67"

A67Shared *a67_shared = NULL;

static const A67ShmemArea *const *areas;
static int area_count;
static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();

	RequestAddinShmemSpace(MAXALIGN(sizeof(A67Shared)));
	for (int i = 0; i < area_count; i++)
		RequestAddinShmemSpace(areas[i]->size());
	RequestNamedLWLockTranche(TRANCHE_NAME, A67_LOCKS);
}

static void
init_shared(A67Shared *shared)
{
	memset(shared, 0, sizeof(*shared));
	shared->locks = GetNamedLWLockTranche(TRANCHE_NAME);
	for (int i = 0; i < A67_WORKER_SLOTS_MAX; i++)
	{
		shared->slots[i].procno = A67_NO_PROC;
		pg_atomic_init_u32(&shared->slots[i].wakes, 0);
	}
	for (int i = 0; i < A67_LISTENERS_MAX; i++)
	{
		pg_atomic_init_u32(&shared->listeners[i].clients, 0);
		pg_atomic_init_u32(&shared->listeners[i].api_workers, 0);
		pg_atomic_init_u32(&shared->listeners[i].queued, 0);
		pg_atomic_init_u64(&shared->listeners[i].requests, 0);
	}
}

static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	a67_shared = ShmemInitStruct("a67", sizeof(A67Shared), &found);
	if (!found)
		init_shared(a67_shared);
	for (int i = 0; i < area_count; i++)
		areas[i]->attach();
	LWLockRelease(AddinShmemInitLock);
}

void
a67_shmem_install(const A67ShmemArea *const *list, int count)
{
	Assert(process_shared_preload_libraries_in_progress);
	areas = list;
	area_count = count;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

A67Shared *
a67_shared_require(void)
{
	if (a67_shared == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("a67 must be loaded via shared_preload_libraries"),
						errhint("Add a67 to shared_preload_libraries and restart the server.")));
	return a67_shared;
}

LWLock *
a67_lock(A67LockId id)
{
	return &a67_shared->locks[id].lock;
}

void
a67_listener_publish(int instance, const A67ListenerPlace *place)
{
	A67ListenerInfo *info;

	Assert(instance >= 0 && instance < A67_LISTENERS_MAX);
	info = &a67_shared->listeners[instance];
	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	strlcpy(info->address, place->address, sizeof(info->address));
	info->port = place->port;
	strlcpy(info->scheme, place->scheme, sizeof(info->scheme));
	strlcpy(info->tls_pin, place->tls_pin, sizeof(info->tls_pin));
	if (info->pid != MyProcPid)
	{
		pg_atomic_write_u32(&info->clients, 0);
		pg_atomic_write_u32(&info->api_workers, 0);
		pg_atomic_write_u32(&info->queued, 0);
		pg_atomic_write_u64(&info->requests, 0);
	}
	info->pid = MyProcPid;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
}

void
a67_listener_withdraw(int instance)
{
	A67ListenerInfo *info = &a67_shared->listeners[instance];

	LWLockAcquire(a67_lock(A67_LOCK_STATUS), LW_EXCLUSIVE);
	if (info->pid == MyProcPid)
		info->pid = 0;
	LWLockRelease(a67_lock(A67_LOCK_STATUS));
}
