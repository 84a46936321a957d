/*
 * log_page.c: the JSON of followed output, by jansson; see log_page.h.
 */
#include "listener/log_page.h"

#include <jansson.h>
#include <string.h>

/* Every line of the text as a data line. A carriage return ends a line too, as it does for whoever reads it. */
static void
append_event(A67Buf *event, int64_t id, const char *text, size_t len)
{
	const char *end = text + len;

	a67_buf_append_fmt(event, "id: %lld\n", (long long) id);
	while (text < end)
	{
		const char *stop = text;

		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		a67_buf_append_str(event, "data: ");
		a67_buf_append(event, text, (size_t) (stop - text));
		a67_buf_append_str(event, "\n");
		text = stop + 1;
		if (stop + 1 < end && stop[0] == '\r' && stop[1] == '\n')
			text++;
	}
	a67_buf_append_str(event, "\n");
}

bool
a67_log_page_read(const char *body, size_t len, A67LogPage *page, A67Buf *event)
{
	json_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *reached = json_object_get(root, "reached");
	const json_t *text = json_object_get(root, "text");
	const char *deployment = json_string_value(json_object_get(root, "deployment"));
	bool good = json_is_integer(reached) && json_is_string(text) && deployment != NULL &&
				strlen(deployment) == A67_UUID_TEXT_SIZE - 1;

	if (good)
	{
		memcpy(page->deployment, deployment, A67_UUID_TEXT_SIZE);
		page->reached = json_integer_value(reached);
		page->more = json_is_true(json_object_get(root, "more"));
		if (json_string_length(text) > 0)
			append_event(event, page->reached, json_string_value(text), json_string_length(text));
		good = !event->failed;
	}
	json_decref(root);
	return good;
}

int
a67_log_heads_read(const char *body, size_t len, int64_t *heads, int most)
{
	json_t *root = json_loadb(body, len, 0, NULL);
	const json_t *value;
	size_t i;
	int count = json_is_array(root) ? (int) json_array_size(root) : -1;

	json_array_foreach(root, i, value)
	{
		if (!json_is_integer(value))
			count = -1;
		else if ((int) i < most)
			heads[i] = json_integer_value(value);
	}
	json_decref(root);
	return count;
}
