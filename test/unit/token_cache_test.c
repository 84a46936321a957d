/*
 * token_cache_test.c - verified tokens are remembered exactly as long as verification would pass them.
 */
#include "listener/token_cache.h"

#include "unit.h"

#define NOW 1800000000

static A67TokenCache cache;

static A67TokenLook
look(const char *token, int64_t now_s)
{
	return (A67TokenLook){token, strlen(token), 7, now_s};
}

static bool
find(const char *token, int64_t now_s)
{
	A67TokenLook one = look(token, now_s);
	uint8_t node_id[16] = {0};
	bool found = a67_token_cache_find(&cache, &one, node_id);

	/* The first byte of a node is that of its token. */
	CHECK(!found || node_id[0] == (uint8_t) token[0]);
	return found;
}

static void
add(const char *token, int64_t now_s, int64_t exp)
{
	A67TokenLook one = look(token, now_s);
	uint8_t node_id[16] = {(uint8_t) token[0]};

	a67_token_cache_add(&cache, &one, exp, node_id);
}

static void
begin(uint32_t tokens)
{
	a67_token_cache_free(&cache);
	REQUIRE(a67_token_cache_init(&cache, tokens));
}

static void
what_was_added_is_found(void)
{
	begin(100);
	CHECK(!find("abc", NOW));
	add("abc", NOW, NOW + 10);
	CHECK(find("abc", NOW));
	CHECK(!find("abd", NOW));
	CHECK(!find("ab", NOW));
	CHECK(!find("abcd", NOW));
	CHECK(!find("", NOW));
}

static void
a_token_ends_at_its_expiry(void)
{
	begin(100);
	add("abc", NOW, NOW + 10);
	CHECK(find("abc", NOW + 9));
	CHECK(!find("abc", NOW + 10));
	add("late", NOW + 10, NOW + 10);
	CHECK(!find("late", NOW + 10));
}

static void
other_keys_empty_it(void)
{
	uint8_t node_id[16];
	A67TokenLook other = {"abc", 3, 8, NOW};

	begin(100);
	add("abc", NOW, NOW + 10);
	CHECK(!a67_token_cache_find(&cache, &other, node_id));
	/* The keys that come back are not those that verified it. */
	CHECK(!find("abc", NOW));
}

static void
other_keys_empty_it_on_adding(void)
{
	uint8_t node_id[16] = {'x'};
	A67TokenLook other = {"xyz", 3, 8, NOW};

	begin(100);
	add("abc", NOW, NOW + 10);
	a67_token_cache_add(&cache, &other, NOW + 10, node_id);
	CHECK(a67_token_cache_find(&cache, &other, node_id));
	other.token = "abc";
	CHECK(!a67_token_cache_find(&cache, &other, node_id));
}

/* A token may have a beginning as well, which only verification knows. */
static void
a_clock_that_goes_back_empties_it(void)
{
	begin(100);
	add("abc", NOW, NOW + 10);
	CHECK(!find("abc", NOW - 1));
	CHECK(!find("abc", NOW));
}

static void
it_is_bounded(void)
{
	char token[16];
	unsigned found = 0;

	begin(64);
	for (int i = 0; i < 10000; i++)
	{
		(void) snprintf(token, sizeof(token), "%c%d", 'a' + i % 26, i);
		add(token, NOW, NOW + 100 + i);
	}
	for (int i = 0; i < 10000; i++)
	{
		(void) snprintf(token, sizeof(token), "%c%d", 'a' + i % 26, i);
		found += find(token, NOW);
	}
	CHECK(found > 64 && found <= 128);
	/* The one that ends first makes room. */
	(void) snprintf(token, sizeof(token), "%c%d", 'a' + 9999 % 26, 9999);
	CHECK(find(token, NOW));
}

/* Twice the room: nearly every node of a full table has its place. */
static void
a_full_table_of_nodes_fits(void)
{
	char token[16];
	unsigned found = 0;

	begin(16384);
	for (int i = 0; i < 16384; i++)
	{
		(void) snprintf(token, sizeof(token), "%c%d", 'a' + i % 26, i);
		add(token, NOW, NOW + 100);
	}
	for (int i = 0; i < 16384; i++)
	{
		(void) snprintf(token, sizeof(token), "%c%d", 'a' + i % 26, i);
		found += find(token, NOW);
	}
	CHECK(found > 16384 * 95 / 100);
}

static void
keys_differ(void)
{
	A67TokenCache other;
	A67TokenLook one = look("abc", NOW);
	uint8_t node_id[16];

	begin(100);
	REQUIRE(a67_token_cache_init(&other, 100));
	CHECK(memcmp(cache.key, other.key, sizeof(cache.key)) != 0);
	a67_token_cache_free(&other);
	/* Without memory it knows nothing, and says so. */
	CHECK(!a67_token_cache_find(&other, &one, node_id));
	a67_token_cache_add(&other, &one, NOW + 1, node_id);
	CHECK(!a67_token_cache_find(&other, &one, node_id));
	a67_token_cache_free(&other);
	a67_token_cache_free(&cache);
}

UNIT_MAIN("token_cache", UNIT(what_was_added_is_found), UNIT(a_token_ends_at_its_expiry),
		  UNIT(other_keys_empty_it), UNIT(other_keys_empty_it_on_adding),
		  UNIT(a_clock_that_goes_back_empties_it), UNIT(it_is_bounded),
		  UNIT(a_full_table_of_nodes_fits), UNIT(keys_differ));
