/*
 * copy_from.c - COPY FROM into a virtual table; see copy.h.
 *
 * Lines of text and CSV go to shards as they came, once PostgreSQL's reader has converted their encoding and found their fields; of these
 * only the key's is looked at. Columns that the input lacks get their defaults here, at the end of the line. With a WHERE clause, and in
 * binary format, all columns are read here, in the latter case to be written as text (as are defaults that could be mistaken for NULL). All shards' streams are open
 * at once; net bounds what is on the way. Errors of shards get the line number of the input.
 */
#include "postgres.h"

#include "router/copy.h"

#include "commands/copyfrom_internal.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "router/insert.h"

typedef struct CopyRun
{
	const A67Table *table;
	CopyFromState from;
	TupleDesc desc;
	EState *estate;
	ExprContext *econtext; /* per row */
	ExprState *where;
	TupleTableSlot *row; /* all columns; in lines that go as they came only the key and defaults */
	bool whole;			 /* all columns are read here */
	bool anew;			 /* and written anew, as text with the usual options */
	int key_field;		 /* place of the key in a line; -1: not in it */
	List *written;		 /* attribute numbers that are written here, at the end of the line */
	FmgrInfo *output;	 /* by attribute number - 1 */
	StringInfoData line; /* written anew */
	char *sql;
	A67CopyIn *streams[A67_SHARDS_MAX];
	A67CopyLines *lines;
	uint64 last_line; /* number of the last one read */
} CopyRun;

/* ---- the statement for shards -------------------------------------------------------------------------------- */

static void
append_columns(StringInfo sql, const char *option, TupleDesc desc, const bool *flags)
{
	bool any = false;

	for (int i = 0; i < desc->natts; i++)
	{
		if (!flags[i])
			continue;
		appendStringInfo(sql, any ? ", %s" : option,
						 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
		any = true;
	}
	if (any)
		appendStringInfoChar(sql, ')');
}

static char *
write_sql(const CopyRun *run, List *columns)
{
	const CopyFormatOptions *opts = &run->from->opts;
	StringInfoData sql;
	ListCell *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "COPY %s ", quote_identifier(get_rel_name(run->table->relid)));
	foreach(lc, columns)
		appendStringInfo(&sql, foreach_current_index(lc) == 0 ? "(%s" : ", %s",
						 quote_identifier(get_attname(run->table->relid, lfirst_int(lc), false)));
	appendStringInfo(&sql, ") FROM STDIN (FORMAT %s", opts->csv_mode ? "csv" : "text");
	if (run->anew)
	{
		appendStringInfoChar(&sql, ')');
		return sql.data;
	}
	appendStringInfo(&sql, ", DELIMITER %s, NULL %s", quote_literal_cstr(opts->delim),
					 quote_literal_cstr(opts->null_print));
	if (opts->csv_mode)
		appendStringInfo(&sql, ", QUOTE %s, ESCAPE %s", quote_literal_cstr(opts->quote),
						 quote_literal_cstr(opts->escape));
	append_columns(&sql, ", FORCE_NOT_NULL (%s", run->desc, opts->force_notnull_flags);
	append_columns(&sql, ", FORCE_NULL (%s", run->desc, opts->force_null_flags);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/* ---- fields -------------------------------------------------------------------------------- */

static void
append_text(StringInfo line, const char *value, char delimiter)
{
	for (const char *c = value; *c != '\0'; c++)
	{
		switch (*c)
		{
			case '\n':
				appendStringInfoString(line, "\\n");
				break;
			case '\r':
				appendStringInfoString(line, "\\r");
				break;
			default:
				if (*c == '\\' || *c == delimiter)
					appendStringInfoChar(line, '\\');
				appendStringInfoChar(line, *c);
		}
	}
}

static void
append_csv(StringInfo line, const char *value, char quote, char escape)
{
	appendStringInfoChar(line, quote);
	for (const char *c = value; *c != '\0'; c++)
	{
		if (*c == quote || *c == escape)
			appendStringInfoChar(line, escape);
		appendStringInfoChar(line, *c);
	}
	appendStringInfoChar(line, quote);
}

/* The columns that are written here, after what the line has. */
static void
append_fields(CopyRun *run, StringInfo line)
{
	const CopyFormatOptions *opts = &run->from->opts;
	char delimiter = run->anew ? '\t' : opts->delim[0];
	ListCell *lc;

	foreach(lc, run->written)
	{
		int i = lfirst_int(lc) - 1;
		char *value;

		if (!run->anew || foreach_current_index(lc) > 0)
			appendStringInfoChar(line, delimiter);
		if (run->row->tts_isnull[i])
		{
			appendStringInfoString(line, run->anew ? "\\N" : opts->null_print);
			continue;
		}
		value = OutputFunctionCall(&run->output[i], run->row->tts_values[i]);
		if (opts->csv_mode)
			append_csv(line, value, opts->quote[0], opts->escape[0]);
		else
			append_text(line, value, delimiter);
	}
}

/* ---- lines -------------------------------------------------------------------------------- */

static int
key_of_line(CopyRun *run)
{
	int i = run->table->key - 1;

	if (run->table->key == 0)
		return run->table->home < 0 ? 0 : run->table->home;
	return a67_insert_shard(run->table, run->row->tts_values[i], run->row->tts_isnull[i]);
}

/* The key's value from its field, as PostgreSQL reads it. */
static void
read_key(CopyRun *run, char **fields)
{
	CopyFromState from = run->from;
	const CopyFormatOptions *opts = &from->opts;
	int i = run->table->key - 1;
	char *field = fields[run->key_field];

	if (opts->csv_mode && field == NULL && opts->force_notnull_flags[i])
		field = opts->null_print;
	else if (opts->csv_mode && field != NULL && opts->force_null_flags[i] &&
			 strcmp(field, opts->null_print) == 0)
		field = NULL;
	from->cur_attname = NameStr(TupleDescAttr(run->desc, i)->attname);
	from->cur_attval = field;
	run->row->tts_values[i] = InputFunctionCall(&from->in_functions[i], field, from->typioparams[i],
												TupleDescAttr(run->desc, i)->atttypmod);
	run->row->tts_isnull[i] = field == NULL;
	from->cur_attname = NULL;
	from->cur_attval = NULL;
}

/* PostgreSQL reads the columns in order, so the key may be found wrong before the line is found too short. */
static void
refuse_fields(CopyRun *run, char **fields, int count)
{
	List *columns = run->from->attnumlist;

	if (count > list_length(columns))
		ereport(ERROR, (errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
						errmsg("extra data after last expected column")));
	if (run->key_field >= 0 && run->key_field < count)
		read_key(run, fields);
	ereport(ERROR, (errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
					errmsg("missing data for column \"%s\"",
						   get_attname(run->table->relid, list_nth_int(columns, count), false))));
}

/* Reads a line that goes as it came; false at the end. */
static bool
read_line(CopyRun *run)
{
	CopyFromState from = run->from;
	char **fields;
	int count;

	if (!NextCopyFromRawFields(from, &fields, &count))
		return false;
	if (count != list_length(from->attnumlist))
		refuse_fields(run, fields, count);
	if (run->key_field >= 0)
		read_key(run, fields);
	for (int i = 0; i < from->num_defaults; i++)
	{
		int column = from->defmap[i];

		run->row->tts_values[column] =
			ExecEvalExpr(from->defexprs[i], run->econtext, &run->row->tts_isnull[column]);
	}
	return true;
}

/* Reads a row, whatever it takes; false at the end. */
static bool
read_row(CopyRun *run)
{
	ResetExprContext(run->econtext);
	if (!run->whole)
		return read_line(run);
	ExecClearTuple(run->row);
	if (!NextCopyFrom(run->from, run->econtext, run->row->tts_values, run->row->tts_isnull))
		return false;
	ExecStoreVirtualTuple(run->row);
	return true;
}

static bool
is_wanted(CopyRun *run)
{
	if (run->where == NULL)
		return true;
	run->econtext->ecxt_scantuple = run->row;
	return ExecQual(run->where, run->econtext);
}

/* The text of the row that was read, with a line end. */
static StringInfo
finish_line(CopyRun *run)
{
	StringInfo line = run->anew ? &run->line : &run->from->line_buf;

	if (run->anew)
		resetStringInfo(line);
	if (run->written != NIL)
		append_fields(run, line);
	appendStringInfoChar(line, '\n');
	return line;
}

/* Lines that the record takes on a shard: those in quotes have line ends. */
static int
count_lines(const CopyRun *run, const StringInfoData *line)
{
	int count = 0;

	if (!run->from->opts.csv_mode)
		return 1;
	for (const char *c = line->data; (c = memchr(c, '\n', line->data + line->len - c)) != NULL; c++)
		count++;
	return count;
}

static void
put_line(CopyRun *run, int shard, const StringInfoData *line)
{
	if (run->streams[shard] == NULL)
		run->streams[shard] = a67_copy_in_start(&run->table->database->shards[shard], run->sql);
	a67_copy_in_put(run->streams[shard], line->data, line->len);
}

/* ---- the run -------------------------------------------------------------------------------- */

/* Reads rows and sends them. What the reader says goes with the number of the line that it reads; what net says, without. */
static void
copy_rows(CopyRun *run)
{
	ErrorContextCallback reading = {
		.previous = error_context_stack,
		.callback = CopyFromErrorCallback,
		.arg = run->from,
	};
	bool everywhere = run->table->strategy == A67_REFERENCE;
	MemoryContext old = CurrentMemoryContext;
	int64 count = 0;

	for (;;)
	{
		StringInfo line;
		int shard = A67_COPY_NOWHERE;
		int local_lines;

		CHECK_FOR_INTERRUPTS();
		error_context_stack = &reading;
		MemoryContextSwitchTo(run->econtext->ecxt_per_tuple_memory);
		if (!read_row(run))
			break;
		local_lines = (int) (run->from->cur_lineno - run->last_line);
		run->last_line = run->from->cur_lineno;
		if (is_wanted(run))
			shard = key_of_line(run);
		error_context_stack = reading.previous;
		MemoryContextSwitchTo(old);
		if (shard == A67_COPY_NOWHERE)
		{
			a67_copy_lines_add(run->lines, shard, local_lines, 0);
			continue;
		}
		line = finish_line(run);
		a67_copy_lines_add(run->lines, shard, local_lines, count_lines(run, line));
		for (int i = everywhere ? 0 : shard;
			 i < (everywhere ? run->table->database->shard_count : shard + 1); i++)
			put_line(run, i, line);
		pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED, ++count);
	}
	error_context_stack = reading.previous;
	MemoryContextSwitchTo(old);
}

static uint64
finish_streams(CopyRun *run)
{
	A67CopyIn *open[A67_SHARDS_MAX];
	int count = 0;
	uint64 stored;

	for (int i = 0; i < run->table->database->shard_count; i++)
		if (run->streams[i] != NULL)
			open[count++] = run->streams[i];
	if (count == 0)
		return 0;
	stored = (uint64) a67_copy_in_finish(open, count);
	return run->table->strategy == A67_REFERENCE ? stored / count : stored;
}

/* Binary rows, and text where a default that is written at the end of a line could be taken for NULL. */
static bool
must_be_written_anew(const CopyFromStateData *from)
{
	return from->opts.binary || (!from->opts.csv_mode && from->num_defaults > 0 &&
								 strcmp(from->opts.null_print, "\\N") != 0);
}

static void
begin_run(CopyRun *run)
{
	CopyFromState from = run->from;
	List *columns = list_copy(from->attnumlist);
	ListCell *lc;

	run->estate = CreateExecutorState();
	run->econtext = GetPerTupleExprContext(run->estate);
	run->where = ExecInitQual((List *) from->whereClause, NULL);
	run->row = MakeSingleTupleTableSlot(run->desc, &TTSOpsVirtual);
	memset(run->row->tts_isnull, true, run->desc->natts * sizeof(bool));
	run->anew = must_be_written_anew(from);
	run->whole = run->anew || run->where != NULL;
	run->key_field = -1;
	foreach(lc, from->attnumlist)
		if (run->table->key != 0 && lfirst_int(lc) == run->table->key)
			run->key_field = foreach_current_index(lc);
	for (int i = 0; i < from->num_defaults; i++)
	{
		columns = lappend_int(columns, from->defmap[i] + 1);
		run->written = lappend_int(run->written, from->defmap[i] + 1);
	}
	if (run->anew)
		run->written = columns;
	run->output = palloc0(run->desc->natts * sizeof(FmgrInfo));
	foreach(lc, run->written)
	{
		Oid function;
		bool is_varlena;

		getTypeOutputInfo(TupleDescAttr(run->desc, lfirst_int(lc) - 1)->atttypid, &function,
						  &is_varlena);
		fmgr_info(function, &run->output[lfirst_int(lc) - 1]);
	}
	initStringInfo(&run->line);
	run->sql = write_sql(run, columns);
	run->lines = a67_copy_lines();
}

uint64
a67_copy_from(const A67Table *table, Relation rel, CopyFromState from)
{
	CopyRun run = {.table = table, .from = from, .desc = RelationGetDescr(rel)};
	MemoryContext context = CurrentMemoryContext;
	ErrorContextCallback *outer = error_context_stack;
	int nesting = NewGUCNestLevel();
	uint64 stored = 0;

	/* What is written here says floats in full, whatever the session shows of them. */
	if (extra_float_digits < 1)
		(void) set_config_option("extra_float_digits", "1", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	begin_run(&run);
	PG_TRY();
	{
		copy_rows(&run);
		stored = finish_streams(&run);
	}
	PG_CATCH();
	{
		ErrorData *error;

		error_context_stack = outer;
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		a67_copy_lines_translate(run.lines, table, error);
		ReThrowError(error);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nesting);
	ExecDropSingleTupleTableSlot(run.row);
	FreeExecutorState(run.estate);
	return stored;
}
