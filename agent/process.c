/*
 * process.c - posix_spawn, /proc and pidfds.  See process.h.
 */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STAT_SIZE		   1024
#define ENVIRON_SIZE	   131072
#define PROGRAM_SIZE	   4096
#define SWEEP_PASSES	   3
#define EXEC_POLL_MS	   5
#define NOFILE_LIMIT	   65536
#define STACK_ALLOWANCE	   ((rlim_t) 64 << 20)
#define KERNEL_THREAD_FLAG 0x00200000ULL /* PF_KTHREAD */

static int
open_pidfd(pid_t pid)
{
	/* The descriptor is close-on-exec by definition. */
	return (int) syscall(SYS_pidfd_open, pid, 0);
}

static int
read_proc(pid_t pid, const char *name, char *out, size_t size, size_t *len)
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
	int err = read_proc(pid, "stat", text, sizeof(text), &len);

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
	out->pgrp = (pid_t) value[1];
	out->kernel = (value[5] & KERNEL_THREAD_FLAG) != 0;
	out->cpu_ticks = value[10] + value[11];
	out->start_ticks = value[18];
	out->rss_bytes = (int64_t) value[20] * sysconf(_SC_PAGESIZE);
	return 0;
}

/* The value of NAME= in an environment block, or NULL. */
static const char *
find_variable(const char *block, size_t len, const char *name)
{
	size_t name_len = strlen(name);

	for (const char *at = block; at < block + len; at += strlen(at) + 1)
	{
		if (strncmp(at, name, name_len) == 0 && at[name_len] == '=')
			return at + name_len + 1;
	}
	return NULL;
}

static bool
is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static const char *
env_path(char *const *envp)
{
	for (; *envp != NULL; envp++)
	{
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	}
	return "/usr/local/bin:/usr/bin:/bin";
}

/* Absolute path of the program, by the rules of A67Spawn. */
static int
find_program(const A67Spawn *spawn, char *out, size_t size, A67Why *why)
{
	const char *name = spawn->argv[0];
	const char *path = env_path(spawn->envp);

	if (strchr(name, '/') != NULL)
	{
		int n = name[0] == '/' ? snprintf(out, size, "%s", name)
							   : snprintf(out, size, "%s/%s", spawn->root, name);

		if (n > 0 && (size_t) n < size && is_executable(out))
			return 0;
		return a67_why(why, -ENOENT, "entrypoint \"%s\" is not an executable file of the package",
					   name);
	}
	while (*path != '\0')
	{
		size_t len = strcspn(path, ":");
		int n = snprintf(out, size, "%.*s/%s", (int) len, path, name);

		if (len > 0 && path[0] == '/' && n > 0 && (size_t) n < size && is_executable(out))
			return 0;
		path += len + (path[len] == ':' ? 1 : 0);
	}
	return a67_why(why, -ENOENT, "entrypoint \"%s\" was not found in PATH", name);
}

static void
set_limits(const A67Spawn *spawn, pid_t pid)
{
	struct rlimit limit;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_cur > NOFILE_LIMIT)
	{
		limit.rlim_cur = NOFILE_LIMIT;
		(void) prlimit(pid, RLIMIT_NOFILE, &limit, NULL);
	}
	if (spawn->memory_bytes <= 0)
		return;
	/* The stack of each thread counts in full (8 MB), however little of it is used. */
	limit.rlim_cur = limit.rlim_max = (rlim_t) spawn->memory_bytes + STACK_ALLOWANCE;
	if (prlimit(pid, RLIMIT_DATA, &limit, NULL) != 0 && errno != ESRCH)
		a67_log(A67_LOG_WARNING, "could not limit memory of process %d: %s", (int) pid,
				strerror(errno));
}

static int
set_attributes(posix_spawnattr_t *attr, posix_spawn_file_actions_t *files, const A67Spawn *spawn)
{
	sigset_t none;
	sigset_t all;
	int err;

	(void) sigemptyset(&none);
	(void) sigfillset(&all);
	err = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
											 POSIX_SPAWN_SETSIGDEF);
	if (err == 0)
		err = posix_spawnattr_setpgroup(attr, 0);
	if (err == 0)
		err = posix_spawnattr_setsigmask(attr, &none);
	if (err == 0)
		err = posix_spawnattr_setsigdefault(attr, &all);
	if (err == 0)
		err = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (err == 0)
		err = posix_spawn_file_actions_adddup2(files, spawn->log_fd, STDOUT_FILENO);
	if (err == 0)
		err = posix_spawn_file_actions_adddup2(files, spawn->log_fd, STDERR_FILENO);
	if (err == 0)
		err = posix_spawn_file_actions_addchdir_np(files, spawn->root);
	return err;
}

int
a67_process_spawn(const A67Spawn *spawn, A67Process *process, A67Why *why)
{
	char program[PROGRAM_SIZE];
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t files;
	A67ProcStat st;
	pid_t pid = 0;
	int err = find_program(spawn, program, sizeof(program), why);

	if (err != 0)
		return err;
	if (posix_spawnattr_init(&attr) != 0)
		return a67_why(why, -ENOMEM, "out of memory");
	if (posix_spawn_file_actions_init(&files) != 0)
	{
		(void) posix_spawnattr_destroy(&attr);
		return a67_why(why, -ENOMEM, "out of memory");
	}
	/* No closefrom action here: the lock must stay held until the exec itself (statedir.h). */
	err = set_attributes(&attr, &files, spawn);
	if (err == 0)
		err = posix_spawn(&pid, program, &files, &attr, spawn->argv, spawn->envp);
	(void) posix_spawn_file_actions_destroy(&files);
	(void) posix_spawnattr_destroy(&attr);
	if (err != 0)
		return a67_why(why, -err, "could not start \"%s\": %s", spawn->argv[0], strerror(err));
	set_limits(spawn, pid);
	process->pid = pid;
	process->child = true;
	/* Unreaped, so the pid cannot have changed hands, even when it has ended already. */
	process->pidfd = open_pidfd(pid);
	process->start_ticks = a67_proc_stat(pid, &st) == 0 ? st.start_ticks : 0;
	return 0;
}

bool
a67_process_adopt(A67Process *process, const char *replica)
{
	A67ProcStat st;
	char *block = malloc(ENVIRON_SIZE);
	const char *mark;
	size_t len;
	bool same;
	int fd = open_pidfd(process->pid);

	/* The pidfd first: what it stands for cannot change between the checks and its use. */
	same = block != NULL && fd >= 0 && a67_proc_stat(process->pid, &st) == 0 &&
		   st.start_ticks == process->start_ticks && st.state != 'Z' && st.state != 'X' &&
		   read_proc(process->pid, "environ", block, ENVIRON_SIZE, &len) == 0;
	if (same)
	{
		/* An application may overwrite its environment (process titles); another's mark is proof. */
		mark = find_variable(block, len, "A67_REPLICA");
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
		if (read_proc(pid, "environ", block, ENVIRON_SIZE, len) != 0)
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
	value = find_variable(block, len, "A67_NODE_ID");
	if (value == NULL || strcmp(value, node) != 0)
		return false;
	value = find_variable(block, len, "A67_REPLICA");
	if (value == NULL || strlen(value) >= sizeof(out->replica))
		return false;
	memcpy(out->replica, value, strlen(value) + 1);
	/* Again: the environment must have been that of the process that is reported. */
	if (a67_proc_stat(pid, &st) != 0)
		return false;
	out->pid = pid;
	out->pgrp = st.pgrp;
	out->start_ticks = st.start_ticks;
	return true;
}

size_t
a67_process_scan(const char *node, const char *replica, int wait_ms, A67Found *found, size_t max)
{
	DIR *proc = opendir("/proc");
	char *block = malloc(ENVIRON_SIZE);
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
		if (fstatat(dirfd(proc), entry->d_name, &st, 0) != 0 || st.st_uid != uid)
			continue;
		if (look_at((pid_t) pid, node, &wait_ms, block, &found[count]) &&
			(replica == NULL || strcmp(found[count].replica, replica) == 0))
			count++;
	}
	free(block);
	if (proc != NULL)
		(void) closedir(proc);
	return count;
}

void
a67_process_kill_found(const A67Found *found)
{
	A67ProcStat st;
	int fd = open_pidfd(found->pid);

	if (fd < 0)
		return;
	if (a67_proc_stat(found->pid, &st) == 0 && st.start_ticks == found->start_ticks)
		(void) syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	(void) close(fd);
}

void
a67_process_sweep(const char *node, const char *replica)
{
	A67Found found[64];
	size_t count = 1;

	/* Again while some are found: a process may fork between the look and the kill. */
	for (int pass = 0; pass < SWEEP_PASSES && count > 0; pass++)
	{
		count = a67_process_scan(node, replica, 0, found, sizeof(found) / sizeof(found[0]));
		for (size_t i = 0; i < count; i++)
			a67_process_kill_found(&found[i]);
	}
}
