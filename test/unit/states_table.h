/*
 * states_table.h - the tables of docs/states.md, for the tests that compare them with the code.
 */
#ifndef A67_STATES_TABLE_H
#define A67_STATES_TABLE_H

#include "unit.h"

#ifndef A67_TOP
#define A67_TOP "../.."
#endif

#define STATES_TABLE_COLUMNS 16

static inline FILE *
states_open(void)
{
	return fopen(A67_TOP "/docs/states.md", "r");
}

/* Cuts "| a | b |" into its cells, trimmed, in place; how many there are, 0 when it is no line of a table. */
static inline unsigned
states_split(char *line, char *cells[STATES_TABLE_COLUMNS])
{
	unsigned count = 0;
	char *at = line;

	if (*line != '|')
		return 0;
	while (count < STATES_TABLE_COLUMNS)
	{
		char *start = at + 1;
		char *end = strchr(start, '|');

		if (end == NULL)
			break;
		at = end;
		*end = '\0';
		while (*start == ' ')
			start++;
		while (end > start && end[-1] == ' ')
			*--end = '\0';
		cells[count++] = start;
	}
	return count;
}

/*
 * Reads the table that follows the line that begins with mark: head gets the cells of its first line (NULL: nobody does), row
 * those of every line below the rule. How many these are; -1 when the file cannot be read.
 */
static inline int
states_table(const char *mark, unsigned columns, void (*head)(char **), void (*row)(char **))
{
	FILE *states = states_open();
	char line[1024];
	char *cells[STATES_TABLE_COLUMNS];
	bool in_table = false;
	int lines = 0;

	if (states == NULL)
		return -1;
	while (fgets(line, sizeof(line), states) != NULL)
	{
		unsigned count;

		in_table = in_table || strncmp(line, mark, strlen(mark)) == 0;
		count = in_table ? states_split(line, cells) : 0;
		if (count == 0 && lines > 0)
			break;
		if (count == 0)
			continue;
		CHECK_UINT(count, columns);
		if (count == columns && lines == 0 && head != NULL)
			head(cells);
		if (count == columns && lines > 1)
			row(cells);
		lines++;
	}
	(void) fclose(states);
	return lines - 2;
}

#endif /* A67_STATES_TABLE_H */
