/*
 * desired.h - what the controller wants of one replica, checked field by field.
 *
 * Pure.  Owns the parsed document; the strings point into it.  Unknown fields are refused and every
 * complaint names the field.  Two documents that differ only in `generation` have the same content.
 * Called by the server (commands) and by replica.c (state files).
 */
#ifndef A67_AGENT_DESIRED_H
#define A67_AGENT_DESIRED_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "log.h"

#define A67_DESIRED_MAX_BYTES 131072 /* of the JSON text */
#define A67_ARGV_MAX		  64
#define A67_ENV_MAX			  128
#define A67_DIGEST_SIZE		  65 /* 64 hex digits and a NUL */

typedef enum A67AppType
{
	A67_APP_BACKEND,
	A67_APP_WORKER
} A67AppType;

typedef struct A67Desired
{
	json_t *doc; /* owned; without "generation" */
	int64_t generation;
	const char *deployment;
	int64_t release;
	A67AppType app_type;
	const char *digest; /* 64 lower-case hex digits */
	const char *package_path;
	json_t *entrypoint;		 /* array of 1..A67_ARGV_MAX strings */
	json_t *env;			 /* object of strings, or NULL */
	const char *health_path; /* NULL: a connection to the port is enough */
	int health_interval_ms;
	int health_timeout_ms;
	int health_retries;
	int64_t memory_bytes; /* 0: no limit */
	double cpu;			  /* share of a core; for placement, not enforced by the process runner */
	int stop_grace_ms;
} A67Desired;

/* A new A67Desired, or NULL with the field and its fault in why. */
A67Desired *a67_desired_parse(const char *text, size_t len, A67Why *why);

/* The same from a document that may be shared; generation is taken from it. */
A67Desired *a67_desired_from_json(const json_t *doc, A67Why *why);

void a67_desired_free(A67Desired *desired);

/* Whether both ask for the same, whatever their generations. */
bool a67_desired_same(const A67Desired *a, const A67Desired *b);

#endif /* A67_AGENT_DESIRED_H */
