/*
 * report.h - what the agent writes to the controller and reads from it, as JSON.
 *
 * Builds request bodies and takes answers apart; sends nothing, plans nothing.  Called by control.c.
 */
#ifndef A67_AGENT_REPORT_H
#define A67_AGENT_REPORT_H

#include "control.h"

/* Bodies; malloc'd, NULL when out of memory. */
char *a67_report_registration(A67Control *control);
char *a67_report_beat(A67Control *control, const char *status, int64_t now_ms);

/* Takes the answer to a registration and writes it down.  0, or -errno with the reason. */
int a67_report_take_registration(A67Control *control, const char *body, size_t len, A67Why *why);

/* Takes a renewed token and writes it down. */
int a67_report_take_token(A67Control *control, const char *body, size_t len, A67Why *why);

/* "WHAT was refused with 401: message of the controller". */
void a67_report_refusal(const char *what, int status, const char *body, size_t len, A67Why *why);

#endif /* A67_AGENT_REPORT_H */
