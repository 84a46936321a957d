/*
 * routes.h: which requests the listener serves, and what each of them means.
 *
 * Owns the table and the matching of a path against it; decides nothing about tokens, queues or SQL
 * beyond naming them. Pure but for the settings that bodies are limited by. Called by service.c.
 */
#ifndef A67_LISTENER_ROUTES_H
#define A67_LISTENER_ROUTES_H

#include "core/buf.h"
#include "core/http/parser.h"
#include "listener/wire.h"

#define A67_ROUTE_PARAMS 4	 /* {names} in one template */
#define A67_PARAM_SIZE	 256 /* bytes of one decoded path parameter, NUL included */
#define A67_ALLOW_SIZE	 64

typedef enum A67RouteKind
{
	A67_ROUTE_HEALTHZ,
	A67_ROUTE_READYZ,
	A67_ROUTE_HEARTBEAT, /* in place when it can be, else like A67_ROUTE_SQL */
	A67_ROUTE_SQL,		 /* a function named by the route */
	A67_ROUTE_RPC,		 /* a function named by the path */
	A67_ROUTE_BEARER,	 /* its function judges the bearer token, an argument like others */
	A67_ROUTE_WEBSOCKET, /* ws.c's */
	A67_ROUTE_OPENAPI,	 /* its function gets the route table */
	A67_ROUTE_LOGS,		 /* tail.c's when it is to be followed, else like A67_ROUTE_SQL */
} A67RouteKind;

/* What a request costs: decides how long it may take, and how often a client may send one. */
typedef enum A67RouteClass
{
	A67_CLASS_HEALTH, /* answered by the listener alone */
	A67_CLASS_AUTH,	  /* hashes a password, or could be used to guess */
	A67_CLASS_READ,
	A67_CLASS_WRITE,
	A67_CLASS_HEARTBEAT,
	A67_CLASS_BULK,	 /* megabytes in one direction */
	A67_CLASS_QUERY, /* works on shards or runs SQL of the caller: may take all of its time */
	A67_CLASSES,
} A67RouteClass;

typedef struct A67Route
{
	A67HttpMethod method;
	const char *path; /* segments are literal or {name} */
	A67RouteKind kind;
	A67RouteClass class;
	bool token;			  /* refused without a valid one; what it permits is up to SQL */
	const char *function; /* in schema a67 */
	int status;			  /* of a success, unless the function sets one; 0: 200 or 204 */
	A67BodyKind body;
	const char *body_arg; /* what a JSON or RAW body, a bearer token or the table becomes */
	const int *max_body;  /* setting; NULL: the request has no body */
	bool streams;		  /* large in one direction: takes as long as data keeps moving */
} A67Route;

typedef struct A67RouteMatch
{
	const A67Route *route;		/* NULL: see allow */
	A67RouteClass class;		/* also tells by which function /rpc is used */
	char allow[A67_ALLOW_SIZE]; /* methods of this path; "" when no route has the path */
	int nparams;
	struct
	{
		char name[32];
		char value[A67_PARAM_SIZE];
	} params[A67_ROUTE_PARAMS];
} A67RouteMatch;

/* Finds the route of a request head. HEAD finds the GET routes. */
extern void a67_route_find(const A67HttpHead *head, A67RouteMatch *match);

/* How long a function may run, in ms; for a stream, until each row. */
extern int a67_class_time(A67RouteClass class);

/* Appends the routes that have a function as a JSON array, in the form that a67.openapi() takes. */
extern void a67_routes_describe(A67Buf *json);

/* The table, which ends with a path of NULL. */
extern const A67Route a67_routes[];

#endif
