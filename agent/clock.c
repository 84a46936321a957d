/*
 * clock.c - monotonic, boot and wall clock in milliseconds, and RFC 3339 text.  See clock.h.
 */
#include "clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define BOOT_ID_SIZE 64

static int64_t
read_clock(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) != 0)
		return 0;
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
a67_clock_now_ms(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t
a67_clock_now_us(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
		return 0;
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
a67_clock_boot_ms(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

const char *
a67_clock_boot_id(void)
{
	static char boot[BOOT_ID_SIZE];
	FILE *file;

	if (boot[0] != '\0')
		return boot;
	file = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (file == NULL || fgets(boot, sizeof(boot), file) == NULL)
		boot[0] = '\0';
	if (file != NULL)
		(void) fclose(file);
	boot[strcspn(boot, "\n")] = '\0';
	if (boot[0] == '\0')
		(void) snprintf(boot, sizeof(boot), "unknown");
	return boot;
}

int64_t
a67_clock_wall_ms(void)
{
	return read_clock(CLOCK_REALTIME);
}

void
a67_clock_format(int64_t wall_ms, char out[A67_TIME_SIZE])
{
	time_t seconds = (time_t) (wall_ms / 1000);
	struct tm parts;
	size_t used;

	out[0] = '\0';
	if (gmtime_r(&seconds, &parts) == NULL)
		return;
	used = strftime(out, A67_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
	(void) snprintf(out + used, A67_TIME_SIZE - used, ".%03dZ", (int) (wall_ms % 1000));
}
