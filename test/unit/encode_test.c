/*
 * encode_test.c - base64url, hex and UUID text: RFC vectors, round trips, and everything refused.
 */
#include "core/encode.h"

#include "unit.h"

static void
base64url_vectors(void)
{
	static const struct
	{
		const char *plain;
		const char *coded;
	} vectors[] = {
		{"", ""},			{"f", "Zg"},		  {"fo", "Zm8"},		  {"foo", "Zm9v"},
		{"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xFB\xFF\xFE", "-__-"},
		{"\xFF", "_w"},
	};
	size_t i;

	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		char coded[16];
		char plain[16];
		size_t count = 99;

		CHECK(
			a67_base64url_encode(vectors[i].plain, strlen(vectors[i].plain), coded, sizeof(coded)));
		CHECK_STR(coded, vectors[i].coded);
		CHECK(a67_base64url_decode(coded, strlen(coded), plain, sizeof(plain), &count));
		CHECK_UINT(count, strlen(vectors[i].plain));
		CHECK_MEM(plain, vectors[i].plain, strlen(vectors[i].plain));
	}
}

/* Every length up to 64 in outputs of exactly the declared size, which the sanitizer watches. */
static void
base64url_round_trips_in_exact_room(void)
{
	uint8_t bytes[64];
	size_t count;

	for (count = 0; count < sizeof(bytes); count++)
	{
		size_t coded_size = A67_BASE64URL_SIZE(count);
		char *coded = malloc(coded_size);
		uint8_t *decoded = malloc(count + (count == 0));
		size_t decoded_count = 0;
		size_t i;

		REQUIRE(coded != NULL && decoded != NULL);
		for (i = 0; i < count; i++)
			bytes[i] = (uint8_t) (i * 37 + count * 11);
		CHECK(!a67_base64url_encode(bytes, count, coded, coded_size - 1));
		CHECK(a67_base64url_encode(bytes, count, coded, coded_size));
		CHECK_UINT(strlen(coded), coded_size - 1);
		CHECK_UINT(A67_BASE64URL_DECODED_SIZE(coded_size - 1), count);
		CHECK(a67_base64url_decode(coded, strlen(coded), decoded, count, &decoded_count));
		CHECK_UINT(decoded_count, count);
		CHECK_MEM(decoded, bytes, count);
		if (count > 0)
			CHECK(!a67_base64url_decode(coded, strlen(coded), decoded, count - 1, &decoded_count));
		free(coded);
		free(decoded);
	}
}

static void
base64url_refuses(void)
{
	static const char *const invalid[] = {
		"Zg==", "Zg=", "Z",	 "Zm9vY", "Zm 9v", "Zm9v\n", "Zm+v",	"Zm/v",
		"Zh",	"Zm9", "_x", "Zm.v",  "A",	   "AAAAA",	 "Zm9\xC3", "====",
	};
	uint8_t out[16];
	size_t count;
	size_t i;

	for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		CHECK(!a67_base64url_decode(invalid[i], strlen(invalid[i]), out, sizeof(out), &count));
	CHECK(!a67_base64url_decode("Zm\0v", 4, out, sizeof(out), &count));
	CHECK(!a67_base64url_encode("x", SIZE_MAX, (char *) out, sizeof(out)));
}

/* Every text of two digits either is refused or comes back as itself: one text for one value. */
static void
base64url_is_canonical(void)
{
	int first;
	int second;
	int accepted = 0;

	for (first = 0; first < 256; first++)
	{
		for (second = 0; second < 256; second++)
		{
			char text[3] = {(char) first, (char) second, 0};
			char again[3];
			uint8_t byte;
			size_t count;

			if (!a67_base64url_decode(text, 2, &byte, 1, &count))
				continue;
			accepted++;
			CHECK(a67_base64url_encode(&byte, 1, again, sizeof(again)));
			CHECK_MEM(again, text, 3);
		}
	}
	CHECK_INT(accepted, 256);
}

static void
hex_both_ways(void)
{
	static const uint8_t bytes[] = {0x00, 0x01, 0x7F, 0x80, 0xAB, 0xFF};
	char text[A67_HEX_SIZE(sizeof(bytes))];
	uint8_t again[sizeof(bytes)];

	CHECK(a67_hex_encode(bytes, sizeof(bytes), text, sizeof(text)));
	CHECK_STR(text, "00017f80abff");
	CHECK(a67_hex_decode("00017F80aBfF", 12, again, sizeof(again)));
	CHECK_MEM(again, bytes, sizeof(bytes));
	CHECK(a67_hex_encode("", 0, text, 1));
	CHECK_STR(text, "");
	CHECK(a67_hex_decode("", 0, again, 0));
}

static void
hex_refuses(void)
{
	char text[8];
	uint8_t out[4];

	CHECK(!a67_hex_encode("abcd", 4, text, sizeof(text)));
	CHECK(!a67_hex_encode("a", SIZE_MAX, text, sizeof(text)));
	CHECK(!a67_hex_decode("abc", 3, out, 1));
	CHECK(!a67_hex_decode("abc", 3, out, 2));
	CHECK(!a67_hex_decode("abcd", 4, out, 1));
	CHECK(!a67_hex_decode("abcd", 4, out, 3));
	CHECK(!a67_hex_decode("0g", 2, out, 1));
	CHECK(!a67_hex_decode("G0", 2, out, 1));
	CHECK(!a67_hex_decode(" 0", 2, out, 1));
	CHECK(!a67_hex_decode("0x", 2, out, 1));
	CHECK(!a67_hex_decode("/:", 2, out, 1));
	CHECK(!a67_hex_decode("@`", 2, out, 1));
}

static void
uuid_both_ways(void)
{
	static const uint8_t want[A67_UUID_BYTES] = {0x12, 0x3E, 0x45, 0x67, 0xE8, 0x9B, 0x12, 0xD3,
												 0xA4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00};
	uint8_t uuid[A67_UUID_BYTES];
	char text[A67_UUID_TEXT_SIZE];

	CHECK(a67_uuid_from_text("123e4567-e89b-12d3-a456-426614174000", 36, uuid));
	CHECK_MEM(uuid, want, sizeof(want));
	a67_uuid_to_text(uuid, text);
	CHECK_STR(text, "123e4567-e89b-12d3-a456-426614174000");
	CHECK(a67_uuid_from_text("123E4567-E89B-12D3-A456-426614174000", 36, uuid));
	CHECK_MEM(uuid, want, sizeof(want));
}

static void
uuid_refuses(void)
{
	static const char *const invalid[] = {
		"",
		"123e4567-e89b-12d3-a456-42661417400",
		"123e4567-e89b-12d3-a456-4266141740000",
		"123e4567e89b12d3a456426614174000",
		"{23e4567-e89b-12d3-a456-42661417400}",
		"123e4567_e89b-12d3-a456-426614174000",
		"123e456-7e89b-12d3-a456-426614174000",
		"123e4567-e89b-12d3-a456-42661417400g",
		"123e4567-e89b-12d3-a456 426614174000",
	};
	uint8_t uuid[A67_UUID_BYTES];
	size_t i;

	for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		CHECK(!a67_uuid_from_text(invalid[i], strlen(invalid[i]), uuid));
}

UNIT_MAIN("encode", UNIT(base64url_vectors), UNIT(base64url_round_trips_in_exact_room),
		  UNIT(base64url_refuses), UNIT(base64url_is_canonical), UNIT(hex_both_ways),
		  UNIT(hex_refuses), UNIT(uuid_both_ways), UNIT(uuid_refuses));
