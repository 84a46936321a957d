/*
 * totp.h - one-time codes of RFC 6238, and the base32 that authenticator apps take their seeds in.
 *
 * Pure: OpenSSL's HMAC, no PostgreSQL. Which steps are accepted, and that none is accepted twice, is
 * decided by the caller: a step is a Unix time divided by the period. Called by totp_sql.c and unit tests.
 */
#ifndef A67_TOTP_H
#define A67_TOTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_TOTP_SECRET_MIN 16 /* bytes: the least that RFC 4226 allows */
#define A67_TOTP_SECRET_MAX 128
#define A67_TOTP_DIGITS_MIN 6
#define A67_TOTP_DIGITS_MAX 8

/* Room that base32 of n bytes needs, NUL included. */
#define A67_BASE32_SIZE(n)	((n) / 5 * 8 + ((n) % 5 * 8 + 4) / 5 + 1)

/*
 * The code of a step, to be shown with leading zeros. -1 when the secret's length or the number of digits is
 * out of bounds, or when HMAC-SHA-1 is not to be had.
 */
int32_t a67_totp(const uint8_t *secret, size_t len, uint64_t step, unsigned digits);

/* Writes RFC 4648 base32 in upper case without padding. False when out_size < A67_BASE32_SIZE(count). */
bool a67_base32_encode(const void *bytes, size_t count, char *out, size_t out_size);

#endif /* A67_TOTP_H */
