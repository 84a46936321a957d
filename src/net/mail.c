/*
 * mail.c - what a mail is made of, and its dialogue over curl's connection; see mail.h.
 *
 * Nothing here waits or throws. Memory: one block of malloc a mail and what its dialogue buffers.
 */
#include "net/mail.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/smtp.h"

#define CREDENTIAL_MAX 256
#define CHUNK		   4096

struct A67Mail
{
	A67SmtpMail content; /* points into the request's copy below */
	char *from;
	char *to[A67_SMTP_TO_MAX];
	char *message;
	char *username;
	char *password;
	bool encrypt;
	bool talking;
	A67Smtp smtp;
};

/* ---- the request ---- */

/* The fields of a request, not copied. */
typedef struct Fields
{
	A67SmtpMail content;
	const char *username;
	const char *password;
	const char *tls;
} Fields;

/* The value when the field has that name. */
static const char *
value_of(const char *field, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(field, name, len) != 0 || strncmp(field + len, ": ", 2) != 0)
		return NULL;
	return field + len + 2;
}

static bool
set_once(const char **to, const char *value)
{
	if (value == NULL || *to != NULL)
		return false;
	*to = value;
	return true;
}

static bool
read_field(Fields *fields, const char *field)
{
	const char *to;

	if (field == NULL)
		return false;
	to = value_of(field, "To");
	if (to != NULL && fields->content.to_count < A67_SMTP_TO_MAX)
	{
		fields->content.to[fields->content.to_count++] = to;
		return true;
	}
	return set_once(&fields->content.from, value_of(field, "From")) ||
		   set_once(&fields->username, value_of(field, "Username")) ||
		   set_once(&fields->password, value_of(field, "Password")) ||
		   set_once(&fields->tls, value_of(field, "TLS"));
}

static bool
read_fields(Fields *fields, const A67FetchRequest *request)
{
	memset(fields, 0, sizeof(*fields));
	for (int i = 0; i < request->field_count; i++)
	{
		if (!read_field(fields, request->fields[i]))
			return false;
	}
	fields->content.message = request->body;
	return true;
}

/* Not empty, not long, no control characters. */
static bool
credential_ok(const char *text)
{
	size_t len = strnlen(text, CREDENTIAL_MAX + 1);

	if (len == 0 || len > CREDENTIAL_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) text[i] < ' ' || text[i] == 0x7f)
			return false;
	}
	return true;
}

bool
a67_mail_acceptable(const A67FetchRequest *request)
{
	Fields fields;
	bool encrypted = strncasecmp(request->url, "smtps://", 8) == 0;

	if (!encrypted && strncasecmp(request->url, "smtp://", 7) != 0)
		return false;
	if (request->token != NULL || !read_fields(&fields, request))
		return false;
	if (!a67_smtp_mail_ok(&fields.content))
		return false;
	if (fields.tls != NULL && strcmp(fields.tls, "required") != 0)
		return false;
	if (fields.username == NULL && fields.password == NULL)
		return true;
	return (encrypted || fields.tls != NULL) && fields.username != NULL &&
		   fields.password != NULL && credential_ok(fields.username) &&
		   credential_ok(fields.password);
}

/* ---- memory ---- */

static bool
copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from == NULL || *to != NULL;
}

A67Mail *
a67_mail_create(const A67FetchRequest *request)
{
	A67Mail *mail = calloc(1, sizeof(*mail));
	Fields fields;
	bool ok;

	if (mail == NULL)
		return NULL;
	(void) read_fields(&fields, request);
	ok = copy_text(&mail->from, fields.content.from);
	ok = copy_text(&mail->message, fields.content.message) && ok;
	ok = copy_text(&mail->username, fields.username) && ok;
	ok = copy_text(&mail->password, fields.password) && ok;
	for (int i = 0; i < fields.content.to_count; i++)
	{
		ok = copy_text(&mail->to[i], fields.content.to[i]) && ok;
		mail->content.to[i] = mail->to[i];
	}
	mail->content.from = mail->from;
	mail->content.to_count = fields.content.to_count;
	mail->content.message = mail->message;
	mail->encrypt = fields.tls != NULL;
	if (ok)
		return mail;
	a67_mail_free(mail);
	return NULL;
}

void
a67_mail_free(A67Mail *mail)
{
	if (mail == NULL)
		return;
	if (mail->talking)
		a67_smtp_free(&mail->smtp);
	if (mail->password != NULL)
		explicit_bzero(mail->password, strlen(mail->password));
	for (int i = 0; i < A67_SMTP_TO_MAX; i++)
		free(mail->to[i]);
	free(mail->from);
	free(mail->message);
	free(mail->username);
	free(mail->password);
	free(mail);
}

/* ---- curl's part ---- */

bool
a67_mail_prepare(A67Mail *mail, CURL *easy)
{
	bool ok = curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK;

	curl_easy_setopt(easy, CURLOPT_USE_SSL,
					 (long) (mail->encrypt ? CURLUSESSL_ALL : CURLUSESSL_NONE));
	if (mail->username == NULL)
		return ok;

	/* Encrypted, so these are enough; others would make curl ask the network on a server's word. */
	ok = ok && curl_easy_setopt(easy, CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN;AUTH=LOGIN") == CURLE_OK;
	ok = ok && curl_easy_setopt(easy, CURLOPT_USERNAME, mail->username) == CURLE_OK;
	return ok && curl_easy_setopt(easy, CURLOPT_PASSWORD, mail->password) == CURLE_OK;
}

/* ---- the dialogue ---- */

int
a67_mail_socket(const A67Transfer *transfer)
{
	curl_socket_t socket = CURL_SOCKET_BAD;

	curl_easy_getinfo(transfer->easy, CURLINFO_ACTIVESOCKET, &socket);
	return (int) socket;
}

void
a67_mail_begin(A67Transfer *transfer)
{
	a67_smtp_init(&transfer->mail->smtp, &transfer->mail->content);
	transfer->mail->talking = true;
}

/* Sends what there is; AGAIN when not all of it could be. */
static CURLcode
send_pending(CURL *easy, A67Smtp *smtp)
{
	size_t len;
	const char *bytes = a67_smtp_output(smtp, &len);

	while (len > 0)
	{
		size_t sent = 0;
		CURLcode code = curl_easy_send(easy, bytes, len, &sent);

		if (code != CURLE_OK)
			return code;
		a67_smtp_sent(smtp, sent);
		bytes = a67_smtp_output(smtp, &len);
	}
	return CURLE_OK;
}

/* Reads once; nothing read is a connection that ended. */
static CURLcode
receive_some(CURL *easy, A67Smtp *smtp)
{
	char bytes[CHUNK];
	size_t len = 0;
	CURLcode code = curl_easy_recv(easy, bytes, sizeof(bytes), &len);

	if (code != CURLE_OK)
		return code;
	if (len == 0)
		return CURLE_RECV_ERROR;
	(void) a67_smtp_receive(smtp, bytes, len);
	return CURLE_OK;
}

static A67MailTalk
conclude(A67FetchResult *result, A67SmtpState state, int code)
{
	if (state == A67_SMTP_ACCEPTED || state == A67_SMTP_REFUSED)
		result->status = code;
	else
		result->error = state == A67_SMTP_BROKEN ? "malformed answer" : "connection lost";
	return A67_MAIL_OVER;
}

A67MailTalk
a67_mail_talk(A67Transfer *transfer)
{
	A67Smtp *smtp = &transfer->mail->smtp;

	for (;;)
	{
		CURLcode sent = send_pending(transfer->easy, smtp);
		CURLcode received;

		/* Whether QUIT gets through makes no difference. */
		if (smtp->state != A67_SMTP_TALKING)
			return conclude(&transfer->result, smtp->state, smtp->code);
		if (sent != CURLE_OK && sent != CURLE_AGAIN)
			return conclude(&transfer->result, A67_SMTP_TALKING, 0);
		received = receive_some(transfer->easy, smtp);
		if (received == CURLE_AGAIN)
			return sent == CURLE_AGAIN ? A67_MAIL_WRITE : A67_MAIL_READ;
		if (received != CURLE_OK)
			return conclude(&transfer->result, A67_SMTP_TALKING, 0);
	}
}
