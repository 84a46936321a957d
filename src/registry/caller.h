/*
 * caller.h - who calls: the user of the verified token, or the operator.
 *
 * The same answers as a67_internal._user_id() and _is_admin(), without SQL where possible, for functions
 * that are called thousands of times a second.
 */
#ifndef A67_CALLER_H
#define A67_CALLER_H

#include "postgres.h"

/* Whether the role outside of SECURITY DEFINER functions may act as a67_admin. */
bool a67_caller_is_admin(void);

/*
 * The id that the caller claims, at no cost. False when it takes a67_caller_ask() to know it; and that it
 * is the id of a user, that function alone knows: one who owns nodes is.
 */
bool a67_caller_claims(uint8 user_id[16]);

/* By a67_internal._user_id(): raises PT401 for nobody. */
void a67_caller_ask(uint8 user_id[16]);

#endif /* A67_CALLER_H */
