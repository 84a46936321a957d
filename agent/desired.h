/*
 * desired.h - what the controller wants of one replica, checked field by field.
 *
 * Pure.  Owns the parsed document; the strings point into it.  Unknown fields are refused and every
 * complaint names the field.  Two documents that differ only in `generation` and in the bytes of
 * `sealed_env` have the same content: sealing is randomised, `env_version` says what was sealed.
 * Called by the server (commands) and by replica.c (state files).
 */
#ifndef A67_AGENT_DESIRED_H
#define A67_AGENT_DESIRED_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "log.h"

#define A67_DESIRED_MAX_BYTES 1048576 /* of the JSON text */
#define A67_ARGV_MAX		  64
#define A67_DIGEST_SIZE		  65 /* 64 hex digits and a NUL */

#define A67_CHANGE_RESTART	  (-1)
#define A67_CHANGE_NONE		  0 /* files are replaced, the process is not told */

typedef enum A67AppType
{
	A67_APP_BACKEND,
	A67_APP_WORKER,
	A67_APP_CRON /* runs once: its end is its result */
} A67AppType;

typedef enum A67Runner
{
	A67_RUNNER_PROCESS,
	A67_RUNNER_CONTAINER
} A67Runner;

typedef enum A67Runtime
{
	A67_RUNTIME_EXECUTABLE,
	A67_RUNTIME_PYTHON, /* the entrypoint begins with the script */
	A67_RUNTIME_NODE,	/* the same */
	A67_RUNTIME_STATIC	/* the entrypoint names a directory, or nothing: the whole package */
} A67Runtime;

typedef enum A67HealthKind
{
	A67_HEALTH_ALIVE, /* the process lives: a worker without a health check */
	A67_HEALTH_TCP,	  /* a connection to the port opens: a backend without a health check */
	A67_HEALTH_HTTP,
	A67_HEALTH_COMMAND
} A67HealthKind;

typedef enum A67OnPartition
{
	A67_PARTITION_CONTINUE,
	A67_PARTITION_STOP /* stops itself after the deadline, starts again when the controller is back */
} A67OnPartition;

typedef struct A67Desired
{
	json_t *doc; /* owned; without "generation" and "sealed_env" */
	int64_t generation;
	const char *deployment;
	int64_t release;
	A67AppType app_type;
	A67Runner runner;
	A67Runtime runtime;
	const char *digest; /* 64 lower-case hex digits */
	const char *package_path;
	json_t *entrypoint; /* array of strings, at most A67_ARGV_MAX; NULL or empty: static alone */
	json_t *sealed_env; /* owned; base64 text (sealed_env.h), or NULL */
	const char *env_version; /* stands for the versions of secrets in it; NULL: holds none */
	int change_signal;		 /* for new secrets; or A67_CHANGE_RESTART, A67_CHANGE_NONE */
	A67HealthKind health;	 /* means nothing for a cron app */
	const char *health_path; /* HTTP only */
	json_t *health_command;	 /* COMMAND only: array of 1..A67_ARGV_MAX strings */
	int health_interval_ms;
	int health_timeout_ms;
	int health_retries;
	int64_t memory_bytes; /* 0: no limit */
	double cpu;			  /* cores; 0: no limit */
	int64_t disk_bytes;	  /* 0: no limit */
	int64_t pids;		  /* processes and threads; 0: no limit */
	int stop_grace_ms;
	A67OnPartition on_partition;
	int64_t partition_deadline_ms; /* how long the controller may be silent */
	int64_t run_timeout_ms;		   /* of a cron app; 0: none */
} A67Desired;

/* A new A67Desired, or NULL with the field and its fault in why. */
A67Desired *a67_desired_parse(const char *text, size_t len, A67Why *why);

/* The same from a document that may be shared; generation is taken from it. */
A67Desired *a67_desired_from_json(const json_t *doc, A67Why *why);

void a67_desired_free(A67Desired *desired);

/* The document as it came, but for "generation"; NULL when out of memory. */
json_t *a67_desired_json(const A67Desired *desired);

/* Whether both ask for the same, whatever their generations. */
bool a67_desired_same(const A67Desired *a, const A67Desired *b);

/* Whether they do but for the versions of secrets. */
bool a67_desired_same_but_secrets(const A67Desired *a, const A67Desired *b);

#endif /* A67_AGENT_DESIRED_H */
