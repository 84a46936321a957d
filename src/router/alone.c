/*
 * alone.c - whether a statement is all that its local transaction does; see a67_alone in remote.h.
 *
 * Only then may a shard commit it at once, which saves two round trips. It must be the one
 * statement that the client sent by itself: no transaction block, no function or procedure around
 * it, no statement before it, and none to come that the protocol would make part of the same
 * transaction. That is certain after a simple query, and in the extended protocol when the next
 * message, already received, is Sync.
 */
#include "postgres.h"

#include "router/remote.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/portal.h"

/* Of libpq/libpq.h, which cannot be included without the headers of Kerberos. */
extern void pq_startmsgread(void);
extern void pq_endmsgread(void);
extern int pq_peekbyte(void);
extern bool pq_buffer_has_data(void);

/* Never waits: looks only at what was received. */
static bool
sync_follows(void)
{
	int next;

	if (!pq_buffer_has_data())
		return false;
	pq_startmsgread();
	next = pq_peekbyte();
	pq_endmsgread();
	return next == 'S';
}

bool
a67_alone(const EState *estate)
{
	Portal portal = ActivePortal;

	if (MyBackendType != B_BACKEND || IsTransactionBlock() ||
		GetCurrentTransactionNestLevel() > 1 || (MyXactFlags & XACT_FLAGS_PIPELINING) != 0 ||
		whereToSendOutput != DestRemote)
		return false;
	/*
	 * Portals of cursors, EXECUTE and functions have texts of their own; that of a message has the
	 * message's.
	 */
	if (portal == NULL || portal->name[0] != '\0' || debug_query_string == NULL ||
		strcmp(portal->sourceText, debug_query_string) != 0 || list_length(portal->stmts) != 1 ||
		linitial(portal->stmts) != estate->es_plannedstmt)
		return false;
	return !portal->visible ||
		   sync_follows(); /* those of simple queries are not to be seen in pg_cursors */
}
