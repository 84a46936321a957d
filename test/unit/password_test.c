/*
 * password_test.c - passwords hashed and checked, and texts that must not be taken for hashes.
 *
 * The golden hash was made by another implementation (the argon2 command of the reference library). Costs
 * are the least allowed, so that the sanitizers get through it soon.
 */
#include "crypto/password.h"

#include <sodium.h>
#include <time.h>

#include "unit.h"

static const A67PasswordCost least = {A67_PASSWORD_MEMORY_MIN, 1};

/* printf %s 'correct horse' | argon2 somesaltsomesalt -id -t 1 -k 8192 -p 1 -l 32 -e */
static const char golden[] = "$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$"
							 "+jQGvnLH9sd/RHpVFdneZ1pWEi8VDK30k/E/IE+o3IE";

static A67PasswordVerdict
check(const char *password, const char *hash)
{
	return a67_password_check(least, password, strlen(password), hash,
							  hash == NULL ? 0 : strlen(hash));
}

static void
prepare(void)
{
	int ready = sodium_init();

	REQUIRE(ready >= 0);
}

static void
round_trip(void)
{
	char hash[A67_PASSWORD_HASH_SIZE];
	char again[A67_PASSWORD_HASH_SIZE];

	prepare();
	REQUIRE(a67_password_hash(least, "correct horse", 13, hash));
	REQUIRE(a67_password_hash(least, "correct horse", 13, again));
	CHECK(strncmp(hash, "$argon2id$v=19$m=8192,t=1,p=1$", 30) == 0);
	CHECK(strcmp(hash, again) != 0);
	CHECK_INT(check("correct horse", hash), A67_PASSWORD_RIGHT);
	CHECK_INT(check("correct horse", again), A67_PASSWORD_RIGHT);
	CHECK_INT(check("correct hors", hash), A67_PASSWORD_WRONG);
	CHECK_INT(check("correct horse ", hash), A67_PASSWORD_WRONG);
	CHECK_INT(check("Correct horse", hash), A67_PASSWORD_WRONG);
}

static void
golden_hash_is_read(void)
{
	prepare();
	CHECK_INT(check("correct horse", golden), A67_PASSWORD_RIGHT);
	CHECK_INT(check("battery staple", golden), A67_PASSWORD_WRONG);
}

/* The cost in the hash counts, not the current one. */
static void
old_costs_are_read(void)
{
	static const A67PasswordCost dear = {A67_PASSWORD_MEMORY_MIN + 1024, 3};
	char hash[A67_PASSWORD_HASH_SIZE];

	prepare();
	REQUIRE(a67_password_hash(dear, "x", 1, hash));
	CHECK_INT(check("x", hash), A67_PASSWORD_RIGHT);
	CHECK(!a67_password_outdated(dear, hash, strlen(hash)));
	CHECK(a67_password_outdated(least, hash, strlen(hash)));
}

static void
outdated_is_another_cost(void)
{
	static const A67PasswordCost memory = {A67_PASSWORD_MEMORY_MIN + 1, 1};
	static const A67PasswordCost iterations = {A67_PASSWORD_MEMORY_MIN, 2};

	CHECK(!a67_password_outdated(least, golden, strlen(golden)));
	CHECK(a67_password_outdated(memory, golden, strlen(golden)));
	CHECK(a67_password_outdated(iterations, golden, strlen(golden)));
	CHECK(a67_password_outdated(least, golden, strlen(golden) - 1));
	CHECK(a67_password_outdated(least, "", 0));
	CHECK(a67_password_outdated(least, NULL, 0));
}

/* A hash is given in memory of exactly its size. */
static bool
is_hash(const char *text, size_t len)
{
	uint32_t memory_kb = 0;
	uint32_t iterations = 0;
	char *exact = malloc(len + (len == 0));
	bool found;

	memcpy(exact, text, len);
	/* Only a hash that was understood is ever of the right cost. */
	if (sscanf(text, "$argon2id$v=19$m=%" SCNu32 ",t=%" SCNu32, &memory_kb, &iterations) != 2)
		memory_kb = A67_PASSWORD_MEMORY_MIN;
	found = !a67_password_outdated((A67PasswordCost){memory_kb, iterations}, exact, len);
	free(exact);
	return found;
}

#define SALT   "AAAAAAAAAAAAAAAAAAAAAA"
#define DIGEST "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define TAIL   ",p=1$" SALT "$" DIGEST

static void
other_texts_are_no_hashes(void)
{
	static const char *const texts[] = {
		"",
		"$",
		"!",
		"*",
		"$argon2i$v=19$m=8192,t=1" TAIL,
		"$argon2d$v=19$m=8192,t=1" TAIL,
		"$argon2id$v=16$m=8192,t=1" TAIL,
		"$argon2id$m=8192,t=1" TAIL,
		"$argon2id$v=19$m=8191,t=1" TAIL,
		"$argon2id$v=19$m=1048577,t=1" TAIL,
		"$argon2id$v=19$m=4294967296,t=1" TAIL,
		"$argon2id$v=19$m=4294975488,t=1" TAIL,
		"$argon2id$v=19$m=08192,t=1" TAIL,
		"$argon2id$v=19$m=-8192,t=1" TAIL,
		"$argon2id$v=19$m= 8192,t=1" TAIL,
		"$argon2id$v=19$m=,t=1" TAIL,
		"$argon2id$v=19$m=8192,t=0" TAIL,
		"$argon2id$v=19$m=8192,t=11" TAIL,
		"$argon2id$v=19$m=8192,t=" TAIL,
		"$argon2id$v=19$m=8192,t=1,p=2$" SALT "$" DIGEST,
		"$argon2id$v=19$m=8192,t=1,p=1$" SALT "A$" DIGEST,
		"$argon2id$v=19$m=8192,t=1,p=1$" SALT "=$" DIGEST,
		"$argon2id$v=19$m=8192,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAB$" DIGEST,
		"$argon2id$v=19$m=8192,t=1,p=1$AAAAAAAAAAAAAAAAAAAA_A$" DIGEST,
		"$argon2id$v=19$m=8192,t=1" TAIL "=",
		"$argon2id$v=19$m=8192,t=1" TAIL "A",
		"$argon2id$v=19$m=8192,t=1" TAIL " ",
		"$2b$12$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	};

	CHECK(is_hash("$argon2id$v=19$m=8192,t=1" TAIL, sizeof("$argon2id$v=19$m=8192,t=1" TAIL) - 1));
	CHECK(is_hash("$argon2id$v=19$m=1048576,t=10" TAIL,
				  sizeof("$argon2id$v=19$m=1048576,t=10" TAIL) - 1));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(!is_hash(texts[i], strlen(texts[i])));
	for (size_t len = 0; len < strlen(golden); len++)
		CHECK(!is_hash(golden, len));
	CHECK(is_hash(golden, strlen(golden)));
}

/* Without its memory a check says so, whatever the hash; an impossible cost stands for it. */
static void
no_memory_is_no_verdict(void)
{
	static const A67PasswordCost impossible = {0, 1};
	char hash[A67_PASSWORD_HASH_SIZE];

	prepare();
	CHECK(!a67_password_hash(impossible, "x", 1, hash));
	CHECK_INT(a67_password_check(impossible, "x", 1, NULL, 0), A67_PASSWORD_NO_MEMORY);
	CHECK_INT(a67_password_check(impossible, "x", 1, golden, strlen(golden)), A67_PASSWORD_WRONG);
}

static double
cpu_s(const char *hash)
{
	clock_t before = clock();

	CHECK_INT(check("correct horse", hash), A67_PASSWORD_WRONG);
	return (double) (clock() - before) / CLOCKS_PER_SEC;
}

/* No hash, and no good hash, are wrong after the work of a good one. */
static void
unknown_costs_the_same(void)
{
	char hash[A67_PASSWORD_HASH_SIZE];
	double known = 1e9;
	double none = 1e9;
	double bad = 1e9;

	prepare();
	REQUIRE(a67_password_hash(least, "another", 7, hash));
	for (int i = 0; i < 5; i++)
	{
		known = fmin(known, cpu_s(hash));
		none = fmin(none, cpu_s(NULL));
		bad = fmin(bad, cpu_s("!"));
	}
	CHECK(none > known / 2 && none < known * 2);
	CHECK(bad > known / 2 && bad < known * 2);
}

UNIT_MAIN("password", UNIT(round_trip), UNIT(golden_hash_is_read), UNIT(old_costs_are_read),
		  UNIT(outdated_is_another_cost), UNIT(other_texts_are_no_hashes),
		  UNIT(no_memory_is_no_verdict), UNIT(unknown_costs_the_same));
