/*
 * session.h: the database session of an api worker: whose rights a call has, and what it may know.
 *
 * Owns role and settings of session and call, the check that comes before a call, and the record of a
 * refusal. Runs in the api worker only; memory: the caller's current context, plans in SPI's own.
 */
#ifndef A67_LISTENER_SESSION_H
#define A67_LISTENER_SESSION_H

#include "postgres.h"

#include "listener/wire.h"

#define A67_SESSION_ROLE "a67_authenticator"

/* Once, after the connection is made: what RESET ALL comes back to. */
extern void a67_session_prepare(void);

/*
 * Inside the call's transaction, connected to SPI: takes on the role, sets request.*, and has
 * a67.request_check() judge the token of a user. Throws what that raises, or 42501.
 */
extern void a67_session_enter(const A67Call *call);

/* After a call, outside of any transaction: a session like new. */
extern void a67_session_reset(void);

/* Outside of any transaction: writes the refusal of a call into the audit trail. Never throws. */
extern void a67_session_record_refusal(const A67Call *call);

#endif
