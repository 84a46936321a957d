/*
 * static.c - from a request path to a file below one directory, and the loop that serves it.
 *
 * Why nothing else is served: a name that begins with a dot is not found, whatever it is; each file is
 * opened relative to the directory, and the kernel refuses a path that leaves it, by ".." or by a link
 * (RESOLVE_BENEATH; an older kernel follows no link at all).  An entity tag is made of the digest of the
 * package, so that all replicas of a release have the same.
 */
#include "static.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "chunk_range.h"
#include "clock.h"
#include "core/http/server.h"
#include "core/pace.h"
#include "log.h"

#define PATH_SIZE	  4096
#define CLIENTS		  1024
#define DRAIN_MS	  600000 /* longest grace there is: the agent decides when it is over */
#define EVENTS_A_TURN 64
#define EXIT_SYSTEM	  111
#define INDEX		  "index.html"
#define HEADERS		  8

typedef struct Site
{
	int root;
	const char *release; /* digest of the package; NULL: not told */
	A67HttpServer *server;
} Site;

typedef struct Media
{
	const char *extension;
	const char *type;
} Media;

static const Media media[] = {{"html", "text/html; charset=utf-8"},
							  {"htm", "text/html; charset=utf-8"},
							  {"css", "text/css; charset=utf-8"},
							  {"js", "text/javascript; charset=utf-8"},
							  {"mjs", "text/javascript; charset=utf-8"},
							  {"json", "application/json"},
							  {"map", "application/json"},
							  {"webmanifest", "application/manifest+json"},
							  {"wasm", "application/wasm"},
							  {"svg", "image/svg+xml"},
							  {"png", "image/png"},
							  {"jpg", "image/jpeg"},
							  {"jpeg", "image/jpeg"},
							  {"gif", "image/gif"},
							  {"webp", "image/webp"},
							  {"avif", "image/avif"},
							  {"ico", "image/x-icon"},
							  {"txt", "text/plain; charset=utf-8"},
							  {"md", "text/markdown; charset=utf-8"},
							  {"csv", "text/csv; charset=utf-8"},
							  {"xml", "application/xml"},
							  {"pdf", "application/pdf"},
							  {"zip", "application/zip"},
							  {"gz", "application/gzip"},
							  {"woff", "font/woff"},
							  {"woff2", "font/woff2"},
							  {"ttf", "font/ttf"},
							  {"otf", "font/otf"},
							  {"mp3", "audio/mpeg"},
							  {"ogg", "audio/ogg"},
							  {"wav", "audio/wav"},
							  {"mp4", "video/mp4"},
							  {"webm", "video/webm"}};

static const char *
media_type(const char *path)
{
	const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot != NULL && i < sizeof(media) / sizeof(media[0]); i++)
	{
		if (strcasecmp(dot + 1, media[i].extension) == 0)
			return media[i].type;
	}
	return "application/octet-stream";
}

/* ---- from path to file ---- */

/*
 * The path below the directory, without the slash before it; index.html behind one that ends with a
 * slash.  False: no such thing is ever served.
 */
static bool
take_path(A67HttpStr path, char out[PATH_SIZE])
{
	long len = a67_http_percent_decode(path, false, out, PATH_SIZE - sizeof(INDEX));
	char *at;

	if (len < 1 || out[0] != '/')
		return false;
	/* An encoded slash is none of the path's own: no file name can hold one. */
	for (size_t i = 0; i + 2 < path.len; i++)
	{
		if (path.at[i] == '%' && path.at[i + 1] == '2' && (path.at[i + 2] | 0x20) == 'f')
			return false;
	}
	for (at = out; (at = strchr(at, '/')) != NULL; at++)
	{
		if (at[1] == '.' || at[1] == '/')
			return false;
	}
	memmove(out, out + 1, (size_t) len);
	len--;
	if (len == 0 || out[len - 1] == '/')
		memcpy(out + len, INDEX, sizeof(INDEX));
	return true;
}

/* Step by step, following no link. */
static int
open_steps(int root, char *path, int flags)
{
	int fd = fcntl(root, F_DUPFD_CLOEXEC, 3);
	char *slash;

	while (fd >= 0 && (slash = strchr(path, '/')) != NULL)
	{
		int next;

		*slash = '\0';
		next = openat(fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		*slash = '/';
		(void) close(fd);
		fd = next;
		path = slash + 1;
	}
	if (fd >= 0)
	{
		int next = openat(fd, path, flags | O_NOFOLLOW);

		(void) close(fd);
		fd = next;
	}
	return fd;
}

static int
open_below(int root, char *path)
{
	/* Of a pipe somebody has put there, nobody shall wait for the other end. */
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
						   .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	int fd = (int) syscall(SYS_openat2, root, path, &how, sizeof(how));

	if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
		return fd;
	return open_steps(root, path, (int) how.flags);
}

static void
make_tag(const Site *site, const struct stat *st, char out[64])
{
	if (site->release != NULL)
		(void) snprintf(out, 64, "\"%.16s-%llx\"", site->release, (unsigned long long) st->st_size);
	else
		(void) snprintf(out, 64, "\"%llx.%lx-%llx\"", (unsigned long long) st->st_mtim.tv_sec,
						(unsigned long) st->st_mtim.tv_nsec, (unsigned long long) st->st_size);
}

/* ---- answers ---- */

static void
answer_text(A67HttpConn *conn, int status, const char *text)
{
	static const A67HttpField headers[] = {{"Content-Type", "text/plain; charset=utf-8"},
										   {"X-Content-Type-Options", "nosniff"},
										   {NULL, NULL}};

	(void) a67_http_respond(conn, status, headers, text, strlen(text));
}

/* A directory asked for without its slash: links in its page would lead elsewhere. */
static void
answer_moved(A67HttpConn *conn, const A67HttpHead *req)
{
	char location[PATH_SIZE * 3];
	A67HttpField headers[] = {{"Location", location}, {NULL, NULL}};

	/* The path alone, and one slash before it: never another host. */
	(void) snprintf(location, sizeof(location), "%.*s/%s%.*s", (int) req->path.len, req->path.at,
					req->query.at != NULL ? "?" : "", (int) req->query.len,
					req->query.at != NULL ? req->query.at : "");
	if (a67_http_respond(conn, 301, headers, NULL, 0) != 0)
		answer_text(conn, 404, "not found\n");
}

/* A regular file that was opened for a path. */
typedef struct Found
{
	int fd;
	struct stat st;
	char path[PATH_SIZE];
} Found;

/* Takes over the descriptor. */
static void
answer_file(const Site *site, A67HttpConn *conn, const A67HttpHead *req, const Found *found)
{
	char tag[64];
	char range[96];
	A67ChunkSpan span;
	A67HttpField headers[HEADERS] = {{"ETag", tag},
									 {"Accept-Ranges", "bytes"},
									 {"X-Content-Type-Options", "nosniff"},
									 {"Content-Type", media_type(found->path)},
									 {NULL, NULL}};
	A67HttpFile file = {.fd = found->fd};

	make_tag(site, &found->st, tag);
	span = a67_chunk_span(req, tag, (uint64_t) found->st.st_size);
	if (span.status == 206)
		(void) snprintf(range, sizeof(range), "bytes %llu-%llu/%llu",
						(unsigned long long) span.offset,
						(unsigned long long) (span.offset + span.length - 1),
						(unsigned long long) found->st.st_size);
	else
		(void) snprintf(range, sizeof(range), "bytes */%llu",
						(unsigned long long) found->st.st_size);
	if (span.status == 206 || span.status == 416)
		headers[4] = (A67HttpField){"Content-Range", range};
	file.offset = span.offset;
	file.length = span.length;
	if (span.status == 200 || span.status == 206)
	{
		if (a67_http_respond_file(conn, span.status, headers, file) != 0)
			answer_text(conn, 503, "no memory\n");
		return;
	}
	(void) close(found->fd);
	(void) a67_http_respond(conn, span.status, headers, NULL, 0);
}

static void
on_request(A67HttpConn *conn, const A67HttpHead *req, const char *body, size_t len)
{
	const Site *site = a67_http_server_arg(a67_http_conn_server(conn));
	static const A67HttpField allow[] = {{"Allow", "GET, HEAD"}, {NULL, NULL}};
	Found found = {.fd = -1};
	bool busy;

	if (req->method != A67_HTTP_GET && req->method != A67_HTTP_HEAD)
	{
		(void) a67_http_respond(conn, 405, allow, NULL, 0);
		return;
	}
	errno = ENOENT;
	if (take_path(req->path, found.path))
		found.fd = open_below(site->root, found.path);
	if (found.fd < 0)
	{
		busy = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
		answer_text(conn, busy ? 503 : 404, busy ? "too busy\n" : "not found\n");
		return;
	}
	if (fstat(found.fd, &found.st) == 0 && S_ISREG(found.st.st_mode))
	{
		answer_file(site, conn, req, &found);
		return;
	}
	(void) close(found.fd);
	if (S_ISDIR(found.st.st_mode))
		answer_moved(conn, req);
	else
		answer_text(conn, 404, "not found\n");
}

/* ---- the server ---- */

static int64_t
wall_seconds(void *arg)
{
	return a67_clock_wall_ms() / 1000;
}

static int
open_site(Site *site, const char *directory, A67Why *why)
{
	const char *port = getenv("PORT");
	A67HttpConfig config;
	long number = port != NULL ? strtol(port, NULL, 10) : 0;
	int err;

	site->release = getenv("A67_PACKAGE");
	site->root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (site->root < 0)
		return a67_why(why, -errno, "could not open directory \"%s\": %s", directory,
					   strerror(errno));
	if (number < 1 || number > UINT16_MAX)
		return a67_why(why, -EINVAL, "PORT is not a port");
	a67_http_config_defaults(&config);
	config.callbacks.on_request = on_request;
	config.callbacks.wall_seconds = wall_seconds;
	config.arg = site;
	config.max_clients = CLIENTS;
	config.max_body = 0;
	site->server = a67_http_server_new(&config);
	if (site->server == NULL)
		return a67_why(why, -errno, "could not make the server: %s", strerror(errno));
	err = a67_http_server_listen(site->server, "0.0.0.0", (uint16_t) number, false, NULL);
	return err != 0 ? a67_why(why, err, "could not listen on port %ld: %s", number, strerror(-err))
					: 0;
}

static int
open_signals(void)
{
	sigset_t set;

	(void) signal(SIGPIPE, SIG_IGN);
	(void) sigemptyset(&set);
	(void) sigaddset(&set, SIGTERM);
	(void) sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void
serve(Site *site, int signals)
{
	bool ending = false;

	while (!ending || !a67_http_server_drained(site->server))
	{
		struct pollfd fds[] = {{.fd = a67_http_server_fd(site->server), .events = POLLIN},
							   {.fd = ending ? -1 : signals, .events = POLLIN}};
		int64_t now_ms = a67_clock_now_ms();
		int64_t wait = a67_http_server_next_deadline(site->server, now_ms);

		(void) poll(fds, 2, wait < 0 || wait > INT32_MAX ? -1 : (int) wait);
		now_ms = a67_clock_now_ms();
		if (!ending && fds[1].revents != 0)
		{
			ending = true;
			a67_http_server_set_now(site->server, now_ms);
			a67_http_server_drain(site->server, a67_deadline_in(now_ms, DRAIN_MS));
		}
		(void) a67_http_server_run(site->server, now_ms, EVENTS_A_TURN);
	}
}

int
a67_static_main(char **argv)
{
	Site site = {.root = -1};
	A67Why why = {""};
	int signals = open_signals();
	int err = argv[1] == NULL || argv[2] != NULL
				  ? a67_why(&why, -EINVAL, "the static runtime takes one directory")
				  : open_site(&site, argv[1], &why);

	if (err == 0 && signals >= 0)
		serve(&site, signals);
	if (err != 0)
		(void) fprintf(stderr, A67_STATIC_NAME ": %s\n", why.text);
	a67_http_server_free(site.server);
	if (site.root >= 0)
		(void) close(site.root);
	return err == 0 && signals >= 0 ? 0 : EXIT_SYSTEM;
}
