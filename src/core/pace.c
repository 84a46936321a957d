/*
 * pace.c - deadlines, jittered back-off and splitmix64; see pace.h for the contract.
 *
 * Invariant: every result is a valid time or delay for every input; sums saturate.
 */
#include "pace.h"

int64_t
a67_deadline_in(int64_t now_ms, int64_t delay_ms)
{
	if (delay_ms <= 0)
		return now_ms;
	if (now_ms > A67_NEVER - delay_ms)
		return A67_NEVER;
	return now_ms + delay_ms;
}

int64_t
a67_deadline_left(int64_t deadline_ms, int64_t now_ms)
{
	if (deadline_ms == A67_NEVER)
		return A67_NEVER;
	if (now_ms >= deadline_ms)
		return 0;
	/* The difference of a negative now and a large deadline may exceed the type. */
	if (now_ms < 0 && deadline_ms > A67_NEVER + now_ms)
		return A67_NEVER;
	return deadline_ms - now_ms;
}

bool
a67_deadline_expired(int64_t deadline_ms, int64_t now_ms)
{
	return a67_deadline_left(deadline_ms, now_ms) == 0;
}

int64_t
a67_deadline_min(int64_t a_ms, int64_t b_ms)
{
	return a_ms < b_ms ? a_ms : b_ms;
}

int
a67_deadline_timeout(int64_t deadline_ms, int64_t now_ms)
{
	int64_t left = a67_deadline_left(deadline_ms, now_ms);

	if (left == A67_NEVER)
		return -1;
	return left < INT32_MAX ? (int) left : INT32_MAX;
}

uint64_t
a67_random_next(uint64_t *state)
{
	uint64_t mixed;

	*state += UINT64_C(0x9E3779B97F4A7C15);
	mixed = *state;
	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
	return mixed ^ (mixed >> 31);
}

uint64_t
a67_random_below(uint64_t *state, uint64_t limit)
{
	uint64_t reject_below;
	uint64_t drawn;

	if (limit < 2)
		return 0;
	/*
	 * 2^64 mod limit: dropping that many of the smallest numbers leaves a multiple of limit.
	 * Less than half of all draws are dropped, so the loop ends quickly for any state.
	 */
	reject_below = (0 - limit) % limit;
	do
		drawn = a67_random_next(state);
	while (drawn < reject_below);
	return drawn % limit;
}

void
a67_backoff_init(A67Backoff *backoff, int64_t base_ms, int64_t cap_ms, uint64_t seed)
{
	backoff->base_ms = base_ms > 0 ? base_ms : 1;
	backoff->cap_ms = cap_ms > backoff->base_ms ? cap_ms : backoff->base_ms;
	backoff->prev_ms = 0;
	backoff->seed = seed;
}

int64_t
a67_backoff_next(A67Backoff *backoff)
{
	int64_t prev_ms = backoff->prev_ms;
	int64_t top_ms;
	uint64_t span;

	/* Also brings numbers within bounds that did not pass through init. */
	a67_backoff_init(backoff, backoff->base_ms, backoff->cap_ms, backoff->seed);
	if (prev_ms < backoff->base_ms)
		prev_ms = backoff->base_ms;
	top_ms = prev_ms > INT64_MAX / 3 ? INT64_MAX : prev_ms * 3;
	span = (uint64_t) (top_ms - backoff->base_ms) + 1;
	prev_ms = backoff->base_ms + (int64_t) a67_random_below(&backoff->seed, span);
	backoff->prev_ms = prev_ms < backoff->cap_ms ? prev_ms : backoff->cap_ms;
	return backoff->prev_ms;
}

void
a67_backoff_reset(A67Backoff *backoff)
{
	backoff->prev_ms = 0;
}
