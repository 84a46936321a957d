/*
 * smtp.h - handing one mail to a server: the dialogue of RFC 5321 from MAIL to the answer to the text.
 *
 * Pure: bytes in, bytes out, no socket, no clock. Begins when the session is greeted, encrypted and
 * authenticated, which is the caller's; says one command at a time and takes a reply of any number of
 * lines. One recipient refused is the mail refused. Used by src/net/mail.c.
 */
#ifndef A67_SMTP_H
#define A67_SMTP_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

#define A67_SMTP_LINE_MAX	 1000  /* of a reply; RFC 5321 has 512 */
#define A67_SMTP_REPLY_MAX	 65536 /* all lines of one */
#define A67_SMTP_ADDRESS_MAX 254
#define A67_SMTP_TO_MAX		 20

typedef enum A67SmtpState
{
	A67_SMTP_TALKING,
	A67_SMTP_ACCEPTED, /* the server has it */
	A67_SMTP_REFUSED,  /* see code */
	A67_SMTP_BROKEN,   /* what came is not SMTP, or memory is short */
} A67SmtpState;

/* What is sent; borrowed until the dialogue is freed. */
typedef struct A67SmtpMail
{
	const char *from;
	const char *to[A67_SMTP_TO_MAX];
	int to_count;
	const char *message; /* RFC 5322: header, empty line, text */
} A67SmtpMail;

typedef struct A67Smtp
{
	A67SmtpState state;
	int code; /* of the last whole reply */
	const A67SmtpMail *mail;
	int stage;
	char line[A67_SMTP_LINE_MAX];
	size_t line_len;
	size_t reply_len;
	A67Buf out;
} A67Smtp;

/*
 * Whether it can be sent as it is: addresses without spaces, brackets and controls, and a message whose
 * lines all end in CRLF, so that none can end it early or begin another.
 */
bool a67_smtp_mail_ok(const A67SmtpMail *mail);

/* Begins; free it when it is over, whatever the state. */
void a67_smtp_init(A67Smtp *smtp, const A67SmtpMail *mail);
void a67_smtp_free(A67Smtp *smtp);

/* What is to be sent next, len bytes of it (0: nothing, wait for the server); then how much of it was. */
const char *a67_smtp_output(const A67Smtp *smtp, size_t *len);
void a67_smtp_sent(A67Smtp *smtp, size_t len);

/* Takes what the server said. Once the state is another than TALKING, it stays so. */
A67SmtpState a67_smtp_receive(A67Smtp *smtp, const char *bytes, size_t len);

#endif /* A67_SMTP_H */
