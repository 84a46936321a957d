/*
 * beat.c: heartbeats by jansson; see beat.h.
 *
 * Reads only what the live table keeps. Memory is jansson's, bounded by the body limit and released
 * before return. Must not include utils/builtins.h: postgres has a json_object of its own.
 */
#include "postgres.h"

#include "listener/beat.h"

#include <jansson.h>
#include <math.h>

static const char *const known_fields[] = {
	"boot_id", "seq", "state_version", "status", "metrics", "replicas",
};

static bool
only_known_fields(json_t *body)
{
	const char *key;
	json_t *value;

	json_object_foreach(body, key, value)
	{
		bool known = false;

		for (int i = 0; i < (int) lengthof(known_fields) && !known; i++)
			known = strcmp(key, known_fields[i]) == 0;
		if (!known)
			return false;
	}
	return true;
}

static bool
take_integer(json_t *object, const char *name, int64 *value)
{
	json_t *number = json_object_get(object, name);

	if (!json_is_integer(number))
		return false;
	*value = json_integer_value(number);
	return true;
}

static float
real_or_nan(json_t *object, const char *name)
{
	json_t *number = json_object_get(object, name);

	return json_is_number(number) ? (float) json_number_value(number) : NAN;
}

static int64
integer_or_none(json_t *object, const char *name)
{
	int64 value;

	return take_integer(object, name, &value) && value >= 0 ? value : -1;
}

static void
read_metrics(json_t *metrics, A67NodeMetrics *out)
{
	int64 active = integer_or_none(metrics, "active_requests");

	out->cpu_percent = real_or_nan(metrics, "cpu_percent");
	out->memory_percent = real_or_nan(metrics, "memory_percent");
	out->disk_percent = real_or_nan(metrics, "disk_percent");
	out->load1 = real_or_nan(metrics, "load1");
	out->memory_free_bytes = integer_or_none(metrics, "memory_free_bytes");
	out->memory_total_bytes = integer_or_none(metrics, "memory_total_bytes");
	out->uptime_s = integer_or_none(metrics, "uptime_s");
	out->active_requests = active <= PG_INT32_MAX ? (int32) active : -1;
}

static bool
read_beat(json_t *body, A67Beat *beat)
{
	const char *boot_id = json_string_value(json_object_get(body, "boot_id"));
	const char *status = json_string_value(json_object_get(body, "status"));
	json_t *metrics = json_object_get(body, "metrics");

	if (!json_is_object(body) || !only_known_fields(body))
		return false;
	if (boot_id == NULL || strlen(boot_id) >= sizeof(beat->boot_id))
		return false;
	if (status == NULL || strcmp(status, "ok") != 0 || !json_is_object(metrics) ||
		!json_is_array(json_object_get(body, "replicas")))
		return false;
	strlcpy(beat->boot_id, boot_id, sizeof(beat->boot_id));
	read_metrics(metrics, &beat->metrics);
	return take_integer(body, "seq", &beat->seq) &&
		   take_integer(body, "state_version", &beat->state_version);
}

bool
a67_beat_parse(const char *text, size_t len, A67Beat *beat)
{
	json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	bool ok;

	if (body == NULL)
		return false;
	memset(beat, 0, sizeof(*beat));
	ok = read_beat(body, beat);
	json_decref(body);
	return ok;
}
