/*
 * exchange.c: the segment of exchange.h and the api worker's blocking ends of its queues.
 *
 * The listener's ends never block and are driven by pool.c and dispatch.c. Each side attaches with the
 * segment, so that a process that exits, however it does, detaches and wakes the other one.
 * Called by pool.c (listener) and api_worker.c.
 */
#include "postgres.h"

#include "listener/exchange.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define EXCHANGE_STAMP UINT64CONST(0x6136372d61706931) /* changes with the layout */
#define CALL_RING	   ((Size) 128 * 1024)
#define ANSWER_RING	   ((Size) 256 * 1024)

#define STAMP_SIZE	   MAXALIGN(sizeof(uint64))
#define EXCHANGE_SIZE  (STAMP_SIZE + CALL_RING + ANSWER_RING)

static shm_mq *
calls_of(void *base)
{
	return (shm_mq *) ((char *) base + STAMP_SIZE);
}

static shm_mq *
answers_of(void *base)
{
	return (shm_mq *) ((char *) base + STAMP_SIZE + CALL_RING);
}

/* Attaches both queues in memory that lives as long as the process. */
static void
attach(A67Exchange *exchange, void *base)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	exchange->calls = shm_mq_attach(calls_of(base), exchange->segment, NULL);
	exchange->answers = shm_mq_attach(answers_of(base), exchange->segment, NULL);
	MemoryContextSwitchTo(old);
}

bool
a67_exchange_create(A67Exchange *exchange)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	void *base;

	exchange->segment = dsm_create(EXCHANGE_SIZE, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	MemoryContextSwitchTo(old);
	if (exchange->segment == NULL)
		return false;
	dsm_pin_mapping(exchange->segment);
	base = dsm_segment_address(exchange->segment);
	*(uint64 *) base = EXCHANGE_STAMP;
	shm_mq_set_sender(shm_mq_create(calls_of(base), CALL_RING), MyProc);
	shm_mq_set_receiver(shm_mq_create(answers_of(base), ANSWER_RING), MyProc);
	attach(exchange, base);
	return true;
}

void
a67_exchange_set_worker(A67Exchange *exchange, BackgroundWorkerHandle *worker)
{
	shm_mq_set_handle(exchange->calls, worker);
	shm_mq_set_handle(exchange->answers, worker);
}

void
a67_exchange_leave(A67Exchange *exchange)
{
	if (exchange->segment == NULL)
		return;
	shm_mq_detach(exchange->calls);
	shm_mq_detach(exchange->answers);
	dsm_detach(exchange->segment);
	memset(exchange, 0, sizeof(*exchange));
}

bool
a67_exchange_open(A67Exchange *exchange, dsm_handle handle)
{
	void *base;

	exchange->segment = dsm_attach(handle);
	if (exchange->segment == NULL)
		return false;
	dsm_pin_mapping(exchange->segment);
	base = dsm_segment_address(exchange->segment);
	if (dsm_segment_map_length(exchange->segment) < EXCHANGE_SIZE ||
		*(uint64 *) base != EXCHANGE_STAMP)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("segment of another version of a67")));
	shm_mq_set_receiver(calls_of(base), MyProc);
	shm_mq_set_sender(answers_of(base), MyProc);
	attach(exchange, base);
	return true;
}

A67Frame
a67_exchange_receive(A67Exchange *exchange, const void **message, Size *len)
{
	shm_mq_result result;
	void *data = NULL;

	HOLD_CANCEL_INTERRUPTS();
	for (;;)
	{
		result = shm_mq_receive(exchange->calls, len, &data, true);
		if (result != SHM_MQ_WOULD_BLOCK)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	RESUME_CANCEL_INTERRUPTS();
	if (result == SHM_MQ_DETACHED)
		proc_exit(0);
	*message = data;
	return *len > 0 ? (A67Frame) * (unsigned char *) data : 0;
}

static void
send_pieces(A67Exchange *exchange, shm_mq_iovec *pieces, int count, bool flush)
{
	shm_mq_result result;

	HOLD_CANCEL_INTERRUPTS();
	result = shm_mq_sendv(exchange->answers, pieces, count, false, flush);
	RESUME_CANCEL_INTERRUPTS();
	if (result == SHM_MQ_DETACHED)
		proc_exit(0);
}

void
a67_exchange_send(A67Exchange *exchange, A67Frame frame, const void *data, Size len, bool flush)
{
	char first = (char) frame;
	shm_mq_iovec pieces[2] = {{.data = &first, .len = 1}, {.data = data, .len = len}};

	send_pieces(exchange, pieces, len > 0 ? 2 : 1, flush);
}

void
a67_exchange_send_whole(A67Exchange *exchange, const void *message, Size len, bool flush)
{
	shm_mq_iovec piece = {.data = message, .len = len};

	send_pieces(exchange, &piece, 1, flush);
}
