/*
 * ddl_text.h - the text of statements, cut and mended by tokens.
 *
 * Shards get the user's own text, as PostgreSQL has no way back from a raw parse tree to text. Parse trees have locations; tokens
 * say how far what begins there reaches. Tokens are PostgreSQL's own, from its scanner. Edits must not overlap; an
 * edit inside of one that was made before is dropped. All memory is of the current context.
 */
#ifndef A67_ROUTER_DDL_TEXT_H
#define A67_ROUTER_DDL_TEXT_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct A67Token
{
	int start, end; /* offsets */
} A67Token;

typedef struct A67Text
{
	const char *source;
	int count;
	A67Token *tokens; /* the last one is empty, at the end of the source */
	List *edits;
} A67Text;

/* Raises syntax errors of the scanner. */
A67Text *a67_text(const char *source);

/* Index of the token that begins at the offset, or of the next one. */
int a67_text_at(const A67Text *text, int offset);

/* Whether the token is this character, or this keyword (lower case, as typed without quotes). */
bool a67_text_is(const A67Text *text, int token, const char *word);

/*
 * The first token from `from` on, before `end`, outside of any parentheses and brackets opened there that is `word`; `end` if there
 * is none.
 */
int a67_text_find(const A67Text *text, int from, int end, const char *word);

/* The token after the one that closes the parenthesis which `open` opens. */
int a67_text_close(const A67Text *text, int open, int end);

/* The token after a name (identifiers with dots between) that begins at this token. */
int a67_text_after_name(const A67Text *text, int token, int end);

/* Replaces tokens from..end (without end). */
void a67_text_replace(A67Text *text, int from, int end, const char *replacement);

/* Text of the tokens from..end (without end), edited. */
char *a67_text_result(const A67Text *text, int from, int end);

#endif /* A67_ROUTER_DDL_TEXT_H */
