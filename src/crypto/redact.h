/*
 * redact.h - whether a text of SQL calls a function that takes secrets.
 *
 * Reads words, not grammar: a name of such a function with a parenthesis (or a comment) behind it. Better too
 * often than once too seldom; a text that is passed over only misses from the log. Pure: no PostgreSQL,
 * no allocation. Called by redact_log.c and unit tests.
 */
#ifndef A67_REDACT_H
#define A67_REDACT_H

#include <stdbool.h>
#include <stddef.h>

#define A67_NAME_SIZE 64 /* of an SQL name, NUL included */

/* Whether a function that takes secrets is called in the text. NULL is no text. */
bool a67_text_calls_secret(const char *text);

/*
 * The name of the prepared statement that the text executes (EXECUTE name), as the server knows it; false when
 * it executes none.
 */
bool a67_text_executes(const char *text, char name[A67_NAME_SIZE]);

#endif /* A67_REDACT_H */
