/*
 * note.c: refusals that the listener itself gives, on their way into the audit trail.
 *
 * The listener has no database, so a note waits in the same line as requests and an api worker writes it;
 * the client has its answer already. At most A67_NOTES_MAX wait; what does not fit, or does not get its turn
 * in time, is counted in the server's log instead. Called by service.c inside the engine's callbacks
 * and by dispatch.c: malloc only, nothing throws.
 */
#include "postgres.h"

#include "listener/state.h"

void
a67_note_lost(const A67Job *note)
{
	A67Listener *listener = note->listener;

	/* A flood of them says the same thing over and over. */
	listener->lost_notes++;
	if ((listener->lost_notes & (listener->lost_notes - 1)) != 0)
		return;
	ereport(LOG, (errmsg("refusal of request %s could not be put on record", note->request_id),
				  errdetail("This listener has lost %llu of them.",
							(unsigned long long) listener->lost_notes)));
}

void
a67_note_refusal(const A67Visit *visit, const A67JwtClaims *claims)
{
	A67Listener *listener = visit->listener;
	A67Job *note = a67_job_new_note(visit, claims);

	if (note == NULL)
		return;
	if (listener->nnotes == A67_NOTES_MAX)
	{
		a67_note_lost(note);
		a67_job_free(note);
		return;
	}
	dlist_push_tail(&listener->waiting, &note->node);
	listener->nnotes++;
	listener->stirred = true;
	note->state = A67_JOB_WAITING;
}
