/*
 * answer.c: building and sending the answer to one call.
 *
 * A function shapes its answer as under PostgREST: response.status, and response.headers as a JSON array
 * of one-field objects. Only headers of the list below and X-… get through, and only printable values:
 * framing belongs to the engine, and nothing a function computed may break out of its header line.
 * Called by api_worker.c.
 */
#include "postgres.h"

#include "listener/answer.h"

#include "common/jsonapi.h"
#include "listener/gzip.h"
#include "listener/status.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#define HEADER_NAME_MAX	 64
#define HEADER_VALUE_MAX 4096
#define COMPRESS_MIN	 1024 /* bytes: less is not worth the time */

static const char *const allowed_headers[] = {
	"cache-control",
	"content-disposition",
	"content-language",
	"content-location",
	"content-range",
	"content-type",
	"etag",
	"expires",
	"last-modified",
	"link",
	"location",
	"retry-after",
	"set-cookie",
	"vary",
	"www-authenticate",
};

pg_attribute_noreturn() static void refuse(const char *setting, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("function left an invalid value in \"%s\"", setting), errdetail("%s", why)));
}

static bool
name_is_allowed(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > HEADER_NAME_MAX ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != len)
		return false;
	for (int i = 0; i < (int) lengthof(allowed_headers); i++)
		if (pg_strcasecmp(name, allowed_headers[i]) == 0)
			return true;
	return pg_strncasecmp(name, "x-", 2) == 0 && pg_strcasecmp(name, "x-request-id") != 0;
}

static bool
value_is_printable(const char *value)
{
	size_t len = strlen(value);

	if (len > HEADER_VALUE_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) value[i] < ' ' || (unsigned char) value[i] > '~')
			return false;
	return true;
}

static void
add_field(A67AnswerHead *head, const char *name, const char *value)
{
	/* A function's own Content-Type comes later and replaces ours. */
	for (int i = 0; i < head->nfields; i++)
		if (pg_strcasecmp(name, "content-type") == 0 &&
			pg_strcasecmp(head->fields[i].name, name) == 0)
		{
			head->fields[i].value = value;
			return;
		}
	if (head->nfields == A67_WIRE_HEADERS)
		refuse("response.headers", "There are too many headers.");
	head->fields[head->nfields].name = name;
	head->fields[head->nfields].value = value;
	head->nfields++;
}

static Jsonb *
parse_headers(char *text)
{
	JsonLexContext *lex =
		makeJsonLexContextCstringLen(text, strlen(text), GetDatabaseEncoding(), false);
	Jsonb *list;

	if (pg_parse_json(lex, &nullSemAction) != JSON_SUCCESS)
		refuse("response.headers", "It is not JSON.");
	list = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	if (!JB_ROOT_IS_ARRAY(list) || JB_ROOT_IS_SCALAR(list))
		refuse("response.headers", "It is not a JSON array.");
	return list;
}

static void
add_headers(A67AnswerHead *head, char *text)
{
	Jsonb *list = parse_headers(text);
	JsonbIterator *it = JsonbIteratorInit(&list->root);
	JsonbIteratorToken token;
	JsonbValue value;
	const char *name = "";
	int depth = 0;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		depth += (token == WJB_BEGIN_OBJECT) - (token == WJB_END_OBJECT);
		if (token == WJB_ELEM || depth > 1)
			refuse("response.headers", "Its elements must be objects with one field each.");
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString)
			refuse("response.headers", "The value of a header must be a string.");
		if (!name_is_allowed(name))
			refuse("response.headers",
				   psprintf("Header \"%s\" cannot be set by a function.", name));
		text = pnstrdup(value.val.string.val, value.val.string.len);
		if (!value_is_printable(text))
			refuse("response.headers",
				   psprintf("The value of header \"%s\" is too long or not printable ASCII.",
							name));
		add_field(head, name, text);
	}
}

static int
parse_status(const char *text)
{
	if (strspn(text, "0123456789") != 3 || text[3] != '\0' || text[0] < '2' || text[0] > '5')
		refuse("response.status", "It must be a number from 200 to 599.");
	return (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
}

void
a67_answer_head(A67AnswerHead *head, int success, const char *type)
{
	const char *status = GetConfigOption("response.status", true, false);
	const char *headers = GetConfigOption("response.headers", true, false);

	head->status = success;
	head->content_length = -1;
	head->nfields = 0;
	if (type != NULL)
		add_field(head, "Content-Type", type);
	if (status != NULL && status[0] != '\0')
		head->status = parse_status(status);
	if (headers != NULL && headers[0] != '\0')
		add_headers(head, pstrdup(headers));
}

static void
append_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\":", json->len > 1 ? "," : "", name);
	if (value == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

char *
a67_answer_error(A67AnswerHead *head, const ErrorData *error, bool anonymous)
{
	const char *sqlstate = unpack_sql_state(error->sqlerrcode);
	bool internal = a67_status_is_internal(sqlstate);
	StringInfoData json;

	head->status = a67_status_of_sqlstate(sqlstate, anonymous);
	head->content_length = -1;
	head->nfields = 0;
	add_field(head, "Content-Type", A67_TYPE_JSON);
	/* The one error of a method: GET of a function that POST could call. */
	if (head->status == 405)
		add_field(head, "Allow", "POST, OPTIONS");
	if (a67_status_is_retryable(sqlstate))
		add_field(head, "Retry-After", "1");

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_member(&json, "code", sqlstate);
	append_member(&json, "message", internal ? "internal error" : error->message);
	append_member(&json, "details", internal ? NULL : error->detail);
	append_member(&json, "hint", internal ? NULL : error->hint);
	appendStringInfoChar(&json, '}');
	return pg_server_to_client(json.data, json.len);
}

void
a67_answer_begin(A67Exchange *exchange, const A67AnswerHead *head)
{
	A67Buf message;
	char *copy;
	Size len;

	a67_buf_init(&message, A67_WIRE_HEAD);
	if (!a67_wire_put_head(&message, head))
	{
		a67_buf_free(&message);
		elog(ERROR, "head of an answer does not fit its message");
	}
	/* The send may end this process; a palloc'd copy keeps malloc'd memory out of its way. */
	len = message.len;
	copy = palloc(len);
	memcpy(copy, message.data, len);
	a67_buf_free(&message);
	a67_exchange_send_whole(exchange, copy, len, false);
	pfree(copy);
}

void
a67_answer_piece(A67Exchange *exchange, const char *data, Size len, bool flush)
{
	while (len > 0)
	{
		Size piece = Min(len, A67_WIRE_PIECE);

		a67_exchange_send(exchange, A67_FRAME_DATA, data, piece, flush);
		data += piece;
		len -= piece;
	}
}

static const char *
find_field(const A67AnswerHead *head, const char *name)
{
	for (int i = 0; i < head->nfields; i++)
		if (pg_strcasecmp(head->fields[i].name, name) == 0)
			return head->fields[i].value;
	return NULL;
}

/* Whether the body depends on what the client accepts: long JSON that nobody has given a tag. */
static bool
may_compress(const A67AnswerHead *head, const A67AnswerBody *body)
{
	const char *type = find_field(head, "Content-Type");

	return body->len >= COMPRESS_MIN && type != NULL &&
		   pg_strncasecmp(type, "application/json", strlen("application/json")) == 0 &&
		   find_field(head, "ETag") == NULL && head->nfields + 2 <= A67_WIRE_HEADERS;
}

void
a67_answer_compress(A67AnswerHead *head, A67AnswerBody *body, bool gzip)
{
	A67AnswerBody small;

	if (!may_compress(head, body))
		return;
	add_field(head, "Vary", "Accept-Encoding");
	if (!gzip)
		return;
	small.data = a67_gzip(body->data, body->len, &small.len);
	if (small.data == NULL)
		return;
	add_field(head, "Content-Encoding", "gzip");
	*body = small;
}

void
a67_answer_send(A67Exchange *exchange, A67AnswerHead *head, const A67AnswerBody *body,
				bool head_only)
{
	head->content_length = (int64) body->len;
	a67_answer_begin(exchange, head);
	if (!head_only)
		a67_answer_piece(exchange, body->data, body->len, false);
	a67_exchange_send(exchange, A67_FRAME_END, NULL, 0, true);
}
