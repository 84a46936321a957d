/*
 * beat_fuzz.c - fuzzes the two readers of heartbeats.
 *
 * Properties: nothing is read outside of the text (it lies in a block of its exact size), and what the quick
 * reader takes, the complete one takes with the same result.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "listener/beat.h"

#define REQUIRE(ok)  \
	do               \
	{                \
		if (!(ok))   \
			abort(); \
	} while (0)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size > 0 ? size : 1);
	A67Beat quick;
	A67Beat complete;

	REQUIRE(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	if (a67_beat_scan(text, size, &quick))
	{
		REQUIRE(a67_beat_read(text, size, &complete));
		REQUIRE(memcmp(&quick, &complete, sizeof(quick)) == 0);
	}
	else
		(void) a67_beat_read(text, size, &complete);
	free(text);
	return 0;
}
