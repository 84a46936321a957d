/*
 * ingress_talk.h - one exchange at a time with HAProxy: a text to its socket, or the output of a program.
 *
 * Never blocks: the owner waits on the descriptor and the deadline and then calls a67_talk_run. The answer is
 * everything until the other side closes. Owned by one worker; not to be used across processes.
 */
#ifndef A67_INGRESS_TALK_H
#define A67_INGRESS_TALK_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef enum A67TalkState
{
	A67_TALK_IDLE,
	A67_TALK_BUSY,
	A67_TALK_DONE,	/* answer is whole */
	A67_TALK_FAILED /* why says it */
} A67TalkState;

typedef struct A67Talk
{
	MemoryContext context;
	A67TalkState state;
	StringInfoData answer; /* printable ASCII and newlines only; kept until the next exchange */
	char why[128];
	bool nobody;  /* FAILED because nobody listens at the socket */
	int epoll_fd; /* readable when there is something to do */
	int64 deadline_ms;

	/* The exchange under way. */
	int fd;		   /* of the socket or the program's output; -1: none */
	FILE *program; /* NULL: a socket */
	char *text;	   /* to be sent */
	size_t len;
	size_t sent;
} A67Talk;

/* Throws when out of descriptors. */
void a67_talk_init(A67Talk *talk, MemoryContext context);

/* Ends whatever is under way and gives all descriptors back. Does not throw. */
void a67_talk_destroy(A67Talk *talk);

/* Sends the text to a Unix socket and reads until it closes; a refusal is known at once (FAILED). */
void a67_talk_send(A67Talk *talk, const char *path, const char *text, int64 deadline_ms);

/*
 * Starts a shell command and reads its output; a status other than 0 is FAILED. Must end by itself soon after
 * the deadline at the latest: that is when the process waits for it. No transaction may begin or end meanwhile.
 */
void a67_talk_start(A67Talk *talk, const char *command, int64 deadline_ms);

/* Does what can be done now; returns the state. DONE and FAILED last until the next exchange. */
A67TalkState a67_talk_run(A67Talk *talk, int64 now_ms);

#endif /* A67_INGRESS_TALK_H */
