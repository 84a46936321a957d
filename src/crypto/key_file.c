/*
 * key_file.c - reads, makes and replaces the file of master keys.
 *
 * A new file is written under another name, flushed and moved into place: a crash leaves the old file or the
 * new one, never half of one. The first file is linked, not renamed: of several processes that try, one wins
 * and all read the same key. Losing the file loses every value sealed under its keys, so nothing here makes
 * one unasked.
 */
#include "postgres.h"

#include "crypto/key_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "core/encode.h"
#include "platform/settings.h"

#define LINE_BYTES (A67_KEY_TEXT_SIZE + 1)
#define READ_MAX   1024

/* ---- reading ----------------------------------------------------------------------------------- */

static A67KeyFileState
refuse(char why[A67_KEY_WHY_SIZE], const char *reason)
{
	strlcpy(why, reason, A67_KEY_WHY_SIZE);
	return A67_KEY_FILE_REFUSED;
}

static A67KeyFileState
parse(int fd, A67KeyList *list, char why[A67_KEY_WHY_SIZE])
{
	char text[READ_MAX];
	ssize_t count = read(fd, text, sizeof(text));
	bool good = count > 0 && count < (ssize_t) sizeof(text) &&
				a67_key_list_parse(list, text, (size_t) count, A67_KEY_FROM_FILE);

	sodium_memzero(text, sizeof(text));
	if (!good)
		return refuse(why, "The master key file must hold one to four lines of 64 hexadecimal "
						   "digits.");
	return A67_KEY_FILE_READ;
}

A67KeyFileState
a67_key_file_read(A67KeyList *list, char why[A67_KEY_WHY_SIZE])
{
	struct stat status;
	A67KeyFileState state;
	int fd = open(a67_master_key_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
	{
		bool missing = errno == ENOENT;

		snprintf(why, A67_KEY_WHY_SIZE, "The master key file could not be opened: %s.",
				 strerror(errno));
		return missing ? A67_KEY_FILE_MISSING : A67_KEY_FILE_REFUSED;
	}
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		state = refuse(why, "The master key file is not a regular file.");
	else if (status.st_uid != geteuid() || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		state = refuse(why, "The master key file must belong to the server's user and be closed to "
							"group and others.");
	else
		state = parse(fd, list, why);
	close(fd);
	return state;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Writes the keys to a new file; false, with errno, leaves none. */
static bool
write_new(const char *path, const A67KeyList *list)
{
	char text[A67_KEYS_MAX * LINE_BYTES + 1];
	ssize_t len = (ssize_t) list->count * LINE_BYTES;
	ssize_t written;
	int saved;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);

	if (fd < 0)
		return false;
	for (uint32 i = 0; i < list->count; i++)
	{
		(void) a67_hex_encode(list->keys[i].key.key, A67_VAULT_KEY_BYTES, text + i * LINE_BYTES,
							  sizeof(text) - i * LINE_BYTES);
		text[i * LINE_BYTES + A67_KEY_TEXT_SIZE] = '\n';
	}
	errno = 0;
	written = write(fd, text, (size_t) len);
	sodium_memzero(text, sizeof(text));
	if (written == len && pg_fsync(fd) == 0)
	{
		close(fd);
		return true;
	}
	saved = errno != 0 ? errno : ENOSPC;
	close(fd);
	unlink(path);
	errno = saved;
	return false;
}

/* The directory of the file. */
static void
directory_of_file(char directory[MAXPGPATH])
{
	strlcpy(directory, a67_master_key_file, MAXPGPATH);
	get_parent_directory(directory);
	if (directory[0] == '\0')
		strlcpy(directory, ".", MAXPGPATH);
}

/* Makes what became of the name durable. */
static bool
flush_directory(void)
{
	char directory[MAXPGPATH];

	directory_of_file(directory);
	return fsync_fname_ext(directory, true, false, LOG) == 0;
}

/* The name that this process writes under. */
static void
temporary_name(char name[MAXPGPATH + 32])
{
	snprintf(name, MAXPGPATH + 32, "%s.%d.new", a67_master_key_file, MyProcPid);
}

/* Whether this is the name under which a process that is no more was writing. */
static bool
is_left_over(const char *name)
{
	const char *base = last_dir_separator(a67_master_key_file);
	size_t len;
	long pid;
	char *end;

	base = base == NULL ? a67_master_key_file : base + 1;
	len = strlen(base);
	if (strncmp(name, base, len) != 0 || name[len] != '.')
		return false;
	errno = 0;
	pid = strtol(name + len + 1, &end, 10);
	if (errno != 0 || pid <= 0 || pid > PG_INT32_MAX || strcmp(end, ".new") != 0)
		return false;
	return pid == MyProcPid || (kill((pid_t) pid, 0) != 0 && errno == ESRCH);
}

/* Copies of keys that crashed processes have left must not lie about. */
static void
sweep(void)
{
	char directory[MAXPGPATH];
	char path[2 * MAXPGPATH];
	struct dirent *entry;
	DIR *dir;

	directory_of_file(directory);
	dir = opendir(directory);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		if (!is_left_over(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		(void) unlink(path);
	}
	if (dir != NULL)
		closedir(dir);
}

/* Writes the list under another name and puts it into place; false with errno. */
static bool
replace_file(const A67KeyList *list, bool keep_existing)
{
	char temporary[MAXPGPATH + 32];
	bool placed;
	int saved;

	sweep();
	temporary_name(temporary);
	if (!write_new(temporary, list))
		return false;
	if (keep_existing)
		placed = link(temporary, a67_master_key_file) == 0 || errno == EEXIST;
	else
		placed = rename(temporary, a67_master_key_file) == 0;
	saved = errno;
	if (keep_existing || !placed)
		unlink(temporary);
	errno = saved;
	return placed && flush_directory();
}

void
a67_key_file_create(void)
{
	uint8 key[A67_VAULT_KEY_BYTES];
	A67KeyList *list = a67_key_list_make();
	bool made;
	int saved;

	if (list == NULL)
	{
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		pg_unreachable();
	}
	randombytes_buf(key, sizeof(key));
	(void) a67_key_list_add(list, key, A67_KEY_FROM_FILE);
	sodium_memzero(key, sizeof(key));
	made = replace_file(list, true);
	saved = errno;
	a67_key_list_free(list);
	errno = saved;
	if (!made)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create master key file \"%s\": %m", a67_master_key_file)));
	ereport(LOG, (errmsg("created master key file \"%s\"", a67_master_key_file),
				  errhidecontext(true), errhidestmt(true)));
}

void
a67_key_file_write(const A67KeyList *list, int elevel)
{
	bool done;

	Assert(list->count <= A67_KEYS_MAX);
	if (list->count > 0)
		done = replace_file(list, false);
	else
		done = (unlink(a67_master_key_file) == 0 || errno == ENOENT) && flush_directory();
	if (!done)
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not write master key file \"%s\": %m", a67_master_key_file)));
}
