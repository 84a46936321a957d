/*
 * applog.h - the output of one application: a file that only grows, and whose head is given back.
 *
 * An application writes with O_APPEND straight into logs/<id>.log, so that its output needs no agent and
 * never waits for one.  The agent never moves what was written: it punches the head out of the file
 * (FALLOC_FL_PUNCH_HOLE), so a byte has one offset for good, nothing is lost between looking and cutting,
 * and what is given up is known exactly.  logs/<id>.pos holds what must outlive the agent.  Where the file
 * system knows no holes the file is cut to nothing instead; what is written in that moment is not counted.
 * Called by logs.c, follow.c and ship.c; the functions with an id alone by the supervisor.
 */
#ifndef A67_AGENT_APPLOG_H
#define A67_AGENT_APPLOG_H

#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/encode.h"
#include "statedir.h"

#define A67_LOG_MARKS		32
#define A67_LOG_GRAIN_BYTES (256 * 1024) /* less than that is not worth a hole */

/* The bytes from this offset on were first seen at that time. */
typedef struct A67LogMark
{
	int64_t wall_ms;
	int64_t offset;
} A67LogMark;

/* Offsets count from the first byte the replica ever wrote on this node. */
typedef struct A67AppLog
{
	char id[A67_UUID_TEXT_SIZE];
	int64_t base;	   /* of the file's first byte */
	int64_t start;	   /* what lies before it is gone */
	int64_t end;	   /* when it was looked at last */
	int64_t acked;	   /* the controller has what lies before it */
	int64_t dropped;   /* bytes given up before the controller had them, as it knows */
	int64_t sent_from; /* what is on its way to it; sent_to 0: nothing */
	int64_t sent_to;
	A67LogMark marks[A67_LOG_MARKS];
	int mark_count;
	int64_t grown_ms; /* wall clock: when it was last seen to grow */
	int64_t gone_ms;  /* its replica is gone: removed by then; A67_NEVER while it is there */
	bool unwanted;	  /* the controller does not know the replica */
	bool no_holes;	  /* tried in vain */
} A67AppLog;

/* Opens the log of a replica for its process; -errno on failure. */
int a67_applog_open(const A67StateDir *dir, const char *replica);
/* Opens it for reading; -errno on failure. */
int a67_applog_open_read(const A67StateDir *dir, const char *replica);
/* Appends the last `bytes` of the output to out (whose max may cut it).  0 or -errno. */
int a67_applog_tail(const A67StateDir *dir, const char *replica, size_t bytes, A67Buf *out);
/* Notes an act of the agent in the log: "-- TIME a67-agent: text". */
void a67_applog_note(const A67StateDir *dir, const char *replica, const char *text);

/* Readies log for a replica, with what its files say.  They may be missing. */
void a67_applog_load(const A67StateDir *dir, A67AppLog *log, const char *replica);
/* Looks how far the file has got; whether it has grown. */
bool a67_applog_look(const A67StateDir *dir, A67AppLog *log, int64_t wall_ms);
/* Gives up what lies before `from`, rounded down.  False when there was too little to give up. */
bool a67_applog_trim(const A67StateDir *dir, A67AppLog *log, int64_t from);
/* Bytes that were given up before the controller had them, those among them that it does not know of yet. */
int64_t a67_applog_dropped(const A67AppLog *log);
/* Bytes at an offset through a descriptor of a67_applog_open_read; fewer at the end, -errno. */
ssize_t a67_applog_read(const A67AppLog *log, int fd, int64_t offset, void *out, size_t size);
/*
 * The controller has what lies before `next`.  When that is more than was ever written here, because a
 * disk has forgotten, offsets go on from there.
 */
void a67_applog_ack(const A67StateDir *dir, A67AppLog *log, int64_t next);
/* An offset from which on everything is that was written at or after that time, and perhaps more. */
int64_t a67_applog_since(const A67AppLog *log, int64_t wall_ms);
/* When the byte at that offset was first seen. */
int64_t a67_applog_seen_ms(const A67AppLog *log, int64_t offset);
/* Removes the files. */
void a67_applog_remove(const A67StateDir *dir, const char *replica);

#endif /* A67_AGENT_APPLOG_H */
