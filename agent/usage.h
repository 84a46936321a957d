/*
 * usage.h - what each replica takes of the machine, looked at together with the machine itself.
 *
 * From its control group where it has one; else its process and those descended from it.  Owns the
 * figures of the last look.  Called by main; exposition.c shows them.
 */
#ifndef A67_AGENT_USAGE_H
#define A67_AGENT_USAGE_H

#include "supervisor.h"

typedef struct A67Usage
{
	char replica[A67_UUID_TEXT_SIZE];
	pid_t pid;
	int64_t cpu_us;		  /* since the process was started */
	int64_t memory_bytes; /* resident, or charged to the group */
	double cpu_percent;	  /* of one core, between the last two looks */
} A67Usage;

typedef struct A67UsageTable
{
	A67Usage *items; /* in the order of the supervisor's table */
	size_t count;
	int64_t at_ms;
} A67UsageTable;

void a67_usage_sample(A67UsageTable *table, const A67Supervisor *supervisor, int64_t now_ms);
/* NULL when it had no process at the last look. */
const A67Usage *a67_usage_find(const A67UsageTable *table, const char *replica);
void a67_usage_free(A67UsageTable *table);

/*
 * Processor time and resident memory of a process and its descendants.  root: before /proc, "" but for
 * tests.  False when the process is gone.
 */
bool a67_usage_of_process(const char *root, pid_t pid, A67Usage *out);

#endif /* A67_AGENT_USAGE_H */
