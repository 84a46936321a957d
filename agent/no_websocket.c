/*
 * no_websocket.c - in place of core's WebSocket: the agent serves none.
 *
 * The engine's connections call these when a request was answered with 101, which only upgrade.c does;
 * neither it nor ws.c, nor the library behind it, is linked into the agent.
 */
#include "core/http/engine.h"

bool
a67_engine_ws_begin(A67HttpConn *conn, const char *early, size_t len)
{
	return false;
}

bool
a67_engine_ws_step(A67HttpConn *conn)
{
	return false;
}

void
a67_engine_ws_timeout(A67HttpConn *conn)
{
	conn->doomed = true;
}

void
a67_engine_ws_free(A67HttpConn *conn)
{
	conn->ws = NULL;
}
