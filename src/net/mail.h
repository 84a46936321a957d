/*
 * mail.h - a transfer that is a mail: method MAIL of fetch.h.
 *
 * curl connects, encrypts and authenticates (CURLOPT_CONNECT_ONLY); from there on this holds the dialogue of
 * core/smtp over curl's connection. Not curl's own: that waits for the answers to text and QUIT while
 * everybody else's requests stand still. Private to src/net; order and time-outs are fetch.c.
 */
#ifndef A67_MAIL_H
#define A67_MAIL_H

#include "net/transfer.h"

typedef struct A67Mail A67Mail;

typedef enum A67MailTalk
{
	A67_MAIL_READ,	/* wait until there is something to read */
	A67_MAIL_WRITE, /* or until there is room to write */
	A67_MAIL_OVER,	/* the result is filled in */
} A67MailTalk;

/* Whether it can be sent; looks at all but key and time-out. */
bool a67_mail_acceptable(const A67FetchRequest *request);

/* A copy; NULL when out of memory. Freeing overwrites the password. */
A67Mail *a67_mail_create(const A67FetchRequest *request);
void a67_mail_free(A67Mail *mail);

/* Sets what is of mail alone. False: out of memory. */
bool a67_mail_prepare(A67Mail *mail, CURL *easy);

/* Once curl is through: begins the dialogue, and carries it on. Never waits. */
void a67_mail_begin(A67Transfer *transfer);
A67MailTalk a67_mail_talk(A67Transfer *transfer);

/* The socket of the dialogue. */
int a67_mail_socket(const A67Transfer *transfer);

#endif /* A67_MAIL_H */
