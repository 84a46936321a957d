/*
 * http_pin_test.c - the HTTP client of the workers and servers that are known by their key alone.
 *
 * Server and client are both ours and share one thread: the engine with a certificate that it made
 * itself, as agents have it, and curl, as the controller uses it.
 */
#include "http_fixture.c"

#include "net/fetch.h"

#include <signal.h>

#include "core/encode.h"

/* RFC 8032, the first test vector. The pins are SHA-256 of "302a300506032b6570032100" and the key. */
#define SEED	   "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
#define PIN		   "sha256//BuP9j9opu2CrWVV95h7bCuzbIxE0vjDnW0Vfjht5L6k="
#define OTHER_SEED "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
#define OTHER_PIN  "sha256//3rLe053Cb84OYIW2/DS/a1lBkTu/4uphQRPP+eAEwXA="

static A67Fetch *fetch;

static bool
begin(const char *seed)
{
	uint8_t bytes[A67_TLS_SEED_BYTES];
	char err[200] = "";

	/* As in every process that writes through TLS. */
	(void) signal(SIGPIPE, SIG_IGN);
	app_init();
	app.config.tls = NULL;
	if (!a67_hex_decode(seed, strlen(seed), bytes, sizeof(bytes)))
		return false;
	app.config.tls = a67_tls_self_context(bytes, err, sizeof(err));
	fetch = a67_fetch_create(4, real_ms());
	return app.config.tls != NULL && fetch != NULL && app_listen();
}

static void
end(void)
{
	a67_fetch_free(fetch);
	fetch = NULL;
	app_stop();
	a67_tls_context_free(app.config.tls);
}

/* How a GET of the server's "/hello" with this pin ends. */
static void
expect(const char *pin, int status, const char *error)
{
	A67FetchRequest request = {.key = "k", .method = "GET", .timeout_ms = 5000, .pin = pin};
	A67FetchResult *result = NULL;
	int64_t cap = real_ms() + CAP_MS;
	char url[64];

	(void) snprintf(url, sizeof(url), "https://127.0.0.1:%u/hello", app.port);
	request.url = url;
	REQUIRE(a67_fetch_submit(fetch, &request, real_ms()) == A67_FETCH_QUEUED);
	while (result == NULL && real_ms() < cap)
	{
		a67_fetch_run(fetch, real_ms());
		settle();
		result = a67_fetch_take(fetch);
	}
	REQUIRE(result != NULL);
	CHECK_INT(result->status, status);
	CHECK_STR(result->error, error);
	a67_fetch_release(fetch, result);
}

static void
the_key_is_what_counts(void)
{
	REQUIRE(begin(SEED));
	expect(PIN, 200, NULL);
	CHECK_INT(app.requests, 1);
	/* No authority vouches for it. */
	expect(NULL, 0, "tls failed");
	CHECK_INT(app.requests, 1);
	end();
}

static void
another_key_is_told_nothing(void)
{
	REQUIRE(begin(OTHER_SEED));
	expect(PIN, 0, "not the pinned key");
	CHECK_INT(app.requests, 0);
	expect(OTHER_PIN, 200, NULL);
	end();
}

/* Two nodes may stand behind one address, one after the other. */
static void
a_connection_is_no_other_pins(void)
{
	A67HttpStats stats;

	REQUIRE(begin(SEED));
	expect(PIN, 200, NULL);
	expect(PIN, 200, NULL);
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.accepted, 1);
	expect(OTHER_PIN, 0, "not the pinned key");
	expect(NULL, 0, "tls failed");
	CHECK_INT(app.requests, 2);
	expect(PIN, 200, NULL);
	CHECK_INT(app.requests, 3);
	end();
}

/* The key of a server that was restarted with another one, while the client keeps TLS sessions. */
static void
a_resumed_session_is_no_other_key(void)
{
	uint8_t bytes[A67_TLS_SEED_BYTES];
	char err[200] = "";
	struct ssl_ctx_st *first;

	REQUIRE(begin(SEED));
	expect(PIN, 200, NULL);
	first = app.config.tls;
	REQUIRE(a67_hex_decode(OTHER_SEED, 64, bytes, sizeof(bytes)));
	app.config.tls = a67_tls_self_context(bytes, err, sizeof(err));
	REQUIRE(app.config.tls != NULL);
	CHECK_INT(a67_http_server_set_tls(app.server, app.config.tls), 0);
	pass(app.config.idle_ms + 1);
	a67_tls_context_free(first);
	expect(PIN, 0, "not the pinned key");
	expect(OTHER_PIN, 200, NULL);
	CHECK_INT(app.requests, 2);
	end();
}

/* curl takes any other text for the name of a file with a key. */
static void
pins_are_hashes(void)
{
	static const char *const bad[] = {
		"",
		"sha256//",
		"/etc/ssl/certs/key.pem",
		"sha1//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-=",
		"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=;sha256//",
		"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
	};

	REQUIRE(begin(SEED));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect(bad[i], 0, "invalid request");
	CHECK_UINT(clients(), 0);
	end();
}

/* A server without TLS gets nothing either, whatever the pin. */
static void
a_pin_is_no_way_round_tls(void)
{
	app_init();
	fetch = a67_fetch_create(1, real_ms());
	REQUIRE(fetch != NULL && app_listen());
	expect(PIN, 0, "tls failed");
	CHECK_INT(app.requests, 0);
	a67_fetch_free(fetch);
	fetch = NULL;
	app_stop();
}

UNIT_MAIN("http_pin", UNIT(the_key_is_what_counts), UNIT(another_key_is_told_nothing),
		  UNIT(a_connection_is_no_other_pins), UNIT(a_resumed_session_is_no_other_key),
		  UNIT(pins_are_hashes), UNIT(a_pin_is_no_way_round_tls));
