/*
 * clock.h - the monotonic clock that every loop of the server side measures time with.
 *
 * The core takes `now_ms` as an argument; this is where the argument comes from. Only differences of two
 * readings mean anything; wall-clock time for rows is GetCurrentTimestamp().
 */
#ifndef A67_CLOCK_H
#define A67_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Milliseconds of CLOCK_MONOTONIC. */
static inline int64_t
a67_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif /* A67_CLOCK_H */
