/*
 * token_cache.h: node tokens that were verified a moment ago.
 *
 * A node sends the same token for hours; verifying it costs more than all else that is done for a heartbeat.
 * The cache answers for exactly what verification would answer: it holds hashes of whole tokens, made with a
 * key that only this process has, is emptied when the keyring changes or the clock goes back, and forgets a
 * token at its expiry. What a node may do is not its business. Bounded: a full set gives up the token that
 * ends first. Pure: libsodium, no PostgreSQL.
 */
#ifndef A67_LISTENER_TOKEN_CACHE_H
#define A67_LISTENER_TOKEN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_TOKEN_CACHE_KEY 16

typedef struct A67TokenSet A67TokenSet;

typedef struct A67TokenCache
{
	uint8_t key[A67_TOKEN_CACHE_KEY];
	uint32_t keyring; /* version of the keys that all of it was verified with */
	int64_t now_s;	  /* of the last look */
	uint32_t mask;	  /* number of sets - 1 */
	A67TokenSet *sets;
} A67TokenCache;

/* A token as it came, and what it is looked at with. */
typedef struct A67TokenLook
{
	const char *token;
	size_t len;
	uint32_t keyring; /* version */
	int64_t now_s;	  /* Unix time */
} A67TokenLook;

/* Room for at least that many tokens; false when out of memory: every look is in vain then. */
extern bool a67_token_cache_init(A67TokenCache *cache, uint32_t tokens);
extern void a67_token_cache_free(A67TokenCache *cache);

/* Whether the token was added under these keys and still counts; *node_id is its node. */
extern bool a67_token_cache_find(A67TokenCache *cache, const A67TokenLook *look,
								 uint8_t node_id[16]);

/* Notes a token of a node that verification has just passed, with its expiry (Unix time). */
extern void a67_token_cache_add(A67TokenCache *cache, const A67TokenLook *look, int64_t exp,
								const uint8_t node_id[16]);

#endif
