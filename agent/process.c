/*
 * process.c - /proc and pidfds.  See process.h.
 */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"

#include "clock.h"

#define STAT_SIZE		   1024
#define EXEC_POLL_MS	   5
#define KERNEL_THREAD_FLAG 0x00200000ULL /* PF_KTHREAD */

int
a67_pidfd_open(pid_t pid)
{
	/* The descriptor is close-on-exec by definition. */
	return (int) syscall(SYS_pidfd_open, pid, 0);
}

int
a67_proc_read(pid_t pid, const char *name, char *out, size_t size, size_t *len)
{
	char path[64];
	int fd;
	ssize_t n;

	(void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*len = 0;
	while (*len < size - 1 && (n = read(fd, out + *len, size - 1 - *len)) != 0)
	{
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			int err = -errno;

			(void) close(fd);
			return err;
		}
		*len += (size_t) n;
	}
	out[*len] = '\0';
	(void) close(fd);
	return 0;
}

int
a67_proc_stat(pid_t pid, A67ProcStat *out)
{
	char text[STAT_SIZE];
	char *at;
	size_t len;
	unsigned long long value[25] = {0};
	int err = a67_proc_read(pid, "stat", text, sizeof(text), &len);

	if (err != 0)
		return err == -ESRCH ? -ENOENT : err;
	/* The command name may hold anything: fields count from the last parenthesis. */
	at = strrchr(text, ')');
	if (at == NULL || at[1] != ' ' || at[2] == '\0')
		return -EPROTO;
	out->state = at[2];
	at += 3;
	/* Field 4 (ppid) comes first; value[i] is field 4 + i. */
	for (int i = 0; i < 21; i++)
		value[i] = strtoull(at, &at, 10);
	out->ppid = (pid_t) value[0];
	out->pgrp = (pid_t) value[1];
	out->kernel = (value[5] & KERNEL_THREAD_FLAG) != 0;
	out->cpu_ticks = value[10] + value[11];
	out->start_ticks = value[18];
	out->rss_bytes = (int64_t) value[20] * sysconf(_SC_PAGESIZE);
	return 0;
}

const char *
a67_proc_variable(const char *block, size_t len, const char *name)
{
	size_t name_len = strlen(name);

	for (const char *at = block; at < block + len; at += strlen(at) + 1)
	{
		if (strncmp(at, name, name_len) == 0 && at[name_len] == '=')
			return at + name_len + 1;
	}
	return NULL;
}

bool
a67_process_adopt(A67Process *process, const char *replica)
{
	A67ProcStat st;
	char *block = malloc(A67_ENVIRON_BYTES);
	const char *mark;
	size_t len;
	bool same;
	int fd = a67_pidfd_open(process->pid);

	/* The pidfd first: what it stands for cannot change between the checks and its use. */
	same = block != NULL && fd >= 0 && a67_proc_stat(process->pid, &st) == 0 &&
		   st.start_ticks == process->start_ticks && st.state != 'Z' && st.state != 'X';
	if (same && a67_proc_read(process->pid, "environ", block, A67_ENVIRON_BYTES, &len) == 0)
	{
		/*
		 * An application may overwrite its environment (process titles) or close it (a process that
		 * is not dumpable); another's mark is proof.
		 */
		mark = a67_proc_variable(block, len, "A67_REPLICA");
		same = mark == NULL || strcmp(mark, replica) == 0;
	}
	free(block);
	if (!same)
	{
		if (fd >= 0)
			(void) close(fd);
		process->pid = 0;
		process->pidfd = -1;
		return false;
	}
	process->pidfd = fd;
	process->child = false;
	return true;
}

uint64_t
a67_process_now_ticks(void)
{
	return (uint64_t) a67_clock_boot_ms() * (uint64_t) sysconf(_SC_CLK_TCK) / 1000;
}

int64_t
a67_process_age_ms(const A67Process *process)
{
	int64_t hertz = sysconf(_SC_CLK_TCK);
	int64_t age_ms;

	if (process->start_ticks == 0 || hertz <= 0)
		return 0;
	age_ms = a67_clock_boot_ms() - (int64_t) process->start_ticks * 1000 / hertz;
	return age_ms > 0 ? age_ms : 0;
}

void
a67_process_forget(A67Process *process)
{
	if (process->pidfd >= 0)
		(void) close(process->pidfd);
	process->pidfd = -1;
	process->pid = 0;
	process->start_ticks = 0;
	process->child = false;
}

void
a67_process_signal(const A67Process *process, int number)
{
	if (process->pid > 1 && kill(-process->pid, number) != 0 && errno != ESRCH)
		a67_log(A67_LOG_WARNING, "could not signal process group %d: %s", (int) process->pid,
				strerror(errno));
}

void
a67_process_notify(const A67Process *process, int number)
{
	long failed = 0;

	if (process->pidfd >= 0)
		failed = syscall(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0);
	else if (process->pid > 1 && process->child)
		failed = kill(process->pid, number);
	if (failed != 0 && errno != ESRCH)
		a67_log(A67_LOG_WARNING, "could not signal process %d: %s", (int) process->pid,
				strerror(errno));
}

/* Reads the environment, giving a process in the middle of exec a moment to have one. */
static bool
read_environ(pid_t pid, int *wait_ms, char *block, size_t *len)
{
	A67ProcStat st;

	for (;;)
	{
		if (a67_proc_read(pid, "environ", block, A67_ENVIRON_BYTES, len) != 0)
			return false;
		if (*len > 0 || *wait_ms <= 0)
			return *len > 0;
		if (a67_proc_stat(pid, &st) != 0 || st.state == 'Z' || st.state == 'X')
			return false;
		(void) poll(NULL, 0, EXEC_POLL_MS);
		*wait_ms -= EXEC_POLL_MS;
	}
}

static bool
look_at(pid_t pid, const char *node, int *wait_ms, char *block, A67Found *out)
{
	A67ProcStat st;
	size_t len = 0;
	const char *value;

	if (a67_proc_stat(pid, &st) != 0 || st.state == 'Z' || st.state == 'X' || st.kernel ||
		!read_environ(pid, wait_ms, block, &len))
		return false;
	value = a67_proc_variable(block, len, "A67_NODE_ID");
	if (value == NULL || strcmp(value, node) != 0)
		return false;
	value = a67_proc_variable(block, len, "A67_REPLICA");
	if (value == NULL || strlen(value) >= sizeof(out->replica))
		return false;
	memcpy(out->replica, value, strlen(value) + 1);
	value = a67_proc_variable(block, len, "A67_PID");
	out->main = value != NULL && strtol(value, NULL, 10) == (long) pid;
	/* Again: the environment must have been that of the process that is reported. */
	if (a67_proc_stat(pid, &st) != 0)
		return false;
	out->pid = pid;
	out->start_ticks = st.start_ticks;
	return true;
}

size_t
a67_process_scan(const char *node, int wait_ms, A67Found *found, size_t max)
{
	DIR *proc = opendir("/proc");
	char *block = malloc(A67_ENVIRON_BYTES);
	struct dirent *entry;
	struct stat st;
	size_t count = 0;
	uid_t uid = geteuid();

	while (proc != NULL && block != NULL && count < max && (entry = readdir(proc)) != NULL)
	{
		char *end;
		long pid = strtol(entry->d_name, &end, 10);

		if (*end != '\0' || pid <= 1 || pid == (long) getpid())
			continue;
		if (uid != 0 && (fstatat(dirfd(proc), entry->d_name, &st, 0) != 0 || st.st_uid != uid))
			continue;
		if (look_at((pid_t) pid, node, &wait_ms, block, &found[count]))
			count++;
	}
	free(block);
	if (proc != NULL)
		(void) closedir(proc);
	return count;
}

void
a67_process_kill(pid_t pid, uint64_t start_ticks, int number)
{
	A67ProcStat st;
	int fd = a67_pidfd_open(pid);

	if (fd < 0)
		return;
	if (a67_proc_stat(pid, &st) == 0 && st.start_ticks == start_ticks)
		(void) syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
	(void) close(fd);
}
