/*
 * hash_test.c - MurmurHash3 x86_32 against the reference: published vectors, and the verification
 * value of SMHasher, which covers every tail length and 256 seeds at once.
 */
#include "core/hash.h"

#include "unit.h"

typedef struct Vector
{
	const char *bytes;
	size_t count;
	uint32_t seed;
	uint32_t hash;
} Vector;

static void
published_vectors(void)
{
	static const Vector vectors[] = {
		{"", 0, 0, 0},
		{"", 0, 1, 0x514E28B7},
		{"", 0, 0xFFFFFFFF, 0x81F16F39},
		{"\xFF\xFF\xFF\xFF", 4, 0, 0x76293B50},
		{"\x21\x43\x65\x87", 4, 0, 0xF55B516B},
		{"\x21\x43\x65\x87", 4, 0x5082EDEE, 0x2362F9DE},
		{"\x21\x43\x65", 3, 0, 0x7E4A8634},
		{"\x21\x43", 2, 0, 0xA0F7B07A},
		{"\x21", 1, 0, 0x72661CF4},
		{"\0\0\0\0", 4, 0, 0x2362F9DE},
		{"\0\0\0", 3, 0, 0x85F0B427},
		{"\0\0", 2, 0, 0x30F4C306},
		{"\0", 1, 0, 0x514E28B7},
		{"aaaa", 4, 0x9747B28C, 0x5A97808A},
		{"aaa", 3, 0x9747B28C, 0x283E0130},
		{"aa", 2, 0x9747B28C, 0x5D211726},
		{"a", 1, 0x9747B28C, 0x7FA09EA6},
		{"abcd", 4, 0x9747B28C, 0xF0478627},
		{"abc", 3, 0x9747B28C, 0xC84A62DD},
		{"ab", 2, 0x9747B28C, 0x74875592},
		{"Hello, world!", 13, 0x9747B28C, 0x24884CBA},
		{"The quick brown fox jumps over the lazy dog", 43, 0x9747B28C, 0x2FA826CD},
	};
	size_t i;

	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		CHECK_UINT(a67_murmur3(vectors[i].bytes, vectors[i].count, vectors[i].seed),
				   vectors[i].hash);
}

/* Keys {}, {0}, {0,1} ... {0..254} with seeds 256, 255 ... 1; then a hash over all the hashes. */
static void
smhasher_verification_value(void)
{
	uint8_t key[256];
	uint8_t hashes[256 * 4];
	unsigned i;

	for (i = 0; i < 256; i++)
	{
		uint32_t hash;
		unsigned byte;

		key[i] = (uint8_t) i;
		hash = a67_murmur3(key, i, 256 - i);
		for (byte = 0; byte < 4; byte++)
			hashes[4 * i + byte] = (uint8_t) (hash >> (8 * byte));
	}
	CHECK_UINT(a67_murmur3(hashes, sizeof(hashes), 0), 0xB0F57EE3);
}

static void
alignment_does_not_matter(void)
{
	static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	char shifted[sizeof(text) + 8];
	size_t offset;
	size_t count;

	for (offset = 0; offset < 8; offset++)
	{
		memcpy(shifted + offset, text, sizeof(text));
		for (count = 0; count < sizeof(text); count++)
			CHECK_UINT(a67_murmur3(shifted + offset, count, 7), a67_murmur3(text, count, 7));
	}
}

/* The sanitizer would see a read past the end of a block of exactly the key's size. */
static void
reads_nothing_past_the_end(void)
{
	size_t count;

	CHECK_UINT(a67_murmur3(NULL, 0, 1), 0x514E28B7);
	for (count = 1; count < 16; count++)
	{
		char *exact = malloc(count);

		REQUIRE(exact != NULL);
		memset(exact, 'x', count);
		CHECK_UINT(a67_murmur3(exact, count, 0), a67_murmur3("xxxxxxxxxxxxxxxx", count, 0));
		free(exact);
	}
}

static void
zero_bytes_count(void)
{
	CHECK(a67_murmur3("a\0", 2, 0) != a67_murmur3("a", 1, 0));
	CHECK(a67_murmur3("a\0b", 3, 0) != a67_murmur3("a\0c", 3, 0));
}

UNIT_MAIN("hash", UNIT(published_vectors), UNIT(smhasher_verification_value),
		  UNIT(alignment_does_not_matter), UNIT(reads_nothing_past_the_end),
		  UNIT(zero_bytes_count));
