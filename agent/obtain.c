/*
 * obtain.c - the package of a replica that is fetching: whose turn it is, what a failed download means.
 *
 * A replica has a download only while FETCHING and when it is its turn; a tree that is there already is
 * taken at once, downloads of one package never run beside each other.  Called by runner.c.
 */
#include "runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"

#define FETCHES_MAX			4
#define FETCH_GAP_MS		50 /* until it is looked again whose turn it is */
#define WRONG_PACKAGE_TRIES 5

static bool
root_exists(const A67Supervisor *supervisor, const A67Replica *replica)
{
	char name[A67_STATE_NAME_SIZE];
	struct stat st;

	a67_replica_root_name(replica, name);
	return fstatat(supervisor->dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Whether a download may begin now: not too many at once, and never the same package twice. */
static bool
may_fetch(const A67Supervisor *supervisor, const A67Replica *self)
{
	int active = 0;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Fetch *fetch = supervisor->replicas[i]->fetch;

		if (fetch == NULL)
			continue;
		if (strcmp(a67_fetch_digest(fetch), self->desired->digest) == 0 &&
			!a67_cache_has(supervisor->dir, self->desired->digest))
			return false;
		active++;
	}
	return active < FETCHES_MAX;
}

static void
begin_fetch(A67Supervisor *supervisor, A67Replica *replica, int64_t now_ms)
{
	A67FetchSource source = {.dir = supervisor->dir, .tls = supervisor->tls};
	char name[A67_STATE_NAME_SIZE];

	a67_place_home(supervisor, replica, "");
	a67_replica_root_name(replica, name);
	source.controller_url = supervisor->identity->controller_url;
	source.node_token = supervisor->identity->node_token;
	source.owner = replica->uid;
	source.pin = supervisor->identity->tls_pinned ? supervisor->identity->tls_pin : NULL;
	replica->fetch = a67_fetch_new(&source, replica->desired, name, now_ms);
	replica->due_ms = replica->fetch != NULL ? A67_NEVER : a67_deadline_in(now_ms, 1000);
}

/* Trees of earlier contents. */
static void
remove_old_roots(A67Supervisor *supervisor, const A67Replica *replica)
{
	char home[A67_STATE_NAME_SIZE];
	char keep[32];
	char name[A67_STATE_NAME_SIZE * 3];
	struct dirent *item;
	DIR *dir;
	int fd;

	a67_replica_home_name(replica, home);
	(void) snprintf(keep, sizeof(keep), "%lld", (long long) replica->content);
	fd = openat(supervisor->dir->fd, home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL)
		return;
	while ((item = readdir(dir)) != NULL)
	{
		if (item->d_name[0] < '0' || item->d_name[0] > '9' || strcmp(item->d_name, keep) == 0)
			continue;
		(void) snprintf(name, sizeof(name), "%s/%.100s", home, item->d_name);
		(void) a67_trash_put(supervisor->dir, name);
	}
	(void) closedir(dir);
}

static void
fetch_failed(A67Supervisor *supervisor, A67Replica *replica, A67FetchState kind, int64_t now_ms)
{
	bool news = strcmp(replica->error, a67_fetch_error(replica->fetch)) != 0;

	(void) snprintf(replica->error, sizeof(replica->error), "%s", a67_fetch_error(replica->fetch));
	a67_log(A67_LOG_WARNING, "replica %s: %s", replica->id, replica->error);
	a67_fetch_free(replica->fetch);
	replica->fetch = NULL;
	if (kind == A67_FETCH_WRONG)
		replica->fetch_failures++;
	if (kind == A67_FETCH_REFUSED || replica->fetch_failures >= WRONG_PACKAGE_TRIES)
	{
		(void) a67_runner_event(supervisor, replica, A67_EVENT_HOPELESS);
		return;
	}
	replica->due_ms = a67_deadline_in(now_ms, a67_backoff_next(&replica->backoff));
	if (news)
	{
		(void) a67_replica_save(supervisor->dir, replica);
		supervisor->version++;
	}
}

void
a67_runner_obtain(A67Supervisor *supervisor, A67Replica *replica, const A67PollSet *set,
				  int64_t now_ms)
{
	A67FetchState state;

	if (replica->fetch == NULL)
	{
		if (!a67_deadline_expired(replica->due_ms, now_ms))
			return;
		if (root_exists(supervisor, replica))
			(void) a67_runner_event(supervisor, replica, A67_EVENT_FETCHED);
		else if (may_fetch(supervisor, replica))
			begin_fetch(supervisor, replica, now_ms);
		else
			replica->due_ms = a67_deadline_in(now_ms, FETCH_GAP_MS);
		return;
	}
	state = a67_fetch_step(replica->fetch, set, now_ms);
	if (state == A67_FETCH_BUSY)
		return;
	if (state != A67_FETCH_DONE)
	{
		fetch_failed(supervisor, replica, state, now_ms);
		return;
	}
	a67_fetch_free(replica->fetch);
	replica->fetch = NULL;
	a67_backoff_reset(&replica->backoff);
	remove_old_roots(supervisor, replica);
	(void) a67_runner_event(supervisor, replica, A67_EVENT_FETCHED);
}
