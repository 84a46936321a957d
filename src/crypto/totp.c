/*
 * totp.c - HOTP's truncation of HMAC-SHA-1 (RFC 4226, section 5.3), and base32 text.
 *
 * SHA-1 because it is the only hash that all authenticator apps know; HMAC does not need its collision
 * resistance. libsodium has no SHA-1, hence OpenSSL. See totp.h for the contract.
 */
#include "crypto/totp.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define SHA1_BYTES 20

static const char base32_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static const uint32_t powers_of_ten[A67_TOTP_DIGITS_MAX + 1] = {
	1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000,
};

int32_t
a67_totp(const uint8_t *secret, size_t len, uint64_t step, unsigned digits)
{
	uint8_t counter[8];
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0;
	unsigned at;
	uint32_t code;

	if (len < A67_TOTP_SECRET_MIN || len > A67_TOTP_SECRET_MAX || digits < A67_TOTP_DIGITS_MIN ||
		digits > A67_TOTP_DIGITS_MAX)
		return -1;
	for (size_t i = 0; i < sizeof(counter); i++)
		counter[i] = (uint8_t) (step >> (56 - 8 * i));
	if (HMAC(EVP_sha1(), secret, (int) len, counter, sizeof(counter), mac, &mac_len) == NULL ||
		mac_len != SHA1_BYTES)
		return -1;
	at = mac[SHA1_BYTES - 1] & 0x0F;
	code = (uint32_t) (mac[at] & 0x7F) << 24 | (uint32_t) mac[at + 1] << 16 |
		   (uint32_t) mac[at + 2] << 8 | mac[at + 3];
	OPENSSL_cleanse(mac, sizeof(mac));
	return (int32_t) (code % powers_of_ten[digits]);
}

bool
a67_base32_encode(const void *bytes, size_t count, char *out, size_t out_size)
{
	const uint8_t *in = bytes;
	uint32_t bits = 0;
	unsigned bit_count = 0;

	/* The first test keeps the size below from wrapping. */
	if (count > SIZE_MAX / 4 || out_size < A67_BASE32_SIZE(count))
		return false;
	for (size_t i = 0; i < count; i++)
	{
		bits = (bits << 8) | in[i];
		for (bit_count += 8; bit_count >= 5; bit_count -= 5)
			*out++ = base32_digits[(bits >> (bit_count - 5)) & 0x1F];
	}
	if (bit_count > 0)
		*out++ = base32_digits[(bits << (5 - bit_count)) & 0x1F];
	*out = '\0';
	return true;
}
