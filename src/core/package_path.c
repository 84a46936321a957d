/*
 * package_path.c - names and links of packages; see package_path.h.
 */
#include "core/package_path.h"

#include <string.h>

#define PART_MAX 255

bool
a67_package_path(const char *name, char out[A67_PACKAGE_MAX_PATH])
{
	size_t used = 0;
	int depth = 0;

	out[0] = '\0';
	if (name == NULL || name[0] == '/')
		return false;
	while (*name != '\0')
	{
		size_t len = strcspn(name, "/");

		if (len == 2 && name[0] == '.' && name[1] == '.')
			return false;
		if (len > 0 && !(len == 1 && name[0] == '.'))
		{
			if (len > PART_MAX || used + len + 2 > A67_PACKAGE_MAX_PATH ||
				++depth > A67_PACKAGE_MAX_DEPTH)
				return false;
			if (used > 0)
				out[used++] = '/';
			memcpy(out + used, name, len);
			used += len;
			out[used] = '\0';
		}
		name += len;
		while (*name == '/')
			name++;
	}
	return true;
}

bool
a67_package_link_inside(const char *path, const char *target)
{
	int depth = 0;
	bool down = false;

	if (target == NULL || target[0] == '\0' || target[0] == '/' ||
		strlen(target) >= A67_PACKAGE_MAX_PATH)
		return false;
	for (const char *c = path; *c != '\0'; c++)
		depth += *c == '/';
	while (*target != '\0')
	{
		size_t len = strcspn(target, "/");

		if (len == 2 && target[0] == '.' && target[1] == '.')
		{
			if (down || --depth < 0)
				return false;
		}
		else if (len > 0 && !(len == 1 && target[0] == '.'))
			down = true;
		target += len;
		while (*target == '/')
			target++;
	}
	return true;
}
