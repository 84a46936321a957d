/*
 * http_tls_test.c - the client against the engine over TLS.
 *
 * Certificates are made here, in memory of a temporary directory, and thrown away.
 */
#include "http_client_fixture.c"

#include "core/encode.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

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
carries_everything(void)
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
the_pin_or_the_authority_is_trusted(void)
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
	/* With none at all there is only the pin. */
	a67_tls_context_free(t.client_ctx);
	t.client_ctx = a67_tls_client_context("", err, sizeof(err));
	REQUIRE(t.client_ctx != NULL && tls_client(&t, NULL));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_FAILED);
	REQUIRE(tls_client(&t, t.pin));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	app.requests--;
	CHECK_INT(app.requests, 1);
	CHECK(a67_tls_server_context(t.key, t.cert, err, sizeof(err)) == NULL);
	CHECK(strstr(err, "could not load the certificate file") == err);
	CHECK(a67_tls_client_context("/nonexistent", err, sizeof(err)) == NULL);
	CHECK_INT(a67_tls_file_pin(t.key, wrong), -1);
	tls_end(&t);
}

/* Connections that are there go on with the old key; new ones meet the new one. */
static void
the_key_is_replaced_while_serving(void)
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

/* A server that has no files, only a key; RFC 8032's first test vector. */
static void
a_server_is_known_by_its_key_alone(void)
{
	uint8_t seed[A67_TLS_SEED_BYTES];
	uint8_t public_key[A67_TLS_SEED_BYTES];
	uint8_t pin[A67_TLS_PIN_BYTES];
	struct ssl_ctx_st *own;
	char err[200] = "";
	Tls t;

	REQUIRE(tls_begin(&t));
	REQUIRE(a67_hex_decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", 64,
						   seed, sizeof(seed)));
	REQUIRE(a67_hex_decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", 64,
						   public_key, sizeof(public_key)));
	own = a67_tls_self_context(seed, err, sizeof(err));
	REQUIRE(own != NULL && a67_tls_ed25519_pin(public_key, pin) == 0);
	CHECK_INT(a67_http_server_set_tls(app.server, own), 0);
	a67_tls_context_free(app.config.tls);
	app.config.tls = own;
	REQUIRE(tls_client(&t, pin));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_DONE);
	/* No authority vouches for it. */
	REQUIRE(tls_client(&t, NULL));
	CHECK_INT(request("GET", "/hello", NULL), A67_HTTP_CLIENT_FAILED);
	CHECK_INT(app.requests, 1);
	tls_end(&t);
}

static void
handshakes_have_a_deadline(void)
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

UNIT_MAIN("http_tls", UNIT(carries_everything), UNIT(the_pin_or_the_authority_is_trusted),
		  UNIT(the_key_is_replaced_while_serving), UNIT(a_server_is_known_by_its_key_alone),
		  UNIT(handshakes_have_a_deadline));
