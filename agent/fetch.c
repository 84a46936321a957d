/*
 * fetch.c - download, verification, cache and unpacking of a package.  See fetch.h.
 */
#include "fetch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "core/encode.h"
#include "core/http/client.h"
#include "unpack.h"

#define DOWNLOAD_TOTAL_MS 600000
#define DOWNLOAD_IDLE_MS  15000
#define UNPACK_STEP_BYTES (INT64_C(2) << 20)
#define CACHE_SCAN_MAX	  1024

struct A67Fetch
{
	A67FetchSource source;
	char digest[A67_DIGEST_SIZE];
	char target[A67_STATE_NAME_SIZE];
	char part[A67_STATE_NAME_SIZE + 8]; /* directory being filled */
	A67FetchState state;
	A67Why why;
	/* Download. */
	A67HttpClient *client;
	int file_fd;
	int write_error; /* errno of our disk, which is not the controller's fault */
	crypto_hash_sha256_state hash;
	int poll_at;
	/* Afterwards. */
	A67Unpack *unpack;
};

static void
cache_name(const char *digest, const char *suffix, char out[A67_STATE_NAME_SIZE])
{
	(void) snprintf(out, A67_STATE_NAME_SIZE, "cache/%s.%s", digest, suffix);
}

bool
a67_cache_has(const A67StateDir *dir, const char *digest)
{
	char name[A67_STATE_NAME_SIZE];
	struct stat st;

	cache_name(digest, "tar.gz", name);
	return fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static A67FetchState
fail(A67Fetch *fetch, A67FetchState state)
{
	fetch->state = state;
	return state;
}

/* Opens cached archive and fresh directory, and begins to unpack. */
static void
begin_unpack(A67Fetch *fetch)
{
	const A67StateDir *dir = fetch->source.dir;
	char name[A67_STATE_NAME_SIZE];
	int archive;
	int root;

	(void) a67_trash_put(dir, fetch->part);
	cache_name(fetch->digest, "tar.gz", name);
	archive = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (archive < 0 || mkdirat(dir->fd, fetch->part, 0700) != 0)
	{
		(void) a67_why(&fetch->why, -errno, "could not unpack the package: %s", strerror(errno));
		if (archive >= 0)
			(void) close(archive);
		(void) fail(fetch, A67_FETCH_AGAIN);
		return;
	}
	/* The age in the cache is the time of last use. */
	(void) futimens(archive, NULL);
	root = openat(dir->fd, fetch->part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
	{
		(void) close(archive);
		(void) fail(fetch, A67_FETCH_AGAIN);
		return;
	}
	fetch->unpack = a67_unpack_new(archive, root, fetch->digest, NULL, &fetch->why);
	if (fetch->unpack == NULL)
		(void) fail(fetch, A67_FETCH_REFUSED);
	else
		a67_unpack_give(fetch->unpack, fetch->source.owner);
}

static int
take_bytes(void *arg, const char *data, size_t len)
{
	A67Fetch *fetch = arg;

	(void) crypto_hash_sha256_update(&fetch->hash, (const unsigned char *) data, len);
	while (len > 0)
	{
		ssize_t n = write(fetch->file_fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			fetch->write_error = errno;
			return -errno;
		}
		data += n;
		len -= (size_t) n;
	}
	return 0;
}

static int
start_request(A67Fetch *fetch, const char *path, int64_t now_ms)
{
	A67HttpUrl url;
	char bearer[2304];
	char target[2560];
	A67HttpField headers[] = {{"Authorization", bearer}, {NULL, NULL}};
	A67HttpClientRequest request = {
		.url = &url, .headers = headers, .on_body = take_bytes, .arg = fetch};
	int base;
	int err;

	err = a67_http_url_parse(fetch->source.controller_url, &url);
	if (err != 0)
		return err;
	/* The controller may live below a prefix: "https://host/a67" + "/api/v1/…". */
	base = (int) url.path.len;
	while (base > 0 && url.path.at[base - 1] == '/')
		base--;
	(void) snprintf(target, sizeof(target), "%.*s%s", base, url.path.at, path);
	(void) snprintf(bearer, sizeof(bearer), "Bearer %s", fetch->source.node_token);
	request.path.at = target;
	request.path.len = strlen(target);
	err = a67_http_client_start(fetch->client, &request, now_ms);
	sodium_memzero(bearer, sizeof(bearer));
	return err;
}

static void
begin_download(A67Fetch *fetch, const char *path, int64_t now_ms)
{
	A67HttpClientConfig config;
	char name[A67_STATE_NAME_SIZE];

	a67_http_client_defaults(&config);
	config.tls = fetch->source.tls;
	config.pin = fetch->source.pin;
	config.max_body = 16384;
	config.max_stream = (uint64_t) A67_PACKAGE_MAX_BYTES;
	config.total_ms = DOWNLOAD_TOTAL_MS;
	config.idle_ms = DOWNLOAD_IDLE_MS;
	config.keep_alive = false;
	cache_name(fetch->digest, "part", name);
	(void) crypto_hash_sha256_init(&fetch->hash);
	fetch->file_fd = openat(fetch->source.dir->fd, name,
							O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	fetch->client = a67_http_client_new(&config);
	if (fetch->file_fd < 0 || fetch->client == NULL)
	{
		(void) a67_why(&fetch->why, -errno, "could not store the package: %s", strerror(errno));
		(void) fail(fetch, A67_FETCH_AGAIN);
		return;
	}
	if (start_request(fetch, path, now_ms) != 0)
	{
		(void) a67_why(&fetch->why, -EIO, "could not fetch the package: %.200s",
					   a67_http_client_error(fetch->client));
		(void) fail(fetch, A67_FETCH_AGAIN);
	}
}

A67Fetch *
a67_fetch_new(const A67FetchSource *source, const A67Desired *desired, const char *target,
			  int64_t now_ms)
{
	A67Fetch *fetch = calloc(1, sizeof(*fetch));

	if (fetch == NULL)
		return NULL;
	fetch->source = *source;
	fetch->file_fd = -1;
	fetch->poll_at = -1;
	fetch->state = A67_FETCH_BUSY;
	(void) snprintf(fetch->digest, sizeof(fetch->digest), "%s", desired->digest);
	(void) snprintf(fetch->target, sizeof(fetch->target), "%s", target);
	(void) snprintf(fetch->part, sizeof(fetch->part), "%s.part", target);
	if (a67_cache_has(source->dir, fetch->digest))
		begin_unpack(fetch);
	else
		begin_download(fetch, desired->package_path, now_ms);
	return fetch;
}

void
a67_fetch_free(A67Fetch *fetch)
{
	if (fetch == NULL)
		return;
	a67_http_client_free(fetch->client);
	if (fetch->file_fd >= 0)
		(void) close(fetch->file_fd);
	a67_unpack_free(fetch->unpack);
	free(fetch);
}

void
a67_fetch_prepare(A67Fetch *fetch, A67PollSet *set, int64_t now_ms)
{
	int64_t wait;

	fetch->poll_at = -1;
	if (fetch->client == NULL || fetch->state != A67_FETCH_BUSY)
	{
		a67_poll_until(set, now_ms);
		return;
	}
	fetch->poll_at =
		a67_poll_add(set, a67_http_client_fd(fetch->client), a67_http_client_events(fetch->client));
	wait = a67_http_client_next_deadline(fetch->client, now_ms);
	if (wait >= 0)
		a67_poll_until(set, a67_deadline_in(now_ms, wait));
}

/* Makes the verified download durable under its final name. */
static int
store(A67Fetch *fetch)
{
	char from[A67_STATE_NAME_SIZE];
	char to[A67_STATE_NAME_SIZE];
	int err = 0;

	cache_name(fetch->digest, "part", from);
	cache_name(fetch->digest, "tar.gz", to);
	if (fsync(fetch->file_fd) != 0)
		err = -errno;
	if (close(fetch->file_fd) != 0 && err == 0)
		err = -errno;
	fetch->file_fd = -1;
	if (err == 0 && renameat(fetch->source.dir->fd, from, fetch->source.dir->fd, to) != 0)
		err = -errno;
	return err;
}

static A67FetchState
judge_response(A67Fetch *fetch)
{
	int status = a67_http_client_response(fetch->client)->status;
	unsigned char digest[crypto_hash_sha256_BYTES];
	char hex[A67_DIGEST_SIZE];
	int err;

	if (status != 200)
	{
		(void) a67_why(&fetch->why, -EPROTO,
					   "controller answered %d to the request for the package", status);
		return fail(fetch, status == 404 || status == 403 ? A67_FETCH_WRONG : A67_FETCH_AGAIN);
	}
	(void) crypto_hash_sha256_final(&fetch->hash, digest);
	(void) a67_hex_encode(digest, sizeof(digest), hex, sizeof(hex));
	if (strcmp(hex, fetch->digest) != 0)
	{
		(void) a67_why(&fetch->why, -EBADMSG, "package does not match its digest");
		return fail(fetch, A67_FETCH_WRONG);
	}
	err = store(fetch);
	if (err != 0)
	{
		(void) a67_why(&fetch->why, err, "could not store the package: %s", strerror(-err));
		return fail(fetch, A67_FETCH_AGAIN);
	}
	a67_http_client_free(fetch->client);
	fetch->client = NULL;
	begin_unpack(fetch);
	return fetch->state;
}

static A67FetchState
step_download(A67Fetch *fetch, int64_t now_ms)
{
	switch (a67_http_client_step(fetch->client, now_ms))
	{
		case A67_HTTP_CLIENT_BUSY:
			return A67_FETCH_BUSY;
		case A67_HTTP_CLIENT_DONE:
			return judge_response(fetch);
		default:
			break;
	}
	if (fetch->write_error != 0)
		(void) a67_why(&fetch->why, -fetch->write_error, "could not store the package: %s",
					   strerror(fetch->write_error));
	else
		(void) a67_why(&fetch->why, -EIO, "could not fetch the package: %.200s",
					   a67_http_client_error(fetch->client));
	return fail(fetch, A67_FETCH_AGAIN);
}

static A67FetchState
step_unpack(A67Fetch *fetch)
{
	const A67StateDir *dir = fetch->source.dir;
	char name[A67_STATE_NAME_SIZE];
	int result = a67_unpack_step(fetch->unpack, UNPACK_STEP_BYTES, &fetch->why);

	if (result == 0)
		return A67_FETCH_BUSY;
	a67_unpack_free(fetch->unpack);
	fetch->unpack = NULL;
	if (result == 1)
	{
		(void) a67_trash_put(dir, fetch->target);
		if (renameat(dir->fd, fetch->part, dir->fd, fetch->target) == 0)
			return fail(fetch, A67_FETCH_DONE);
		result = a67_why(&fetch->why, -errno, "could not unpack the package: %s", strerror(errno));
	}
	(void) a67_trash_put(dir, fetch->part);
	if (result == -EBADMSG)
	{
		/* The copy in the cache has gone bad: the next attempt downloads again. */
		cache_name(fetch->digest, "tar.gz", name);
		a67_statedir_remove(dir, name);
		return fail(fetch, A67_FETCH_WRONG);
	}
	return fail(fetch, result == -EINVAL ? A67_FETCH_REFUSED : A67_FETCH_AGAIN);
}

A67FetchState
a67_fetch_step(A67Fetch *fetch, const A67PollSet *set, int64_t now_ms)
{
	if (fetch->state != A67_FETCH_BUSY)
		return fetch->state;
	if (fetch->unpack != NULL)
		return step_unpack(fetch);
	if (a67_poll_ready(set, fetch->poll_at) ||
		a67_http_client_next_deadline(fetch->client, now_ms) == 0)
		return step_download(fetch, now_ms);
	return A67_FETCH_BUSY;
}

const char *
a67_fetch_digest(const A67Fetch *fetch)
{
	return fetch->digest;
}

const char *
a67_fetch_error(const A67Fetch *fetch)
{
	return fetch->why.text;
}

typedef struct CacheEntry
{
	char digest[A67_DIGEST_SIZE];
	time_t used_at;
} CacheEntry;

static int
newest_first(const void *a, const void *b)
{
	const CacheEntry *x = a;
	const CacheEntry *y = b;

	return (x->used_at < y->used_at) - (x->used_at > y->used_at);
}

/* Collects unused packages; everything that is no package is removed on the way. */
static size_t
list_unused(const A67StateDir *dir, CacheEntry *out, bool (*used)(void *arg, const char *digest),
			void *arg)
{
	int fd = openat(dir->fd, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *cache = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *item;
	struct stat st;
	size_t count = 0;

	if (cache == NULL)
		return 0;
	while (count < CACHE_SCAN_MAX && (item = readdir(cache)) != NULL)
	{
		CacheEntry *entry = &out[count];

		if (item->d_name[0] == '.')
			continue;
		(void) snprintf(entry->digest, sizeof(entry->digest), "%.64s", item->d_name);
		if (used(arg, entry->digest))
			continue;
		if (strlen(item->d_name) != 71 || strcmp(item->d_name + 64, ".tar.gz") != 0 ||
			fstatat(fd, item->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		{
			(void) unlinkat(fd, item->d_name, 0);
			continue;
		}
		entry->used_at = st.st_mtime;
		count++;
	}
	(void) closedir(cache);
	return count;
}

void
a67_cache_prune(const A67StateDir *dir, bool (*used)(void *arg, const char *digest), void *arg)
{
	CacheEntry *entries = calloc(CACHE_SCAN_MAX, sizeof(*entries));
	char name[A67_STATE_NAME_SIZE];
	size_t count;

	if (entries == NULL)
		return;
	count = list_unused(dir, entries, used, arg);
	qsort(entries, count, sizeof(*entries), newest_first);
	for (size_t i = A67_CACHE_KEEP; i < count; i++)
	{
		cache_name(entries[i].digest, "tar.gz", name);
		a67_statedir_remove(dir, name);
	}
	free(entries);
}
