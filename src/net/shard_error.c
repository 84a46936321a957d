/*
 * shard_error.c - what shards report, told to the user of this server.
 *
 * A shard's own error keeps its SQLSTATE, detail, hint and names, and gets the context 'shard "NAME"'. What libpq says of a
 * connection is never shown: it names host, user and database.
 */
#include "postgres.h"

#include "net/shard_error.h"

#include "net/shard_link.h"
#include "platform/settings.h"

typedef struct Report
{
	int sqlstate;
	char *message;
	char *detail;
	char *hint;
	char *context;
	char *schema;
	char *table;
	char *column;
	char *datatype;
	char *constraint;
} Report;

static char *
field(const PGresult *result, int code)
{
	const char *text = PQresultErrorField(result, code);

	return text != NULL ? pstrdup(text) : NULL;
}

int
a67_shard_sqlstate(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (code == NULL || strlen(code) != 5)
		return 0;
	return MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
}

static Report
read_report(const PGresult *result)
{
	return (Report){
		.sqlstate = a67_shard_sqlstate(result),
		.message = field(result, PG_DIAG_MESSAGE_PRIMARY),
		.detail = field(result, PG_DIAG_MESSAGE_DETAIL),
		.hint = field(result, PG_DIAG_MESSAGE_HINT),
		.context = field(result, PG_DIAG_CONTEXT),
		.schema = field(result, PG_DIAG_SCHEMA_NAME),
		.table = field(result, PG_DIAG_TABLE_NAME),
		.column = field(result, PG_DIAG_COLUMN_NAME),
		.datatype = field(result, PG_DIAG_DATATYPE_NAME),
		.constraint = field(result, PG_DIAG_CONSTRAINT_NAME),
	};
}

static void
report_as(int level, const char *name, const Report *r)
{
	ereport(level,
			(errcode(r->sqlstate), errmsg_internal("%s", r->message),
			 r->detail ? errdetail_internal("%s", r->detail) : 0,
			 r->hint ? errhint("%s", r->hint) : 0,
			 r->schema ? err_generic_string(PG_DIAG_SCHEMA_NAME, r->schema) : 0,
			 r->table ? err_generic_string(PG_DIAG_TABLE_NAME, r->table) : 0,
			 r->column ? err_generic_string(PG_DIAG_COLUMN_NAME, r->column) : 0,
			 r->datatype ? err_generic_string(PG_DIAG_DATATYPE_NAME, r->datatype) : 0,
			 r->constraint ? err_generic_string(PG_DIAG_CONSTRAINT_NAME, r->constraint) : 0,
			 r->context ? errcontext("%s", r->context) : 0, errcontext("shard \"%s\"", name)));
}

void
a67_shard_raise(const char *name, PGresult *result)
{
	Report report = read_report(result);

	PQclear(result);
	/* libpq itself made it up while the connection lives: there was no room for rows. */
	if (report.sqlstate == 0 || report.message == NULL)
		a67_shard_raise_memory(name);
	report_as(ERROR, name, &report);
	pg_unreachable();
}

void
a67_shard_raise_lost(const char *name, bool unknown_outcome)
{
	if (unknown_outcome)
		ereport(ERROR, (errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
						errmsg("connection to shard \"%s\" was lost while it changed rows", name),
						errdetail("Whether the change was made is not known."),
						errhint("Look at the rows before you try again.")));
	ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
					errmsg("connection to shard \"%s\" was lost", name)));
}

void
a67_shard_raise_memory(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
					errdetail("The answer of shard \"%s\" does not fit.", name)));
}

void
a67_shard_raise_timeout(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED), errmsg("shard \"%s\" did not answer in time", name),
			 errdetail("The statement took longer than %d ms there.", a67_shard_timeout),
			 errhint("Raise a67.shard_timeout for statements that take long.")));
}

/* Messages of statements, as far as users would see them here. Called by libpq while it reads. */
void
a67_shard_notice(void *arg, const PGresult *result)
{
	const A67Link *link = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	Report report;
	int level = 0;

	if (severity != NULL && strcmp(severity, "WARNING") == 0)
		level = WARNING;
	else if (severity != NULL && strcmp(severity, "NOTICE") == 0)
		level = NOTICE;
	if (level == 0 || link->quiet || PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) == NULL)
		return;
	report = read_report(result);
	report_as(level, NameStr(link->name), &report);
}
