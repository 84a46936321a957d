/*
 * tls.c: OpenSSL behind tls.h.
 *
 * Sessions use SSL_MODE_RELEASE_BUFFERS (an idle one keeps no record buffers) and partial, movable
 * writes, so that a send buffer may grow between two attempts. Renegotiation is off. The error queue
 * is emptied before each call, because it belongs to the thread, not to the session.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* RFC 5280: a certificate without an end that means anything. */
#define SELF_SIGNED_FROM  "20200101000000Z"
#define SELF_SIGNED_UNTIL "99991231235959Z"

static void
explain(char *err, size_t err_size, const char *what)
{
	char text[160];
	unsigned long code = ERR_peek_last_error();

	ERR_error_string_n(code, text, sizeof(text));
	snprintf(err, err_size, "%s: %s", what, code != 0 ? text : "unknown TLS error");
	ERR_clear_error();
}

static SSL_CTX *
new_context(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
							  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return ctx;
}

/* A key under a passphrase is refused: there is nobody to ask. */
static int
no_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1;
}

struct ssl_ctx_st *
a67_tls_server_context(const char *cert_file, const char *key_file, char *err, size_t err_size)
{
	SSL_CTX *ctx = new_context(TLS_server_method());

	if (ctx == NULL)
	{
		explain(err, err_size, "could not create a TLS context");
		return NULL;
	}
	/* Sessions are resumed by ticket: the server keeps none in memory. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
		explain(err, err_size, "could not load the certificate file");
	else if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
		explain(err, err_size, "could not load the private key file");
	else if (SSL_CTX_check_private_key(ctx) != 1)
		explain(err, err_size, "private key does not belong to the certificate");
	else
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

/* A certificate over the key, signed by itself. Whoever pins the key looks at nothing else in it. */
static X509 *
self_signed(EVP_PKEY *key)
{
	static const unsigned char name[] = "Automator67";
	X509 *cert = X509_new();
	X509_NAME *subject = cert != NULL ? X509_get_subject_name(cert) : NULL;

	if (subject != NULL && X509_set_version(cert, X509_VERSION_3) == 1 &&
		ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1 &&
		ASN1_TIME_set_string_X509(X509_getm_notBefore(cert), SELF_SIGNED_FROM) == 1 &&
		ASN1_TIME_set_string_X509(X509_getm_notAfter(cert), SELF_SIGNED_UNTIL) == 1 &&
		X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, name, -1, -1, 0) == 1 &&
		X509_set_issuer_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1 &&
		X509_sign(cert, key, NULL) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

struct ssl_ctx_st *
a67_tls_self_context(const uint8_t seed[A67_TLS_SEED_BYTES], char *err, size_t err_size)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, A67_TLS_SEED_BYTES);
	X509 *cert = key != NULL ? self_signed(key) : NULL;
	SSL_CTX *ctx = cert != NULL ? new_context(TLS_server_method()) : NULL;

	if (ctx != NULL)
	{
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
		if (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1)
		{
			SSL_CTX_free(ctx);
			ctx = NULL;
		}
	}
	if (ctx == NULL)
		explain(err, err_size, "could not make a certificate");
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

int
a67_tls_ed25519_pin(const uint8_t public_key[A67_TLS_SEED_BYTES], uint8_t pin[A67_TLS_PIN_BYTES])
{
	/* RFC 8410: SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING }, up to the key itself. */
	static const uint8_t lead[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
								   0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
	uint8_t info[sizeof(lead) + A67_TLS_SEED_BYTES];

	memcpy(info, lead, sizeof(lead));
	memcpy(info + sizeof(lead), public_key, A67_TLS_SEED_BYTES);
	return EVP_Digest(info, sizeof(info), pin, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

void
a67_tls_context_free(struct ssl_ctx_st *ctx)
{
	SSL_CTX_free(ctx);
}

static int
key_pin(X509 *cert, uint8_t pin[A67_TLS_PIN_BYTES])
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	int ok;

	if (len <= 0)
		return -1;
	ok = EVP_Digest(der, (size_t) len, pin, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	return ok == 1 ? 0 : -1;
}

int
a67_tls_file_pin(const char *cert_file, uint8_t pin[A67_TLS_PIN_BYTES])
{
	FILE *file = fopen(cert_file, "re");
	X509 *cert;
	int rc;

	if (file == NULL)
		return -1;
	cert = PEM_read_X509(file, NULL, NULL, NULL);
	(void) fclose(file);
	ERR_clear_error();
	if (cert == NULL)
		return -1;
	rc = key_pin(cert, pin);
	X509_free(cert);
	return rc;
}

struct ssl_st *
a67_tls_accept_new(struct ssl_ctx_st *ctx, int fd)
{
	SSL *ssl = SSL_new(ctx);

	if (ssl != NULL && SSL_set_fd(ssl, fd) == 1)
	{
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_free(ssl);
	ERR_clear_error();
	return NULL;
}

/*
 * With a pin: accepts exactly the certificate whose key is pinned, whoever signed it and whenever it
 * expires; the handshake proves that the peer holds that key. Without: the normal verification.
 */
static int
verify_peer(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	const uint8_t *wanted = SSL_get_app_data(ssl);
	X509 *cert = X509_STORE_CTX_get0_cert(store);
	uint8_t pin[A67_TLS_PIN_BYTES];

	if (wanted == NULL)
		return X509_verify_cert(store);
	if (cert != NULL && key_pin(cert, pin) == 0 && CRYPTO_memcmp(pin, wanted, sizeof(pin)) == 0)
	{
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return 0;
}

/* Has the normal verification check the name; an address is matched as an address. */
static bool
expect_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	unsigned char addr[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
		   SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct ssl_ctx_st *
a67_tls_client_context(const char *ca_file, char *err, size_t err_size)
{
	SSL_CTX *ctx = new_context(TLS_client_method());

	if (ctx == NULL)
	{
		explain(err, err_size, "could not create a TLS context");
		return NULL;
	}
	SSL_CTX_set_cert_verify_callback(ctx, verify_peer, NULL);
	if (ca_file == NULL
			? SSL_CTX_set_default_verify_paths(ctx) == 1
			: ca_file[0] == '\0' || SSL_CTX_load_verify_locations(ctx, ca_file, NULL) == 1)
		return ctx;
	explain(err, err_size, "could not load the CA certificates");
	SSL_CTX_free(ctx);
	return NULL;
}

struct ssl_st *
a67_tls_connect_new(struct ssl_ctx_st *ctx, int fd, const char *host, const uint8_t *pin)
{
	SSL *ssl = SSL_new(ctx);

	if (ssl != NULL && SSL_set_fd(ssl, fd) == 1 && expect_host(ssl, host))
	{
		SSL_set_app_data(ssl, (void *) (uintptr_t) pin);
		SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
		SSL_set_connect_state(ssl);
		return ssl;
	}
	SSL_free(ssl);
	ERR_clear_error();
	return NULL;
}

/* Turns the failure of an SSL call into a wait, an end or an error with errno. */
static int
outcome(SSL *ssl, int rc)
{
	int saved = errno;

	switch (SSL_get_error(ssl, rc))
	{
		case SSL_ERROR_WANT_READ:
			return A67_IO_WANT_RD;
		case SSL_ERROR_WANT_WRITE:
			return A67_IO_WANT_WR;
		case SSL_ERROR_ZERO_RETURN:
			return A67_IO_EOF;
		case SSL_ERROR_SYSCALL:
			errno = saved != 0 ? saved : ECONNRESET;
			break;
		default:
			errno = EPROTO;
			break;
	}
	ERR_clear_error();
	return A67_IO_ERROR;
}

int
a67_tls_handshake(struct ssl_st *ssl)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(ssl);
	if (rc == 1)
		return A67_IO_DONE;
	rc = outcome(ssl, rc);
	if (rc != A67_IO_EOF)
		return rc;
	errno = ECONNRESET;
	return A67_IO_ERROR;
}

const char *
a67_tls_verify_error(const struct ssl_st *ssl)
{
	long result = SSL_get_verify_result(ssl);

	if (result == X509_V_ERR_CERT_REJECTED && SSL_get_app_data(ssl) != NULL)
		return "public key is not the pinned one";
	return result != X509_V_OK ? X509_verify_cert_error_string(result) : NULL;
}

ssize_t
a67_tls_recv(struct ssl_st *ssl, void *buf, size_t len)
{
	int n;

	ERR_clear_error();
	errno = 0;
	n = SSL_read(ssl, buf, len > INT_MAX ? INT_MAX : (int) len);
	return n > 0 ? n : outcome(ssl, n);
}

ssize_t
a67_tls_send(struct ssl_st *ssl, const void *buf, size_t len)
{
	int n;

	ERR_clear_error();
	errno = 0;
	n = SSL_write(ssl, buf, len > INT_MAX ? INT_MAX : (int) len);
	if (n > 0)
		return n;
	n = outcome(ssl, n);
	if (n != A67_IO_EOF)
		return n;
	errno = EPIPE;
	return A67_IO_ERROR;
}

bool
a67_tls_has_pending(const struct ssl_st *ssl)
{
	return SSL_pending(ssl) > 0;
}

void
a67_tls_shutdown(struct ssl_st *ssl)
{
	ERR_clear_error();
	if (SSL_is_init_finished(ssl))
		(void) SSL_shutdown(ssl);
	ERR_clear_error();
}

void
a67_tls_free(struct ssl_st *ssl)
{
	SSL_free(ssl);
}
