/*
 * applog.h - the output of applications: one bounded file per replica, and the one before it.
 *
 * Applications write with O_APPEND straight into logs/<id>.log, so that their output needs no agent.
 * When the file has grown past the limit its end is copied to logs/<id>.log.1 and it is cut to nothing;
 * lines written between copy and cut are lost.  Called by the supervisor and the server.
 */
#ifndef A67_AGENT_APPLOG_H
#define A67_AGENT_APPLOG_H

#include "core/buf.h"
#include "statedir.h"

#define A67_APPLOG_MAX_BYTES (4 * 1024 * 1024)

/* Opens the log of a replica for its process; -errno on failure. */
int a67_applog_open(const A67StateDir *dir, const char *replica);

/* Rotates when the file is past the limit. */
void a67_applog_check(const A67StateDir *dir, const char *replica);

/* Appends the last `bytes` of the output to out (whose max may cut it).  0 or -errno. */
int a67_applog_tail(const A67StateDir *dir, const char *replica, size_t bytes, A67Buf *out);

/* Notes an act of the agent in the log: "-- a67-agent: text". */
void a67_applog_note(const A67StateDir *dir, const char *replica, const char *text);

void a67_applog_remove(const A67StateDir *dir, const char *replica);

#endif /* A67_AGENT_APPLOG_H */
