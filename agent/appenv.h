/*
 * appenv.h - the environment of an application: marks, what the agent says, what the manifest says.
 *
 * The marks come first and cannot be replaced; defaults can.  It holds secrets in the clear and is wiped
 * when it is freed.  Called by launch.c.
 */
#ifndef A67_AGENT_APPENV_H
#define A67_AGENT_APPENV_H

#include "sealed_env.h"

#define A67_APPENV_SLOTS (2 * A67_ENV_MAX + 20)

typedef struct A67AppEnv
{
	char *items[A67_APPENV_SLOTS + 1]; /* NAME=value, NULL at the end */
	size_t count;
	bool failed; /* out of memory: not to be used */
} A67AppEnv;

/* What it is made of; given NULL: without env and secrets of the manifest. */
typedef struct A67AppFacts
{
	const char *node_id;
	const char *node;
	const char *replica;
	const char *deployment;
	const char *digest; /* of the package */
	int64_t release;
	int port;
	const char *home;
	const char *tmp;
	const char *secrets; /* "": none */
	const A67Env *given;
	bool pid_mark; /* for the process that stands for the replica (spawn.h) */
	bool check;	   /* for a health check by command */
} A67AppFacts;

void a67_appenv_build(A67AppEnv *env, const A67AppFacts *facts);
void a67_appenv_free(A67AppEnv *env);

#endif /* A67_AGENT_APPENV_H */
