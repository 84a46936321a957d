/*
 * log_page.h: what SQL answers about output, read from JSON.
 *
 * Pure: jansson, no PostgreSQL. Called by tail.c.
 */
#ifndef A67_LISTENER_LOG_PAGE_H
#define A67_LISTENER_LOG_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/encode.h"

/* An answer of a67.deployment_log_feed. */
typedef struct A67LogPage
{
	char deployment[A67_UUID_TEXT_SIZE];
	int64_t reached;
	bool more;
} A67LogPage;

/*
 * Reads a page and appends its text, if it has any, as one server-sent event with `reached` as its id. False
 * when it is no page, or does not fit.
 */
extern bool a67_log_page_read(const char *body, size_t len, A67LogPage *page, A67Buf *event);

/* Reads an answer of _log_heads: how many numbers there are, at most `most` of them stored. -1: malformed. */
extern int a67_log_heads_read(const char *body, size_t len, int64_t *heads, int most);

#endif
