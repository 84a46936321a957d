/*
 * message.h: what is said over the listener's WebSockets, and in the answers behind it.
 *
 * Owns the JSON of client messages and of the pages of events that SQL answers, and the names of event
 * types as bits. Pure: jansson, no PostgreSQL, no sockets. Called by ws.c and feed.c; memory is bounded
 * by the size of what is read and released before return, or by a67_page_close.
 */
#ifndef A67_LISTENER_MESSAGE_H
#define A67_LISTENER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "crypto/jwt.h"

typedef uint32_t A67Topics;

#define A67_TOPIC_OTHER	  ((A67Topics) 1 << 31) /* types without a name here: "*" alone takes them */
#define A67_TOPIC_METRICS ((A67Topics) 1)
#define A67_TOPICS_ALL	  (~(A67Topics) 0)

/* The bit of an event's type; A67_TOPIC_OTHER for one that is not known. */
extern A67Topics a67_topic(const char *type);
/* Appends the names as a JSON array: ["*"] for all. */
extern void a67_topics_json(A67Topics topics, A67Buf *out);
/* Appends the names with commas between them. */
extern void a67_topics_list(A67Topics topics, A67Buf *out);

typedef enum A67MessageKind
{
	A67_MESSAGE_BROKEN,	 /* not a JSON object */
	A67_MESSAGE_REFUSED, /* error says why */
	A67_MESSAGE_TOKEN,
	A67_MESSAGE_CHANGE, /* of the subscription */
} A67MessageKind;

typedef struct A67Message
{
	char error[160];
	char token[A67_JWT_MAX + 1];
	A67Topics subscribe;
	A67Topics unsubscribe;
	bool has_since;
	int64_t since;
} A67Message;

extern A67MessageKind a67_message_parse(const char *text, size_t len, A67Message *out);

/* A position in the order of events; see sql/api/feed.sql. */
typedef struct A67Position
{
	uint64_t xid;
	int64_t id;
} A67Position;

/* < 0, 0 or > 0: a is before, at or behind b. */
extern int a67_position_compare(A67Position a, A67Position b);

/* A page of events as _event_feed and its kind answer it. */
typedef struct A67Page
{
	void *json;
	size_t count;
	A67Position reached;
	bool more;
	bool held;
} A67Page;

typedef struct A67PageEvent
{
	uint8_t owner[16];
	A67Topics topic;
	const char *message; /* to be sent as it is; valid until the page is closed */
	size_t len;
} A67PageEvent;

/* False when it is not such a page. */
extern bool a67_page_open(A67Page *page, const char *body, size_t len);
extern bool a67_page_event(const A67Page *page, size_t i, A67PageEvent *event);
extern void a67_page_close(A67Page *page);

#endif
