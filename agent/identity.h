/*
 * identity.h - who this node is: its key pair, its registration, its token.
 *
 * Owns the files node.key and node.json (0600).  The key is made once, before the first registration,
 * so that repeating a registration names the same node.  Knows no network.  Called by main and the
 * control loop.
 */
#ifndef A67_AGENT_IDENTITY_H
#define A67_AGENT_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/encode.h"
#include "statedir.h"
#include "token.h"

#define A67_NODE_TOKEN_SIZE 2048
#define A67_URL_SIZE		256
#define A67_NODE_NAME_SIZE	256

typedef struct A67Identity
{
	uint8_t public_key[A67_KEY_BYTES];
	bool registered;
	char name[A67_NODE_NAME_SIZE]; /* as registered: what applications see in A67_NODE */
	char node_id[A67_UUID_TEXT_SIZE];
	char node_token[A67_NODE_TOKEN_SIZE];
	uint8_t join_key[A67_KEY_BYTES];	   /* the controller's, as the join token had it */
	uint8_t controller_key[A67_KEY_BYTES]; /* whose commands are obeyed */
	bool has_next;						   /* that key has named its successor: */
	uint8_t next_key[A67_KEY_BYTES];
	char controller_url[A67_URL_SIZE];
	bool tls_pinned;				/* its server has tls_pin, else a certificate of a CA */
	uint8_t tls_pin[A67_KEY_BYTES]; /* SHA-256 of the server's public key */
	int64_t heartbeat_ms;			/* as the controller wants it */
	uint16_t port;					/* under which the controller knows us */
	bool plain;						/* and by an http: endpoint */
} A67Identity;

/*
 * Reads both files, making the key where there is none.  A damaged file, or a registration of another
 * key, is put aside; the node then counts as not registered.  0 or -errno.
 */
int a67_identity_load(const A67StateDir *dir, A67Identity *identity, A67Why *why);

/* Whether this is a key of our controller: the one of now, the next, or the one of the beginning. */
bool a67_identity_knows_key(const A67Identity *identity, const uint8_t key[A67_KEY_BYTES]);

/* The next key has signed a command: it alone counts from now on.  Not saved by this. */
void a67_identity_promote_key(A67Identity *identity);

/* Writes node.json durably. */
int a67_identity_save(const A67StateDir *dir, const A67Identity *identity, A67Why *why);

/*
 * Opens a crypto_box_seal made for this node's key into out (len - crypto_box_SEALBYTES bytes); the key
 * is read for this one call and wiped.  0, -EBADMSG when it was not made for it, or another -errno.
 */
int a67_identity_unseal(const A67StateDir *dir, const uint8_t *box, size_t len, uint8_t *out,
						A67Why *why);

/*
 * TLS of a server that is known by this node's key: whoever has the registered public key pins it. NULL with the
 * reason in why.
 */
struct ssl_ctx_st *a67_identity_tls(const A67StateDir *dir, A67Why *why);

/* Forgets key and registration on disk: the node was removed. */
void a67_identity_forget(const A67StateDir *dir);

#endif /* A67_AGENT_IDENTITY_H */
