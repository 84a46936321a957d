/*
 * agent_env_test.c - sealed environments: what is opened, and that nothing else is: forged, cut, changed, made
 * for another replica or node, or no environment.  And the files of secrets.
 */
#include "sealed_env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "identity.h"
#include "secrets.h"
#include "unit.h"

#define ID	  "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
#define OTHER "6ba7b810-9dad-41d1-80b4-00c04fd430c9"
#define NODE  "6ba7b810-9dad-41d1-80b4-00c04fd430ff"
#define GOOD                                                 \
	"{\"replica\":\"" ID "\",\"env\":{\"GREETING\":\"hi\"}," \
	"\"secrets\":{\"PASSWORD\":\"s3cret \xe2\x82\xac\"}}"

static char folder[64];
static A67Identity identity;

static A67StateDir
open_dir(void)
{
	A67StateDir dir;
	A67Why why = {""};

	a67_log_set_level(A67_LOG_ERROR);
	(void) snprintf(folder, sizeof(folder), "/tmp/a67-env-XXXXXX");
	if (sodium_init() < 0 || mkdtemp(folder) == NULL ||
		a67_statedir_open(&dir, folder, 0, &why) != 0 ||
		a67_identity_load(&dir, &identity, &why) != 0)
	{
		printf("# %s\n", why.text);
		abort();
	}
	return dir;
}

static void
close_dir(A67StateDir *dir)
{
	static const char *const parts[] = {"replicas", "apps", "cache", "logs", "node.key", "lock"};
	char path[128];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		(void) a67_trash_put(dir, parts[i]);
	while (a67_trash_step(dir, 1000))
		continue;
	a67_statedir_close(dir);
	(void) snprintf(path, sizeof(path), "%s/trash", folder);
	CHECK_INT(rmdir(path), 0);
	CHECK_INT(rmdir(folder), 0);
}

/* What the controller makes of the text, for the node with this key; free() it. */
static char *
seal(const char *text, const uint8_t ed25519[crypto_sign_PUBLICKEYBYTES])
{
	uint8_t key[crypto_box_PUBLICKEYBYTES];
	size_t len = strlen(text) + crypto_box_SEALBYTES;
	size_t size = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_ORIGINAL);
	uint8_t *box = malloc(len);
	char *out = malloc(size);

	if (box == NULL || out == NULL || crypto_sign_ed25519_pk_to_curve25519(key, ed25519) != 0)
		abort();
	(void) crypto_box_seal(box, (const uint8_t *) text, strlen(text), key);
	(void) sodium_bin2base64(out, size, box, len, sodium_base64_VARIANT_ORIGINAL);
	free(box);
	return out;
}

/* Whether the text is refused as it should be: -EBADMSG, a complaint without a word of the content. */
static bool
refused(const A67StateDir *dir, const char *sealed)
{
	A67Env env;
	A67Why why = {""};
	int err = a67_env_open(dir, sealed, ID, &env, &why);

	if (err == 0)
		a67_env_close(&env);
	return err == -EBADMSG && env.doc == NULL && why.text[0] != '\0' &&
		   strstr(why.text, "s3cret") == NULL && strstr(why.text, "PASSWORD") == NULL;
}

/* Seals for this node, which then refuses it. */
static bool
content_refused(const A67StateDir *dir, const char *text)
{
	char *sealed = seal(text, identity.public_key);
	bool answer = refused(dir, sealed);

	free(sealed);
	return answer;
}

static void
what_was_sealed_for_it_opens(void)
{
	A67StateDir dir = open_dir();
	char *sealed = seal(GOOD, identity.public_key);
	A67Env env;
	A67Why why;

	REQUIRE(a67_env_open(&dir, sealed, ID, &env, &why) == 0);
	CHECK_STR(json_string_value(json_object_get(env.env, "GREETING")), "hi");
	CHECK_STR(json_string_value(json_object_get(env.secrets, "PASSWORD")), "s3cret \xe2\x82\xac");
	a67_env_close(&env);
	CHECK(env.doc == NULL && env.secrets == NULL);
	a67_env_close(&env);
	free(sealed);
	close_dir(&dir);
}

static void
another_replica_or_node_cannot_open_it(void)
{
	A67StateDir dir = open_dir();
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
	uint8_t secret[crypto_sign_SECRETKEYBYTES];
	char *mine = seal(GOOD, identity.public_key);
	char *foreign;
	A67Env env;
	A67Why why;

	CHECK_INT(a67_env_open(&dir, mine, OTHER, &env, &why), -EBADMSG);
	CHECK_STR(why.text, "sealed_env was made for another replica");
	(void) crypto_sign_keypair(public_key, secret);
	foreign = seal(GOOD, public_key);
	CHECK(refused(&dir, foreign));
	/* The key of the node is made anew: what was sealed for the old one stays closed. */
	CHECK_INT(unlinkat(dir.fd, "node.key", 0), 0);
	CHECK_INT(a67_env_open(&dir, mine, ID, &env, &why), -ENOENT);
	CHECK_INT(a67_identity_load(&dir, &identity, &why), 0);
	CHECK(refused(&dir, mine));
	free(mine);
	free(foreign);
	close_dir(&dir);
}

static void
cut_and_changed_texts_are_refused(void)
{
	A67StateDir dir = open_dir();
	char *sealed = seal(GOOD, identity.public_key);
	size_t len = strlen(sealed);

	for (size_t i = 0; i < len; i++)
	{
		char kept = sealed[i];

		sealed[i] = '\0';
		CHECK(refused(&dir, sealed));
		/* Bits of the last character before the padding may not count: a strict decoder says no. */
		sealed[i] = kept == 'A' ? 'B' : 'A';
		CHECK(refused(&dir, sealed));
		sealed[i] = kept;
	}
	CHECK(refused(&dir, "not base64 at all"));
	CHECK(refused(&dir, "===="));
	free(sealed);
	close_dir(&dir);
}

static void
forged_boxes_hold_no_environment(void)
{
	/* Anybody who knows the public key can seal; what is inside is checked all the same. */
	static const char *const texts[] = {
		"",
		"s3cret",
		"[]",
		"{}",
		"{\"replica\":\"" ID "\"}",
		"{\"replica\":\"" ID "\",\"env\":{}}",
		"{\"replica\":1,\"env\":{},\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":[],\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":{\"A\":1},\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":{\"A=B\":\"\"},\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":{\"\":\"\"},\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":{\"PORT\":\"1\"},\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":{},\"secrets\":{\"A67_REPLICA\":\"x\"}}",
		"{\"replica\":\"" ID "\",\"env\":{},\"secrets\":{\"../x\":\"x\"}}",
		"{\"replica\":\"" ID "\",\"env\":{\"A\":\"\"},\"secrets\":{\"A\":\"s3cret\"}}",
		"{\"replica\":\"" ID "\",\"env\":{},\"secrets\":{},\"more\":1}",
		"{\"replica\":\"" ID "\",\"env\":{},\"env\":{},\"secrets\":{}}",
		"{\"replica\":\"" ID "\",\"env\":{},\"secrets\":{\"A\":\"\\u0000\"}}",
		GOOD " ]",
	};
	A67StateDir dir = open_dir();

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(content_refused(&dir, texts[i]));
	close_dir(&dir);
}

/* ---- files ---- */

static bool
file_is(const char *path, const char *name, const char *want)
{
	char whole[A67_SECRETS_PATH_SIZE + 64];
	char text[64] = "";
	struct stat st;
	int fd;
	ssize_t n;

	(void) snprintf(whole, sizeof(whole), "%s/%s", path, name);
	fd = open(whole, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void) close(fd);
	return n == (ssize_t) strlen(want) && memcmp(text, want, strlen(want)) == 0 &&
		   (st.st_mode & 07777) == 0600;
}

static json_t *
one_secret(const char *value)
{
	return json_pack("{s:s,s:s}", "PASSWORD", value, "EMPTY", "");
}

static void
write_files(const char *path, const char *value)
{
	json_t *secrets = one_secret(value);
	A67Why why;

	CHECK_INT(a67_secrets_write(path, secrets, &why), 0);
	json_decref(secrets);
}

static void
files_are_private_replaced_and_removed(void)
{
	A67StateDir dir = open_dir();
	A67SecretsPlace place = {&dir, NODE, ID, 0};
	char path[A67_SECRETS_PATH_SIZE];
	struct stat st;
	A67Why why;

	REQUIRE(a67_secrets_choose(&place, 1000, path, &why) == 0);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 07777) == 0700);
	write_files(path, "one");
	CHECK(file_is(path, "PASSWORD", "one") && file_is(path, "EMPTY", ""));
	write_files(path, "another");
	CHECK(file_is(path, "PASSWORD", "another"));
	CHECK(!file_is(path, ".PASSWORD", "another"));
	a67_secrets_remove(path);
	CHECK(stat(path, &st) != 0);
	/* Whatever cleared the place, the next value gets there. */
	write_files(path, "third");
	CHECK(file_is(path, "PASSWORD", "third"));
	a67_secrets_remove(path);
	a67_secrets_remove(path);
	a67_secrets_remove("");
	close_dir(&dir);
}

static void
places_of_others_are_passed_over(void)
{
	A67StateDir dir = open_dir();
	A67SecretsPlace place = {&dir, NODE, ID, 0};
	char path[A67_SECRETS_PATH_SIZE];
	A67Why why;

	(void) unsetenv("XDG_RUNTIME_DIR");
	/* Somebody was there first: a directory that is open to others, then a link. */
	REQUIRE(mkdir("/dev/shm/a67-" NODE, 0777) == 0 && chmod("/dev/shm/a67-" NODE, 0777) == 0);
	CHECK_INT(a67_secrets_choose(&place, 1000, path, &why), 0);
	CHECK(strncmp(path, dir.path, strlen(dir.path)) == 0);
	CHECK_INT(rmdir("/dev/shm/a67-" NODE), 0);
	CHECK_INT(symlink(folder, "/dev/shm/a67-" NODE), 0);
	CHECK_INT(a67_secrets_choose(&place, 1000, path, &why), 0);
	CHECK(strncmp(path, dir.path, strlen(dir.path)) == 0);
	CHECK_INT(unlink("/dev/shm/a67-" NODE), 0);
	/* No room in memory. */
	CHECK_INT(a67_secrets_choose(&place, SIZE_MAX / 4, path, &why), 0);
	CHECK(strncmp(path, dir.path, strlen(dir.path)) == 0);
	write_files(path, "on disk");
	CHECK(file_is(path, "PASSWORD", "on disk"));
	a67_secrets_remove(path);
	close_dir(&dir);
}

static bool
keep_none(void *arg, const char *path)
{
	(*(int *) arg)++;
	return false;
}

static void
sweep_removes_what_nobody_keeps(void)
{
	A67StateDir dir = open_dir();
	A67SecretsPlace place = {&dir, NODE, ID, 0};
	char path[A67_SECRETS_PATH_SIZE];
	int asked = 0;
	A67Why why;

	REQUIRE(a67_secrets_choose(&place, 1000, path, &why) == 0);
	write_files(path, "left");
	a67_secrets_sweep(OTHER, keep_none, &asked);
	CHECK(file_is(path, "PASSWORD", "left") && asked == 0);
	a67_secrets_sweep(NODE, keep_none, &asked);
	CHECK(!file_is(path, "PASSWORD", "left") && asked == 1);
	close_dir(&dir);
}

UNIT_MAIN("agent_env", UNIT(what_was_sealed_for_it_opens),
		  UNIT(another_replica_or_node_cannot_open_it), UNIT(cut_and_changed_texts_are_refused),
		  UNIT(forged_boxes_hold_no_environment), UNIT(files_are_private_replaced_and_removed),
		  UNIT(places_of_others_are_passed_over), UNIT(sweep_removes_what_nobody_keeps));
