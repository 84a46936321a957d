/*
 * spawn.c - fork, what the child does before its exec, and how it tells what went wrong.
 *
 * fork and no vfork: the child has more to do than is safe in memory that it shares, and a copy of the
 * agent's few megabytes of page tables takes a fraction of a millisecond.  The parent waits at a pipe that
 * the exec closes; so it hears of every failure, and until then nothing else happens.  See spawn.h.
 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM_SIZE 4096
#define NOFILE_LIMIT 65536
#define SIGNALS		 65
#define RECORD_FD	 3
#define SAFE_FD		 16	   /* above those that mean something to a program */
#define OOM_SCORE	 "500" /* when memory runs out, applications go before the agent */

/* What the child was about when it failed. */
typedef enum Step
{
	STEP_GROUP,
	STEP_CGROUP,
	STEP_LIMITS,
	STEP_FILES,
	STEP_USER,
	STEP_DIRECTORY,
	STEP_EXEC
} Step;

static const char *const step_names[] = {
	[STEP_GROUP] = "its process group", [STEP_CGROUP] = "its control group",
	[STEP_LIMITS] = "its limits",		[STEP_FILES] = "its output",
	[STEP_USER] = "its user",			[STEP_DIRECTORY] = "its directory",
	[STEP_EXEC] = "its program"};

typedef struct Failure
{
	Step step;
	int err;
} Failure;

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

int
a67_spawn_find(const A67Spawn *spawn, char *out, size_t size, A67Why *why)
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

/* ---- in the child ---- */

static bool
limit(int resource, int64_t value)
{
	struct rlimit both = {.rlim_cur = (rlim_t) value, .rlim_max = (rlim_t) value};
	struct rlimit now;

	if (getrlimit((__rlimit_resource_t) resource, &now) != 0)
		return false;
	/* A limit that the agent itself has stays. */
	if (now.rlim_max != RLIM_INFINITY && now.rlim_max < both.rlim_max)
		both.rlim_cur = both.rlim_max = now.rlim_max;
	return setrlimit((__rlimit_resource_t) resource, &both) == 0;
}

static bool
set_limits(const A67SpawnLimits *limits)
{
	return limit(RLIMIT_CORE, 0) && limit(RLIMIT_NOFILE, NOFILE_LIMIT) &&
		   (limits->data_bytes <= 0 || limit(RLIMIT_DATA, limits->data_bytes)) &&
		   (limits->processes <= 0 || limit(RLIMIT_NPROC, limits->processes));
}

static void
reset_signals(void)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;

	(void) sigemptyset(&standard.sa_mask);
	for (int number = 1; number < SIGNALS; number++)
		(void) sigaction(number, &standard, NULL);
	(void) sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool
set_files(const A67Spawn *spawn)
{
	struct stat st;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(spawn->log_fd, STDOUT_FILENO) < 0 ||
		dup2(spawn->log_fd, STDERR_FILENO) < 0)
		return false;
	/* So that a program may open /dev/stderr; a log that is a file is not for it to open. */
	return spawn->uid == 0 || fstat(STDOUT_FILENO, &st) != 0 || !S_ISFIFO(st.st_mode) ||
		   fchown(STDOUT_FILENO, spawn->uid, (gid_t) spawn->uid) == 0;
}

/* Whatever had that number stays open until the exec: it may be the lock. */
static bool
set_record(int fd)
{
	if (fd < 0)
		return true;
	if (fd == RECORD_FD)
		return fcntl(fd, F_SETFD, 0) == 0;
	(void) fcntl(RECORD_FD, F_DUPFD_CLOEXEC, SAFE_FD);
	return dup2(fd, RECORD_FD) >= 0;
}

/*
 * All of ours are closed by the exec anyway; this is for those that the agent was started with, or that a
 * library opened.  Older kernels do not know it.
 */
static void
close_others(int first)
{
	(void) syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC);
}

static bool
become(uid_t uid)
{
	return uid == 0 || (setgroups(0, NULL) == 0 && setresgid(uid, uid, uid) == 0 &&
						setresuid(uid, uid, uid) == 0);
}

/* The child's part; returns only when something fails. */
static Failure
run(const A67Spawn *spawn, const char *program)
{
	static const char pid_mark[] = "A67_PID=";

	reset_signals();
	for (char *const *item = spawn->envp; *item != NULL; item++)
	{
		if (strncmp(*item, pid_mark, sizeof(pid_mark) - 1) == 0)
			(void) snprintf(*item, strlen(*item) + 1, "%s%d", pid_mark, (int) getpid());
	}
	if (setpgid(0, 0) != 0)
		return (Failure){STEP_GROUP, errno};
	if (spawn->cgroup[0] != '\0' && a67_cgroup_enter(spawn->cgroups, spawn->cgroup) != 0)
		return (Failure){STEP_CGROUP, errno};
	if (!spawn->trusted && !set_limits(&spawn->limits))
		return (Failure){STEP_LIMITS, errno};
	if (!set_files(spawn) || !set_record(spawn->record_fd))
		return (Failure){STEP_FILES, errno};
	(void) umask(022);
	/* Programs with a user of their own that they were given by setuid would outlive every order. */
	if (!spawn->trusted && (!become(spawn->uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0))
		return (Failure){STEP_USER, errno};
	if (chdir(spawn->root) != 0)
		return (Failure){STEP_DIRECTORY, errno};
	close_others(spawn->record_fd >= 0 ? RECORD_FD + 1 : RECORD_FD);
	(void) execve(program, spawn->argv, spawn->envp);
	return (Failure){STEP_EXEC, errno};
}

/* ---- in the parent ---- */

/* Waits for the exec or the news of a failure. */
static int
listen_to(int fd, const A67Spawn *spawn, A67Why *why)
{
	Failure failure = {STEP_EXEC, 0};
	ssize_t n;

	do
		n = read(fd, &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t) sizeof(failure))
		return 0;
	if (failure.step == STEP_EXEC)
		return a67_why(why, -failure.err, "could not start \"%s\": %s", spawn->argv[0],
					   strerror(failure.err));
	/* Not the program's fault: what fails here may succeed the next time. */
	return a67_why(why, -EAGAIN, "could not start \"%s\": %s: %s", spawn->argv[0],
				   step_names[failure.step], strerror(failure.err));
}

/* Not by the child: its file is closed to it as long as it is a copy of us, who are not dumpable. */
static void
prefer_for_oom(pid_t pid)
{
	char path[64];
	int fd;

	(void) snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int) pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void) !write(fd, OOM_SCORE, strlen(OOM_SCORE));
	(void) close(fd);
}

int
a67_process_spawn(const A67Spawn *spawn, A67Process *process, A67Why *why)
{
	char found[PROGRAM_SIZE];
	const char *program = spawn->program;
	A67ProcStat st;
	int ends[2];
	pid_t pid;
	int err = program != NULL ? 0 : a67_spawn_find(spawn, found, sizeof(found), why);

	if (err != 0)
		return err;
	if (program == NULL)
		program = found;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return a67_why(why, -errno, "could not make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
	{
		int report = fcntl(ends[1], F_DUPFD_CLOEXEC, SAFE_FD);
		Failure failure = run(spawn, program);

		/* Whoever would read it may be gone: SIGPIPE ends the child then, as it should. */
		(void) !write(report, &failure, sizeof(failure));
		_exit(127);
	}
	err = pid < 0 ? -errno : 0;
	(void) close(ends[1]);
	if (err == 0)
		err = listen_to(ends[0], spawn, why);
	else
		(void) a67_why(why, err, "could not start \"%s\": %s", spawn->argv[0], strerror(-err));
	(void) close(ends[0]);
	if (err != 0)
	{
		if (pid > 0)
			(void) waitpid(pid, NULL, 0);
		return err;
	}
	prefer_for_oom(pid);
	process->pid = pid;
	process->child = true;
	/* Unreaped, so the pid cannot have changed hands, even when it has ended already. */
	process->pidfd = a67_pidfd_open(pid);
	process->start_ticks = a67_proc_stat(pid, &st) == 0 ? st.start_ticks : 0;
	return 0;
}
