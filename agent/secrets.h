/*
 * secrets.h - the secrets of a running application as files: one per variable, in memory where the
 * machine has a file system for that; 0600, or 0640 and ours where the application has its own user.
 *
 * A replica's directory is <base>/a67-<node id>/<replica id>: base is /dev/shm or $XDG_RUNTIME_DIR, the
 * first that is a tmpfs with room; else apps/<replica id>/secrets in the state directory.  It belongs
 * to the application's process: chosen before the start, removed after the end.  A file is replaced by
 * rename, so that a reader sees the old value or the new one.  Called by the supervisor's files.
 */
#ifndef A67_AGENT_SECRETS_H
#define A67_AGENT_SECRETS_H

#include <jansson.h>
#include <sys/types.h>

#include "statedir.h"

#define A67_SECRETS_PATH_SIZE (A67_STATE_PATH_SIZE + A67_STATE_NAME_SIZE)

typedef struct A67SecretsPlace
{
	const A67StateDir *dir;
	const char *node_id;
	const char *replica;
	gid_t group; /* may read them, too; 0: nobody but our user */
} A67SecretsPlace;

/*
 * Makes a directory with room for so many bytes and writes its absolute path.  A place that is not
 * safe (somebody else's, or open to others) is passed over.  0 or -errno.
 */
int a67_secrets_choose(const A67SecretsPlace *place, size_t bytes, char path[A67_SECRETS_PATH_SIZE],
					   A67Why *why);

/* Writes each member of an object of strings as a file; files of other names stay.  0 or -errno. */
int a67_secrets_write(const char *path, json_t *secrets, A67Why *why);

/* Removes a directory that a67_secrets_choose made; a missing one is fine. */
void a67_secrets_remove(const char *path);

/* Removes this node's directories in memory but those for which keep says true. */
void a67_secrets_sweep(const char *node_id, bool (*keep)(void *arg, const char *path), void *arg);

#endif /* A67_AGENT_SECRETS_H */
