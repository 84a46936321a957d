/*
 * sealed_env.c - opening a sealed environment.  See sealed_env.h.
 */
#include "sealed_env.h"

#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "identity.h"

#define NAME_MAX_BYTES 255

static void
wiping_free(void *memory)
{
	if (memory != NULL)
		sodium_memzero(memory, malloc_usable_size(memory));
	free(memory);
}

void
a67_env_wipe_json(void)
{
	json_set_alloc_funcs(malloc, wiping_free);
}

static bool
good_name(const char *name)
{
	if (!isalpha((unsigned char) name[0]) && name[0] != '_')
		return false;
	for (const char *c = name; *c != '\0'; c++)
	{
		if (!isalnum((unsigned char) *c) && *c != '_')
			return false;
	}
	return strlen(name) <= NAME_MAX_BYTES && strcmp(name, "PORT") != 0 &&
		   strncmp(name, "A67_", 4) != 0;
}

/* An object of at most A67_ENV_MAX strings with good names, none of which is in other. */
static bool
good_variables(json_t *object, json_t *other)
{
	const char *name;
	json_t *value;

	if (!json_is_object(object) || json_object_size(object) > A67_ENV_MAX)
		return false;
	json_object_foreach(object, name, value)
	{
		if (!good_name(name) || !json_is_string(value) || json_object_get(other, name) != NULL)
			return false;
	}
	return true;
}

static int
read_document(json_t *doc, const char *replica, A67Env *env, A67Why *why)
{
	const char *id = json_string_value(json_object_get(doc, "replica"));

	if (id != NULL && strcmp(id, replica) != 0)
		return a67_why(why, -EBADMSG, "sealed_env was made for another replica");
	env->env = json_object_get(doc, "env");
	env->secrets = json_object_get(doc, "secrets");
	if (id == NULL || json_object_size(doc) != 3 || !good_variables(env->env, NULL) ||
		!good_variables(env->secrets, env->env))
		return a67_why(why, -EBADMSG, "sealed_env holds no environment");
	return 0;
}

/* The box that the text stands for; NULL when it is no base64. */
static uint8_t *
decode(const char *sealed, size_t *len)
{
	size_t size = strlen(sealed) / 4 * 3 + 3;
	uint8_t *box = malloc(size);

	if (box != NULL && sodium_base642bin(box, size, sealed, strlen(sealed), NULL, len, NULL,
										 sodium_base64_VARIANT_ORIGINAL) == 0)
		return box;
	free(box);
	return NULL;
}

static int
open_box(const A67StateDir *dir, const uint8_t *box, size_t len, json_t **doc, A67Why *why)
{
	size_t plain_len = len - crypto_box_SEALBYTES;
	uint8_t *plain = malloc(plain_len + 1);
	int err;

	if (plain == NULL)
		return a67_why(why, -ENOMEM, "out of memory");
	err = a67_identity_unseal(dir, box, len, plain, why);
	/* The parser's own complaint would quote the text. */
	if (err == 0)
		*doc = json_loadb((const char *) plain, plain_len, JSON_REJECT_DUPLICATES, NULL);
	sodium_memzero(plain, plain_len);
	free(plain);
	return err;
}

int
a67_env_open(const A67StateDir *dir, const char *sealed, const char *replica, A67Env *env,
			 A67Why *why)
{
	size_t len = 0;
	uint8_t *box = decode(sealed, &len);
	int err;

	memset(env, 0, sizeof(*env));
	if (box == NULL || len <= crypto_box_SEALBYTES)
		err = a67_why(why, -EBADMSG, "sealed_env is not sealed");
	else
		err = open_box(dir, box, len, &env->doc, why);
	free(box);
	if (err == 0)
		err = read_document(env->doc, replica, env, why);
	if (err != 0)
		a67_env_close(env);
	return err;
}

void
a67_env_close(A67Env *env)
{
	json_decref(env->doc);
	memset(env, 0, sizeof(*env));
}
