/*
 * pace.h - when to act next: deadlines, jittered back-off, and the small random generator behind
 * both.
 *
 * Decides only numbers; reads no clock and draws no entropy: `now_ms` (monotonic milliseconds)
 * and the seed come from the caller, so every schedule can be replayed in a test. All sums
 * saturate instead of overflowing. Not for secrets: the generator is predictable.
 * Used by the HTTP engine, the agent's loops, workers and placement.
 */
#ifndef A67_PACE_H
#define A67_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* A deadline that never comes. */
#define A67_NEVER INT64_MAX

/* The moment delay_ms after now_ms; a negative delay means now, A67_NEVER stays never. */
int64_t a67_deadline_in(int64_t now_ms, int64_t delay_ms);

/* Milliseconds left, 0 when it has passed, A67_NEVER when it never comes. */
int64_t a67_deadline_left(int64_t deadline_ms, int64_t now_ms);

/* Whether now is at or after the deadline. */
bool a67_deadline_expired(int64_t deadline_ms, int64_t now_ms);

/* The earlier of two. */
int64_t a67_deadline_min(int64_t a_ms, int64_t b_ms);

/*
 * The time left as poll(), epoll_wait() and WaitLatch() take it: -1 for never, at most
 * INT32_MAX.
 */
int a67_deadline_timeout(int64_t deadline_ms, int64_t now_ms);

/* Next number of a splitmix64 sequence; *state may start at any value, 0 included. */
uint64_t a67_random_next(uint64_t *state);

/* A number in 0..limit-1 without bias; 0 when limit is 0. */
uint64_t a67_random_below(uint64_t *state, uint64_t limit);

/* Decorrelated jitter: each delay is drawn from base_ms .. 3 * the previous one, at most cap_ms. */
typedef struct A67Backoff
{
	int64_t base_ms;
	int64_t cap_ms;
	int64_t prev_ms; /* 0 before the first delay */
	uint64_t seed;	 /* state of the generator */
} A67Backoff;

/* base_ms below 1 counts as 1, cap_ms below base_ms as base_ms. */
void a67_backoff_init(A67Backoff *backoff, int64_t base_ms, int64_t cap_ms, uint64_t seed);

/* The delay before the next attempt, always within base_ms..cap_ms. */
int64_t a67_backoff_next(A67Backoff *backoff);

/* After a success: the next delay starts from base_ms again; the random sequence goes on. */
void a67_backoff_reset(A67Backoff *backoff);

#endif /* A67_PACE_H */
