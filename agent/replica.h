/*
 * replica.h - one replica on this node: what is wanted, what runs, and its state file.
 *
 * Owns the struct, its state file replicas/<id>.json and its JSON in reports; changes nothing by
 * itself.  A state file is written before the state in it is acted on; one that cannot be read is put
 * aside.  Called by the supervisor.
 */
#ifndef A67_AGENT_REPLICA_H
#define A67_AGENT_REPLICA_H

#include <stdint.h>

#include "cgroup.h"
#include "core/pace.h"
#include "desired.h"
#include "fetch.h"
#include "machine.h"
#include "probe.h"
#include "process.h"
#include "secrets.h"
#include "statedir.h"

#define A67_REPLICA_MAX_BYTES (A67_DESIRED_MAX_BYTES + 131072) /* of a state file */
#define A67_LOG_TAIL_BYTES	  2048
#define A67_ERROR_SIZE		  320

typedef struct A67Replica
{
	/* Durable: in the state file. */
	char id[A67_UUID_TEXT_SIZE];
	A67ReplicaState state;
	int64_t generation;
	int64_t content;	 /* generation at which the content was last changed */
	A67Desired *desired; /* NULL when nothing of it is left */
	bool intent;		 /* a spawn was about to happen; the process may or may not exist */
	A67Process process;
	uid_t uid;						   /* of its own, and gid; 0: the agent's */
	char cgroup[A67_CGROUP_PATH_SIZE]; /* "": none */
	int port;
	char secrets_dir[A67_SECRETS_PATH_SIZE]; /* files of the process; "" without secrets */
	bool renewal; /* secrets were replaced, and the process has not been told */
	int64_t restarts;
	char error[A67_ERROR_SIZE];
	char log_tail[A67_LOG_TAIL_BYTES + 1];
	int64_t since_ms;	 /* wall clock */
	bool begun;			 /* a cron app: its one run has begun */
	int64_t started_ms;	 /* wall clock, of that run; 0: none */
	int exit_code;		 /* of it; 128 + n for signal n; -1: not known */
	int64_t duration_ms; /* of it; -1: not known */

	/* Of this agent's life only. */
	bool unsaved;			 /* the last write of the state file failed */
	A67ReplicaEvent blocked; /* waits for the disk; A67_REPLICA_EVENT_COUNT: none */
	bool rebooted;			 /* loaded, and the machine has been restarted since */
	bool acked;				 /* stopped, and the controller knows */
	bool started;			 /* the process was started once: the next start is a restart */
	int64_t due_ms;			 /* back-off of restart or fetch, patience while starting */
	int64_t probe_due_ms;
	int64_t probe_gap_ms; /* grows towards the interval while starting */
	int64_t kill_ms;	  /* when SIGKILL follows; A67_NEVER while not being stopped */
	int64_t linger_ms;	  /* its process has ended, others have their grace; A67_NEVER: no */
	uint64_t ended_ticks; /* when its process has ended, while that is being dealt with; else 0 */
	char how[64];		  /* it has ended */
	int probe_failures;	  /* in a row */
	int fetch_failures;	  /* in a row, of the kind that is not the network's fault */
	A67Backoff backoff;
	A67CrashLog crashes;
	A67Fetch *fetch; /* while fetching, when it is its turn */
	A67Probe *probe; /* while one is under way */
	int pidfd_at;	 /* index in the poll set */
} A67Replica;

/* A new replica without desired state, or NULL. */
A67Replica *a67_replica_new(const char *id, uint64_t seed);
void a67_replica_free(A67Replica *replica);

/*
 * Writes the state file durably; 0 or -errno.  On failure it logs and sets unsaved.  In place: over the
 * old file, which needs no room on a full disk; a write cut short leaves a file that is put aside at
 * the next start, so this is for replicas that are to go.
 */
int a67_replica_save(const A67StateDir *dir, A67Replica *replica);
int a67_replica_save_in_place(const A67StateDir *dir, A67Replica *replica);

/* Takes the end of its output into log_tail. */
void a67_replica_keep_log(const A67StateDir *dir, A67Replica *replica);

/* Whether it is a run: started once, whose end is its result. */
bool a67_replica_is_run(const A67Replica *replica);

/* Reads a state file; NULL when it was put aside or there is no memory. */
A67Replica *a67_replica_load(const A67StateDir *dir, const char *id, uint64_t seed);

/* The replica as heartbeats and answers show it; NULL when out of memory. */
json_t *a67_replica_report(const A67Replica *replica);

/* Names below the state directory: "replicas/<id>.json", "apps/<id>", "apps/<id>/<content>", "apps/<id>/run.<content>". */
void a67_replica_state_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE]);
void a67_replica_home_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE]);
void a67_replica_root_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE]);
void a67_replica_run_name(const A67Replica *replica, char out[A67_STATE_NAME_SIZE]);

#endif /* A67_AGENT_REPLICA_H */
