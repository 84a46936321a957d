/*
 * main.c - a67-agent: command line, start in the right order, the loop, the end.
 *
 * The only file that exits.  Order of a start: state directory and lock, identity, listening socket,
 * registration when needed, recovery of the replicas, heartbeats.  One poll() loop, no threads; nothing
 * in it blocks but fsync and, for a controller named by host name, its resolution (2 s a name server).
 * Exit status: 0 as asked, 100 usage, 111 could not go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <sodium.h>

#include "clock.h"
#include "control.h"
#include "core/address.h"
#include "core/http/tls.h"
#include "trim.h"
#include "notify.h"
#include "run.h"
#include "sealed_env.h"
#include "serve.h"
#include "ship.h"

#define EXIT_USAGE	  100
#define EXIT_SYSTEM	  111
#define LOCK_WAIT_MS  2000	/* a killed agent's child may still be about to exec */
#define PORT_WAIT_MS  10000 /* for the port under which the controller knows us */
#define PORT_POLL_MS  100
#define GOODBYE_MS	  3000
#define STOP_APPS_MS  630000 /* longest grace, and some */
#define CLEAN_ENTRIES 1000
#define CLEAN_STEPS	  10000
#define TRIM_FIRST_MS 1000
#define TRIM_MS		  60000

typedef enum Phase
{
	PHASE_JOIN, /* not registered yet */
	PHASE_RUN,
	PHASE_HALT,	   /* applications end */
	PHASE_GOODBYE, /* last beat under way */
	PHASE_DISMISS, /* removed by the controller: applications end, state goes */
	PHASE_DONE
} Phase;

typedef struct Agent
{
	A67Options options;
	A67StateDir dir;
	A67Identity identity;
	A67Host host;
	struct ssl_ctx_st *tls;		   /* towards the controller; NULL for http */
	struct ssl_ctx_st *served_tls; /* of our server; NULL: plain */
	A67Supervisor supervisor;
	A67Metrics metrics;
	A67UsageTable usage;
	A67Control control;
	A67Serve serve;
	A67Chunks chunks;
	A67Logs logs;
	A67Ship ship;
	char endpoint[A67_OPTION_SIZE + 32];
	int signals;
	Phase phase;
	int64_t phase_ends_ms;
	int64_t trim_at_ms;
	int status;
} Agent;

static int
open_signals(A67Why *why)
{
	sigset_t set;
	int fd;

	(void) signal(SIGPIPE, SIG_IGN);
	(void) sigemptyset(&set);
	(void) sigaddset(&set, SIGTERM);
	(void) sigaddset(&set, SIGINT);
	(void) sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return a67_why(why, -errno, "could not block signals: %s", strerror(errno));
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return a67_why(why, -errno, "could not make a signal descriptor: %s", strerror(errno));
	return fd;
}

/* Takes the join token apart and decides between registering and running. */
static int
prepare_join(Agent *agent, A67Why *why)
{
	A67Identity *identity = &agent->identity;
	A67HttpUrl url;
	A67JoinKeys keys;
	bool changed;
	int err = a67_join_token_parse(agent->options.token, &keys, why);

	if (err != 0)
		return err;
	if (a67_http_url_parse(agent->options.url, &url) != 0)
		return a67_why(why, -EINVAL, "\"%s\" is not an http or https URL", agent->options.url);
	if (keys.pinned && !url.tls)
		return a67_why(why, -EINVAL,
					   "this join token is for a controller with TLS: its URL begins with "
					   "\"https://\"");
	if (identity->registered && !a67_identity_knows_key(identity, keys.controller))
		return a67_why(why, -EEXIST,
					   "this state directory belongs to a node of another controller: use another "
					   "--state-dir, or remove it");
	changed = strcmp(identity->controller_url, agent->options.url) != 0 ||
			  identity->tls_pinned != keys.pinned ||
			  memcmp(identity->tls_pin, keys.tls_pin, sizeof(keys.tls_pin)) != 0;
	if (!identity->registered)
	{
		memcpy(identity->join_key, keys.controller, sizeof(keys.controller));
		memcpy(identity->controller_key, keys.controller, sizeof(keys.controller));
	}
	memcpy(identity->tls_pin, keys.tls_pin, sizeof(keys.tls_pin));
	identity->tls_pinned = keys.pinned;
	if (!changed)
		return 0;
	(void) snprintf(identity->controller_url, sizeof(identity->controller_url), "%s",
					agent->options.url);
	return identity->registered ? a67_identity_save(&agent->dir, identity, why) : 0;
}

static int
prepare_identity(Agent *agent, A67Why *why)
{
	A67HttpUrl url;
	int err = a67_identity_load(&agent->dir, &agent->identity, why);

	if (err != 0)
		return err;
	if (agent->options.command == A67_COMMAND_JOIN)
		err = prepare_join(agent, why);
	else if (!agent->identity.registered)
		err =
			a67_why(why, -ENOENT, "this node is not registered: use \"a67-agent join URL TOKEN\"");
	if (err != 0)
		return err;
	if (a67_http_url_parse(agent->identity.controller_url, &url) != 0)
		return a67_why(why, -EINVAL, "controller URL is not an http or https URL");
	/* Nobody but this machine could be read on the way, or answer in the controller's place. */
	if (!url.tls && !a67_host_is_loopback(url.host, strlen(url.host)))
		return a67_why(why, -EINVAL,
					   "\"%s\": a controller on another machine is reached by an https URL",
					   agent->identity.controller_url);
	if (url.tls)
	{
		const char *ca_file = agent->options.ca_file[0] != '\0' ? agent->options.ca_file : NULL;

		/* A pin needs no authorities, and they are many. */
		agent->tls = a67_tls_client_context(agent->identity.tls_pinned ? "" : ca_file, why->text,
											sizeof(why->text));
		if (agent->tls == NULL)
			return -EPROTO;
	}
	return 0;
}

/*
 * Listens.  The controller knows a registered node by its port: with port 0 that one is taken again,
 * waiting for whoever holds it for the moment.
 */
static int
prepare_server(Agent *agent, A67Why *why)
{
	const A67Options *options = &agent->options;
	bool known = agent->identity.registered;
	uint16_t port = options->port != 0 || !known ? options->port : agent->identity.port;
	int err;

	if (!options->insecure_loopback)
	{
		agent->served_tls = a67_identity_tls(&agent->dir, why);
		if (agent->served_tls == NULL)
			return -EPROTO;
	}
	for (int waited = 0;; waited += PORT_POLL_MS)
	{
		err = a67_serve_open(&agent->serve, agent->served_tls, options->listen, port, why);
		if (err != -EADDRINUSE || waited >= PORT_WAIT_MS || !known)
			break;
		a67_serve_close(&agent->serve);
		(void) poll(NULL, 0, PORT_POLL_MS);
	}
	if (err == 0 && known && agent->serve.port != agent->identity.port)
		a67_log(A67_LOG_WARNING, "the controller knows this node by port %u, not %u",
				agent->identity.port, agent->serve.port);
	if (err == 0 && known && options->insecure_loopback != agent->identity.plain)
		a67_log(A67_LOG_WARNING, "the controller knows this node by its %s endpoint",
				agent->identity.plain ? "http" : "https");
	if (err == 0 && !known)
	{
		agent->identity.port = agent->serve.port;
		agent->identity.plain = options->insecure_loopback;
	}
	return err;
}

/* https://HOST:PORT as the controller is to use it. */
static void
make_endpoint(Agent *agent)
{
	const A67Options *options = &agent->options;
	const char *host = options->advertise;
	const char *scheme = options->insecure_loopback ? "http" : "https";
	bool bracketed;

	if (host[0] == '\0')
		host = strcmp(options->listen, "0.0.0.0") == 0 || strcmp(options->listen, "::") == 0
				   ? options->name
				   : options->listen;
	else if (host[a67_host_length(host)] == ':')
	{
		(void) snprintf(agent->endpoint, sizeof(agent->endpoint), "%s://%s", scheme, host);
		return;
	}
	bracketed = host[0] == '[' || strchr(host, ':') == NULL;
	if (!bracketed)
		(void) snprintf(agent->endpoint, sizeof(agent->endpoint), "%s://[%s]:%u", scheme, host,
						agent->serve.port);
	else
		(void) snprintf(agent->endpoint, sizeof(agent->endpoint), "%s://%s:%u", scheme, host,
						agent->serve.port);
}

static int
prepare(Agent *agent, A67Why *why)
{
	A67ControlSetup setup = {.options = &agent->options, .dir = &agent->dir};
	int err;

	agent->signals = open_signals(why);
	if (agent->signals < 0)
		return agent->signals;
	err = a67_statedir_open(&agent->dir, agent->options.state_dir, LOCK_WAIT_MS, why);
	if (err == 0)
		err = prepare_identity(agent, why);
	if (err == 0)
		err = a67_host_open(&agent->host, &agent->dir, agent->options.user_range, why);
	if (err == 0)
		err = prepare_server(agent, why);
	if (err != 0)
		return err;
	make_endpoint(agent);
	a67_metrics_init(&agent->metrics, "", agent->dir.path, a67_clock_now_ms());
	err = a67_chunks_open(&agent->chunks, &agent->dir, agent->options.chunk_quota,
						  agent->options.scrub_ms, why);
	if (err != 0)
		return err;
	a67_supervisor_init(&agent->supervisor, &agent->dir, &agent->identity, agent->tls);
	agent->supervisor.host = &agent->host;
	a67_logs_open(&agent->logs, &agent->dir, &agent->supervisor);
	setup.identity = &agent->identity;
	setup.supervisor = &agent->supervisor;
	setup.metrics = &agent->metrics;
	setup.chunks = &agent->chunks.store;
	setup.tls = agent->tls;
	setup.endpoint = agent->endpoint;
	if (a67_control_init(&agent->control, &setup, a67_clock_now_ms()) != 0)
		return a67_why(why, -ENOMEM, "out of memory");
	agent->serve.dir = &agent->dir;
	agent->serve.identity = &agent->identity;
	agent->serve.supervisor = &agent->supervisor;
	agent->serve.control = &agent->control;
	agent->serve.metrics = &agent->metrics;
	agent->serve.usage = &agent->usage;
	agent->serve.chunks = &agent->chunks;
	agent->serve.logs = &agent->logs;
	agent->logs.server = agent->serve.server;
	a67_ship_open(&agent->ship, &agent->logs, &agent->control, agent->tls);
	agent->phase = PHASE_JOIN;
	agent->phase_ends_ms = A67_NEVER;
	agent->trim_at_ms = A67_NEVER;
	return 0;
}

/* ---- phases ---- */

static void
enter_run(Agent *agent, int64_t now_ms)
{
	agent->phase = PHASE_RUN;
	a67_host_join(&agent->host, agent->identity.node_id);
	a67_supervisor_recover(&agent->supervisor, now_ms);
	(void) printf("a67-agent: ready node=%s listen=%s\n", agent->identity.node_id, agent->endpoint);
	(void) fflush(stdout);
	a67_notify_ready();
	a67_log(A67_LOG_INFO, "ready: node %s, %s, %zu replicas", agent->identity.node_id,
			agent->endpoint, agent->supervisor.count);
	agent->trim_at_ms = a67_deadline_in(now_ms, TRIM_FIRST_MS);
}

static void
enter_joined(Agent *agent)
{
	(void) printf("a67-agent: joined node=%s listen=%s\n", agent->identity.node_id,
				  agent->endpoint);
	(void) fflush(stdout);
	agent->phase = PHASE_DONE;
}

static void
enter_goodbye(Agent *agent, int64_t now_ms)
{
	agent->phase = PHASE_GOODBYE;
	a67_control_goodbye(&agent->control, GOODBYE_MS, now_ms);
}

static void
enter_end(Agent *agent, int64_t now_ms)
{
	if (agent->phase == PHASE_JOIN)
		agent->phase = PHASE_DONE;
	else if (agent->phase == PHASE_RUN && agent->options.stop_apps)
	{
		a67_log(A67_LOG_INFO, "ending: applications are stopped");
		agent->phase = PHASE_HALT;
		agent->phase_ends_ms = a67_deadline_in(now_ms, STOP_APPS_MS);
		a67_supervisor_halt(&agent->supervisor);
	}
	else if (agent->phase == PHASE_RUN)
	{
		a67_log(A67_LOG_INFO, "ending: applications go on");
		enter_goodbye(agent, now_ms);
	}
	else if (agent->phase == PHASE_HALT)
		enter_goodbye(agent, now_ms);
}

static void
enter_dismiss(Agent *agent, int64_t now_ms)
{
	a67_log(A67_LOG_WARNING, "the controller has removed this node: applications are stopped");
	agent->phase = PHASE_DISMISS;
	agent->phase_ends_ms = a67_deadline_in(now_ms, STOP_APPS_MS);
	a67_supervisor_dismiss(&agent->supervisor);
}

/* All that a removed node leaves is the empty directory and its lock. */
static void
remove_state(Agent *agent)
{
	static const char *const parts[] = {"replicas", "apps", "cache", "logs", "chunks"};
	int steps = 0;

	a67_identity_forget(&agent->dir);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		(void) a67_trash_put(&agent->dir, parts[i]);
	while (steps++ < CLEAN_STEPS && a67_trash_step(&agent->dir, CLEAN_ENTRIES))
		continue;
}

static void
step_phase(Agent *agent, int64_t now_ms)
{
	bool late = a67_deadline_expired(agent->phase_ends_ms, now_ms);
	A67ControlState link = agent->control.state;

	if (link == A67_CONTROL_GONE && agent->phase == PHASE_RUN)
		enter_dismiss(agent, now_ms);
	switch (agent->phase)
	{
		case PHASE_JOIN:
			if (link == A67_CONTROL_REFUSED)
			{
				a67_log(A67_LOG_ERROR, "cannot join: %s", agent->control.problem.text);
				agent->status = EXIT_SYSTEM;
				agent->phase = PHASE_DONE;
			}
			else if (link == A67_CONTROL_JOINED && agent->options.once)
				enter_joined(agent);
			else if (link == A67_CONTROL_JOINED)
				enter_run(agent, now_ms);
			break;
		case PHASE_HALT:
			if (a67_supervisor_idle(&agent->supervisor) || late)
				enter_goodbye(agent, now_ms);
			break;
		case PHASE_GOODBYE:
			if (link != A67_CONTROL_JOINED)
				agent->phase = PHASE_DONE;
			break;
		case PHASE_DISMISS:
			if (!a67_supervisor_idle(&agent->supervisor) && !late)
				break;
			remove_state(agent);
			agent->phase = PHASE_DONE;
			break;
		default:
			break;
	}
}

/* ---- the loop ---- */

static void
read_signals(Agent *agent, int64_t now_ms)
{
	struct signalfd_siginfo info;
	bool end = false;
	bool child = false;

	while (read(agent->signals, &info, sizeof(info)) == (ssize_t) sizeof(info))
	{
		if (info.ssi_signo == SIGCHLD)
			child = true;
		else
			end = true;
	}
	if (child)
		a67_supervisor_reap(&agent->supervisor);
	if (end)
		enter_end(agent, now_ms);
}

static void
turn(Agent *agent, A67PollSet *set)
{
	int64_t now_ms = a67_clock_now_ms();
	int signals_at;

	a67_poll_reset(set);
	signals_at = a67_poll_add(set, agent->signals, POLLIN);
	a67_serve_prepare(&agent->serve, set, now_ms);
	a67_chunks_prepare(&agent->chunks, set, now_ms);
	a67_metrics_prepare(&agent->metrics, set);
	a67_control_prepare(&agent->control, set, now_ms);
	a67_supervisor_prepare(&agent->supervisor, set, now_ms);
	a67_logs_prepare(&agent->logs, set, now_ms);
	a67_ship_prepare(&agent->ship, set, now_ms);
	a67_poll_until(set, agent->phase_ends_ms);
	a67_poll_until(set, agent->trim_at_ms);
	if (poll(set->fds, (nfds_t) set->count, a67_deadline_timeout(set->deadline_ms, now_ms)) < 0 &&
		errno != EINTR)
		a67_log(A67_LOG_ERROR, "poll: %s", strerror(errno));
	now_ms = a67_clock_now_ms();
	if (a67_poll_ready(set, signals_at))
		read_signals(agent, now_ms);
	a67_serve_step(&agent->serve, now_ms);
	a67_chunks_step(&agent->chunks, agent->serve.server, now_ms);
	if (a67_metrics_step(&agent->metrics, now_ms))
		a67_usage_sample(&agent->usage, &agent->supervisor, now_ms);
	a67_supervisor_step(&agent->supervisor, set, now_ms);
	a67_logs_step(&agent->logs, now_ms);
	a67_control_step(&agent->control, set, now_ms);
	a67_ship_step(&agent->ship, set, now_ms);
	step_phase(agent, now_ms);
	if (a67_deadline_expired(agent->trim_at_ms, now_ms))
	{
		a67_memory_trim();
		agent->trim_at_ms = a67_deadline_in(now_ms, TRIM_MS);
	}
}

static void
clean_up(Agent *agent)
{
	a67_ship_close(&agent->ship);
	a67_control_free(&agent->control);
	a67_serve_close(&agent->serve);
	a67_chunks_close(&agent->chunks);
	a67_logs_close(&agent->logs);
	a67_supervisor_free(&agent->supervisor);
	a67_host_close(&agent->host);
	a67_usage_free(&agent->usage);
	a67_tls_context_free(agent->tls);
	a67_tls_context_free(agent->served_tls);
	a67_statedir_close(&agent->dir);
	if (agent->signals > 0)
		(void) close(agent->signals);
	sodium_memzero(agent, sizeof(*agent));
	free(agent);
}

static int
run(A67Options *options)
{
	Agent *agent = calloc(1, sizeof(*agent));
	A67PollSet *set = calloc(1, sizeof(*set));
	A67Why why = {"out of memory"};
	int status = EXIT_SYSTEM;
	int err;

	if (agent == NULL || set == NULL)
		goto done;
	agent->options = *options;
	sodium_memzero(options->token, sizeof(options->token));
	err = prepare(agent, &why);
	if (err != 0)
	{
		status = err == -EINVAL ? EXIT_USAGE : EXIT_SYSTEM;
		goto done;
	}
	why.text[0] = '\0';
	/* A node that is registered knows its replicas before it answers anybody. */
	step_phase(agent, a67_clock_now_ms());
	while (agent->phase != PHASE_DONE)
		turn(agent, set);
	status = agent->status;
	a67_log(A67_LOG_INFO, "ended");
done:
	if (why.text[0] != '\0')
		a67_log(A67_LOG_ERROR, "%s", why.text);
	if (agent != NULL)
		clean_up(agent);
	free(set);
	return status;
}

/* Where there is no standard output, messages must not go to whatever is opened first. */
static void
hold_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void) close(fd);
}

int
main(int argc, char **argv)
{
	A67Options options;
	A67Why why;
	int err;

	if (argc > 0 && strcmp(argv[0], A67_RUN_NAME) == 0)
		return a67_run_main(argv);
	if (argc > 0 && strcmp(basename(argv[0]), A67_STATIC_NAME) == 0)
		return a67_static_main(argv);
	hold_standard_files();
	err = a67_options_parse(argc, argv, &options, &why);
	if (err == -EINVAL)
	{
		(void) fprintf(stderr, "a67-agent: %s\nTry \"a67-agent --help\".\n", why.text);
		return EXIT_USAGE;
	}
	if (err != 0)
	{
		(void) fprintf(stderr, "a67-agent: %s\n", why.text);
		return EXIT_SYSTEM;
	}
	if (options.command == A67_COMMAND_HELP || options.command == A67_COMMAND_VERSION)
	{
		(void) printf("%s", options.command == A67_COMMAND_HELP ? a67_options_help
																: "a67-agent " A67_VERSION "\n");
		return fflush(stdout) == 0 ? 0 : EXIT_SYSTEM;
	}
	a67_log_set_level(options.log_level);
	/* Keys and secrets pass through: no core file, nobody's debugger.  An exec undoes it for children. */
	(void) prctl(PR_SET_DUMPABLE, 0);
	/* The one wait that the loop has to sit out, so it is short; who knows better has set it himself. */
	(void) setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
	a67_env_wipe_json();
	if (sodium_init() < 0)
	{
		a67_log(A67_LOG_ERROR, "could not initialise libsodium");
		return EXIT_SYSTEM;
	}
	return run(&options);
}
