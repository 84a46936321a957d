/*
 * auth.h: who sends a request.
 *
 * Decides from the Authorization header and the keyring alone; what the caller may do is up to SQL.
 * Called by service.c inside the engine's callbacks: no throw, no allocation.
 */
#ifndef A67_LISTENER_AUTH_H
#define A67_LISTENER_AUTH_H

#include "core/http/parser.h"
#include "crypto/jwt.h"

typedef enum A67Caller
{
	A67_CALLER_ANONYMOUS, /* no Authorization header */
	A67_CALLER_TOKEN,	  /* claims are filled */
	A67_CALLER_REFUSED,	  /* a header that is not good enough: claims->refusal says why */
	A67_CALLER_UNKNOWN,	  /* there are no keys yet to tell */
} A67Caller;

/*
 * The bearer token of the request, as it was sent: nothing about it is checked. ANONYMOUS: there is none;
 * TOKEN: *token is set; REFUSED: *why says what is wrong with the header.
 */
extern A67Caller a67_bearer(const A67HttpHead *head, A67HttpStr *token, const char **why);

extern A67Caller a67_caller(const A67HttpHead *head, const A67Keyring *keys, int64_t now_s,
							A67JwtClaims *claims);

#endif
