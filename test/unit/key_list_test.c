/*
 * key_list_test.c - texts that hold keys, and texts that do not: nothing of those stays.
 */
#include "crypto/key_list.h"

#include <sodium.h>

#include "unit.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "BBBBBBBBBBBBBBBBbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define D "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
#define E "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

static A67KeyList *list;

static void
begin(void)
{
	if (sodium_init() < 0)
		abort();
	list = a67_key_list_make();
	if (list == NULL)
		abort();
}

static bool
parse(const char *text)
{
	return a67_key_list_parse(list, text, strlen(text), A67_KEY_FROM_FILE);
}

static void
texts_with_keys(void)
{
	static const struct
	{
		const char *text;
		uint32_t count;
	} cases[] = {
		{A, 1},
		{A "\n", 1},
		{"\n\t " A "\r\n", 1},
		{A "," B, 2},
		{A ";" B " " C "\n" D "\n", 4},
		{A "\n" A "\n", 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		begin();
		CHECK(parse(cases[i].text));
		CHECK_INT(list->count, cases[i].count);
		CHECK_INT(list->keys[0].key.key[0], 0xaa);
		CHECK_INT(list->keys[0].source, A67_KEY_FROM_FILE);
		a67_key_list_free(list);
	}
}

static void
texts_without(void)
{
	static const char *const texts[] = {
		"",
		" \n",
		"hello",
		A "0",
		A "\n" B "0\n",
		A B,
		A "\n#",
		"x" A,
		"0x" A,
		A "\n" C "\nz",
		A " " B " " C " " D " " E,
		"aaaa",
		"-" A,
	};
	static const uint8_t zeros[sizeof(A67SourcedKey) * A67_KEY_LIST_MAX];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		begin();
		CHECK(!parse(texts[i]));
		CHECK_INT(list->count, 0);
		CHECK(memcmp(list->keys, zeros, sizeof(list->keys)) == 0);
		a67_key_list_free(list);
	}
	begin();
	CHECK(!a67_key_list_parse(list, A "\0", 65, A67_KEY_FROM_FILE));
	a67_key_list_free(list);
}

static void
bad_text_takes_nothing_away(void)
{
	begin();
	CHECK(parse(A));
	CHECK(!parse(B " rubbish"));
	CHECK_INT(list->count, 1);
	CHECK_INT(list->keys[0].key.key[31], 0xaa);
	a67_key_list_free(list);
}

static void
first_source_counts(void)
{
	uint8_t key[A67_VAULT_KEY_BYTES];

	memset(key, 0xaa, sizeof(key));
	begin();
	CHECK(a67_key_list_add(list, key, A67_KEY_FROM_ENVIRONMENT));
	CHECK(parse(A "\n" C));
	CHECK_INT(list->count, 2);
	CHECK_INT(list->keys[0].source, A67_KEY_FROM_ENVIRONMENT);
	CHECK(a67_key_list_find(list, list->keys[1].key.id) == &list->keys[1]);
	CHECK(a67_key_list_find(list, key) == NULL);
	a67_key_list_free(list);
}

static void
a_list_is_bounded(void)
{
	uint8_t key[A67_VAULT_KEY_BYTES] = {0};

	begin();
	for (int i = 0; i < A67_KEY_LIST_MAX; i++)
	{
		key[0] = (uint8_t) i;
		CHECK(a67_key_list_add(list, key, A67_KEY_GIVEN));
	}
	key[0] = 0xff;
	CHECK(!a67_key_list_add(list, key, A67_KEY_GIVEN));
	CHECK(!parse(A));
	CHECK_INT(list->count, A67_KEY_LIST_MAX);
	a67_key_list_free(list);
}

UNIT_MAIN("key_list", UNIT(texts_with_keys), UNIT(texts_without), UNIT(bad_text_takes_nothing_away),
		  UNIT(first_source_counts), UNIT(a_list_is_bounded));
