/*
 * pollset.h - what the loop waits for: descriptors and the earliest deadline.
 *
 * Filled anew before every wait, by each part of the agent; asked by the same parts afterwards, with
 * the index that adding gave them.  Owns nothing.
 */
#ifndef A67_AGENT_POLLSET_H
#define A67_AGENT_POLLSET_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/pace.h"

/* Room for a pidfd and a probe per replica, the downloads, signals, server and controller. */
#define A67_POLL_MAX 560

typedef struct A67PollSet
{
	struct pollfd fds[A67_POLL_MAX];
	int count;
	int64_t deadline_ms; /* A67_NEVER: none */
} A67PollSet;

static inline void
a67_poll_reset(A67PollSet *set)
{
	set->count = 0;
	set->deadline_ms = A67_NEVER;
}

/* Index of the entry, or -1 when fd is -1 or the set is full. */
static inline int
a67_poll_add(A67PollSet *set, int fd, short events)
{
	if (fd < 0 || set->count >= A67_POLL_MAX)
		return -1;
	set->fds[set->count].fd = fd;
	set->fds[set->count].events = events;
	set->fds[set->count].revents = 0;
	return set->count++;
}

static inline bool
a67_poll_ready(const A67PollSet *set, int index)
{
	return index >= 0 && index < set->count && set->fds[index].revents != 0;
}

static inline void
a67_poll_until(A67PollSet *set, int64_t deadline_ms)
{
	set->deadline_ms = a67_deadline_min(set->deadline_ms, deadline_ms);
}

#endif /* A67_AGENT_POLLSET_H */
