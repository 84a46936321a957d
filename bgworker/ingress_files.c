/*
 * ingress_files.c - writes HAProxy's files so that a crash at any line leaves a configuration that is whole.
 *
 * A map of routes has a name of its own for each content and is written first; the configuration becomes the
 * one in use by a rename. All names in it are relative to the directory (haproxy -C), so that a long data
 * directory does not matter for its sockets. The settings that go into a command line hold letters, digits and
 * "/._-" only; the data directory is quoted.
 */
#include "postgres.h"

#include "ingress_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "platform/settings.h"

#define CONFIG			  "haproxy.cfg"
#define CONFIG_NEW		  "haproxy.cfg.new"

/* The largest time that a program gets; it is killed a second later. */
#define PROGRAM_TIMEOUT_S 10

static char *
name_in(const char *name)
{
	return psprintf("%s/%s", a67_ingress_directory, name);
}

void
a67_ingress_socket(char path[MAXPGPATH])
{
	snprintf(path, MAXPGPATH, "%s/master.sock", a67_ingress_directory);
}

static void
write_file(const char *name, const char *text)
{
	int fd = OpenTransientFilePerm(name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | PG_BINARY,
								   pg_file_create_mode & 0600);
	size_t len = strlen(text);

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create file \"%s\": %m", name)));
	while (len > 0)
	{
		ssize_t count = write(fd, text, len);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
		{
			int error = count == 0 ? ENOSPC : errno;

			CloseTransientFile(fd);
			errno = error;
			ereport(ERROR,
					(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", name)));
		}
		text += count;
		len -= (size_t) count;
	}
	if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", name)));
}

void
a67_ingress_write(const char *config, const char *routes_file, const char *routes)
{
	if (mkdir(a67_ingress_directory, 0700) < 0 && errno != EEXIST)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not create directory \"%s\": %m", a67_ingress_directory)));
	write_file(name_in(routes_file), routes);
	write_file(name_in(CONFIG_NEW), config);
}

void
a67_ingress_use(const char *routes_file)
{
	DIR *dir;
	struct dirent *entry;

	(void) durable_rename(name_in(CONFIG_NEW), name_in(CONFIG), ERROR);
	dir = AllocateDir(a67_ingress_directory);
	while ((entry = ReadDirExtended(dir, a67_ingress_directory, LOG)) != NULL)
	{
		if (strncmp(entry->d_name, "routes-", 7) == 0 && strcmp(entry->d_name, routes_file) != 0)
			(void) unlink(name_in(entry->d_name));
	}
	FreeDir(dir);
}

/* Appends a word that the shell takes as it is. */
static void
append_quoted(StringInfo command, const char *word)
{
	appendStringInfoChar(command, '\'');
	for (const char *c = word; *c != '\0'; c++)
	{
		if (*c == '\'')
			appendStringInfoString(command, "'\\''");
		else
			appendStringInfoChar(command, *c);
	}
	appendStringInfoChar(command, '\'');
}

/* HAProxy in its directory, for a bounded time and with nothing of this server's environment. */
static void
begin_command(StringInfo command)
{
	initStringInfo(command);
	appendStringInfo(
		command,
		"exec env -i PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin "
		"timeout -k 1 %d %s -C ",
		PROGRAM_TIMEOUT_S, a67_haproxy_path);
	append_quoted(command, is_absolute_path(a67_ingress_directory)
							   ? a67_ingress_directory
							   : psprintf("%s/%s", DataDir, a67_ingress_directory));
}

char *
a67_ingress_check_command(void)
{
	StringInfoData command;

	begin_command(&command);
	appendStringInfoString(&command, " -c -f " CONFIG_NEW " 2>&1 </dev/null");
	return command.data;
}

char *
a67_ingress_start_command(void)
{
	StringInfoData command;

	begin_command(&command);
	appendStringInfoString(&command, " -W -D -f " CONFIG
									 " -S unix@master.sock,mode,600,level,admin 2>&1 </dev/null");
	return command.data;
}
