/*
 * http_client_fixture.c - the HTTP client against the engine, in one thread: the client steps, then the server runs.
 */
#include "http_fixture.c"

#include "core/http/client.h"

static A67HttpClient *client;
static A67HttpUrl url;
static uint64_t streamed;
static uint64_t stream_limit;

static bool
aim(const char *scheme, const char *path)
{
	char text[200];
	static char kept[200];

	snprintf(text, sizeof(text), "%s://127.0.0.1:%u%s", scheme, app.port, path);
	memcpy(kept, text, sizeof(kept));
	return a67_http_url_parse(kept, &url) == 0;
}

/* Steps client and server until the request is over; the application's clock stands still. */
static A67HttpClientState
finish(void)
{
	int64_t cap = real_ms() + CAP_MS;

	while (a67_http_client_step(client, app.now) == A67_HTTP_CLIENT_BUSY && real_ms() < cap)
	{
		struct pollfd p[2] = {{.fd = a67_http_client_fd(client),
							   .events = a67_http_client_events(client)},
							  {.fd = a67_http_server_fd(app.server), .events = POLLIN}};

		if (a67_http_client_next_deadline(client, app.now) > 0)
			(void) poll(p, 2, 10);
		settle();
	}
	if (a67_http_client_state(client) == A67_HTTP_CLIENT_FAILED)
		printf("# %s\n", a67_http_client_error(client));
	return a67_http_client_state(client);
}

static A67HttpClientState
request(const char *method, const char *path, const char *body)
{
	A67HttpClientRequest r = {.url = &url, .method = method, .body = body};

	r.body_len = body != NULL ? strlen(body) : 0;
	if (!aim(url.tls ? "https" : "http", path))
		return A67_HTTP_CLIENT_IDLE;
	(void) a67_http_client_start(client, &r, app.now);
	return finish();
}

static void
end(void)
{
	a67_http_client_free(client);
	app_stop();
}

static int
stream_body(void *arg, const char *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (data[i] != pattern(*(uint64_t *) arg - streamed - i))
			return -1;
	streamed += len;
	return streamed > stream_limit;
}
