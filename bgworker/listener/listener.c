/*
 * listener.c: the listener as a worker of the common loop.
 *
 * Owns the process: opens the address, publishes it, drives the engine and the dispatcher, obeys a
 * reload, and closes everything at the end. It has shared memory but no database, so nothing it does
 * waits for SQL and no DROP DATABASE waits for it. Several listeners share one port by SO_REUSEPORT.
 * Memory: the state in worker->life; jobs and connections by malloc. Locks: those of shared memory,
 * briefly. An error in a tick is the loop's to count; ten in a row end the process, and its api workers
 * with it.
 */
#include "postgres.h"

#include "listener/listener.h"
#include "listener/state.h"
#include "listener/tail.h"
#include "listener/ws.h"

#include <signal.h>
#include <sys/resource.h>

#include "miscadmin.h"
#include "storage/latch.h"

#include "core/http/tls.h"
#include "crypto/keyring.h"
#include "crypto/vault.h"
#include "platform/clock.h"
#include "platform/settings.h"

#define EVENTS_MAX	 256 /* of the engine in one turn */
#define SPARE_FILES	 256 /* descriptors beside the clients' */
#define LINE_BYTES	 8192
#define MAX_RESPONSE (1024 * 1024) /* unsent bytes of one answer: above A67_HIGH_WATER by far */

static int
listener_count(void)
{
	return a67_listeners;
}

static void
fill_config(A67HttpConfig *config, A67Listener *listener)
{
	a67_http_config_defaults(config);
	config->callbacks = a67_service_callbacks;
	config->arg = listener;
	config->tls = listener->pair.context;
	config->max_clients = (uint32) a67_max_clients;
	config->head.head_bytes = (size_t) a67_max_header_size;
	config->head.line_bytes = Min(config->head.head_bytes, LINE_BYTES);
	config->max_body = (uint64) a67_max_body_size;
	config->max_response = MAX_RESPONSE;
	config->high_water = A67_HIGH_WATER;
	config->header_ms = (uint32) a67_header_timeout;
	config->idle_ms = (uint32) a67_idle_timeout;
	config->answer_ms = 0; /* dispatch.c knows better when an answer is late */
}

/* Room for every client; a soft limit only, so best effort is right. */
static void
raise_file_limit(void)
{
	struct rlimit limit;
	rlim_t wanted = (rlim_t) a67_max_clients + SPARE_FILES;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = Min(wanted, limit.rlim_max);
	(void) setrlimit(RLIMIT_NOFILE, &limit);
}

static const char *
scheme_of(const A67Listener *listener)
{
	return listener->pair.context != NULL ? "https" : "http";
}

static void
publish_place(const A67Listener *listener, int instance)
{
	A67ListenerPlace place = {
		.address = a67_listen_address,
		.port = listener->port,
		.scheme = scheme_of(listener),
		.tls_pin = listener->pair.pin,
	};

	a67_listener_publish(instance, &place);
}

static void
open_address(A67Listener *listener, int instance)
{
	uint16 port = 0;
	int rc = a67_http_server_listen(listener->server, a67_listen_address, (uint16) a67_port,
									a67_listeners > 1 && a67_port != 0, &port);

	if (rc < 0)
	{
		errno = -rc;
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not listen on \"%s\", port %d: %m", a67_listen_address, a67_port)));
	}
	listener->port = port;
	publish_place(listener, instance);
	ereport(LOG, (errmsg("a67 listens on \"%s\", port %d, %s", a67_listen_address, (int) port,
						 scheme_of(listener))));
	if (listener->pair.context == NULL && !a67_listens_on_loopback())
		ereport(WARNING, (errmsg("a67 speaks plain HTTP beyond this machine"),
						  errdetail("Tokens and data travel in the clear."),
						  errhint("Set a67.tls to \"auto\" or \"on\".")));
}

static void
start_tls(A67Listener *listener)
{
	char why[512];

	if (!a67_tls_wanted())
		return;
	if (!a67_tls_pair_load(&listener->pair, why, sizeof(why)))
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("listener cannot speak TLS"),
						errdetail_internal("%s", why)));
}

/* Takes over a changed pair for new connections; a broken one is refused. */
static void
reload_tls(A67Listener *listener)
{
	A67TlsPair next;
	char why[512];

	if (listener->pair.context == NULL)
		return;
	if (!a67_tls_pair_load(&next, why, sizeof(why)))
	{
		ereport(LOG, (errmsg("listener keeps its TLS certificate and key"),
					  errdetail_internal("%s", why)));
		return;
	}
	(void) a67_http_server_set_tls(listener->server, next.context);
	a67_tls_context_free(listener->pair.context);
	listener->pair = next;
	publish_place(listener, listener->worker->instance);
}

/*
 * The postmaster's word that an api worker has started or ended. The server leaves this signal ignored
 * in a worker without a database.
 */
static void
handle_sigusr1(SIGNAL_ARGS)
{
	int saved_errno = errno;

	SetLatch(MyLatch);
	errno = saved_errno;
}

static void *
listener_start(A67Worker *worker)
{
	A67Listener *listener = MemoryContextAllocZero(worker->life, sizeof(*listener));
	A67HttpConfig config;

	(void) pqsignal(SIGPIPE, SIG_IGN);
	(void) pqsignal(SIGUSR1, handle_sigusr1);
	a67_crypto_init();
	a67_secret_process();
	raise_file_limit();
	listener->worker = worker;
	if (!pg_strong_random(&listener->random, sizeof(listener->random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random numbers")));
	dlist_init(&listener->waiting);
	if (!a67_token_cache_init(&listener->tokens, (uint32) a67_max_nodes))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	start_tls(listener);
	fill_config(&config, listener);
	listener->server = a67_http_server_new(&config);
	if (listener->server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not make the HTTP server: %m")));
	a67_sockets_init(listener);
	a67_tails_init(listener);
	a67_pool_init(listener);
	open_address(listener, worker->instance);
	worker->fd = a67_http_server_fd(listener->server);
	return listener;
}

static void
publish_numbers(A67Listener *listener)
{
	A67ListenerInfo *info = &a67_shared->listeners[listener->worker->instance];
	A67HttpStats stats;

	a67_http_server_stats(listener->server, &stats);
	pg_atomic_write_u32(&info->clients, stats.clients);
	pg_atomic_write_u64(&info->requests, stats.responses);
	pg_atomic_write_u32(&info->api_workers, (uint32) a67_pool_ready(listener));
	pg_atomic_write_u32(&info->queued, (uint32) listener->nwaiting);
}

/* One turn: what clients sent becomes jobs, jobs become answers, answers go out. */
static void
take_turn(A67Worker *worker, void *state)
{
	A67Listener *listener = state;
	int rc;

	if (worker->reloaded)
	{
		A67HttpConfig config;

		fill_config(&config, listener);
		raise_file_limit();
		reload_tls(listener);
		if (a67_http_server_reconfigure(listener->server, &config) < 0)
			ereport(LOG, (errmsg("listener could not take over the new limits")));
	}
	rc = a67_http_server_run(listener->server, a67_now_ms(), EVENTS_MAX);
	if (rc < 0)
	{
		errno = -rc;
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not wait for clients: %m")));
	}
	a67_http_server_set_now(listener->server, a67_now_ms());
	a67_sockets_run(listener);
	a67_tails_run(listener);
	a67_dispatch_run(listener);
	if (a67_http_server_next_deadline(listener->server, a67_now_ms()) == 0)
		(void) a67_http_server_run(listener->server, a67_now_ms(), EVENTS_MAX);
	publish_numbers(listener);
}

static int64
listener_deadline(A67Worker *worker, void *state)
{
	A67Listener *listener = state;
	int64 now = a67_now_ms();
	int64 wait = a67_http_server_next_deadline(listener->server, now);
	int64 engine = wait < 0 ? A67_NEVER : a67_deadline_in(now, wait);

	engine = a67_deadline_min(engine, a67_tails_deadline(listener));
	return a67_deadline_min(engine, a67_deadline_min(a67_sockets_deadline(listener),
													 a67_dispatch_deadline(listener)));
}

static void
listener_stop(A67Worker *worker, void *state)
{
	A67Listener *listener = state;

	a67_listener_withdraw(worker->instance);
	a67_http_server_free(listener->server);
	listener->server = NULL;
	a67_sockets_free(listener);
	a67_tls_context_free(listener->pair.context);
	a67_token_cache_free(&listener->tokens);
	a67_pool_leave(listener);
}

const A67WorkerDef a67_listener_def = {
	.name = "listener",
	.database = false,
	.count = listener_count,
	.interval_ms = NULL,
	.start = listener_start,
	.tick = take_turn,
	.ready = take_turn,
	.deadline_ms = listener_deadline,
	.stop = listener_stop,
};
