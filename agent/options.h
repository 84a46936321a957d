/*
 * options.h - what the command line and the environment ask of the agent.
 *
 * Decides defaults and checks every value; reads the join token from where it is kept.  A flag wins
 * over its A67_ variable.  Touches no state.  Called once by main.
 */
#ifndef A67_AGENT_OPTIONS_H
#define A67_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

#define A67_OPTION_SIZE	 256
#define A67_TOKEN_SIZE	 256
#define A67_SERVICES_MAX 4	/* there are no more kinds */
#define A67_LABELS_MAX	 16 /* the controller takes no more */

typedef enum A67Command
{
	A67_COMMAND_HELP,
	A67_COMMAND_VERSION,
	A67_COMMAND_JOIN,
	A67_COMMAND_RUN
} A67Command;

typedef struct A67Options
{
	A67Command command;
	char url[A67_OPTION_SIZE];	/* join: of the controller */
	char token[A67_TOKEN_SIZE]; /* join: zeroed by main once registered */
	char state_dir[A67_OPTION_SIZE];
	char listen[A67_OPTION_SIZE];	 /* numeric address */
	uint16_t port;					 /* 0: any free one, or the one used before */
	char advertise[A67_OPTION_SIZE]; /* "" or HOST or HOST:PORT */
	char name[A67_OPTION_SIZE];
	char region[A67_OPTION_SIZE]; /* "", here and in the two below: not said */
	char provider[A67_OPTION_SIZE];
	char tier[A67_OPTION_SIZE];
	const char *services[A67_SERVICES_MAX]; /* string literals; none: not said */
	size_t service_count;
	char labels[A67_LABELS_MAX][A67_OPTION_SIZE]; /* KEY=VALUE, each key once */
	size_t label_count;
	char ca_file[A67_OPTION_SIZE];	  /* "": the system's */
	int64_t heartbeat_ms;			  /* 0: what the controller says */
	char user_range[A67_OPTION_SIZE]; /* FIRST-LAST; "": our own choice */
	A67LogLevel log_level;
	bool stop_apps;
	bool once;				/* join: end when registered */
	int64_t chunk_quota;	/* bytes; negative: percent of the disk */
	int64_t scrub_ms;		/* in which every chunk is verified again */
	bool insecure_loopback; /* plain HTTP, to loopback addresses alone */
} A67Options;

/* Text of --help. */
extern const char a67_options_help[];

/* Length of the host in HOST, HOST:PORT, [HOST] or [HOST]:PORT; bare IPv6 addresses are whole hosts. */
size_t a67_host_length(const char *text);

/* 0, or -EINVAL (usage) or another -errno (token could not be read), with the reason in why. */
int a67_options_parse(int argc, char **argv, A67Options *options, A67Why *why);

#endif /* A67_AGENT_OPTIONS_H */
