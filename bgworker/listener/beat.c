/*
 * beat.c: heartbeats by jansson; see beat.h.
 *
 * Reads only what the live table keeps; a metric that is no number is left to SQL, which refuses it. Memory is jansson's, bounded by the body limit and released
 * before return. Must include no header of PostgreSQL: that has a json_object of its own.
 */
#include "listener/beat.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

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

		for (size_t i = 0; i < sizeof(known_fields) / sizeof(known_fields[0]) && !known; i++)
			known = strcmp(key, known_fields[i]) == 0;
		if (!known)
			return false;
	}
	return true;
}

static bool
take_integer(json_t *object, const char *name, int64_t *value)
{
	json_t *number = json_object_get(object, name);

	if (!json_is_integer(number))
		return false;
	*value = json_integer_value(number);
	return true;
}

static bool
is_absent(json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	return value == NULL || json_is_null(value);
}

/* False for anything but a number that fits, or none. */
static bool
take_real(json_t *object, const char *name, float *value)
{
	json_t *number = json_object_get(object, name);

	if (is_absent(object, name))
		return true;
	*value = (float) json_number_value(number);
	return json_is_number(number) && isfinite(*value);
}

static bool
take_count(json_t *object, const char *name, int64_t *value)
{
	return is_absent(object, name) || (take_integer(object, name, value) && *value >= 0);
}

static bool
read_metrics(json_t *metrics, A67NodeMetrics *out)
{
	int64_t active = -1;

	if (!take_real(metrics, "cpu_percent", &out->cpu_percent) ||
		!take_real(metrics, "memory_percent", &out->memory_percent) ||
		!take_real(metrics, "disk_percent", &out->disk_percent) ||
		!take_real(metrics, "load1", &out->load1) ||
		!take_real(metrics, "latency_ms", &out->latency_ms) ||
		!take_count(metrics, "memory_free_bytes", &out->memory_free_bytes) ||
		!take_count(metrics, "memory_total_bytes", &out->memory_total_bytes) ||
		!take_count(metrics, "uptime_s", &out->uptime_s) ||
		!take_count(metrics, "requests", &out->requests) ||
		!take_count(metrics, "failures", &out->failures) ||
		!take_count(metrics, "network_bytes", &out->network_bytes) ||
		!take_count(metrics, "active_requests", &active) || active > INT32_MAX)
		return false;
	out->active_requests = (int32_t) active;
	return true;
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
	memcpy(beat->boot_id, boot_id, strlen(boot_id) + 1);
	return read_metrics(metrics, &beat->metrics) && take_integer(body, "seq", &beat->seq) &&
		   take_integer(body, "state_version", &beat->state_version);
}

bool
a67_beat_read(const char *text, size_t len, A67Beat *beat)
{
	json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	bool ok;

	if (body == NULL)
		return false;
	a67_beat_init(beat);
	ok = read_beat(body, beat);
	json_decref(body);
	return ok;
}

bool
a67_beat_parse(const char *text, size_t len, A67Beat *beat)
{
	return a67_beat_scan(text, len, beat) || a67_beat_read(text, len, beat);
}
