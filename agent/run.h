/*
 * run.h - the one run of a cron app: the process that waits for its end, and the record that it leaves.
 *
 * How a process has ended is told to its parent alone, and the agent may be gone by then.  So a run has
 * a parent of its own: the agent's program under the name A67_RUN_NAME, which notes the begin, starts
 * the program, waits, notes the end and ends the same way.  The record tells a later agent whether the
 * run has begun, so that none ever begins twice.  The waiter is called by main(), the rest by runner.c,
 * launch.c and recover.c.
 */
#ifndef A67_AGENT_RUN_H
#define A67_AGENT_RUN_H

#include <stdint.h>

#include "statedir.h"

#define A67_RUN_NAME "a67-run" /* argv[0] of a waiter; argv[1] is the program, the rest its argv */
#define A67_RUN_FD	 3		   /* where the waiter finds its record */

typedef enum A67RunState
{
	A67_RUN_NONE, /* not begun */
	A67_RUN_BEGUN,
	A67_RUN_NOT_STARTED, /* the program could not be started: error says why */
	A67_RUN_ENDED
} A67RunState;

typedef struct A67RunRecord
{
	A67RunState state;
	int error;			 /* errno of NOT_STARTED */
	int exit_code;		 /* of ENDED: 128 + n for signal n; else -1 */
	int64_t duration_ms; /* of ENDED; else -1 */
} A67RunRecord;

/* Makes an empty record, durably and with room for all it will hold.  A descriptor or -errno. */
int a67_run_create(const A67StateDir *dir, const char *name);

/* Reads a record; one that is missing or cannot be understood says as much as can be. */
void a67_run_read(const A67StateDir *dir, const char *name, A67RunRecord *record);

/* The waiter's main(): runs argv[1] with the arguments that follow.  Returns the exit status. */
int a67_run_main(char **argv);

#endif /* A67_AGENT_RUN_H */
