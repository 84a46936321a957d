/*
 * http_client_test.c - the client against the engine, plain and TLS, and against servers that err.
 *
 * One thread: the client steps, then the server runs. Certificates are made here, in memory of a
 * temporary directory, and thrown away.
 */
#include "http_fixture.c"

#include "core/http/client.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

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

static int
status(void)
{
	const A67HttpHead *head = a67_http_client_response(client);

	return head != NULL ? head->status : -1;
}

static bool
begin(void)
{
	A67HttpClientConfig config;

	a67_http_client_defaults(&config);
	config.max_body = 1000;
	memset(&url, 0, sizeof(url));
	client = a67_http_client_new(&config);
	return app_start() && client != NULL;
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

static void
requests_are_made_and_connections_reused(void)
{
	A67HttpStats stats;
	size_t len;

	REQUIRE(begin());
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 200);
	CHECK_STR(a67_http_client_body(client, &len), "hello");
	CHECK_UINT(len, 5);
	REQUIRE(a67_http_client_response(client) != NULL);
	CHECK(a67_http_header(a67_http_client_response(client), "content-type") != NULL);
	CHECK_INT(request("POST", "/echo", "some text"), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "some text");
	CHECK_INT(request("HEAD", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "");
	CHECK_INT(request("DELETE", "/nowhere", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 404);
	CHECK_INT(request("GET", "/empty", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 204);
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.accepted, 1);
	/* The server ends its side of the pause: the next request notices and connects anew. */
	pass(60000);
	CHECK_UINT(clients(), 0);
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.accepted, 2);
	CHECK_INT(a67_http_client_fd(client) >= 0, 1);
	a67_http_client_cancel(client);
	CHECK_INT(a67_http_client_fd(client), -1);
	CHECK_INT(a67_http_client_next_deadline(client, app.now), -1);
	end();
}

static void
bodies_are_streamed_or_bounded(void)
{
	static uint64_t total = 20 * 1024 * 1024;
	A67HttpClientRequest r = {.url = &url, .on_body = stream_body, .arg = &total};

	REQUIRE(begin());
	REQUIRE(aim("http", "/stream"));
	streamed = 0;
	stream_limit = UINT64_MAX;
	app.to_stream = total;
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, total);
	streamed = 0;
	app.to_stream = total;
	REQUIRE(aim("http", "/sized"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, total);
	/* An error is not a package: it is buffered, whatever was asked for. */
	streamed = 0;
	REQUIRE(aim("http", "/nowhere"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, 0);
	CHECK(strstr(a67_http_client_body(client, NULL), "HTTP404") != NULL);
	/* The callback gives up. */
	stream_limit = 100000;
	app.to_stream = total;
	REQUIRE(aim("http", "/stream"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_FAILED);
	CHECK_STR(a67_http_client_error(client), "response body was not taken");
	CHECK(streamed < total);
	app.to_stream = 1001;
	CHECK_INT(request("GET", "/stream", NULL), A67_HTTP_CLIENT_FAILED);
	CHECK_STR(a67_http_client_error(client), "response body is larger than 1000 bytes");
	app.to_stream = 1000;
	CHECK_INT(request("GET", "/stream", NULL), A67_HTTP_CLIENT_DONE);
	end();
}

static void
an_early_answer_is_read(void)
{
	size_t len = 8 * 1024 * 1024;
	char *big = malloc(len + 1);

	REQUIRE(begin() && big != NULL);
	memset(big, 'x', len);
	big[len] = '\0';
	CHECK_INT(request("POST", "/reject", big), A67_HTTP_CLIENT_DONE);
	CHECK_INT(status(), 401);
	CHECK_INT(a67_http_client_fd(client), -1);
	end();
	free(big);
}

static void
time_runs_out(void)
{
	A67HttpClientRequest r = {.url = &url};

	REQUIRE(begin());
	REQUIRE(aim("http", "/async"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(a67_http_client_next_deadline(client, app.now), 10000);
	while (app.asked.generation == 0)
	{
		CHECK_INT(a67_http_client_step(client, app.now), A67_HTTP_CLIENT_BUSY);
		settle();
	}
	CHECK_INT(a67_http_client_step(client, app.now + 9999), A67_HTTP_CLIENT_BUSY);
	CHECK_INT(a67_http_client_step(client, app.now + 10000), A67_HTTP_CLIENT_FAILED);
	CHECK(strstr(a67_http_client_error(client), "no progress with 127.0.0.1:") != NULL);
	/* Progress does not help against the total. */
	app.asked.generation = 0;
	REQUIRE(aim("http", "/feed"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	while (app.asked.generation == 0)
	{
		(void) a67_http_client_step(client, app.now);
		settle();
	}
	while (a67_http_client_state(client) == A67_HTTP_CLIENT_BUSY && app.now < 2000000)
	{
		A67HttpConn *conn = a67_http_conn_find(app.server, app.asked);

		REQUIRE(conn != NULL);
		CHECK_INT(a67_http_respond_write(conn, "x", 1), 0);
		pass(5000);
		(void) a67_http_client_step(client, app.now);
	}
	CHECK_INT(app.now, 1030000);
	CHECK(strstr(a67_http_client_error(client), "no complete response from") != NULL);
	end();
}

static void
malformed_requests_are_not_sent(void)
{
	static const A67HttpField split[] = {{"X-A", "b\r\nC: d"}, {NULL, NULL}};
	static const A67HttpField host[] = {{"Host", "b"}, {NULL, NULL}};
	A67HttpClientRequest r = {.url = &url, .headers = split};

	REQUIRE(begin());
	REQUIRE(aim("http", "/"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	r.headers = host;
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	r.headers = NULL;
	r.method = "GET /";
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	r.method = "GET";
	r.path.at = "/a b";
	r.path.len = 4;
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	CHECK_INT(a67_http_client_state(client), A67_HTTP_CLIENT_FAILED);
	CHECK_STR(a67_http_client_error(client), "cannot send a malformed request");
	REQUIRE(aim("https", "/"));
	r.path.at = NULL;
	CHECK_INT(a67_http_client_start(client, &r, app.now), -EINVAL);
	CHECK_STR(a67_http_client_error(client), "cannot use https without a TLS context");
	end();
}

static void
unreachable_servers_are_named(void)
{
	A67HttpClientRequest r = {.url = &url};
	uint16_t port;

	REQUIRE(begin());
	port = app.port;
	a67_http_server_drain(app.server, app.now);
	settle();
	REQUIRE(aim("http", "/"));
	if (a67_http_client_start(client, &r, app.now) == 0)
		(void) finish();
	CHECK_INT(a67_http_client_state(client), A67_HTTP_CLIENT_FAILED);
	CHECK(strstr(a67_http_client_error(client), "could not connect to 127.0.0.1:") != NULL);
	CHECK(strstr(a67_http_client_error(client), "Connection refused") != NULL);
	CHECK(port != 0);
	end();
}

/* Answers the next connection with this text, then ends it. */
static A67HttpClientState
against(const char *answer)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	A67HttpClientRequest r = {.url = &url};
	A67HttpClientState state;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *) &sa, sizeof(sa)) < 0 || listen(listener, 1) < 0 ||
		getsockname(listener, (struct sockaddr *) &sa, &len) < 0)
		return A67_HTTP_CLIENT_IDLE;
	app.port = ntohs(sa.sin_port);
	(void) aim("http", "/");
	(void) a67_http_client_start(client, &r, app.now);
	fd = accept(listener, NULL, NULL);
	(void) a67_http_client_step(client, app.now);
	(void) !recv(fd, heard, sizeof(heard), 0);
	(void) send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	(void) close(fd);
	(void) close(listener);
	state = finish();
	return state;
}

static void
strange_responses_are_refused(void)
{
	static const char *const refused[] = {
		"",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"HTTP/1.1 100 a\r\n\r\nHTTP/1.1 100 b\r\n\r\nHTTP/1.1 100 c\r\n\r\nHTTP/1.1 100 d\r\n\r\n"
		"HTTP/1.1 100 e\r\n\r\nHTTP/1.1 100 f\r\n\r\nHTTP/1.1 100 g\r\n\r\nHTTP/1.1 100 h\r\n\r\n"
		"HTTP/1.1 100 i\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	};
	size_t i;

	REQUIRE(begin());
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		CHECK_INT(against(refused[i]), A67_HTTP_CLIENT_FAILED);
		CHECK(a67_http_client_error(client)[0] != '\0');
		CHECK_INT(a67_http_client_fd(client), -1);
	}
	CHECK_INT(against("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end"),
			  A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "until the end");
	CHECK_INT(a67_http_client_fd(client), -1);
	/* More than was promised: the answer counts, the connection does not. */
	CHECK_INT(against("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200"),
			  A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "ok");
	CHECK_INT(a67_http_client_fd(client), -1);
	end();
}

/* Makes a key and a self-signed certificate for 127.0.0.1 in two files. */
static bool
make_certificate(const char *cert_file, const char *key_file)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
	FILE *file;
	bool ok;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -10);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
							   (const unsigned char *) "test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	ok = X509_add_ext(cert, san, -1) == 1 && X509_sign(cert, key, EVP_sha256()) > 0;
	file = fopen(cert_file, "we");
	ok = ok && file != NULL && PEM_write_X509(file, cert) == 1;
	ok = file != NULL && fclose(file) == 0 && ok;
	file = fopen(key_file, "we");
	ok = ok && file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
	ok = file != NULL && fclose(file) == 0 && ok;
	X509_EXTENSION_free(san);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

typedef struct Tls
{
	char dir[32];
	char cert[64];
	char key[64];
	uint8_t pin[A67_TLS_PIN_BYTES];
	struct ssl_ctx_st *client_ctx;
} Tls;

static bool
tls_begin(Tls *t)
{
	char err[200] = "";

	snprintf(t->dir, sizeof(t->dir), "/tmp/a67_tls_XXXXXX");
	if (mkdtemp(t->dir) == NULL)
		return false;
	snprintf(t->cert, sizeof(t->cert), "%s/cert.pem", t->dir);
	snprintf(t->key, sizeof(t->key), "%s/key.pem", t->dir);
	app_init();
	client = NULL;
	memset(&url, 0, sizeof(url));
	url.tls = true;
	if (!make_certificate(t->cert, t->key) || a67_tls_file_pin(t->cert, t->pin) < 0)
		return false;
	app.config.tls = a67_tls_server_context(t->cert, t->key, err, sizeof(err));
	t->client_ctx = a67_tls_client_context(t->cert, err, sizeof(err));
	if (err[0] != '\0')
		printf("# %s\n", err);
	return app.config.tls != NULL && t->client_ctx != NULL && app_listen();
}

static bool
tls_client(const Tls *t, const uint8_t *pin)
{
	A67HttpClientConfig config;

	a67_http_client_free(client);
	a67_http_client_defaults(&config);
	config.tls = t->client_ctx;
	config.pin = pin;
	client = a67_http_client_new(&config);
	return client != NULL;
}

static void
tls_end(Tls *t)
{
	end();
	a67_tls_context_free(app.config.tls);
	a67_tls_context_free(t->client_ctx);
	(void) unlink(t->cert);
	(void) unlink(t->key);
	(void) rmdir(t->dir);
}

static void
tls_carries_everything(void)
{
	static uint64_t total = 3 * 1024 * 1024;
	A67HttpClientRequest r = {.url = &url, .on_body = stream_body, .arg = &total};
	A67HttpStats stats;
	char *big = malloc(900001);
	Tls t;

	REQUIRE(tls_begin(&t) && big != NULL && tls_client(&t, t.pin));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "hello");
	CHECK_INT(request("POST", "/echo", "secret"), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "secret");
	a67_http_server_stats(app.server, &stats);
	CHECK_UINT(stats.accepted, 1);
	memset(big, 'x', 900000);
	big[900000] = '\0';
	CHECK_INT(request("POST", "/count", big), A67_HTTP_CLIENT_DONE);
	CHECK_STR(a67_http_client_body(client, NULL), "900000");
	streamed = 0;
	stream_limit = UINT64_MAX;
	app.to_stream = total;
	REQUIRE(aim("https", "/stream"));
	CHECK_INT(a67_http_client_start(client, &r, app.now), 0);
	CHECK_INT(finish(), A67_HTTP_CLIENT_DONE);
	CHECK_UINT(streamed, total);
	/* Files go through the buffer here. */
	app.file = t.cert;
	app.to_stream = 100;
	app.last_error = 0;
	CHECK_INT(request("GET", "/file", NULL), A67_HTTP_CLIENT_DONE);
	CHECK(strncmp(a67_http_client_body(client, NULL), " CERTIFICATE", 12) == 0);
	CHECK_UINT(strlen(a67_http_client_body(client, NULL)), 100);
	tls_end(&t);
	free(big);
}

static void
tls_trusts_the_pin_or_the_authority(void)
{
	uint8_t wrong[A67_TLS_PIN_BYTES];
	char err[200] = "";
	Tls t;

	REQUIRE(tls_begin(&t));
	memcpy(wrong, t.pin, sizeof(wrong));
	wrong[0] ^= 1;
	REQUIRE(tls_client(&t, wrong));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_FAILED);
	CHECK(strstr(a67_http_client_error(client), "public key is not the pinned one") != NULL);
	CHECK_INT(app.requests, 0);
	/* The certificate is its own authority, and names this address. */
	REQUIRE(tls_client(&t, NULL));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	/* The system's authorities do not know it. */
	a67_tls_context_free(t.client_ctx);
	t.client_ctx = a67_tls_client_context(NULL, err, sizeof(err));
	REQUIRE(t.client_ctx != NULL && tls_client(&t, NULL));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_FAILED);
	CHECK(strstr(a67_http_client_error(client), "could not establish TLS") != NULL);
	CHECK_INT(app.requests, 1);
	CHECK(a67_tls_server_context(t.key, t.cert, err, sizeof(err)) == NULL);
	CHECK(strstr(err, "could not load the certificate file") == err);
	CHECK(a67_tls_client_context("/nonexistent", err, sizeof(err)) == NULL);
	CHECK_INT(a67_tls_file_pin(t.key, wrong), -1);
	tls_end(&t);
}

/* Connections that are there go on with the old key; new ones meet the new one. */
static void
tls_key_is_replaced_while_serving(void)
{
	struct ssl_ctx_st *first;
	struct ssl_ctx_st *second;
	uint8_t old_pin[A67_TLS_PIN_BYTES];
	char err[200] = "";
	Tls t;

	REQUIRE(tls_begin(&t));
	memcpy(old_pin, t.pin, sizeof(old_pin));
	REQUIRE(tls_client(&t, old_pin));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	REQUIRE(make_certificate(t.cert, t.key) && a67_tls_file_pin(t.cert, t.pin) == 0);
	first = app.config.tls;
	second = a67_tls_server_context(t.cert, t.key, err, sizeof(err));
	REQUIRE(second != NULL);
	CHECK_INT(a67_http_server_set_tls(app.server, NULL), -EINVAL);
	CHECK_INT(a67_http_server_set_tls(app.server, second), 0);
	a67_tls_context_free(first);
	app.config.tls = second;
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	REQUIRE(tls_client(&t, old_pin));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_FAILED);
	REQUIRE(tls_client(&t, t.pin));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	tls_end(&t);
}

static void
tls_handshakes_have_a_deadline(void)
{
	Tls t;
	int fd;

	REQUIRE(tls_begin(&t));
	fd = dial();
	say(fd, "\x16\x03\x01");
	pass(9999);
	CHECK_UINT(clients(), 1);
	pass(1);
	CHECK_UINT(clients(), 0);
	close(fd);
	/* Plain HTTP on a TLS port: refused, no answer in the clear. */
	fd = dial();
	forget();
	say(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
	CHECK(hear(fd, NULL));
	CHECK(strstr(heard, "HTTP/1.1") == NULL);
	close(fd);
	CHECK_INT(app.requests, 0);
	tls_end(&t);
}

UNIT_MAIN("http_client", UNIT(requests_are_made_and_connections_reused),
		  UNIT(bodies_are_streamed_or_bounded), UNIT(an_early_answer_is_read), UNIT(time_runs_out),
		  UNIT(malformed_requests_are_not_sent), UNIT(unreachable_servers_are_named),
		  UNIT(strange_responses_are_refused), UNIT(tls_carries_everything),
		  UNIT(tls_trusts_the_pin_or_the_authority), UNIT(tls_key_is_replaced_while_serving),
		  UNIT(tls_handshakes_have_a_deadline));
