/*
 * sealed_test.c - the format of sealed values: a round trip, the places of its parts, and every way to damage it.
 */
#include "crypto/sealed.h"

#include <sodium.h>

#include "unit.h"

#define TEXT "attack at dawn"
#define SIZE (sizeof(TEXT) - 1)

static const A67Associated place = {"table.column:1", 14};
static A67MasterKey master;
static A67MasterKey other;
static uint8_t data_key[A67_VAULT_KEY_BYTES];
static uint8_t box[A67_SEALED_OVERHEAD + SIZE];

static void
make_box(void)
{
	if (sodium_init() < 0)
		abort();
	memset(&master.key, 1, sizeof(master.key));
	memset(&other.key, 2, sizeof(other.key));
	a67_master_key_name(&master);
	a67_master_key_name(&other);
	memset(data_key, 3, sizeof(data_key));
	a67_sealed_wrap(&master, data_key, box);
	a67_sealed_encrypt(data_key, place, (const uint8_t *) TEXT, SIZE, box);
}

/* Both boxes of a value, in one go. */
static bool
opens(const A67MasterKey *key, A67Associated where, const uint8_t *sealed, size_t len)
{
	uint8_t found[A67_VAULT_KEY_BYTES];
	uint8_t out[SIZE + 64];

	return a67_sealed_unwrap(key, sealed, len, found) &&
		   a67_sealed_decrypt(found, where, sealed, len, out) && len == sizeof(box) &&
		   memcmp(out, TEXT, SIZE) == 0;
}

static void
round_trip(void)
{
	make_box();
	CHECK_INT(A67_SEALED_OVERHEAD, 121);
	CHECK_INT(box[0], 2);
	CHECK(memcmp(box + 1, master.id, sizeof(master.id)) == 0);
	CHECK(a67_sealed_key_id(box, sizeof(box)) == box + 1);
	CHECK(opens(&master, place, box, sizeof(box)));
}

static void
empty_value(void)
{
	uint8_t sealed[A67_SEALED_OVERHEAD];
	uint8_t found[A67_VAULT_KEY_BYTES];
	uint8_t out[1];

	make_box();
	a67_sealed_wrap(&master, data_key, sealed);
	a67_sealed_encrypt(data_key, place, NULL, 0, sealed);
	CHECK(a67_sealed_unwrap(&master, sealed, sizeof(sealed), found));
	CHECK(a67_sealed_decrypt(found, place, sealed, sizeof(sealed), out));
}

static void
ids_name_keys(void)
{
	A67MasterKey again = master;

	make_box();
	again = master;
	memset(again.id, 0, sizeof(again.id));
	a67_master_key_name(&again);
	CHECK(memcmp(again.id, master.id, sizeof(master.id)) == 0);
	CHECK(memcmp(other.id, master.id, sizeof(master.id)) != 0);
	CHECK(memcmp(master.id, master.key, sizeof(master.id)) != 0);
}

static void
never_the_same_twice(void)
{
	uint8_t first[sizeof(box)];

	make_box();
	memcpy(first, box, sizeof(box));
	make_box();
	CHECK(memcmp(first + 9, box + 9, 24) != 0);
	CHECK(memcmp(first + A67_SEALED_HEAD, box + A67_SEALED_HEAD, 24) != 0);
}

static void
no_flipped_bit_passes(void)
{
	make_box();
	for (size_t i = 0; i < sizeof(box); i++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			box[i] ^= (uint8_t) (1 << bit);
			CHECK(!opens(&master, place, box, sizeof(box)));
			box[i] ^= (uint8_t) (1 << bit);
		}
	}
	CHECK(opens(&master, place, box, sizeof(box)));
}

static void
no_other_length_passes(void)
{
	uint8_t longer[sizeof(box) + 1];

	make_box();
	for (size_t len = 0; len < sizeof(box); len++)
		CHECK(!opens(&master, place, box, len));
	memcpy(longer, box, sizeof(box));
	longer[sizeof(box)] = 0;
	CHECK(!opens(&master, place, longer, sizeof(longer)));
	CHECK(a67_sealed_key_id(box, A67_SEALED_OVERHEAD - 1) == NULL);
}

static void
place_and_key_bind(void)
{
	static const A67Associated elsewhere = {"table.column:2", 14};
	static const A67Associated shorter = {"table.column:", 13};
	A67MasterKey liar = other;

	make_box();
	CHECK(!opens(&master, elsewhere, box, sizeof(box)));
	CHECK(!opens(&master, shorter, box, sizeof(box)));
	CHECK(!opens(&other, place, box, sizeof(box)));
	/* Another key under the right name. */
	liar = other;
	memcpy(liar.id, master.id, sizeof(liar.id));
	CHECK(!opens(&liar, place, box, sizeof(box)));
}

static void
heads_do_not_mix(void)
{
	uint8_t mixed[sizeof(box)];
	uint8_t second_key[A67_VAULT_KEY_BYTES];

	make_box();
	memcpy(mixed, box, sizeof(box));
	memset(second_key, 4, sizeof(second_key));
	a67_sealed_wrap(&master, second_key, mixed);
	CHECK(!opens(&master, place, mixed, sizeof(mixed)));
}

static void
wrapped_anew(void)
{
	uint8_t found[A67_VAULT_KEY_BYTES];
	uint8_t tail[sizeof(box) - A67_SEALED_HEAD];

	make_box();
	memcpy(tail, box + A67_SEALED_HEAD, sizeof(tail));
	REQUIRE(a67_sealed_unwrap(&master, box, sizeof(box), found));
	a67_sealed_wrap(&other, found, box);
	CHECK(opens(&other, place, box, sizeof(box)));
	CHECK(!opens(&master, place, box, sizeof(box)));
	CHECK(memcmp(tail, box + A67_SEALED_HEAD, sizeof(tail)) == 0);
}

UNIT_MAIN("sealed", UNIT(round_trip), UNIT(empty_value), UNIT(ids_name_keys),
		  UNIT(never_the_same_twice), UNIT(no_flipped_bit_passes), UNIT(no_other_length_passes),
		  UNIT(place_and_key_bind), UNIT(heads_do_not_mix), UNIT(wrapped_anew));
