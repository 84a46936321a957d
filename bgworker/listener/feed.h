/*
 * feed.h: events on their way from the database to subscribed sockets.
 *
 * One position per listener moves along the order of events (sql/api/feed.sql); what lies behind it has
 * been handed out. A socket that asks for what it missed is caught up by questions of its own, page by
 * page as it reads, up to that position, and joins when nothing of its own has happened since the
 * question that it was last caught up by. Nothing is asked while nobody is subscribed.
 */
#ifndef A67_LISTENER_FEED_H
#define A67_LISTENER_FEED_H

#include "postgres.h"

#include "lib/ilist.h"

#include "listener/message.h"

typedef struct A67Sockets A67Sockets;
typedef struct A67Socket A67Socket;

typedef struct A67Feed
{
	int subscribers; /* sockets that are checked and subscribed */
	bool placed;	 /* reached holds */
	bool asking;
	bool more;	/* there was more than one page */
	bool held;	/* events wait for transactions still running */
	bool dirty; /* woken since the last question */
	A67Position reached;
	uint32 wakes;
	int64 asked_at;
	int64 ask_after; /* not before, after an error */
	dlist_head replays;
	int replaying; /* questions under way */
	bool sampling; /* a question for metrics is under way */
	int64 sample_at;
	int64 next; /* when a67_feed_run has something to do on its own */
} A67Feed;

extern void a67_feed_init(A67Feed *feed);
extern void a67_feed_run(A67Sockets *sockets);

/* The client wants other events; masks may overlap what it has. */
extern void a67_feed_subscribe(A67Socket *socket, A67Topics topics);
/* The same, with what has happened behind the event `since`. False: such a request is under way. */
extern bool a67_feed_catch_up(A67Socket *socket, A67Topics topics, int64 since);
extern void a67_feed_unsubscribe(A67Socket *socket, A67Topics topics);
/* The socket has been checked. */
extern void a67_feed_admit(A67Socket *socket);
/* The socket gets nothing any more. */
extern void a67_feed_leave(A67Socket *socket);

#endif
