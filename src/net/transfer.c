/*
 * transfer.c - checks and copies a request, sets up curl for it, and words how it ended.
 *
 * Nothing here waits, throws or knows of other requests. Callbacks run inside fetch.c's calls into curl and
 * only fill the transfer. Errors are a small fixed set of static texts: SQL stores and shows them.
 */
#include "net/transfer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "core/address.h"
#include "net/mail.h"

#define TIMEOUT_MAX_MS 600000
#define PIN_DIGITS	   43 /* 32 bytes in base64, without the padding */

/* ---- what may be asked ---- */

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

/* ---- headers ---- */

static bool
is_tchar(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		   (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_named(const char *field, const char *name)
{
	size_t len = strlen(name);

	return strncasecmp(field, name, len) == 0 && field[len] == ':';
}

static bool
has_field(const A67FetchRequest *request, const char *name)
{
	for (int i = 0; i < request->field_count; i++)
	{
		if (is_named(request->fields[i], name))
			return true;
	}
	return false;
}

/* What says how the message is sent is not the caller's to say: it could make two messages of one. */
static bool
is_framing(const char *field)
{
	static const char *const names[] = {"Host",		  "Content-Length", "Transfer-Encoding",
										"Connection", "Keep-Alive",		"Proxy-Connection",
										"Upgrade",	  "Expect",			"TE",
										"Trailer"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (is_named(field, names[i]))
			return true;
	}
	return false;
}

/* "Name: value" of visible ASCII, spaces and tabs; the value is not empty. */
static bool
acceptable_field(const char *field)
{
	size_t len;
	size_t name = 0;
	bool content = false;

	if (field == NULL)
		return false;
	len = strnlen(field, A67_FETCH_FIELD_SIZE_MAX + 1);
	while (is_tchar(field[name]))
		name++;
	if (len > A67_FETCH_FIELD_SIZE_MAX || name == 0 || field[name] != ':')
		return false;
	for (size_t i = name + 1; i < len; i++)
	{
		unsigned char c = (unsigned char) field[i];

		if ((c < ' ' && c != '\t') || c >= 0x7f)
			return false;
		content = content || (c != ' ' && c != '\t');
	}
	return content && !is_framing(field);
}

static bool
acceptable_fields(const A67FetchRequest *request)
{
	if (request->field_count < 0 || request->field_count > A67_FETCH_FIELDS_MAX)
		return false;
	for (int i = 0; i < request->field_count; i++)
	{
		if (!acceptable_field(request->fields[i]))
			return false;
	}
	return request->token == NULL || !has_field(request, "Authorization");
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
add_token(A67Transfer *transfer, const char *token)
{
	static const char bearer[] = "Authorization: Bearer ";
	char line[sizeof(bearer) + A67_FETCH_TOKEN_MAX];
	bool ok;

	memcpy(line, bearer, sizeof(bearer) - 1);
	memcpy(line + sizeof(bearer) - 1, token, strlen(token) + 1);
	ok = add_header(transfer, line);
	explicit_bzero(line, sizeof(line));
	return ok;
}

static bool
copy_headers(A67Transfer *transfer, const A67FetchRequest *from)
{
	bool ok = add_header(transfer, "Expect:");

	if (!has_field(from, "Content-Type"))
		ok = ok &&
			 add_header(transfer, from->body ? "Content-Type: application/json" : "Content-Type:");
	for (int i = 0; i < from->field_count; i++)
		ok = ok && add_header(transfer, from->fields[i]);
	if (from->token != NULL)
		ok = ok && add_token(transfer, from->token);
	return ok;
}

/* curl would take anything else for the name of a file. */
static bool
acceptable_pin(const char *pin)
{
	static const char lead[] = "sha256//";
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t start = sizeof(lead) - 1;

	return strncmp(pin, lead, start) == 0 && strspn(pin + start, alphabet) == PIN_DIGITS &&
		   strcmp(pin + start + PIN_DIGITS, "=") == 0;
}

/* ---- memory ---- */

static bool
is_mail(const A67FetchRequest *request)
{
	return strcmp(request->method, "MAIL") == 0;
}

static bool
acceptable(const A67FetchRequest *request)
{
	if (request->method == NULL || request->url == NULL ||
		!printable(request->url, A67_FETCH_URL_MAX))
		return false;
	if (request->timeout_ms <= 0 || request->timeout_ms > TIMEOUT_MAX_MS)
		return false;
	if (request->body != NULL &&
		strnlen(request->body, A67_FETCH_REQUEST_BODY_MAX + 1) > A67_FETCH_REQUEST_BODY_MAX)
		return false;
	if (is_mail(request))
		return request->pin == NULL && a67_mail_acceptable(request);
	if (request->pin != NULL && !acceptable_pin(request->pin))
		return false;
	if (!known_method(request->method))
		return false;
	if (strncasecmp(request->url, "http://", 7) != 0 &&
		strncasecmp(request->url, "https://", 8) != 0)
		return false;
	if (request->token != NULL && !printable(request->token, A67_FETCH_TOKEN_MAX))
		return false;
	return acceptable_fields(request);
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

	transfer->timeout_ms = from->timeout_ms;
	ok = copy_text(&transfer->url, from->url) && ok;
	if (is_mail(from))
	{
		transfer->mail = a67_mail_create(from);
		return ok && transfer->mail != NULL;
	}
	ok = copy_text(&transfer->body, from->body) && ok;
	ok = copy_text(&transfer->pin, from->pin) && ok;
	ok = copy_headers(transfer, from) && ok;
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

/* URLs and bodies may hold tokens. */
static void
free_secret(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

void
a67_transfer_free(A67Transfer *transfer)
{
	for (struct curl_slist *header = transfer->headers; header; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	if (transfer->answer.data != NULL)
		explicit_bzero(transfer->answer.data, transfer->answer.len);
	a67_buf_free(&transfer->answer);
	a67_mail_free(transfer->mail);
	free_secret(transfer->url);
	free_secret(transfer->body);
	free(transfer->key);
	free(transfer->method);
	free(transfer->pin);
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

/* What the guard lets through: the address itself is judged, so it does not matter how it was found. */
static bool
is_public(const struct curl_sockaddr *address)
{
	A67Ip ip;

	if (address->family == AF_INET)
		ip = a67_ip_of_v4(&((const struct sockaddr_in *) (const void *) &address->addr)->sin_addr);
	else if (address->family == AF_INET6)
		memcpy(ip.bytes, &((const struct sockaddr_in6 *) (const void *) &address->addr)->sin6_addr,
			   A67_IP_BYTES);
	else
		return false;
	return a67_ip_is_public(&ip);
}

static curl_socket_t
on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	A67Transfer *transfer = user;

	if (transfer->guard && !is_public(address))
	{
		transfer->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
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
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, transfer->mail ? "smtp,smtps" : "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS,
					 (long) (transfer->mail ? CURLPROTO_SMTP | CURLPROTO_SMTPS
											: CURLPROTO_HTTP | CURLPROTO_HTTPS));
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
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
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

/* Whom to trust. The key is compared after the handshake and before anything is sent. */
static void
set_trust(CURL *easy, const A67Transfer *transfer)
{
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (transfer->pin != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_PINNEDPUBLICKEY, transfer->pin);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	else if (transfer->ca_file != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, transfer->ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

bool
a67_transfer_prepare(A67Transfer *transfer, CURL *easy)
{
	set_limits(easy, transfer);
	set_callbacks(easy, transfer);
	if (transfer->mail != NULL)
	{
		if (!a67_mail_prepare(transfer->mail, easy))
			return false;
	}
	else
	{
		set_method(easy, transfer);
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	}
	if (transfer->guard)
	{
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	}
	set_trust(easy, transfer);
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
			return transfer->refused ? "address not allowed" : connect_error(easy);
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
		case CURLE_SSL_CACERT_BADFILE:
			return "tls failed";
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
			return "not the pinned key";
		case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9: the URL's scheme was checked before */
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
			return "malformed answer";
		case CURLE_LOGIN_DENIED:
			return "login refused";
		case CURLE_USE_SSL_FAILED:
			return "server offers no tls";
		case CURLE_OUT_OF_MEMORY:
			return "out of memory";
		default:
			return "request failed";
	}
}

/* How a mail server refused before the dialogue: its greeting, the session or the login; 0: otherwise. */
static long
mail_refusal(const A67Transfer *transfer, CURLcode code)
{
	long status = 0;

	if (transfer->mail == NULL || (code != CURLE_LOGIN_DENIED && code != CURLE_WEIRD_SERVER_REPLY &&
								   code != CURLE_REMOTE_ACCESS_DENIED))
		return 0;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	return status >= 400 && status <= 599 ? status : 0;
}

void
a67_transfer_conclude(A67Transfer *transfer, CURLcode code)
{
	A67FetchResult *result = &transfer->result;
	long status = mail_refusal(transfer, code);

	if (status != 0)
	{
		result->status = (int) status;
		return;
	}
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
