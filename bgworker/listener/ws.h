/*
 * ws.h: the listener's WebSockets: who is at the other end, and for how long.
 *
 * ws.c lets sockets in, identifies their users, has sessions checked and reads what clients want;
 * feed.c gets events and hands them out. A socket is in `all` from its acceptance until its connection
 * ends, and lives until the last question asked on its account is answered. Everything here runs in
 * the listener's one thread: ws.c's handlers inside the engine's run, the rest in take_turn; nothing
 * throws but for want of memory at the start.
 */
#ifndef A67_LISTENER_WS_H
#define A67_LISTENER_WS_H

#include "postgres.h"

#include "core/http/deadlines.h"
#include "listener/feed.h"
#include "listener/message.h"
#include "listener/state.h"

#define A67_WS_AUTH 4401 /* close code: no token, a bad one, or a session that has ended */

typedef struct A67Socket
{
	dlist_node node;   /* in `all` */
	dlist_node check;  /* in `unchecked`, when check_waits */
	dlist_node replay; /* in the feed's `replays`, when replays != 0 */
	A67Sockets *sockets;
	A67HttpHandle handle;
	A67HttpTimer timer;
	int questions; /* that will call back */
	bool gone;	   /* the connection has ended: freed with the last question */
	bool closing;  /* nothing is sent any more */

	char *role; /* NULL until identified; claims stand behind it */
	char *claims;
	uint8 owner[16];
	int64 identify_by; /* to be identified and checked by then */
	int64 expires_at;
	int64 check_at;
	int64 checked_at; /* 0: never: nothing is told yet */
	bool check_waits;
	int second_messages; /* since second_at */
	int64 second_at;

	A67Topics live;	   /* sent as they happen */
	A67Topics replays; /* being caught up with */
	bool answer_due;   /* a change of the subscription is to be confirmed */
	bool counted;	   /* among the feed's subscribers */
	bool replay_begun; /* replayed holds */
	bool replay_asking;
	bool replay_more;
	bool missed; /* something to be replayed has happened since the last question */
	int64 since;
	int64 replay_after; /* not before, after an error */
	A67Position replayed;
} A67Socket;

struct A67Sockets
{
	A67Listener *listener;
	dlist_head all;
	dlist_head unchecked;
	int count;
	int checking;
	A67HttpDeadlines timers;
	A67Feed feed;
};

extern void a67_sockets_init(A67Listener *listener);
/* After the server has been freed. */
extern void a67_sockets_free(A67Listener *listener);
/* A request for /ws that is within the limits: lets it in or refuses it. */
extern A67HttpDecision a67_sockets_upgrade(const A67Visit *visit);
/* Everything that is due; before a67_dispatch_run. */
extern void a67_sockets_run(A67Listener *listener);
extern int64 a67_sockets_deadline(const A67Listener *listener);

/* For feed.c. */
/* Sends a message; false when the socket is closing now. */
extern bool a67_socket_send(A67Socket *socket, const char *text, size_t len);
extern void a67_socket_close(A67Socket *socket, int code, const char *reason);
extern size_t a67_socket_pending(const A67Socket *socket);
/* A question is answered. False: the connection has ended meanwhile, the socket may be freed now. */
extern bool a67_socket_answered(A67Socket *socket);
/* Asks on the socket's account; question->asker is set to it. False when out of memory. */
extern bool a67_socket_ask(A67Socket *socket, A67Question *question);

#endif
