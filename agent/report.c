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
#define BEAT_FORMAT			(JSON_COMPACT | JSON_REAL_PRECISION(15)) /* 40.1, not 40.100000000000001 */

static double
rounded(double value, double steps)
{
	return (double) (int64_t) (value * steps + 0.5) / steps;
}

/* Adds a text unless it is empty: what the node leaves out, the join token decides. */
static int
add_text(json_t *doc, const char *name, const char *text)
{
	return text[0] == '\0' ? 0 : json_object_set_new(doc, name, json_string(text));
}

static int
add_services(json_t *doc, const A67Options *options)
{
	json_t *list;
	int err = 0;

	if (options->service_count == 0)
		return 0;
	list = json_array();
	for (size_t i = 0; i < options->service_count; i++)
		err |= json_array_append_new(list, json_string(options->services[i]));
	return json_object_set_new(doc, "services", list) | err;
}

static int
add_labels(json_t *doc, const A67Options *options)
{
	json_t *labels;
	int err = 0;

	if (options->label_count == 0)
		return 0;
	labels = json_object();
	for (size_t i = 0; i < options->label_count; i++)
	{
		const char *label = options->labels[i];
		size_t len = strcspn(label, "=");
		char key[A67_OPTION_SIZE];

		(void) snprintf(key, sizeof(key), "%.*s", (int) len, label);
		err |= json_object_set_new(labels, key, json_string(label + len + 1));
	}
	return json_object_set_new(doc, "labels", labels) | err;
}

/* What starts applications here. */
static int
add_runners(json_t *doc, const A67Crun *crun)
{
	return json_object_set_new(json_object_get(doc, "capabilities"), "runners",
							   crun->works ? json_pack("[s,s]", "process", "container")
										   : json_pack("[s]", "process"));
}

char *
a67_report_registration(A67Control *control)
{
	const A67Options *options = control->options;
	char key[A67_KEY_TEXT_SIZE];
	const A67Sample *sample = &control->metrics->last;
	json_t *doc;
	char *text = NULL;

	(void) a67_base64url_encode(control->identity->public_key, A67_KEY_BYTES, key, sizeof(key));
	doc =
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:{s:f,s:f,s:f,s:i,s:i}}", "join_token", options->token,
				  "endpoint", control->endpoint, "name", options->name, "public_key", key,
				  "version", A67_VERSION, "capabilities", "cpu_cores", rounded(sample->cores, 100),
				  "memory_gb", rounded((double) sample->memory_total_bytes / GIB, 1000), "disk_gb",
				  rounded((double) sample->disk_total_bytes / GIB, 1000), "network_bandwidth_mbps",
				  BANDWIDTH_MBPS, "max_concurrent_requests", CONCURRENT_REQUESTS);
	if (doc != NULL && add_runners(doc, &control->supervisor->host->crun) != 0)
	{
		json_decref(doc);
		return NULL;
	}
	/* A text that is not UTF-8 makes no JSON. */
	if (doc != NULL && add_text(doc, "provider", options->provider) == 0 &&
		add_text(doc, "region", options->region) == 0 &&
		add_text(doc, "tier", options->tier) == 0 && add_services(doc, options) == 0 &&
		add_labels(doc, options) == 0)
		text = json_dumps(doc, JSON_COMPACT);
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
metrics_json(const A67Control *control)
{
	const A67Sample *sample = &control->metrics->last;
	const A67ChunkStore *chunks = control->chunks;
	json_t *metrics;

	metrics = json_pack(
		"{s:f,s:f,s:I,s:I,s:f,s:f,s:I,s:i,s:I,s:I,s:I,s:I}", "cpu_percent",
		rounded(sample->cpu_percent, 100), "memory_percent", rounded(sample->memory_percent, 100),
		"memory_free_bytes", (json_int_t) sample->memory_free_bytes, "memory_total_bytes",
		(json_int_t) sample->memory_total_bytes, "disk_percent", rounded(sample->disk_percent, 100),
		"load1", rounded(sample->load1, 100), "uptime_s", (json_int_t) sample->uptime_s,
		"active_requests", count_connections(control->supervisor), "chunk_count",
		(json_int_t) chunks->count, "chunk_bytes", (json_int_t) chunks->bytes, "chunk_quota_bytes",
		(json_int_t) chunks->quota_bytes, "chunk_rotten", (json_int_t) chunks->rotten);
	if (control->latency_us >= 0)
		(void) json_object_set_new(metrics, "latency_ms",
								   json_real(rounded((double) control->latency_us / 1000, 100)));
	if (sample->received_bytes >= 0)
		(void) json_object_set_new(metrics, "network_bytes",
								   json_integer(
									   (json_int_t) (((uint64_t) sample->received_bytes +
													  (uint64_t) sample->transmitted_bytes) &
													 INT64_MAX)));
	return metrics;
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
						metrics_json(control), "replicas", replicas);
	text = doc != NULL ? json_dumps(doc, BEAT_FORMAT) : NULL;
	if (text != NULL && strlen(text) > BEAT_MAX_BYTES)
	{
		/* Better states without last words than no states at all. */
		free(text);
		json_array_foreach(replicas, i, one)
		{
			(void) json_object_set_new(one, "log_tail", json_null());
		}
		text = json_dumps(doc, BEAT_FORMAT);
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

/* Follows the controller's keys from the one that is known to the latest: each has signed the next. */
static void
follow_handovers(A67Identity *identity, json_t *doc)
{
	uint8_t next[A67_KEY_BYTES];
	size_t index;
	json_t *one;

	json_array_foreach(json_object_get(doc, "controller_handovers"), index, one)
	{
		const char *token = json_string_value(one);

		if (token == NULL)
			continue;
		if (identity->has_next && a67_handover_read(token, identity->next_key, next))
			a67_identity_promote_key(identity);
		else if (!a67_handover_read(token, identity->controller_key, next))
			continue;
		memcpy(identity->next_key, next, sizeof(next));
		identity->has_next = true;
	}
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
	follow_handovers(identity, doc);
	/* The key that counts is the one of the join token and what it leads to; another one is another controller. */
	return take_text(doc, "controller_key", key, sizeof(key)) &&
		   a67_base64url_decode(key, strlen(key), bytes, sizeof(bytes), &count) &&
		   count == sizeof(bytes) && a67_identity_knows_key(identity, bytes);
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

	if (good)
		follow_handovers(control->identity, doc);
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
