/*
 * process.h - one process of the machine: what /proc says of it, and knowing it again.
 *
 * Identity of a process is (pid, start time): a pid alone may be somebody else's later; a pidfd is
 * opened before the check and used after it.  Everything that an application starts inherits A67_NODE_ID
 * and A67_REPLICA, by which a later agent finds it in /proc although its predecessor was killed before
 * it could write the pid down; A67_PID names the one that was started.  Starting is spawn.h, all
 * processes of a replica are tree.h.  Called by the supervisor.
 */
#ifndef A67_AGENT_PROCESS_H
#define A67_AGENT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/encode.h"
#include "log.h"

#define A67_PROCESS_SCAN_MAX 4096
#define A67_ENVIRON_BYTES	 131072		   /* of an environment, as much as is looked at */
#define A67_CHECK_MARK		 "A67_CHECK=1" /* in the environment of health checks by command */

typedef struct A67Process
{
	pid_t pid;			  /* 0: none */
	uint64_t start_ticks; /* /proc/<pid>/stat, clock ticks since boot */
	int pidfd;			  /* readable when it has ended; -1: none */
	bool child;			  /* ours to reap; adopted ones are not */
} A67Process;

typedef struct A67ProcStat
{
	char state;
	bool kernel; /* a kernel thread */
	pid_t ppid;
	pid_t pgrp;
	uint64_t start_ticks;
	uint64_t cpu_ticks; /* user and system */
	int64_t rss_bytes;
} A67ProcStat;

/* A process found in /proc that carries our marks. */
typedef struct A67Found
{
	pid_t pid;
	bool main; /* the one that was started, not what it has started in turn */
	uint64_t start_ticks;
	char replica[A67_UUID_TEXT_SIZE];
} A67Found;

/* 0 or -errno (-ENOENT: no such process). */
int a67_proc_stat(pid_t pid, A67ProcStat *out);

/* Reads a whole file of /proc/<pid>, up to size - 1 bytes and a NUL.  0 or -errno. */
int a67_proc_read(pid_t pid, const char *name, char *out, size_t size, size_t *len);

/* The value of NAME= in a block of environment, or NULL. */
const char *a67_proc_variable(const char *block, size_t len, const char *name);

/* A pidfd, or -1. */
int a67_pidfd_open(pid_t pid);

/*
 * Takes up a process that an earlier agent started, if it still is the one (start time, and no other
 * replica's mark).  False when it is gone.
 */
bool a67_process_adopt(A67Process *process, const char *replica);

/* How long ago it was started, on the clock since boot; 0 when nobody knows. */
int64_t a67_process_age_ms(const A67Process *process);

/* Now, as start times count. */
uint64_t a67_process_now_ticks(void);

/* Closes the pidfd and forgets. */
void a67_process_forget(A67Process *process);

/* Signals the group of a process that has not been reaped yet. */
void a67_process_signal(const A67Process *process, int number);

/* Signals the process alone, not what it has started; never one that has taken its pid since. */
void a67_process_notify(const A67Process *process, int number);

/*
 * Finds living processes with A67_NODE_ID=node, of our user or, when we are root, of any.  A process
 * caught in the middle of exec shows no environment: wait_ms is how long to give such ones.  Returns how
 * many were stored.
 */
size_t a67_process_scan(const char *node, int wait_ms, A67Found *found, size_t max);

/* A signal through a pidfd, so that a reused pid is never hit. */
void a67_process_kill(pid_t pid, uint64_t start_ticks, int number);

#endif /* A67_AGENT_PROCESS_H */
