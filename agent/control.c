/*
 * control.c - when to talk to the controller and what to make of its answers.  See control.h.
 *
 * The bodies of requests are built in report.c.
 */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "clock.h"
#include "report.h"

#define REQUEST_TOTAL_MS  15000
#define REQUEST_IDLE_MS	  10000
#define ANSWER_MAX_BYTES  65536
#define FIRST_DELAY_MS	  200
#define SHORT_INTERVAL_MS 30000
#define SHORT_PATIENCE_MS 30000
#define LONG_PATIENCE_MS  300000
#define RENEW_PART		  0.67
#define RENEW_RETRY_MS	  60000

typedef struct Route
{
	const char *path;
	bool bearer;
} Route;

static const Route routes[] = {
	[A67_REQUEST_NONE] = {NULL, false},
	[A67_REQUEST_REGISTER] = {"/api/v1/nodes/register", false},
	[A67_REQUEST_BEAT] = {"/api/v1/nodes/heartbeat", true},
	[A67_REQUEST_RENEW] = {"/rpc/node_token_renew", true},
	[A67_REQUEST_GOODBYE] = {"/api/v1/nodes/heartbeat", true},
};

int64_t
a67_control_interval_ms(const A67Control *control)
{
	return control->options->heartbeat_ms > 0 ? control->options->heartbeat_ms
											  : control->identity->heartbeat_ms;
}

int64_t
a67_control_patience_ms(int64_t interval_ms)
{
	if (interval_ms >= SHORT_INTERVAL_MS)
		return LONG_PATIENCE_MS;
	return interval_ms * 10 < SHORT_PATIENCE_MS ? interval_ms * 10 : SHORT_PATIENCE_MS;
}

/*
 * When 67 % of the node token's life are over; a token that tells no times is never renewed.  A fresh one
 * begins its life now, whatever the clock says; of one that was stored the wall clock tells the age,
 * but never that it has more than its whole life before it.
 */
static void
plan_renewal(A67Control *control, bool fresh, int64_t now_ms)
{
	int64_t iat_s;
	int64_t exp_s;
	int64_t wait_ms;
	int64_t age_ms;

	control->renew_at_ms = A67_NEVER;
	if (!a67_jwt_times(control->identity->node_token, &iat_s, &exp_s) || exp_s <= iat_s)
		return;
	wait_ms = (int64_t) ((double) (exp_s - iat_s) * RENEW_PART * 1000.0);
	age_ms = fresh ? 0 : a67_clock_wall_ms() - iat_s * 1000;
	if (age_ms > 0)
		wait_ms -= age_ms;
	control->renew_at_ms = a67_deadline_in(now_ms, wait_ms);
}

/* The back-off follows the interval, which the controller tells at registration. */
static void
plan_backoff(A67Control *control)
{
	int64_t interval_ms = a67_control_interval_ms(control);
	int64_t base_ms = interval_ms < FIRST_DELAY_MS ? interval_ms : FIRST_DELAY_MS;

	a67_backoff_init(&control->backoff, base_ms,
					 control->identity->registered ? a67_control_patience_ms(interval_ms)
												   : LONG_PATIENCE_MS,
					 a67_random_next(&control->seed));
}

int
a67_control_init(A67Control *control, const A67ControlSetup *setup, int64_t now_ms)
{
	unsigned char boot[16];
	A67HttpClientConfig config;

	memset(control, 0, sizeof(*control));
	control->options = setup->options;
	control->dir = setup->dir;
	control->identity = setup->identity;
	control->supervisor = setup->supervisor;
	control->metrics = setup->metrics;
	control->chunks = setup->chunks;
	control->poll_at = -1;
	control->deadline_ms = A67_NEVER;
	control->latency_us = -1;
	(void) snprintf(control->endpoint, sizeof(control->endpoint), "%s", setup->endpoint);
	randombytes_buf(boot, sizeof(boot));
	(void) a67_hex_encode(boot, sizeof(boot), control->boot_id, sizeof(control->boot_id));
	randombytes_buf(&control->seed, sizeof(control->seed));
	a67_http_client_defaults(&config);
	config.tls = setup->tls;
	config.pin = setup->identity->tls_pinned ? setup->identity->tls_pin : NULL;
	config.max_body = ANSWER_MAX_BYTES;
	config.total_ms = REQUEST_TOTAL_MS;
	config.idle_ms = REQUEST_IDLE_MS;
	config.keep_alive = true;
	control->client = a67_http_client_new(&config);
	if (control->client == NULL)
		return -ENOMEM;
	control->state = control->identity->registered ? A67_CONTROL_JOINED : A67_CONTROL_JOINING;
	control->next = control->identity->registered ? A67_REQUEST_BEAT : A67_REQUEST_REGISTER;
	control->due_ms = now_ms;
	plan_renewal(control, false, now_ms);
	plan_backoff(control);
	return 0;
}

void
a67_control_free(A67Control *control)
{
	a67_http_client_free(control->client);
	free(control->body);
	control->client = NULL;
	control->body = NULL;
}

/* Notes a problem; the log hears of it once, until it changes or is over. */
static void
trouble(A67Control *control, const A67Why *why)
{
	if (strcmp(control->problem.text, why->text) != 0)
		a67_log(A67_LOG_WARNING, "%s", why->text);
	control->problem = *why;
}

static void
all_well(A67Control *control)
{
	if (control->problem.text[0] != '\0')
		a67_log(A67_LOG_INFO, "controller answers again");
	control->problem.text[0] = '\0';
	control->backing_off = false;
	a67_backoff_reset(&control->backoff);
}

static void
back_off(A67Control *control, A67Request next, int64_t now_ms)
{
	control->next = next;
	control->backing_off = true;
	control->due_ms =
		a67_deadline_in(now_ms,
						a67_deadline_min(a67_backoff_next(&control->backoff),
										 a67_supervisor_contact_gap_ms(control->supervisor)));
}

/* The next regular beat: interval ± 10 %; sooner when an app depends on being heard in time. */
static void
plan_beat(A67Control *control, int64_t now_ms)
{
	int64_t interval_ms = a67_deadline_min(a67_control_interval_ms(control),
										   a67_supervisor_contact_gap_ms(control->supervisor));
	int64_t spread = interval_ms / 5;

	control->next = A67_REQUEST_BEAT;
	control->due_ms =
		a67_deadline_in(now_ms,
						interval_ms - spread / 2 +
							(int64_t) a67_random_below(&control->seed, (uint64_t) spread + 1));
}

static char *
build_body(A67Control *control, A67Request request, int64_t now_ms)
{
	switch (request)
	{
		case A67_REQUEST_REGISTER:
			return a67_report_registration(control);
		case A67_REQUEST_BEAT:
			return a67_report_beat(control, "ok", now_ms);
		case A67_REQUEST_GOODBYE:
			return a67_report_beat(control, "stopping", now_ms);
		default:
			return strdup("{}");
	}
}

/* Sends; a failure at once ends in failed(), as a later one does. */
static int
send_request(A67Control *control, A67Request request, int64_t now_ms)
{
	A67HttpUrl url;
	char bearer[A67_NODE_TOKEN_SIZE + 16];
	char target[A67_URL_SIZE + 64];
	A67HttpField headers[] = {
		{"Content-Type", "application/json"},
		{"User-Agent", "a67-agent/" A67_VERSION},
		{NULL, NULL},
		{NULL, NULL},
	};
	A67HttpClientRequest order = {.url = &url, .method = "POST", .headers = headers};
	int base;
	int err = a67_http_url_parse(control->identity->controller_url, &url);

	control->request = request;
	free(control->body);
	control->body = build_body(control, request, now_ms);
	if (err != 0 || control->body == NULL)
		return err != 0 ? err : -ENOMEM;
	base = (int) url.path.len;
	while (base > 0 && url.path.at[base - 1] == '/')
		base--;
	(void) snprintf(target, sizeof(target), "%.*s%s", base, url.path.at, routes[request].path);
	(void) snprintf(bearer, sizeof(bearer), "Bearer %s", control->identity->node_token);
	if (routes[request].bearer)
		headers[2] = (A67HttpField){"Authorization", bearer};
	order.path.at = target;
	order.path.len = strlen(target);
	order.body = control->body;
	order.body_len = strlen(control->body);
	control->seq++;
	control->sent_version = control->supervisor->version;
	control->sent_us = a67_clock_now_us();
	err = a67_http_client_start(control->client, &order, now_ms);
	sodium_memzero(bearer, sizeof(bearer));
	return err;
}

/* No answer, or none that helps. */
static void
failed(A67Control *control, const A67Why *why, int64_t now_ms)
{
	A67Request request = control->request;

	control->request = A67_REQUEST_NONE;
	if (request == A67_REQUEST_GOODBYE)
	{
		control->state = A67_CONTROL_SILENT;
		return;
	}
	if (request == A67_REQUEST_BEAT)
		control->beats_failed++;
	trouble(control, why);
	/* A failed renewal never holds up the beats: the old token may be good for hours. */
	if (request == A67_REQUEST_RENEW)
		control->renew_at_ms = a67_deadline_in(now_ms, RENEW_RETRY_MS);
	back_off(control, request == A67_REQUEST_RENEW ? A67_REQUEST_BEAT : request, now_ms);
}

static void
answered_register(A67Control *control, int status, const char *body, size_t len, int64_t now_ms)
{
	A67Why why;

	if (status == 201 || status == 200)
	{
		if (a67_report_take_registration(control, body, len, &why) != 0)
		{
			trouble(control, &why);
			control->state = A67_CONTROL_REFUSED;
			return;
		}
		all_well(control);
		sodium_memzero(control->options->token, sizeof(control->options->token));
		plan_renewal(control, true, now_ms);
		plan_backoff(control);
		control->state = A67_CONTROL_JOINED;
		control->next = A67_REQUEST_BEAT;
		control->due_ms = now_ms;
		return;
	}
	a67_report_refusal("registration", status, body, len, &why);
	if (status == 400 || status == 401 || status == 409)
	{
		control->problem = why;
		control->state = A67_CONTROL_REFUSED;
		return;
	}
	trouble(control, &why);
	back_off(control, A67_REQUEST_REGISTER, now_ms);
}

static void
answered_beat(A67Control *control, int status, const char *body, size_t len, int64_t now_ms)
{
	A67Why why;

	if (status >= 200 && status < 300)
	{
		control->beats_ok++;
		control->latency_us = a67_clock_now_us() - control->sent_us;
		control->stored_version = control->sent_version;
		a67_supervisor_acked(control->supervisor, control->sent_version);
		a67_supervisor_heard(control->supervisor);
		all_well(control);
		plan_beat(control, now_ms);
		return;
	}
	control->beats_failed++;
	if (status == 410)
	{
		control->state = A67_CONTROL_GONE;
		return;
	}
	a67_report_refusal("heartbeat", status, body, len, &why);
	trouble(control, &why);
	back_off(control, status == 401 ? A67_REQUEST_RENEW : A67_REQUEST_BEAT, now_ms);
}

static void
answered_renew(A67Control *control, int status, const char *body, size_t len, int64_t now_ms)
{
	A67Why why;

	if (status == 200 && a67_report_take_token(control, body, len, &why) == 0)
	{
		a67_log(A67_LOG_INFO, "node token renewed");
		plan_renewal(control, true, now_ms);
		control->backing_off = false;
		control->next = A67_REQUEST_BEAT;
		control->due_ms = now_ms;
		return;
	}
	if (status == 410)
	{
		control->state = A67_CONTROL_GONE;
		return;
	}
	if (status != 200)
		a67_report_refusal("renewal of the node token", status, body, len, &why);
	control->request = A67_REQUEST_RENEW;
	failed(control, &why, now_ms);
}

static void
answered(A67Control *control, int64_t now_ms)
{
	int status = a67_http_client_response(control->client)->status;
	size_t len = 0;
	const char *body = a67_http_client_body(control->client, &len);
	A67Request request = control->request;

	control->request = A67_REQUEST_NONE;
	switch (request)
	{
		case A67_REQUEST_REGISTER:
			answered_register(control, status, body, len, now_ms);
			break;
		case A67_REQUEST_BEAT:
			answered_beat(control, status, body, len, now_ms);
			break;
		case A67_REQUEST_RENEW:
			answered_renew(control, status, body, len, now_ms);
			break;
		default:
			control->state = A67_CONTROL_SILENT;
			break;
	}
}

static bool
is_talking(const A67Control *control)
{
	return control->state == A67_CONTROL_JOINING || control->state == A67_CONTROL_JOINED;
}

/* News are not held back by the interval, only by a back-off. */
static bool
has_news(const A67Control *control)
{
	return control->state == A67_CONTROL_JOINED && !control->backing_off &&
		   control->supervisor->version != control->stored_version;
}

void
a67_control_prepare(A67Control *control, A67PollSet *set, int64_t now_ms)
{
	int64_t wait;

	control->poll_at = -1;
	a67_poll_until(set, control->deadline_ms);
	if (control->request != A67_REQUEST_NONE)
	{
		control->poll_at = a67_poll_add(set, a67_http_client_fd(control->client),
										a67_http_client_events(control->client));
		wait = a67_http_client_next_deadline(control->client, now_ms);
		if (wait >= 0)
			a67_poll_until(set, a67_deadline_in(now_ms, wait));
	}
	else if (is_talking(control))
		a67_poll_until(set, has_news(control) ? now_ms : control->due_ms);
}

static void
step_request(A67Control *control, const A67PollSet *set, int64_t now_ms)
{
	A67Why why;

	if (!a67_poll_ready(set, control->poll_at) &&
		a67_http_client_next_deadline(control->client, now_ms) != 0)
		return;
	switch (a67_http_client_step(control->client, now_ms))
	{
		case A67_HTTP_CLIENT_BUSY:
			break;
		case A67_HTTP_CLIENT_DONE:
			answered(control, now_ms);
			break;
		default:
			(void) a67_why(&why, -EIO, "controller: %.250s",
						   a67_http_client_error(control->client));
			failed(control, &why, now_ms);
			break;
	}
}

static void
begin(A67Control *control, A67Request request, int64_t now_ms)
{
	A67Why why;
	int err = send_request(control, request, now_ms);

	if (err == 0)
		return;
	(void) a67_why(&why, err, "controller: %.250s",
				   err == -ENOMEM ? "out of memory" : a67_http_client_error(control->client));
	failed(control, &why, now_ms);
}

void
a67_control_step(A67Control *control, const A67PollSet *set, int64_t now_ms)
{
	A67Request request = control->next;

	if (a67_deadline_expired(control->deadline_ms, now_ms))
		control->state = A67_CONTROL_SILENT;
	if (control->request != A67_REQUEST_NONE)
	{
		step_request(control, set, now_ms);
		return;
	}
	if (!is_talking(control) ||
		(!has_news(control) && !a67_deadline_expired(control->due_ms, now_ms)))
		return;
	if (control->state == A67_CONTROL_JOINED && !control->backing_off &&
		a67_deadline_expired(control->renew_at_ms, now_ms))
		request = A67_REQUEST_RENEW;
	begin(control, request, now_ms);
}

void
a67_control_goodbye(A67Control *control, int64_t patience_ms, int64_t now_ms)
{
	a67_http_client_cancel(control->client);
	control->request = A67_REQUEST_NONE;
	if (!control->identity->registered || control->state != A67_CONTROL_JOINED)
	{
		control->state = A67_CONTROL_SILENT;
		return;
	}
	control->deadline_ms = a67_deadline_in(now_ms, patience_ms);
	control->due_ms = A67_NEVER;
	begin(control, A67_REQUEST_GOODBYE, now_ms);
}
