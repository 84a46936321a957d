/*
 * notify.h - tells the service manager that the agent is ready, as sd_notify(3) does.
 *
 * Needs no library of systemd's; without a service manager it does nothing.  Called by main.
 */
#ifndef A67_AGENT_NOTIFY_H
#define A67_AGENT_NOTIFY_H

/* Never fails and never blocks. */
void a67_notify_ready(void);

#endif /* A67_AGENT_NOTIFY_H */
