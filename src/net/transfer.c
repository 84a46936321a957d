/*
 * transfer.c - checks and copies a request, sets up curl for it, and words how it ended.
 *
 * Nothing here waits, throws or knows of other requests. Callbacks run inside fetch.c's calls into curl and
 * only fill the transfer. Errors are a small fixed set of static texts: SQL stores and shows them.
 */
#include "net/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_MAX_MS 600000

/* ---- memory ---- */

static bool
known_method(const char *method)
{
	static const char *const methods[] = {"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
	{
		if (strcmp(method, methods[i]) == 0)
			return true;
	}
	return false;
}

static bool
printable(const char *text, size_t max)
{
	size_t len = strnlen(text, max + 1);

	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) text[i] <= ' ' || (unsigned char) text[i] >= 0x7f)
			return false;
	}
	return true;
}

static bool
acceptable(const A67FetchRequest *request)
{
	if (request->method == NULL || request->url == NULL)
		return false;
	if (!known_method(request->method) || !printable(request->url, A67_FETCH_URL_MAX))
		return false;
	if (strncasecmp(request->url, "http://", 7) != 0 &&
		strncasecmp(request->url, "https://", 8) != 0)
		return false;
	if (request->token != NULL && !printable(request->token, A67_FETCH_TOKEN_MAX))
		return false;
	if (request->body != NULL &&
		strnlen(request->body, A67_FETCH_REQUEST_BODY_MAX + 1) > A67_FETCH_REQUEST_BODY_MAX)
		return false;
	return request->timeout_ms > 0 && request->timeout_ms <= TIMEOUT_MAX_MS;
}

static bool
copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from == NULL || *to != NULL;
}

/* Everything but the key. */
static bool
copy_content(A67Transfer *transfer, const A67FetchRequest *from)
{
	bool ok = copy_text(&transfer->method, from->method);

	ok = copy_text(&transfer->url, from->url) && ok;
	ok = copy_text(&transfer->token, from->token) && ok;
	ok = copy_text(&transfer->body, from->body) && ok;
	transfer->timeout_ms = from->timeout_ms;
	return ok;
}

A67Transfer *
a67_transfer_create(const A67FetchRequest *from)
{
	A67Transfer *transfer = calloc(1, sizeof(*transfer));
	bool ok;

	if (transfer == NULL)
		return NULL;
	a67_buf_init(&transfer->answer, A67_FETCH_BODY_MAX);
	ok = copy_text(&transfer->key, from->key);
	transfer->result.key = transfer->key;
	if (!acceptable(from))
		transfer->result.error = "invalid request";
	else
		ok = copy_content(transfer, from) && ok;
	if (!ok)
	{
		a67_transfer_free(transfer);
		return NULL;
	}
	return transfer;
}

void
a67_transfer_free(A67Transfer *transfer)
{
	if (transfer->token != NULL)
		explicit_bzero(transfer->token, strlen(transfer->token));
	for (struct curl_slist *header = transfer->headers; header; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	a67_buf_free(&transfer->answer);
	free(transfer->key);
	free(transfer->method);
	free(transfer->url);
	free(transfer->token);
	free(transfer->body);
	free(transfer);
}

/* ---- towards curl ---- */

static size_t
on_body(char *bytes, size_t size, size_t count, void *user)
{
	A67Transfer *transfer = user;

	return a67_buf_append(&transfer->answer, bytes, size * count) ? size * count : 0;
}

static size_t
on_header(char *bytes, size_t size, size_t count, void *user)
{
	A67Transfer *transfer = user;

	transfer->header_bytes += size * count;
	return transfer->header_bytes <= A67_FETCH_HEADER_MAX ? size * count : 0;
}

static int
on_new_socket(void *user, curl_socket_t socket, curlsocktype purpose)
{
	return fcntl(socket, F_SETFD, FD_CLOEXEC) == 0 ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

static bool
add_header(A67Transfer *transfer, const char *line)
{
	struct curl_slist *list = curl_slist_append(transfer->headers, line);

	if (list == NULL)
		return false;
	transfer->headers = list;
	return true;
}

static bool
make_headers(A67Transfer *transfer)
{
	static const char bearer[] = "Authorization: Bearer ";
	char line[sizeof(bearer) + A67_FETCH_TOKEN_MAX];
	bool ok = add_header(transfer, "Expect:");

	ok = ok &&
		 add_header(transfer, transfer->body ? "Content-Type: application/json" : "Content-Type:");
	if (transfer->token != NULL)
	{
		size_t len = strlen(transfer->token);

		memcpy(line, bearer, sizeof(bearer) - 1);
		memcpy(line + sizeof(bearer) - 1, transfer->token, len + 1);
		ok = ok && add_header(transfer, line);
		explicit_bzero(line, sizeof(line));
	}
	return ok;
}

static void
set_limits(CURL *easy, const A67Transfer *transfer)
{
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) transfer->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
#if LIBCURL_VERSION_NUM >= 0x075700
	/* On a time-out, leave a thread that still resolves a name to itself instead of waiting for it. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static void
set_callbacks(CURL *easy, A67Transfer *transfer)
{
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
}

static void
set_method(CURL *easy, const A67Transfer *transfer)
{
	const char *body = transfer->body;

	if (body == NULL &&
		(strcmp(transfer->method, "POST") == 0 || strcmp(transfer->method, "PUT") == 0 ||
		 strcmp(transfer->method, "PATCH") == 0))
		body = "";
	if (strcmp(transfer->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else if (body != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) strlen(body));
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer->method);
}

bool
a67_transfer_prepare(A67Transfer *transfer, CURL *easy)
{
	if (!make_headers(transfer))
		return false;
	set_limits(easy, transfer);
	set_callbacks(easy, transfer);
	set_method(easy, transfer);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	return curl_easy_setopt(easy, CURLOPT_URL, transfer->url) == CURLE_OK;
}

/* ---- from curl ---- */

static const char *
connect_error(CURL *easy)
{
	long code = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &code);
	switch (code)
	{
		case ECONNREFUSED:
			return "connection refused";
		case EHOSTUNREACH:
			return "no route to host";
		case ENETUNREACH:
			return "network is unreachable";
		case ETIMEDOUT:
			return "timeout";
		case EMFILE:
		case ENFILE:
			return "too many open files";
		default:
			return "could not connect";
	}
}

static const char *
error_text(CURL *easy, const A67Transfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_OK:
			return NULL;
		case CURLE_OPERATION_TIMEDOUT:
			return "timeout";
		case CURLE_COULDNT_CONNECT:
			return connect_error(easy);
		case CURLE_COULDNT_RESOLVE_HOST:
			return "host not found";
		case CURLE_WRITE_ERROR:
			if (transfer->answer.failed || transfer->header_bytes > A67_FETCH_HEADER_MAX)
				return "answer too large";
			return "malformed answer";
		case CURLE_GOT_NOTHING:
		case CURLE_RECV_ERROR:
		case CURLE_SEND_ERROR:
		case CURLE_PARTIAL_FILE:
			return "connection lost";
		case CURLE_URL_MALFORMAT:
			return "malformed url";
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
			return "tls failed";
		case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9: the URL's scheme was checked before */
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
			return "malformed answer";
		case CURLE_OUT_OF_MEMORY:
			return "out of memory";
		default:
			return "request failed";
	}
}

void
a67_transfer_conclude(A67Transfer *transfer, CURLcode code)
{
	A67FetchResult *result = &transfer->result;
	long status = 0;

	result->error = error_text(transfer->easy, transfer, code);
	if (result->error != NULL)
		return;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 100 || status > 999)
	{
		result->error = "malformed answer";
		return;
	}
	result->status = (int) status;
	if (transfer->answer.len > 0)
	{
		result->body = transfer->answer.data;
		result->body_len = transfer->answer.len;
	}
}
