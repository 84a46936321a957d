/*
 * message.c: the JSON of WebSockets, by jansson; see message.h.
 *
 * What a client sends is read strictly: a field or a type that is not known is refused by name, so that
 * a typing error is not a subscription to nothing. Must include no header of PostgreSQL: that has a
 * json_object of its own.
 */
#include "listener/message.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/encode.h"

#define TYPES_MAX 32 /* in one message; the same one may be named twice */

/* A type's place is its bit; the first one is A67_TOPIC_METRICS. */
static const char *const names[] = {
	"node.metrics",		  "node.status.changed",  "deployment.changed", "replica.changed",
	"rollout.step",		  "alert.raised",		  "alert.acked",		"alert.resolved",
	"file.changed",		  "database.changed",	  "node.registered",	"node.updated",
	"node.quota.warned",  "node.desired.changed", "node.drained",		"node.restart",
	"credential.changed", "vault.sealed",		  "vault.unsealed",		"vault.rotating",
	"vault.rotated",	  "run.changed",
};

#define NAMES (sizeof(names) / sizeof(names[0]))

A67Topics
a67_topic(const char *type)
{
	for (size_t i = 0; i < NAMES; i++)
		if (strcmp(type, names[i]) == 0)
			return (A67Topics) 1 << i;
	return A67_TOPIC_OTHER;
}

static void
append_names(A67Topics topics, const char *quote, A67Buf *out)
{
	const char *separator = "";

	for (size_t i = 0; i < NAMES; i++)
		if (topics & ((A67Topics) 1 << i))
		{
			a67_buf_append_fmt(out, "%s%s%s%s", separator, quote, names[i], quote);
			separator = ",";
		}
}

void
a67_topics_json(A67Topics topics, A67Buf *out)
{
	a67_buf_append_str(out, "[");
	if (topics & A67_TOPIC_OTHER)
		a67_buf_append_str(out, "\"*\"");
	else
		append_names(topics, "\"", out);
	a67_buf_append_str(out, "]");
}

void
a67_topics_list(A67Topics topics, A67Buf *out)
{
	append_names(topics, "", out);
}

/* ---- from clients ------------------------------------------------------------------------------- */

static bool
refuse(A67Message *out, const char *format, const char *name)
{
	char shown[64];

	(void) snprintf(shown, sizeof(shown), "%s", name);
	/* A name cut in the middle of a character is no text any more. */
	while (!a67_utf8_is_valid(shown, strlen(shown)))
		shown[strlen(shown) - 1] = '\0';
	(void) snprintf(out->error, sizeof(out->error), format, shown);
	return false;
}

static bool
take_topics(const json_t *value, const char *field, A67Topics *topics, A67Message *out)
{
	size_t count = json_array_size(value);

	if (!json_is_array(value) || count == 0 || count > TYPES_MAX)
		return refuse(out, "field \"%s\" must be an array of event types", field);
	for (size_t i = 0; i < count; i++)
	{
		const char *name = json_string_value(json_array_get(value, i));
		A67Topics topic = name != NULL ? a67_topic(name) : 0;

		if (name == NULL)
			return refuse(out, "field \"%s\" must be an array of event types", field);
		if (strcmp(name, "*") == 0)
			*topics = A67_TOPICS_ALL;
		else if (topic == A67_TOPIC_OTHER)
			return refuse(out, "unknown event type \"%s\"", name);
		else
			*topics |= topic;
	}
	return true;
}

static bool
take_field(const char *key, const json_t *value, A67Message *out)
{
	if (strcmp(key, "subscribe") == 0)
		return take_topics(value, key, &out->subscribe, out);
	if (strcmp(key, "unsubscribe") == 0)
		return take_topics(value, key, &out->unsubscribe, out);
	if (strcmp(key, "since") == 0)
	{
		out->has_since = true;
		out->since = json_integer_value(value);
		return (json_is_integer(value) && out->since >= 0) ||
			   refuse(out, "field \"%s\" must be the id of an event", key);
	}
	if (strcmp(key, "token") != 0)
		return refuse(out, "unknown field \"%s\"", key);
	if (!json_is_string(value) || json_string_length(value) == 0 ||
		json_string_length(value) >= sizeof(out->token))
		return refuse(out, "field \"%s\" must be a token", key);
	memcpy(out->token, json_string_value(value), json_string_length(value) + 1);
	return true;
}

static A67MessageKind
read_object(json_t *root, A67Message *out)
{
	const char *key;
	json_t *value;

	json_object_foreach(root, key, value)
	{
		if (!take_field(key, value, out))
			return A67_MESSAGE_REFUSED;
	}
	if (out->token[0] != '\0' && json_object_size(root) > 1)
		(void) refuse(out, "a message with \"%s\" has no other field", "token");
	else if (out->token[0] != '\0')
		return A67_MESSAGE_TOKEN;
	else if (out->has_since && out->subscribe == 0)
		(void) refuse(out, "field \"since\" goes with \"%s\"", "subscribe");
	else if (out->subscribe == 0 && out->unsubscribe == 0)
		(void) refuse(out, "field \"%s\" or \"unsubscribe\" is missing", "subscribe");
	else
		return A67_MESSAGE_CHANGE;
	return A67_MESSAGE_REFUSED;
}

A67MessageKind
a67_message_parse(const char *text, size_t len, A67Message *out)
{
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	A67MessageKind kind = A67_MESSAGE_BROKEN;

	memset(out, 0, sizeof(*out));
	if (json_is_object(root))
		kind = read_object(root, out);
	json_decref(root);
	return kind;
}

/* ---- from SQL ----------------------------------------------------------------------------------- */

int
a67_position_compare(A67Position a, A67Position b)
{
	if (a.xid != b.xid)
		return a.xid < b.xid ? -1 : 1;
	return (a.id > b.id) - (a.id < b.id);
}

bool
a67_page_open(A67Page *page, const char *body, size_t len)
{
	json_t *root = json_loadb(body, len, 0, NULL);
	json_t *events = json_object_get(root, "events");
	const char *xid = json_string_value(json_object_get(root, "xid"));

	memset(page, 0, sizeof(*page));
	if (!json_is_array(events))
	{
		json_decref(root);
		return false;
	}
	page->json = root;
	page->count = json_array_size(events);
	page->reached.xid = xid != NULL ? strtoull(xid, NULL, 10) : 0;
	page->reached.id = json_integer_value(json_object_get(root, "id"));
	page->more = json_is_true(json_object_get(root, "more"));
	page->held = json_is_true(json_object_get(root, "held"));
	return true;
}

bool
a67_page_event(const A67Page *page, size_t i, A67PageEvent *event)
{
	json_t *row = json_array_get(json_object_get(page->json, "events"), i);
	const char *owner = json_string_value(json_object_get(row, "owner"));
	const char *type = json_string_value(json_object_get(row, "type"));
	json_t *message = json_object_get(row, "message");

	if (owner == NULL || type == NULL || !json_is_string(message) ||
		!a67_uuid_from_text(owner, strlen(owner), event->owner))
		return false;
	event->topic = a67_topic(type);
	event->message = json_string_value(message);
	event->len = json_string_length(message);
	return true;
}

void
a67_page_close(A67Page *page)
{
	json_decref(page->json);
	page->json = NULL;
}
