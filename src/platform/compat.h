/*
 * compat.h - differences between the PostgreSQL releases that a67 builds with.
 *
 * Owns every comparison with PG_VERSION_NUM, as small inline functions named for what is wanted.
 * Included after postgres.h.
 */
#ifndef A67_COMPAT_H
#define A67_COMPAT_H

#include "storage/proc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* Column of pg_database that names the locale of another provider than libc. */
#if PG_VERSION_NUM >= 170000
#define A67_ANUM_DATABASE_LOCALE Anum_pg_database_datlocale
#else
#define A67_ANUM_DATABASE_LOCALE Anum_pg_database_daticulocale
#endif

/* The number of the transaction in this process; another one in each. */
static inline LocalTransactionId
a67_local_transaction(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* Memory for the extra of a check hook, which the server frees; NULL when there is none. */
static inline void *
a67_guc_allocate(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

static inline void
a67_guc_release(void *extra)
{
#if PG_VERSION_NUM >= 160000
	guc_free(extra);
#else
	free(extra);
#endif
}

/* A set that lives until it is freed, whatever happens to transactions. */
static inline WaitEventSet *
a67_wait_set_create(int events)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, events);
#else
	return CreateWaitEventSet(TopMemoryContext, events);
#endif
}

#endif /* A67_COMPAT_H */
