/*
 * parser.c: the strict head parser behind parser.h.
 *
 * One pass from left to right with a cursor; the first offence decides the status. Framing headers
 * (Content-Length, Transfer-Encoding, Host, Connection) are interpreted as they are met and judged
 * together at the empty line. Bytes beyond limits.head_bytes are never looked at.
 */
#include "parser.h"

#include "chars.h"

#include <string.h>

typedef struct Cursor
{
	const char *at;
	const char *end;
	const char *line; /* start of the request line */
	const A67HttpLimits *limits;
	A67HttpHead *head;
	/* What the framing headers said so far. */
	int hosts;
	int codings; /* Transfer-Encoding lines */
	bool close;
	bool persist;
	bool wants_upgrade;
	A67HttpStr upgrade;
} Cursor;

static const A67HttpLimits default_limits = {A67_HTTP_HEAD_BYTES, A67_HTTP_LINE_BYTES,
											 A67_HTTP_MAX_HEADERS};

static int
refuse(Cursor *c, int status, const char *why)
{
	c->head->error = why;
	return -status;
}

/* Takes CRLF; a bare CR or LF is refused. Returns 0 or an error. */
static int
take_line_end(Cursor *c)
{
	if (c->at == c->end)
		return A67_HTTP_INCOMPLETE;
	if (*c->at != '\r')
		return refuse(c, 400,
					  *c->at == '\n' ? "bare line feed in the head"
									 : "invalid character in the head");
	if (c->at + 1 == c->end)
		return A67_HTTP_INCOMPLETE;
	if (c->at[1] != '\n')
		return refuse(c, 400, "bare carriage return in the head");
	c->at += 2;
	return 0;
}

static A67HttpMethod
method_of(A67HttpStr name)
{
	static const struct
	{
		const char *name;
		A67HttpMethod method;
	} known[] = {{"GET", A67_HTTP_GET},		   {"HEAD", A67_HTTP_HEAD},
				 {"POST", A67_HTTP_POST},	   {"PUT", A67_HTTP_PUT},
				 {"DELETE", A67_HTTP_DELETE},  {"PATCH", A67_HTTP_PATCH},
				 {"OPTIONS", A67_HTTP_OPTIONS}};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (a67_http_str_is(name, known[i].name))
			return known[i].method;
	return A67_HTTP_OTHER;
}

static int
take_method(Cursor *c)
{
	const char *start = c->at;

	while (c->at < c->end && is_token((unsigned char) *c->at))
	{
		c->at++;
		if (c->at - start > A67_HTTP_METHOD_LEN)
			return refuse(c, 501, "method is too long");
	}
	if (c->at == c->end)
		return A67_HTTP_INCOMPLETE;
	if (*c->at != ' ' || c->at == start)
		return refuse(c, 400, "malformed method");
	c->head->method_name.at = start;
	c->head->method_name.len = (size_t) (c->at - start);
	c->head->method = method_of(c->head->method_name);
	c->at++;
	if (a67_http_str_is(c->head->method_name, "CONNECT"))
		return refuse(c, 501, "CONNECT is not supported");
	return 0;
}

/* A host and port: narrower than RFC 3986, as wide as what is in use. */
static bool
is_authority(A67HttpStr s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (!is_alnum((unsigned char) s.at[i]) &&
			(s.at[i] == '\0' || strchr("-._~:[]%", s.at[i]) == NULL))
			return false;
	return true;
}

static bool
starts_with_nocase(A67HttpStr s, const char *prefix)
{
	A67HttpStr start = {s.at, strlen(prefix)};

	return s.len >= start.len && a67_http_str_is_nocase(start, prefix);
}

/* Splits origin-form, absolute-form and "*" into authority, path and query. */
static int
split_target(Cursor *c)
{
	A67HttpHead *head = c->head;
	A67HttpStr rest = head->target;
	size_t scheme = 0;
	size_t i;

	if (a67_http_str_is(rest, "*") && head->method == A67_HTTP_OPTIONS)
	{
		head->path = rest;
		return 0;
	}
	if (starts_with_nocase(rest, "http://"))
		scheme = 7;
	else if (starts_with_nocase(rest, "https://"))
		scheme = 8;
	if (scheme > 0)
	{
		rest.at += scheme;
		rest.len -= scheme;
		for (i = 0; i < rest.len && rest.at[i] != '/' && rest.at[i] != '?'; i++)
			;
		head->host.at = rest.at;
		head->host.len = i;
		rest.at += i;
		rest.len -= i;
		if (i == 0 || !is_authority(head->host))
			return refuse(c, 400, "malformed authority in the request target");
	}
	else if (rest.at[0] != '/')
		return refuse(c, 400, "malformed request target");
	for (i = 0; i < rest.len && rest.at[i] != '?'; i++)
		;
	head->path.at = i > 0 ? rest.at : "/";
	head->path.len = i > 0 ? i : 1;
	if (i < rest.len)
	{
		head->query.at = rest.at + i + 1;
		head->query.len = rest.len - i - 1;
	}
	return 0;
}

static int
take_target(Cursor *c)
{
	const char *start = c->at;

	for (; c->at < c->end && *c->at != ' '; c->at++)
	{
		unsigned char b = (unsigned char) *c->at;

		if (b <= 0x20 || b >= 0x7f || b == '#')
			return refuse(c, 400, "invalid character in the request target");
		if ((size_t) (c->at - c->line) >= c->limits->line_bytes)
			return refuse(c, 414, "request line is too long");
	}
	if (c->at == c->end)
		return A67_HTTP_INCOMPLETE;
	if (c->at == start)
		return refuse(c, 400, "empty request target");
	c->head->target.at = start;
	c->head->target.len = (size_t) (c->at - start);
	c->at++;
	return split_target(c);
}

static int
take_version(Cursor *c)
{
	static const char pattern[] = "HTTP/d.d";
	size_t i;

	for (i = 0; i < sizeof(pattern) - 1; i++)
	{
		if (c->at + i == c->end)
			return A67_HTTP_INCOMPLETE;
		if (pattern[i] == 'd' ? !is_digit((unsigned char) c->at[i]) : c->at[i] != pattern[i])
			return refuse(c, 400, "malformed protocol version");
	}
	if (c->at[5] != '1')
		return refuse(c, 505, "protocol version is not supported");
	c->head->minor = c->at[7] == '0' ? 0 : 1;
	c->at += i;
	return 0;
}

static int
take_request_line(Cursor *c)
{
	int rc;

	/* RFC 9112, 2.2: one empty line in front, left over by old clients, is ignored. */
	if (c->at < c->end && *c->at == '\r')
	{
		rc = take_line_end(c);
		if (rc < 0)
			return rc;
	}
	c->line = c->at;
	rc = take_method(c);
	if (rc == 0)
		rc = take_target(c);
	if (rc == 0)
		rc = take_version(c);
	if (rc == 0)
		rc = take_line_end(c);
	return rc;
}

static int
take_status_line(Cursor *c)
{
	A67HttpHead *head = c->head;
	int rc = take_version(c);
	int i;

	if (rc < 0)
		return rc;
	for (i = 0; i < 4; i++)
	{
		unsigned char b;

		if (c->at == c->end)
			return A67_HTTP_INCOMPLETE;
		b = (unsigned char) *c->at++;
		if (i == 0 ? b != ' ' : !is_digit(b))
			return refuse(c, 400, "malformed status");
		if (i > 0)
			head->status = head->status * 10 + (b - '0');
	}
	if (head->status < 100 || head->status > 599)
		return refuse(c, 400, "status is out of range");
	if (c->at < c->end && *c->at == ' ')
	{
		head->reason.at = ++c->at;
		while (c->at < c->end && is_text((unsigned char) *c->at))
			c->at++;
		head->reason.len = (size_t) (c->at - head->reason.at);
	}
	return take_line_end(c);
}

static int
note_content_length(Cursor *c, A67HttpStr value)
{
	int64_t n = 0;
	size_t i;

	if (c->head->content_length >= 0)
		return refuse(c, 400, "duplicate Content-Length");
	if (value.len == 0 || value.len > 19)
		return refuse(c, 400, "malformed Content-Length");
	for (i = 0; i < value.len; i++)
	{
		if (!is_digit((unsigned char) value.at[i]))
			return refuse(c, 400, "malformed Content-Length");
		if (n > (INT64_MAX - (value.at[i] - '0')) / 10)
			return refuse(c, 400, "Content-Length is out of range");
		n = n * 10 + (value.at[i] - '0');
	}
	c->head->content_length = n;
	return 0;
}

/* Cuts the next element off a comma-separated list; false at its end. */
static bool
next_element(A67HttpStr *list, A67HttpStr *element)
{
	size_t i = 0;

	if (list->at == NULL)
		return false;
	while (i < list->len && list->at[i] != ',')
		i++;
	element->at = list->at;
	element->len = i;
	if (i < list->len)
	{
		list->at += i + 1;
		list->len -= i + 1;
	}
	else
		list->at = NULL;
	while (element->len > 0 && is_blank((unsigned char) element->at[0]))
	{
		element->at++;
		element->len--;
	}
	while (element->len > 0 && is_blank((unsigned char) element->at[element->len - 1]))
		element->len--;
	return true;
}

/* Only "chunked", once, is understood: 501 when other codings precede it, else 400. */
static int
note_transfer_encoding(Cursor *c, A67HttpStr value)
{
	A67HttpStr coding;
	int count = 0;
	int chunked = 0;
	bool last = false;

	if (++c->codings > 1)
		return refuse(c, 400, "duplicate Transfer-Encoding");
	while (next_element(&value, &coding))
	{
		count++;
		last = a67_http_str_is_nocase(coding, "chunked");
		if (last)
			chunked++;
	}
	if (!last || chunked != 1)
		return refuse(c, 400, "Transfer-Encoding does not end in one chunked");
	if (count != 1)
		return refuse(c, 501, "transfer coding is not supported");
	c->head->chunked = true;
	return 0;
}

static int
note_connection(Cursor *c, A67HttpStr value)
{
	A67HttpStr option;

	while (next_element(&value, &option))
	{
		if (a67_http_str_is_nocase(option, "close"))
			c->close = true;
		else if (a67_http_str_is_nocase(option, "keep-alive"))
			c->persist = true;
		else if (a67_http_str_is_nocase(option, "upgrade"))
			c->wants_upgrade = true;
	}
	return 0;
}

static int
note_host(Cursor *c, A67HttpStr value)
{
	if (++c->hosts > 1)
		return refuse(c, 400, "duplicate Host");
	if (!is_authority(value))
		return refuse(c, 400, "malformed Host");
	if (c->head->host.at == NULL)
		c->head->host = value;
	return 0;
}

static int
note_expect(Cursor *c, A67HttpStr value)
{
	if (!a67_http_str_is_nocase(value, "100-continue"))
		return refuse(c, 417, "expectation is not supported");
	c->head->expect_continue = true;
	return 0;
}

static int
note_upgrade(Cursor *c, A67HttpStr value)
{
	c->upgrade = value;
	return 0;
}

/* Headers that mean something to the engine. */
static int
note_header(Cursor *c, const A67HttpHeader *h, bool request)
{
	static const struct
	{
		const char *name;
		int (*note)(Cursor *c, A67HttpStr value);
		bool requests_only;
	} known[] = {{"content-length", note_content_length, false},
				 {"transfer-encoding", note_transfer_encoding, false},
				 {"connection", note_connection, false},
				 {"upgrade", note_upgrade, false},
				 {"host", note_host, true},
				 {"expect", note_expect, true}};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (a67_http_str_is_nocase(h->name, known[i].name))
			return known[i].requests_only && !request ? 0 : known[i].note(c, h->value);
	return 0;
}

static int
take_header(Cursor *c, A67HttpHeader *h)
{
	const char *start = c->at;

	while (c->at < c->end && is_token((unsigned char) *c->at))
		c->at++;
	if (c->at == c->end)
		return A67_HTTP_INCOMPLETE;
	if (*c->at != ':' || c->at == start)
	{
		if (is_blank((unsigned char) *c->at))
			return refuse(c, 400,
						  c->at == start ? "folded header line" : "white space before a colon");
		return refuse(c, 400, "invalid character in a header name");
	}
	h->name.at = start;
	h->name.len = (size_t) (c->at - start);
	c->at++;
	while (c->at < c->end && is_blank((unsigned char) *c->at))
		c->at++;
	h->value.at = c->at;
	while (c->at < c->end && is_text((unsigned char) *c->at))
		c->at++;
	h->value.len = (size_t) (c->at - h->value.at);
	while (h->value.len > 0 && is_blank((unsigned char) h->value.at[h->value.len - 1]))
		h->value.len--;
	return take_line_end(c);
}

static int
take_headers(Cursor *c, bool request)
{
	A67HttpHead *head = c->head;
	int rc;

	for (;;)
	{
		if (c->at == c->end)
			return A67_HTTP_INCOMPLETE;
		if (*c->at == '\r')
			return take_line_end(c);
		if (head->nheaders >= c->limits->headers || head->nheaders >= A67_HTTP_MAX_HEADERS)
			return refuse(c, 431, "too many headers");
		rc = take_header(c, &head->headers[head->nheaders]);
		if (rc == 0)
			rc = note_header(c, &head->headers[head->nheaders], request);
		if (rc < 0)
			return rc;
		head->nheaders++;
	}
}

/* The rules that need the whole head. */
static int
judge(Cursor *c, bool request)
{
	A67HttpHead *head = c->head;

	if (head->chunked && head->content_length >= 0)
		return refuse(c, 400, "both Content-Length and Transfer-Encoding");
	if (head->chunked && head->minor == 0)
		return refuse(c, 400, "Transfer-Encoding in HTTP/1.0");
	if (request && head->minor > 0 && c->hosts == 0)
		return refuse(c, 400, "Host is missing");
	head->keep_alive = !c->close && (head->minor > 0 || c->persist);
	/* An HTTP/1.0 client cannot take an interim response. */
	if (head->minor == 0)
		head->expect_continue = false;
	if (c->wants_upgrade && head->minor > 0)
		head->upgrade = c->upgrade;
	return 0;
}

/*
 * Whether the bytes from seen on can change the verdict. Line ends and other control characters
 * can; so can reaching a limit. Each can happen only a bounded number of times in one head.
 */
static bool
worth_parsing(const char *buf, size_t len, size_t seen, const A67HttpLimits *limits)
{
	size_t i;

	if (seen == 0 || seen > len || len >= limits->head_bytes)
		return true;
	if (seen <= limits->line_bytes && len > limits->line_bytes)
		return true;
	for (i = seen; i < len; i++)
		if (!is_text((unsigned char) buf[i]))
			return true;
	return false;
}

static int
parse(const char *buf, size_t len, const A67HttpLimits *limits, A67HttpHead *head, bool request)
{
	size_t usable = len < limits->head_bytes ? len : limits->head_bytes;
	Cursor c = {.at = buf, .end = buf + usable, .line = buf, .limits = limits, .head = head};
	int rc;

	/* The header array is left as it is: nheaders says how much of it counts. */
	memset(head, 0, offsetof(A67HttpHead, headers));
	memset(&head->content_length, 0, sizeof(*head) - offsetof(A67HttpHead, content_length));
	head->content_length = -1;
	rc = request ? take_request_line(&c) : take_status_line(&c);
	if (rc == 0)
		rc = take_headers(&c, request);
	if (rc == 0)
		rc = judge(&c, request);
	if (rc == A67_HTTP_INCOMPLETE && len >= limits->head_bytes)
		return refuse(&c, 431, "head is too large");
	return rc < 0 ? rc : (int) (c.at - buf);
}

int
a67_http_parse_request(const char *buf, size_t len, size_t seen, const A67HttpLimits *limits,
					   A67HttpHead *head)
{
	if (limits == NULL)
		limits = &default_limits;
	if (len == 0 || !worth_parsing(buf, len, seen, limits))
		return A67_HTTP_INCOMPLETE;
	return parse(buf, len, limits, head, true);
}

int
a67_http_parse_response(const char *buf, size_t len, size_t seen, const A67HttpLimits *limits,
						A67HttpHead *head)
{
	if (limits == NULL)
		limits = &default_limits;
	if (len == 0 || !worth_parsing(buf, len, seen, limits))
		return A67_HTTP_INCOMPLETE;
	return parse(buf, len, limits, head, false);
}
