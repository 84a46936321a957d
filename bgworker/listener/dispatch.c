/*
 * dispatch.c: jobs through the queue, messages to and from the api workers.
 *
 * Never waits: every queue operation is "nowait", and what cannot move now moves when the latch or the
 * engine says so. One message per slot is in `out` until the worker's queue has taken all of it; answers
 * stay in shared memory while their client is slow, so neither side gathers more than its queue and the
 * engine's high-water mark. Called from listener.c outside of the engine's callbacks, except for
 * a67_dispatch_enqueue and a67_dispatch_abandon, which only change lists and flags.
 */
#include "postgres.h"

#include "listener/state.h"

#include <signal.h>

#include "platform/clock.h"
#include "platform/settings.h"

#define ROUNDS_MAX	 16	 /* over all slots, before the engine gets its turn again */
#define MESSAGES_MAX 32	 /* of one slot in one round */
#define CANCEL_AGAIN 500 /* ms between cancels of a call that nobody waits for */
#define CHALLENGE	 "Bearer realm=\"a67\""

static A67HttpConn *
conn_of(const A67Job *job)
{
	return job->gone ? NULL : a67_http_conn_find(job->listener->server, job->handle);
}

/* ---- queue ------------------------------------------------------------------------------------- */

static int
count_slots(const A67Listener *listener, A67SlotState state)
{
	int count = 0;

	for (int i = 0; i < listener->nslots; i++)
		count += listener->slots[i].state == state;
	return count;
}

bool
a67_dispatch_enqueue(A67Job *job)
{
	A67Listener *listener = job->listener;

	if (listener->nwaiting >= a67_api_queue + count_slots(listener, A67_SLOT_IDLE))
		return false;
	dlist_push_tail(&listener->waiting, &job->node);
	listener->nwaiting++;
	job->state = A67_JOB_WAITING;
	return true;
}

static void
unqueue(A67Job *job)
{
	dlist_delete(&job->node);
	if (job->note)
		job->listener->nnotes--;
	else if (job->answered == NULL)
		job->listener->nwaiting--;
}

void
a67_dispatch_abandon(A67Job *job)
{
	job->gone = true;
	job->body = NULL;
	job->listener->stirred = true;
	if (job->state == A67_JOB_RUNNING)
	{
		job->slot->discard = true;
		job->slot->paused = false;
		job->slot->cancel_at = 0;
		return;
	}
	if (job->state == A67_JOB_WAITING)
		unqueue(job);
	a67_job_free(job);
}

/* Answers for a job that no worker has answered. */
static void
refuse(A67Job *job, const A67Refusal *refusal)
{
	A67HttpConn *conn = conn_of(job);

	if (conn != NULL)
	{
		a67_access_log(a67_http_conn_request(conn), job->request_id, job->address, refusal->status,
					   a67_now_ms() - job->began);
		a67_reply_refuse(conn, refusal);
		/* The handle is used up; what is left to do is to part from the connection. */
		a67_http_conn_set_user(conn, NULL);
		a67_job_free(job);
		return;
	}
	if (job->note)
		a67_note_lost(job);
	if (job->answered != NULL)
		a67_job_answer(job, refusal->status);
	else
		a67_job_part(job);
}

static void
expire_waiting(A67Listener *listener, int64 now)
{
	static const A67Refusal late = {.status = 503,
									.message = "no api worker became free in time",
									.extra = {"Retry-After", "1"}};
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &listener->waiting)
	{
		A67Job *job = dlist_container(A67Job, node, iter.cur);

		if (!a67_deadline_expired(job->deadline, now))
			continue;
		unqueue(job);
		refuse(job, &late);
	}
}

/* ---- slots ------------------------------------------------------------------------------------- */

static void
note_progress(A67Slot *slot)
{
	slot->watch =
		a67_deadline_in(a67_now_ms(), (int64) a67_class_time(slot->job->class) + A67_WATCH_GRACE);
}

/* Whether the next move is the client's: to send more of its body, or to take more of its answer. */
static bool
waits_for_client(const A67Slot *slot)
{
	const A67Job *job = slot->job;

	if (slot->paused)
		return true;
	return !slot->body_done && slot->out.len == 0 && !job->gone && job->streams &&
		   job->upload.len == 0 && !job->upload_whole;
}

static void
give(A67Slot *slot, A67Job *job)
{
	int64 now = a67_now_ms();
	int64 left = a67_class_time(job->class);

	if (!job->streams)
		left = Min(left, a67_deadline_left(job->deadline, now));
	job->state = A67_JOB_RUNNING;
	job->slot = slot;
	slot->state = A67_SLOT_BUSY;
	slot->job = job;
	a67_buf_free(&slot->out);
	slot->out = job->call;
	a67_buf_init(&job->call, A67_WIRE_CALL);
	a67_wire_set_timeout(&slot->out, (int32) Max(left, 1));
	slot->body_done = !job->has_body;
	slot->head_passed = false;
	slot->discard = job->note;
	slot->paused = false;
	slot->status = 0;
	slot->cancel_at = 0;
	slot->watch = a67_deadline_in(now, left + A67_WATCH_GRACE);
}

/* The job of this slot is over; the worker is free. */
static void
finish(A67Slot *slot)
{
	A67Job *job = slot->job;

	slot->job = NULL;
	slot->state = A67_SLOT_IDLE;
	a67_backoff_reset(&slot->backoff);
	if (job->beat != NULL && slot->status >= 200 && slot->status < 300)
		a67_live_ack(job->beat->node_id, &job->beat->beat, GetCurrentTimestamp(), job->beat->epoch);
	if (job->answered != NULL)
		a67_job_answer(job, slot->status);
	else
		a67_job_part(job);
}

void
a67_dispatch_fail(A67Slot *slot, int status, const char *message)
{
	A67Refusal refusal = {.status = status, .message = message};
	A67Job *job = slot->job;
	A67HttpConn *conn = conn_of(job);

	slot->job = NULL;
	job->slot = NULL;
	if (!slot->head_passed || job->answered != NULL)
	{
		refuse(job, &refusal);
		return;
	}
	if (conn != NULL && !slot->discard)
		a67_http_respond_abort(conn);
	a67_job_part(job);
}

static A67Slot *
find_idle(A67Listener *listener)
{
	for (int i = 0; i < listener->nslots; i++)
		if (listener->slots[i].state == A67_SLOT_IDLE)
			return &listener->slots[i];
	return NULL;
}

static bool
assign(A67Listener *listener)
{
	A67Slot *slot = find_idle(listener);
	dlist_mutable_iter iter;
	bool moved = false;

	dlist_foreach_modify(iter, &listener->waiting)
	{
		A67Job *job = dlist_container(A67Job, node, iter.cur);

		if (slot == NULL)
			break;
		if (!a67_pool_may_start(listener, job))
			continue;
		unqueue(job);
		moved = true;
		if (!job->note && job->answered == NULL && conn_of(job) == NULL)
		{
			/* On its way out: on_close follows. */
			a67_job_part(job);
			continue;
		}
		give(slot, job);
		slot = find_idle(listener);
	}
	return moved;
}

/* ---- listener → worker ------------------------------------------------------------------------- */

static void
put_piece(A67Slot *slot, const char *data, size_t len, bool last)
{
	char frame = last ? A67_FRAME_LAST : A67_FRAME_BODY;

	a67_buf_append(&slot->out, &frame, 1);
	a67_buf_append(&slot->out, data, len);
	slot->body_done = last;
}

/* The next piece of a streamed body; true when there is one. */
static bool
compose_upload(A67Slot *slot, A67Job *job)
{
	size_t len = Min(job->upload.len, A67_WIRE_PIECE);
	A67HttpConn *conn;

	if (len == 0 && !job->upload_whole)
		return false;
	put_piece(slot, a67_buf_text(&job->upload), len, job->upload_whole && len == job->upload.len);
	a67_buf_consume(&job->upload, len);
	conn = conn_of(job);
	if (job->upload_paused && conn != NULL && job->upload.len < A67_UPLOAD_MAX / 2)
	{
		job->upload_paused = false;
		a67_http_body_resume(conn);
	}
	return true;
}

/* Puts the next message of the job into out; false when there is none now. */
static bool
compose(A67Slot *slot)
{
	A67Job *job = slot->job;
	char abort_frame = A67_FRAME_ABORT;
	size_t len;

	if (job == NULL || slot->body_done)
		return false;
	a67_buf_reset(&slot->out);
	if (job->gone)
	{
		slot->body_done = true;
		return a67_buf_append(&slot->out, &abort_frame, 1);
	}
	if (job->streams)
		return compose_upload(slot, job) && !slot->out.failed;
	len = Min(job->body_len - job->body_sent, A67_WIRE_PIECE);
	put_piece(slot, job->body + job->body_sent, len, job->body_sent + len == job->body_len);
	job->body_sent += len;
	return !slot->out.failed;
}

/* Sends what the worker's queue takes; true when anything moved. */
static bool
send_messages(A67Slot *slot)
{
	bool moved = false;

	while (slot->state == A67_SLOT_BUSY && (slot->out.len > 0 || compose(slot)))
	{
		bool flush = slot->body_done || slot->job->streams;
		shm_mq_result result =
			shm_mq_send(slot->exchange.calls, slot->out.len, slot->out.data, true, flush);

		if (result == SHM_MQ_WOULD_BLOCK)
			return moved;
		if (result == SHM_MQ_DETACHED)
		{
			a67_pool_drop(slot, false);
			return true;
		}
		a67_buf_reset(&slot->out);
		slot->watch = Max(slot->watch, a67_deadline_in(a67_now_ms(), A67_WATCH_GRACE));
		if (!slot->body_done || slot->job->streams)
			note_progress(slot);
		moved = true;
	}
	/* A body that failed to fit in memory can only be told by ending the worker. */
	if (slot->state == A67_SLOT_BUSY && slot->out.failed)
		a67_pool_drop(slot, true);
	return moved;
}

/* ---- worker → listener ------------------------------------------------------------------------- */

static bool
has_field(const A67AnswerHead *head, const char *name)
{
	for (int i = 0; i < head->nfields; i++)
		if (pg_strcasecmp(head->fields[i].name, name) == 0)
			return true;
	return false;
}

static void
pass_head(A67Slot *slot, const void *message, Size len)
{
	A67HttpField fields[A67_WIRE_HEADERS + 2] = {{NULL, NULL}};
	A67Refusal broken = {.status = 500, .message = "function answered with an unusable header"};
	A67Job *job = slot->job;
	A67HttpConn *conn = conn_of(job);
	A67AnswerHead head;
	int n = 0;

	if (!a67_wire_get_head(message, len, &head))
	{
		a67_pool_drop(slot, true);
		return;
	}
	slot->status = head.status;
	slot->head_passed = job->answered != NULL;
	if (job->answered != NULL)
		return;
	if (conn == NULL || slot->discard)
	{
		slot->discard = true;
		return;
	}
	a67_access_log(a67_http_conn_request(conn), job->request_id, job->address, head.status,
				   a67_now_ms() - job->began);
	for (; n < head.nfields; n++)
		fields[n] = (A67HttpField){head.fields[n].name, head.fields[n].value};
	if (head.status == 401 && !has_field(&head, "WWW-Authenticate"))
		fields[n] = (A67HttpField){"WWW-Authenticate", CHALLENGE};
	if (a67_http_respond_begin(conn, head.status, fields, head.content_length) == 0)
		slot->head_passed = true;
	else
	{
		a67_http_conn_set_user(conn, NULL);
		job->gone = true;
		a67_reply_refuse(conn, &broken);
		slot->discard = true;
	}
}

static void
pass_data(A67Slot *slot, const char *data, Size len)
{
	A67HttpConn *conn = conn_of(slot->job);

	if (slot->job->answered != NULL)
	{
		a67_buf_append(&slot->job->answer, data, len);
		return;
	}
	if (slot->discard || conn == NULL)
	{
		slot->discard = true;
		return;
	}
	if (a67_http_respond_write(conn, data, len) < 0)
	{
		a67_http_respond_abort(conn);
		slot->discard = true;
	}
	else if (a67_http_respond_pending(conn) >= A67_HIGH_WATER)
		slot->paused = true;
}

static void
pass_end(A67Slot *slot, bool whole)
{
	A67Job *job = slot->job;
	A67HttpConn *conn = conn_of(job);

	if (!slot->head_passed && !slot->discard)
	{
		/* An answer without a head is none. */
		a67_pool_drop(slot, true);
		return;
	}
	if (!whole && job->answered != NULL)
		slot->status = 500;
	if (conn != NULL && !slot->discard)
	{
		/* Part before the handle dies with the answer. */
		a67_http_conn_set_user(conn, NULL);
		job->gone = true;
		if (whole)
			(void) a67_http_respond_end(conn);
		else
			a67_http_respond_abort(conn);
	}
	finish(slot);
}

static void
take_message(A67Slot *slot, const char *message, Size len)
{
	A67Frame frame = len > 0 ? (A67Frame) (unsigned char) message[0] : 0;

	if (slot->state == A67_SLOT_STARTING && frame == A67_FRAME_READY)
	{
		slot->state = A67_SLOT_IDLE;
		slot->ready_at = a67_now_ms();
		(void) GetBackgroundWorkerPid(slot->handle, &slot->pid);
		return;
	}
	if (slot->state != A67_SLOT_BUSY || !slot->body_done || slot->out.len > 0)
	{
		/* Not a moment for it to speak: the two have lost step. */
		a67_pool_drop(slot, true);
		return;
	}
	note_progress(slot);
	if (frame == A67_FRAME_HEAD)
		pass_head(slot, message, len);
	else if (frame == A67_FRAME_DATA)
		pass_data(slot, message + 1, len - 1);
	else if (frame == A67_FRAME_END || frame == A67_FRAME_BROKEN)
		pass_end(slot, frame == A67_FRAME_END);
	else
		a67_pool_drop(slot, true);
}

static bool
has_exchange(const A67Slot *slot)
{
	return slot->state == A67_SLOT_STARTING || slot->state == A67_SLOT_IDLE ||
		   slot->state == A67_SLOT_BUSY;
}

/* Takes what the worker has said, unless its client must catch up first. */
static bool
receive_messages(A67Slot *slot)
{
	int count = 0;

	while (count < MESSAGES_MAX && has_exchange(slot) && !slot->paused)
	{
		void *message;
		Size len;
		shm_mq_result result = shm_mq_receive(slot->exchange.answers, &len, &message, true);

		if (result == SHM_MQ_WOULD_BLOCK)
			break;
		count++;
		if (result == SHM_MQ_DETACHED)
			a67_pool_drop(slot, false);
		else
			take_message(slot, message, len);
	}
	return count > 0;
}

/* ---- time -------------------------------------------------------------------------------------- */

/* Nobody waits for this call: asks its worker to give up, again and again until it answers. */
static void
cancel_abandoned(A67Slot *slot, int64 now)
{
	if (slot->state != A67_SLOT_BUSY || !slot->discard || slot->job->note || !slot->body_done ||
		slot->out.len > 0 || slot->cancel_at > now)
		return;
	slot->cancel_at = a67_deadline_in(now, CANCEL_AGAIN);
	if (GetBackgroundWorkerPid(slot->handle, &slot->pid) == BGWH_STARTED)
		(void) kill(slot->pid, SIGINT);
}

static void
check_watch(A67Slot *slot, int64 now)
{
	if (slot->state == A67_SLOT_BUSY && waits_for_client(slot))
		note_progress(slot);
	else if ((slot->state == A67_SLOT_BUSY || slot->state == A67_SLOT_STARTING) &&
			 a67_deadline_expired(slot->watch, now))
	{
		ereport(LOG,
				(errmsg("api worker (PID %d) does not answer and is terminated", (int) slot->pid)));
		if (slot->job != NULL)
			a67_dispatch_fail(slot, 504, "request took too long");
		a67_pool_drop(slot, true);
	}
}

int64
a67_dispatch_deadline(A67Listener *listener)
{
	int64 next = listener->stirred ? 0 : A67_NEVER;

	for (int i = 0; i < listener->nslots; i++)
	{
		const A67Slot *slot = &listener->slots[i];

		if (slot->state == A67_SLOT_EMPTY)
			next = a67_deadline_min(next, slot->retry_at);
		else if (slot->state != A67_SLOT_IDLE)
			next = a67_deadline_min(next, slot->watch);
		if (slot->state == A67_SLOT_BUSY && slot->discard && !slot->job->note && slot->body_done)
			next = a67_deadline_min(next, slot->cancel_at);
	}
	if (!dlist_is_empty(&listener->waiting))
		next =
			a67_deadline_min(next, dlist_head_element(A67Job, node, &listener->waiting)->deadline);
	return next;
}

void
a67_dispatch_run(A67Listener *listener)
{
	int64 now = a67_now_ms();
	bool moved = true;

	listener->stirred = false;
	a67_pool_tend(listener);
	expire_waiting(listener, now);
	for (int round = 0; round < ROUNDS_MAX && moved; round++)
	{
		moved = assign(listener);
		for (int i = 0; i < listener->nslots; i++)
		{
			A67Slot *slot = &listener->slots[i];

			if (send_messages(slot))
				moved = true;
			if (receive_messages(slot))
				moved = true;
		}
	}
	for (int i = 0; i < listener->nslots; i++)
	{
		cancel_abandoned(&listener->slots[i], now);
		check_watch(&listener->slots[i], now);
	}
	if (moved)
		listener->worker->again = true;
}
