/*
 * metrics_fixture.h - a /proc and a /sys of one's own, below a directory of their own.
 */
#ifndef A67_METRICS_FIXTURE_H
#define A67_METRICS_FIXTURE_H

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char fixture_root[32];

static inline bool
fixture_begin(void)
{
	(void) snprintf(fixture_root, sizeof(fixture_root), "/tmp/a67-root-XXXXXX");
	return mkdtemp(fixture_root) != NULL;
}

static inline int
fixture_remove(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	return remove(path);
}

static inline void
fixture_end(void)
{
	(void) nftw(fixture_root, fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* Makes a file with its directories, or replaces its content. */
static inline void
fixture_write(const char *name, const char *text)
{
	char path[512];
	FILE *file;

	(void) snprintf(path, sizeof(path), "%s%s", fixture_root, name);
	for (char *slash = strchr(path + strlen(fixture_root) + 1, '/'); slash != NULL;
		 slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		(void) mkdir(path, 0755);
		*slash = '/';
	}
	file = fopen(path, "we");
	if (file == NULL)
	{
		printf("# could not write %s\n", path);
		abort();
	}
	(void) fputs(text, file);
	(void) fclose(file);
}

#endif /* A67_METRICS_FIXTURE_H */
