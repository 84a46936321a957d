/*
 * status.h: which HTTP status an SQLSTATE becomes.
 *
 * Decides that one thing, as PostgREST does where it has a rule; no state, no postgres.h. Called by
 * the api worker; docs/api.md prints the same table for users.
 */
#ifndef A67_LISTENER_STATUS_H
#define A67_LISTENER_STATUS_H

#include <stdbool.h>

/* Status for five characters of SQLSTATE; a refusal is 401 for the anonymous and 403 for others. */
extern int a67_status_of_sqlstate(const char *sqlstate, bool anonymous);

/* Whether the same request may succeed a moment later: the answer carries Retry-After. */
extern bool a67_status_is_retryable(const char *sqlstate);

/* Whether the error is ours and its text stays in the server's log. */
extern bool a67_status_is_internal(const char *sqlstate);

#endif
