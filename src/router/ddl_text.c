/*
 * ddl_text.c - the text of statements, cut and mended by tokens; see ddl_text.h.
 *
 * The scanner ends each token in its buffer with a zero byte until the next is asked for: so the length of a token is known,
 * of quoted ones too. Its buffer has as many bytes as the source, so that offsets are those of the source.
 */
#include "postgres.h"

#include "router/ddl_text.h"

#include "lib/stringinfo.h"
#include "parser/scanner.h"

typedef struct Edit
{
	int start, end;
	const char *replacement;
} Edit;

A67Text *
a67_text(const char *source)
{
	A67Text *text = palloc0(sizeof(A67Text));
	core_yy_extra_type extra;
	core_yyscan_t scanner = scanner_init(source, &extra, &ScanKeywords, ScanKeywordTokens);
	int capacity = 64;

	text->source = source;
	text->tokens = palloc(sizeof(A67Token) * capacity);
	for (;;)
	{
		core_YYSTYPE value;
		YYLTYPE location;
		int kind = core_yylex(&value, &location, scanner);

		if (text->count == capacity)
		{
			capacity *= 2;
			text->tokens = repalloc(text->tokens, sizeof(A67Token) * capacity);
		}
		if (kind == 0)
			break;
		text->tokens[text->count].start = location;
		text->tokens[text->count].end = location + (int) strlen(extra.scanbuf + location);
		text->count++;
	}
	text->tokens[text->count].start = text->tokens[text->count].end = (int) strlen(source);
	scanner_finish(scanner);
	return text;
}

int
a67_text_at(const A67Text *text, int offset)
{
	int low = 0;
	int high = text->count;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (text->tokens[middle].start < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
a67_text_is(const A67Text *text, int token, const char *word)
{
	const A67Token *t = &text->tokens[token];
	int len = (int) strlen(word);

	return token < text->count && t->end - t->start == len &&
		   pg_strncasecmp(text->source + t->start, word, (size_t) len) == 0;
}

int
a67_text_find(const A67Text *text, int from, int end, const char *word)
{
	int depth = 0;

	for (int i = from; i < end; i++)
	{
		if (depth == 0 && a67_text_is(text, i, word))
			return i;
		if (a67_text_is(text, i, "(") || a67_text_is(text, i, "["))
			depth++;
		else if (a67_text_is(text, i, ")") || a67_text_is(text, i, "]"))
			depth--;
	}
	return end;
}

int
a67_text_close(const A67Text *text, int open, int end)
{
	return Min(a67_text_find(text, open + 1, end, ")") + 1, end);
}

int
a67_text_after_name(const A67Text *text, int token, int end)
{
	token++;
	while (token + 1 < end && a67_text_is(text, token, "."))
		token += 2;
	return Min(token, end);
}

void
a67_text_replace(A67Text *text, int from, int end, const char *replacement)
{
	Edit *edit;
	ListCell *cell;
	int place = 0;

	if (end <= from)
		return;
	edit = palloc(sizeof(Edit));
	edit->start = text->tokens[from].start;
	edit->end = text->tokens[end - 1].end;
	edit->replacement = replacement;
	foreach(cell, text->edits)
	{
		const Edit *other = lfirst(cell);

		if (edit->start >= other->start && edit->end <= other->end)
			return;
		if (other->start <= edit->start)
			place = foreach_current_index(cell) + 1;
	}
	text->edits = list_insert_nth(text->edits, place, edit);
}

char *
a67_text_result(const A67Text *text, int from, int end)
{
	StringInfoData out;
	ListCell *cell;
	int at = text->tokens[from].start;
	int stop = end > from ? text->tokens[end - 1].end : at;

	initStringInfo(&out);
	foreach(cell, text->edits)
	{
		const Edit *edit = lfirst(cell);

		/* What begins inside of an earlier edit goes with it. */
		if (edit->start < at || edit->end > stop)
			continue;
		appendBinaryStringInfo(&out, text->source + at, edit->start - at);
		appendStringInfoString(&out, edit->replacement);
		at = edit->end;
	}
	appendBinaryStringInfo(&out, text->source + at, stop - at);
	return out.data;
}
