/*
 * ingress_talk.c - nonblocking exchange with a Unix socket, or with a program through PostgreSQL's pipes.
 *
 * A program inherits no descriptor: HAProxy lives longer than this server, and would keep dropped tables and
 * old WAL on the disk. Memory: the answer and the text in the context given at the start.
 * Descriptors: one epoll and one socket, both registered with the server; a pipe belongs to fd.c.
 */
#include "postgres.h"

#include "ingress_talk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/wait_event.h"

#include "core/pace.h"

#define ANSWER_MAX (64 * 1024 * 1024)

static void
fail(A67Talk *talk, const char *what, int error)
{
	snprintf(talk->why, sizeof(talk->why), "%s%s%s", what, error != 0 ? ": " : "",
			 error != 0 ? strerror(error) : "");
	talk->state = A67_TALK_FAILED;
}

void
a67_talk_init(A67Talk *talk, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	memset(talk, 0, sizeof(*talk));
	talk->context = context;
	talk->fd = -1;
	talk->deadline_ms = A67_NEVER;
	initStringInfo(&talk->answer);
	MemoryContextSwitchTo(old);
	if (!AcquireExternalFD())
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not reserve a descriptor: %m")));
	talk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (talk->epoll_fd < 0)
	{
		int error = errno;

		ReleaseExternalFD();
		errno = error;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create epoll: %m")));
	}
}

/* Ends the exchange; a program is waited for. Returns its exit status, 0 for a socket. */
static int
hang_up(A67Talk *talk)
{
	int status = 0;

	if (talk->fd >= 0)
		(void) epoll_ctl(talk->epoll_fd, EPOLL_CTL_DEL, talk->fd, NULL);
	if (talk->program != NULL)
		status = ClosePipeStream(talk->program);
	else if (talk->fd >= 0)
	{
		close(talk->fd);
		ReleaseExternalFD();
	}
	talk->program = NULL;
	talk->fd = -1;
	talk->deadline_ms = A67_NEVER;
	if (talk->text != NULL)
		pfree(talk->text);
	talk->text = NULL;
	talk->len = talk->sent = 0;
	return status;
}

void
a67_talk_destroy(A67Talk *talk)
{
	(void) hang_up(talk);
	if (talk->epoll_fd >= 0)
	{
		close(talk->epoll_fd);
		ReleaseExternalFD();
	}
	talk->epoll_fd = -1;
}

/* Watches the descriptor of the exchange; false (and FAILED) when that cannot be. */
static bool
watch(A67Talk *talk, int op, uint32 events)
{
	struct epoll_event event = {.events = events};

	if (epoll_ctl(talk->epoll_fd, op, talk->fd, &event) == 0)
		return true;
	fail(talk, "could not wait for it", errno);
	return false;
}

static void
begin(A67Talk *talk, int64 deadline_ms)
{
	(void) hang_up(talk);
	resetStringInfo(&talk->answer);
	talk->why[0] = '\0';
	talk->nobody = false;
	talk->state = A67_TALK_BUSY;
	talk->deadline_ms = deadline_ms;
}

void
a67_talk_send(A67Talk *talk, const char *path, const char *text, int64 deadline_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	begin(talk, deadline_ms);
	if (strlen(path) >= sizeof(address.sun_path))
	{
		fail(talk, "the name of its socket is too long", 0);
		return;
	}
	strlcpy(address.sun_path, path, sizeof(address.sun_path));
	if (!AcquireExternalFD())
	{
		fail(talk, "could not reserve a descriptor", errno);
		return;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
	{
		fail(talk, "could not create a socket", errno);
		ReleaseExternalFD();
		return;
	}
	talk->fd = fd;
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
	{
		talk->nobody = errno == ENOENT || errno == ECONNREFUSED;
		fail(talk, "could not connect to its socket", errno);
		(void) hang_up(talk);
		return;
	}
	talk->text = MemoryContextStrdup(talk->context, text);
	talk->len = strlen(text);
	if (!watch(talk, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT))
		(void) hang_up(talk);
}

/* No program that this process starts from now on inherits what is open now. */
static void
keep_descriptors_private(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		int fd = (int) strtol(entry->d_name, NULL, 10);

		if (fd > STDERR_FILENO)
			(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	if (dir != NULL)
		closedir(dir);
}

void
a67_talk_start(A67Talk *talk, const char *command, int64 deadline_ms)
{
	begin(talk, deadline_ms);
	keep_descriptors_private();
	talk->program = OpenPipeStream(command, "r");
	if (talk->program == NULL)
	{
		fail(talk, "could not start a shell", errno);
		return;
	}
	talk->fd = fileno(talk->program);
	if (fcntl(talk->fd, F_SETFL, fcntl(talk->fd, F_GETFL) | O_NONBLOCK) < 0)
		fail(talk, "could not read its output", errno);
	if (talk->state == A67_TALK_FAILED || !watch(talk, EPOLL_CTL_ADD, EPOLLIN))
		(void) hang_up(talk);
}

static void
send_some(A67Talk *talk)
{
	while (talk->sent < talk->len)
	{
		ssize_t count =
			send(talk->fd, talk->text + talk->sent, talk->len - talk->sent, MSG_NOSIGNAL);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (count < 0)
		{
			/* It may have answered before it closed; what was said is read all the same. */
			talk->sent = talk->len;
			break;
		}
		talk->sent += (size_t) count;
	}
	/* HAProxy ends its side when it has answered everything. */
	(void) shutdown(talk->fd, SHUT_WR);
	(void) watch(talk, EPOLL_CTL_MOD, EPOLLIN);
}

static void
finish(A67Talk *talk)
{
	int status = hang_up(talk);

	if (status == 0)
		talk->state = A67_TALK_DONE;
	else
	{
		char *said =
			status == -1 ? pstrdup("it could not be waited for") : wait_result_to_str(status);

		fail(talk, said, 0);
		pfree(said);
	}
}

static void
take(A67Talk *talk, const char *bytes, size_t count)
{
	enlargeStringInfo(&talk->answer, (int) count);
	for (size_t i = 0; i < count; i++)
	{
		char c = bytes[i];

		appendStringInfoCharMacro(&talk->answer, c == '\n' || (c >= ' ' && c <= '~') ? c : '?');
	}
}

static void
read_some(A67Talk *talk)
{
	char bytes[16384];

	for (;;)
	{
		ssize_t count = read(talk->fd, bytes, sizeof(bytes));

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (count < 0)
		{
			fail(talk, "the connection broke", errno);
			(void) hang_up(talk);
			return;
		}
		if (count == 0)
		{
			finish(talk);
			return;
		}
		if (talk->answer.len + count > ANSWER_MAX)
		{
			fail(talk, "its answer is too long", 0);
			(void) hang_up(talk);
			return;
		}
		take(talk, bytes, (size_t) count);
	}
}

A67TalkState
a67_talk_run(A67Talk *talk, int64 now_ms)
{
	if (talk->state == A67_TALK_BUSY && talk->sent < talk->len)
		send_some(talk);
	if (talk->state == A67_TALK_BUSY)
		read_some(talk);
	if (talk->state == A67_TALK_BUSY && now_ms >= talk->deadline_ms)
	{
		fail(talk, "it did not answer in time", 0);
		(void) hang_up(talk);
	}
	if (talk->state == A67_TALK_FAILED)
		(void) hang_up(talk);
	return talk->state;
}
