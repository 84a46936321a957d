/*
 * replay.c - runs a fuzz target over files instead of inventing input.
 *
 * Linked with one target, without libFuzzer: `TARGET file-or-directory...`. Each file must run without
 * tripping a sanitizer or a property of the target. Part of the normal tests.
 */
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1024 * 1024)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int files;

static bool
replay_file(const char *path)
{
	FILE *file = fopen(path, "rbe");
	uint8_t *data = malloc(FILE_MAX);
	size_t size;
	uint8_t *exact;

	if (file == NULL || data == NULL)
	{
		fprintf(stderr, "could not read file \"%s\"\n", path);
		free(data);
		return false;
	}
	size = fread(data, 1, FILE_MAX, file);
	(void) fclose(file);
	/* A block of exactly that size lets the sanitizer see a read behind its end. */
	exact = malloc(size > 0 ? size : 1);
	if (exact != NULL)
	{
		memcpy(exact, data, size);
		(void) LLVMFuzzerTestOneInput(exact, size);
		files++;
	}
	free(exact);
	free(data);
	return exact != NULL;
}

static bool
replay(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	char name[PATH_MAX];
	bool ok = true;

	if (dir == NULL)
		return replay_file(path);
	while ((entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		ok = replay_file(name) && ok;
	}
	(void) closedir(dir);
	return ok;
}

int
main(int argc, char **argv)
{
	bool ok = argc > 1;
	int i;

	for (i = 1; i < argc; i++)
		ok = replay(argv[i]) && ok;
	printf("%s: %d inputs replayed\n",
		   strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0], files);
	return ok && files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
