/*
 * deadlines.c: the heap behind deadlines.h.
 *
 * Invariants: heap[i]->index == i + 1; heap[(i-1)/2]->key <= heap[i]->key; key <= due for every
 * timer in the heap. A timer whose key has come but whose due has not is put back with key = due.
 */
#include "deadlines.h"

#include "../pace.h"

#include <stdlib.h>

bool
a67_http_deadlines_init(A67HttpDeadlines *d, uint32_t capacity)
{
	d->heap = calloc(capacity, sizeof(*d->heap));
	d->count = 0;
	d->capacity = d->heap != NULL ? capacity : 0;
	return d->heap != NULL;
}

bool
a67_http_deadlines_grow(A67HttpDeadlines *d, uint32_t capacity)
{
	A67HttpTimer **heap;

	if (capacity <= d->capacity)
		return true;
	heap = realloc(d->heap, capacity * sizeof(*heap));
	if (heap == NULL)
		return false;
	d->heap = heap;
	d->capacity = capacity;
	return true;
}

void
a67_http_deadlines_free(A67HttpDeadlines *d)
{
	free(d->heap);
	d->heap = NULL;
	d->count = 0;
	d->capacity = 0;
}

static void
place(A67HttpDeadlines *d, uint32_t i, A67HttpTimer *t)
{
	d->heap[i] = t;
	t->index = i + 1;
}

static void
sift_up(A67HttpDeadlines *d, uint32_t i, A67HttpTimer *t)
{
	while (i > 0 && d->heap[(i - 1) / 2]->key > t->key)
	{
		place(d, i, d->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(d, i, t);
}

static void
sift_down(A67HttpDeadlines *d, uint32_t i, A67HttpTimer *t)
{
	for (;;)
	{
		uint32_t child = 2 * i + 1;

		if (child >= d->count)
			break;
		if (child + 1 < d->count && d->heap[child + 1]->key < d->heap[child]->key)
			child++;
		if (d->heap[child]->key >= t->key)
			break;
		place(d, i, d->heap[child]);
		i = child;
	}
	place(d, i, t);
}

void
a67_http_deadlines_remove(A67HttpDeadlines *d, A67HttpTimer *t)
{
	uint32_t i = t->index;
	A67HttpTimer *last;

	t->due = A67_NEVER;
	if (i == 0)
		return;
	t->index = 0;
	last = d->heap[--d->count];
	if (last == t)
		return;
	i--;
	if (i > 0 && d->heap[(i - 1) / 2]->key > last->key)
		sift_up(d, i, last);
	else
		sift_down(d, i, last);
}

void
a67_http_deadlines_set(A67HttpDeadlines *d, A67HttpTimer *t, int64_t due)
{
	t->due = due;
	if (t->index > 0)
	{
		/* A later moment, or none, is looked at when the key comes. */
		if (due >= t->key)
			return;
		t->key = due;
		sift_up(d, t->index - 1, t);
		return;
	}
	if (due == A67_NEVER || d->count == d->capacity)
		return;
	t->key = due;
	sift_up(d, d->count++, t);
}

A67HttpTimer *
a67_http_deadlines_pop(A67HttpDeadlines *d, int64_t now_ms)
{
	while (d->count > 0 && d->heap[0]->key <= now_ms)
	{
		A67HttpTimer *t = d->heap[0];
		int64_t due = t->due;

		if (due <= now_ms || due == A67_NEVER)
			a67_http_deadlines_remove(d, t);
		if (due <= now_ms)
			return t;
		if (due != A67_NEVER)
		{
			t->key = due;
			sift_down(d, 0, t);
		}
	}
	return NULL;
}

int64_t
a67_http_deadlines_next(const A67HttpDeadlines *d)
{
	return d->count > 0 ? d->heap[0]->key : A67_NEVER;
}
