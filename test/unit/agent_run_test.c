/*
 * agent_run_test.c - the record of a run, whole, cut and changed, and the waiter that writes it.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define RECORD_BYTES 64

static char folder[64];

/* As much of a state directory as a record needs. */
static A67StateDir
open_dir(void)
{
	A67StateDir dir = {.lock_fd = -1};

	(void) snprintf(folder, sizeof(folder), "/tmp/a67-run-XXXXXX");
	if (mkdtemp(folder) == NULL)
		abort();
	(void) snprintf(dir.path, sizeof(dir.path), "%s", folder);
	dir.fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir;
}

static void
close_dir(A67StateDir *dir)
{
	(void) unlinkat(dir->fd, "run.1", 0);
	CHECK_INT(close(dir->fd), 0);
	CHECK_INT(rmdir(folder), 0);
}

static A67RunRecord
record_of(const A67StateDir *dir)
{
	A67RunRecord record;

	a67_run_read(dir, "run.1", &record);
	return record;
}

/* Runs the program through a waiter in a child; returns the waiter's exit status. */
static int
wait_for(const A67StateDir *dir, char *program, char *word)
{
	char *argv[] = {"a67-run", program, "/bin/sh", "-c", word, NULL};
	int fd = a67_run_create(dir, "run.1");
	int status = 0;
	pid_t pid;

	CHECK(fd >= 0);
	(void) fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		if (dup2(fd, A67_RUN_FD) < 0)
			_exit(99);
		_exit(a67_run_main(argv));
	}
	(void) close(fd);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
new_record_says_nothing(void)
{
	A67StateDir dir = open_dir();
	A67RunRecord record = record_of(&dir);
	struct stat st;
	int fd;

	CHECK_INT(record.state, A67_RUN_NONE);
	fd = a67_run_create(&dir, "run.1");
	REQUIRE(fd >= 0);
	/* All the room that it will ever need. */
	CHECK_INT(fstat(fd, &st), 0);
	CHECK_INT(st.st_size, RECORD_BYTES);
	CHECK_INT(st.st_mode & 07777, 0600);
	(void) close(fd);
	record = record_of(&dir);
	CHECK_INT(record.state, A67_RUN_NONE);
	CHECK_INT(record.exit_code, -1);
	CHECK_INT(record.duration_ms, -1);
	CHECK_INT(a67_run_create(&dir, "nowhere/run.1"), -ENOENT);
	close_dir(&dir);
}

static void
waiter_notes_how_a_program_ends(void)
{
	static const struct
	{
		char *word;
		int code;
	} cases[] = {{"exit 0", 0},			 {"exit 3", 3},		  {"exit 255", 255},
				 {"kill -TERM $$", 143}, {"kill -9 $$", 137}, {"test ! -e /dev/fd/3", 0}};
	A67StateDir dir = open_dir();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		A67RunRecord record;

		CHECK_INT(wait_for(&dir, "/bin/sh", cases[i].word), cases[i].code);
		record = record_of(&dir);
		CHECK_INT(record.state, A67_RUN_ENDED);
		CHECK_INT(record.exit_code, cases[i].code);
		CHECK(record.duration_ms >= 0 && record.duration_ms < 60000);
	}
	close_dir(&dir);
}

static void
waiter_notes_a_program_that_cannot_start(void)
{
	A67StateDir dir = open_dir();
	A67RunRecord record;

	CHECK_INT(wait_for(&dir, "/nowhere/program", "x"), 127);
	record = record_of(&dir);
	CHECK_INT(record.state, A67_RUN_NOT_STARTED);
	CHECK_INT(record.error, ENOENT);
	CHECK_INT(wait_for(&dir, "/", "x"), 127);
	CHECK_INT(record_of(&dir).error, EACCES);
	close_dir(&dir);
}

/* A SIGTERM to both ends the program, and the waiter writes that down. */
static void
waiter_outlives_signals_to_its_group(void)
{
	A67StateDir dir = open_dir();

	CHECK_INT(wait_for(&dir, "/bin/sh", "kill -TERM $PPID; kill -INT $PPID; exit 7"), 7);
	CHECK_INT(record_of(&dir).exit_code, 7);
	close_dir(&dir);
}

/* Without a place to note the begin, nothing is begun. */
static void
waiter_without_a_record_runs_nothing(void)
{
	char *argv[] = {"a67-run", "/bin/sh", "/bin/sh", "-c", "exit 0", NULL};
	int status = 0;
	pid_t pid;

	(void) fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		(void) close(A67_RUN_FD);
		_exit(a67_run_main(argv));
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(WEXITSTATUS(status), 111);
}

/* Every cut and every changed byte says at most as much as the whole record does. */
static void
damaged_record_never_says_more(void)
{
	A67StateDir dir = open_dir();
	char whole[RECORD_BYTES];
	int fd;

	CHECK_INT(wait_for(&dir, "/bin/sh", "exit 3"), 3);
	fd = openat(dir.fd, "run.1", O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0);
	REQUIRE(pread(fd, whole, sizeof(whole), 0) == RECORD_BYTES);
	for (int len = 0; len < RECORD_BYTES; len++)
	{
		A67RunRecord record;

		CHECK_INT(ftruncate(fd, len), 0);
		CHECK_INT(pwrite(fd, whole, (size_t) len, 0), len);
		record = record_of(&dir);
		CHECK_INT(record.state, len < RECORD_BYTES / 2 ? A67_RUN_NONE : A67_RUN_BEGUN);
		CHECK_INT(record.exit_code, -1);
		CHECK_INT(pwrite(fd, whole, RECORD_BYTES, 0), RECORD_BYTES);
		CHECK_INT(pwrite(fd, "\x01", 1, len), 1);
		record = record_of(&dir);
		CHECK(record.state != A67_RUN_NOT_STARTED);
		CHECK(record.state != A67_RUN_ENDED || (record.exit_code >= 0 && record.exit_code <= 255));
	}
	(void) close(fd);
	close_dir(&dir);
}

UNIT_MAIN("agent_run", UNIT(new_record_says_nothing), UNIT(waiter_notes_how_a_program_ends),
		  UNIT(waiter_notes_a_program_that_cannot_start),
		  UNIT(waiter_outlives_signals_to_its_group), UNIT(waiter_without_a_record_runs_nothing),
		  UNIT(damaged_record_never_says_more));
