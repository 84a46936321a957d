/*
 * token_cache.c: a set-associative table of token hashes; see token_cache.h.
 *
 * SipHash-2-4 with 128 bits and a secret random key: without the key nobody can find two tokens of one hash,
 * nor tokens that crowd one set. An entry with exp 0 is free. Called by service.c inside the engine's callbacks:
 * memory is taken once, at the start.
 */
#include "listener/token_cache.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define WAYS	 4
#define SETS_MAX (1u << 22)

typedef struct Entry
{
	uint64_t hash[2];
	int64_t exp;
	uint8_t node_id[16];
} Entry;

struct A67TokenSet
{
	Entry entries[WAYS];
};

bool
a67_token_cache_init(A67TokenCache *cache, uint32_t tokens)
{
	uint32_t sets = 1;

	/* Twice the room: sets fill unevenly, and a node that renews its token has two for a while. */
	while (sets < SETS_MAX && (uint64_t) sets * WAYS < (uint64_t) tokens * 2)
		sets *= 2;
	memset(cache, 0, sizeof(*cache));
	cache->sets = calloc(sets, sizeof(*cache->sets));
	cache->mask = sets - 1;
	randombytes_buf(cache->key, sizeof(cache->key));
	return cache->sets != NULL;
}

void
a67_token_cache_free(A67TokenCache *cache)
{
	free(cache->sets);
	sodium_memzero(cache, sizeof(*cache));
}

/* Empties the cache when what it knows is about other keys or about the future. */
static void
keep_current(A67TokenCache *cache, const A67TokenLook *look)
{
	if (look->keyring != cache->keyring || look->now_s < cache->now_s)
		memset(cache->sets, 0, ((size_t) cache->mask + 1) * sizeof(*cache->sets));
	cache->keyring = look->keyring;
	cache->now_s = look->now_s;
}

static A67TokenSet *
find_set(const A67TokenCache *cache, const A67TokenLook *look, uint64_t hash[2])
{
	_Static_assert(crypto_shorthash_siphashx24_BYTES == 2 * sizeof(uint64_t),
				   "a hash has 16 bytes");
	_Static_assert(crypto_shorthash_siphashx24_KEYBYTES == A67_TOKEN_CACHE_KEY,
				   "and so has its key");

	crypto_shorthash_siphashx24((unsigned char *) hash, (const unsigned char *) look->token,
								look->len, cache->key);
	return &cache->sets[hash[0] & cache->mask];
}

bool
a67_token_cache_find(A67TokenCache *cache, const A67TokenLook *look, uint8_t node_id[16])
{
	const A67TokenSet *set;
	uint64_t hash[2];

	if (cache->sets == NULL)
		return false;
	keep_current(cache, look);
	set = find_set(cache, look, hash);
	for (int i = 0; i < WAYS; i++)
	{
		const Entry *entry = &set->entries[i];

		if (entry->hash[0] != hash[0] || entry->hash[1] != hash[1] || entry->exp <= look->now_s)
			continue;
		memcpy(node_id, entry->node_id, sizeof(entry->node_id));
		return true;
	}
	return false;
}

void
a67_token_cache_add(A67TokenCache *cache, const A67TokenLook *look, int64_t exp,
					const uint8_t node_id[16])
{
	A67TokenSet *set;
	Entry *place;
	uint64_t hash[2];

	if (cache->sets == NULL || exp <= look->now_s)
		return;
	keep_current(cache, look);
	set = find_set(cache, look, hash);
	place = &set->entries[0];
	for (int i = 1; i < WAYS; i++)
		if (set->entries[i].exp < place->exp)
			place = &set->entries[i];
	memcpy(place->hash, hash, sizeof(place->hash));
	memcpy(place->node_id, node_id, sizeof(place->node_id));
	place->exp = exp;
}
