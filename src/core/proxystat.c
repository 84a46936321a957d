/*
 * proxystat.c - reads "show info" (lines "Name: value") and "show stat" (CSV with a header) of HAProxy.
 *
 * A line "Name: HAProxy" begins another process. Columns are found by their names, as their order has
 * changed between versions.
 */
#include "core/proxystat.h"

#include <string.h>

enum
{
	PXNAME,
	SVNAME,
	STATUS,
	ADDR,
	TYPE,
	WEIGHT,
	SCUR,
	QCUR,
	SLIM,
	STOT,
	ECON,
	ERESP,
	WRETR,
	WREDIS,
	HRSP_5XX,
	DREQ,
	CTIME,
	RTIME,
	COLUMNS
};

static const char *const names[COLUMNS] = {
	[PXNAME] = "pxname", [SVNAME] = "svname",	  [STATUS] = "status", [ADDR] = "addr",
	[TYPE] = "type",	 [WEIGHT] = "weight",	  [SCUR] = "scur",	   [QCUR] = "qcur",
	[SLIM] = "slim",	 [STOT] = "stot",		  [ECON] = "econ",	   [ERESP] = "eresp",
	[DREQ] = "dreq",	 [HRSP_5XX] = "hrsp_5xx", [CTIME] = "ctime",   [RTIME] = "rtime",
	[WRETR] = "wretr",	 [WREDIS] = "wredis",
};

/* Values of the column "type". */
#define TYPE_BACKEND 1
#define TYPE_SERVER	 2

void
a67_proxy_reader_init(A67ProxyReader *reader, const char *text, size_t len)
{
	memset(reader, 0, sizeof(*reader));
	reader->at = text;
	reader->end = text + len;
}

static bool
is(A67ProxyText text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.text, word, text.len) == 0;
}

static int64_t
number(A67ProxyText text)
{
	int64_t value = 0;

	for (size_t i = 0; i < text.len; i++)
	{
		int digit = text.text[i] - '0';

		if (digit < 0 || digit > 9)
			return 0;
		if (value > (INT64_MAX - digit) / 10)
			return INT64_MAX;
		value = value * 10 + digit;
	}
	return value;
}

static int64_t
sum(int64_t a, int64_t b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool
take_line(A67ProxyReader *reader, A67ProxyText *line)
{
	const char *newline;

	if (reader->at == reader->end)
		return false;
	newline = memchr(reader->at, '\n', (size_t) (reader->end - reader->at));
	line->text = reader->at;
	line->len = (size_t) ((newline ? newline : reader->end) - reader->at);
	reader->at = newline ? newline + 1 : reader->end;
	if (line->len > 0 && line->text[line->len - 1] == '\r')
		line->len--;
	return true;
}

/* The next field of a CSV line, and the line behind it; false when there is none. Doubled quotes stay doubled. */
static bool
take_field(A67ProxyText *line, A67ProxyText *field)
{
	size_t i = 0;
	bool quoted = line->len > 0 && line->text[0] == '"';

	if (line->text == NULL)
		return false;
	if (quoted)
	{
		for (i = 1; i < line->len; i++)
		{
			if (line->text[i] != '"')
				continue;
			if (i + 1 == line->len || line->text[i + 1] != '"')
				break;
			i++;
		}
	}
	*field = quoted ? (A67ProxyText){line->text + 1, i - 1} : (A67ProxyText){line->text, 0};
	while (i < line->len && line->text[i] != ',')
		i++;
	if (!quoted)
		field->len = i;
	*line = i < line->len ? (A67ProxyText){line->text + i + 1, line->len - i - 1}
						  : (A67ProxyText){NULL, 0};
	return true;
}

static void
read_header(A67ProxyReader *reader, A67ProxyText line)
{
	A67ProxyText field;

	reader->column_count = 0;
	while (reader->column_count < A67_PROXY_FIELDS && take_field(&line, &field))
	{
		int column = 0;

		while (column < COLUMNS && !is(field, names[column]))
			column++;
		reader->columns[reader->column_count++] = column < COLUMNS ? column : -1;
	}
}

/* A line "Name: value". */
static void
read_info(A67ProxyReader *reader, A67ProxyText line)
{
	A67ProxyProcess *process = &reader->process;
	const char *colon = memchr(line.text, ':', line.len);
	A67ProxyText name = {line.text, 0};
	A67ProxyText value;

	if (colon == NULL)
		return;
	name.len = (size_t) (colon - line.text);
	value.text = colon + 1;
	value.len = line.len - name.len - 1;
	if (value.len > 0 && value.text[0] == ' ')
	{
		value.text++;
		value.len--;
	}
	if (is(name, "Name"))
	{
		memset(process, 0, sizeof(*process));
		reader->column_count = 0;
	}
	else if (is(name, "Pid"))
		process->pid = number(value);
	else if (is(name, "Start_time_sec"))
		process->started = number(value);
	else if (is(name, "Stopping"))
		process->stopping = number(value) != 0;
	else if (is(name, "description") && value.len < sizeof(process->description))
	{
		memcpy(process->description, value.text, value.len);
		process->description[value.len] = '\0';
	}
}

/* A line of the statistics; false when it is of neither a server nor a backend. */
static bool
read_row(const A67ProxyReader *reader, A67ProxyText line, A67ProxyRow *row)
{
	A67ProxyText fields[COLUMNS] = {{NULL, 0}};
	A67ProxyText field;
	int64_t type;

	for (int i = 0; i < reader->column_count && take_field(&line, &field); i++)
	{
		if (reader->columns[i] >= 0)
			fields[reader->columns[i]] = field;
	}
	type = number(fields[TYPE]);
	if (fields[PXNAME].len == 0 || fields[SVNAME].len == 0 ||
		(type != TYPE_BACKEND && type != TYPE_SERVER))
		return false;
	memset(row, 0, sizeof(*row));
	row->kind = type == TYPE_SERVER ? A67_PROXY_SERVER : A67_PROXY_BACKEND;
	row->backend = fields[PXNAME];
	row->server = fields[SVNAME];
	row->status = fields[STATUS];
	row->address = fields[ADDR];
	row->weight = number(fields[WEIGHT]);
	row->sessions = number(fields[SCUR]);
	row->queued = number(fields[QCUR]);
	row->limit = number(fields[SLIM]);
	row->refused = number(fields[DREQ]);
	row->latency_ms = sum(number(fields[CTIME]), number(fields[RTIME]));
	row->requests = number(fields[STOT]);
	/* One that was sent to another server instead is a retry, a redispatch, or both. */
	row->failures = sum(number(fields[ERESP]), number(fields[ECON]));
	row->failures = sum(row->failures, number(fields[HRSP_5XX]));
	row->failures = sum(row->failures, larger(number(fields[WRETR]), number(fields[WREDIS])));
	if (row->failures > row->requests)
		row->failures = row->requests;
	return true;
}

bool
a67_proxy_next(A67ProxyReader *reader, A67ProxyRow *row)
{
	A67ProxyText line;

	while (take_line(reader, &line))
	{
		if (line.len > 2 && memcmp(line.text, "# ", 2) == 0)
		{
			line.text += 2;
			line.len -= 2;
			read_header(reader, line);
			memset(row, 0, sizeof(*row));
			row->kind = A67_PROXY_PROCESS;
			return true;
		}
		if (reader->column_count == 0)
			read_info(reader, line);
		else if (line.len == 0)
			reader->column_count = 0; /* an empty line ends an answer */
		else if (read_row(reader, line, row))
			return true;
	}
	return false;
}

/* FNV-1a. */
static uint64_t
mix(uint64_t digest, const void *bytes, size_t count)
{
	const unsigned char *in = bytes;

	for (size_t i = 0; i < count; i++)
		digest = (digest ^ in[i]) * UINT64_C(0x100000001B3);
	return digest;
}

/* With its length, so that no two texts run into each other. */
static uint64_t
mix_text(uint64_t digest, A67ProxyText text)
{
	return mix(mix(digest, &text.len, sizeof(text.len)), text.text, text.len);
}

uint64_t
a67_proxy_digest(const char *text, size_t len)
{
	A67ProxyReader reader;
	A67ProxyRow row;
	uint64_t digest = UINT64_C(0xCBF29CE484222325);

	a67_proxy_reader_init(&reader, text, len);
	while (a67_proxy_next(&reader, &row))
	{
		const A67ProxyProcess *process = &reader.process;
		const int64_t numbers[] = {
			(int64_t) row.kind, process->pid, process->started, process->stopping,
			row.weight,			row.sessions, row.queued,		row.limit,
			row.requests,		row.failures, row.refused,		row.latency_ms,
		};

		digest = mix(digest, numbers, sizeof(numbers));
		digest =
			mix_text(digest, (A67ProxyText){process->description, strlen(process->description)});
		digest = mix_text(digest, row.backend);
		digest = mix_text(digest, row.server);
		digest = mix_text(digest, row.status);
		digest = mix_text(digest, row.address);
	}
	return digest;
}
