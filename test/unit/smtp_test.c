/*
 * smtp_test.c - the SMTP dialogue, byte by byte and without a socket.
 */
#include "core/smtp.h"

#include "unit.h"

static A67SmtpMail mail = {.from = "a@x.example",
						   .to = {"b@y.example", "c@y.example"},
						   .to_count = 2,
						   .message = "Subject: hi\r\n\r\n.dot\r\n..\r\nend\r\n"};

/* What it says now, taken as sent. */
static const char *
said(A67Smtp *smtp)
{
	static char text[2000];
	size_t len;
	const char *bytes = a67_smtp_output(smtp, &len);

	if (len >= sizeof(text))
		return "too much";
	memcpy(text, bytes, len);
	text[len] = '\0';
	a67_smtp_sent(smtp, len);
	return text;
}

static A67SmtpState
hear(A67Smtp *smtp, const char *text)
{
	return a67_smtp_receive(smtp, text, strlen(text));
}

static void
one_command_at_a_time(void)
{
	A67Smtp smtp;

	a67_smtp_init(&smtp, &mail);
	CHECK_STR(said(&smtp), "MAIL FROM:<a@x.example>\r\n");
	CHECK_STR(said(&smtp), "");
	CHECK_INT(hear(&smtp, "250 2.1.0 Ok\r\n"), A67_SMTP_TALKING);
	CHECK_STR(said(&smtp), "RCPT TO:<b@y.example>\r\n");
	CHECK_INT(hear(&smtp, "250"), A67_SMTP_TALKING);
	CHECK_STR(said(&smtp), "");
	CHECK_INT(hear(&smtp, "-a\r\n250-b\r\n25"), A67_SMTP_TALKING);
	CHECK_STR(said(&smtp), "");
	CHECK_INT(hear(&smtp, "1 forwarded\r\n"), A67_SMTP_TALKING);
	CHECK_STR(said(&smtp), "RCPT TO:<c@y.example>\r\n");
	CHECK_INT(hear(&smtp, "250\n"), A67_SMTP_TALKING);
	CHECK_STR(said(&smtp), "DATA\r\n");
	CHECK_INT(hear(&smtp, "354 go on\r\n"), A67_SMTP_TALKING);
	CHECK_STR(said(&smtp), "Subject: hi\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n");
	CHECK_INT(hear(&smtp, "250 queued\r\n"), A67_SMTP_ACCEPTED);
	CHECK_INT(smtp.code, 250);
	CHECK_STR(said(&smtp), "QUIT\r\n");
	CHECK_INT(hear(&smtp, "500 what?\r\n"), A67_SMTP_ACCEPTED);
	a67_smtp_free(&smtp);
}

static void
part_of_the_output_may_be_sent(void)
{
	A67Smtp smtp;
	size_t len;

	a67_smtp_init(&smtp, &mail);
	a67_smtp_sent(&smtp, 5);
	CHECK_STR(a67_smtp_output(&smtp, &len), "FROM:<a@x.example>\r\n");
	CHECK_UINT(len, 20);
	a67_smtp_free(&smtp);
}

/* Goes through these replies; the state at the end. */
static A67SmtpState
after(const char *const *replies, int *code)
{
	A67Smtp smtp;
	A67SmtpState state = A67_SMTP_TALKING;

	a67_smtp_init(&smtp, &mail);
	for (; *replies != NULL; replies++)
	{
		(void) said(&smtp);
		state = hear(&smtp, *replies);
	}
	*code = smtp.code;
	a67_smtp_free(&smtp);
	return state;
}

static void
refusals_end_it(void)
{
	static const char *const cases[][7] = {
		{"550 no\r\n"},
		{"250 ok\r\n", "550-no\r\n550 such user\r\n"},
		{"250 ok\r\n", "250 ok\r\n", "450 later\r\n"},
		{"250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "554 no valid recipients\r\n"},
		{"250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "552 too large\r\n"},
		{"421 shutting down\r\n"},
	};
	static const int codes[] = {550, 550, 450, 554, 552, 421};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
	{
		int code;

		CHECK_INT(after(cases[i], &code), A67_SMTP_REFUSED);
		CHECK_INT(code, codes[i]);
	}
}

static void
nonsense_breaks_it(void)
{
	static char endless[A67_SMTP_LINE_MAX + 2];
	static const char *const cases[][4] = {
		{"HTTP/1.1 400 Bad Request\r\n"},
		{"\r\n"},
		{"25\r\n"},
		{"2500 x\r\n"},
		{"150 wait\r\n"},
		{"600 x\r\n"},
		{"354 go\r\n"},
		{"250 ok\r\n", "354 go\r\n"},
		{"250_ok\r\n"},
		{endless},
		{"250 a\r\n250 b\r\n"},
	};
	int code;

	memset(endless, '2', sizeof(endless) - 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_INT(after(cases[i], &code), A67_SMTP_BROKEN);
}

static void
replies_have_a_limit(void)
{
	A67Smtp smtp;
	int lines = 0;

	a67_smtp_init(&smtp, &mail);
	(void) said(&smtp);
	while (hear(&smtp, "250-0123456789012345678901234567890123456789\r\n") == A67_SMTP_TALKING)
		lines++;
	CHECK_INT(smtp.state, A67_SMTP_BROKEN);
	CHECK(lines > 1000 && lines < 2000);
	a67_smtp_free(&smtp);
}

static void
mails_that_could_say_more_are_refused(void)
{
	static char long_address[A67_SMTP_ADDRESS_MAX + 2];
	static const char *const addresses[] = {"",		   "a b@c", "a@b>\r\nRCPT TO:<x@y",
											"a@b\n",   "<a@b>", "\xc3\xa4@b",
											"a@b\x7f", NULL,	long_address};
	static const char *const messages[] = {"",		   "x",		  "x\n",		   "x\r\ny",
										   "x\ry\r\n", "\nx\r\n", "x\r\n.\ny\r\n", "x\r\r\n",
										   "x\r\n\n",  NULL};
	A67SmtpMail one = mail;

	memset(long_address, 'a', sizeof(long_address) - 1);
	CHECK(a67_smtp_mail_ok(&mail));
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
	{
		one = mail;
		one.from = addresses[i];
		CHECK(!a67_smtp_mail_ok(&one));
		one = mail;
		one.to[1] = addresses[i];
		CHECK(!a67_smtp_mail_ok(&one));
	}
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
	{
		one = mail;
		one.message = messages[i];
		CHECK(!a67_smtp_mail_ok(&one));
	}
	one = mail;
	one.to_count = 0;
	CHECK(!a67_smtp_mail_ok(&one));
	one.to_count = A67_SMTP_TO_MAX + 1;
	CHECK(!a67_smtp_mail_ok(&one));
}

UNIT_MAIN("smtp", UNIT(one_command_at_a_time), UNIT(part_of_the_output_may_be_sent),
		  UNIT(refusals_end_it), UNIT(nonsense_breaks_it), UNIT(replies_have_a_limit),
		  UNIT(mails_that_could_say_more_are_refused));
