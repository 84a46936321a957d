/*
 * logs.h - the output of all applications of this node: how much is kept, who follows it.
 *
 * Owns the table of logs and the rule by which they give up their heads: the last `kept` bytes stay, eight
 * times as much while a follower is behind, less when the disk is nearly full.  Looks at the files often
 * while they grow and rarely while they are quiet.  A log whose replica is gone stays until the controller
 * has its end, or a while.  follow.c streams logs to whoever asks, ship.c sends them to the controller.
 * Called by main, the server and ship.c; one thread.
 */
#ifndef A67_AGENT_LOGS_H
#define A67_AGENT_LOGS_H

#include "applog.h"
#include "core/http/server.h"
#include "supervisor.h"

#define A67_LOG_KEPT_BYTES	  (16 * 1024 * 1024)
#define A67_LOG_FOLLOWERS_MAX 16 /* a quarter of the server's clients */

typedef struct A67Follower A67Follower;

typedef struct A67Logs
{
	const A67StateDir *dir;
	A67Supervisor *supervisor;
	A67HttpServer *server;
	A67AppLog *items[A67_TABLE_MAX];
	size_t count;
	uint64_t version; /* of the supervisor, when the table was compared with it */
	bool synced;	  /* ever */
	bool shipped;	  /* the controller wants logs */
	int64_t kept;	  /* bytes of each, when the disk has room */
	int64_t look_ms;
	int64_t gap_ms; /* until the next look */
	A67Follower *followers;
	int follower_count;
	int64_t missed; /* bytes that followers were told they have missed */
} A67Logs;

/* `dir` and `supervisor` are borrowed.  Takes over the logs that are there. */
void a67_logs_open(A67Logs *logs, const A67StateDir *dir, A67Supervisor *supervisor);
void a67_logs_close(A67Logs *logs);

/* Brings the table up to what the supervisor has. */
void a67_logs_sync(A67Logs *logs, int64_t now_ms);
A67AppLog *a67_logs_find(const A67Logs *logs, const char *replica);
void a67_logs_prepare(A67Logs *logs, A67PollSet *set, int64_t now_ms);
void a67_logs_step(A67Logs *logs, int64_t now_ms);

/* Appends the metrics of all logs in Prometheus' text format. */
void a67_logs_exposition(const A67Logs *logs, A67Buf *out);

/* ---- follow.c ---- */

/* Answers GET /v1/replicas/{id}/logs: with what is there, or with what comes as well (follow). */
void a67_follow(A67Logs *logs, A67HttpConn *conn, const A67HttpHead *req, const char *replica);
/* Sends what has come, ends answers that have nothing to come. */
void a67_followers_run(A67Logs *logs, int64_t now_ms);
/* The least offset that a follower of this log still has to read; INT64_MAX: none has. */
int64_t a67_followers_need(const A67Logs *logs, const A67AppLog *log);
/* The log is about to go. */
void a67_followers_leave(A67Logs *logs, const A67AppLog *log);

#endif /* A67_AGENT_LOGS_H */
