/*
 * log.c - lines on standard error: "2026-01-01T00:00:00.000Z info text".
 *
 * One write() a line, so that lines of processes that share the stream do not mix.  See log.h.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define LINE_SIZE 1024

static const char *const level_names[] = {"error", "warning", "info", "debug"};

static A67LogLevel current_level = A67_LOG_INFO;

bool
a67_log_parse_level(const char *name, A67LogLevel *level)
{
	for (int i = 0; i <= A67_LOG_DEBUG; i++)
	{
		if (strcmp(name, level_names[i]) == 0)
		{
			*level = (A67LogLevel) i;
			return true;
		}
	}
	return false;
}

void
a67_log_set_level(A67LogLevel level)
{
	current_level = level;
}

static void
flatten(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) text[i] < 0x20 || text[i] == 0x7f)
			text[i] = ' ';
	}
}

void
a67_log(A67LogLevel level, const char *format, ...)
{
	char line[LINE_SIZE];
	char at[A67_TIME_SIZE];
	size_t used;
	int more;
	va_list args;

	if (level > current_level)
		return;
	a67_clock_format(a67_clock_wall_ms(), at);
	used = (size_t) snprintf(line, sizeof(line), "%s %s ", at, level_names[level]);
	va_start(args, format);
	more = vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	if (more > 0)
		used += (size_t) more;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	flatten(line, used);
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

int
a67_why(A67Why *why, int err, const char *format, ...)
{
	va_list args;

	if (why == NULL)
		return err;
	va_start(args, format);
	(void) vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	flatten(why->text, strlen(why->text));
	return err;
}
