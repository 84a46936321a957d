/*
 * shard_wait.c - waiting for sockets of links, together with the latch.
 *
 * One link is waited for with a set of its own, which lives as long as the connection; several with one set of the
 * process, which is used again as long as it holds all of those that are waited for (a fan-out gets fewer as shards
 * finish, and the next one is likely to go to the same shards). A connection that is closed ends both.
 */
#include "postgres.h"

#include "net/shard_wait.h"

#include "miscadmin.h"
#include "utils/wait_event.h"

#include "core/pace.h"
#include "platform/clock.h"
#include "platform/compat.h"

#define OWN_EVENTS 2 /* latch and postmaster come first in every set */

static WaitEventSet *many;
static A67Link *many_links[A67_SHARDS_MAX];
static bool many_write[A67_SHARDS_MAX];
static int many_count;

static WaitEventSet *
new_set(int sockets)
{
	WaitEventSet *set = a67_wait_set_create(OWN_EVENTS + sockets);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	return set;
}

static uint32
events_of(bool write)
{
	return WL_SOCKET_READABLE | (write ? WL_SOCKET_WRITEABLE : 0);
}

void
a67_link_wait_forget(A67Link *link)
{
	if (link->wait != NULL)
		FreeWaitEventSet(link->wait);
	link->wait = NULL;
	if (many != NULL)
		FreeWaitEventSet(many);
	many = NULL;
	many_count = 0;
}

static WaitEventSet *
set_of_one(const A67Wait *wait)
{
	A67Link *link = wait->link;

	if (link->wait == NULL)
	{
		WaitEventSet *set = new_set(1);

		AddWaitEventToSet(set, events_of(false), link->socket, NULL, link);
		link->wait = set;
		link->wait_write = false;
	}
	if (link->wait_write != wait->write)
	{
		ModifyWaitEvent(link->wait, OWN_EVENTS, events_of(wait->write), NULL);
		link->wait_write = wait->write;
	}
	return link->wait;
}

/* Where the link is in the set; as links keep their order, mostly where it was last or soon after. */
static int
place_in_many(const A67Link *link, int start)
{
	for (int i = 0; i < many_count; i++)
	{
		int at = (start + i) % many_count;

		if (many_links[at] == link)
			return at;
	}
	return -1;
}

static void
build_many(const A67Wait *waits, int count)
{
	WaitEventSet *set;

	if (many != NULL)
		FreeWaitEventSet(many);
	many = NULL;
	many_count = 0;
	set = new_set(count);
	for (int i = 0; i < count; i++)
	{
		AddWaitEventToSet(set, events_of(waits[i].write), waits[i].link->socket, NULL,
						  waits[i].link);
		many_links[i] = waits[i].link;
		many_write[i] = waits[i].write;
	}
	many = set;
	many_count = count;
}

static WaitEventSet *
set_of_many(const A67Wait *waits, int count)
{
	int start = 0;

	for (int i = 0; i < count; i++)
	{
		int at = place_in_many(waits[i].link, start);

		if (at < 0)
		{
			build_many(waits, count);
			break;
		}
		if (many_write[at] != waits[i].write)
		{
			ModifyWaitEvent(many, OWN_EVENTS + at, events_of(waits[i].write), NULL);
			many_write[at] = waits[i].write;
		}
		start = at + 1;
	}
	return many;
}

static bool
mark_ready(A67Wait *waits, int count, const A67Link *link)
{
	for (int i = 0; i < count; i++)
	{
		if (waits[i].link == link)
		{
			waits[i].ready = true;
			return true;
		}
	}
	return false;
}

bool
a67_link_wait(A67Wait *waits, int count, int64 deadline_ms, bool interruptible)
{
	WaitEventSet *set;
	WaitEvent events[OWN_EVENTS + A67_SHARDS_MAX];
	int64 now_ms = a67_now_ms();
	bool stranger = false;
	int found;

	for (int i = 0; i < count; i++)
		waits[i].ready = false;
	set = count == 1 ? set_of_one(waits) : set_of_many(waits, count);
	found = WaitEventSetWait(set, a67_deadline_timeout(deadline_ms, now_ms), events,
							 Min(count, A67_SHARDS_MAX) + OWN_EVENTS, PG_WAIT_EXTENSION);
	for (int i = 0; i < found; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else if (!mark_ready(waits, count, events[i].user_data))
			stranger = true;
	}
	/* An idle connection of the set was closed from afar: it would wake us again and again. */
	if (stranger && count > 1)
		build_many(waits, count);
	if (interruptible)
		CHECK_FOR_INTERRUPTS();
	return found > 0;
}
