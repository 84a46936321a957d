/*
 * redact_log.h - keeps secrets that stand in statements out of the server log and of pg_stat_activity.
 *
 * Called by init.c only.
 */
#ifndef A67_REDACT_LOG_H
#define A67_REDACT_LOG_H

/* Installs the hooks. While preloading only. */
void a67_redact_install(void);

#endif /* A67_REDACT_LOG_H */
