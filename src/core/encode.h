/*
 * encode.h - bytes to text and back: base64url, hexadecimal, UUID.
 *
 * Pure functions over caller's memory. Encoders write a NUL after the text. Decoders are strict:
 * exactly one text is accepted for a value (apart from the case of hex digits), so a decoded
 * token or digest can be compared and signed safely. A false return leaves the output
 * unspecified. Used for tokens, digests and ids by the HTTP engine, the agent, crypto and SQL
 * faces.
 */
#ifndef A67_ENCODE_H
#define A67_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_UUID_BYTES				  16
#define A67_UUID_TEXT_SIZE			  37 /* 36 characters and a NUL */

/*
 * Room that the encoders need for n bytes, NUL included, and that the decoder needs for n
 * characters.
 */
#define A67_BASE64URL_SIZE(n)		  ((n) / 3 * 4 + ((n) % 3 != 0 ? (n) % 3 + 1 : 0) + 1)
#define A67_BASE64URL_DECODED_SIZE(n) ((n) / 4 * 3 + ((n) % 4 > 1 ? (n) % 4 - 1 : 0))
#define A67_HEX_SIZE(n)				  ((n) *2 + 1)

/* Writes RFC 4648 base64url without padding.  False when out_size < A67_BASE64URL_SIZE(count). */
bool a67_base64url_encode(const void *bytes, size_t count, char *out, size_t out_size);

/*
 * Reads base64url. False for padding, a foreign character, an impossible length, trailing bits
 * that are not zero, or too small an output. *out_count is set on success.
 */
bool a67_base64url_decode(const char *text, size_t count, void *out, size_t out_size,
						  size_t *out_count);

/* Writes lower-case hex.  False when out_size < A67_HEX_SIZE(count). */
bool a67_hex_encode(const void *bytes, size_t count, char *out, size_t out_size);

/* Reads hex of either case into exactly out_count bytes; false unless count is 2 * out_count. */
bool a67_hex_decode(const char *text, size_t count, void *out, size_t out_count);

/* Writes the 8-4-4-4-12 form in lower case. */
void a67_uuid_to_text(const uint8_t uuid[A67_UUID_BYTES], char out[A67_UUID_TEXT_SIZE]);

/* Reads the 8-4-4-4-12 form, either case; no braces, no other grouping. */
bool a67_uuid_from_text(const char *text, size_t count, uint8_t out[A67_UUID_BYTES]);

#endif /* A67_ENCODE_H */
