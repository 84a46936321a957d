/*
 * smtp_fuzz.c - what a mail server says, in pieces of any size: the dialogue ends or goes on, within its limits,
 * and puts out nothing but whole commands and the one mail.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/smtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const A67SmtpMail mail = {"a@x", {"b@y", "c@y"}, 2, "Subject: s\r\n\r\n.\r\n"};
	A67Smtp smtp;
	size_t at = 1;
	size_t step = size > 0 ? data[0] % 64 + 1 : 1;

	a67_smtp_init(&smtp, &mail);
	while (at < size && smtp.state == A67_SMTP_TALKING)
	{
		size_t take = size - at < step ? size - at : step;
		size_t len;
		const char *out = a67_smtp_output(&smtp, &len);

		if (len > 0 && (len > 64 || out[len - 1] != '\n' || out[strlen(out) - 2] != '\r'))
			abort();
		a67_smtp_sent(&smtp, len);
		(void) a67_smtp_receive(&smtp, (const char *) data + at, take);
		at += take;
	}
	if (smtp.line_len > A67_SMTP_LINE_MAX || smtp.reply_len > A67_SMTP_REPLY_MAX + 1)
		abort();
	a67_smtp_free(&smtp);
	return 0;
}
