/*
 * token.h - the tokens of the protocol: join token, node token, command token.
 *
 * Pure apart from the replay cache that the caller owns; the clock is passed in.  A command is obeyed
 * only when its token is signed by the pinned key of the controller and names this node, this method,
 * this path, these body bytes, lives at most 60 s and has not been seen before.  Called by the server
 * (commands), the control loop (renewal) and join.
 */
#ifndef A67_AGENT_TOKEN_H
#define A67_AGENT_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define A67_KEY_BYTES		 32
#define A67_KEY_TEXT_SIZE	 44 /* base64url of a key, NUL included */
#define A67_COMMAND_LIFE_S	 60 /* longest exp - iat */
#define A67_CLOCK_SKEW_S	 30
#define A67_REPLAY_MAX		 16384 /* places for commands: 130 a second for ever fill most of them */
#define A67_REPLAY_PROBES	 64	   /* that one command may be found in */
#define A67_BEARER_MAX_BYTES 4096

/* What a join token says about the controller. */
typedef struct A67JoinKeys
{
	uint8_t controller[A67_KEY_BYTES]; /* signs commands */
	bool pinned;					   /* its server is known by tls_pin, not by a CA */
	uint8_t tls_pin[A67_KEY_BYTES];	   /* SHA-256 of the server's public key */
} A67JoinKeys;

/* Reads "a67j.<secret>.<key>" or "a67j.<secret>.<key>.<pin>".  0 or -EINVAL. */
int a67_join_token_parse(const char *token, A67JoinKeys *keys, A67Why *why);

/* Reads iat and exp of a JWT without judging it (our own node token).  False when it is no JWT. */
bool a67_jwt_times(const char *token, int64_t *iat_s, int64_t *exp_s);

/*
 * Reads the next key of the controller from a hand-over: a token that `key` has signed to name its successor.
 * False for anything else.
 */
bool a67_handover_read(const char *token, const uint8_t key[A67_KEY_BYTES],
					   uint8_t next[A67_KEY_BYTES]);

/* jti values that were used, as keyed hashes in a hash table, until their tokens expire anyway. */
typedef struct A67Replay
{
	uint8_t key[16]; /* random, set by a67_replay_init */
	struct
	{
		uint64_t hash;
		int64_t until_s; /* 0: never used */
	} seen[A67_REPLAY_MAX];
} A67Replay;

void a67_replay_init(A67Replay *replay);

typedef struct A67CommandCheck
{
	const uint8_t *controller_key;
	const uint8_t *next_key; /* obeyed too; NULL: there is none */
	bool *by_next;			 /* set to whether that one signed; NULL as next_key is */
	const char *node_id;
	const char *method;
	size_t method_len;
	const char *target; /* path with query, as sent */
	size_t target_len;
	const void *body;
	size_t body_len;
	const char *body_sha256; /* in hex, when it is known before the body is; NULL: of body */
	bool head_only;			 /* body not here yet: check all else, remember nothing */
	int64_t now_s;			 /* wall clock */
	int64_t not_before_s;	 /* tokens made before that are refused; 0: any */
} A67CommandCheck;

/*
 * Judges a command token.  0 and the jti is spent (unless head_only), or -EACCES with a reason that is
 * fit for the answer, or -EBUSY when the replay cache is full.
 */
int a67_command_verify(const A67CommandCheck *check, const char *token, size_t token_len,
					   A67Replay *replay, A67Why *why);

#endif /* A67_AGENT_TOKEN_H */
