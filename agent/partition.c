/*
 * partition.c - how long the controller has been silent, and what that means for apps that must not go
 * on alone.
 *
 * Heard means: a heartbeat was taken, or a command was verified.  Silence is measured on the clock since
 * boot, which no change of the date moves and which goes on while the machine sleeps.  The moment is
 * kept in the file "contact" while any app cares, so that an agent that is restarted again and again
 * grants no app more time than its deadline; without a moment of this boot the controller has never
 * been heard.  Called by the supervisor, the control loop and the server.
 */
#include "runner.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"

#define CONTACT_FILE  "contact"
#define CONTACT_BYTES 256
#define NEVER_HEARD	  INT64_MIN
#define REUNION_MS	  3000 /* for the controller to say that it has moved the app meanwhile */

static bool
cares(const A67Replica *replica)
{
	return replica->desired != NULL && replica->desired->on_partition == A67_PARTITION_STOP &&
		   !a67_replica_is_run(replica);
}

/* Whether it would have to stop if the controller were silent for too long. */
static bool
is_exposed(const A67Replica *replica)
{
	return cares(replica) &&
		   a67_machine_cell(replica->state, A67_EVENT_PARTED).action != A67_ACTION_IGNORE;
}

static int64_t
silence_ms(const A67Supervisor *supervisor)
{
	if (supervisor->heard_ms == NEVER_HEARD)
		return INT64_MAX;
	return a67_clock_boot_ms() - supervisor->heard_ms;
}

int64_t
a67_supervisor_contact_gap_ms(const A67Supervisor *supervisor)
{
	int64_t shortest_ms = A67_NEVER;

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Replica *replica = supervisor->replicas[i];

		if (cares(replica) && replica->desired->partition_deadline_ms < shortest_ms)
			shortest_ms = replica->desired->partition_deadline_ms;
	}
	/* Two chances to be heard before it is too late. */
	return shortest_ms == A67_NEVER ? A67_NEVER : shortest_ms / 3;
}

/* Rarely enough for any disk: a moment that is a little old only makes apps stop a little sooner. */
static void
record_contact(A67Supervisor *supervisor)
{
	int64_t gap_ms = a67_supervisor_contact_gap_ms(supervisor);
	char text[CONTACT_BYTES];
	A67Why why;

	if (gap_ms == A67_NEVER || (supervisor->recorded_ms != NEVER_HEARD &&
								supervisor->heard_ms - supervisor->recorded_ms < gap_ms / 2))
		return;
	(void) snprintf(text, sizeof(text), "%s %lld\n", a67_clock_boot_id(),
					(long long) supervisor->heard_ms);
	if (a67_statedir_write(supervisor->dir, CONTACT_FILE, text, strlen(text), &why) == 0)
		supervisor->recorded_ms = supervisor->heard_ms;
	else
		a67_log(A67_LOG_WARNING, "%s", why.text);
}

void
a67_partition_load(A67Supervisor *supervisor)
{
	const char *boot = a67_clock_boot_id();
	long long heard_ms = 0;
	A67Buf text;

	supervisor->heard_ms = supervisor->recorded_ms = NEVER_HEARD;
	a67_buf_init(&text, CONTACT_BYTES);
	if (a67_statedir_read(supervisor->dir, CONTACT_FILE, &text, NULL) == 0 &&
		text.len > strlen(boot) && memcmp(text.data, boot, strlen(boot)) == 0 &&
		sscanf(a67_buf_text(&text) + strlen(boot), " %18lld", &heard_ms) == 1 && heard_ms >= 0 &&
		heard_ms <= a67_clock_boot_ms())
		supervisor->heard_ms = supervisor->recorded_ms = heard_ms;
	a67_buf_free(&text);
}

void
a67_supervisor_heard(A67Supervisor *supervisor)
{
	int64_t now_ms = a67_clock_now_ms();

	supervisor->heard_ms = a67_clock_boot_ms();
	record_contact(supervisor);
	for (size_t i = 0; i < supervisor->count; i++)
	{
		A67Replica *replica = supervisor->replicas[i];

		if (replica->state == A67_REPLICA_PARTED && replica->due_ms == A67_NEVER)
			replica->due_ms = a67_deadline_in(now_ms, REUNION_MS);
	}
}

void
a67_partition_prepare(const A67Supervisor *supervisor, A67PollSet *set, int64_t now_ms)
{
	int64_t silent_ms = silence_ms(supervisor);

	for (size_t i = 0; i < supervisor->count; i++)
	{
		const A67Replica *replica = supervisor->replicas[i];
		int64_t left_ms;

		if (!is_exposed(replica) || replica->blocked == A67_EVENT_PARTED)
			continue;
		left_ms = replica->desired->partition_deadline_ms;
		left_ms = left_ms > silent_ms ? left_ms - silent_ms : 0;
		a67_poll_until(set, a67_deadline_in(now_ms, left_ms));
	}
}

void
a67_partition_step(A67Supervisor *supervisor, int64_t now_ms)
{
	int64_t silent_ms = silence_ms(supervisor);

	for (size_t i = 0; i < supervisor->count; i++)
	{
		A67Replica *replica = supervisor->replicas[i];
		bool overdue = cares(replica) && silent_ms >= replica->desired->partition_deadline_ms;

		if (overdue && is_exposed(replica) && replica->blocked != A67_EVENT_PARTED)
		{
			a67_log(A67_LOG_WARNING, "replica %s stops: the controller is silent", replica->id);
			(void) a67_runner_event(supervisor, replica, A67_EVENT_PARTED);
		}
		else if (replica->state == A67_REPLICA_PARTED &&
				 a67_deadline_expired(replica->due_ms, now_ms))
		{
			replica->due_ms = A67_NEVER;
			if (!overdue)
				(void) a67_runner_event(supervisor, replica, A67_EVENT_REUNITED);
		}
	}
}
