/*
 * process.h - processes of the machine: starting one, knowing it again, ending all of a replica's.
 *
 * Identity of a process is (pid, start time): a pid alone may be somebody else's later.  Everything
 * that an application starts inherits A67_NODE_ID and A67_REPLICA, by which a later agent finds it in
 * /proc although its predecessor was killed before it could write the pid down.  Never a shell.
 * Called by the supervisor.
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
	pid_t pgrp;
	uint64_t start_ticks;
	uint64_t cpu_ticks; /* user and system */
	int64_t rss_bytes;
} A67ProcStat;

typedef struct A67Spawn
{
	const char *root; /* working directory; a program named with a '/' is relative to it */
	char *const *argv;
	char *const *envp;	  /* PATH in here is where a program without '/' is looked up */
	int log_fd;			  /* standard output and error */
	int64_t memory_bytes; /* RLIMIT_DATA, and 64 MB for stacks; 0: none */
} A67Spawn;

/* A process found in /proc that carries our marks. */
typedef struct A67Found
{
	pid_t pid;
	pid_t pgrp;
	uint64_t start_ticks;
	char replica[A67_UUID_TEXT_SIZE];
} A67Found;

/* 0 or -errno (-ENOENT: no such process). */
int a67_proc_stat(pid_t pid, A67ProcStat *out);

/*
 * Starts argv in a process group of its own, in the agent's session.  0, -ENOENT/-EACCES/-ENOEXEC when
 * the program cannot run at all, or another -errno.
 */
int a67_process_spawn(const A67Spawn *spawn, A67Process *process, A67Why *why);

/*
 * Takes up a process that an earlier agent started, if it still is the one (start time, and no other
 * replica's mark).  False when it is gone.
 */
bool a67_process_adopt(A67Process *process, const char *replica);

/* Closes the pidfd and forgets. */
void a67_process_forget(A67Process *process);

/* Signals the group of a process that has not been reaped yet. */
void a67_process_signal(const A67Process *process, int number);

/* Signals the process alone, not what it has started; never one that has taken its pid since. */
void a67_process_notify(const A67Process *process, int number);

/*
 * Finds living processes of our user with A67_NODE_ID=node and, unless replica is NULL, its
 * A67_REPLICA.  A process caught in the middle of exec shows no environment: wait_ms is how long to
 * give such ones.  Returns how many were stored.
 */
size_t a67_process_scan(const char *node, const char *replica, int wait_ms, A67Found *found,
						size_t max);

/* SIGKILL through a pidfd, so that a reused pid is never hit. */
void a67_process_kill_found(const A67Found *found);

/* Ends whatever is left of a replica's processes, also those that left its group. */
void a67_process_sweep(const char *node, const char *replica);

#endif /* A67_AGENT_PROCESS_H */
