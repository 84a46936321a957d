/*
 * slots.h - one entry per long-running process: who runs, since when, and how it is doing.
 *
 * Owns the life of A67WorkerSlot (declared in shmem.h): found or made by name, claimed by one process at a
 * time, released when that process ends. Shown by _worker_status(). The launcher decides from these entries
 * what to start; nothing else does. The library must be preloaded for everything here.
 */
#ifndef A67_SLOTS_H
#define A67_SLOTS_H

#include "postgres.h"

#include "platform/shmem.h"

#define A67_LAUNCHER_NAME "launcher"

/* The slot of that name and instance, made when there is none; NULL when all are taken. */
A67WorkerSlot *a67_slot_find(const char *name, int instance);

/*
 * Makes this process the slot's; false when another one holds it. Until it exits the slot shows its pid
 * and its latch is found by name; the exit callback is registered here.
 */
bool a67_slot_claim(A67WorkerSlot *slot);

/* A tick began lag_ms later than it should have. */
void a67_slot_note_tick(A67WorkerSlot *slot, int64 lag_ms);

/* Counts an error and remembers its primary message. */
void a67_slot_note_error(A67WorkerSlot *slot, const char *message);

#endif /* A67_SLOTS_H */
