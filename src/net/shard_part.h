/*
 * shard_part.h - one statement on its way through one shard: what fan-outs and COPY are made of.
 *
 * A part takes its link, sends whatever the shard's session and transaction lack together with the statement in one flush,
 * and steps over the answers to those. A failure that provably changed nothing is repeated on another connection,
 * as often as TRIES allow. Private to net.
 */
#ifndef A67_SHARD_PART_H
#define A67_SHARD_PART_H

#include "postgres.h"

#include "net/shard.h"
#include "net/shard_link.h"
#include "net/shard_session.h"

typedef enum A67PartState
{
	A67_PART_WAITING, /* for its link: another part of the same fan-out has it */
	A67_PART_RUNNING,
	A67_PART_DONE,
} A67PartState;

typedef struct A67Part
{
	const A67ShardTarget *target;
	const A67Statement *statement;
	A67PartState state;
	A67Link *link; /* NULL while it waits, and when it is missing */
	struct A67Fanout *fanout;
	bool alone;		 /* as the statement's, and it goes to one shard only */
	bool flushing;	 /* not everything is sent yet */
	bool pipeline;	 /* sent in pipeline mode */
	bool own;		 /* a remote transaction was begun for it */
	bool inside;	 /* it runs in a remote transaction */
	bool answered;	 /* rows were handed out, or the shard said that it is done */
	bool cancelled;	 /* the shard was asked to cancel it */
	bool late;		 /* because its time was up */
	bool preparing;	 /* the last of the answers before its own is that of PREPARE */
	bool unprepared; /* an error came before that answer */
	int before;		 /* answers to come before its own */
	int attempts;	 /* connections and sendings tried */
	int64 deadline_ms;
	A67Prepared *prepared;
	PGresult *error; /* the shard's, while the rest of its answers is read */
	int64 affected;
	instr_time started;
	A67ShardUse use;
} A67Part;

/*
 * Finds connections for those that WAIT, connecting several at once, and sends them. A part whose link another part of
 * the same fan-out has goes on waiting. One whose shard cannot be reached is thrown, or DONE and missing.
 */
void a67_part_start(A67Part *parts, int count);

/* The next result with rows that is there already; NULL: none. Then the part may be DONE. Throws the shard's error. */
PGresult *a67_part_read(A67Part *part);

/* Reads from the socket, and sends what is still to be sent. */
void a67_part_pump(A67Part *part);

/* Whether the local statement may be cancelled while it waits; else what comes is forwarded to the shard. */
bool a67_part_is_interruptible(const A67Part *part);
void a67_part_interrupt(A67Part *part);

/* Its time is up: it is cancelled, and has until then to tell; the second time it is given up. */
void a67_part_time_out(A67Part *part, int64 until_ms);

/* For links: takes all answers of the fan-out that the part belongs to. */
void a67_fanout_drain(void *part);

/* The shard is left out of the answer if that is allowed: then it was noted and told. */
bool a67_partial_leave_out(const char *shard);

#endif /* A67_SHARD_PART_H */
