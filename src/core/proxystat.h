/*
 * proxystat.h - reads what HAProxy says of itself: "show info" and "show stat" of one or several processes.
 *
 * Decides which lines matter and what their numbers mean; not what follows from them. The text may be
 * anything: a line that is not understood is skipped, a number that is none is 0, one too large the largest.
 * Libc only, no allocation; rows point into the text. Called by registry/ingress_sql.c,
 * and the worker "ingress" (the digest).
 */
#ifndef A67_PROXYSTAT_H
#define A67_PROXYSTAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_PROXY_DESCRIPTION_SIZE 64

typedef enum A67ProxyKind
{
	A67_PROXY_PROCESS, /* where the statistics of a process begin */
	A67_PROXY_BACKEND,
	A67_PROXY_SERVER,
} A67ProxyKind;

typedef struct A67ProxyText
{
	const char *text; /* not terminated */
	size_t len;
} A67ProxyText;

typedef struct A67ProxyProcess
{
	int64_t pid;
	int64_t started; /* Unix time */
	bool stopping;
	char description[A67_PROXY_DESCRIPTION_SIZE];
} A67ProxyProcess;

/* All but kind is empty and 0 where a row has no such thing. */
typedef struct A67ProxyRow
{
	A67ProxyKind kind;
	A67ProxyText backend;
	A67ProxyText server;
	A67ProxyText status;
	A67ProxyText address;
	int64_t weight;
	int64_t sessions; /* under way now */
	int64_t queued;
	int64_t limit;		/* of sessions; 0: none */
	int64_t requests;	/* sent to it, or tried to */
	int64_t failures;	/* of these: answered with 5xx, not to the end, or not at all */
	int64_t refused;	/* by a rule */
	int64_t latency_ms; /* mean of the last ones: connect, then answer */
} A67ProxyRow;

#define A67_PROXY_FIELDS 128

typedef struct A67ProxyReader
{
	const char *at;
	const char *end;
	A67ProxyProcess process;	   /* of the row that was read last */
	int columns[A67_PROXY_FIELDS]; /* what the fields of a line are; -1: nothing that matters */
	int column_count;			   /* 0: no header has been read */
} A67ProxyReader;

/* The text must stay as long as the reader and its rows are used. */
void a67_proxy_reader_init(A67ProxyReader *reader, const char *text, size_t len);

/* The next row; false at the end. */
bool a67_proxy_next(A67ProxyReader *reader, A67ProxyRow *row);

/* Of all rows of the text and their processes: another number, as good as surely, when any of them differs. */
uint64_t a67_proxy_digest(const char *text, size_t len);

#endif /* A67_PROXYSTAT_H */
