/*
 * sealed_env.h - the environment of an application as it travels: sealed to this node's key.
 *
 * The text is base64 of a crypto_box_seal of {"replica": id, "env": {...}, "secrets": {...}}.  It is kept
 * sealed, in memory and in state files; it is opened for one start of a process, or to replace the
 * files of its secrets, and wiped at once.  An id in it keeps it from being given to another replica.
 * Complaints never quote what was opened.  Called by launch.c.
 */
#ifndef A67_AGENT_SEALED_ENV_H
#define A67_AGENT_SEALED_ENV_H

#include <jansson.h>

#include "statedir.h"

#define A67_ENV_MAX 128 /* variables of env, and as many of secrets */

typedef struct A67Env
{
	json_t *doc;	 /* owned */
	json_t *env;	 /* object of strings, with names that an environment may have */
	json_t *secrets; /* the same; no name is in both */
} A67Env;

/* From now on JSON values are wiped when they are freed.  Call before the first one is made. */
void a67_env_wipe_json(void);

/*
 * Opens the text with the key of the state directory.  0; -EBADMSG when it is damaged, of another node
 * or replica, or not an environment; or another -errno.
 */
int a67_env_open(const A67StateDir *dir, const char *sealed, const char *replica, A67Env *env,
				 A67Why *why);

void a67_env_close(A67Env *env);

#endif /* A67_AGENT_SEALED_ENV_H */
