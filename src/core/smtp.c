/*
 * smtp.c - the client's half of an SMTP transaction; see smtp.h.
 *
 * A table says which reply each stage waits for; a reply of another class ends the dialogue. After the last
 * one QUIT is put out as a courtesy, whose answer nobody waits for.
 */
#include "smtp.h"

#include <string.h>

#define OUT_MAX (4 * 1024 * 1024) /* a message of dots doubles */

enum
{
	STAGE_MAIL,
	STAGE_RCPT, /* + which */
	STAGE_DATA = STAGE_RCPT + A67_SMTP_TO_MAX,
	STAGE_TEXT,
};

/* ---- what may be sent ---- */

static bool
address_ok(const char *address)
{
	size_t len = address != NULL ? strnlen(address, A67_SMTP_ADDRESS_MAX + 1) : 0;

	if (len == 0 || len > A67_SMTP_ADDRESS_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) address[i];

		if (c <= ' ' || c >= 0x7f || c == '<' || c == '>')
			return false;
	}
	return true;
}

static bool
lines_ok(const char *message)
{
	for (const char *at = message; *at != '\0'; at++)
	{
		if (*at == '\r' && at[1] != '\n')
			return false;
		if (*at == '\n' && (at == message || at[-1] != '\r'))
			return false;
		if (at[1] == '\0')
			return *at == '\n';
	}
	return false;
}

bool
a67_smtp_mail_ok(const A67SmtpMail *mail)
{
	if (!address_ok(mail->from) || mail->to_count < 1 || mail->to_count > A67_SMTP_TO_MAX)
		return false;
	for (int i = 0; i < mail->to_count; i++)
	{
		if (!address_ok(mail->to[i]))
			return false;
	}
	return mail->message != NULL && lines_ok(mail->message);
}

/* ---- what is said ---- */

static void
say(A67Smtp *smtp, const char *before, const char *what, const char *after)
{
	if (!a67_buf_append_fmt(&smtp->out, "%s%s%s\r\n", before, what, after))
		smtp->state = A67_SMTP_BROKEN;
}

/* The message with a dot before each line that begins with one, and the line of a dot alone that ends it. */
static void
say_text(A67Smtp *smtp)
{
	const char *at = smtp->mail->message;
	bool ok = true;

	while (*at != '\0' && ok)
	{
		size_t len = (size_t) (strchr(at, '\n') - at) + 1;

		ok = *at != '.' || a67_buf_append(&smtp->out, ".", 1);
		ok = ok && a67_buf_append(&smtp->out, at, len);
		at += len;
	}
	if (!ok || !a67_buf_append_str(&smtp->out, ".\r\n"))
		smtp->state = A67_SMTP_BROKEN;
}

static void
advance(A67Smtp *smtp)
{
	const A67SmtpMail *mail = smtp->mail;

	smtp->stage++;
	if (smtp->stage == STAGE_RCPT + mail->to_count)
		smtp->stage = STAGE_DATA;
	if (smtp->stage < STAGE_DATA)
		say(smtp, "RCPT TO:<", mail->to[smtp->stage - STAGE_RCPT], ">");
	else if (smtp->stage == STAGE_DATA)
		say(smtp, "DATA", "", "");
	else if (smtp->stage == STAGE_TEXT)
		say_text(smtp);
	else
	{
		say(smtp, "QUIT", "", "");
		smtp->state = A67_SMTP_ACCEPTED;
	}
}

void
a67_smtp_init(A67Smtp *smtp, const A67SmtpMail *mail)
{
	memset(smtp, 0, sizeof(*smtp));
	smtp->mail = mail;
	a67_buf_init(&smtp->out, OUT_MAX);
	say(smtp, "MAIL FROM:<", mail->from, ">");
}

void
a67_smtp_free(A67Smtp *smtp)
{
	a67_buf_free(&smtp->out);
}

const char *
a67_smtp_output(const A67Smtp *smtp, size_t *len)
{
	*len = smtp->out.len;
	return a67_buf_text(&smtp->out);
}

void
a67_smtp_sent(A67Smtp *smtp, size_t len)
{
	a67_buf_consume(&smtp->out, len);
}

/* ---- what is heard ---- */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* One whole line of a reply, without its end. */
static void
take_line(A67Smtp *smtp)
{
	const char *line = smtp->line;
	size_t len = smtp->line_len;
	int wanted = smtp->stage == STAGE_DATA ? 3 : 2;

	smtp->line_len = 0;
	if (len < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) || !is_digit(line[2]) ||
		(len > 3 && line[3] != ' ' && line[3] != '-'))
	{
		smtp->state = A67_SMTP_BROKEN;
		return;
	}
	if (len > 3 && line[3] == '-')
		return;
	smtp->reply_len = 0;
	smtp->code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
	if (line[0] >= '4')
		smtp->state = A67_SMTP_REFUSED;
	else if (line[0] - '0' != wanted || smtp->out.len > 0) /* nor may it answer what was not said */
		smtp->state = A67_SMTP_BROKEN;
	else
		advance(smtp);
}

A67SmtpState
a67_smtp_receive(A67Smtp *smtp, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && smtp->state == A67_SMTP_TALKING; i++)
	{
		if (bytes[i] == '\n')
		{
			if (smtp->line_len > 0 && smtp->line[smtp->line_len - 1] == '\r')
				smtp->line_len--;
			take_line(smtp);
			continue;
		}
		if (smtp->line_len == sizeof(smtp->line) || ++smtp->reply_len > A67_SMTP_REPLY_MAX)
			smtp->state = A67_SMTP_BROKEN;
		else
			smtp->line[smtp->line_len++] = bytes[i];
	}
	return smtp->state;
}
