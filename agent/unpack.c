/*
 * unpack.c - safe extraction of a tar.gz.  See unpack.h.
 *
 * Why links cannot lead out: every file is created below a directory that was opened step by step
 * with O_NOFOLLOW, so real directories only.  Targets of symbolic links are bound by the rule of
 * a67_package_link_inside().
 */
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <sodium.h>

#include "core/encode.h"
#include "core/package_path.h"

#define READ_BYTES 65536
#define ENTRY_COST 4096 /* what an entry without content counts against a step */

struct A67Unpack
{
	struct archive *archive;
	int archive_fd;
	int root_fd;
	int file_fd; /* file being written, or -1 */
	int64_t file_written;
	uid_t owner; /* 0: us */
	A67UnpackLimits left;
	char digest[A67_DIGEST_SIZE];
	crypto_hash_sha256_state hash;
	char buffer[READ_BYTES];
};

static la_ssize_t
read_archive(struct archive *archive, void *arg, const void **out)
{
	A67Unpack *unpack = arg;
	ssize_t n;

	do
		n = read(unpack->archive_fd, unpack->buffer, sizeof(unpack->buffer));
	while (n < 0 && errno == EINTR);
	if (n < 0)
	{
		archive_set_error(archive, errno, "read error");
		return ARCHIVE_FATAL;
	}
	(void) crypto_hash_sha256_update(&unpack->hash, (const unsigned char *) unpack->buffer,
									 (unsigned long long) n);
	*out = unpack->buffer;
	return n;
}

void
a67_unpack_free(A67Unpack *unpack)
{
	if (unpack == NULL)
		return;
	if (unpack->archive != NULL)
		(void) archive_read_free(unpack->archive);
	if (unpack->file_fd >= 0)
		(void) close(unpack->file_fd);
	(void) close(unpack->archive_fd);
	(void) close(unpack->root_fd);
	free(unpack);
}

A67Unpack *
a67_unpack_new(int archive_fd, int root_fd, const char digest[A67_DIGEST_SIZE],
			   const A67UnpackLimits *limits, A67Why *why)
{
	A67Unpack *unpack = calloc(1, sizeof(*unpack));

	if (unpack == NULL)
	{
		(void) close(archive_fd);
		(void) close(root_fd);
		(void) a67_why(why, -ENOMEM, "out of memory");
		return NULL;
	}
	unpack->archive_fd = archive_fd;
	unpack->root_fd = root_fd;
	unpack->file_fd = -1;
	unpack->left.bytes = limits != NULL ? limits->bytes : A67_PACKAGE_MAX_BYTES;
	unpack->left.files = limits != NULL ? limits->files : A67_PACKAGE_MAX_FILES;
	memcpy(unpack->digest, digest, A67_DIGEST_SIZE);
	(void) crypto_hash_sha256_init(&unpack->hash);
	unpack->archive = archive_read_new();
	if (unpack->archive == NULL ||
		archive_read_support_filter_gzip(unpack->archive) != ARCHIVE_OK ||
		archive_read_support_format_tar(unpack->archive) != ARCHIVE_OK ||
		archive_read_open(unpack->archive, unpack, NULL, read_archive, NULL) != ARCHIVE_OK)
	{
		(void) a67_why(why, -EINVAL, "package is not a tar.gz archive");
		a67_unpack_free(unpack);
		return NULL;
	}
	return unpack;
}

void
a67_unpack_give(A67Unpack *unpack, uid_t owner)
{
	unpack->owner = owner;
}

/* Gives a fresh entry of a directory to the owner; 0 or -errno. */
static int
give(const A67Unpack *unpack, int dir, const char *leaf)
{
	if (unpack->owner == 0 ||
		fchownat(dir, leaf, unpack->owner, (gid_t) unpack->owner, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return -errno;
}

/* libarchive has no multibyte form of a pax name that the locale cannot hold; the UTF-8 form is there. */
static const char *
entry_name(struct archive_entry *entry)
{
	const char *name = archive_entry_pathname(entry);

	return name != NULL ? name : archive_entry_pathname_utf8(entry);
}

static const char *
entry_hardlink(struct archive_entry *entry)
{
	const char *name = archive_entry_hardlink(entry);

	return name != NULL ? name : archive_entry_hardlink_utf8(entry);
}

static const char *
entry_symlink(struct archive_entry *entry)
{
	const char *name = archive_entry_symlink(entry);

	return name != NULL ? name : archive_entry_symlink_utf8(entry);
}

static int
refuse(A67Why *why, const char *path, const char *fault)
{
	return a67_why(why, -EINVAL, "package refused: \"%.120s\" %s", path, fault);
}

/* Opens (and makes) the directory of path, by real directories only; *leaf is the last part. */
static int
open_parent(const A67Unpack *unpack, const char *path, const char **leaf)
{
	int fd = fcntl(unpack->root_fd, F_DUPFD_CLOEXEC, 3);
	const char *slash;
	char part[256];

	while (fd >= 0 && (slash = strchr(path, '/')) != NULL)
	{
		int next;
		int saved;

		memcpy(part, path, (size_t) (slash - path));
		part[slash - path] = '\0';
		if (mkdirat(fd, part, 0755) == 0 ? give(unpack, fd, part) != 0 : errno != EEXIST)
			next = -1;
		else
			next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		saved = errno;
		(void) close(fd);
		errno = saved;
		fd = next;
		path = slash + 1;
	}
	*leaf = path;
	return fd < 0 ? -errno : fd;
}

static int
make_hard_link(const A67Unpack *unpack, int dir, const char *leaf, const char *target)
{
	char path[A67_PACKAGE_MAX_PATH];
	const char *from_leaf;
	struct stat st;
	int from;
	int err = 0;

	if (!a67_package_path(target, path) || path[0] == '\0')
		return -EINVAL;
	from = open_parent(unpack, path, &from_leaf);
	if (from < 0)
		return from;
	if (fstatat(from, from_leaf, &st, AT_SYMLINK_NOFOLLOW) != 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else if (linkat(from, from_leaf, dir, leaf, 0) != 0)
		err = -errno;
	(void) close(from);
	return err;
}

static int
make_directory(const A67Unpack *unpack, int dir, const char *leaf)
{
	struct stat st;

	if (mkdirat(dir, leaf, 0755) == 0)
		return give(unpack, dir, leaf);
	if (errno != EEXIST)
		return -errno;
	if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return -EEXIST;
}

/* Creates one entry; a regular file stays open in file_fd. */
static int
create_entry(A67Unpack *unpack, struct archive_entry *entry, int dir, const char *leaf)
{
	mode_t mode = (archive_entry_perm(entry) & 0111) != 0 ? 0755 : 0644;

	if (entry_hardlink(entry) != NULL)
		return make_hard_link(unpack, dir, leaf, entry_hardlink(entry));
	if (archive_entry_filetype(entry) == AE_IFDIR)
		return make_directory(unpack, dir, leaf);
	if (archive_entry_filetype(entry) == AE_IFLNK)
		return symlinkat(entry_symlink(entry), dir, leaf) == 0 ? give(unpack, dir, leaf) : -errno;
	unpack->file_fd = openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (unpack->file_fd < 0)
		return -errno;
	unpack->file_written = 0;
	/* The umask of whoever started the agent shall not decide whether an application runs. */
	if (fchmod(unpack->file_fd, mode) != 0)
		return -errno;
	return give(unpack, dir, leaf);
}

static int
judge_entry(const A67Unpack *unpack, struct archive_entry *entry, const char *path, A67Why *why)
{
	if (archive_entry_is_encrypted(entry))
		return refuse(why, path, "is encrypted");
	if (entry_hardlink(entry) != NULL)
		return 0;
	switch (archive_entry_filetype(entry))
	{
		case AE_IFREG:
			if (archive_entry_size(entry) > unpack->left.bytes)
				return refuse(why, path, "makes the package too large");
			return 0;
		case AE_IFDIR:
			return 0;
		case AE_IFLNK:
			if (!a67_package_link_inside(path, entry_symlink(entry)))
				return refuse(why, path, "is a link that leads out of the package");
			return 0;
		default:
			return refuse(why, path, "is neither file, directory nor link");
	}
}

static int
start_entry(A67Unpack *unpack, struct archive_entry *entry, A67Why *why)
{
	const char *name = entry_name(entry);
	char path[A67_PACKAGE_MAX_PATH];
	const char *leaf;
	int dir;
	int err;

	if (--unpack->left.files < 0)
		return refuse(why, name != NULL ? name : "?", "makes the package have too many files");
	if (!a67_package_path(name, path))
		return refuse(why, name != NULL ? name : "?", "is not a safe relative name");
	err = judge_entry(unpack, entry, path, why);
	if (err != 0)
		return err;
	if (path[0] == '\0')
		return archive_entry_filetype(entry) == AE_IFDIR ? 0 : refuse(why, ".", "is no directory");
	dir = open_parent(unpack, path, &leaf);
	if (dir < 0)
		err = dir;
	else
	{
		err = create_entry(unpack, entry, dir, leaf);
		(void) close(dir);
	}
	if (err == -EEXIST || err == -ELOOP || err == -ENOTDIR || err == -ENOENT || err == -EINVAL ||
		err == -EISDIR)
		return refuse(why, path, "collides with another entry or links to nothing");
	if (err != 0)
		return a67_why(why, err, "could not unpack \"%.120s\": %s", path, strerror(-err));
	return 0;
}

/* Writes at offset; holes of sparse files are left as holes. */
static int
write_block(A67Unpack *unpack, const char *bytes, size_t len, off_t offset)
{
	while (len > 0)
	{
		ssize_t n = pwrite(unpack->file_fd, bytes, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		offset += n;
		len -= (size_t) n;
	}
	return 0;
}

/* One block of the open file.  1: file is whole. */
static int
copy_block(A67Unpack *unpack, int64_t *spent, A67Why *why)
{
	const void *bytes = NULL;
	size_t len = 0;
	la_int64_t offset = 0;
	int result = archive_read_data_block(unpack->archive, &bytes, &len, &offset);
	int err;

	if (result == ARCHIVE_EOF)
	{
		err = close(unpack->file_fd) == 0 ? 1 : -errno;
		unpack->file_fd = -1;
		return err < 0 ? a67_why(why, err, "could not unpack the package: %s", strerror(-err)) : 1;
	}
	if (result != ARCHIVE_OK)
		return a67_why(why, -EINVAL, "package is damaged or truncated");
	if (offset < 0 || offset + (la_int64_t) len > unpack->file_written + unpack->left.bytes)
		return a67_why(why, -EINVAL, "package refused: it is too large");
	err = write_block(unpack, bytes, len, (off_t) offset);
	if (err != 0)
		return a67_why(why, err, "could not unpack the package: %s", strerror(-err));
	/* A hole counts as content, so that a sparse file cannot claim more than the limit. */
	if (offset + (la_int64_t) len > unpack->file_written)
	{
		unpack->left.bytes -= offset + (la_int64_t) len - unpack->file_written;
		unpack->file_written = offset + (la_int64_t) len;
	}
	*spent += (int64_t) len;
	return 0;
}

/* Reads what follows the archive, within reason, and compares the digest. */
static int
finish(A67Unpack *unpack, A67Why *why)
{
	unsigned char digest[crypto_hash_sha256_BYTES];
	char hex[A67_DIGEST_SIZE];
	const void *ignored;

	for (;;)
	{
		la_ssize_t n = read_archive(unpack->archive, unpack, &ignored);

		if (n < 0)
			return a67_why(why, -EIO, "could not read the package");
		if (n == 0)
			break;
	}
	(void) crypto_hash_sha256_final(&unpack->hash, digest);
	(void) a67_hex_encode(digest, sizeof(digest), hex, sizeof(hex));
	if (strcmp(hex, unpack->digest) != 0)
		return a67_why(why, -EBADMSG, "package does not match its digest");
	if (unpack->owner != 0 && fchown(unpack->root_fd, unpack->owner, (gid_t) unpack->owner) != 0)
		return a67_why(why, -errno, "could not hand over the package: %s", strerror(errno));
	return 1;
}

int
a67_unpack_step(A67Unpack *unpack, int64_t bytes, A67Why *why)
{
	int64_t spent = 0;

	while (spent < bytes)
	{
		struct archive_entry *entry;
		int result;

		if (unpack->file_fd >= 0)
		{
			result = copy_block(unpack, &spent, why);
			if (result < 0)
				return result;
			continue;
		}
		result = archive_read_next_header(unpack->archive, &entry);
		if (result == ARCHIVE_EOF)
			return finish(unpack, why);
		if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
			return a67_why(why, -EINVAL, "package is damaged or no tar.gz archive");
		result = start_entry(unpack, entry, why);
		if (result < 0)
			return result;
		spent += ENTRY_COST;
	}
	return 0;
}
