/*
 * tls.h: TLS 1.2+ for server and client sockets, by OpenSSL. The only file of core that knows it.
 *
 * Contexts are made once per process, after the fork; sessions belong to one socket and never
 * block. A client trusts either one pinned public key (SHA-256 of SubjectPublicKeyInfo) or a CA
 * bundle with host name check. Called by io.c and by whoever configures a server or a client.
 */
#ifndef A67_CORE_HTTP_TLS_H
#define A67_CORE_HTTP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "io.h"

#define A67_TLS_PIN_BYTES  32
#define A67_TLS_SEED_BYTES 32 /* of an Ed25519 key, and its public half */

struct ssl_ctx_st;
struct ssl_st;

/* PEM files: certificate chain and private key. NULL with a text in err. */
extern struct ssl_ctx_st *a67_tls_server_context(const char *cert_file, const char *key_file,
												 char *err, size_t err_size);
/*
 * A server known by its Ed25519 key alone: the certificate is made here, signed by itself and without
 * an end, for clients that pin the key. NULL with a text in err.
 */
extern struct ssl_ctx_st *a67_tls_self_context(const uint8_t seed[A67_TLS_SEED_BYTES], char *err,
											   size_t err_size);
/* The pin of such a server: SHA-256 of the SubjectPublicKeyInfo of an Ed25519 key. 0 or -1. */
extern int a67_tls_ed25519_pin(const uint8_t public_key[A67_TLS_SEED_BYTES],
							   uint8_t pin[A67_TLS_PIN_BYTES]);
/* ca_file NULL: the system's CA store; "": none. Sessions with a pin ignore the CAs. */
extern struct ssl_ctx_st *a67_tls_client_context(const char *ca_file, char *err, size_t err_size);
extern void a67_tls_context_free(struct ssl_ctx_st *ctx);

/* SHA-256 of the SubjectPublicKeyInfo of a PEM certificate file; 0 or -1. */
extern int a67_tls_file_pin(const char *cert_file, uint8_t pin[A67_TLS_PIN_BYTES]);

extern struct ssl_st *a67_tls_accept_new(struct ssl_ctx_st *ctx, int fd);
/* pin NULL: verify chain and host. host is copied, pin borrowed until the session is freed. */
extern struct ssl_st *a67_tls_connect_new(struct ssl_ctx_st *ctx, int fd, const char *host,
										  const uint8_t *pin);
/* A67_IO_DONE, A67_IO_ERROR or A67_IO_WANT_*. Checks the pin of a client session. */
extern int a67_tls_handshake(struct ssl_st *ssl);
/* Why the peer's certificate was not accepted, or NULL when that is not what failed. */
extern const char *a67_tls_verify_error(const struct ssl_st *ssl);
/* Like a67_io_recv and a67_io_send. */
extern ssize_t a67_tls_recv(struct ssl_st *ssl, void *buf, size_t len);
extern ssize_t a67_tls_send(struct ssl_st *ssl, const void *buf, size_t len);
/* Bytes already decrypted, which the socket will not announce. */
extern bool a67_tls_has_pending(const struct ssl_st *ssl);
/* Sends close_notify when possible, without waiting for the peer's. */
extern void a67_tls_shutdown(struct ssl_st *ssl);
extern void a67_tls_free(struct ssl_st *ssl);

#endif
