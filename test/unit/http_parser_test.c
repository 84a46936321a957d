/*
 * http_parser_test.c - the strict head parser, the chunked decoder and the look-up helpers.
 *
 * Every head, good or malformed, is parsed whole and again byte by byte: both must agree. The
 * malformed ones are those by which HTTP implementations are known to disagree (request smuggling).
 */
#include "unit.h"

#include "core/http/chunked.h"
#include "core/http/client.h"
#include "core/http/parser.h"

#define H "Host: a\r\n"

typedef struct Case
{
	const char *what;
	const char *text;
	int want; /* 0: the whole text is the head */
} Case;

static const Case malformed[] = {
	{"length and chunks",
	 "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", -400},
	{"chunks and length",
	 "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", -400},
	{"two equal lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
	 -400},
	{"two lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", -400},
	{"list of lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", -400},
	{"signed length", "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", -400},
	{"negative length", "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", -400},
	{"hexadecimal length", "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", -400},
	{"empty length", "POST / HTTP/1.1\r\n" H "Content-Length: \r\n\r\n", -400},
	{"blank in length", "POST / HTTP/1.1\r\n" H "Content-Length: 5 0\r\n\r\n", -400},
	{"length beyond 63 bits", "POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n",
	 -400},
	{"length of 20 digits", "POST / HTTP/1.1\r\n" H "Content-Length: 00000000000000000005\r\n\r\n",
	 -400},
	{"chunked not last", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, gzip\r\n\r\n", -400},
	{"chunked twice", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n", -400},
	{"two coding lines",
	 "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", -400},
	{"chunked on two lines",
	 "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	 -400},
	{"unknown coding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", -400},
	{"identity coding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", -400},
	{"empty coding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", -400},
	{"trailing comma", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked,\r\n\r\n", -400},
	{"vertical tab before chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \vchunked\r\n\r\n",
	 -400},
	{"quoted coding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", -400},
	{"gzip below chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n",
	 -501},
	{"chunks in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", -400},
	{"folded header", "GET / HTTP/1.1\r\n" H "X: 1\r\n 2\r\n\r\n", -400},
	{"folded by a tab", "GET / HTTP/1.1\r\n" H "X: 1\r\n\t2\r\n\r\n", -400},
	{"blank before first header", "GET / HTTP/1.1\r\n " H "\r\n", -400},
	{"blank before colon", "GET / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n", -400},
	{"tab before colon", "GET / HTTP/1.1\r\n" H "Content-Length\t: 5\r\n\r\n", -400},
	{"no colon", "GET / HTTP/1.1\r\n" H "Content-Length\r\n\r\n", -400},
	{"empty name", "GET / HTTP/1.1\r\n" H ": 5\r\n\r\n", -400},
	{"brackets in name", "GET / HTTP/1.1\r\n" H "X[1]: 5\r\n\r\n", -400},
	{"non-ASCII name", "GET / HTTP/1.1\r\n" H "X\xc3\xa4: 5\r\n\r\n", -400},
	{"bare LF ends request line", "GET / HTTP/1.1\n" H "\r\n", -400},
	{"bare LF ends header", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", -400},
	{"bare LF ends head", "GET / HTTP/1.1\r\n" H "\n", -400},
	{"bare CR in value", "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", -400},
	{"CR CR LF", "GET / HTTP/1.1\r\n" H "X: a\r\r\n\r\n", -400},
	{"escape in value", "GET / HTTP/1.1\r\n" H "X: a\x1b[0m\r\n\r\n", -400},
	{"DEL in value", "GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n", -400},
	{"no Host", "GET / HTTP/1.1\r\nX: y\r\n\r\n", -400},
	{"two Hosts", "GET / HTTP/1.1\r\n" H H "\r\n", -400},
	{"two Hosts in 1.0", "GET / HTTP/1.0\r\n" H "Host: b\r\n\r\n", -400},
	{"blank in Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", -400},
	{"list in Host", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", -400},
	{"path in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", -400},
	{"user in Host", "GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", -400},
	{"two blanks before target", "GET  / HTTP/1.1\r\n" H "\r\n", -400},
	{"two blanks before version", "GET /  HTTP/1.1\r\n" H "\r\n", -400},
	{"tab before target", "GET\t/ HTTP/1.1\r\n" H "\r\n", -400},
	{"blank behind version", "GET / HTTP/1.1 \r\n" H "\r\n", -400},
	{"HTTP/0.9", "GET /\r\n\r\n", -400},
	{"version in lower case", "GET / http/1.1\r\n" H "\r\n", -400},
	{"version without minor", "GET / HTTP/1\r\n" H "\r\n", -400},
	{"version of two digits", "GET / HTTP/1.10\r\n" H "\r\n", -400},
	{"HTTP/2.0", "GET / HTTP/2.0\r\n" H "\r\n", -505},
	{"empty method", " / HTTP/1.1\r\n" H "\r\n", -400},
	{"invalid method", "GE(T / HTTP/1.1\r\n" H "\r\n", -400},
	{"long method", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" H "\r\n", -501},
	{"CONNECT", "CONNECT a:443 HTTP/1.1\r\n" H "\r\n", -501},
	{"relative target", "GET index.html HTTP/1.1\r\n" H "\r\n", -400},
	{"star for GET", "GET * HTTP/1.1\r\n" H "\r\n", -400},
	{"fragment", "GET /a#b HTTP/1.1\r\n" H "\r\n", -400},
	{"non-ASCII target", "GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", -400},
	{"foreign scheme", "GET ftp://a/ HTTP/1.1\r\n" H "\r\n", -400},
	{"user in target", "GET http://u@a/ HTTP/1.1\r\n" H "\r\n", -400},
	{"empty authority", "GET http:///x HTTP/1.1\r\n" H "\r\n", -400},
	{"foreign expectation", "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", -417},
	{"two empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", -400},
	{"LF in front", "\nGET / HTTP/1.1\r\n" H "\r\n", -400},
	{"TLS client hello", "\x16\x03\x01\x02\x01\x01", -400},
};

static const Case good[] = {
	{"least", "GET / HTTP/1.1\r\n" H "\r\n", 0},
	{"1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 0},
	{"empty line in front", "\r\nGET / HTTP/1.1\r\n" H "\r\n", 0},
	{"absolute form", "GET http://x.y:80/p?q HTTP/1.1\r\n" H "\r\n", 0},
	{"options star", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0},
	{"unknown method", "BREW /pot HTTP/1.1\r\n" H "\r\n", 0},
	{"no blank behind colon", "GET / HTTP/1.1\r\nHost:a\r\nX:y\r\n\r\n", 0},
	{"empty value", "GET / HTTP/1.1\r\n" H "X:\r\n\r\n", 0},
	{"obs-text", "GET / HTTP/1.1\r\n" H "X: \xc3\xa4\r\n\r\n", 0},
	{"chunked in capitals", "POST / HTTP/1.1\r\n" H "TRANSFER-ENCODING: Chunked\r\n\r\n", 0},
	{"length and expectation",
	 "PUT /x HTTP/1.1\r\n" H "Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", 0},
	{"minor 7", "GET / HTTP/1.7\r\n" H "\r\n", 0},
	{"IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0},
};

/* Parses as the server does when the bytes drip in; the first verdict counts. */
static int
parse_dripping(const char *text, size_t len, A67HttpHead *head)
{
	size_t seen = 0;
	size_t n;
	int rc = A67_HTTP_INCOMPLETE;

	for (n = 1; n <= len && rc == A67_HTTP_INCOMPLETE; n++)
	{
		rc = a67_http_parse_request(text, n, seen, NULL, head);
		seen = n;
	}
	return rc;
}

static void
malformed_heads_are_refused(void)
{
	A67HttpHead head;
	size_t i;

	for (i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
	{
		const Case *c = &malformed[i];
		int whole = a67_http_parse_request(c->text, strlen(c->text), 0, NULL, &head);

		if (whole != c->want || head.error == NULL)
			printf("# %s: %d\n", c->what, whole);
		CHECK_INT(whole, c->want);
		CHECK(head.error != NULL);
		CHECK_INT(parse_dripping(c->text, strlen(c->text), &head), c->want);
	}
}

static void
good_heads_are_taken_however_they_are_cut(void)
{
	A67HttpHead head;
	A67HttpHead dripped;
	size_t i;
	size_t n;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		int len = (int) strlen(good[i].text);

		if (a67_http_parse_request(good[i].text, (size_t) len, 0, NULL, &head) != len)
			printf("# %s: %s\n", good[i].what, head.error);
		CHECK_INT(a67_http_parse_request(good[i].text, (size_t) len, 0, NULL, &head), len);
		CHECK_INT(parse_dripping(good[i].text, (size_t) len, &dripped), len);
		CHECK_UINT(dripped.nheaders, head.nheaders);
		CHECK_INT(dripped.content_length, head.content_length);
		CHECK(dripped.path.at == head.path.at || head.path.len == 1);
		CHECK(dripped.chunked == head.chunked && dripped.keep_alive == head.keep_alive);
		for (n = 0; n < (size_t) len; n++)
			CHECK_INT(a67_http_parse_request(good[i].text, n, 0, NULL, &head), A67_HTTP_INCOMPLETE);
	}
}

static void
nul_is_refused_everywhere(void)
{
	static const char text[] = "GET /p HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
	char copy[sizeof(text)];
	A67HttpHead head;
	size_t i;
	int rc;

	for (i = 0; i < sizeof(text) - 1; i++)
	{
		memcpy(copy, text, sizeof(text));
		copy[i] = '\0';
		rc = a67_http_parse_request(copy, sizeof(text) - 1, 0, NULL, &head);
		CHECK_INT(rc, -400);
	}
}

static void
a_head_is_taken_apart(void)
{
	static const char text[] =
		"POST /api/v1/n%C3%A4?a=1&b=x%20y HTTP/1.1\r\nHost: h:1\r\n"
		"content-LENGTH: 12\r\nConnection: close, Upgrade\r\n"
		"Upgrade: websocket\r\nX-Pad: \t v w \t\r\nExpect: 100-Continue\r\n\r\nBODY";
	A67HttpHead head;
	int len = a67_http_parse_request(text, sizeof(text) - 1, 0, NULL, &head);

	REQUIRE(len == (int) sizeof(text) - 5);
	CHECK_INT(head.method, A67_HTTP_POST);
	CHECK(a67_http_str_is(head.method_name, "POST"));
	CHECK(a67_http_str_is(head.target, "/api/v1/n%C3%A4?a=1&b=x%20y"));
	CHECK(a67_http_str_is(head.path, "/api/v1/n%C3%A4"));
	CHECK(a67_http_str_is(head.query, "a=1&b=x%20y"));
	CHECK(a67_http_str_is(head.host, "h:1"));
	CHECK_INT(head.minor, 1);
	CHECK_INT(head.content_length, 12);
	CHECK(!head.chunked && !head.keep_alive && head.expect_continue);
	CHECK(a67_http_str_is(head.upgrade, "websocket"));
	CHECK_UINT(head.nheaders, 6);
	REQUIRE(a67_http_header(&head, "x-pad") != NULL);
	CHECK(a67_http_str_is(*a67_http_header(&head, "x-pad"), "v w"));
	CHECK(a67_http_header(&head, "x-pa") == NULL);
	CHECK(a67_http_header(&head, "x-pads") == NULL);
}

static void
targets_are_split(void)
{
	A67HttpHead head;
	const char *text = "GET HTTP://H.x:8080?q=1 HTTP/1.1\r\nHost: other\r\n\r\n";

	REQUIRE(a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0);
	CHECK(a67_http_str_is(head.host, "H.x:8080"));
	CHECK(a67_http_str_is(head.path, "/"));
	CHECK(a67_http_str_is(head.query, "q=1"));
	text = "GET /a?b?c HTTP/1.1\r\nHost: other\r\n\r\n";
	REQUIRE(a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0);
	CHECK(a67_http_str_is(head.host, "other"));
	CHECK(a67_http_str_is(head.path, "/a"));
	CHECK(a67_http_str_is(head.query, "b?c"));
	text = "GET /a? HTTP/1.1\r\nHost: other\r\n\r\n";
	REQUIRE(a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0);
	CHECK(head.query.at != NULL && head.query.len == 0);
	text = "GET /a HTTP/1.1\r\nHost: other\r\n\r\n";
	REQUIRE(a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0);
	CHECK(head.query.at == NULL);
}

static bool
persists(const char *text)
{
	A67HttpHead head;

	return a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0 && head.keep_alive;
}

static void
persistence_follows_version_and_connection(void)
{
	A67HttpHead head;
	const char *text = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";

	CHECK(persists("GET / HTTP/1.1\r\n" H "\r\n"));
	CHECK(!persists("GET / HTTP/1.1\r\n" H "Connection: CLOSE\r\n\r\n"));
	CHECK(!persists("GET / HTTP/1.1\r\n" H "Connection: keep-alive, close\r\n\r\n"));
	CHECK(!persists("GET / HTTP/1.1\r\n" H "Connection: x\r\nConnection: close\r\n\r\n"));
	CHECK(!persists("GET / HTTP/1.0\r\n" H "\r\n"));
	CHECK(persists("GET / HTTP/1.0\r\n" H "Connection: Keep-Alive\r\n\r\n"));
	REQUIRE(a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0);
	CHECK(!head.expect_continue);
}

static void
limits_hold(void)
{
	static char big[40000];
	A67HttpLimits limits = {256, 64, 3};
	A67HttpHead head;
	int n;

	memset(big, 'a', sizeof(big));
	memcpy(big, "GET /", 5);
	CHECK_INT(a67_http_parse_request(big, 64, 0, &limits, &head), A67_HTTP_INCOMPLETE);
	CHECK_INT(a67_http_parse_request(big, 66, 0, &limits, &head), -414);
	CHECK_INT(a67_http_parse_request(big, 66, 64, &limits, &head), -414);
	CHECK_INT(a67_http_parse_request(big, 8190, 0, NULL, &head), A67_HTTP_INCOMPLETE);
	CHECK_INT(a67_http_parse_request(big, sizeof(big), 0, NULL, &head), -414);
	n = snprintf(big, sizeof(big), "GET / HTTP/1.1\r\n" H "A: b\r\nC: d\r\n");
	CHECK_INT(a67_http_parse_request(big, (size_t) n, 0, &limits, &head), A67_HTTP_INCOMPLETE);
	n += snprintf(big + n, sizeof(big) - (size_t) n, "E: f\r\n\r\n");
	CHECK_INT(a67_http_parse_request(big, (size_t) n, 0, &limits, &head), -431);
	n = snprintf(big, sizeof(big), "GET / HTTP/1.1\r\n" H "A: %0200d\r\n\r\n", 1);
	CHECK_INT(a67_http_parse_request(big, (size_t) n, 0, &limits, &head), n);
	limits.head_bytes = (size_t) n;
	CHECK_INT(a67_http_parse_request(big, (size_t) n, 0, &limits, &head), n);
	limits.head_bytes = (size_t) n - 1;
	CHECK_INT(a67_http_parse_request(big, (size_t) n, 0, &limits, &head), -431);
	CHECK_INT(a67_http_parse_request(big, (size_t) n - 1, 10, &limits, &head), -431);
}

static void
responses_are_parsed(void)
{
	static const Case cases[] = {
		{"least", "HTTP/1.1 200 OK\r\n\r\n", 0},
		{"no reason", "HTTP/1.1 200 \r\n\r\n", 0},
		{"no blank behind status", "HTTP/1.1 200\r\n\r\n", 0},
		{"length and chunks",
		 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", -400},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", -400},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", -400},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n", -400},
		{"status 600", "HTTP/1.1 600 OK\r\n\r\n", -400},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", -400},
		{"foreign protocol", "ICY 200 OK\r\n\r\n", -400},
		{"folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", -400},
		{"HTTP/3.0", "HTTP/3.0 200 OK\r\n\r\n", -505},
	};
	A67HttpHead head;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int len = (int) strlen(cases[i].text);
		int want = cases[i].want == 0 ? len : cases[i].want;
		int rc = a67_http_parse_response(cases[i].text, (size_t) len, 0, NULL, &head);

		if (rc != want)
			printf("# %s: %d\n", cases[i].what, rc);
		CHECK_INT(rc, want);
	}
	REQUIRE(a67_http_parse_response("HTTP/1.0 404 Not There\r\nA: b\r\n\r\n", 32, 0, NULL, &head) >
			0);
	CHECK_INT(head.status, 404);
	CHECK(a67_http_str_is(head.reason, "Not There"));
	CHECK(!head.keep_alive);
	CHECK_INT(head.content_length, -1);
}

/* Decodes text in pieces of `step` bytes. Returns what the decoder said last; out gets the data. */
static int
dechunk(const char *text, size_t len, size_t step, char *out, size_t *tail)
{
	A67HttpChunked d;
	A67HttpStr data;
	size_t at = 0;
	size_t used;
	int rc = A67_HTTP_CHUNK_MORE;

	a67_http_chunked_init(&d);
	while (at < len)
	{
		size_t piece = len - at < step ? len - at : step;

		rc = a67_http_chunked_next(&d, text + at, piece, &data, &used);
		at += used;
		if (rc < 0 || rc == A67_HTTP_CHUNK_END)
			break;
		if (rc == A67_HTTP_CHUNK_DATA)
		{
			memcpy(out, data.at, data.len);
			out += data.len;
		}
	}
	*out = '\0';
	*tail = len - at;
	return rc;
}

static void
chunked_bodies_are_decoded(void)
{
	static const char text[] =
		"5\r\nhello\r\n1;x=\"y z\"\r\n,\r\n00A\r\n0123456789\r\n0\r\nT: v\r\nU:\r\n\r\nGET";
	char out[64];
	size_t tail;
	size_t step;

	for (step = 1; step <= sizeof(text); step++)
	{
		CHECK_INT(dechunk(text, sizeof(text) - 1, step, out, &tail), A67_HTTP_CHUNK_END);
		CHECK_STR(out, "hello,0123456789");
		CHECK_UINT(tail, 3);
	}
	CHECK_INT(dechunk(text, sizeof(text) - 5, 64, out, &tail), A67_HTTP_CHUNK_MORE);
	CHECK_INT(dechunk("0\r\n\r\n", 5, 5, out, &tail), A67_HTTP_CHUNK_END);
}

static void
malformed_chunks_are_refused(void)
{
	static const Case cases[] = {
		{"no size", "\r\nx\r\n", -400},
		{"blank before size", " 5\r\nhello\r\n", -400},
		{"blank behind size", "5 \r\nhello\r\n", -400},
		{"sign", "+5\r\nhello\r\n", -400},
		{"prefix", "0x5\r\nhello\r\n", -400},
		{"not a digit", "5g\r\nhello\r\n", -400},
		{"sixteen digits", "0000000000000005\r\nhello\r\n", -400},
		{"size beyond 60 bits", "ffffffffffffffff\r\n", -400},
		{"bare LF behind size", "5\nhello\r\n", -400},
		{"bare CR behind size", "5\rhello\r\n", -400},
		{"LF in extension", "5;x\nhello\r\n", -400},
		{"NUL-like control in extension", "5;\x01\r\nhello\r\n", -400},
		{"data too long", "5\r\nhello!\r\n", -400},
		{"bare LF behind data", "5\r\nhello\n", -400},
		{"folded trailer", "0\r\nA: b\r\n c\r\n\r\n", -400},
		{"blank before colon in trailer", "0\r\nA : b\r\n\r\n", -400},
		{"trailer without name", "0\r\n: b\r\n\r\n", -400},
		{"bare LF in trailer", "0\r\nA: b\n\r\n", -400},
		{"bare LF at the end", "0\r\n\n", -400},
	};
	static char big[A67_HTTP_EXT_TOTAL + 8192];
	char out[A67_HTTP_EXT_TOTAL];
	size_t tail;
	size_t i;
	size_t n;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int rc = dechunk(cases[i].text, strlen(cases[i].text), 100, out, &tail);

		if (rc != cases[i].want)
			printf("# %s: %d\n", cases[i].what, rc);
		CHECK_INT(rc, cases[i].want);
		CHECK_INT(dechunk(cases[i].text, strlen(cases[i].text), 1, out, &tail), cases[i].want);
	}
	memset(big, 'x', sizeof(big));
	memcpy(big, "5;", 2);
	CHECK_INT(dechunk(big, A67_HTTP_CHUNK_EXT + 8, 1000, out, &tail), -431);
	for (n = 0; n + 132 < sizeof(big); n += 132)
	{
		memset(big + n, 'y', 132);
		memcpy(big + n, "1;", 2);
		memcpy(big + n + 127, "\r\nz\r\n", 5);
	}
	CHECK_INT(dechunk(big, n, 1000, out, &tail), -431);
	memset(big, 'x', sizeof(big));
	memcpy(big, "0\r\nA:", 5);
	CHECK_INT(dechunk(big, A67_HTTP_TRAILER_BYTES + 10, 1000, out, &tail), -431);
	memcpy(big, "0\r\n", 3);
	for (i = 3; i < 3 + 4 * (A67_HTTP_TRAILER_LINES + 1); i += 4)
		memcpy(big + i, "A:\r\n", 4);
	CHECK_INT(dechunk(big, i, 1000, out, &tail), -431);
}

static void
chunk_lines_are_written(void)
{
	char line[20];

	CHECK_UINT(a67_http_chunk_open(line, 1), 3);
	CHECK_MEM(line, "1\r\n", 3);
	CHECK_UINT(a67_http_chunk_open(line, 0xbeef), 6);
	CHECK_MEM(line, "beef\r\n", 6);
	CHECK_UINT(a67_http_chunk_open(line, SIZE_MAX), 18);
}

static long
decoded(const char *text, char *out, size_t size)
{
	A67HttpStr s = {text, strlen(text)};

	return a67_http_percent_decode(s, false, out, size);
}

static void
escapes_are_decoded_or_refused(void)
{
	char out[16];

	CHECK_INT(decoded("/a%2Fb+c%c3%a4", out, sizeof(out)), 8);
	CHECK_STR(out, "/a/b+c\xc3\xa4");
	CHECK_INT(decoded("", out, sizeof(out)), 0);
	CHECK_INT(decoded("%00", out, sizeof(out)), -1);
	CHECK_INT(decoded("%", out, sizeof(out)), -1);
	CHECK_INT(decoded("%2", out, sizeof(out)), -1);
	CHECK_INT(decoded("%g0", out, sizeof(out)), -1);
	CHECK_INT(decoded("%0x", out, sizeof(out)), -1);
	CHECK_INT(decoded("123456789012345", out, sizeof(out)), 15);
	CHECK_INT(decoded("1234567890123456", out, sizeof(out)), -1);
	CHECK_INT(decoded("", out, 0), -1);
}

static long
param(const char *query, const char *name, char *out, size_t size)
{
	A67HttpStr s = {query, strlen(query)};

	return a67_http_query_param(s, name, out, size);
}

static void
query_parameters_are_found(void)
{
	static const char query[] = "a=1&&b=x+y%26z&c&d=&a=2&%65=5&bad=%zz";
	char out[8];
	A67HttpStr none = {NULL, 0};

	CHECK_INT(param(query, "a", out, sizeof(out)), 1);
	CHECK_STR(out, "1");
	CHECK_INT(param(query, "b", out, sizeof(out)), 5);
	CHECK_STR(out, "x y&z");
	CHECK_INT(param(query, "c", out, sizeof(out)), 0);
	CHECK_INT(param(query, "d", out, sizeof(out)), 0);
	CHECK_INT(param(query, "e", out, sizeof(out)), 1);
	CHECK_INT(param(query, "bad", out, sizeof(out)), -1);
	CHECK_INT(param(query, "ba", out, sizeof(out)), A67_HTTP_NO_PARAM);
	CHECK_INT(param(query, "b", out, 5), -1);
	CHECK_INT(a67_http_query_param(none, "a", out, sizeof(out)), A67_HTTP_NO_PARAM);
}

static void
fields_to_be_sent_are_checked(void)
{
	static const A67HttpField fields[] = {
		{"X-A", "b c\t\xc3\xa4"}, {"X-A", ""},	   {"", "a"},	   {"X A", "b"}, {"X:", "b"},
		{"X-A", "b\r\nC: d"},	  {"X-A", "b\nC"}, {"X\r\n", "b"}, {"X-A", NULL}};
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		CHECK(a67_http_field_is_valid(&fields[i]) == (i < 2));
}

static void
urls_are_parsed_or_refused(void)
{
	static const char *const refused[] = {"",
										  "ftp://a/",
										  "HTTP://a/",
										  "http://",
										  "http:///x",
										  "http://a:0/",
										  "http://a:65536/",
										  "http://a:/",
										  "http://a:x/",
										  "http://u@a/",
										  "http://a/b#c",
										  "http://a/b c",
										  "http://[::1/",
										  "http://[]/",
										  "http://[::1]x/",
										  "http://a?b",
										  "http://a b/",
										  "http://a:99999999999/"};
	A67HttpUrl url;
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		if (a67_http_url_parse(refused[i], &url) == 0)
			printf("# %s\n", refused[i]);
		CHECK(a67_http_url_parse(refused[i], &url) < 0);
	}
	REQUIRE(a67_http_url_parse("http://node-1.local:8080/a/b?c=d", &url) == 0);
	CHECK_STR(url.host, "node-1.local");
	CHECK_UINT(url.port, 8080);
	CHECK(!url.tls && a67_http_str_is(url.path, "/a/b?c=d"));
	REQUIRE(a67_http_url_parse("https://[fe80::1]", &url) == 0);
	CHECK_STR(url.host, "fe80::1");
	CHECK_UINT(url.port, 443);
	CHECK(url.tls && a67_http_str_is(url.path, "/"));
}

UNIT_MAIN("http_parser", UNIT(malformed_heads_are_refused),
		  UNIT(good_heads_are_taken_however_they_are_cut), UNIT(nul_is_refused_everywhere),
		  UNIT(a_head_is_taken_apart), UNIT(targets_are_split),
		  UNIT(persistence_follows_version_and_connection), UNIT(limits_hold),
		  UNIT(responses_are_parsed), UNIT(chunked_bodies_are_decoded),
		  UNIT(malformed_chunks_are_refused), UNIT(chunk_lines_are_written),
		  UNIT(escapes_are_decoded_or_refused), UNIT(query_parameters_are_found),
		  UNIT(fields_to_be_sent_are_checked), UNIT(urls_are_parsed_or_refused));
