/*
 * appenv.c - a list of NAME=value.  See appenv.h.
 */
#include "appenv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "spawn.h"

static void
add_item(A67AppEnv *env, char *item)
{
	if (item == NULL || env->count == A67_APPENV_SLOTS)
	{
		env->failed = true;
		free(item);
		return;
	}
	env->items[env->count++] = item;
	env->items[env->count] = NULL;
}

/* Of its full size from the start: what grows leaves copies behind. */
static void
add(A67AppEnv *env, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 2;
	char *item = malloc(size);

	if (item != NULL)
		(void) snprintf(item, size, "%s=%s", name, value);
	add_item(env, item);
}

static void
add_number(A67AppEnv *env, const char *name, int64_t value)
{
	char number[32];

	(void) snprintf(number, sizeof(number), "%lld", (long long) value);
	add(env, name, number);
}

/* A default that the manifest may override. */
static void
add_default(A67AppEnv *env, const A67Env *given, const char *name, const char *value)
{
	if (given == NULL || (json_object_get(given->env, name) == NULL &&
						  json_object_get(given->secrets, name) == NULL))
		add(env, name, value);
}

static void
add_all(A67AppEnv *env, json_t *variables)
{
	const char *name;
	json_t *value;

	json_object_foreach(variables, name, value)
	{
		add(env, name, json_string_value(value));
	}
}

/* The marks come first: whoever looks for them in /proc reads the beginning only. */
void
a67_appenv_build(A67AppEnv *env, const A67AppFacts *facts)
{
	memset(env, 0, sizeof(*env));
	add(env, "A67_NODE_ID", facts->node_id);
	add(env, "A67_REPLICA", facts->replica);
	if (facts->pid_mark)
		add_item(env, strdup(A67_SPAWN_PID_MARK));
	if (facts->check)
		add_item(env, strdup(A67_CHECK_MARK));
	add(env, "A67_NODE", facts->node);
	add(env, "A67_DEPLOYMENT", facts->deployment);
	add_number(env, "A67_RELEASE", facts->release);
	add(env, "A67_PACKAGE", facts->digest);
	if (facts->secrets[0] != '\0')
		add(env, "A67_SECRETS_DIR", facts->secrets);
	add_number(env, "PORT", facts->port);
	add_default(env, facts->given, "PATH", "/usr/local/bin:/usr/bin:/bin");
	add_default(env, facts->given, "LANG", "C.UTF-8");
	add_default(env, facts->given, "HOME", facts->home);
	add_default(env, facts->given, "TMPDIR", facts->tmp);
	if (facts->given == NULL)
		return;
	add_all(env, facts->given->env);
	add_all(env, facts->given->secrets);
}

void
a67_appenv_free(A67AppEnv *env)
{
	for (size_t i = 0; i < env->count; i++)
	{
		sodium_memzero(env->items[i], strlen(env->items[i]));
		free(env->items[i]);
	}
	env->count = 0;
}
