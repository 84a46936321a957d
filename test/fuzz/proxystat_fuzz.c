/*
 * proxystat_fuzz.c - fuzzes the reader of HAProxy's statistics.
 *
 * Properties: nothing is read outside of the text (it lies in a block of its exact size), every row points into it,
 * no number is negative, no more fail than are sent.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/proxystat.h"

#define REQUIRE(ok)  \
	do               \
	{                \
		if (!(ok))   \
			abort(); \
	} while (0)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
inside(A67ProxyText text, const char *all, size_t size)
{
	REQUIRE(text.len == 0 || (text.text >= all && text.text + text.len <= all + size));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size > 0 ? size : 1);
	A67ProxyReader reader;
	A67ProxyRow row;

	REQUIRE(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	a67_proxy_reader_init(&reader, text, size);
	while (a67_proxy_next(&reader, &row))
	{
		inside(row.backend, text, size);
		inside(row.server, text, size);
		inside(row.status, text, size);
		inside(row.address, text, size);
		REQUIRE(row.requests >= 0 && row.failures >= 0 && row.failures <= row.requests);
		REQUIRE(row.weight >= 0 && row.sessions >= 0 && row.queued >= 0 && row.latency_ms >= 0);
		REQUIRE(strlen(reader.process.description) < sizeof(reader.process.description));
	}
	free(text);
	return 0;
}
