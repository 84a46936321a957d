/*
 * settings.h - every configuration parameter of a67, as C variables.
 *
 * Owns the variables named a67_*; docs/settings.md says what each one means to an operator. Times are
 * milliseconds and sizes bytes (kB where marked), whatever unit the operator wrote. Values of context
 * "postmaster" never change while the server runs; the others change at a reload, so a loop reads them anew
 * each time.
 * Defined once per process by a67_settings_define(), called by _PG_init.
 */
#ifndef A67_SETTINGS_H
#define A67_SETTINGS_H

#include "core/address.h"
#include "core/rate.h"
#include "core/score.h"

#include <stdbool.h>

#define A67_LISTENERS_MAX		  8
#define A67_API_WORKERS_MAX		  32
#define A67_SHARD_CONNECTIONS_MAX 256

/* a67.tls */
typedef enum A67TlsMode
{
	A67_TLS_AUTO, /* off on loopback, else on */
	A67_TLS_ON,
	A67_TLS_OFF,
} A67TlsMode;

/* Hashes of passwords are readable within these limits: never narrow them. */
#define A67_PASSWORD_MEMORY_MIN		(8 * 1024)	  /* kB */
#define A67_PASSWORD_MEMORY_MAX		(1024 * 1024) /* kB */
#define A67_PASSWORD_ITERATIONS_MAX 10

/* Fixed at server start. */
extern char *a67_database;
extern char *a67_listen_address;
extern int a67_port;
extern int a67_listeners;
extern int a67_api_workers; /* per listener */
extern int a67_max_nodes;
extern int a67_tls; /* A67TlsMode */

/* Changed by a reload. */
extern int a67_heartbeat_interval; /* ms */
extern int a67_monitor_interval;   /* ms */
extern int a67_reconcile_interval; /* ms */
extern int a67_probe_timeout;	   /* ms */
extern int a67_grace_period;	   /* ms; -1: by the heartbeat interval; read in SQL */
extern int a67_push_timeout;	   /* ms */
extern int a67_push_concurrency;
extern int a67_outbound_timeout;	/* ms */
extern int a67_deploy_timeout;		/* ms */
extern int a67_drain_timeout;		/* ms; read in SQL */
extern int a67_node_token_lifetime; /* ms */
extern int a67_metrics_retention;	/* minutes */
extern int a67_log_retention;		/* minutes; read in SQL, as are the next two */
extern int a67_log_size;			/* kB */
extern int a67_log_rate;			/* bytes a second */
extern int a67_max_clients;			/* per listener */
extern int a67_max_header_size;		/* bytes */
extern int a67_max_body_size;		/* bytes */
extern int a67_package_max_size;	/* bytes */
extern int a67_releases_kept;		/* read in SQL */
extern int a67_header_timeout;		/* ms */
extern int a67_idle_timeout;		/* ms */
extern int a67_request_timeout;		/* ms */
extern int a67_query_rows;			/* in one answer */
extern int a67_query_size;			/* bytes */
extern int a67_query_memory;		/* kB */
extern int a67_api_queue;
extern int a67_password_memory; /* kB */
extern int a67_password_iterations;
extern int a67_shard_timeout;		  /* ms */
extern int a67_shard_connect_timeout; /* ms */
extern int a67_shard_idle_timeout;	  /* ms */
extern int a67_shard_connections;	  /* of the whole server to one endpoint */
extern bool a67_allow_partial;
extern bool a67_shard_replicas;
extern bool a67_registration;
extern bool a67_outbound_private;
extern char *a67_outbound_ca_file;
extern bool a67_ingress;
extern char *a67_ingress_address;
extern int a67_ingress_port;
extern char *a67_ingress_domain;
extern char *a67_ingress_public;
extern char *a67_ingress_certificate_file;
extern char *a67_ingress_directory;
extern char *a67_haproxy_path;
extern char *a67_dns_nameservers; /* read in SQL, as is the next */
extern int a67_dns_ttl;			  /* s */
extern char *a67_master_key_file;
extern char *a67_master_key_command;
extern char *a67_public_url;
extern char *a67_tls_certificate_file;
extern char *a67_tls_key_file;
extern char *a67_cors_origins;
extern char *a67_trusted_proxies;
extern const A67Networks *a67_trusted_networks; /* what a67.trusted_proxies says; never NULL */
extern char *a67_rate_limits;
extern const A67RateLimits *a67_rates; /* what a67.rate_limits says; never NULL */
extern char *a67_score_weights;
extern const A67ScoreWeights *a67_weights; /* what a67.score_weights says, normalised; never NULL */

/* Declares all of them to the server and reserves the prefix "a67". Call once, from _PG_init. */
void a67_settings_define(void);

#endif /* A67_SETTINGS_H */
