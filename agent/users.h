/*
 * users.h - a user of its own for each application, when the agent runs as root.
 *
 * Owns the choice of numbers, nothing else: no passwd entry is needed or made.  A number belongs to one
 * replica from its first start until nothing is left of it; a group of the same number goes with it.
 * Called by host.c and launch.c.
 */
#ifndef A67_AGENT_USERS_H
#define A67_AGENT_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

typedef struct A67Users
{
	uid_t first; /* count 0: applications run as the agent's user */
	uint32_t count;
	const char *why; /* when count is 0 */
} A67Users;

/*
 * The range to take numbers from: that of the options ("FIRST-LAST"), or the first of our own that this
 * user namespace has.  -EINVAL: a range was asked for that cannot be used.
 */
int a67_users_open(const char *range, A67Users *users, A67Why *why);

/* Parses "FIRST-LAST", both from 1000 on.  False: not a range. */
bool a67_users_parse(const char *range, A67Users *users);

/* Whether a map like /proc/self/uid_map has the whole range. */
bool a67_users_mapped(const char *map, const A67Users *users);

/*
 * A number that taken() does not know; drawn by seed, so that what one application left somewhere is not
 * at once another's.  0: none is free, or the range is empty.
 */
uid_t a67_users_pick(const A67Users *users, uint64_t seed, bool (*taken)(void *arg, uid_t uid),
					 void *arg);

#endif /* A67_AGENT_USERS_H */
