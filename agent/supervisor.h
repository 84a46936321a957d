/*
 * supervisor.h - the replicas of this node: accepts what is wanted, drives each to it, reports.
 *
 * Owns the table of replicas and everything on disk that belongs to them.  Each transition is one cell
 * of machine.h: state file first, then the action.  A spawn is announced in the state file before it
 * happens, so that an agent killed at any line leaves neither two processes nor an orphan.
 * supervisor.c holds the table and the orders of the controller, runner.c the actions, launch.c what a
 * process gets, recover.c the start after an end of any kind.  Called by the server, the control loop and main; one thread.
 */
#ifndef A67_AGENT_SUPERVISOR_H
#define A67_AGENT_SUPERVISOR_H

#include "identity.h"
#include "pollset.h"
#include "replica.h"

#define A67_REPLICAS_MAX 256 /* with desired state */
#define A67_TABLE_MAX	 512 /* with those that are remembered as gone */

typedef struct A67Supervisor
{
	const A67StateDir *dir;
	const A67Identity *identity;
	struct ssl_ctx_st *tls; /* for downloads; NULL for http */
	A67Replica *replicas[A67_TABLE_MAX];
	size_t count;
	uint64_t version;		  /* grows at each change of a replica */
	uint64_t cleaned_version; /* of the last look for what can go to the trash */
	uint64_t seed;
	bool halting;	   /* the agent ends and takes the applications along */
	int64_t upkeep_ms; /* logs, trash, unsaved files */
	bool trash_left;
} A67Supervisor;

void a67_supervisor_init(A67Supervisor *supervisor, const A67StateDir *dir,
						 const A67Identity *identity, struct ssl_ctx_st *tls);
/* Frees memory; applications go on. */
void a67_supervisor_free(A67Supervisor *supervisor);

/* Reads the state files, adopts living processes, ends strays.  Call once, holding the lock. */
void a67_supervisor_recover(A67Supervisor *supervisor, int64_t now_ms);

A67Replica *a67_supervisor_find(A67Supervisor *supervisor, const char *id);

/*
 * Takes over desired and makes it durable.  0 with *out, or -EBUSY (ending), -ESTALE (generation, in
 * why), -ENOSPC (table full, or the disk), -ENOMEM.
 */
int a67_supervisor_put(A67Supervisor *supervisor, const char *id, A67Desired *desired,
					   A67Replica **out, A67Why *why);

#define A67_GENERATION_ANY INT64_C(-1)

/* 0 with *out (state stopped: nothing is left of it), or -ENOENT, -ESTALE, -ENOSPC. */
int a67_supervisor_delete(A67Supervisor *supervisor, const char *id, int64_t generation,
						  A67Replica **out, A67Why *why);

/* Array of the replicas that the controller should hear of; NULL when out of memory. */
json_t *a67_supervisor_report(const A67Supervisor *supervisor);
/* The controller has stored the report of that version: what is gone need not be told again. */
void a67_supervisor_acked(A67Supervisor *supervisor, uint64_t version);

/* Ends all processes: halt keeps what is wanted for the next start, dismiss forgets everything. */
void a67_supervisor_halt(A67Supervisor *supervisor);
void a67_supervisor_dismiss(A67Supervisor *supervisor);
/* Whether no replica has a process. */
bool a67_supervisor_idle(const A67Supervisor *supervisor);
/* Replicas that are wanted. */
size_t a67_supervisor_wanted(const A67Supervisor *supervisor);

void a67_supervisor_prepare(A67Supervisor *supervisor, A67PollSet *set, int64_t now_ms);
void a67_supervisor_step(A67Supervisor *supervisor, const A67PollSet *set, int64_t now_ms);
/* SIGCHLD: reaps every child that has ended. */
void a67_supervisor_reap(A67Supervisor *supervisor);

/* ---- between supervisor.c, runner.c, launch.c and recover.c ---- */

/* The port of last time if it is free still, so that endpoints stay; else another.  0: none. */
int a67_launch_port(const A67Supervisor *supervisor, const A67Replica *replica);

/* Makes apps/<id> with a part ("", "/home", "/tmp"). */
void a67_launch_home(const A67Supervisor *supervisor, const A67Replica *replica, const char *part);

/*
 * Makes the directory for the files of secrets and notes it in the replica ("": it has none), so that
 * it is in the state file before there are any.  0 or -errno.
 */
int a67_launch_choose_secrets(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why);

/* Replaces the files of secrets by those of the desired state.  0 or -errno. */
int a67_launch_renew_secrets(const A67Supervisor *supervisor, const A67Replica *replica,
							 A67Why *why);

/*
 * Starts the process by its desired state, port and directory of secrets.  0, -EBADMSG when its
 * environment cannot be opened, or -errno as a67_process_spawn.
 */
int a67_launch(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why);

/*
 * One event: writes the state file, then acts.  For WANTED and UNWANTED a failed write undoes the
 * change and returns -errno; other events go on without the disk, and the write is repeated later.
 */
int a67_runner_event(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaEvent event);

/* The process is gone: forgets it, ends what it left behind, EXITED. */
void a67_runner_exited(A67Supervisor *supervisor, A67Replica *replica, const char *how);

/* Begins to end the process (or says EXITED when there is none). */
void a67_runner_stop(A67Supervisor *supervisor, A67Replica *replica);

/*
 * Secrets were replaced under a process that is to go on: replaces their files and, once it runs,
 * tells it by the signal that it asked for.  Does nothing when there is nothing to tell; what fails
 * is tried again at the next upkeep.
 */
void a67_runner_renew(A67Supervisor *supervisor, A67Replica *replica);

/* Readies timers for a process that has just been started or adopted. */
void a67_runner_watch(A67Replica *replica, int64_t now_ms);

/* Timers, download, health check of one replica. */
void a67_runner_prepare(A67Replica *replica, A67PollSet *set, int64_t now_ms);
void a67_runner_step(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
					 int64_t now_ms);

#endif /* A67_AGENT_SUPERVISOR_H */
