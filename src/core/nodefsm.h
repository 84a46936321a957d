/*
 * nodefsm.h - health of a node as a state machine: one table, [status][sign] -> cell.
 *
 * Decides what a sign of life or of trouble does to a node's status, and how much slower a node
 * that keeps falling is trusted again; gathers no signs, keeps no clock. Two-signal rule: a node
 * becomes failed only when its heartbeat is overdue AND a probe of it got no answer, fail_after
 * times in a row; silence alone makes it suspect, a senseless answer degraded, and no more.
 * removed is final; maintenance is left only by ACTIVATE or REMOVE.
 * The diagram and the same table are in docs/states.md; a unit test compares the two. Called by
 * the monitor (through SQL) and the registry.
 */
#ifndef A67_NODEFSM_H
#define A67_NODEFSM_H

#include <stdbool.h>
#include <stdint.h>

typedef enum A67NodeStatus
{
	A67_NODE_INITIALIZING, /* registered or activated, no good sign yet */
	A67_NODE_READY,
	A67_NODE_BUSY,	   /* well, but cpu or memory above 90 % */
	A67_NODE_DEGRADED, /* errors above 5 %, or answers probes (in whatever way) without beating */
	A67_NODE_SUSPECT,  /* silent, not yet proven dead */
	A67_NODE_FAILED,   /* silent and unreachable: its replicas are replaced */
	A67_NODE_OFFLINE,  /* said goodbye; failed once probes fail as well */
	A67_NODE_MAINTENANCE, /* taken out by an operator */
	A67_NODE_REMOVED	  /* final */
} A67NodeStatus;

#define A67_NODE_STATUS_COUNT 9

typedef enum A67NodeSign
{
	A67_SIGN_BEAT,			/* fresh heartbeat, all well */
	A67_SIGN_BEAT_BUSY,		/* fresh heartbeat, cpu or memory above 90 %; while busy above 80 % */
	A67_SIGN_BEAT_DEGRADED, /* fresh heartbeat, error rate above 5 % */
	A67_SIGN_SILENT,		/* heartbeat overdue, no probe answered or given up since */
	A67_SIGN_PROBE_OK,		/* heartbeat overdue, but the probe was answered */
	A67_SIGN_PROBE_FAILED,	/* heartbeat overdue, and the probe got no answer */
	A67_SIGN_PROBE_INVALID, /* heartbeat overdue, and the probe's answer made no sense */
	A67_SIGN_GOODBYE,		/* the agent says that it stops */
	A67_SIGN_MAINTENANCE,
	A67_SIGN_ACTIVATE,
	A67_SIGN_REMOVE
} A67NodeSign;

#define A67_NODE_SIGN_COUNT 11

/*
 * How a cell of the table leads to its status. A doubt is one sign of trouble of two: it may make a
 * node suspect, as one failure more would, but is never stored as a failure.
 */
typedef enum A67NodeRule
{
	A67_RULE_IGNORE, /* nothing changes, not even the counts */
	A67_RULE_GO,	 /* to the cell's status at once; both counts start at 0 */
	A67_RULE_GOOD,	 /* one more good sign; to the cell's status at recover_after of them */
	A67_RULE_DOUBT,	 /* no good signs; to the cell's status if failures + 1 reach suspect_after */
	A67_RULE_FAIL	 /* one more failure; suspect, then the cell's status at fail_after */
} A67NodeRule;

typedef struct A67NodeCell
{
	A67NodeRule rule;
	A67NodeStatus next;
} A67NodeCell;

typedef struct A67NodeHealth
{
	A67NodeStatus status;
	uint32_t failures; /* consecutive failed probes */
	uint32_t goods;	   /* consecutive good signs while recovering */
} A67NodeHealth;

typedef struct A67NodeLimits
{
	uint32_t suspect_after; /* 0 counts as 1, here and below */
	uint32_t fail_after;
	uint32_t recover_after;
	bool hold; /* the controller doubts itself: failures count, but no node becomes failed */
} A67NodeLimits;

/* 1, 3, 2, no hold; used where a67_nodefsm_step gets no limits. */
#define A67_NODE_LIMITS_DEFAULT \
	{                           \
		1, 3, 2, false          \
	}

/* The health after a sign.  limits may be NULL.  A status or sign out of range changes nothing. */
A67NodeHealth a67_nodefsm_step(A67NodeHealth health, A67NodeSign sign, const A67NodeLimits *limits);

/* One cell of the table, for inspection; IGNORE when out of range. */
A67NodeCell a67_nodefsm_cell(A67NodeStatus status, A67NodeSign sign);

/*
 * The sign that a heartbeat of a node with that status gives: errors outweigh load. NaN counts as
 * above a limit.
 */
A67NodeSign a67_nodefsm_beat_sign(A67NodeStatus status, double cpu_percent, double memory_percent,
								  double error_rate);

/* Share of requests that failed, 0 to 1; 0 while there are too few (100) to tell. */
double a67_node_error_rate(double requests, double failures);

/*
 * Flap damping. A fall is a step from ready to anything worse that is nobody's command, from busy
 * to worse than busy, or back from two good signs that only damping kept from being a recovery.
 * Each adds 1 to a node's flaps (at most A67_NODE_FLAPS_MAX), which fade with a half-life of 10
 * minutes. Above 3 of them recovery takes more good signs in a row: 2 more for each, at most 10.
 */
#define A67_NODE_FLAPS_MAX 12.0
bool a67_node_fell(A67NodeHealth before, A67NodeHealth after);
double a67_node_flaps_fade(double flaps, double elapsed_s); /* negative times count as 0 */
uint32_t a67_node_recover_after(double flaps);

/* Whether new replicas may be placed on such a node: ready, busy, degraded. */
bool a67_node_status_placeable(A67NodeStatus status);

/* Names as in SQL and JSON: "ready", "probe_failed".  NULL, or false, for what is not one. */
const char *a67_node_status_name(A67NodeStatus status);
bool a67_node_status_parse(const char *name, A67NodeStatus *status);
const char *a67_node_sign_name(A67NodeSign sign);
bool a67_node_sign_parse(const char *name, A67NodeSign *sign);

#endif /* A67_NODEFSM_H */
