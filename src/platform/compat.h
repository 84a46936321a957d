/*
 * compat.h - differences between the PostgreSQL releases that a67 builds with.
 *
 * Owns every comparison with PG_VERSION_NUM, as small inline functions named for what is wanted.
 * Included after postgres.h.
 */
#ifndef A67_COMPAT_H
#define A67_COMPAT_H

#include "utils/guc.h"

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

#endif /* A67_COMPAT_H */
