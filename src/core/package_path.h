/*
 * package_path.h - what names and links a package (tar.gz) may have: one rule for those who check packages
 * and those who unpack them.
 *
 * Pure. Names are brought into one form, a/b/c; links must stay inside. Whether entries collide is for the
 * callers, who know what is there already.
 */
#ifndef A67_PACKAGE_PATH_H
#define A67_PACKAGE_PATH_H

#include <stdbool.h>
#include <stdint.h>

#define A67_PACKAGE_MAX_BYTES (INT64_C(1) << 30) /* of all files together, unpacked */
#define A67_PACKAGE_MAX_FILES 50000
#define A67_PACKAGE_MAX_PATH  1024
#define A67_PACKAGE_MAX_DEPTH 64

/*
 * Brings a name into the form a/b/c: no leading "./", no empty or "." part. Empty for the root itself.
 * False for none (NULL), an absolute one, for "..", or when it is too long or too deep.
 */
bool a67_package_path(const char *name, char out[A67_PACKAGE_MAX_PATH]);

/*
 * Whether the target of the symbolic link at `path` (in the form above) stays inside: it begins with at most
 * as many ".." as its own directory is deep, and has none after that. Hence it begins inside, and each link
 * that it may pass on its way is bound by the same rule.
 */
bool a67_package_link_inside(const char *path, const char *target);

#endif /* A67_PACKAGE_PATH_H */
