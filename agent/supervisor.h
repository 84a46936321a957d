/*
 * supervisor.h - the replicas of this node: accepts what is wanted, drives each to it, reports.
 *
 * Owns the table of replicas and everything on disk that belongs to them.  Each transition is one cell
 * of machine.h: state file first, then the action.  A spawn is announced in the state file before it
 * happens, so that an agent killed at any line leaves neither two processes nor an orphan.
 * supervisor.c holds the table and the orders of the controller; what happens to one replica is in the
 * files that share runner.h.  Called by the server, the control loop and main; one thread.
 */
#ifndef A67_AGENT_SUPERVISOR_H
#define A67_AGENT_SUPERVISOR_H

#include "host.h"
#include "identity.h"
#include "pollset.h"
#include "replica.h"
#include "static.h"
#include "tree.h"

#define A67_REPLICAS_MAX 256 /* with desired state */
#define A67_TABLE_MAX	 512 /* with those that are remembered as gone */

typedef struct A67Supervisor
{
	const A67StateDir *dir;
	const A67Identity *identity;
	const A67Host *host;
	struct ssl_ctx_st *tls; /* for downloads; NULL for http */
	A67Replica *replicas[A67_TABLE_MAX];
	size_t count;
	uint64_t version;		  /* grows at each change of a replica */
	uint64_t cleaned_version; /* of the last look for what can go to the trash */
	uint64_t seed;
	int64_t heard_ms;	 /* when the controller was heard last, on the clock since boot */
	int64_t recorded_ms; /* the same as it is on disk */
	bool halting;		 /* the agent ends and takes the applications along */
	int64_t upkeep_ms;	 /* logs, trash, unsaved files */
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

/* A heartbeat was taken, or a command was verified: the controller is there (partition.c). */
void a67_supervisor_heard(A67Supervisor *supervisor);
/* How often it must be tried to hear it, for the sake of apps that stop without it; or A67_NEVER. */
int64_t a67_supervisor_contact_gap_ms(const A67Supervisor *supervisor);

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

#endif /* A67_AGENT_SUPERVISOR_H */
