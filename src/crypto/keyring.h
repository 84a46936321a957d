/*
 * keyring.h - the HS256 keys that tokens are verified with, shared by all processes.
 *
 * Published from the database by the launcher (through SQL), read by listeners, which have no database.
 * Protected by A67_LOCK_KEYRING. The keys are in memory only while the server runs and are overwritten when
 * replaced.
 */
#ifndef A67_KEYRING_H
#define A67_KEYRING_H

#include "postgres.h"

#include "crypto/jwt.h"
#include "platform/shmem.h"

extern const A67ShmemArea a67_keyring_area;

/*
 * Brings *copy up to date. Cheap when nothing changed since the copy's version: one atomic read. Start with
 * a zeroed copy; version 0 with count 0 means that no keys were published yet. False without shared memory.
 */
bool a67_keyring_snapshot(A67Keyring *copy);

/* Replaces the shared keys; the caller wipes its own. The library must be preloaded. */
void a67_keyring_replace(const A67Keyring *keys);

#endif /* A67_KEYRING_H */
