/*
 * ingress_files.h - the directory of HAProxy: its configuration, its map of routes, its sockets; its command lines.
 *
 * Called by ingress.c alone. Functions that write throw; none of them is to be called in a transaction.
 */
#ifndef A67_INGRESS_FILES_H
#define A67_INGRESS_FILES_H

#include "postgres.h"

/* The socket of HAProxy's master process; short, as it is relative to the data directory where the setting is. */
void a67_ingress_socket(char path[MAXPGPATH]);

/* Makes the directory and writes map and configuration, under names that nothing uses yet. */
void a67_ingress_write(const char *config, const char *routes_file, const char *routes);

/* Makes the configuration that was written the one that HAProxy loads, and removes maps it does not name. */
void a67_ingress_use(const char *routes_file);

/* Command lines, palloc'd: one that checks what was written, one that starts HAProxy with what is in use. */
char *a67_ingress_check_command(void);
char *a67_ingress_start_command(void);

#endif /* A67_INGRESS_FILES_H */
