/*
 * deadlines.h: many deadlines, the nearest first: a binary heap of intrusive timers.
 *
 * Owns only the array of pointers (bounded by its capacity). Moving a deadline further away costs a
 * store: the heap notices when the old moment comes. That fits connections, whose deadlines are
 * pushed back at every request and hardly ever reached. No clock. Used by the server, and by the
 * listener for its WebSockets.
 */
#ifndef A67_CORE_HTTP_DEADLINES_H
#define A67_CORE_HTTP_DEADLINES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct A67HttpTimer
{
	int64_t due;	/* A67_NEVER: none */
	int64_t key;	/* what the heap sorts by: at most due */
	uint32_t index; /* place in the heap + 1; 0: not in it */
} A67HttpTimer;

typedef struct A67HttpDeadlines
{
	A67HttpTimer **heap;
	uint32_t count;
	uint32_t capacity;
} A67HttpDeadlines;

/* Room for capacity timers at most. False when out of memory. */
extern bool a67_http_deadlines_init(A67HttpDeadlines *d, uint32_t capacity);
/* Makes room for more; a smaller capacity changes nothing. False when out of memory. */
extern bool a67_http_deadlines_grow(A67HttpDeadlines *d, uint32_t capacity);
extern void a67_http_deadlines_free(A67HttpDeadlines *d);
/* Sets or moves the deadline of t; A67_NEVER takes it away. There is always room: see capacity. */
extern void a67_http_deadlines_set(A67HttpDeadlines *d, A67HttpTimer *t, int64_t due);
extern void a67_http_deadlines_remove(A67HttpDeadlines *d, A67HttpTimer *t);
/* Takes out and returns one timer that is due, or NULL. */
extern A67HttpTimer *a67_http_deadlines_pop(A67HttpDeadlines *d, int64_t now_ms);
/* No timer is due before this moment; A67_NEVER when there is none. */
extern int64_t a67_http_deadlines_next(const A67HttpDeadlines *d);

#endif
