/*
 * desired.c - validation of a desired state: one table of fields per object.  See desired.h.
 */
#include "desired.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES	  255
#define PATH_MAX_BYTES	  2000
#define WORD_MAX_BYTES	  8192
#define VERSION_MAX_BYTES 64
#define INTERVAL_MIN_MS	  100
#define INTERVAL_MAX_MS	  3600000
#define GRACE_MAX_MS	  600000
#define RETRIES_MAX		  20

typedef bool (*Reader)(A67Desired *desired, json_t *value, A67Why *why);

typedef struct Field
{
	const char *name; /* as in a complaint: "health_check.path" */
	Reader read;
	bool required;
} Field;

static bool
complain(A67Why *why, const char *field, const char *want)
{
	(void) a67_why(why, -EINVAL, "field \"%s\" must be %s", field, want);
	return false;
}

static bool
read_integer(json_t *value, int64_t min, int64_t max, int64_t *out)
{
	if (!json_is_integer(value) || json_integer_value(value) < min ||
		json_integer_value(value) > max)
		return false;
	*out = json_integer_value(value);
	return true;
}

static bool
read_small(json_t *value, int min, int max, int *out)
{
	int64_t number = 0;

	if (!read_integer(value, min, max, &number))
		return false;
	*out = (int) number;
	return true;
}

/* A string of 1..max bytes without control characters. */
static const char *
plain_text(json_t *value, size_t max)
{
	const char *text = json_string_value(value);

	if (text == NULL || text[0] == '\0' || json_string_length(value) > max)
		return NULL;
	for (const char *c = text; *c != '\0'; c++)
	{
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			return NULL;
	}
	return text;
}

/* An absolute path that can stand in a request line. */
static const char *
url_path(json_t *value)
{
	const char *text = plain_text(value, PATH_MAX_BYTES);

	if (text == NULL || text[0] != '/')
		return NULL;
	for (const char *c = text; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= 0x20 || (unsigned char) *c >= 0x7f || *c == '#')
			return NULL;
	}
	return text;
}

static bool
read_object(A67Desired *desired, json_t *value, const Field *fields, const char *prefix,
			A67Why *why)
{
	const char *key;
	json_t *member;
	size_t skip = strlen(prefix);

	json_object_foreach(value, key, member)
	{
		const Field *field = fields;

		while (field->name != NULL && strcmp(field->name + skip, key) != 0)
			field++;
		if (field->name == NULL)
		{
			(void) a67_why(why, -EINVAL, "unknown field \"%s%.100s\"", prefix, key);
			return false;
		}
		if (!field->required && json_is_null(member))
			continue;
		if (!field->read(desired, member, why))
			return false;
	}
	for (; fields->name != NULL; fields++)
	{
		if (fields->required && json_object_get(value, fields->name + skip) == NULL)
		{
			(void) a67_why(why, -EINVAL, "field \"%s\" is missing", fields->name);
			return false;
		}
	}
	return true;
}

static bool
read_generation(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_integer(value, 0, INT64_MAX, &desired->generation) ||
		   complain(why, "generation", "an integer from 0");
}

static bool
read_deployment(A67Desired *desired, json_t *value, A67Why *why)
{
	desired->deployment = plain_text(value, NAME_MAX_BYTES);
	return desired->deployment != NULL || complain(why, "deployment", "a name");
}

static bool
read_release(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_integer(value, 0, INT64_MAX, &desired->release) ||
		   complain(why, "release", "an integer from 0");
}

static bool
read_app_type(A67Desired *desired, json_t *value, A67Why *why)
{
	const char *name = json_string_value(value);

	if (name != NULL && strcmp(name, "backend") == 0)
		desired->app_type = A67_APP_BACKEND;
	else if (name != NULL && strcmp(name, "worker") == 0)
		desired->app_type = A67_APP_WORKER;
	else
		return complain(why, "app_type", "\"backend\" or \"worker\"");
	return true;
}

static bool
read_digest(A67Desired *desired, json_t *value, A67Why *why)
{
	const char *text = json_string_value(value);

	if (text == NULL || json_string_length(value) != A67_DIGEST_SIZE - 1 ||
		strspn(text, "0123456789abcdef") != A67_DIGEST_SIZE - 1)
		return complain(why, "package.digest", "64 lower-case hex digits");
	desired->digest = text;
	return true;
}

static bool
read_package_path(A67Desired *desired, json_t *value, A67Why *why)
{
	desired->package_path = url_path(value);
	return desired->package_path != NULL ||
		   complain(why, "package.path", "an absolute path without blanks");
}

static const Field package_fields[] = {
	{"package.digest", read_digest, true},
	{"package.path", read_package_path, true},
	{NULL, NULL, false},
};

static bool
read_package(A67Desired *desired, json_t *value, A67Why *why)
{
	if (!json_is_object(value))
		return complain(why, "package", "an object");
	return read_object(desired, value, package_fields, "package.", why);
}

static bool
read_entrypoint(A67Desired *desired, json_t *value, A67Why *why)
{
	size_t count = json_array_size(value);

	if (!json_is_array(value) || count < 1 || count > A67_ARGV_MAX)
		return complain(why, "entrypoint", "an array of 1 to 64 strings");
	for (size_t i = 0; i < count; i++)
	{
		json_t *word = json_array_get(value, i);

		if (!json_is_string(word) || json_string_length(word) > WORD_MAX_BYTES ||
			(i == 0 && json_string_length(word) == 0))
			return complain(why, "entrypoint", "an array of strings, the first not empty");
	}
	desired->entrypoint = value;
	return true;
}

static bool
read_sealed_env(A67Desired *desired, json_t *value, A67Why *why)
{
	if (!json_is_string(value) || json_string_length(value) == 0)
		return complain(why, "sealed_env", "a string in base64");
	desired->sealed_env = json_incref(value);
	return true;
}

static bool
read_env_version(A67Desired *desired, json_t *value, A67Why *why)
{
	desired->env_version = plain_text(value, VERSION_MAX_BYTES);
	return desired->env_version != NULL || complain(why, "env_version", "a version");
}

static bool
read_change(A67Desired *desired, json_t *value, A67Why *why)
{
	static const struct
	{
		const char *name;
		int number;
	} ways[] = {{"restart", A67_CHANGE_RESTART},
				{"none", A67_CHANGE_NONE},
				{"SIGHUP", SIGHUP},
				{"SIGUSR1", SIGUSR1},
				{"SIGUSR2", SIGUSR2}};
	const char *name = json_string_value(value);

	for (size_t i = 0; name != NULL && i < sizeof(ways) / sizeof(ways[0]); i++)
	{
		if (strcmp(name, ways[i].name) == 0)
		{
			desired->change_signal = ways[i].number;
			return true;
		}
	}
	return complain(why, "on_secret_change",
					"\"restart\", \"SIGHUP\", \"SIGUSR1\", \"SIGUSR2\" or \"none\"");
}

static bool
read_health_path(A67Desired *desired, json_t *value, A67Why *why)
{
	desired->health_path = url_path(value);
	return desired->health_path != NULL ||
		   complain(why, "health_check.path", "an absolute path without blanks");
}

static bool
read_health_interval(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_small(value, INTERVAL_MIN_MS, INTERVAL_MAX_MS, &desired->health_interval_ms) ||
		   complain(why, "health_check.interval_ms", "an integer from 100 to 3600000");
}

static bool
read_health_timeout(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_small(value, INTERVAL_MIN_MS, INTERVAL_MAX_MS, &desired->health_timeout_ms) ||
		   complain(why, "health_check.timeout_ms", "an integer from 100 to 3600000");
}

static bool
read_health_retries(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_small(value, 1, RETRIES_MAX, &desired->health_retries) ||
		   complain(why, "health_check.retries", "an integer from 1 to 20");
}

static const Field health_fields[] = {
	{"health_check.path", read_health_path, false},
	{"health_check.interval_ms", read_health_interval, false},
	{"health_check.timeout_ms", read_health_timeout, false},
	{"health_check.retries", read_health_retries, false},
	{NULL, NULL, false},
};

static bool
read_health(A67Desired *desired, json_t *value, A67Why *why)
{
	if (!json_is_object(value))
		return complain(why, "health_check", "an object");
	return read_object(desired, value, health_fields, "health_check.", why);
}

static bool
read_memory(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_integer(value, 0, INT64_C(1) << 50, &desired->memory_bytes) ||
		   complain(why, "resources.memory_bytes", "an integer from 0");
}

static bool
read_cpu(A67Desired *desired, json_t *value, A67Why *why)
{
	if (!json_is_number(value) || json_number_value(value) < 0 || json_number_value(value) > 1e6)
		return complain(why, "resources.cpu", "a number from 0");
	desired->cpu = json_number_value(value);
	return true;
}

static const Field resource_fields[] = {
	{"resources.memory_bytes", read_memory, false},
	{"resources.cpu", read_cpu, false},
	{NULL, NULL, false},
};

static bool
read_resources(A67Desired *desired, json_t *value, A67Why *why)
{
	if (!json_is_object(value))
		return complain(why, "resources", "an object");
	return read_object(desired, value, resource_fields, "resources.", why);
}

static bool
read_grace(A67Desired *desired, json_t *value, A67Why *why)
{
	return read_small(value, 0, GRACE_MAX_MS, &desired->stop_grace_ms) ||
		   complain(why, "stop_grace_ms", "an integer from 0 to 600000");
}

static const Field desired_fields[] = {
	{"generation", read_generation, true},
	{"deployment", read_deployment, true},
	{"release", read_release, true},
	{"app_type", read_app_type, true},
	{"package", read_package, true},
	{"entrypoint", read_entrypoint, true},
	{"sealed_env", read_sealed_env, false},
	{"env_version", read_env_version, false},
	{"on_secret_change", read_change, false},
	{"health_check", read_health, false},
	{"resources", read_resources, false},
	{"stop_grace_ms", read_grace, false},
	{NULL, NULL, false},
};

/* A version of nothing makes no sense. */
static bool
check_env(const A67Desired *desired, A67Why *why)
{
	if (desired->env_version == NULL || desired->sealed_env != NULL)
		return true;
	(void) a67_why(why, -EINVAL, "field \"sealed_env\" is missing");
	return false;
}

A67Desired *
a67_desired_from_json(const json_t *doc, A67Why *why)
{
	A67Desired *desired = calloc(1, sizeof(*desired));

	if (desired != NULL)
		desired->doc = json_deep_copy(doc);
	if (desired == NULL || desired->doc == NULL)
	{
		free(desired);
		(void) a67_why(why, -ENOMEM, "out of memory");
		return NULL;
	}
	desired->health_interval_ms = 10000;
	desired->health_timeout_ms = 2000;
	desired->health_retries = 3;
	desired->stop_grace_ms = 10000;
	desired->change_signal = A67_CHANGE_RESTART;
	if (!json_is_object(desired->doc))
	{
		(void) a67_why(why, -EINVAL, "the body must be a JSON object");
		a67_desired_free(desired);
		return NULL;
	}
	if (!read_object(desired, desired->doc, desired_fields, "", why) || !check_env(desired, why))
	{
		a67_desired_free(desired);
		return NULL;
	}
	(void) json_object_del(desired->doc, "generation");
	(void) json_object_del(desired->doc, "sealed_env");
	return desired;
}

A67Desired *
a67_desired_parse(const char *text, size_t len, A67Why *why)
{
	json_error_t error;
	json_t *doc;
	A67Desired *desired;

	if (len > A67_DESIRED_MAX_BYTES)
	{
		(void) a67_why(why, -EFBIG, "the body is longer than %d bytes", A67_DESIRED_MAX_BYTES);
		return NULL;
	}
	doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (doc == NULL)
	{
		(void) a67_why(why, -EINVAL, "the body is not JSON: %s at byte %d", error.text,
					   error.position);
		return NULL;
	}
	desired = a67_desired_from_json(doc, why);
	json_decref(doc);
	return desired;
}

void
a67_desired_free(A67Desired *desired)
{
	if (desired == NULL)
		return;
	json_decref(desired->sealed_env);
	json_decref(desired->doc);
	free(desired);
}

json_t *
a67_desired_json(const A67Desired *desired)
{
	json_t *doc = json_copy(desired->doc);

	if (doc != NULL && desired->sealed_env != NULL &&
		json_object_set(doc, "sealed_env", desired->sealed_env) != 0)
	{
		json_decref(doc);
		return NULL;
	}
	return doc;
}

static bool
same(const A67Desired *a, const A67Desired *b, json_t *a_doc, json_t *b_doc)
{
	return (a->sealed_env == NULL) == (b->sealed_env == NULL) && json_equal(a_doc, b_doc) != 0;
}

bool
a67_desired_same(const A67Desired *a, const A67Desired *b)
{
	return same(a, b, a->doc, b->doc);
}

bool
a67_desired_same_but_secrets(const A67Desired *a, const A67Desired *b)
{
	json_t *a_doc = json_copy(a->doc);
	json_t *b_doc = json_copy(b->doc);
	bool equal;

	(void) json_object_del(a_doc, "env_version");
	(void) json_object_del(b_doc, "env_version");
	equal = same(a, b, a_doc, b_doc);
	json_decref(a_doc);
	json_decref(b_doc);
	return equal;
}
