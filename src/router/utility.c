/*
 * utility.c - the hook for statements that are not planned: COPY of virtual tables.
 *
 * Everything else, and every other table, goes on to whoever had the hook before.
 */
#include "postgres.h"

#include "tcop/utility.h"

#include "router/copy.h"
#include "router/planner.h"

static ProcessUtility_hook_type previous_utility;

static void
process_utility(PlannedStmt *statement, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
				DestReceiver *dest, QueryCompletion *completion)
{
	if (IsA(statement->utilityStmt, CopyStmt) && a67_copy(&statement, query_string, completion))
		return;
	if (previous_utility != NULL)
		previous_utility(statement, query_string, read_only_tree, context, params, environment,
						 dest, completion);
	else
		standard_ProcessUtility(statement, query_string, read_only_tree, context, params,
								environment, dest, completion);
}

void
a67_utility_install(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
