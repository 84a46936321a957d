/*
 * run.c - the waiter of a run and its record.  See run.h.
 *
 * The record is two lines of fixed length that are written over in place: one for the begin, one for
 * the end.  So it needs no room on a full disk, and a line that is not whole counts as not written.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define LINE_BYTES	   32 /* with its newline */
#define RECORD_BYTES   (2 * LINE_BYTES)
#define BEGIN_TEXT	   "begun"
#define STATUS_CANNOT  127 /* as a shell has it */
#define STATUS_UNNOTED 111

/* ---- the record ---- */

/* Writes one line of the record durably; 0 or -errno. */
static int
write_line(int fd, off_t at, const char *text)
{
	char line[LINE_BYTES + 1];
	int len = snprintf(line, sizeof(line), "%-*s.\n", LINE_BYTES - 2, text);

	if (len != LINE_BYTES)
		return -EMSGSIZE;
	if (pwrite(fd, line, LINE_BYTES, at) != LINE_BYTES)
		return errno != 0 ? -errno : -EIO;
	return fsync(fd) == 0 ? 0 : -errno;
}

int
a67_run_create(const A67StateDir *dir, const char *name)
{
	char parent[A67_STATE_NAME_SIZE];
	const char *slash = strrchr(name, '/');
	int fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int parent_fd;
	int err;

	if (fd < 0)
		return -errno;
	err = write_line(fd, 0, "");
	if (err == 0)
		err = write_line(fd, LINE_BYTES, "");
	(void) snprintf(parent, sizeof(parent), "%.*s", (int) (slash != NULL ? slash - name : 0), name);
	parent_fd = openat(dir->fd, slash != NULL ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (err == 0 && (parent_fd < 0 || fsync(parent_fd) != 0))
		err = -errno;
	if (parent_fd >= 0)
		(void) close(parent_fd);
	if (err == 0)
		return fd;
	(void) close(fd);
	return err;
}

/* The text of a line without its padding; false unless the line is whole. */
static bool
take_line(const char *bytes, char out[LINE_BYTES])
{
	size_t len = LINE_BYTES - 2;

	if (bytes[LINE_BYTES - 2] != '.' || bytes[LINE_BYTES - 1] != '\n')
		return false;
	while (len > 0 && bytes[len - 1] == ' ')
		len--;
	memcpy(out, bytes, len);
	out[len] = '\0';
	return len > 0;
}

void
a67_run_read(const A67StateDir *dir, const char *name, A67RunRecord *record)
{
	char bytes[RECORD_BYTES] = {0};
	char line[LINE_BYTES];
	long long duration = -1;
	int code = -1;
	int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	*record = (A67RunRecord){.state = A67_RUN_NONE, .exit_code = -1, .duration_ms = -1};
	if (fd < 0)
		return;
	if (pread(fd, bytes, sizeof(bytes), 0) < LINE_BYTES)
		bytes[0] = '\0';
	(void) close(fd);
	if (!take_line(bytes, line) || strcmp(line, BEGIN_TEXT) != 0)
		return;
	record->state = A67_RUN_BEGUN;
	if (!take_line(bytes + LINE_BYTES, line))
		return;
	if (sscanf(line, "exit %3d %16lld", &code, &duration) == 2 && code >= 0 && code <= 255 &&
		duration >= 0)
	{
		record->state = A67_RUN_ENDED;
		record->exit_code = code;
		record->duration_ms = duration;
	}
	else if (sscanf(line, "error %4d", &code) == 1 && code > 0)
	{
		record->state = A67_RUN_NOT_STARTED;
		record->error = code;
	}
}

/* ---- the waiter ---- */

/* The child's part; comes back only to say why it could not: an errno through the pipe. */
static void
become(char **argv, const sigset_t *signals, int pipe_fd)
{
	int err;

	(void) sigprocmask(SIG_SETMASK, signals, NULL);
	(void) execv(argv[1], argv + 2);
	err = errno;
	(void) !write(pipe_fd, &err, sizeof(err));
	_exit(STATUS_CANNOT);
}

/* Starts the program with the signals as this process got them; 0 or an errno. */
static int
start(char **argv, const sigset_t *signals, pid_t *pid)
{
	int ends[2];
	int err = 0;

	/* Closed by a successful exec. */
	if (pipe2(ends, O_CLOEXEC) != 0)
		return errno;
	*pid = fork();
	if (*pid == 0)
		become(argv, signals, ends[1]);
	if (*pid < 0)
		err = errno;
	(void) close(ends[1]);
	if (err == 0 && read(ends[0], &err, sizeof(err)) != (ssize_t) sizeof(err))
		err = 0;
	(void) close(ends[0]);
	return err;
}

int
a67_run_main(char **argv)
{
	char text[LINE_BYTES];
	siginfo_t info;
	sigset_t all;
	sigset_t before;
	int64_t began_ms;
	pid_t pid = 0;
	int status;
	int err;

	/* Signals to the group are for the program; this process only outlives them. */
	(void) sigfillset(&all);
	(void) sigprocmask(SIG_BLOCK, &all, &before);
	if (argv[1] == NULL || argv[2] == NULL || fcntl(A67_RUN_FD, F_SETFD, FD_CLOEXEC) != 0 ||
		write_line(A67_RUN_FD, 0, BEGIN_TEXT) != 0)
		return STATUS_UNNOTED;
	began_ms = a67_clock_now_ms();
	err = start(argv, &before, &pid);
	if (err != 0)
	{
		(void) snprintf(text, sizeof(text), "error %d", err);
		(void) write_line(A67_RUN_FD, LINE_BYTES, text);
		return STATUS_CANNOT;
	}
	memset(&info, 0, sizeof(info));
	while (waitid(P_PID, (id_t) pid, &info, WEXITED) != 0 && errno == EINTR)
		continue;
	status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	(void) snprintf(text, sizeof(text), "exit %d %lld", status,
					(long long) (a67_clock_now_ms() - began_ms));
	(void) write_line(A67_RUN_FD, LINE_BYTES, text);
	return status;
}
