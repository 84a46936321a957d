/*
 * clock.h - the agent's only place that asks what time it is.
 *
 * Timers run on the monotonic clock, spans that outlive an agent on the one since boot; the wall clock
 * serves time stamps and the claims of tokens.
 * Everything else is handed `now_ms`.
 */
#ifndef A67_AGENT_CLOCK_H
#define A67_AGENT_CLOCK_H

#include <stdint.h>

#define A67_TIME_SIZE 32

/* CLOCK_MONOTONIC in milliseconds, and in microseconds to measure with. */
int64_t a67_clock_now_ms(void);
int64_t a67_clock_now_us(void);

/*
 * CLOCK_BOOTTIME in milliseconds: goes on while the machine sleeps and means the same to the next agent
 * while a67_clock_boot_id is the same; it identifies this run of the kernel ("unknown" without /proc).
 */
int64_t a67_clock_boot_ms(void);
const char *a67_clock_boot_id(void);

/* Milliseconds since 1970. */
int64_t a67_clock_wall_ms(void);

/* RFC 3339 in UTC with milliseconds. */
void a67_clock_format(int64_t wall_ms, char out[A67_TIME_SIZE]);

#endif /* A67_AGENT_CLOCK_H */
