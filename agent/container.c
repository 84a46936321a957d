/*
 * container.c - bundles on disk, and whether crun works on this machine.  See container.h.
 */
#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "oci.h"

#define PROBE_MS	5000
#define OUTPUT_SIZE 2048

bool
a67_container_has_rootfs(const char *package)
{
	char path[A67_CONTAINER_PATH_SIZE];
	struct stat st;

	(void) snprintf(path, sizeof(path), "%s/rootfs", package);
	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Writes a document into the bundle, readable for nobody else; takes it over. */
static int
write_document(const A67Container *container, const char *name, json_t *document)
{
	char path[A67_CONTAINER_PATH_SIZE];
	int err = -ENOMEM;
	int fd = -1;

	(void) snprintf(path, sizeof(path), "%s/%s", container->bundle, name);
	if (document != NULL)
	{
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
		err = fd < 0 ? -errno : 0;
	}
	if (fd >= 0 && json_dumpfd(document, fd, JSON_COMPACT) != 0)
		err = -EIO;
	if (fd >= 0 && close(fd) != 0 && err == 0)
		err = -errno;
	json_decref(document);
	return err;
}

int
a67_container_prepare(const A67Container *container, A67Why *why)
{
	char root[A67_CONTAINER_PATH_SIZE];
	int err;

	a67_directory_remove(container->bundle);
	(void) snprintf(root, sizeof(root), "%s/root", container->bundle);
	/* The application, which may be another user, sees its root. */
	if (mkdir(container->bundle, 0711) != 0 || mkdir(root, 0755) != 0)
		err = -errno;
	else
		err = write_document(container, "config.json", a67_oci_config(container));
	return err != 0 ? a67_why(why, err, "could not make the container: %s", strerror(-err)) : 0;
}

int
a67_container_prepare_exec(const A67Container *container, A67Why *why)
{
	int err = write_document(container, "exec.json", a67_oci_process(container));

	return err != 0 ? a67_why(why, err, "could not prepare the command: %s", strerror(-err)) : 0;
}

void
a67_container_command(const A67Container *container, bool exec, A67ContainerCommand *command)
{
	size_t count = 0;

	(void) snprintf(command->state, sizeof(command->state), "%s/state", container->bundle);
	(void) snprintf(command->process, sizeof(command->process), "%s/exec.json", container->bundle);
	command->argv[count++] = (char *) container->crun->path;
	command->argv[count++] = "--cgroup-manager=disabled";
	command->argv[count++] = "--root";
	command->argv[count++] = command->state;
	command->argv[count++] = exec ? "exec" : "run";
	command->argv[count++] = exec ? "--process" : "--bundle";
	command->argv[count++] = exec ? command->process : (char *) container->bundle;
	command->argv[count++] = (char *) container->id;
	command->argv[count] = NULL;
}

/* ---- the probe ---- */

/* Runs a program and keeps the end of its output; its status, or -1. */
static int
run_briefly(A67Spawn *spawn, char output[OUTPUT_SIZE])
{
	A67Process process = {.pidfd = -1};
	A67Why why;
	int64_t until_ms = a67_clock_now_ms() + PROBE_MS;
	size_t len = 0;
	ssize_t n = 1;
	int ends[2];
	int status = -1;

	output[0] = '\0';
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	spawn->log_fd = ends[1];
	if (a67_process_spawn(spawn, &process, &why) != 0)
	{
		(void) snprintf(output, OUTPUT_SIZE, "%s", why.text);
		(void) close(ends[0]);
		(void) close(ends[1]);
		return -1;
	}
	(void) close(ends[1]);
	while (n > 0 && len < OUTPUT_SIZE - 1)
	{
		struct pollfd wait = {.fd = ends[0], .events = POLLIN};
		int64_t left_ms = until_ms - a67_clock_now_ms();

		if (left_ms <= 0 || poll(&wait, 1, (int) left_ms) <= 0)
			break;
		n = read(ends[0], output + len, OUTPUT_SIZE - 1 - len);
		len += n > 0 ? (size_t) n : 0;
	}
	output[len] = '\0';
	(void) close(ends[0]);
	/* End of file, and so of the program; or too late. */
	if (n != 0)
		(void) kill(-process.pid, SIGKILL);
	if (waitpid(process.pid, &status, 0) != process.pid || n != 0 || !WIFEXITED(status))
		status = -1;
	else
		status = WEXITSTATUS(status);
	a67_process_forget(&process);
	return status;
}

/* The last line says what went wrong. */
static const char *
last_line(char *text)
{
	size_t len = strlen(text);
	char *line;

	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		text[--len] = '\0';
	line = strrchr(text, '\n');
	return line != NULL ? line + 1 : text;
}

static bool
find_crun(A67Crun *crun)
{
	char *argv[] = {"crun", NULL};
	char path[A67_STATE_PATH_SIZE];
	char *envp[] = {path, NULL};
	A67Spawn spawn = {.root = "/", .argv = argv, .envp = envp};
	const char *given = getenv("PATH");
	A67Why why;

	(void) snprintf(path, sizeof(path), "PATH=%.480s",
					given != NULL ? given : "/usr/local/bin:/usr/bin:/bin:/usr/sbin");
	return a67_spawn_find(&spawn, crun->path, sizeof(crun->path), &why) == 0;
}

void
a67_crun_probe(A67Crun *crun, const A67StateDir *dir, uid_t uid)
{
	char bundle[A67_CONTAINER_PATH_SIZE];
	char output[OUTPUT_SIZE];
	char *version[] = {"crun", "--version", NULL};
	char *nothing[] = {"true", NULL};
	char *envp[] = {"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
	A67Container container = {.crun = crun, .bundle = bundle, .id = "a67-probe", .uid = uid};
	A67ContainerCommand command;
	A67Spawn spawn = {
		.root = "/", .argv = version, .envp = envp, .record_fd = -1, .cgroup = "", .trusted = true};
	int status = 0;

	memset(crun, 0, sizeof(*crun));
	if (!find_crun(crun))
	{
		crun->path[0] = '\0';
		(void) a67_why(&crun->why, 0, "it is not installed");
		return;
	}
	spawn.program = crun->path;
	status = run_briefly(&spawn, output);
	crun->seccomp = strstr(output, "+SECCOMP") != NULL;
	(void) snprintf(bundle, sizeof(bundle), "%s/crun-probe", dir->path);
	container.argv = nothing;
	container.envp = envp;
	if (status == 0 && a67_container_prepare(&container, &crun->why) == 0)
	{
		a67_container_command(&container, false, &command);
		spawn.argv = command.argv;
		status = run_briefly(&spawn, output);
		crun->works = status == 0;
	}
	a67_directory_remove(bundle);
	if (crun->works || crun->why.text[0] != '\0')
		return;
	if (status < 0)
		(void) a67_why(&crun->why, 0, "it did not end in time");
	else if (output[0] == '\0')
		(void) a67_why(&crun->why, 0, "it ended with exit status %d", status);
	else
		(void) a67_why(&crun->why, 0, "%.250s", last_line(output));
}
