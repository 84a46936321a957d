/*
 * report.c - bodies of registration and heartbeat, and their answers.  See report.h.
 */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define BEAT_MAX_BYTES		900000 /* under the controller's usual limit of 1 MB */
#define BANDWIDTH_MBPS		100	   /* not measured: what a small instance has at least */
#define CONCURRENT_REQUESTS 100
#define GIB					1073741824.0

static double
rounded(double value, double steps)
{
	return (double) (int64_t) (value * steps + 0.5) / steps;
}

char *
a67_report_registration(A67Control *control)
{
	const A67Options *options = control->options;
	char key[A67_KEY_TEXT_SIZE];
	A67Sample sample;
	json_t *doc;
	char *text;

	a67_metrics_sample(control->metrics, control->dir->path, 0, &sample);
	(void) a67_base64url_encode(control->identity->public_key, A67_KEY_BYTES, key, sizeof(key));
	doc = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:{s:f,s:f,s:f,s:i,s:i}}", "join_token",
					options->token, "endpoint", control->endpoint, "provider", options->provider,
					"region", options->region, "name", options->name, "public_key", key, "version",
					A67_VERSION, "capabilities", "cpu_cores", rounded(a67_metrics_cores(), 100),
					"memory_gb", rounded((double) sample.memory_total_bytes / GIB, 1000), "disk_gb",
					rounded((double) sample.disk_total_bytes / GIB, 1000), "network_bandwidth_mbps",
					BANDWIDTH_MBPS, "max_concurrent_requests", CONCURRENT_REQUESTS);
	text = doc != NULL ? json_dumps(doc, JSON_COMPACT) : NULL;
	json_decref(doc);
	return text;
}

static int
count_connections(const A67Supervisor *supervisor)
{
	int ports[A67_TABLE_MAX];
	size_t count = 0;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		if (supervisor->replicas[i]->process.pid != 0 && supervisor->replicas[i]->port > 0)
			ports[count++] = supervisor->replicas[i]->port;
	}
	return a67_metrics_connections(ports, count);
}

static json_t *
metrics_json(A67Control *control, int64_t now_ms)
{
	A67Sample sample;

	a67_metrics_sample(control->metrics, control->dir->path, now_ms, &sample);
	return json_pack("{s:f,s:f,s:I,s:I,s:f,s:f,s:I,s:i}", "cpu_percent",
					 rounded(sample.cpu_percent, 100), "memory_percent",
					 rounded(sample.memory_percent, 100), "memory_free_bytes",
					 (json_int_t) sample.memory_free_bytes, "memory_total_bytes",
					 (json_int_t) sample.memory_total_bytes, "disk_percent",
					 rounded(sample.disk_percent, 100), "load1", rounded(sample.load1, 100),
					 "uptime_s", (json_int_t) sample.uptime_s, "active_requests",
					 count_connections(control->supervisor));
}

char *
a67_report_beat(A67Control *control, const char *status, int64_t now_ms)
{
	json_t *replicas = a67_supervisor_report(control->supervisor);
	json_t *doc = NULL;
	json_t *one;
	size_t i;
	char *text;

	if (replicas != NULL)
		doc = json_pack("{s:s,s:I,s:I,s:s,s:o,s:o}", "boot_id", control->boot_id, "seq",
						(json_int_t) control->seq + 1, "state_version",
						(json_int_t) control->supervisor->version, "status", status, "metrics",
						metrics_json(control, now_ms), "replicas", replicas);
	text = doc != NULL ? json_dumps(doc, JSON_COMPACT) : NULL;
	if (text != NULL && strlen(text) > BEAT_MAX_BYTES)
	{
		/* Better states without last words than no states at all. */
		free(text);
		json_array_foreach(replicas, i, one)
		{
			(void) json_object_set_new(one, "log_tail", json_null());
		}
		text = json_dumps(doc, JSON_COMPACT);
	}
	json_decref(doc);
	return text;
}

static bool
take_text(json_t *doc, const char *name, char *out, size_t size)
{
	json_t *value = json_object_get(doc, name);

	if (!json_is_string(value) || json_string_length(value) == 0 ||
		json_string_length(value) >= size)
		return false;
	memcpy(out, json_string_value(value), json_string_length(value) + 1);
	return true;
}

/* A token goes into a header line: nothing but its own alphabet may be in it. */
static bool
take_token(json_t *doc, char out[A67_NODE_TOKEN_SIZE])
{
	static const char *const alphabet =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

	const char *token = json_string_value(json_object_get(doc, "node_token"));

	return token != NULL && strspn(token, alphabet) == strlen(token) &&
		   take_text(doc, "node_token", out, A67_NODE_TOKEN_SIZE);
}

static bool
take_answer(A67Identity *identity, json_t *doc)
{
	char key[A67_KEY_TEXT_SIZE];
	uint8_t bytes[A67_KEY_BYTES];
	uint8_t id[A67_UUID_BYTES];
	size_t count = 0;
	double interval = json_number_value(json_object_get(doc, "heartbeat_interval"));

	if (!take_text(doc, "node_id", identity->node_id, sizeof(identity->node_id)) ||
		!a67_uuid_from_text(identity->node_id, strlen(identity->node_id), id) ||
		!take_token(doc, identity->node_token) || !(interval >= 0.001) || interval > 86400)
		return false;
	identity->heartbeat_ms = (int64_t) (interval * 1000.0);
	/* The key that counts is the one of the join token; another one here is another controller. */
	return take_text(doc, "controller_key", key, sizeof(key)) &&
		   a67_base64url_decode(key, strlen(key), bytes, sizeof(bytes), &count) &&
		   count == sizeof(bytes) && memcmp(bytes, identity->controller_key, sizeof(bytes)) == 0;
}

int
a67_report_take_registration(A67Control *control, const char *body, size_t len, A67Why *why)
{
	json_t *doc = json_loadb(body != NULL ? body : "", len, JSON_REJECT_DUPLICATES, NULL);
	bool good = json_is_object(doc) && take_answer(control->identity, doc);
	int err;

	json_decref(doc);
	if (!good)
		return a67_why(
			why, -EPROTO,
			"registration was answered by something that is not this token's controller");
	(void) snprintf(control->identity->name, sizeof(control->identity->name), "%s",
					control->options->name);
	err = a67_identity_save(control->dir, control->identity, why);
	control->identity->registered = err == 0;
	return err;
}

int
a67_report_take_token(A67Control *control, const char *body, size_t len, A67Why *why)
{
	json_t *doc = json_loadb(body != NULL ? body : "", len, JSON_REJECT_DUPLICATES, NULL);
	bool good = json_is_object(doc) && take_token(doc, control->identity->node_token);

	json_decref(doc);
	if (!good)
		return a67_why(why, -EPROTO, "renewal of the node token was answered without a token");
	return a67_identity_save(control->dir, control->identity, why);
}

void
a67_report_refusal(const char *what, int status, const char *body, size_t len, A67Why *why)
{
	json_t *doc = json_loadb(body != NULL ? body : "", len, 0, NULL);
	const char *message = json_string_value(json_object_get(doc, "message"));

	(void) a67_why(why, -EPROTO, "%s was answered %d%s%.200s", what, status,
				   message != NULL ? ": " : "", message != NULL ? message : "");
	json_decref(doc);
}
