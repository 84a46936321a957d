/*
 * options.c - one table of flags, each with its environment variable and its check.  See options.h.
 */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/address.h"
#include "core/buf.h"

#define MIN_HEARTBEAT_S		  0.05
#define DEFAULT_CHUNK_PERCENT (-50)
#define DEFAULT_SCRUB_MS	  (INT64_C(168) * 3600000)
#define MIN_SCRUB_HOURS		  0.0003 /* a second */
#define MAX_SCRUB_HOURS		  87600
#define MAX_HEARTBEAT_S		  3600.0
#define LABEL_KEY_MAX		  63

const char a67_options_help[] =
	"Runs applications on this machine for an Automator67 controller.\n"
	"\n"
	"  a67-agent join [URL TOKEN] [flags]   register with the controller at URL, then run\n"
	"  a67-agent run [flags]                run again from the state directory\n"
	"  a67-agent --help | --version\n"
	"\n"
	"TOKEN is a join token, or - to read it from standard input, or @FILE. Without URL and TOKEN they\n"
	"are taken from A67_URL and A67_TOKEN. On a node that is registered already, join only runs.\n"
	"\n"
	"Flags (and environment variables):\n"
	"  --state-dir DIR            where keys, state and applications are kept (A67_STATE_DIR;\n"
	"                             default /var/lib/a67-agent, not as root ~/.local/state/a67-agent)\n"
	"  --listen ADDR:PORT         where to serve the controller (A67_LISTEN; default 127.0.0.1:0,\n"
	"                             port 0 is any free one, kept from then on)\n"
	"  --advertise HOST[:PORT]    how the controller reaches this node (A67_ADVERTISE; default ADDR)\n"
	"  --name NAME                name of the node (A67_NAME; default the host name)\n"
	"  --region NAME              (A67_REGION; default the join token's)\n"
	"  --provider NAME            (A67_PROVIDER; default the join token's, else generic)\n"
	"  --tier NAME                plan at the provider; free quotas are not counted for one that is\n"
	"                             not \"free\" (A67_TIER; default none)\n"
	"  --service NAME             compute, database, storage or cache; may be repeated\n"
	"                             (A67_SERVICE, separated by commas; default compute)\n"
	"  --label KEY=VALUE          to find the node by; may be repeated (A67_LABEL, separated by\n"
	"                             commas)\n"
	"  --heartbeat-interval SEC   instead of the controller's (A67_HEARTBEAT_INTERVAL)\n"
	"  --ca-file FILE             CAs for an https URL, PEM (A67_CA_FILE; default the system's)\n"
	"  --log-level LEVEL          error, warning, info or debug (A67_LOG_LEVEL; default info)\n"
	"  --chunk-quota SIZE         room for chunks of files, as 10G or 50% of the disk (A67_CHUNK_QUOTA;\n"
	"                             default 50%)\n"
	"  --scrub-interval HOURS     in which every chunk is verified again (A67_SCRUB_INTERVAL;\n"
	"                             default 168)\n"
	"  --user-range FIRST-LAST    numbers of users for applications, as root (A67_USER_RANGE; default\n"
	"                             1879048192-1879113727)\n"
	"  --stop-apps                stop the applications when the agent ends (A67_STOP_APPS=1)\n"
	"  --once                     end when registered (A67_ONCE=1)\n"
	"  --insecure-loopback        serve plain HTTP instead of HTTPS; for loopback addresses only\n"
	"                             (A67_INSECURE_LOOPBACK=1)\n"
	"\n"
	"Exit status: 0 ended as asked, 100 wrong usage, 111 could not go on.\n";

typedef int (*Setter)(A67Options *options, const char *value, A67Why *why);

typedef struct Flag
{
	const char *name;
	const char *variable;
	size_t offset; /* of a text member, when there is no setter */
	Setter set;
	bool alone;	  /* takes no value */
	size_t count; /* offset of a list's length; its variable holds several values. 0: no list */
} Flag;

static int
set_text(char *out, size_t size, const char *name, const char *value, A67Why *why)
{
	if (value[0] == '\0' || strlen(value) >= size)
		return a67_why(why, -EINVAL, "%s takes 1 to %zu characters", name, size - 1);
	for (const char *c = value; *c != '\0'; c++)
	{
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			return a67_why(why, -EINVAL, "%s holds a control character", name);
	}
	if (!a67_utf8_is_valid(value, strlen(value)))
		return a67_why(why, -EINVAL, "%s is not UTF-8", name);
	memcpy(out, value, strlen(value) + 1);
	return 0;
}

static int
set_listen(A67Options *options, const char *value, A67Why *why)
{
	const char *colon = strrchr(value, ':');
	const char *start = value;
	size_t len;
	char *end = NULL;
	unsigned long port;
	unsigned char scratch[sizeof(struct in6_addr)];

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return a67_why(why, -EINVAL, "--listen takes ADDR:PORT, not \"%s\"", value);
	errno = 0;
	port = strtoul(colon + 1, &end, 10);
	if (errno != 0 || *end != '\0' || port > UINT16_MAX)
		return a67_why(why, -EINVAL, "--listen takes a port up to 65535, not \"%s\"", colon + 1);
	len = (size_t) (colon - value);
	if (len >= 2 && value[0] == '[' && colon[-1] == ']')
	{
		start++;
		len -= 2;
	}
	if (len >= sizeof(options->listen))
		return a67_why(why, -EINVAL, "--listen is too long");
	memcpy(options->listen, start, len);
	options->listen[len] = '\0';
	options->port = (uint16_t) port;
	if (inet_pton(AF_INET, options->listen, scratch) != 1 &&
		inet_pton(AF_INET6, options->listen, scratch) != 1)
		return a67_why(why, -EINVAL, "--listen takes a numeric address, not \"%s\"",
					   options->listen);
	return 0;
}

static int
set_heartbeat(A67Options *options, const char *value, A67Why *why)
{
	char *end = NULL;
	double seconds;

	errno = 0;
	seconds = strtod(value, &end);
	if (errno != 0 || end == value || *end != '\0' || !isfinite(seconds) ||
		seconds < MIN_HEARTBEAT_S || seconds > MAX_HEARTBEAT_S)
		return a67_why(why, -EINVAL, "--heartbeat-interval takes seconds from %g to %g, not \"%s\"",
					   MIN_HEARTBEAT_S, MAX_HEARTBEAT_S, value);
	options->heartbeat_ms = (int64_t) (seconds * 1000.0);
	return 0;
}

static int
set_log_level(A67Options *options, const char *value, A67Why *why)
{
	if (!a67_log_parse_level(value, &options->log_level))
		return a67_why(why, -EINVAL,
					   "--log-level is one of error, warning, info, debug, not \"%s\"", value);
	return 0;
}

static int
set_switch(bool *out, const char *variable, const char *value, A67Why *why)
{
	if (strcmp(value, "1") != 0 && strcmp(value, "0") != 0)
		return a67_why(why, -EINVAL, "%s is 0 or 1, not \"%s\"", variable, value);
	*out = value[0] == '1';
	return 0;
}

static int
set_stop_apps(A67Options *options, const char *value, A67Why *why)
{
	return set_switch(&options->stop_apps, "A67_STOP_APPS", value, why);
}

static int
set_once(A67Options *options, const char *value, A67Why *why)
{
	return set_switch(&options->once, "A67_ONCE", value, why);
}

static int
set_insecure_loopback(A67Options *options, const char *value, A67Why *why)
{
	return set_switch(&options->insecure_loopback, "A67_INSECURE_LOOPBACK", value, why);
}

/* "10G", "500M", "1048576" or "50%". */
static int
set_chunk_quota(A67Options *options, const char *value, A67Why *why)
{
	static const char units[] = "KMGT";
	char *end = NULL;
	const char *unit;
	int shift = 0;
	long long number;

	errno = 0;
	number = value[0] >= '0' && value[0] <= '9' ? strtoll(value, &end, 10) : -1;
	if (number >= 0 && errno == 0 && strcmp(end, "%") == 0 && number >= 1 && number <= 100)
	{
		options->chunk_quota = -number;
		return 0;
	}
	unit = number >= 0 && *end != '\0' ? strchr(units, *end) : NULL;
	if (unit != NULL)
	{
		shift = 10 * (int) (unit - units + 1);
		end++;
	}
	if (number < 0 || errno != 0 || *end != '\0' || number > INT64_MAX >> shift)
		return a67_why(why, -EINVAL, "--chunk-quota is a size such as 10G or 50%%, not \"%s\"",
					   value);
	options->chunk_quota = (int64_t) number << shift;
	return 0;
}

static int
set_scrub(A67Options *options, const char *value, A67Why *why)
{
	char *end;
	double hours;

	errno = 0;
	hours = strtod(value, &end);
	if (errno != 0 || end == value || *end != '\0' || !(hours >= MIN_SCRUB_HOURS) ||
		hours > MAX_SCRUB_HOURS)
		return a67_why(why, -EINVAL, "--scrub-interval is a number of hours, not \"%s\"", value);
	options->scrub_ms = (int64_t) (hours * 3600000.0);
	return 0;
}

static const char *const service_names[A67_SERVICES_MAX] = {"compute", "database", "storage",
															"cache"};

static int
set_service(A67Options *options, const char *value, A67Why *why)
{
	for (size_t i = 0; i < options->service_count; i++)
	{
		if (strcmp(options->services[i], value) == 0)
			return 0;
	}
	for (size_t i = 0; i < A67_SERVICES_MAX; i++)
	{
		if (strcmp(service_names[i], value) != 0)
			continue;
		options->services[options->service_count++] = service_names[i];
		return 0;
	}
	return a67_why(why, -EINVAL,
				   "--service is one of compute, database, storage, cache, not \"%s\"", value);
}

/* Lower-case letters and digits, in between also ".", "_", "-" and "/". */
static bool
is_label_key(const char *key, size_t len)
{
	static const char *const inner = "abcdefghijklmnopqrstuvwxyz0123456789._/-";
	static const char *const outer = "._/-";

	return len > 0 && len <= LABEL_KEY_MAX && strspn(key, inner) >= len &&
		   strchr(outer, key[0]) == NULL && strchr(outer, key[len - 1]) == NULL;
}

/* A key that comes again takes the new value. */
static int
set_label(A67Options *options, const char *value, A67Why *why)
{
	size_t len = strcspn(value, "=");
	size_t at = 0;
	int err;

	if (value[len] != '=' || !is_label_key(value, len))
		return a67_why(why, -EINVAL,
					   "--label takes KEY=VALUE, the key of lower-case letters, digits, \".\", "
					   "\"_\", \"-\" and \"/\", not \"%s\"",
					   value);
	while (at < options->label_count && strncmp(options->labels[at], value, len + 1) != 0)
		at++;
	if (at == A67_LABELS_MAX)
		return a67_why(why, -EINVAL, "there are more than %d labels", A67_LABELS_MAX);
	err = set_text(options->labels[at], A67_OPTION_SIZE, "--label", value, why);
	if (err == 0 && at == options->label_count)
		options->label_count++;
	return err;
}

static const Flag flags[] = {
	{.name = "--state-dir", .variable = "A67_STATE_DIR", .offset = offsetof(A67Options, state_dir)},
	{.name = "--listen", .variable = "A67_LISTEN", .set = set_listen},
	{.name = "--advertise", .variable = "A67_ADVERTISE", .offset = offsetof(A67Options, advertise)},
	{.name = "--name", .variable = "A67_NAME", .offset = offsetof(A67Options, name)},
	{.name = "--region", .variable = "A67_REGION", .offset = offsetof(A67Options, region)},
	{.name = "--provider", .variable = "A67_PROVIDER", .offset = offsetof(A67Options, provider)},
	{.name = "--tier", .variable = "A67_TIER", .offset = offsetof(A67Options, tier)},
	{.name = "--service",
	 .variable = "A67_SERVICE",
	 .set = set_service,
	 .count = offsetof(A67Options, service_count)},
	{.name = "--label",
	 .variable = "A67_LABEL",
	 .set = set_label,
	 .count = offsetof(A67Options, label_count)},
	{.name = "--heartbeat-interval", .variable = "A67_HEARTBEAT_INTERVAL", .set = set_heartbeat},
	{.name = "--ca-file", .variable = "A67_CA_FILE", .offset = offsetof(A67Options, ca_file)},
	{.name = "--log-level", .variable = "A67_LOG_LEVEL", .set = set_log_level},
	{.name = "--chunk-quota", .variable = "A67_CHUNK_QUOTA", .set = set_chunk_quota},
	{.name = "--scrub-interval", .variable = "A67_SCRUB_INTERVAL", .set = set_scrub},
	{.name = "--user-range",
	 .variable = "A67_USER_RANGE",
	 .offset = offsetof(A67Options, user_range)},
	{.name = "--stop-apps", .variable = "A67_STOP_APPS", .set = set_stop_apps, .alone = true},
	{.name = "--once", .variable = "A67_ONCE", .set = set_once, .alone = true},
	{.name = "--insecure-loopback",
	 .variable = "A67_INSECURE_LOOPBACK",
	 .set = set_insecure_loopback,
	 .alone = true},
};

#define FLAG_COUNT (sizeof(flags) / sizeof(flags[0]))

static int
apply(const Flag *flag, A67Options *options, const char *value, A67Why *why)
{
	if (flag->set != NULL)
		return flag->set(options, value, why);
	return set_text((char *) options + flag->offset, A67_OPTION_SIZE, flag->name, value, why);
}

static size_t *
list_count(const Flag *flag, A67Options *options)
{
	return (size_t *) ((char *) options + flag->count);
}

/* A variable; that of a list holds values separated by commas. */
static int
apply_variable(const Flag *flag, A67Options *options, const char *value, A67Why *why)
{
	char part[A67_OPTION_SIZE];
	int err = 0;

	if (flag->count == 0)
		return apply(flag, options, value, why);
	while (err == 0)
	{
		size_t len = strcspn(value, ",");

		if (len == 0 || len >= sizeof(part))
			return a67_why(why, -EINVAL, "%s holds values separated by commas", flag->variable);
		memcpy(part, value, len);
		part[len] = '\0';
		err = apply(flag, options, part, why);
		if (value[len] == '\0')
			break;
		value += len + 1;
	}
	return err;
}

/* A list is read last, and only if the command line has not said it: its values would add up. */
static int
read_variables(A67Options *options, bool lists, A67Why *why)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < FLAG_COUNT; i++)
	{
		const char *value = getenv(flags[i].variable);

		if (value == NULL || value[0] == '\0' || (flags[i].count != 0) != lists ||
			(lists && *list_count(&flags[i], options) > 0))
			continue;
		err = apply_variable(&flags[i], options, value, why);
	}
	return err;
}

static void
set_defaults(A67Options *options)
{
	const char *home = getenv("HOME");

	options->log_level = A67_LOG_INFO;
	options->chunk_quota = DEFAULT_CHUNK_PERCENT;
	options->scrub_ms = DEFAULT_SCRUB_MS;
	(void) snprintf(options->listen, sizeof(options->listen), "127.0.0.1");
	if (gethostname(options->name, sizeof(options->name) - 1) != 0 || options->name[0] == '\0')
		(void) snprintf(options->name, sizeof(options->name), "node");
	if (geteuid() == 0 || home == NULL)
		(void) snprintf(options->state_dir, sizeof(options->state_dir), "/var/lib/a67-agent");
	else
		(void) snprintf(options->state_dir, sizeof(options->state_dir), "%s/.local/state/a67-agent",
						home);
}

/* "--name=value" and "--name value"; *at moves past the value. */
static int
parse_flag(A67Options *options, char **argv, int argc, int *at, A67Why *why)
{
	const char *word = argv[*at];
	size_t name_len = strcspn(word, "=");

	for (size_t i = 0; i < FLAG_COUNT; i++)
	{
		const Flag *flag = &flags[i];

		if (strlen(flag->name) != name_len || strncmp(flag->name, word, name_len) != 0)
			continue;
		if (flag->alone && word[name_len] == '=')
			return a67_why(why, -EINVAL, "%s takes no value", flag->name);
		if (flag->alone)
			return apply(flag, options, "1", why);
		if (word[name_len] == '=')
			return apply(flag, options, word + name_len + 1, why);
		if (*at + 1 >= argc)
			return a67_why(why, -EINVAL, "%s takes a value", flag->name);
		*at += 1;
		return apply(flag, options, argv[*at], why);
	}
	return a67_why(why, -EINVAL, "unknown flag \"%.*s\"", (int) name_len, word);
}

/* The token from a descriptor: one word, the white space round it dropped. */
static int
read_token(A67Options *options, int fd, A67Why *why)
{
	char text[A67_TOKEN_SIZE + 64];
	size_t len = 0;
	size_t start = 0;
	ssize_t n = 1;

	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) != 0)
	{
		if (n < 0 && errno != EINTR)
			return a67_why(why, -errno, "could not read the join token: %s", strerror(errno));
		if (n > 0)
			len += (size_t) n;
	}
	text[len] = '\0';
	while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
		text[--len] = '\0';
	while (start < len && strchr(" \t\r\n", text[start]) != NULL)
		start++;
	if (len - start >= sizeof(options->token) || len == start)
		return a67_why(why, -EINVAL, "the join token is empty or too long");
	memcpy(options->token, text + start, len - start + 1);
	return 0;
}

static int
set_token(A67Options *options, const char *word, A67Why *why)
{
	int fd;
	int err;

	if (strcmp(word, "-") == 0)
		return read_token(options, STDIN_FILENO, why);
	if (word[0] == '@')
	{
		fd = open(word + 1, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return a67_why(why, -errno, "could not open \"%s\": %s", word + 1, strerror(errno));
		err = read_token(options, fd, why);
		(void) close(fd);
		return err;
	}
	return set_text(options->token, sizeof(options->token), "TOKEN", word, why);
}

static int
set_command(A67Options *options, const char *word, A67Why *why)
{
	if (strcmp(word, "join") == 0)
		options->command = A67_COMMAND_JOIN;
	else if (strcmp(word, "run") == 0)
		options->command = A67_COMMAND_RUN;
	else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		options->command = A67_COMMAND_HELP;
	else if (strcmp(word, "--version") == 0)
		options->command = A67_COMMAND_VERSION;
	else
		return a67_why(why, -EINVAL, "unknown command \"%s\"", word);
	return 0;
}

size_t
a67_host_length(const char *text)
{
	const char *colon = strrchr(text, ':');

	if (colon == NULL || (text[0] == '[' ? colon[-1] != ']' : strchr(text, ':') != colon))
		return strlen(text);
	return (size_t) (colon - text);
}

/* What is readable on the wire stays on this machine. */
static int
check_insecure(const A67Options *options, A67Why *why)
{
	const char *host = options->advertise[0] != '\0' ? options->advertise : options->listen;

	if (options->insecure_loopback &&
		(!a67_host_is_loopback(options->listen, strlen(options->listen)) ||
		 !a67_host_is_loopback(host, a67_host_length(host))))
		return a67_why(why, -EINVAL,
					   "--insecure-loopback is for loopback addresses: \"%s\" is none", host);
	return 0;
}

/* URL and TOKEN of join, from the command line or else from the environment. */
static int
take_words(A67Options *options, const char *const *words, size_t count, A67Why *why)
{
	char *token = getenv("A67_TOKEN");
	const char *url = count > 0 ? words[0] : getenv("A67_URL");
	const char *word = count > 0 ? words[1] : token;
	int err;

	if (url == NULL || word == NULL)
		return a67_why(why, -EINVAL, "join takes URL and TOKEN, or A67_URL and A67_TOKEN");
	err = set_text(options->url, sizeof(options->url), "URL", url, why);
	if (err == 0)
		err = set_token(options, word, why);
	if (token != NULL)
		explicit_bzero(token, strlen(token));
	return err;
}

int
a67_options_parse(int argc, char **argv, A67Options *options, A67Why *why)
{
	const char *words[2] = {NULL, NULL};
	size_t count = 0;
	size_t wanted;
	int err;

	memset(options, 0, sizeof(*options));
	if (argc < 2)
		return a67_why(why, -EINVAL, "a command is needed: join, run, --help or --version");
	err = set_command(options, argv[1], why);
	if (err != 0 || options->command == A67_COMMAND_HELP || options->command == A67_COMMAND_VERSION)
		return err;
	wanted = options->command == A67_COMMAND_JOIN ? 2 : 0;
	set_defaults(options);
	err = read_variables(options, false, why);
	for (int i = 2; err == 0 && i < argc; i++)
	{
		if (argv[i][0] == '-' && argv[i][1] != '\0')
			err = parse_flag(options, argv, argc, &i, why);
		else if (count == wanted)
			err = a67_why(why, -EINVAL, "too many arguments");
		else
			words[count++] = argv[i];
	}
	if (err == 0)
		err = read_variables(options, true, why);
	if (err == 0)
		err = check_insecure(options, why);
	if (err != 0)
		return err;
	return wanted == 0 ? 0 : take_words(options, words, count, why);
}
