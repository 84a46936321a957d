/*
 * desired.c - validation of a desired state: one table of fields per object.  See desired.h.
 */
#include "desired.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES		255
#define PATH_MAX_BYTES		2000
#define WORD_MAX_BYTES		8192
#define VERSION_MAX_BYTES	64
#define INTERVAL_MIN_MS		100
#define INTERVAL_MAX_MS		86400000
#define GRACE_MAX_MS		600000
#define RETRIES_MAX			99
#define URL_PATH			"an absolute path without blanks"
#define BYTES_MAX			(INT64_C(1) << 50)
#define PIDS_MAX			4194304
#define LONG_MAX_MS			INT64_C(604800000) /* a week: deadlines and runs */
#define DEADLINE_DEFAULT_MS 60000

typedef struct Field Field;

typedef bool (*Reader)(A67Desired *desired, json_t *value, const Field *field, A67Why *why);

/* One member of an object, and where its value goes for the readers that serve several. */
struct Field
{
	const char *name; /* as in a complaint: "health_check.path" */
	Reader read;
	bool required;
	size_t at;				  /* of an int64_t, an int or an enumeration in A67Desired */
	int64_t min, max;		  /* of an integer */
	const char *const *names; /* of an enumeration, in its order; NULL ends them */
	const char *wanted;		  /* what a complaint asks for; NULL: the bounds */
};

static bool
complain(A67Why *why, const Field *field)
{
	if (field->wanted != NULL)
		(void) a67_why(why, -EINVAL, "field \"%s\" must be %s", field->name, field->wanted);
	else if (field->max == INT64_MAX)
		(void) a67_why(why, -EINVAL, "field \"%s\" must be an integer from %lld", field->name,
					   (long long) field->min);
	else
		(void) a67_why(why, -EINVAL, "field \"%s\" must be an integer from %lld to %lld",
					   field->name, (long long) field->min, (long long) field->max);
	return false;
}

static bool
read_big(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < field->min || number > field->max)
		return complain(why, field);
	*(int64_t *) ((char *) desired + field->at) = number;
	return true;
}

static bool
read_int(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < field->min || number > field->max)
		return complain(why, field);
	*(int *) ((char *) desired + field->at) = (int) number;
	return true;
}

static bool
read_choice(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	const char *name = json_string_value(value);

	for (int i = 0; name != NULL && field->names[i] != NULL; i++)
	{
		if (strcmp(name, field->names[i]) == 0)
		{
			*(unsigned int *) ((char *) desired + field->at) = (unsigned int) i;
			return true;
		}
	}
	return complain(why, field);
}

#define BIG(field, member, least, most)                                                        \
	{                                                                                          \
		.name = (field), .read = read_big, .at = offsetof(A67Desired, member), .min = (least), \
		.max = (most)                                                                          \
	}
#define BYTES(field, member)                                                                     \
	{                                                                                            \
		.name = (field), .read = read_big, .at = offsetof(A67Desired, member), .max = BYTES_MAX, \
		.wanted = "an integer from 0"                                                            \
	}
#define INTEGER(field, member, least, most)                                                    \
	{                                                                                          \
		.name = (field), .read = read_int, .at = offsetof(A67Desired, member), .min = (least), \
		.max = (most)                                                                          \
	}
#define CHOICE(field, member, list, want)                                                          \
	{                                                                                              \
		.name = (field), .read = read_choice, .at = offsetof(A67Desired, member), .names = (list), \
		.wanted = (want)                                                                           \
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
		if (!field->read(desired, member, field, why))
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
read_deployment(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	desired->deployment = plain_text(value, NAME_MAX_BYTES);
	return desired->deployment != NULL || complain(why, field);
}

static bool
read_digest(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	const char *text = json_string_value(value);

	if (text == NULL || json_string_length(value) != A67_DIGEST_SIZE - 1 ||
		strspn(text, "0123456789abcdef") != A67_DIGEST_SIZE - 1)
		return complain(why, field);
	desired->digest = text;
	return true;
}

static bool
read_package_path(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	desired->package_path = url_path(value);
	return desired->package_path != NULL || complain(why, field);
}

static const Field package_fields[] = {
	{.name = "package.digest",
	 .read = read_digest,
	 .required = true,
	 .wanted = "64 lower-case hex digits"},
	{.name = "package.path", .read = read_package_path, .required = true, .wanted = URL_PATH},
	{.name = NULL},
};

static bool
read_package(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	if (!json_is_object(value))
		return complain(why, field);
	return read_object(desired, value, package_fields, "package.", why);
}

/* An array of strings that can be the arguments of a program, the first of them its name. */
static bool
is_argv(json_t *value)
{
	if (!json_is_array(value) || json_array_size(value) > A67_ARGV_MAX)
		return false;
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		json_t *word = json_array_get(value, i);

		if (!json_is_string(word) || json_string_length(word) > WORD_MAX_BYTES ||
			(i == 0 && json_string_length(word) == 0))
			return false;
	}
	return true;
}

static bool
read_entrypoint(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	desired->entrypoint = value;
	return is_argv(value) || complain(why, field);
}

static bool
read_sealed_env(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	if (!json_is_string(value) || json_string_length(value) == 0)
		return complain(why, field);
	desired->sealed_env = json_incref(value);
	return true;
}

static bool
read_env_version(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	desired->env_version = plain_text(value, VERSION_MAX_BYTES);
	return desired->env_version != NULL || complain(why, field);
}

static bool
read_change(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	static const int ways[] = {A67_CHANGE_RESTART, A67_CHANGE_NONE, SIGHUP, SIGUSR1, SIGUSR2};

	if (!read_choice(desired, value, field, why))
		return false;
	desired->change_signal = ways[desired->change_signal];
	return true;
}

static bool
read_health_path(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	desired->health_path = url_path(value);
	return desired->health_path != NULL || complain(why, field);
}

/* False says as much as nothing. */
static bool
read_health_tcp(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	if (json_is_true(value))
		desired->health = A67_HEALTH_TCP;
	return json_is_boolean(value) || complain(why, field);
}

static bool
read_health_command(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	desired->health_command = value;
	return (is_argv(value) && json_array_size(value) > 0) || complain(why, field);
}

static const Field health_fields[] = {
	{.name = "health_check.path", .read = read_health_path, .wanted = URL_PATH},
	{.name = "health_check.tcp", .read = read_health_tcp, .wanted = "true"},
	{.name = "health_check.command",
	 .read = read_health_command,
	 .wanted = "an array of 1 to 64 strings, the first not empty"},
	INTEGER("health_check.interval_ms", health_interval_ms, INTERVAL_MIN_MS, INTERVAL_MAX_MS),
	INTEGER("health_check.timeout_ms", health_timeout_ms, INTERVAL_MIN_MS, INTERVAL_MAX_MS),
	INTEGER("health_check.retries", health_retries, 1, RETRIES_MAX),
	{.name = NULL},
};

static bool
read_health(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	if (!json_is_object(value))
		return complain(why, field);
	return read_object(desired, value, health_fields, "health_check.", why);
}

static bool
read_cpu(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	if (!json_is_number(value) || json_number_value(value) < 0 || json_number_value(value) > 1e6)
		return complain(why, field);
	desired->cpu = json_number_value(value);
	return true;
}

static const Field resource_fields[] = {
	BYTES("resources.memory_bytes", memory_bytes),
	{.name = "resources.cpu", .read = read_cpu, .wanted = "a number from 0"},
	BYTES("resources.disk_bytes", disk_bytes),
	BIG("resources.pids", pids, 0, PIDS_MAX),
	{.name = NULL},
};

static bool
read_resources(A67Desired *desired, json_t *value, const Field *field, A67Why *why)
{
	if (!json_is_object(value))
		return complain(why, field);
	return read_object(desired, value, resource_fields, "resources.", why);
}

static const char *const app_types[] = {"backend", "worker", "cron", NULL};
static const char *const runners[] = {"process", "container", NULL};
static const char *const runtimes[] = {"executable", "python", "node", "static", NULL};
static const char *const changes[] = {"restart", "none", "SIGHUP", "SIGUSR1", "SIGUSR2", NULL};
static const char *const partition_rules[] = {"continue", "stop", NULL};

static const Field desired_fields[] = {
	{.name = "generation",
	 .read = read_big,
	 .required = true,
	 .at = offsetof(A67Desired, generation),
	 .max = INT64_MAX},
	{.name = "deployment", .read = read_deployment, .required = true, .wanted = "a name"},
	{.name = "release",
	 .read = read_big,
	 .required = true,
	 .at = offsetof(A67Desired, release),
	 .max = INT64_MAX},
	{.name = "app_type",
	 .read = read_choice,
	 .required = true,
	 .at = offsetof(A67Desired, app_type),
	 .names = app_types,
	 .wanted = "\"backend\", \"worker\" or \"cron\""},
	CHOICE("runner", runner, runners, "\"process\" or \"container\""),
	CHOICE("runtime", runtime, runtimes, "\"executable\", \"python\", \"node\" or \"static\""),
	{.name = "package", .read = read_package, .required = true, .wanted = "an object"},
	{.name = "entrypoint",
	 .read = read_entrypoint,
	 .wanted = "an array of at most 64 strings, the first not empty"},
	{.name = "sealed_env", .read = read_sealed_env, .wanted = "a string in base64"},
	{.name = "env_version", .read = read_env_version, .wanted = "a version"},
	{.name = "on_secret_change",
	 .read = read_change,
	 .at = offsetof(A67Desired, change_signal),
	 .names = changes,
	 .wanted = "\"restart\", \"SIGHUP\", \"SIGUSR1\", \"SIGUSR2\" or \"none\""},
	{.name = "health_check", .read = read_health, .wanted = "an object"},
	{.name = "resources", .read = read_resources, .wanted = "an object"},
	INTEGER("stop_grace_ms", stop_grace_ms, 0, GRACE_MAX_MS),
	CHOICE("on_partition", on_partition, partition_rules, "\"continue\" or \"stop\""),
	BIG("partition_deadline_ms", partition_deadline_ms, INTERVAL_MIN_MS, LONG_MAX_MS),
	BIG("run_timeout_ms", run_timeout_ms, 0, LONG_MAX_MS),
	{.name = NULL},
};

/* Each kind of app and of health check by itself; a backend without any is asked for a connection. */
static bool
choose_health(A67Desired *desired, A67Why *why)
{
	bool tcp = desired->health == A67_HEALTH_TCP;
	int kinds = (desired->health_path != NULL) + (desired->health_command != NULL) + tcp;

	if (kinds > 1)
	{
		(void) a67_why(why, -EINVAL,
					   "field \"health_check\" must have one of path, tcp and command");
		return false;
	}
	if (desired->health_path != NULL)
		desired->health = A67_HEALTH_HTTP;
	else if (desired->health_command != NULL)
		desired->health = A67_HEALTH_COMMAND;
	else if (tcp || desired->app_type == A67_APP_BACKEND)
		desired->health = A67_HEALTH_TCP;
	else
		desired->health = A67_HEALTH_ALIVE;
	return true;
}

/* What no field can say by itself. */
static bool
check_whole(const A67Desired *desired, A67Why *why)
{
	size_t words = json_array_size(desired->entrypoint);

	if (words == 0 && desired->runtime != A67_RUNTIME_STATIC)
		(void) a67_why(why, -EINVAL,
					   desired->entrypoint == NULL ? "field \"entrypoint\" is missing"
												   : "field \"entrypoint\" must not be empty");
	else if (words > 1 && desired->runtime == A67_RUNTIME_STATIC)
		(void) a67_why(why, -EINVAL, "field \"entrypoint\" must name one directory at most");
	else if (desired->runtime == A67_RUNTIME_STATIC && desired->app_type != A67_APP_BACKEND)
		(void) a67_why(why, -EINVAL, "field \"app_type\" must be \"backend\" for static files");
	else if (desired->env_version != NULL && desired->sealed_env == NULL)
		(void) a67_why(why, -EINVAL, "field \"sealed_env\" is missing");
	else
		return true;
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
	desired->partition_deadline_ms = DEADLINE_DEFAULT_MS;
	if (!json_is_object(desired->doc))
	{
		(void) a67_why(why, -EINVAL, "the body must be a JSON object");
		a67_desired_free(desired);
		return NULL;
	}
	if (!read_object(desired, desired->doc, desired_fields, "", why) ||
		!choose_health(desired, why) || !check_whole(desired, why))
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
