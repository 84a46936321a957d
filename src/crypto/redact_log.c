/*
 * redact_log.c - hides statements that call functions which take secrets (redact.h).
 *
 * What the log loses of such a statement: its text, its parameters, the details and context of its messages,
 * and messages of the parser and of input functions, which quote it. The client still gets everything: a
 * message is reported twice, once for the log without those parts, once for the client as it was. Utility
 * statements (DO, EXPLAIN...) are passed on with their text blanked, because pg_stat_statements keeps it.
 * Libraries that were preloaded earlier than this one see only what is left; those after it see everything.
 */
#include "postgres.h"

#include "crypto/redact_log.h"

#include "commands/prepare.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"

#include "crypto/redact.h"

#define HIDDEN "(not shown: it may hold secrets)"

/* The parts of a message that may quote a statement. */
typedef struct Parts
{
	char *message;
	char *detail;
	char *detail_log;
	char *hint;
	char *context;
	char *internalquery;
	bool hide_stmt;
	bool output_to_client;
} Parts;

static emit_log_hook_type previous_emit_log;
static post_parse_analyze_hook_type previous_post_parse_analyze;
static ProcessUtility_hook_type previous_process_utility;
static bool reporting; /* the version for the log is under way */
static char *blanks;   /* as long as the server keeps statements of sessions */

/* Whether a client's statement takes secrets, by itself or through a statement prepared earlier. */
static bool
is_secret(const char *statement)
{
	char name[A67_NAME_SIZE];
	PreparedStatement *prepared;

	if (statement == NULL)
		return false;
	if (a67_text_calls_secret(statement))
		return true;
	if (!a67_text_executes(statement, name))
		return false;
	prepared = FetchPreparedStatement(name, false);
	return prepared != NULL && a67_text_calls_secret(prepared->plansource->query_string);
}

/* Messages that quote what the client wrote: of the scanner, the parser and input functions. */
static bool
quotes_input(const ErrorData *edata)
{
	int code = edata->sqlerrcode;

	if (edata->elevel < ERROR || code == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return false;
	return ERRCODE_TO_CATEGORY(code) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		   code == ERRCODE_INVALID_TEXT_REPRESENTATION ||
		   code == ERRCODE_INVALID_BINARY_REPRESENTATION ||
		   code == ERRCODE_UNTRANSLATABLE_CHARACTER ||
		   code == ERRCODE_CHARACTER_NOT_IN_REPERTOIRE || code == ERRCODE_INVALID_DATETIME_FORMAT ||
		   code == ERRCODE_DATETIME_VALUE_OUT_OF_RANGE;
}

/* Where the statement begins in a message of log_statement, log_duration or auto_explain; else NULL. */
static const char *
find_statement(const char *message)
{
	static const char *const markers[] = {"statement: ", "execute ", "parse ", "bind ", "plan:"};

	for (int i = 0; i < (int) lengthof(markers); i++)
	{
		const char *at = strstr(message, markers[i]);

		if (at != NULL)
			return at + strlen(markers[i]);
	}
	return NULL;
}

static char *
cut_message(const char *message)
{
	const char *at = find_statement(message);

	return at == NULL ? pstrdup("message " HIDDEN)
					  : psprintf("%.*s%s", (int) (at - message), message, HIDDEN);
}

/* Takes out what may be secret; false when nothing is. */
static bool
redact(ErrorData *edata)
{
	bool secret = is_secret(debug_query_string);
	bool quoted = a67_text_calls_secret(edata->message) ||
				  (secret && (quotes_input(edata) ||
							  (edata->elevel < INFO && find_statement(edata->message) != NULL)));

	/* Without a client's statement all SQL in the context is our own. */
	if (!secret && debug_query_string != NULL &&
		(a67_text_calls_secret(edata->context) || a67_text_calls_secret(edata->internalquery)))
		secret = true;
	if (!secret && !quoted && !a67_text_calls_secret(edata->detail) &&
		!a67_text_calls_secret(edata->detail_log))
		return false;
	if (quoted)
	{
		edata->message = cut_message(edata->message);
		edata->hint = NULL;
	}
	edata->detail = NULL;
	edata->detail_log = NULL;
	edata->hide_stmt = true;
	if (secret)
	{
		edata->context = NULL;
		edata->internalquery = NULL;
	}
	return true;
}

/* A shorter text would leave the end of the longer one in shared memory: blanks first. */
static void
overwrite_activity(void)
{
	if (!pgstat_track_activities)
		return;
	pgstat_report_activity(STATE_RUNNING, blanks);
	pgstat_report_activity(STATE_RUNNING, HIDDEN);
}

static void
restore(ErrorData *edata, const Parts *parts)
{
	edata->message = parts->message;
	edata->detail = parts->detail;
	edata->detail_log = parts->detail_log;
	edata->hint = parts->hint;
	edata->context = parts->context;
	edata->internalquery = parts->internalquery;
	edata->hide_stmt = parts->hide_stmt;
	edata->output_to_client = parts->output_to_client;
}

/* Called in the message's own memory, which lives until the message is done with. */
static void
emit_redacted(ErrorData *edata)
{
	Parts parts = {edata->message,	 edata->detail,			 edata->detail_log,
				   edata->hint,		 edata->context,		 edata->internalquery,
				   edata->hide_stmt, edata->output_to_client};

	if (reporting || !redact(edata))
	{
		if (previous_emit_log)
			previous_emit_log(edata);
		return;
	}
	if (edata->elevel >= ERROR)
		overwrite_activity();
	edata->output_to_client = false;
	reporting = true;
	EmitErrorReport();
	reporting = false;
	restore(edata, &parts);
	edata->output_to_server = false;
}

/* The first moment at which something of ours sees a statement that a client has sent. */
static void
hide_activity(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (previous_post_parse_analyze)
		previous_post_parse_analyze(pstate, query, jstate);
	if (pstate->p_sourcetext == debug_query_string && is_secret(debug_query_string))
		overwrite_activity();
}

/* As many characters as the text, so that positions in it stay within. */
static char *
blank(const char *text)
{
	size_t len = strlen(text);
	char *copy = palloc(len + 1);

	memset(copy, ' ', len);
	memcpy(copy, HIDDEN, Min(len, strlen(HIDDEN)));
	copy[len] = '\0';
	return copy;
}

/* The text of a utility statement serves messages and statistics; only PREPARE keeps it to be executed. */
static void
hide_utility(PlannedStmt *statement, const char *text, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			 DestReceiver *receiver, QueryCompletion *completion)
{
	ProcessUtility_hook_type next =
		previous_process_utility ? previous_process_utility : standard_ProcessUtility;

	if (!IsA(statement->utilityStmt, PrepareStmt) && is_secret(text))
		text = blank(text);
	next(statement, text, read_only_tree, context, params, environment, receiver, completion);
}

void
a67_redact_install(void)
{
	blanks = MemoryContextAlloc(TopMemoryContext, pgstat_track_activity_query_size);
	memset(blanks, ' ', pgstat_track_activity_query_size - 1);
	blanks[pgstat_track_activity_query_size - 1] = '\0';
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = hide_utility;
	previous_emit_log = emit_log_hook;
	emit_log_hook = emit_redacted;
	previous_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = hide_activity;
}
