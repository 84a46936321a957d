/*
 * log_sql.c - output of applications as text: SQL faces of the few loops over bytes that it needs.
 *
 * Output may hold anything; text may not.  Called by sql/api/log.sql alone.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(a67_sql_log_text);
PG_FUNCTION_INFO_V1(a67_sql_log_lines);

#define REPLACEMENT		 "\xEF\xBF\xBD" /* U+FFFD */
#define REPLACEMENT_SIZE 3

Datum
a67_sql_log_text(PG_FUNCTION_ARGS)
{
	bytea *data = PG_GETARG_BYTEA_PP(0);
	const unsigned char *at = (const unsigned char *) VARDATA_ANY(data);
	const unsigned char *end = at + VARSIZE_ANY_EXHDR(data);
	char *out = palloc((Size) (end - at) * REPLACEMENT_SIZE + 1);
	char *put = out;

	while (at < end)
	{
		int len = pg_utf_mblen(at);

		if (*at != '\0' && len <= end - at && pg_utf8_islegal(at, len))
		{
			memcpy(put, at, (Size) len);
			put += len;
			at += len;
			continue;
		}
		memcpy(put, REPLACEMENT, REPLACEMENT_SIZE);
		put += REPLACEMENT_SIZE;
		at++;
	}
	*put = '\0';
	PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(out, (int) (put - out), PG_UTF8)));
}

Datum
a67_sql_log_lines(PG_FUNCTION_ARGS)
{
	bytea *data = PG_GETARG_BYTEA_PP(0);
	const char *at = VARDATA_ANY(data);
	const char *end = at + VARSIZE_ANY_EXHDR(data);
	int32 lines = at < end && end[-1] != '\n';

	for (; at < end && (at = memchr(at, '\n', (Size) (end - at))) != NULL; at++)
		lines++;
	PG_RETURN_INT32(lines);
}
