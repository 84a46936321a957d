/*
 * fetch.c - libcurl's multi socket interface behind one epoll descriptor.
 *
 * A request goes queue -> open (an easy handle of the pool) -> done -> taken -> released. All the while it is
 * in the key table, which is how duplicates are seen. curl tells which sockets to watch and when to call
 * again; nothing here waits. What one request means to curl is transfer.c. A mail's connection, once ready,
 * is taken over from curl (mail.c): its socket is watched here, under the same epoll descriptor.
 * Host names that are not addresses are resolved by curl in a thread of its own, the only thread in the
 * process: every call into curl runs with asynchronous signals blocked, which that thread inherits, so no
 * signal handler of the server ever runs in it.
 * One owner (the worker), one thread. Memory: malloc, at most A67_FETCH_QUEUE_MAX requests at a time.
 */
#include "net/fetch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/hash.h"
#include "core/pace.h"
#include "net/mail.h"
#include "net/transfer.h"

#define BUCKETS	   1024
#define EVENTS	   64
#define ROUNDS_MAX 16 /* of events handled in one run, so that a busy peer cannot hold the loop */

typedef struct List
{
	A67Transfer *first;
	A67Transfer **end;
	size_t count;
} List;

struct A67Fetch
{
	CURLM *multi;
	int epoll_fd;
	int64_t now_ms;		 /* of the call under way */
	int64_t deadline_ms; /* when curl wants to be called */
	size_t concurrency;
	List queue;
	List done;
	size_t under_way; /* in the key table */
	size_t open;
	A67Transfer *talking; /* open mails whose dialogue is ours, not curl's */
	A67Transfer *buckets[BUCKETS];
	CURL *idle[A67_FETCH_CONCURRENCY_MAX];
	size_t idle_count;
	bool guard;
	char *ca_file; /* NULL: the system's */
};

/* ---- lists and the key table ---- */

static void
list_init(List *list)
{
	list->first = NULL;
	list->end = &list->first;
	list->count = 0;
}

static void
list_add(List *list, A67Transfer *transfer)
{
	transfer->next = NULL;
	*list->end = transfer;
	list->end = &transfer->next;
	list->count++;
}

static A67Transfer *
list_take(List *list)
{
	A67Transfer *transfer = list->first;

	if (transfer == NULL)
		return NULL;
	list->first = transfer->next;
	if (list->first == NULL)
		list->end = &list->first;
	list->count--;
	return transfer;
}

static A67Transfer **
bucket_of(A67Fetch *fetch, const char *key)
{
	return &fetch->buckets[a67_murmur3(key, strlen(key), 0) % BUCKETS];
}

static bool
under_way(A67Fetch *fetch, const char *key)
{
	for (A67Transfer *transfer = *bucket_of(fetch, key); transfer; transfer = transfer->bucket_next)
	{
		if (strcmp(transfer->key, key) == 0)
			return true;
	}
	return false;
}

/* Takes a request out of the key table and frees it. */
static void
forget(A67Fetch *fetch, A67Transfer *transfer)
{
	A67Transfer **at = bucket_of(fetch, transfer->key);

	while (*at != transfer)
		at = &(*at)->bucket_next;
	*at = transfer->bucket_next;
	fetch->under_way--;
	a67_transfer_free(transfer);
}

/* ---- what curl calls ---- */

static int
on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *socket_user)
{
	A67Fetch *fetch = user;
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(fetch->epoll_fd, EPOLL_CTL_DEL, socket, NULL);
		return 0;
	}
	event.data.fd = socket;
	if (what != CURL_POLL_OUT)
		event.events |= EPOLLIN;
	if (what != CURL_POLL_IN)
		event.events |= EPOLLOUT;
	if (epoll_ctl(fetch->epoll_fd, EPOLL_CTL_MOD, socket, &event) == 0)
		return 0;
	if (errno == ENOENT && epoll_ctl(fetch->epoll_fd, EPOLL_CTL_ADD, socket, &event) == 0)
		return 0;
	return 0; /* not watched: the request ends by its time-out */
}

static int
on_timer(CURLM *multi, long timeout_ms, void *user)
{
	A67Fetch *fetch = user;

	fetch->deadline_ms =
		timeout_ms < 0 ? A67_NEVER : a67_deadline_in(fetch->now_ms, (int64_t) timeout_ms);
	return 0;
}

/* ---- life ---- */

static void
block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGABRT);
	(void) pthread_sigmask(SIG_SETMASK, &all, before);
}

static void
restore_signals(const sigset_t *before)
{
	(void) pthread_sigmask(SIG_SETMASK, before, NULL);
}

A67Fetch *
a67_fetch_create(int concurrency, int64_t now_ms)
{
	A67Fetch *fetch;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return NULL;
	fetch = calloc(1, sizeof(*fetch));
	if (fetch == NULL)
		return NULL;
	list_init(&fetch->queue);
	list_init(&fetch->done);
	fetch->now_ms = now_ms;
	fetch->deadline_ms = A67_NEVER;
	fetch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	fetch->multi = curl_multi_init();
	if (fetch->epoll_fd < 0 || fetch->multi == NULL)
	{
		a67_fetch_free(fetch);
		return NULL;
	}
	curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETDATA, fetch);
	curl_multi_setopt(fetch->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(fetch->multi, CURLMOPT_TIMERDATA, fetch);
	a67_fetch_set_concurrency(fetch, concurrency);
	return fetch;
}

static void
free_transfers(A67Fetch *fetch)
{
	for (size_t i = 0; i < BUCKETS; i++)
	{
		while (fetch->buckets[i] != NULL)
		{
			A67Transfer *transfer = fetch->buckets[i];

			if (transfer->easy != NULL)
			{
				curl_multi_remove_handle(fetch->multi, transfer->easy);
				curl_easy_cleanup(transfer->easy);
			}
			forget(fetch, transfer);
		}
	}
}

void
a67_fetch_free(A67Fetch *fetch)
{
	sigset_t before;

	if (fetch == NULL)
		return;
	block_signals(&before);
	free_transfers(fetch);
	for (size_t i = 0; i < fetch->idle_count; i++)
		curl_easy_cleanup(fetch->idle[i]);
	if (fetch->multi != NULL)
		curl_multi_cleanup(fetch->multi);
	if (fetch->epoll_fd >= 0)
		close(fetch->epoll_fd);
	free(fetch->ca_file);
	free(fetch);
	restore_signals(&before);
}

void
a67_fetch_set_concurrency(A67Fetch *fetch, int concurrency)
{
	if (concurrency < 1)
		concurrency = 1;
	if (concurrency > A67_FETCH_CONCURRENCY_MAX)
		concurrency = A67_FETCH_CONCURRENCY_MAX;
	fetch->concurrency = (size_t) concurrency;

	/* Connections kept open for reuse; together with the open ones at most twice as many. */
	curl_multi_setopt(fetch->multi, CURLMOPT_MAXCONNECTS, (long) concurrency);
}

void
a67_fetch_set_guard(A67Fetch *fetch, bool up)
{
	fetch->guard = up;
}

bool
a67_fetch_set_ca_file(A67Fetch *fetch, const char *ca_file)
{
	char *copy = NULL;

	if (ca_file != NULL && ca_file[0] != '\0')
	{
		copy = strdup(ca_file);
		if (copy == NULL)
			return false;
	}
	free(fetch->ca_file);
	fetch->ca_file = copy;
	return true;
}

/* ---- what the worker calls ---- */

A67FetchSubmit
a67_fetch_submit(A67Fetch *fetch, const A67FetchRequest *from, int64_t now_ms)
{
	A67Transfer *transfer;
	A67Transfer **bucket;

	if (from->key == NULL)
		return A67_FETCH_INVALID;
	if (under_way(fetch, from->key))
		return A67_FETCH_DUPLICATE;
	if (fetch->under_way >= A67_FETCH_QUEUE_MAX)
		return A67_FETCH_FULL;
	transfer = a67_transfer_create(from);
	if (transfer == NULL)
		return A67_FETCH_FULL;
	transfer->queued_ms = now_ms;
	bucket = bucket_of(fetch, transfer->key);
	transfer->bucket_next = *bucket;
	*bucket = transfer;
	fetch->under_way++;
	list_add(transfer->result.error ? &fetch->done : &fetch->queue, transfer);
	return A67_FETCH_QUEUED;
}

/* ---- opening ---- */

static CURL *
take_easy(A67Fetch *fetch)
{
	if (fetch->idle_count > 0)
		return fetch->idle[--fetch->idle_count];
	return curl_easy_init();
}

static void
put_back_easy(A67Fetch *fetch, CURL *easy)
{
	if (fetch->idle_count == A67_FETCH_CONCURRENCY_MAX)
	{
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	fetch->idle[fetch->idle_count++] = easy;
}

static void
open_transfer(A67Fetch *fetch, A67Transfer *transfer)
{
	CURL *easy = take_easy(fetch);

	transfer->guard = fetch->guard;
	transfer->ca_file = fetch->ca_file;
	if (easy != NULL && a67_transfer_prepare(transfer, easy) &&
		curl_multi_add_handle(fetch->multi, easy) == CURLM_OK)
	{
		transfer->easy = easy;
		transfer->deadline_ms = a67_deadline_in(fetch->now_ms, transfer->timeout_ms);
		fetch->open++;
		return;
	}
	if (easy != NULL)
		put_back_easy(fetch, easy);
	transfer->result.error = "out of memory";
	list_add(&fetch->done, transfer);
}

/* ---- progress ---- */

static void
close_transfer(A67Fetch *fetch, A67Transfer *transfer)
{
	CURL *easy = transfer->easy;

	curl_multi_remove_handle(fetch->multi, easy);
	put_back_easy(fetch, easy);
	transfer->easy = NULL;
	fetch->open--;
	list_add(&fetch->done, transfer);
}

static void
watch_dialogue(A67Fetch *fetch, A67Transfer *transfer, A67MailTalk talk, int operation)
{
	struct epoll_event event = {.data.fd = transfer->socket, .events = EPOLLIN};

	if (talk == A67_MAIL_WRITE)
		event.events |= EPOLLOUT;
	(void) epoll_ctl(fetch->epoll_fd, operation, transfer->socket, &event);
}

static void
end_dialogue(A67Fetch *fetch, A67Transfer *transfer)
{
	A67Transfer **at = &fetch->talking;

	while (*at != transfer)
		at = &(*at)->next;
	*at = transfer->next;
	(void) epoll_ctl(fetch->epoll_fd, EPOLL_CTL_DEL, transfer->socket, NULL);
	close_transfer(fetch, transfer);
}

/* curl has got a mail's connection ready. */
static void
begin_dialogue(A67Fetch *fetch, A67Transfer *transfer)
{
	A67MailTalk talk;

	transfer->next = fetch->talking;
	fetch->talking = transfer;
	transfer->socket = a67_mail_socket(transfer);
	a67_mail_begin(transfer);
	talk = a67_mail_talk(transfer);
	watch_dialogue(fetch, transfer, talk, EPOLL_CTL_ADD);
	if (talk == A67_MAIL_OVER)
		end_dialogue(fetch, transfer);
}

/* Whether the socket is that of a dialogue, which then is carried on. */
static bool
advance_dialogue(A67Fetch *fetch, int socket)
{
	for (A67Transfer *transfer = fetch->talking; transfer; transfer = transfer->next)
	{
		A67MailTalk talk;

		if (transfer->socket != socket)
			continue;
		talk = a67_mail_talk(transfer);
		if (talk == A67_MAIL_OVER)
			end_dialogue(fetch, transfer);
		else
			watch_dialogue(fetch, transfer, talk, EPOLL_CTL_MOD);
		return true;
	}
	return false;
}

static void
end_late_dialogues(A67Fetch *fetch)
{
	for (A67Transfer *transfer = fetch->talking, *next; transfer; transfer = next)
	{
		next = transfer->next;
		if (transfer->deadline_ms > fetch->now_ms)
			continue;
		transfer->result.error = "timeout";
		end_dialogue(fetch, transfer);
	}
}

static void
harvest(A67Fetch *fetch)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(fetch->multi, &left)) != NULL)
	{
		A67Transfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		if (transfer->mail != NULL && message->data.result == CURLE_OK)
		{
			begin_dialogue(fetch, transfer);
			continue;
		}
		a67_transfer_conclude(transfer, message->data.result);
		close_transfer(fetch, transfer);
	}
}

/* Hands ready sockets and a due timer to curl; returns whether there was anything. */
static bool
advance(A67Fetch *fetch)
{
	struct epoll_event events[EVENTS];
	int running;
	int count = epoll_wait(fetch->epoll_fd, events, EVENTS, 0);
	bool timer = fetch->deadline_ms <= fetch->now_ms;

	for (int i = 0; i < count; i++)
	{
		int mask = 0;

		if (events[i].events & EPOLLIN)
			mask |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			mask |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			mask |= CURL_CSELECT_ERR;
		if (advance_dialogue(fetch, events[i].data.fd))
			continue;
		curl_multi_socket_action(fetch->multi, events[i].data.fd, mask, &running);
	}
	if (timer)
	{
		fetch->deadline_ms = A67_NEVER;
		curl_multi_socket_action(fetch->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	return count > 0 || timer;
}

static bool
open_queued(A67Fetch *fetch)
{
	bool opened = false;

	while (fetch->open < fetch->concurrency && fetch->queue.count > 0)
	{
		open_transfer(fetch, list_take(&fetch->queue));
		opened = true;
	}
	return opened;
}

void
a67_fetch_run(A67Fetch *fetch, int64_t now_ms)
{
	sigset_t before;

	block_signals(&before);
	fetch->now_ms = now_ms;
	for (int round = 0; round < ROUNDS_MAX; round++)
	{
		bool moved = open_queued(fetch);

		moved = advance(fetch) || moved;
		harvest(fetch);
		if (!moved)
			break;
	}
	end_late_dialogues(fetch);
	restore_signals(&before);
}

int
a67_fetch_fd(const A67Fetch *fetch)
{
	return fetch->epoll_fd;
}

int64_t
a67_fetch_deadline_ms(const A67Fetch *fetch)
{
	int64_t deadline_ms = fetch->deadline_ms;

	if (fetch->queue.count > 0 && fetch->open < fetch->concurrency)
		return fetch->now_ms;
	for (const A67Transfer *transfer = fetch->talking; transfer; transfer = transfer->next)
		deadline_ms = a67_deadline_min(deadline_ms, transfer->deadline_ms);
	return deadline_ms;
}

A67FetchResult *
a67_fetch_take(A67Fetch *fetch)
{
	A67Transfer *transfer = list_take(&fetch->done);

	return transfer ? &transfer->result : NULL;
}

void
a67_fetch_release(A67Fetch *fetch, A67FetchResult *result)
{
	if (result != NULL)
		forget(fetch, (A67Transfer *) result);
}

size_t
a67_fetch_waiting(const A67Fetch *fetch)
{
	return fetch->queue.count;
}

size_t
a67_fetch_open(const A67Fetch *fetch)
{
	return fetch->open;
}

size_t
a67_fetch_expire(A67Fetch *fetch, int64_t max_wait_ms, int64_t now_ms)
{
	size_t dropped = 0;

	/* The queue is in order of arrival: the first that is young enough ends the search. */
	while (fetch->queue.first != NULL && now_ms - fetch->queue.first->queued_ms > max_wait_ms)
	{
		forget(fetch, list_take(&fetch->queue));
		dropped++;
	}
	return dropped;
}
