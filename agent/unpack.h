/*
 * unpack.h - a package (tar.gz) into a directory, in steps, trusting nothing in it.
 *
 * Refuses absolute names, "..", links that leave the directory, duplicates, devices, sockets and
 * pipes, encrypted entries, and more than the limits; drops setuid, setgid and sticky bits.  Never
 * follows a link of the archive while writing.  Hashes what it reads and compares it at the end: a
 * result of 1 means that exactly the bytes with that digest were unpacked.  libarchive only reads.
 * Called by fetch.c, tests and the fuzzer.
 */
#ifndef A67_AGENT_UNPACK_H
#define A67_AGENT_UNPACK_H

#include <stdint.h>
#include <sys/types.h>

#include "desired.h"
#include "log.h"

typedef struct A67Unpack A67Unpack;

typedef struct A67UnpackLimits
{
	int64_t bytes;
	int64_t files;
} A67UnpackLimits;

/* Takes over both descriptors, in every case.  limits NULL: those of core/package_path.h.  NULL on failure. */
A67Unpack *a67_unpack_new(int archive_fd, int root_fd, const char digest[A67_DIGEST_SIZE],
						  const A67UnpackLimits *limits, A67Why *why);
void a67_unpack_free(A67Unpack *unpack);

/* All that is unpacked goes to this user and his group; the directory itself last, so that nobody meddles. */
void a67_unpack_give(A67Unpack *unpack, uid_t owner);

/*
 * Goes on for about `bytes` of content.  1 when all is unpacked and the digest is right, 0 when there
 * is more; -EINVAL the archive is refused, -EBADMSG the digest is wrong, else -errno of this machine.
 */
int a67_unpack_step(A67Unpack *unpack, int64_t bytes, A67Why *why);

#endif /* A67_AGENT_UNPACK_H */
