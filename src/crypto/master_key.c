/*
 * master_key.c - reads, and once in a cluster's life makes, the master key file.
 *
 * The file holds 64 hex digits and a newline, belongs to the server's user and is closed to all others. A new
 * one is written under another name, flushed and linked into place: of several processes that try, one wins
 * and all read the same key; a crash leaves no half-written key. Losing the file loses every sealed value,
 * so it is never made by an attempt to open one.
 */
#include "postgres.h"

#include "crypto/master_key.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "core/encode.h"
#include "platform/settings.h"

#define TEXT_BYTES (2 * A67_MASTER_KEY_BYTES)

static void refuse(const char *path, const char *detail) pg_attribute_noreturn();
static void file_error(const char *what, const char *path) pg_attribute_noreturn();

static void
refuse(const char *path, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR),
					errmsg("cannot use master key file \"%s\"", path), errdetail("%s", detail)));
	pg_unreachable();
}

static void
file_error(const char *what, const char *path)
{
	ereport(ERROR, (errcode_for_file_access(),
					errmsg("could not %s master key file \"%s\": %m", what, path)));
	pg_unreachable();
}

/* Writes a fresh key to a new file; removes it and raises on any failure. */
static void
write_new(const char *path)
{
	uint8 key[A67_MASTER_KEY_BYTES];
	char text[TEXT_BYTES + 2];
	ssize_t written;
	int saved;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);

	if (fd < 0)
		file_error("create", path);
	randombytes_buf(key, sizeof(key));
	(void) a67_hex_encode(key, sizeof(key), text, sizeof(text));
	text[TEXT_BYTES] = '\n';
	errno = 0;
	written = write(fd, text, TEXT_BYTES + 1);
	sodium_memzero(key, sizeof(key));
	sodium_memzero(text, sizeof(text));
	if (written == TEXT_BYTES + 1 && pg_fsync(fd) == 0)
	{
		close(fd);
		return;
	}
	saved = errno != 0 ? errno : ENOSPC;
	close(fd);
	unlink(path);
	errno = saved;
	file_error("write", path);
}

/* Makes the new name durable. */
static void
flush_directory(const char *path)
{
	char directory[MAXPGPATH];

	strlcpy(directory, path, sizeof(directory));
	get_parent_directory(directory);
	(void) fsync_fname_ext(directory[0] != '\0' ? directory : ".", true, false, ERROR);
}

static void
create_file(const char *path)
{
	char temporary[MAXPGPATH + 32];
	int failed;
	int saved;

	snprintf(temporary, sizeof(temporary), "%s.%d.new", path, MyProcPid);
	(void) unlink(temporary); /* left by a crashed process that had this pid */
	write_new(temporary);
	failed = link(temporary, path) != 0 && errno != EEXIST;
	saved = errno;
	unlink(temporary);
	if (failed)
	{
		errno = saved;
		file_error("create", path);
	}
	flush_directory(path);
	ereport(LOG, (errmsg("created master key file \"%s\"", path), errhidecontext(true),
				  errhidestmt(true)));
}

/* Reads the text of an open, acceptable file; false on anything else than exactly a key. */
static bool
parse(int fd, uint8 key[A67_MASTER_KEY_BYTES])
{
	char text[TEXT_BYTES + 3];
	ssize_t count = read(fd, text, sizeof(text));
	bool ok = count == TEXT_BYTES || (count == TEXT_BYTES + 1 && text[TEXT_BYTES] == '\n');

	ok = ok && a67_hex_decode(text, TEXT_BYTES, key, A67_MASTER_KEY_BYTES);
	sodium_memzero(text, sizeof(text));
	return ok;
}

void
a67_master_key_load(uint8 key[A67_MASTER_KEY_BYTES], bool create)
{
	const char *path = a67_master_key_file;
	struct stat status;
	bool parsed;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT && create)
	{
		create_file(path);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	}
	if (fd < 0)
		file_error("open", path);
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
	{
		close(fd);
		refuse(path, "It is not a regular file.");
	}
	if (status.st_uid != geteuid() || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
	{
		close(fd);
		refuse(path, "It must belong to the server's user and be closed to group and others.");
	}
	parsed = parse(fd, key);
	close(fd);
	if (!parsed)
		refuse(path, "It must hold 64 hexadecimal digits.");
}
