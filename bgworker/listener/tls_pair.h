/*
 * tls_pair.h: the certificate and key that a listener speaks TLS with.
 *
 * Decides whether TLS is spoken at all and where the pair comes from: the files that the settings name,
 * or a self-signed pair in the data directory. Called by listener.c at start and at a reload; never
 * inside the engine's callbacks, because it reads files.
 */
#ifndef A67_LISTENER_TLS_PAIR_H
#define A67_LISTENER_TLS_PAIR_H

#include "postgres.h"

#include "platform/shmem.h"

struct ssl_ctx_st;

typedef struct A67TlsPair
{
	struct ssl_ctx_st *context;
	char pin[A67_PIN_TEXT_SIZE]; /* of the public key, when the pair was made here; else "" */
} A67TlsPair;

/* By a67.tls and the address of the listeners. */
extern bool a67_tls_wanted(void);

/* Whether the listeners can be reached from this machine only. */
extern bool a67_listens_on_loopback(void);

/*
 * Loads the pair, making one first when the settings name none and there is none yet. The context is
 * the caller's to free. False with a reason in err; nothing is changed then. Does not throw.
 */
extern bool a67_tls_pair_load(A67TlsPair *pair, char *err, size_t err_size);

#endif
