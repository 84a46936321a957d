/*
 * users.c - ranges of user numbers and the draw from them.  See users.h.
 */
#include "users.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/pace.h"

#define LOWEST	 1000U
#define HIGHEST	 4294967293U /* above it are numbers that mean "nobody" and "none" */
#define MAP_SIZE 8192

/*
 * Numbers that no distribution and no tool hands out: above everything that systemd, useradd and the
 * usual ranges of subordinate ids take; then, for user namespaces of 65,536 numbers, a gap below those
 * of systemd's dynamic users.
 */
static const A67Users ranges[] = {{1879048192U, 65536, NULL}, {60578U, 606, NULL}};

bool
a67_users_parse(const char *range, A67Users *users)
{
	char *end;
	unsigned long long first;
	unsigned long long last;

	if (range[0] < '0' || range[0] > '9')
		return false;
	errno = 0;
	first = strtoull(range, &end, 10);
	if (*end != '-' || end[1] < '0' || end[1] > '9')
		return false;
	last = strtoull(end + 1, &end, 10);
	if (*end != '\0' || errno != 0 || first < LOWEST || last < first || last > HIGHEST)
		return false;
	users->first = (uid_t) first;
	users->count = (uint32_t) (last - first + 1);
	users->why = NULL;
	return true;
}

bool
a67_users_mapped(const char *map, const A67Users *users)
{
	unsigned long inside;
	unsigned long outside;
	unsigned long count;
	int used;

	while (sscanf(map, "%lu %lu %lu%n", &inside, &outside, &count, &used) == 3)
	{
		if (users->first >= inside &&
			(uint64_t) users->first + users->count <= (uint64_t) inside + count)
			return true;
		map += used;
	}
	return false;
}

/* Both maps of this user namespace have it. */
static bool
usable(const A67Users *users)
{
	static const char *const files[] = {"/proc/self/uid_map", "/proc/self/gid_map"};
	char text[MAP_SIZE];
	bool good = true;

	for (size_t i = 0; good && i < sizeof(files) / sizeof(files[0]); i++)
	{
		FILE *file = fopen(files[i], "re");
		size_t n = file != NULL ? fread(text, 1, sizeof(text) - 1, file) : 0;

		text[n] = '\0';
		if (file != NULL)
			(void) fclose(file);
		/* A kernel without user namespaces has no such file, and every number. */
		good = file == NULL || a67_users_mapped(text, users);
	}
	return good;
}

int
a67_users_open(const char *range, A67Users *users, A67Why *why)
{
	memset(users, 0, sizeof(*users));
	if (range[0] != '\0' && !a67_users_parse(range, users))
		return a67_why(why, -EINVAL, "\"%s\" is not a range of user numbers from %u", range,
					   LOWEST);
	if (geteuid() != 0)
	{
		users->count = 0;
		users->why = "the agent does not run as root";
		return 0;
	}
	if (range[0] != '\0')
		return usable(users)
				   ? 0
				   : a67_why(why, -EINVAL, "this user namespace lacks users of %s", range);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
	{
		if (!usable(&ranges[i]))
			continue;
		*users = ranges[i];
		return 0;
	}
	users->why = "this user namespace has too few users";
	return 0;
}

uid_t
a67_users_pick(const A67Users *users, uint64_t seed, bool (*taken)(void *arg, uid_t uid), void *arg)
{
	uint32_t start = users->count > 0 ? (uint32_t) (a67_random_next(&seed) % users->count) : 0;

	for (uint32_t i = 0; i < users->count; i++)
	{
		uid_t uid = users->first + (start + i) % users->count;

		if (!taken(arg, uid))
			return uid;
	}
	return 0;
}
