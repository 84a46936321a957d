/*
 * runner.h - what happens to one replica, between the files that do it.
 *
 * runner.c has the transitions, obtain.c the package, place.c what a replica has on this machine, launch.c
 * its start, watch.c its health, partition.c the silence of the controller, recover.c the start of an
 * agent after an end of any kind.
 * A name says which file has it: a67_place_ place.c, a67_launch launch.c, a67_partition_ partition.c,
 * a67_runner_ runner.c unless another is named.  The rest of the agent knows supervisor.h alone.
 */
#ifndef A67_AGENT_RUNNER_H
#define A67_AGENT_RUNNER_H

#include "supervisor.h"

#define A67_PLACE_BUNDLE_SUFFIX ".oci" /* of the directory of secrets: the bundle of a container */

/* The port of last time if it is free still, so that endpoints stay; else another.  0: none. */
int a67_place_port(const A67Supervisor *supervisor, const A67Replica *replica);

/* Notes a user of its own in the replica, where applications have them, before anything is unpacked. */
void a67_place_user(A67Supervisor *supervisor, A67Replica *replica);

/*
 * Notes port (0: none is free), user, control group and the directory for the files of secrets ("": it
 * has none) in the replica, so that all is in the state file before there is any of it.
 */
void a67_place_choose(A67Supervisor *supervisor, A67Replica *replica);

/* Makes apps/<id> with a part ("", "/home", "/tmp"). */
void a67_place_home(const A67Supervisor *supervisor, const A67Replica *replica, const char *part);

/* Where the bundle of a container goes. */
void a67_place_bundle(const A67Replica *replica, char path[A67_CONTAINER_PATH_SIZE]);

/* The processes of the replica.  Valid as long as the replica is. */
void a67_place_tree(const A67Supervisor *supervisor, const A67Replica *replica, A67Tree *tree);

/* Ends all that is left of its processes; removes control group, bundle and files of secrets. */
void a67_place_clear(const A67Supervisor *supervisor, A67Replica *replica);

/* Replaces the files of secrets by those of the desired state.  0 or -errno. */
int a67_launch_renew_secrets(const A67Supervisor *supervisor, const A67Replica *replica,
							 A67Why *why);

/*
 * Starts the process by its desired state, port and directory of secrets.  0, -EBADMSG when its
 * environment cannot be opened, or -errno as a67_process_spawn.
 */
int a67_launch(const A67Supervisor *supervisor, A67Replica *replica, A67Why *why);

/*
 * Starts the health check by command of a replica in its environment, directory and limits.  NULL when
 * it could not be started; why says so.
 */
A67Probe *a67_launch_check(const A67Supervisor *supervisor, const A67Replica *replica,
						   int64_t now_ms, A67Why *why);

/*
 * One event: writes the state file, then acts.  What cannot be written has not happened: WANTED and
 * UNWANTED return -errno then, other events are tried again at the next upkeep.
 */
int a67_runner_event(A67Supervisor *supervisor, A67Replica *replica, A67ReplicaEvent event);

/* Drops what is under way for it: download, health check, timers. */
void a67_runner_cancel(A67Replica *replica);

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

/* Fetching: the next step towards the package (obtain.c). */
void a67_runner_obtain(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
					   int64_t now_ms);

/* Starting or running: the next look at its health, or at the time of its run (watch.c). */
void a67_runner_look(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
					 int64_t now_ms);

/* Upkeep comes within seconds, although nothing runs. */
void a67_supervisor_upkeep_soon(A67Supervisor *supervisor);

/* When the controller was heard last, as the file says; then the deadlines of replicas. */
void a67_partition_load(A67Supervisor *supervisor);
void a67_partition_prepare(const A67Supervisor *supervisor, A67PollSet *set, int64_t now_ms);
void a67_partition_step(A67Supervisor *supervisor, int64_t now_ms);

/* Timers, download, health check of one replica. */
void a67_runner_prepare(A67Replica *replica, A67PollSet *set, int64_t now_ms);
void a67_runner_step(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
					 int64_t now_ms);

#endif /* A67_AGENT_RUNNER_H */
