/*
 * encode.c - base64url, hexadecimal and UUID text; see encode.h for the contract.
 *
 * Digit values are computed by range, not by table lookups of the input, so there is no table to
 * keep in step with the alphabet.
 */
#include "encode.h"

static const char base64url_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char hex_digits[] = "0123456789abcdef";

static int
base64url_value(char digit)
{
	if (digit >= 'A' && digit <= 'Z')
		return digit - 'A';
	if (digit >= 'a' && digit <= 'z')
		return digit - 'a' + 26;
	if (digit >= '0' && digit <= '9')
		return digit - '0' + 52;
	if (digit == '-')
		return 62;
	return digit == '_' ? 63 : -1;
}

static int
hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

bool
a67_base64url_encode(const void *bytes, size_t count, char *out, size_t out_size)
{
	const uint8_t *in = bytes;
	uint32_t bits = 0;
	unsigned bit_count = 0;
	size_t i;

	/* The first test keeps the size below from wrapping. */
	if (count > SIZE_MAX / 2 || out_size < A67_BASE64URL_SIZE(count))
		return false;
	for (i = 0; i < count; i++)
	{
		bits = (bits << 8) | in[i];
		for (bit_count += 8; bit_count >= 6; bit_count -= 6)
			*out++ = base64url_digits[(bits >> (bit_count - 6)) & 0x3F];
	}
	if (bit_count > 0)
		*out++ = base64url_digits[(bits << (6 - bit_count)) & 0x3F];
	*out = '\0';
	return true;
}

bool
a67_base64url_decode(const char *text, size_t count, void *out, size_t out_size, size_t *out_count)
{
	uint8_t *to = out;
	uint32_t bits = 0;
	unsigned bit_count = 0;
	size_t i;

	if (count % 4 == 1 || out_size < A67_BASE64URL_DECODED_SIZE(count))
		return false;
	for (i = 0; i < count; i++)
	{
		int value = base64url_value(text[i]);

		if (value < 0)
			return false;
		bits = (bits << 6) | (uint32_t) value;
		bit_count += 6;
		if (bit_count >= 8)
		{
			bit_count -= 8;
			*to++ = (uint8_t) (bits >> bit_count);
		}
	}
	if ((bits & ((1U << bit_count) - 1)) != 0)
		return false;
	*out_count = A67_BASE64URL_DECODED_SIZE(count);
	return true;
}

bool
a67_hex_encode(const void *bytes, size_t count, char *out, size_t out_size)
{
	const uint8_t *in = bytes;
	size_t i;

	if (count > SIZE_MAX / 4 || out_size < A67_HEX_SIZE(count))
		return false;
	for (i = 0; i < count; i++)
	{
		*out++ = hex_digits[in[i] >> 4];
		*out++ = hex_digits[in[i] & 0x0F];
	}
	*out = '\0';
	return true;
}

bool
a67_hex_decode(const char *text, size_t count, void *out, size_t out_count)
{
	uint8_t *to = out;
	size_t i;

	if (count % 2 != 0 || count / 2 != out_count)
		return false;
	for (i = 0; i < out_count; i++)
	{
		int high = hex_value(text[2 * i]);
		int low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		to[i] = (uint8_t) (high << 4 | low);
	}
	return true;
}

/* Whether a dash stands before this byte of a UUID. */
static bool
dash_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void
a67_uuid_to_text(const uint8_t uuid[A67_UUID_BYTES], char out[A67_UUID_TEXT_SIZE])
{
	size_t i;

	for (i = 0; i < A67_UUID_BYTES; i++)
	{
		if (dash_before(i))
			*out++ = '-';
		*out++ = hex_digits[uuid[i] >> 4];
		*out++ = hex_digits[uuid[i] & 0x0F];
	}
	*out = '\0';
}

bool
a67_uuid_from_text(const char *text, size_t count, uint8_t out[A67_UUID_BYTES])
{
	size_t i;

	if (count != A67_UUID_TEXT_SIZE - 1)
		return false;
	for (i = 0; i < A67_UUID_BYTES; i++)
	{
		if (dash_before(i) && *text++ != '-')
			return false;
		if (!a67_hex_decode(text, 2, out + i, 1))
			return false;
		text += 2;
	}
	return true;
}
