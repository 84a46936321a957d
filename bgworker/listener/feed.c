/*
 * feed.c: asks for events and hands them out; see feed.h.
 *
 * A wake-up by _event() makes the feed ask within GAP_MS, however many come; what transactions hold
 * back is asked for again after HELD_MS; and everything once in SAFETY_MS, because a wake-up is only a
 * hint. At most one question for events, one for metrics and REPLAYS_MAX for single sockets are under
 * way. Metrics are pictures of the moment: a socket that is behind is left out of a round.
 */
#include "postgres.h"

#include "listener/ws.h"

#include "core/encode.h"
#include "core/http/ws.h"
#include "platform/clock.h"
#include "platform/settings.h"

#define GAP_MS		20
#define HELD_MS		100
#define SAFETY_MS	5000
#define RETRY_MS	1000
#define REPLAYS_MAX 4
#define PENDING_MAX (64 * 1024) /* unsent: no further page, no metrics */
#define PARAMS_MAX	(1024 * 1024)
#define FEED_ROWS	"500"
#define REPLAY_ROWS "200"

void
a67_feed_init(A67Feed *feed)
{
	dlist_init(&feed->replays);
	feed->next = A67_NEVER;
}

/* ---- subscriptions ----------------------------------------------------------------------------- */

static A67Feed *
feed_of(const A67Socket *socket)
{
	return &socket->sockets->feed;
}

/* Keeps the number of subscribers and the list of replays in step with the socket. */
static void
recount(A67Socket *socket, A67Topics replays)
{
	A67Feed *feed = feed_of(socket);
	bool counts;

	if (socket->replays == 0 && replays != 0)
		dlist_push_tail(&feed->replays, &socket->replay);
	else if (socket->replays != 0 && replays == 0)
		dlist_delete(&socket->replay);
	socket->replays = replays;
	counts = socket->checked_at != 0 && (socket->live | socket->replays) != 0;
	feed->subscribers += (int) counts - (int) socket->counted;
	socket->counted = counts;
	socket->sockets->listener->stirred = true;
}

/* Confirms the subscription once it is in force. */
static void
confirm(A67Socket *socket)
{
	A67Buf json;

	if (!socket->answer_due || socket->checked_at == 0 || socket->replays != 0 ||
		(socket->live != 0 && !feed_of(socket)->placed))
		return;
	socket->answer_due = false;
	a67_buf_init(&json, 1024);
	a67_buf_append_str(&json, "{\"subscribed\":");
	a67_topics_json(socket->live, &json);
	a67_buf_append_str(&json, "}");
	(void) a67_socket_send(socket, a67_buf_text(&json), json.len);
	a67_buf_free(&json);
}

void
a67_feed_subscribe(A67Socket *socket, A67Topics topics)
{
	socket->live |= topics & ~socket->replays;
	socket->answer_due = true;
	recount(socket, socket->replays);
	confirm(socket);
}

bool
a67_feed_catch_up(A67Socket *socket, A67Topics topics, int64 since)
{
	if (socket->replays != 0 || socket->replay_asking)
		return false;
	/* Of metrics nothing is kept. */
	socket->live = (socket->live & ~topics) | (topics & A67_TOPIC_METRICS);
	socket->since = since;
	socket->replay_begun = false;
	socket->replay_more = false;
	socket->replay_after = 0;
	socket->answer_due = true;
	recount(socket, topics & ~A67_TOPIC_METRICS);
	confirm(socket);
	return true;
}

void
a67_feed_unsubscribe(A67Socket *socket, A67Topics topics)
{
	socket->live &= ~topics;
	socket->answer_due = true;
	recount(socket, socket->replays & ~topics);
	confirm(socket);
}

void
a67_feed_admit(A67Socket *socket)
{
	recount(socket, socket->replays);
	confirm(socket);
}

void
a67_feed_leave(A67Socket *socket)
{
	socket->live = 0;
	socket->answer_due = false;
	recount(socket, 0);
}

/* ---- handing out ------------------------------------------------------------------------------- */

static void
hand_out(A67Sockets *sockets, const A67PageEvent *event)
{
	dlist_iter iter;

	dlist_foreach(iter, &sockets->all)
	{
		A67Socket *socket = dlist_container(A67Socket, node, iter.cur);

		if (!socket->counted || memcmp(socket->owner, event->owner, sizeof(event->owner)) != 0)
			continue;
		if (socket->replays & event->topic)
			socket->missed = true;
		else if ((socket->live & event->topic) &&
				 (event->topic != A67_TOPIC_METRICS || a67_socket_pending(socket) < PENDING_MAX))
			(void) a67_socket_send(socket, event->message, event->len);
	}
}

static void
hand_out_page(A67Sockets *sockets, const A67Page *page)
{
	A67PageEvent event;

	for (size_t i = 0; i < page->count; i++)
		if (a67_page_event(page, i, &event))
			hand_out(sockets, &event);
}

/* Opens the page in an answer; false when there is none. */
static bool
open_answer(A67Page *page, int status, const char *body, size_t len)
{
	return status < 300 && a67_page_open(page, body, len);
}

static void
feed_answered(void *asker, int status, const char *body, size_t len)
{
	A67Sockets *sockets = asker;
	A67Feed *feed = &sockets->feed;
	bool first = !feed->placed;
	A67Page page;
	dlist_iter iter;

	feed->asking = false;
	sockets->listener->stirred = true;
	if (!open_answer(&page, status, body, len))
	{
		feed->dirty = true;
		feed->ask_after = a67_deadline_in(a67_now_ms(), RETRY_MS);
		return;
	}
	hand_out_page(sockets, &page);
	feed->reached = page.reached;
	feed->placed = true;
	feed->more = page.more;
	feed->held = page.held;
	a67_page_close(&page);
	if (!first)
		return;
	dlist_foreach(iter, &sockets->all)
		confirm(dlist_container(A67Socket, node, iter.cur));
}

/* ---- questions --------------------------------------------------------------------------------- */

static bool
ask(A67Sockets *sockets, const char *function, const A67Buf *params, A67Answered answered)
{
	A67Question question = {
		.function = function,
		.params = a67_buf_text(params),
		.answered = answered,
		.asker = sockets,
	};

	return !params->failed && a67_job_ask(sockets->listener, &question);
}

static void
append_position(A67Buf *params, const char *prefix, A67Position position)
{
	a67_buf_append_fmt(params, "\"%s_xid\",\"%llu\",\"%s_id\",\"%lld\",", prefix,
					   (unsigned long long) position.xid, prefix, (long long) position.id);
}

static void
ask_for_events(A67Sockets *sockets, int64 now)
{
	A67Feed *feed = &sockets->feed;
	A67Buf params;

	a67_buf_init(&params, PARAMS_MAX);
	a67_buf_append_str(&params, "[");
	if (feed->placed)
		append_position(&params, "after", feed->reached);
	a67_buf_append_str(&params, "\"max_rows\",\"" FEED_ROWS "\"]");
	feed->asking = ask(sockets, "_event_feed", &params, feed_answered);
	a67_buf_free(&params);
	feed->asked_at = now;
	if (feed->asking)
		feed->dirty = false;
	else
		feed->ask_after = a67_deadline_in(now, RETRY_MS);
}

static int64
events_due(const A67Feed *feed)
{
	int64 pause = SAFETY_MS;

	if (feed->asking)
		return A67_NEVER;
	if (!feed->placed || feed->more)
		pause = 0;
	else if (feed->dirty)
		pause = GAP_MS;
	else if (feed->held)
		pause = HELD_MS;
	return Max(feed->ask_after, feed->asked_at + pause);
}

/* ---- metrics ----------------------------------------------------------------------------------- */

static void
sample_answered(void *asker, int status, const char *body, size_t len)
{
	A67Sockets *sockets = asker;
	A67Page page;

	sockets->feed.sampling = false;
	sockets->listener->stirred = true;
	if (!open_answer(&page, status, body, len))
		return;
	hand_out_page(sockets, &page);
	a67_page_close(&page);
}

static int
compare_owners(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

/* Appends the owners of sockets that want metrics, each once; returns how many. */
static int
append_owners(A67Sockets *sockets, A67Buf *params)
{
	uint8(*owners)[16] = malloc((size_t) (sockets->count + 1) * sizeof(*owners));
	char text[A67_UUID_TEXT_SIZE];
	dlist_iter iter;
	int given = 0;
	int count = 0;

	if (owners == NULL)
		return 0;
	dlist_foreach(iter, &sockets->all)
	{
		A67Socket *socket = dlist_container(A67Socket, node, iter.cur);

		if (socket->counted && (socket->live & A67_TOPIC_METRICS))
			memcpy(owners[count++], socket->owner, sizeof(*owners));
	}
	qsort(owners, (size_t) count, sizeof(*owners), compare_owners);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && memcmp(owners[i], owners[i - 1], sizeof(*owners)) == 0)
			continue;
		a67_uuid_to_text(owners[i], text);
		a67_buf_append_fmt(params, "%s%s", given++ > 0 ? "," : "", text);
	}
	free(owners);
	return given;
}

static void
sample_metrics(A67Sockets *sockets, int64 now)
{
	A67Feed *feed = &sockets->feed;
	int64 pause = Max(1000, a67_heartbeat_interval);
	A67Buf params;

	feed->sample_at = a67_deadline_in(now, pause);
	a67_buf_init(&params, PARAMS_MAX);
	a67_buf_append_str(&params, "[\"owners\",\"");
	if (append_owners(sockets, &params) > 0)
	{
		a67_buf_append_fmt(&params, "\",\"seconds\",\"%lld\"]", (long long) pause * 2 / 1000 + 1);
		feed->sampling = ask(sockets, "_node_metrics", &params, sample_answered);
	}
	a67_buf_free(&params);
}

/* ---- catching up ------------------------------------------------------------------------------- */

static void
replay_answered(void *asker, int status, const char *body, size_t len)
{
	A67Socket *socket = asker;
	A67PageEvent event;
	A67Page page;

	socket->sockets->feed.replaying--;
	socket->sockets->listener->stirred = true;
	socket->replay_asking = false;
	if (!a67_socket_answered(socket))
		return;
	if (!open_answer(&page, status, body, len))
	{
		socket->missed = true;
		socket->replay_after = a67_deadline_in(a67_now_ms(), RETRY_MS);
		return;
	}
	/* What was unsubscribed meanwhile is in the page still. */
	for (size_t i = 0; i < page.count && !socket->closing; i++)
		if (a67_page_event(&page, i, &event) && (socket->replays & event.topic))
			(void) a67_socket_send(socket, event.message, event.len);
	socket->replayed = page.reached;
	socket->replay_more = page.more;
	socket->replay_begun = true;
	a67_page_close(&page);
}

static void
ask_for_replay(A67Socket *socket, int64 now)
{
	A67Question question = {.function = "_event_replay", .answered = replay_answered};
	char owner[A67_UUID_TEXT_SIZE];
	A67Buf params;

	a67_uuid_to_text(socket->owner, owner);
	a67_buf_init(&params, PARAMS_MAX);
	a67_buf_append_fmt(&params, "[\"owner\",\"%s\",\"since\",\"%lld\",", owner,
					   (long long) socket->since);
	append_position(&params, "until", feed_of(socket)->reached);
	if (socket->replay_begun)
		append_position(&params, "after", socket->replayed);
	if (!(socket->replays & A67_TOPIC_OTHER))
	{
		a67_buf_append_str(&params, "\"types\",\"");
		a67_topics_list(socket->replays, &params);
		a67_buf_append_str(&params, "\",");
	}
	a67_buf_append_str(&params, "\"max_rows\",\"" REPLAY_ROWS "\"]");
	question.params = a67_buf_text(&params);
	socket->missed = false;
	socket->replay_asking = !params.failed && a67_socket_ask(socket, &question);
	a67_buf_free(&params);
	feed_of(socket)->replaying += socket->replay_asking;
	if (!socket->replay_asking)
	{
		socket->missed = true;
		socket->replay_after = a67_deadline_in(now, RETRY_MS);
	}
}

/* Lets the socket join, asks for its next page, or leaves it waiting. */
static void
move_replay(A67Socket *socket, int64 now)
{
	A67Feed *feed = feed_of(socket);
	int order = a67_position_compare(socket->replayed, feed->reached);

	if (socket->replay_asking || !socket->counted)
		return;
	if (socket->replay_begun && !socket->replay_more)
	{
		if (order == 0 || (order < 0 && !socket->missed))
		{
			socket->live |= socket->replays;
			recount(socket, 0);
			confirm(socket);
			return;
		}
		/* The client has seen more than the feed has: that will get there. */
		if (order > 0)
			return;
	}
	if (!a67_deadline_expired(socket->replay_after, now))
		feed->next = a67_deadline_min(feed->next, socket->replay_after);
	else if (feed->replaying < REPLAYS_MAX && a67_socket_pending(socket) < PENDING_MAX)
		ask_for_replay(socket, now);
}

static void
move_replays(A67Feed *feed, int64 now)
{
	dlist_head waiting;
	dlist_mutable_iter iter;

	/* Who has had a turn goes to the end of the line. */
	dlist_init(&waiting);
	dlist_foreach_modify(iter, &feed->replays)
	{
		A67Socket *socket = dlist_container(A67Socket, replay, iter.cur);

		if (socket->replay_asking)
			continue;
		move_replay(socket, now);
		if (!socket->replay_asking)
			continue;
		dlist_delete(&socket->replay);
		dlist_push_tail(&waiting, &socket->replay);
	}
	while (!dlist_is_empty(&waiting))
		dlist_push_tail(&feed->replays, dlist_pop_head_node(&waiting));
}

void
a67_feed_run(A67Sockets *sockets)
{
	A67Feed *feed = &sockets->feed;
	uint32 wakes = pg_atomic_read_u32(&sockets->listener->worker->slot->wakes);
	int64 now = a67_now_ms();

	feed->next = A67_NEVER;
	feed->dirty = feed->dirty || wakes != feed->wakes;
	feed->wakes = wakes;
	if (feed->subscribers == 0)
	{
		/* The position is of no use to those who come later. */
		feed->placed = feed->placed && feed->asking;
		return;
	}
	if (events_due(feed) <= now)
		ask_for_events(sockets, now);
	if (feed->placed)
		move_replays(feed, now);
	if (!feed->sampling && a67_deadline_expired(feed->sample_at, now))
		sample_metrics(sockets, now);
	feed->next = a67_deadline_min(feed->next, events_due(feed));
	if (!feed->sampling)
		feed->next = a67_deadline_min(feed->next, feed->sample_at);
}
