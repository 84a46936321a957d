/*
 * statedir.h - the directory in which an agent survives: its lock, its files, their durability.
 *
 * Owns how files get there (temporary file, fsync, rename, fsync of the directory) and what happens to
 * those that cannot be understood (renamed to NAME.corrupt).  Knows nothing of their content.
 *
 * The lock is flock() on a descriptor that is closed by exec: a child between posix_spawn's clone and
 * its exec still holds it.  An agent that has got the lock therefore sees, in /proc, every process
 * that a killed predecessor has started.  Layout: lock, node.key, node.json, replicas/, apps/, cache/,
 * logs/, trash/.
 */
#ifndef A67_AGENT_STATEDIR_H
#define A67_AGENT_STATEDIR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "log.h"

#define A67_STATE_PATH_SIZE 512 /* of the directory itself */
#define A67_STATE_NAME_SIZE 128 /* of a name inside it */

typedef struct A67StateDir
{
	int fd;
	int lock_fd;
	char path[A67_STATE_PATH_SIZE]; /* absolute */
} A67StateDir;

/*
 * Makes the directory and its parts where missing, checks that nobody else may write there, and takes
 * the lock, waiting at most wait_ms for it.  0 or -errno (-EAGAIN: another agent has it).
 */
int a67_statedir_open(A67StateDir *dir, const char *path, int wait_ms, A67Why *why);

/* Gives the lock back.  Safe on a zeroed or failed one. */
void a67_statedir_close(A67StateDir *dir);

/* Writes all of it; 0 or -errno. */
int a67_write_all(int fd, const char *bytes, size_t len);

/* Replaces a file durably; mode 0600.  name may hold one '/'.  0 or -errno; the old one stays then. */
int a67_statedir_write(const A67StateDir *dir, const char *name, const void *bytes, size_t len,
					   A67Why *why);

/*
 * Writes over a file that is there, without a copy: a cut in the middle leaves neither the old nor the
 * new.  It needs no room when the new text is no longer than the old one.  0 or -errno.
 */
int a67_statedir_overwrite(const A67StateDir *dir, const char *name, const void *bytes, size_t len,
						   A67Why *why);

/* Whether so many bytes are free for us on its disk; true when nobody can say. */
bool a67_statedir_has_room(const A67StateDir *dir, int64_t bytes);

/* Appends the file's content to out, whose max is the cap.  0, -ENOENT, -EFBIG or another -errno. */
int a67_statedir_read(const A67StateDir *dir, const char *name, A67Buf *out, A67Why *why);

/* Puts a file aside as NAME.corrupt (replacing an older one) and logs why. */
void a67_statedir_quarantine(const A67StateDir *dir, const char *name, const char *why);

/* Removes a file; a missing one is fine. */
void a67_statedir_remove(const A67StateDir *dir, const char *name);

/* Removes a small directory and all below it, at once; a missing one is fine. */
void a67_directory_remove(const char *path);

/* Moves a file or tree into trash/, from where a67_trash_step removes it.  A missing one is fine. */
int a67_trash_put(const A67StateDir *dir, const char *name);

/* Removes up to `entries` files below trash/.  Returns whether more are left. */
bool a67_trash_step(const A67StateDir *dir, int entries);

#endif /* A67_AGENT_STATEDIR_H */
