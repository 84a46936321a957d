/*
 * log.h - one line of text a message to standard error, and the text of an error on its way up.
 *
 * Owns the log level, the only global variable of the agent; decides the form of a
 * line.  Control characters are replaced, so that a message can never forge a second line.  No secret
 * is passed in here: tokens and keys are never arguments.  Called by every file of the agent.
 */
#ifndef A67_AGENT_LOG_H
#define A67_AGENT_LOG_H

#include <stdbool.h>

#include "core/buf.h"

typedef enum A67LogLevel
{
	A67_LOG_ERROR,
	A67_LOG_WARNING,
	A67_LOG_INFO,
	A67_LOG_DEBUG
} A67LogLevel;

#define A67_WHY_SIZE 320

/* What went wrong, in words for an operator: lower case, one line, no full stop. */
typedef struct A67Why
{
	char text[A67_WHY_SIZE];
} A67Why;

/* False when the name is none of error, warning, info, debug. */
bool a67_log_parse_level(const char *name, A67LogLevel *level);
void a67_log_set_level(A67LogLevel level);

/* Writes one line when level is at or above the set one; cut at 1 kB; never fails. */
void a67_log(A67LogLevel level, const char *format, ...) A67_PRINTF(2, 3);

/* Stores the text (cut to fit) and returns err: "return a67_why(why, -EINVAL, …)". why may be NULL. */
int a67_why(A67Why *why, int err, const char *format, ...) A67_PRINTF(3, 4);

#endif /* A67_AGENT_LOG_H */
