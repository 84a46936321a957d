/*
 * totp_test.c - one-time codes and base32 against the vectors of their RFCs, and what must be refused.
 */
#include "crypto/totp.h"

#include "unit.h"

/* The secret of both RFCs' SHA-1 vectors. */
static const uint8_t secret[] = "12345678901234567890";

#define SECRET_LEN 20

/* RFC 4226, appendix D. */
static void
hotp_vectors(void)
{
	static const int32_t codes[] = {755224, 287082, 359152, 969429, 338314,
									254676, 287922, 162583, 399871, 520489};

	for (uint64_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		CHECK_INT(a67_totp(secret, SECRET_LEN, i, 6), codes[i]);
}

/* RFC 6238, appendix B. */
static void
totp_vectors(void)
{
	static const struct
	{
		uint64_t time_s;
		int32_t code;
	} cases[] = {
		{59, 94287082},			{1111111109, 7081804},	{1111111111, 14050471},
		{1234567890, 89005924}, {2000000000, 69279037}, {20000000000, 65353130},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CHECK_INT(a67_totp(secret, SECRET_LEN, cases[i].time_s / 30, 8), cases[i].code);
		CHECK_INT(a67_totp(secret, SECRET_LEN, cases[i].time_s / 30, 7), cases[i].code % 10000000);
		CHECK_INT(a67_totp(secret, SECRET_LEN, cases[i].time_s / 30, 6), cases[i].code % 1000000);
	}
}

/* Every byte of the counter counts. */
static void
whole_counter_is_used(void)
{
	int32_t first = a67_totp(secret, SECRET_LEN, 0, 8);

	for (unsigned bit = 0; bit < 64; bit++)
		CHECK(a67_totp(secret, SECRET_LEN, (uint64_t) 1 << bit, 8) != first);
	CHECK(a67_totp(secret, SECRET_LEN, UINT64_MAX, 8) >= 0);
}

static void
bounds_are_refused(void)
{
	static const uint8_t zeros[A67_TOTP_SECRET_MAX + 1];

	CHECK(a67_totp(zeros, A67_TOTP_SECRET_MIN, 1, 6) >= 0);
	CHECK(a67_totp(zeros, A67_TOTP_SECRET_MAX, 1, 6) >= 0);
	CHECK_INT(a67_totp(zeros, A67_TOTP_SECRET_MIN - 1, 1, 6), -1);
	CHECK_INT(a67_totp(zeros, A67_TOTP_SECRET_MAX + 1, 1, 6), -1);
	CHECK_INT(a67_totp(zeros, 0, 1, 6), -1);
	CHECK_INT(a67_totp(secret, SECRET_LEN, 1, 5), -1);
	CHECK_INT(a67_totp(secret, SECRET_LEN, 1, 9), -1);
	CHECK_INT(a67_totp(secret, SECRET_LEN, 1, UINT32_MAX), -1);
}

/* RFC 4648, section 10, without the padding; each in exactly the room it needs. */
static void
base32_vectors(void)
{
	static const char *const cases[][2] = {
		{"", ""},
		{"f", "MY"},
		{"fo", "MZXQ"},
		{"foo", "MZXW6"},
		{"foob", "MZXW6YQ"},
		{"fooba", "MZXW6YTB"},
		{"foobar", "MZXW6YTBOI"},
		{"12345678901234567890", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"},
		{"\xff\xff\xff\xff\xff\xff", "7777777774"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t len = strlen(cases[i][0]);
		size_t need = A67_BASE32_SIZE(len);
		char *out = malloc(need);

		REQUIRE(out != NULL);
		CHECK_UINT(need, strlen(cases[i][1]) + 1);
		CHECK(a67_base32_encode(cases[i][0], len, out, need));
		CHECK_STR(out, cases[i][1]);
		CHECK(!a67_base32_encode(cases[i][0], len, out, need - 1));
		free(out);
	}
	CHECK(!a67_base32_encode("", SIZE_MAX, NULL, SIZE_MAX));
}

UNIT_MAIN("totp", UNIT(hotp_vectors), UNIT(totp_vectors), UNIT(whole_counter_is_used),
		  UNIT(bounds_are_refused), UNIT(base32_vectors));
