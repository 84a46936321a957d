/*
 * agent_fault.c - preloaded into a67-agent by its tests: tells what it does to its disk and its processes, in
 * which order, kills it there, fills its disk, and sets its clocks.
 *
 * A67_FAULT_TRACE=FILE  one line for each fsync, rename, fork, kill and sent text, before it happens
 * A67_FAULT_AT=N        SIGKILL instead of the N-th of them
 * A67_FAULT_FULL=FILE   while FILE exists, files below the state directory cannot grow (ENOSPC)
 * A67_FAULT_CLOCK=FILE  two int64: milliseconds added to the wall clock, and to the clocks since boot
 * Applications get none of these variables. For them, and for what is between the agent and them:
 * FAULT_BEGIN=FILE      whoever finds FILE removes it and is killed before it does anything
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096 /* what a file has, it may fill */

static int trace = -1;
static long fault_at;
static long steps;
static const char *full;
static const int64_t *offsets;

__attribute__((constructor)) static void
begin(void)
{
	const char *name = getenv("FAULT_BEGIN");
	int fd;

	if (name != NULL && unlink(name) == 0)
		syscall(SYS_kill, getpid(), SIGKILL);
	name = getenv("A67_FAULT_TRACE");
	if (name != NULL)
	{
		fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		trace = fcntl(fd, F_DUPFD_CLOEXEC, 200);
		close(fd);
	}
	fault_at = getenv("A67_FAULT_AT") != NULL ? strtol(getenv("A67_FAULT_AT"), NULL, 10) : 0;
	full = getenv("A67_FAULT_FULL");
	name = getenv("A67_FAULT_CLOCK");
	if (name != NULL)
	{
		fd = open(name, O_RDONLY | O_CLOEXEC);
		offsets = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
	}
}

static void *
real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* One step: told, counted, or the last. */
static void
step(const char *what, const char *text)
{
	static char line[300000];
	int n = snprintf(line, sizeof(line) - 1, "%s %s", what, text);

	if (n > (int) sizeof(line) - 2)
		n = (int) sizeof(line) - 2;
	for (int i = 0; i < n; i++)
		line[i] = line[i] == '\n' || line[i] == '\r' ? ' ' : line[i];
	line[n++] = '\n';
	steps++;
	if (fault_at > 0 && steps == fault_at)
		syscall(SYS_kill, getpid(), SIGKILL);
	if (trace >= 0)
		(void) !syscall(SYS_write, trace, line, n);
}

static void
path_of(int fd, char out[4096])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, out, 4095);
	out[n > 0 ? n : 0] = '\0';
}

int
fsync(int fd)
{
	char path[4096];

	path_of(fd, path);
	step("fsync", path);
	return ((int (*)(int)) real("fsync"))(fd);
}

/* A new name of a state file is told with what is in it. */
static void
tell_rename(int dir, const char *from, const char *to)
{
	static char text[200000];
	ssize_t n = -1;
	int fd = strstr(to, ".json") != NULL ? openat(dir, from, O_RDONLY | O_CLOEXEC) : -1;
	size_t used = (size_t) snprintf(text, sizeof(text), "%s ", to);

	if (fd >= 0)
	{
		n = syscall(SYS_read, fd, text + used, sizeof(text) - used - 1);
		close(fd);
	}
	text[used + (n > 0 ? (size_t) n : 0)] = '\0';
	step("rename", text);
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	tell_rename(from_dir, from, to);
	return ((int (*)(int, const char *, int, const char *)) real("renameat"))(from_dir, from,
																			  to_dir, to);
}

pid_t
fork(void)
{
	step("fork", "");
	return ((pid_t(*)(void)) real("fork"))();
}

int
kill(pid_t pid, int number)
{
	char text[64];

	snprintf(text, sizeof(text), "%d %d", (int) pid, number);
	step("kill", text);
	return ((int (*)(pid_t, int)) real("kill"))(pid, number);
}

/* Only what speaks of replicas. */
static void
tell_sent(const void *bytes, size_t len)
{
	char *text = len < 250000 ? strndup(bytes, len) : NULL;

	if (text != NULL && strstr(text, "\"state\":\"") != NULL)
		step("send", text);
	free(text);
}

ssize_t
send(int fd, const void *bytes, size_t len, int flags)
{
	tell_sent(bytes, len);
	return ((ssize_t(*)(int, const void *, size_t, int)) real("send"))(fd, bytes, len, flags);
}

int
SSL_write(void *ssl, const void *bytes, int len)
{
	tell_sent(bytes, (size_t) len);
	return ((int (*)(void *, const void *, int)) real("SSL_write"))(ssl, bytes, len);
}

/* ---- a full disk ---- */

static bool
is_full(void)
{
	struct stat st;

	return full != NULL && stat(full, &st) == 0;
}

/* Whether a write up to there would make a file grow that may not. */
static bool
grows(int fd, off_t end)
{
	struct stat st;

	return is_full() && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		   end > (st.st_size + BLOCK - 1) / BLOCK * BLOCK;
}

ssize_t
write(int fd, const void *bytes, size_t len)
{
	off_t at =
		full != NULL ? lseek(fd, 0, (fcntl(fd, F_GETFL) & O_APPEND) ? SEEK_END : SEEK_CUR) : -1;

	if (at >= 0 && fd > 2 && grows(fd, at + (off_t) len))
	{
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_write, fd, bytes, len);
}

ssize_t
pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	if (grows(fd, at + (off_t) len))
	{
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, bytes, len, at);
}

int
mkdirat(int dir, const char *name, mode_t mode)
{
	if (is_full() && faccessat(dir, name, F_OK, 0) != 0)
	{
		errno = ENOSPC;
		return -1;
	}
	return (int) syscall(SYS_mkdirat, dir, name, mode);
}

int
fstatvfs(int fd, struct statvfs *out)
{
	int result = ((int (*)(int, struct statvfs *)) real("fstatvfs"))(fd, out);

	if (is_full())
		out->f_bavail = out->f_bfree = 0;
	return result;
}

/* ---- clocks ---- */

int
clock_gettime(clockid_t id, struct timespec *out)
{
	int result = (int) syscall(SYS_clock_gettime, id, out);
	int64_t ms = offsets == NULL ? 0 : offsets[id == CLOCK_REALTIME ? 0 : 1];
	int64_t ns = out->tv_nsec + ms % 1000 * 1000000;

	out->tv_sec += ms / 1000;
	out->tv_sec += ns >= 1000000000 ? 1 : ns < 0 ? -1 : 0;
	out->tv_nsec = ns >= 1000000000 ? ns - 1000000000 : ns < 0 ? ns + 1000000000 : ns;
	return result;
}
