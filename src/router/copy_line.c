/*
 * copy_line.c - which line of the input a shard's line was; see copy.h.
 *
 * A shard counts the lines that it got, and tells of errors long after the line was sent. So the last lines are remembered, three bytes each:
 * where they went, and of how many lines the record was in the input and on the shard. Counting back from the newest
 * gives the number. Lines further back than can be on the way are forgotten; their number is then left out.
 */
#include "postgres.h"

#include "router/copy.h"

#include "utils/lsyscache.h"

#define REMEMBERED	 (1 << 20)
#define RECORD_LINES 255 /* more lines than that in one record: its number is not known */

typedef struct Record
{
	uint8 shard;
	uint8 local_lines;
	uint8 remote_lines;
} Record;

struct A67CopyLines
{
	uint64 count; /* records */
	uint64 local; /* lines */
	uint64 remote[A67_SHARDS_MAX];
	Record records[REMEMBERED];
};

A67CopyLines *
a67_copy_lines(void)
{
	A67CopyLines *lines = palloc(sizeof(A67CopyLines)); /* pages are touched as they are needed */

	memset(lines, 0, offsetof(A67CopyLines, records));
	return lines;
}

void
a67_copy_lines_add(A67CopyLines *lines, int shard, int local_lines, int remote_lines)
{
	lines->records[lines->count++ % REMEMBERED] = (Record){
		.shard = (uint8) shard,
		.local_lines = (uint8) Min(local_lines, RECORD_LINES),
		.remote_lines = (uint8) Min(remote_lines, RECORD_LINES),
	};
	lines->local += local_lines;
	if (shard != A67_COPY_NOWHERE)
		lines->remote[shard] += remote_lines;
}

/* 0: not known */
static uint64
find_line(const A67CopyLines *lines, int shard, uint64 remote_line)
{
	uint64 local = lines->local;
	uint64 remote = lines->remote[shard];
	uint64 oldest = lines->count > REMEMBERED ? lines->count - REMEMBERED : 0;

	for (uint64 i = lines->count; i > oldest; i--)
	{
		const Record *record = &lines->records[(i - 1) % REMEMBERED];

		if (record->shard == shard && remote <= remote_line)
			return remote == remote_line ? local : 0;
		if (record->local_lines == RECORD_LINES || record->remote_lines == RECORD_LINES)
			return 0;
		local -= record->local_lines;
		if (record->shard == shard)
			remote -= record->remote_lines;
	}
	return 0;
}

/* The shard that the context names. */
static int
named_shard(const A67Database *database, const char *context)
{
	for (int i = 0; i < database->shard_count; i++)
	{
		const char *found;
		char *name = psprintf("shard \"%s\"", database->shards[i].name);

		found = strstr(context, name);
		pfree(name);
		if (found != NULL)
			return i;
	}
	return -1;
}

/*
 * The shard's context is `COPY TABLE, line N…`, in its language: the number is the first after the table's name.
 */
void
a67_copy_lines_translate(const A67CopyLines *lines, const A67Table *table, ErrorData *error)
{
	char *prefix;
	char *at;
	char *rest;
	uint64 line;
	int shard;

	if (error->context == NULL)
		return;
	shard = named_shard(table->database, error->context);
	prefix = psprintf("COPY %s, ", get_rel_name(table->relid));
	at = strstr(error->context, prefix);
	if (at == NULL || shard < 0)
		return;
	at += strlen(prefix);
	at += strcspn(at, "0123456789\n");
	if (*at < '0' || *at > '9')
		return;
	line = find_line(lines, table->strategy == A67_REFERENCE ? 0 : shard, strtou64(at, &rest, 10));
	error->context = psprintf("%.*s%s%s", (int) (at - error->context), error->context,
							  line == 0 ? "?" : psprintf(UINT64_FORMAT, line), rest);
}
