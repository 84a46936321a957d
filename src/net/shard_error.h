/*
 * shard_error.h - errors and notices of shards, raised here; see shard_error.c. Private to net.
 *
 * All of them name the shard, none shows what libpq says of a connection.
 */
#ifndef A67_SHARD_ERROR_H
#define A67_SHARD_ERROR_H

#include "postgres.h"

#include "libpq-fe.h"

/* Raises the shard's error; the result is freed. */
void a67_shard_raise(const char *name, PGresult *result) pg_attribute_noreturn();
/* The SQLSTATE of an error result; 0 when it has none. */
int a67_shard_sqlstate(const PGresult *result);
/* Raises that the connection to the shard was lost. */
void a67_shard_raise_lost(const char *name, bool unknown_outcome) pg_attribute_noreturn();
void a67_shard_raise_timeout(const char *name) pg_attribute_noreturn();
/* Raises that this process has too little memory for what the shard sends. */
void a67_shard_raise_memory(const char *name) pg_attribute_noreturn();
/* A notice receiver for libpq; arg is the link. */
void a67_shard_notice(void *arg, const PGresult *result);

#endif /* A67_SHARD_ERROR_H */
