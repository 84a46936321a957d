/*
 * password.h - passwords hashed with Argon2id, and checked against what was stored.
 *
 * Pure: libsodium, no PostgreSQL. Nothing throws; each call takes cost.memory_kb of memory for its own
 * duration and keeps no copy of the password. The caller must have called sodium_init() once in the process.
 * Called by password_sql.c and by unit tests.
 */
#ifndef A67_PASSWORD_H
#define A67_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/settings.h"

#define A67_PASSWORD_MAX	   1024 /* bytes */
#define A67_PASSWORD_HASH_SIZE 128	/* room for any hash, NUL included */

/* What one guess costs; within the limits of the settings. */
typedef struct A67PasswordCost
{
	uint32_t memory_kb;
	uint32_t iterations;
} A67PasswordCost;

typedef enum A67PasswordVerdict
{
	A67_PASSWORD_RIGHT,
	A67_PASSWORD_WRONG,
	A67_PASSWORD_NO_MEMORY /* nothing is known about the password */
} A67PasswordVerdict;

/*
 * Writes the hash with a fresh salt, in the usual text form "$argon2id$v=19$m=…,t=…,p=1$salt$hash".
 * False when there is not enough memory.
 */
bool a67_password_hash(A67PasswordCost cost, const char *password, size_t len,
					   char out[A67_PASSWORD_HASH_SIZE]);

/*
 * Compares a password with a hash. A hash that a67_password_hash could not have made, and none (NULL), are
 * never right; either takes the time of a hash of the given cost, so that the caller's answer does not tell
 * by its time which users exist. The cost of a good hash is its own.
 */
A67PasswordVerdict a67_password_check(A67PasswordCost cost, const char *password, size_t len,
									  const char *hash, size_t hash_len);

/* Whether a hash should be made anew: it has another cost, or is none of ours. */
bool a67_password_outdated(A67PasswordCost cost, const char *hash, size_t hash_len);

#endif /* A67_PASSWORD_H */
