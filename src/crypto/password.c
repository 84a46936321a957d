/*
 * password.c - Argon2id over a password, and the text form of its result.
 *
 * A hash is taken apart here instead of by crypto_pwhash_str_verify(), which answers the same for a wrong
 * password and for too little memory: a user would be locked out because the machine is short of it. Only
 * what a67_password_hash writes is taken for a hash, within the limits of the settings, so that a stored one
 * cannot ask for unbounded time or memory. See password.h for the contract.
 */
#include "crypto/password.h"

#include <sodium.h>
#include <string.h>

#define SALT_BYTES	crypto_pwhash_argon2id_SALTBYTES
#define HASH_BYTES	32
#define SALT_DIGITS 22 /* base64 without padding */
#define HASH_DIGITS 43

_Static_assert(A67_PASSWORD_HASH_SIZE == crypto_pwhash_argon2id_STRBYTES, "size of a hash");

/* A hash taken apart. */
typedef struct Argon2
{
	A67PasswordCost cost;
	uint8_t salt[SALT_BYTES];
	uint8_t hash[HASH_BYTES];
} Argon2;

/* The rest of a text that is being read. */
typedef struct Reader
{
	const char *at;
	size_t left;
} Reader;

static bool
take_literal(Reader *reader, const char *literal)
{
	size_t len = strlen(literal);

	if (reader->left < len || memcmp(reader->at, literal, len) != 0)
		return false;
	reader->at += len;
	reader->left -= len;
	return true;
}

/* A decimal number from 1 to most, without leading zeros; most is at most a tenth of what fits. */
static bool
take_number(Reader *reader, uint32_t most, uint32_t *out)
{
	uint32_t value = 0;

	while (reader->left > 0 && *reader->at >= '0' && *reader->at <= '9')
	{
		value = value * 10 + (uint32_t) (*reader->at - '0');
		if (value == 0 || value > most)
			return false;
		reader->at++;
		reader->left--;
	}
	*out = value;
	return value > 0;
}

static bool
take_base64(Reader *reader, size_t digits, uint8_t *out, size_t count)
{
	size_t decoded;

	if (reader->left < digits ||
		sodium_base642bin(out, count, reader->at, digits, NULL, &decoded, NULL,
						  sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0 ||
		decoded != count)
		return false;
	reader->at += digits;
	reader->left -= digits;
	return true;
}

static bool
parse(const char *text, size_t len, Argon2 *out)
{
	Reader reader = {text, len};

	return text != NULL && take_literal(&reader, "$argon2id$v=19$m=") &&
		   take_number(&reader, A67_PASSWORD_MEMORY_MAX, &out->cost.memory_kb) &&
		   out->cost.memory_kb >= A67_PASSWORD_MEMORY_MIN && take_literal(&reader, ",t=") &&
		   take_number(&reader, A67_PASSWORD_ITERATIONS_MAX, &out->cost.iterations) &&
		   take_literal(&reader, ",p=1$") &&
		   take_base64(&reader, SALT_DIGITS, out->salt, sizeof(out->salt)) &&
		   take_literal(&reader, "$") &&
		   take_base64(&reader, HASH_DIGITS, out->hash, sizeof(out->hash)) && reader.left == 0;
}

bool
a67_password_hash(A67PasswordCost cost, const char *password, size_t len,
				  char out[A67_PASSWORD_HASH_SIZE])
{
	return crypto_pwhash_str_alg(out, password, len, cost.iterations,
								 (size_t) cost.memory_kb * 1024, crypto_pwhash_ALG_ARGON2ID13) == 0;
}

A67PasswordVerdict
a67_password_check(A67PasswordCost cost, const char *password, size_t len, const char *hash,
				   size_t hash_len)
{
	Argon2 stored;
	uint8_t computed[HASH_BYTES];
	bool known = parse(hash, hash_len, &stored);
	bool same;

	if (!known)
		stored = (Argon2){.cost = cost};
	if (crypto_pwhash(computed, sizeof(computed), password, len, stored.salt,
					  stored.cost.iterations, (size_t) stored.cost.memory_kb * 1024,
					  crypto_pwhash_ALG_ARGON2ID13) != 0)
		return A67_PASSWORD_NO_MEMORY;
	same = sodium_memcmp(computed, stored.hash, sizeof(computed)) == 0;
	sodium_memzero(computed, sizeof(computed));
	return known && same ? A67_PASSWORD_RIGHT : A67_PASSWORD_WRONG;
}

bool
a67_password_outdated(A67PasswordCost cost, const char *hash, size_t hash_len)
{
	Argon2 stored;

	return !parse(hash, hash_len, &stored) || stored.cost.memory_kb != cost.memory_kb ||
		   stored.cost.iterations != cost.iterations;
}
