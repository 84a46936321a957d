/*
 * fetch.h - gets one package and unpacks it: cache, else download to a temporary file, check, unpack.
 *
 * Owns cache/<digest>.tar.gz and the growing directory NAME.part, which it renames to NAME when the
 * package is whole: a directory called NAME is always complete.  Decides nothing about retries; says
 * of each failure what kind it is.  One object per replica that is fetching; called by the supervisor.
 */
#ifndef A67_AGENT_FETCH_H
#define A67_AGENT_FETCH_H

#include <stdint.h>

#include "desired.h"
#include "pollset.h"
#include "statedir.h"

#define A67_PACKAGE_MAX_BYTES (INT64_C(256) << 20) /* of the tar.gz */
#define A67_CACHE_KEEP		  8					   /* packages kept although nothing uses them */

typedef enum A67FetchState
{
	A67_FETCH_BUSY,
	A67_FETCH_DONE,
	A67_FETCH_AGAIN,  /* the network, the controller or this machine: try again */
	A67_FETCH_WRONG,  /* not there, or with another digest: try a few times */
	A67_FETCH_REFUSED /* the package itself is at fault: never try again */
} A67FetchState;

typedef struct A67FetchSource
{
	const A67StateDir *dir;
	const char *controller_url;
	const char *node_token;
	struct ssl_ctx_st *tls; /* NULL for http */
	const uint8_t *pin;		/* of the controller's server; NULL: its CA vouches for it */
	uid_t owner;			/* of what is unpacked; 0: us */
} A67FetchSource;

typedef struct A67Fetch A67Fetch;

/* Starts; target is the name of the directory below the state directory.  NULL when out of memory. */
A67Fetch *a67_fetch_new(const A67FetchSource *source, const A67Desired *desired, const char *target,
						int64_t now_ms);
void a67_fetch_free(A67Fetch *fetch);

void a67_fetch_prepare(A67Fetch *fetch, A67PollSet *set, int64_t now_ms);
A67FetchState a67_fetch_step(A67Fetch *fetch, const A67PollSet *set, int64_t now_ms);

const char *a67_fetch_digest(const A67Fetch *fetch);
const char *a67_fetch_error(const A67Fetch *fetch);

/* Whether the package is in the cache already. */
bool a67_cache_has(const A67StateDir *dir, const char *digest);

/* Removes the oldest packages for which used() is false beyond A67_CACHE_KEEP, and broken downloads. */
void a67_cache_prune(const A67StateDir *dir, bool (*used)(void *arg, const char *digest),
					 void *arg);

#endif /* A67_AGENT_FETCH_H */
