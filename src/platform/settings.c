/*
 * settings.c - declares the configuration parameters of a67.
 *
 * Owns names, defaults, limits and units; docs/settings.md explains each to an operator, and lint compares
 * the two lists. Three flat tables, one per type, are all there is. Defaults are the ones that a small cloud
 * on one machine wants.
 */
#include "postgres.h"

#include "platform/settings.h"

#include <arpa/inet.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "core/http/cors.h"
#include "platform/compat.h"

char *a67_database;
char *a67_listen_address;
int a67_port;
int a67_listeners;
int a67_api_workers;
int a67_max_nodes;
int a67_heartbeat_interval;
int a67_monitor_interval;
int a67_reconcile_interval;
int a67_probe_timeout;
int a67_grace_period;
int a67_push_timeout;
int a67_push_concurrency;
int a67_outbound_timeout;
int a67_deploy_timeout;
int a67_drain_timeout;
int a67_node_token_lifetime;
int a67_metrics_retention;
int a67_log_retention;
int a67_log_size;
int a67_log_rate;
int a67_max_clients;
int a67_max_header_size;
int a67_max_body_size;
int a67_package_max_size;
int a67_releases_kept;
int a67_header_timeout;
int a67_idle_timeout;
int a67_request_timeout;
int a67_query_rows;
int a67_query_size;
int a67_query_memory;
int a67_api_queue;
int a67_password_memory;
int a67_password_iterations;
int a67_shard_timeout;
int a67_shard_connect_timeout;
int a67_shard_idle_timeout;
int a67_shard_connections;
bool a67_allow_partial;
bool a67_shard_replicas;
bool a67_registration;
bool a67_outbound_private;
char *a67_outbound_ca_file;
bool a67_ingress;
char *a67_ingress_address;
int a67_ingress_port;
char *a67_ingress_domain;
char *a67_ingress_public;
char *a67_ingress_certificate_file;
char *a67_ingress_directory;
char *a67_haproxy_path;
char *a67_dns_nameservers;
int a67_dns_ttl;
char *a67_master_key_file;
char *a67_master_key_command;
char *a67_public_url;
int a67_tls;
char *a67_tls_certificate_file;
char *a67_tls_key_file;
char *a67_cors_origins;
char *a67_trusted_proxies;
char *a67_rate_limits;
char *a67_score_weights;

static const A67Networks no_networks;
static const A67RateLimits no_limits;
const A67Networks *a67_trusted_networks = &no_networks;
const A67RateLimits *a67_rates = &no_limits;
static const A67ScoreWeights default_weights = A67_SCORE_WEIGHTS_DEFAULT;
const A67ScoreWeights *a67_weights = &default_weights;

#define SECOND 1000
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define KB	   1024
#define MB	   (1024 * KB)

typedef struct IntegerSetting
{
	const char *name;
	const char *text;
	int *variable;
	int initial;
	int least;
	int most;
	GucContext context;
	int flags;
} IntegerSetting;

static const IntegerSetting integers[] = {
	{"a67.port", "TCP port of the listeners; 0 takes any free one.", &a67_port, 6767, 0, 65535,
	 PGC_POSTMASTER, 0},
	{"a67.listeners", "Number of listener processes.", &a67_listeners, 1, 1, A67_LISTENERS_MAX,
	 PGC_POSTMASTER, 0},
	{"a67.api_workers", "Number of database sessions that each listener keeps for requests.",
	 &a67_api_workers, 4, 1, A67_API_WORKERS_MAX, PGC_POSTMASTER, 0},
	{"a67.max_nodes", "Number of nodes for which the live node table has room.", &a67_max_nodes,
	 16384, 16, 1000000, PGC_POSTMASTER, 0},
	{"a67.heartbeat_interval", "Time between two heartbeats of a node.", &a67_heartbeat_interval,
	 30 * SECOND, 100, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.monitor_interval", "Time between two rounds of the monitor.", &a67_monitor_interval,
	 5 * SECOND, 100, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.reconcile_interval", "Time between two rounds of the reconciler.",
	 &a67_reconcile_interval, 5 * SECOND, 100, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.probe_timeout", "Time that a node has to answer a health probe.", &a67_probe_timeout,
	 5 * SECOND, 10, 10 * MINUTE, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.grace_period",
	 "Time for which no node becomes failed while the monitor doubts itself; -1: two heartbeats.",
	 &a67_grace_period, -1, -1, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.push_timeout", "Time that a node has to answer a command.", &a67_push_timeout,
	 10 * SECOND, 10, 10 * MINUTE, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.push_concurrency", "Number of requests that a worker keeps open to nodes at once.",
	 &a67_push_concurrency, 64, 1, 1024, PGC_SIGHUP, 0},
	{"a67.outbound_timeout", "Time that an address which users chose has to answer.",
	 &a67_outbound_timeout, 10 * SECOND, 10, 5 * MINUTE, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.deploy_timeout", "Time that a replica has to become healthy.", &a67_deploy_timeout,
	 5 * MINUTE, SECOND, 24 * HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.drain_timeout", "Time that requests to a replica that is to stop have to end.",
	 &a67_drain_timeout, 10 * SECOND, 0, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.ingress_port", "TCP port of the ingress.", &a67_ingress_port, 8080, 1, 65535, PGC_SIGHUP,
	 0},
	{"a67.dns_ttl", "Time for which resolvers may keep the records of the DNS views.", &a67_dns_ttl,
	 30, 1, 86400, PGC_SIGHUP, GUC_UNIT_S},
	{"a67.node_token_lifetime", "Time that a node token is valid.", &a67_node_token_lifetime,
	 24 * HOUR, MINUTE, 24 * HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.metrics_retention", "Time for which metrics of nodes and of the system are kept.",
	 &a67_metrics_retention, 7 * 24 * 60, 60, 10 * 366 * 24 * 60, PGC_SIGHUP, GUC_UNIT_MIN},
	{"a67.log_retention", "Time for which output of applications is kept; 0: none is taken.",
	 &a67_log_retention, 3 * 24 * 60, 0, 366 * 24 * 60, PGC_SUSET, GUC_UNIT_MIN},
	{"a67.log_size", "Output of applications that is kept of one user.", &a67_log_size, 256 * KB,
	 1 * KB, 1024 * MB, PGC_SUSET, GUC_UNIT_KB},
	{"a67.log_rate", "Bytes of output that a node may send in a second.", &a67_log_rate, 256 * KB,
	 4 * KB, 1 << 30, PGC_SUSET, GUC_UNIT_BYTE},
	{"a67.max_clients", "Number of connections that a listener keeps open.", &a67_max_clients, 1024,
	 1, 100000, PGC_SIGHUP, 0},
	{"a67.max_header_size", "Largest header of an HTTP request.", &a67_max_header_size, 16 * KB,
	 1 * KB, 1 * MB, PGC_SIGHUP, GUC_UNIT_BYTE},
	{"a67.max_body_size", "Largest body of an HTTP request, packages apart.", &a67_max_body_size,
	 1 * MB, 1 * KB, 256 * MB, PGC_SIGHUP, GUC_UNIT_BYTE},
	{"a67.package_max_size", "Largest application package.", &a67_package_max_size, 64 * MB, 1 * KB,
	 1000 * MB, PGC_SIGHUP, GUC_UNIT_BYTE},
	{"a67.releases_kept", "Releases of a deployment that are kept beside the stable one.",
	 &a67_releases_kept, 5, 1, 100, PGC_SIGHUP, 0},
	{"a67.header_timeout", "Time that a client has to send the header of a request.",
	 &a67_header_timeout, 10 * SECOND, 10, 10 * MINUTE, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.idle_timeout", "Time after which an idle connection is closed.", &a67_idle_timeout,
	 MINUTE, 10, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.request_timeout", "Time that the database has to answer a request.", &a67_request_timeout,
	 30 * SECOND, 10, HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.query_rows", "Number of rows that the answer to a query of the API may have.",
	 &a67_query_rows, 10000, 1, 10000000, PGC_SIGHUP, 0},
	{"a67.query_size", "Size of the rows that the answer to a query of the API may have.",
	 &a67_query_size, 8 * MB, KB, 256 * MB, PGC_SIGHUP, GUC_UNIT_BYTE},
	{"a67.query_memory", "Memory that a query of the API may take.", &a67_query_memory, 256 * KB,
	 16 * KB, 16 * MB, PGC_SIGHUP, GUC_UNIT_KB},
	{"a67.api_queue", "Number of requests that may wait for a database session of a listener.",
	 &a67_api_queue, 256, 0, 65536, PGC_SIGHUP, 0},
	{"a67.password_memory", "Memory that hashing a password takes.", &a67_password_memory, 19 * KB,
	 A67_PASSWORD_MEMORY_MIN, A67_PASSWORD_MEMORY_MAX, PGC_SIGHUP, GUC_UNIT_KB},
	{"a67.password_iterations", "Passes that hashing a password makes over its memory.",
	 &a67_password_iterations, 2, 1, A67_PASSWORD_ITERATIONS_MAX, PGC_SIGHUP, 0},
	{"a67.shard_timeout", "Time that a statement may take on shards.", &a67_shard_timeout,
	 30 * SECOND, 10, 24 * HOUR, PGC_USERSET, GUC_UNIT_MS},
	{"a67.shard_connect_timeout", "Time that a connection to a shard may take.",
	 &a67_shard_connect_timeout, 10 * SECOND, 10, 10 * MINUTE, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.shard_idle_timeout", "Time after which an unused connection to a shard is closed.",
	 &a67_shard_idle_timeout, 5 * MINUTE, 100, 24 * HOUR, PGC_SIGHUP, GUC_UNIT_MS},
	{"a67.shard_connections", "Number of connections that the server keeps open to one shard.",
	 &a67_shard_connections, 15, 1, A67_SHARD_CONNECTIONS_MAX, PGC_SIGHUP, 0},
};

typedef struct BooleanSetting
{
	const char *name;
	const char *text;
	bool *variable;
	bool initial;
	GucContext context;
} BooleanSetting;

static const BooleanSetting booleans[] = {
	{"a67.registration", "Whether strangers may make an account.", &a67_registration, true,
	 PGC_SUSET},
	{"a67.allow_partial", "Whether a query may leave out shards that are unavailable.",
	 &a67_allow_partial, false, PGC_USERSET},
	{"a67.shard_replicas", "Whether replicas answer reads while the shard itself is unavailable.",
	 &a67_shard_replicas, true, PGC_USERSET},
	{"a67.ingress", "Whether HAProxy leads requests to the replicas.", &a67_ingress, false,
	 PGC_SIGHUP},
	{"a67.outbound_private",
	 "Whether webhooks, mail and other requests to addresses that users chose may reach private "
	 "networks.",
	 &a67_outbound_private, false, PGC_SIGHUP},
};

static bool
check_listen_address(char **value, void **extra, GucSource source)
{
	struct in6_addr any;

	if (inet_pton(AF_INET, *value, &any) == 1 || inet_pton(AF_INET6, *value, &any) == 1)
		return true;
	GUC_check_errdetail("It must be a numeric IPv4 or IPv6 address.");
	return false;
}

static bool
check_public_url(char **value, void **extra, GucSource source)
{
	const char *url = *value;
	const char *host = NULL;

	if (url[0] == '\0')
		return true;
	if (strncmp(url, "http://", 7) == 0)
		host = url + 7;
	else if (strncmp(url, "https://", 8) == 0)
		host = url + 8;
	if (host != NULL && host[0] != '\0' && host[0] != '/' && strlen(url) <= 1024 &&
		strpbrk(url, " \t\r\n\"\\?#") == NULL && url[strlen(url) - 1] != '/')
		return true;
	GUC_check_errdetail(
		"It must be like \"https://cloud.example.org\", without a slash at its end.");
	return false;
}

static bool
check_not_empty(char **value, void **extra, GucSource source)
{
	if ((*value)[0] != '\0' && strlen(*value) < MAXPGPATH)
		return true;
	GUC_check_errdetail("It must not be empty or longer than %d characters.", MAXPGPATH - 1);
	return false;
}

static bool
check_file_name(char **value, void **extra, GucSource source)
{
	if (strlen(*value) < MAXPGPATH)
		return true;
	GUC_check_errdetail("It must not be longer than %d characters.", MAXPGPATH - 1);
	return false;
}

/* Names in lower case, each of labels of letters, digits and "-"; at most `most` of them, with commas between. */
static bool
names_ok(const char *text, int most)
{
	size_t label = 0;
	size_t name = 0;

	for (const char *c = text;; c++)
	{
		bool edge = *c == '.' || *c == ',' || *c == '\0';

		if (edge && (label == 0 || label > 63 || c[-1] == '-' || name > 190))
			return false;
		if (*c == '\0')
			return most > 0;
		if (*c == ',' && --most <= 0)
			return false;
		if (!edge && !(*c >= 'a' && *c <= 'z') && !(*c >= '0' && *c <= '9') &&
			!(*c == '-' && label > 0))
			return false;
		label = edge ? 0 : label + 1;
		name = *c == ',' ? 0 : name + 1;
	}
}

static bool
check_ingress_domain(char **value, void **extra, GucSource source)
{
	if (names_ok(*value, 1))
		return true;
	GUC_check_errdetail("It must be a domain name in lower case, like \"apps.example.org\".");
	return false;
}

static bool
check_names(char **value, void **extra, GucSource source)
{
	if ((*value)[0] == '\0' || names_ok(*value, 8))
		return true;
	GUC_check_errdetail("It must be names in lower case with commas between, at most 8.");
	return false;
}

/* IP addresses with commas between, or one name. */
static bool
check_ingress_public(char **value, void **extra, GucSource source)
{
	const char *at = *value;
	int count = 0;

	while (*at != '\0' && count < 8)
	{
		char one[INET6_ADDRSTRLEN];
		size_t len = strcspn(at, ",");
		struct in6_addr any;

		if (len >= sizeof(one))
			break;
		memcpy(one, at, len);
		one[len] = '\0';
		if (inet_pton(AF_INET, one, &any) != 1 && inet_pton(AF_INET6, one, &any) != 1)
			break;
		count++;
		at += len;
		if (at[0] == ',' && at[1] != '\0')
			at++;
	}
	if (*at == '\0' || names_ok(*value, 1))
		return true;
	GUC_check_errdetail("It must be IP addresses with commas between, at most 8, or one name.");
	return false;
}

/* Names that go into the configuration of HAProxy and into a command line without being quoted. */
static bool
check_plain_path(char **value, void **extra, GucSource source)
{
	size_t len = strlen(*value);

	if (len <= 80 &&
		strspn(*value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == len)
		return true;
	GUC_check_errdetail("It must be at most 80 letters, digits and \"/._-\".");
	return false;
}

static bool
check_ingress_directory(char **value, void **extra, GucSource source)
{
	if ((*value)[0] == '\0' || strchr("/.-", (*value)[strlen(*value) - 1]) != NULL ||
		(*value)[0] == '-')
	{
		GUC_check_errdetail("It must be the name of a directory.");
		return false;
	}
	return check_plain_path(value, extra, source);
}

static bool
check_cors_origins(char **value, void **extra, GucSource source)
{
	char why[256];

	if (a67_cors_origins_ok(*value, why, sizeof(why)))
		return true;
	GUC_check_errdetail("%s", why);
	return false;
}

/* Whether the text was understood; what it says becomes the extra, which the server frees. */
static bool
keep_parsed(void *parsed, bool understood, const char *why, void **extra)
{
	if (understood)
	{
		*extra = parsed;
		return true;
	}
	a67_guc_release(parsed);
	GUC_check_errdetail("%s", why);
	return false;
}

static bool
check_trusted_proxies(char **value, void **extra, GucSource source)
{
	A67Networks *parsed = a67_guc_allocate(sizeof(*parsed));
	char why[256];

	if (parsed == NULL)
		return false;
	return keep_parsed(parsed, a67_networks_parse(*value, parsed, why, sizeof(why)), why, extra);
}

static void
assign_trusted_proxies(const char *value, void *extra)
{
	a67_trusted_networks = extra;
}

static bool
check_rate_limits(char **value, void **extra, GucSource source)
{
	A67RateLimits *parsed = a67_guc_allocate(sizeof(*parsed));
	char why[256];

	if (parsed == NULL)
		return false;
	return keep_parsed(parsed, a67_rate_limits_parse(*value, parsed, why, sizeof(why)), why, extra);
}

static void
assign_rate_limits(const char *value, void *extra)
{
	a67_rates = extra;
}

static bool
check_score_weights(char **value, void **extra, GucSource source)
{
	A67ScoreWeights *parsed = a67_guc_allocate(sizeof(*parsed));
	char why[256];
	bool understood;

	if (parsed == NULL)
		return false;
	understood = a67_score_weights_parse(*value, parsed, why, sizeof(why));
	if (understood)
		*parsed = a67_score_normalise(parsed);
	return keep_parsed(parsed, understood, why, extra);
}

static void
assign_score_weights(const char *value, void *extra)
{
	a67_weights = extra;
}

static const struct config_enum_entry tls_modes[] = {
	{"auto", A67_TLS_AUTO, false}, {"on", A67_TLS_ON, false},
	{"off", A67_TLS_OFF, false},   {"true", A67_TLS_ON, true},
	{"yes", A67_TLS_ON, true},	   {"1", A67_TLS_ON, true},
	{"false", A67_TLS_OFF, true},  {"no", A67_TLS_OFF, true},
	{"0", A67_TLS_OFF, true},	   {NULL, 0, false},
};

typedef struct StringSetting
{
	const char *name;
	const char *text;
	char **variable;
	const char *initial;
	GucContext context;
	int flags;
	GucStringCheckHook check;
	GucStringAssignHook assign;
} StringSetting;

static const StringSetting strings[] = {
	{"a67.database", "Database in which the extension lives.", &a67_database, "postgres",
	 PGC_POSTMASTER, 0, check_not_empty, NULL},
	{"a67.listen_address", "IP address on which the listeners accept connections.",
	 &a67_listen_address, "127.0.0.1", PGC_POSTMASTER, 0, check_listen_address, NULL},
	{"a67.ingress_address", "IP address on which the ingress accepts connections.",
	 &a67_ingress_address, "127.0.0.1", PGC_SIGHUP, 0, check_listen_address, NULL},
	{"a67.ingress_domain", "Domain below which each deployment has a name.", &a67_ingress_domain,
	 "localhost", PGC_SIGHUP, 0, check_ingress_domain, NULL},
	{"a67.ingress_public", "Addresses, or the name, by which clients reach the ingress.",
	 &a67_ingress_public, "", PGC_SIGHUP, 0, check_ingress_public, NULL},
	{"a67.ingress_certificate_file", "File of the certificates and keys of the ingress (PEM).",
	 &a67_ingress_certificate_file, "", PGC_SIGHUP, 0, check_plain_path, NULL},
	{"a67.ingress_directory", "Directory of the configuration and the sockets of HAProxy.",
	 &a67_ingress_directory, "a67_ingress", PGC_SIGHUP, 0, check_ingress_directory, NULL},
	{"a67.haproxy_path", "Program file of HAProxy; empty: somebody else starts it.",
	 &a67_haproxy_path, "/usr/sbin/haproxy", PGC_SIGHUP, 0, check_plain_path, NULL},
	{"a67.dns_nameservers", "Names of the name servers of the ingress domain.",
	 &a67_dns_nameservers, "", PGC_SIGHUP, 0, check_names, NULL},
	{"a67.master_key_file", "File of the key under which secrets are sealed.", &a67_master_key_file,
	 "a67_master.key", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_not_empty, NULL},
	{"a67.master_key_command", "Shell command that prints master keys.", &a67_master_key_command,
	 "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL},
	{"a67.public_url", "URL under which nodes reach the listeners.", &a67_public_url, "",
	 PGC_SIGHUP, 0, check_public_url, NULL},
	{"a67.tls_certificate_file", "File of the certificate chain of the listeners (PEM).",
	 &a67_tls_certificate_file, "", PGC_SIGHUP, 0, check_file_name, NULL},
	{"a67.tls_key_file", "File of the private key of the listeners (PEM).", &a67_tls_key_file, "",
	 PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_file_name, NULL},
	{"a67.cors_origins", "Origins whose pages may read the answers of the listeners.",
	 &a67_cors_origins, "", PGC_SIGHUP, 0, check_cors_origins, NULL},
	{"a67.trusted_proxies", "Networks whose X-Forwarded-For tells the address of the client.",
	 &a67_trusted_proxies, "", PGC_SIGHUP, 0, check_trusted_proxies, assign_trusted_proxies},
	{"a67.outbound_ca_file",
	 "File of the certificate authorities (PEM) that webhooks, mail and other requests to addresses "
	 "that users chose trust.",
	 &a67_outbound_ca_file, "", PGC_SIGHUP, 0, check_file_name, NULL},
	{"a67.rate_limits", "How many requests a client may send, by class of request.",
	 &a67_rate_limits, A67_RATE_LIMITS_TEXT, PGC_SIGHUP, 0, check_rate_limits, assign_rate_limits},
	{"a67.score_weights", "How much each part counts in the score of a node.", &a67_score_weights,
	 A67_SCORE_WEIGHTS_TEXT, PGC_SUSET, 0, check_score_weights, assign_score_weights},
};

void
a67_settings_define(void)
{
	for (size_t i = 0; i < lengthof(integers); i++)
	{
		const IntegerSetting *s = &integers[i];
		GucContext context = s->context;

		/* The server takes postmaster-level parameters only while it preloads. */
		if (context == PGC_POSTMASTER && !process_shared_preload_libraries_in_progress)
			context = PGC_SIGHUP;
		DefineCustomIntVariable(s->name, s->text, NULL, s->variable, s->initial, s->least, s->most,
								context, s->flags, NULL, NULL, NULL);
	}
	for (size_t i = 0; i < lengthof(booleans); i++)
	{
		const BooleanSetting *s = &booleans[i];

		DefineCustomBoolVariable(s->name, s->text, NULL, s->variable, s->initial, s->context, 0,
								 NULL, NULL, NULL);
	}
	for (size_t i = 0; i < lengthof(strings); i++)
	{
		const StringSetting *s = &strings[i];
		GucContext context = s->context;

		if (context == PGC_POSTMASTER && !process_shared_preload_libraries_in_progress)
			context = PGC_SIGHUP;
		DefineCustomStringVariable(s->name, s->text, NULL, s->variable, s->initial, context,
								   s->flags, s->check, s->assign, NULL);
	}
	DefineCustomEnumVariable("a67.tls", "Whether the listeners speak TLS.", NULL, &a67_tls,
							 A67_TLS_AUTO, tls_modes,
							 process_shared_preload_libraries_in_progress ? PGC_POSTMASTER
																		  : PGC_SIGHUP,
							 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("a67");
}
